//! Writing a message, looking at it as customers will, and sending it.

use std::sync::PoisonError;

use maud::{Markup, html};

use crate::desk::{MessageState, Publish, Target};
use crate::http::Status;
use crate::service::ServiceReply;

use super::carried::{self, Carried};
use super::form::Form;
use super::letter::{Checked, Letter, Wrong};
use super::moment;
use super::notice::{BODY_CHARACTERS_MAX, LINK_BYTES_MAX, Severity, TITLE_CHARACTERS_MAX};
use super::office::Visit;
use super::page::{self, Trouble, csrf_field};
use super::places::is_id;
use super::sign_in;

const HERE: &str = "/admin/compose";

/// The form with what was written before the sign-in.
pub(super) const RESTORED: &str = "/admin/compose?restored=1";

/// What is typed to confirm a message to very many.
const CONFIRMATION: &str = "send";

/// The empty form; a query may name who gets the message.
pub(super) fn form(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let query = visit.query()?;
    let written = visit.session.letter.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(letter) = written.filter(|_| query.some("restored").is_some()) {
        let word = "You were signed out before this was sent. Nothing is lost: here is your text.";
        return Ok(form_page(visit, Status::Ok, &letter, &[], Some(word)));
    }
    let mut letter = Letter::new();
    if let Some(user) = query.some("user") {
        (letter.to, letter.user) = ("user".to_owned(), user);
    } else if let Some(topic) = query.some("topic") {
        (letter.to, letter.topic) = ("topic".to_owned(), topic);
    }
    Ok(form_page(visit, Status::Ok, &letter, &[], None))
}

/// Back from the preview.
pub(super) fn edit(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    with_form(visit, |form| Ok(form_page(visit, Status::Ok, &Letter::read(form), &[], None)))
}

/// The message as customers will see it, and how many of them there are.
pub(super) fn preview(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    with_form(visit, |form| Ok(preview_of(visit, &Letter::read(form))))
}

/// Does something with the request's form. One that was made in an earlier session, before somebody signed in again, is
/// not acted on; it is shown once more, to the account that has written it.
fn with_form(
    visit: &Visit<'_>,
    act: impl FnOnce(&Form) -> Result<ServiceReply, Trouble>,
) -> Result<ServiceReply, Trouble> {
    let trouble = match visit.form() {
        Ok(form) => return act(&form),
        Err(trouble) => trouble,
    };
    let Some(carried) = Carried::of(visit.request) else { return Err(trouble) };
    if carried.author != *visit.session.account {
        return Ok(sign_in::carry(visit.office, &carried));
    }
    let letter = carried.for_account(&visit.session.account).unwrap_or_default();
    let word = "This was written before you signed in again, and was not sent. Please look at it once more.";
    Ok(form_page(visit, Status::Forbidden, &letter, &[], Some(word)))
}

/// The preview of a letter, or the form with what is wrong in it.
pub(super) fn preview_of(visit: &Visit<'_>, letter: &Letter) -> ServiceReply {
    match letter.check(visit.office, visit.at) {
        Ok(checked) => preview_page(visit, Status::Ok, letter, &checked, None),
        Err(wrong) => form_page(visit, Status::UnprocessableContent, letter, &wrong, None),
    }
}

/// Sends what was previewed.
pub(super) fn send(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    with_form(visit, |form| {
        let letter = Letter::read(form);
        send_letter(visit, form, &letter).map_err(|trouble| trouble.with_way_on(way_back(visit, &letter)))
    })
}

/// The ways back to a letter that could not be sent.
fn way_back(visit: &Visit<'_>, letter: &Letter) -> Markup {
    html! {
        form method="post" action="/admin/compose/preview" {
            (csrf_field(&visit.session))
            (carried::fields(&visit.session.account, letter))
            p { "What you wrote is kept on this page." }
            div.buttons {
                button type="submit" { "Back to the preview" }
                button.quiet type="submit" formaction="/admin/compose/edit" { "Go on writing" }
            }
        }
    }
}

fn send_letter(visit: &Visit<'_>, form: &Form, letter: &Letter) -> Result<ServiceReply, Trouble> {
    // A second click on the button waits here for the first, and is shown what has come of that.
    let mut sent = visit.session.sent.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = sent.message(&visit.request.body) {
        return Ok(page::see_other(format!("/admin/messages/{id}")));
    }
    let checked = match letter.check(visit.office, visit.at) {
        Ok(checked) => checked,
        Err(wrong) => return Ok(form_page(visit, Status::UnprocessableContent, letter, &wrong, None)),
    };
    let nonce = form.raw("nonce");
    if !is_id(nonce) {
        return Ok(preview_page(visit, Status::UnprocessableContent, letter, &checked, None));
    }
    let subscribers = visit.office.desk.inspection.subscribers(&checked.topic);
    let confirmed = form.text("confirm").eq_ignore_ascii_case(CONFIRMATION);
    if needs_confirmation(visit, subscribers) && !confirmed {
        let word = Some("Type the word to confirm that so many are to get it.");
        return Ok(preview_page(visit, Status::UnprocessableContent, letter, &checked, word));
    }
    if let Err(wait) = visit.office.rate.take(&visit.session.account, visit.at) {
        let most = visit.office.config.sends_per_minute_max;
        let sentence = format!("An account can send {most} messages in a minute. Nothing was sent.");
        return Err(Trouble::too_many(wait, sentence));
    }
    let subject = match &checked.target {
        Target::Topic(topic) => topic,
        Target::User(user) => user,
    };
    visit.audit("publish", subject, detail(visit, &checked, subscribers))?;
    let publish = Publish {
        drafts: vec![checked.draft(visit.office)],
        idempotency_key: Some(format!("admin-{nonce}")),
    };
    let published = visit.office.desk.publishing.publish(publish, &visit.actor(), visit.at);
    let message = match published {
        Ok(reply) => reply.messages.into_iter().next(),
        Err(error) => {
            visit.audit_outcome("publish_failed", subject, error.code.as_str().to_owned());
            return Err(error.into());
        }
    };
    let Some(message) = message else { return Err(Trouble::not_found()) };
    let action = if message.state == MessageState::Scheduled { "scheduled" } else { "published" };
    visit.audit_outcome(action, &message.id, format!("to {}", message.topic));
    sent.remember(&visit.request.body, &message.id);
    *visit.session.letter.lock().unwrap_or_else(PoisonError::into_inner) = None;
    Ok(page::see_other(format!("/admin/messages/{}", message.id)))
}

/// What the audit log says of a message: all but its words.
fn detail(visit: &Visit<'_>, checked: &Checked, subscribers: Option<u64>) -> String {
    let kind = match checked.target {
        Target::Topic(_) => "topic",
        Target::User(_) => "user",
    };
    let mut detail = format!(
        "{} to a {kind}, {}, {} bytes",
        visit.office.config.event,
        checked.notice.severity.name(),
        checked.payload.get().len(),
    );
    if let Some(subscribers) = subscribers {
        detail += &format!(", {subscribers} subscribers");
    }
    if let Some(lifetime) = checked.lifetime {
        detail += &format!(", kept {} minutes", lifetime.as_secs() / 60);
    }
    if let Some(time) = checked.send_at {
        detail += &format!(", at {}", moment::machine(time));
    }
    if let Some(id) = &checked.resend_of {
        detail += &format!(", repeats {id}");
    }
    detail
}

/// Whether so many get it that a word has to be typed; if they can't be counted they may be many.
fn needs_confirmation(visit: &Visit<'_>, subscribers: Option<u64>) -> bool {
    subscribers.is_none_or(|subscribers| subscribers > visit.office.config.confirm_above)
}

fn preview_page(
    visit: &Visit<'_>,
    status: Status,
    letter: &Letter,
    checked: &Checked,
    word: Option<&str>,
) -> ServiceReply {
    let subscribers = visit.office.desk.inspection.subscribers(&checked.topic);
    // The first half is as unlikely to be met twice, and a short key is a good key.
    let nonce = visit.office.secret().expose()[..22].to_owned();
    let body = html! {
        p { "This is what customers see:" }
        div.stage { (checked.notice.shown()) }
        h2 { "Who gets it" }
        (audience(visit, checked, subscribers))
        (schedule(checked))
        form.send method="post" action="/admin/compose/send" {
            (csrf_field(&visit.session))
            input type="hidden" name="nonce" value=(nonce);
            (carried::fields(&visit.session.account, letter))
            @if needs_confirmation(visit, subscribers) {
                div.field.confirm {
                    label for="confirm" { "To confirm, type the word “" (CONFIRMATION) "”" }
                    @if let Some(word) = word { p #confirm-error .error role="alert" { (word) } }
                    input #confirm type="text" name="confirm" autocomplete="off" autocapitalize="none"
                        spellcheck="false" aria-describedby=[word.map(|_| "confirm-error")]
                        aria-invalid=[word.map(|_| "true")];
                }
            }
            div.buttons {
                button type="submit" {
                    @if checked.send_at.is_some() { "Schedule it" } @else { "Send it now" }
                }
                button.quiet type="submit" formaction="/admin/compose/edit" formnovalidate { "Go on writing" }
            }
        }
    };
    visit.page(status, HERE, "Preview", &body)
}

fn audience(visit: &Visit<'_>, checked: &Checked, subscribers: Option<u64>) -> Markup {
    let topic = html! { code { (checked.topic) } };
    let is_everyone =
        matches!(checked.target, Target::Topic(_)) && checked.topic == visit.office.config.default_topic;
    html! {
        p.audience.everyone[is_everyone] {
            @if is_everyone { strong { "To EVERYONE" } " " }
            @match (&checked.target, subscribers) {
                (_, None) => { "Nobody can say at present how many have joined " (topic) "." }
                (Target::User(user), Some(0)) => { "The user " b { (user) } " is not connected at present." }
                (Target::User(user), Some(1)) => { "The user " b { (user) } ", on " b { "1" } " connection." }
                (Target::User(user), Some(n)) => { "The user " b { (user) } ", on " b { (n) } " connections." }
                (Target::Topic(_), Some(0)) => { "Nobody has joined " (topic) " at present." }
                (Target::Topic(_), Some(1)) => { b { "1" } " recipient has joined " (topic) " at present." }
                (Target::Topic(_), Some(n)) => { b { (n) } " recipients have joined " (topic) " at present." }
            }
            @if subscribers == Some(0) && checked.lifetime.is_none() && checked.send_at.is_none() {
                " Without a lifetime nobody will see it."
            }
        }
    }
}

fn schedule(checked: &Checked) -> Markup {
    html! {
        @if let Some(time) = checked.send_at { p { "It is sent at " b { (moment::shown(time)) } "." } }
        p {
            @match checked.lifetime {
                Some(lifetime) => {
                    "Who connects within " b { (lifetime.as_secs() / 60) " minutes" } " of that gets it as well."
                }
                None => { "Who connects later does not get it." }
            }
        }
    }
}

/// The form. What is wrong stands above it and at its fields.
fn form_page(
    visit: &Visit<'_>,
    status: Status,
    letter: &Letter,
    wrong: &[Wrong],
    word: Option<&str>,
) -> ServiceReply {
    let form = Fields { letter, wrong };
    let body = html! {
        @if let Some(word) = word { p.restored role="status" { (word) } }
        @if !wrong.is_empty() {
            div.error role="alert" {
                p { "Nothing was sent. Please look at:" }
                ul { @for wrong in wrong { li { a href={ "#" (wrong.field) } { (wrong.sentence) } } } }
            }
        }
        form.compose method="post" action="/admin/compose/preview" {
            (csrf_field(&visit.session))
            (carried::author_field(&visit.session.account))
            input type="hidden" name="resend_of" value=(letter.resend_of);
            // The script says here how far the browser's time is from UTC.
            input #offset type="hidden" name="offset" value="" autocomplete="off";
            (form.recipients(visit))
            (form.words())
            (form.times())
            div.buttons { button type="submit" { "Preview" } }
        }
    };
    visit.page(status, HERE, "Compose", &body)
}

struct Fields<'a> {
    letter: &'a Letter,
    wrong: &'a [Wrong],
}

impl Fields<'_> {
    fn is_wrong(&self, field: &str) -> bool {
        self.wrong.iter().any(|wrong| wrong.field == field)
    }

    /// The sentence below a field, which its `aria-describedby` names.
    fn error(&self, field: &str) -> Markup {
        html! {
            @for wrong in self.wrong.iter().filter(|wrong| wrong.field == field) {
                p.error id={ (field) "-error" } { (wrong.sentence) }
            }
        }
    }

    fn described(&self, field: &str) -> Option<String> {
        self.is_wrong(field).then(|| format!("{field}-error"))
    }

    fn invalid(&self, field: &str) -> Option<&'static str> {
        self.is_wrong(field).then_some("true")
    }

    fn choice(name: &str, value: &str, chosen: &str, label: &Markup) -> Markup {
        html! {
            label.choice {
                input type="radio" name=(name) value=(value) checked[value == chosen] required;
                " " (label)
            }
        }
    }

    fn recipients(&self, visit: &Visit<'_>) -> Markup {
        let (letter, config) = (self.letter, &visit.office.config);
        let choice = |value, label: Markup| Self::choice("to", value, &letter.to, &label);
        html! {
            fieldset #to {
                legend { "Who gets it" }
                (choice("everyone", html! { "Everyone in " code { (config.default_topic) } }))
                (choice("topic", html! { "Everyone in a topic by name" }))
                div.inner data-of="topic" {
                    label for="topic" { "Topic" }
                    input #topic type="text" name="topic" value=(letter.topic) list="topics" maxlength="255"
                        placeholder="room:lobby" autocapitalize="none" autocomplete="off" spellcheck="false"
                        aria-describedby=[self.described("topic")] aria-invalid=[self.invalid("topic")];
                    datalist #topics { @for topic in &config.topics { option value=(topic) {} } }
                    (self.error("topic"))
                }
                (choice("user", html! { "One user" }))
                div.inner data-of="user" {
                    label for="user" { "User" }
                    input #user type="text" name="user" value=(letter.user) maxlength="255" autocapitalize="none"
                        autocomplete="off" spellcheck="false"
                        aria-describedby=[self.described("user")] aria-invalid=[self.invalid("user")];
                    (self.error("user"))
                }
                (self.error("to"))
            }
        }
    }

    fn words(&self) -> Markup {
        let letter = self.letter;
        html! {
            fieldset #severity .row {
                legend { "Severity" }
                @for severity in Severity::ALL {
                    (Self::choice("severity", severity.name(), &letter.severity, &html! { (severity.label()) }))
                }
                (self.error("severity"))
            }
            div.field {
                label for="title" { "Title " span.hint { "(optional)" } }
                input #title type="text" name="title" value=(letter.title) maxlength=(TITLE_CHARACTERS_MAX)
                    aria-describedby=[self.described("title")] aria-invalid=[self.invalid("title")];
                (self.error("title"))
            }
            div.field {
                label for="body" { "Message" }
                // The first line end in a textarea is not part of its text.
                textarea #body name="body" rows="5" required maxlength=(BODY_CHARACTERS_MAX)
                    aria-describedby=[self.described("body")] aria-invalid=[self.invalid("body")] {
                    "\n" (letter.body)
                }
                (self.error("body"))
            }
            div.field {
                label for="link" { "Link " span.hint { "(optional: https://… or a path of your site)" } }
                input #link type="text" inputmode="url" name="link" value=(letter.link) maxlength=(LINK_BYTES_MAX)
                    autocapitalize="none" spellcheck="false"
                    aria-describedby=[self.described("link")] aria-invalid=[self.invalid("link")];
                (self.error("link"))
            }
        }
    }

    fn times(&self) -> Markup {
        let letter = self.letter;
        let unit =
            |value: &str| html! { option value=(value) selected[value == letter.lifetime_unit] { (value) } };
        html! {
            fieldset {
                legend { "Lifetime" }
                p.hint #lifetime-hint { "Who connects within this time gets the message as well." }
                div.pair {
                    label for="lifetime" { "How long" }
                    input #lifetime type="number" name="lifetime" value=(letter.lifetime) min="1" max="43200"
                        inputmode="numeric" aria-describedby=[self.described("lifetime").or_else(|| Some("lifetime-hint".to_owned()))]
                        aria-invalid=[self.invalid("lifetime")];
                    label for="lifetime_unit" { "Unit" }
                    select #lifetime_unit name="lifetime_unit" { (unit("none")) (unit("minutes")) (unit("hours")) }
                }
                (self.error("lifetime"))
            }
            fieldset #when {
                legend { "When" }
                (Self::choice("when", "now", &letter.when, &html! { "Now" }))
                (Self::choice("when", "later", &letter.when, &html! { "Later" }))
                div.inner data-of="later" {
                    label for="send_at" { "Date and time " span #zone .hint { "(UTC)" } }
                    input #send_at type="datetime-local" name="send_at" value=(letter.send_at)
                        aria-describedby=[self.described("send_at")] aria-invalid=[self.invalid("send_at")];
                    (self.error("send_at"))
                }
                (self.error("when"))
            }
        }
    }
}
