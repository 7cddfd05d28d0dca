//! One's own account.

use maud::html;

use crate::auth::connect::Secret;
use crate::auth::password;
use crate::http::Status;
use crate::service::ServiceReply;

use super::office::Visit;
use super::page::{self, Trouble, csrf_field, sentence};
use super::session::Standing;

const HERE: &str = "/admin/account";

/// The page of one's own account.
pub(super) fn form(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let changed = !visit.query()?.raw("changed").is_empty();
    Ok(account_page(visit, Status::Ok, None, changed))
}

fn account_page(visit: &Visit<'_>, status: Status, wrong: Option<&str>, changed: bool) -> ServiceReply {
    let body = html! {
        p { "You are signed in as " b { (visit.session.account) } "." }
        @if changed { p.good role="status" { "Your password is changed. Everybody else who used it is signed out." } }
        h2 { "Change the password" }
        @if visit.session.standing == Standing::Link {
            p {
                "You came in by a one-time link, so there is no password to change. An account of your own is made with "
                code { "hailer staff add" } " where the server runs."
            }
        } @else {
            @if let Some(wrong) = wrong { p.error role="alert" { (wrong) } }
            form.narrow method="post" action="/admin/account/password" {
                (csrf_field(&visit.session))
                // Password keepers want to know whose password it is.
                input type="text" name="name" value=(visit.session.account) autocomplete="username" hidden;
                label for="old" { "The present password" }
                input #old type="password" name="old" required autocomplete="current-password";
                label for="new" { "The new password " span.hint { "(12 characters or more)" } }
                input #new type="password" name="new" required minlength=(password::PASSWORD_CHARACTERS_MIN)
                    autocomplete="new-password";
                label for="again" { "The new password again" }
                input #again type="password" name="again" required autocomplete="new-password";
                button type="submit" { "Change it" }
            }
        }
    };
    visit.page(status, HERE, "Account", &body)
}

/// Changes one's own password. All sessions of the account end; the one at hand gets another id.
pub(super) fn change_password(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let form = visit.form()?;
    let (office, name) = (visit.office, &*visit.session.account);
    let wrong = |word: &str| Ok(account_page(visit, Status::UnprocessableContent, Some(word), false));
    if visit.session.standing == Standing::Link {
        return wrong("There is no password to change.");
    }
    let [old, new, again] = ["old", "new", "again"].map(|field| Secret::new(form.raw(field)));
    if new != again {
        return wrong("The new password was typed in two ways.");
    }
    if let Err(reason) = password::check(name, &new) {
        return wrong(&sentence(reason));
    }
    // Who has found an open session may not guess the password with it.
    let begun = office
        .lockout
        .begin(name, visit.request.peer, visit.at)
        .map_err(|wait| Trouble::too_many(wait, "Too many tries with a wrong password have failed."))?;
    let Some(account) = office.desk.records.staff(name)? else { return Err(Trouble::not_found()) };
    if !password::verify(&old, &account.password_hash) {
        visit.audit("password_refused", name, "wrong present password".to_owned())?;
        if begun.locks {
            visit.audit("locked", name, "too many failures; further tries have to wait".to_owned())?;
        }
        return wrong("The present password is wrong.");
    }
    visit.audit("password", name, "changed by its owner".to_owned())?;
    office.lockout.succeeded(name, visit.request.peer);
    let mut salt = [0; 16];
    salt.copy_from_slice(&office.fresh_bytes()[..16]);
    let hash = password::hash(&new, salt);
    if !office.desk.records.set_staff_password(name, &hash, visit.at)? {
        return Err(Trouble::not_found());
    }
    let ended = office.sessions.end_where(|session| *session.account == *name);
    office.close_sockets(&ended);
    let id = office.secret();
    let ended = office.sessions.open(&id, office.secret(), name, Standing::of_account(&hash), visit.at);
    office.close_sockets(&ended);
    Ok(page::see_other("/admin/account?changed=1").header("set-cookie", office.set_cookie(Some(&id))))
}
