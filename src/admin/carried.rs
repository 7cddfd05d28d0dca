//! What somebody had written when it turned out that their session was over.
//!
//! It goes with the sign-in, in hidden fields, and is bound to the account that wrote it. It is never acted on: after the
//! sign-in it is in the form again. It comes from a page of this origin, as every POST does, so no other site can put words
//! into it.

use maud::{Markup, html};

use crate::service::ServiceRequest;

use super::form::Form;
use super::letter::Letter;
use super::office::read_body;

/// The field that says which account has written.
const AUTHOR: &str = "author";
/// Bytes of an account's name.
const AUTHOR_BYTES_MAX: usize = 255;

/// A letter and who has written it.
pub(super) struct Carried {
    pub(super) author: String,
    letter: Letter,
}

impl Carried {
    /// Reads it from a form. `None` if there is nothing to lose.
    pub(super) fn read(form: &Form) -> Option<Self> {
        let (author, letter) = (form.raw(AUTHOR), Letter::read(form));
        let is_name = (1..=AUTHOR_BYTES_MAX).contains(&author.len());
        (is_name && letter.has_text()).then(|| Self { author: author.to_owned(), letter })
    }

    /// What a request has in its form.
    pub(super) fn of(request: &ServiceRequest) -> Option<Self> {
        Self::read(&read_body(request).ok()?)
    }

    /// The letter, for the account that has written it and no other.
    pub(super) fn for_account(self, account: &str) -> Option<Letter> {
        (self.author == account).then_some(self.letter)
    }

    /// The hidden fields that carry it.
    pub(super) fn fields(&self) -> Markup {
        fields(&self.author, &self.letter)
    }
}

/// The hidden fields of a letter and its author.
pub(super) fn fields(author: &str, letter: &Letter) -> Markup {
    html! {
        (author_field(author))
        @for (name, value) in letter.fields() { input type="hidden" name=(name) value=(value); }
    }
}

/// The hidden field of a form that says who writes.
pub(super) fn author_field(author: &str) -> Markup {
    html! { input type="hidden" name=(AUTHOR) value=(author); }
}

/// A button that sends the same form again.
pub(super) fn again(request: &ServiceRequest) -> Markup {
    let form = read_body(request).unwrap_or_default();
    html! {
        form method="post" action=(request.path) {
            @for (name, value) in form.fields() { input type="hidden" name=(name) value=(value); }
            p { "What you wrote is kept on this page." }
            button type="submit" { "Try again" }
        }
    }
}
