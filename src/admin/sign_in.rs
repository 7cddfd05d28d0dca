//! Signing in, by password or by a one-time link, and out.

use std::net::IpAddr;

use maud::{Markup, html};
use serde::Serialize;

use crate::auth::connect::Secret;
use crate::auth::password;
use crate::desk::{Actor, ActorKind, UnixMillis};
use crate::http::{Method, Status};
use crate::service::{ServiceReply, ServiceRequest};

use super::carried::Carried;
use super::compose;
use super::form::Form;
use super::letter::Letter;
use super::lockout::Try;
use super::office::{LINK_ACCOUNT, Office, Visit, read_body};
use super::page::{self, Trouble};
use super::session::{Key, Left, Session, Standing};

/// Bytes of a name of staff; longer ones belong to nobody.
const NAME_BYTES_MAX: usize = 255;

/// Where somebody signs in who has asked for this: from pages the way leads back to them.
pub(super) fn address(request: &ServiceRequest) -> String {
    match request.method {
        Method::Post => "/admin/sign-in?ended=1".to_owned(),
        _ if is_way_back(&request.path) => format!("/admin/sign-in?next={}", request.path),
        _ => "/admin/sign-in".to_owned(),
    }
}

/// Whether a path leads to a page of ours and nowhere else.
fn is_way_back(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    path.starts_with("/admin/") && !path.contains("//") && path.len() <= 200 && path.bytes().all(plain)
}

/// The page to sign in on.
pub(super) fn form(office: &Office, request: &ServiceRequest) -> Result<ServiceReply, Trouble> {
    let query = Form::read(&request.query)?;
    let ended = !query.raw("ended").is_empty();
    let word = ended.then_some("You are signed out. What you were about to do was not done.");
    Ok(sign_in_page(office, Status::Ok, word, &sign_in_form("", query.raw("next"), None, word.is_some())))
}

/// The page to sign in on for somebody whose session is over and who has written something, which it carries.
pub(super) fn carry(office: &Office, carried: &Carried) -> ServiceReply {
    let author = &carried.author;
    if author == LINK_ACCOUNT {
        let word = "You are signed out, and nothing was sent. Your text is kept on this page: each start of the \
                    server prints a link that lets you go on with it.";
        return sign_in_page(office, Status::Forbidden, Some(word), &link_form(carried));
    }
    let word = format!(
        "You are signed out, and nothing was sent. Your text is kept: sign in as {author} to go on with it."
    );
    let form = sign_in_form(author, "", Some(carried), true);
    sign_in_page(office, Status::Forbidden, Some(&word), &form)
}

/// A form for a one-time link that was printed since; opened as an address it would leave the text behind.
fn link_form(carried: &Carried) -> Markup {
    html! {
        form.narrow method="post" action="/admin/welcome" {
            (carried.fields())
            label for="token" { "The link" }
            input #token type="password" name="token" required autocomplete="off" placeholder="http://…/admin/welcome#…";
            button type="submit" { "Sign in" }
        }
    }
}

fn sign_in_page(office: &Office, status: Status, word: Option<&str>, form: &Markup) -> ServiceReply {
    let body = html! {
        @if let Some(word) = word { p.error role="alert" { (word) } }
        (form)
    };
    page::reply(status, page::document(&office.config, "Sign in", None, &body))
}

fn sign_in_form(name: &str, next: &str, carried: Option<&Carried>, has_name: bool) -> Markup {
    html! {
        form.narrow method="post" action="/admin/sign-in" {
            @if is_way_back(next) { input type="hidden" name="next" value=(next); }
            @if let Some(carried) = carried { (carried.fields()) }
            label for="name" { "Name" }
            input #name type="text" name="name" value=(name) required autocomplete="username"
                autocapitalize="none" spellcheck="false" autofocus[!has_name];
            label for="password" { "Password" }
            input #password type="password" name="password" required autocomplete="current-password"
                autofocus[has_name];
            button type="submit" { "Sign in" }
        }
    }
}

/// Takes a name and a password. Names that nobody has are answered as wrong passwords are, after as much work.
pub(super) fn sign_in(
    office: &Office,
    request: &ServiceRequest,
    at: UnixMillis,
) -> Result<ServiceReply, Trouble> {
    let form = read_body(request)?;
    let carried = Carried::read(&form);
    // Whoever has to wait, or try again, keeps what they had written.
    check(office, request, at, &form, carried.as_ref()).map_err(|trouble| match &carried {
        Some(carried) => trouble.with_way_on(sign_in_form(form.text("name"), "", Some(carried), true)),
        None => trouble,
    })
}

fn check(
    office: &Office,
    request: &ServiceRequest,
    at: UnixMillis,
    form: &Form,
    carried: Option<&Carried>,
) -> Result<ServiceReply, Trouble> {
    let (name, given) = (form.text("name"), Secret::new(form.raw("password")));
    let begun = office.lockout.begin(name, request.peer, at).map_err(locked)?;
    let account = if name.len() <= NAME_BYTES_MAX { office.desk.records.staff(name)? } else { None };
    let right = match &account {
        Some(account) => password::verify(&given, &account.password_hash) && !account.disabled,
        None => password::verify_nobody(&given),
    };
    let Some(account) = account.as_ref().filter(|_| right) else {
        let known = account.as_ref().map(|account| account.name.as_str());
        let why = match &account {
            Some(account) if account.disabled => "disabled account",
            Some(_) => "wrong password",
            None => "unknown name",
        };
        refuse(office, request.peer, at, known, why, begun)?;
        let word = "The name or the password is wrong.";
        let again = sign_in_form(name, form.raw("next"), carried, true);
        return Ok(sign_in_page(office, Status::UnprocessableContent, Some(word), &again));
    };
    let actor = Actor { kind: ActorKind::Staff, name: account.name.clone(), address: Some(request.peer) };
    office.audit(&actor, at, "sign_in", &account.name, "by password".to_owned())?;
    office.lockout.succeeded(name, request.peer);
    let next = Some(form.raw("next")).filter(|next| is_way_back(next)).unwrap_or("/admin/compose");
    let letter = Carried::read(form).and_then(|carried| carried.for_account(&account.name));
    enter(office, request, at, (&account.name, Standing::of_account(&account.password_hash)), next, letter)
}

/// Writes down that somebody was not let in. A name that nobody has is not written: it may be a password, typed into the
/// wrong field.
fn refuse(
    office: &Office,
    peer: IpAddr,
    at: UnixMillis,
    known: Option<&str>,
    why: &str,
    begun: Try,
) -> Result<(), Trouble> {
    let kind = if known.is_some() { ActorKind::Staff } else { ActorKind::Local };
    let name = known.unwrap_or("unknown");
    let actor = Actor { kind, name: name.to_owned(), address: Some(peer) };
    office.desk.guesses.wrong_password();
    office.audit(&actor, at, "sign_in_refused", known.unwrap_or_default(), why.to_owned())?;
    if begun.locks {
        office.desk.guesses.lockout();
        let detail = "too many failures; further tries have to wait".to_owned();
        office.audit(&actor, at, "locked", known.unwrap_or_default(), detail)?;
        tracing::warn!(address = %peer, "too many failed sign-ins; further tries have to wait");
    }
    Ok(())
}

fn locked(wait: std::time::Duration) -> Trouble {
    let sentence = "Too many tries to sign in have failed, with this name or from your network.";
    Trouble::too_many(wait, sentence)
}

/// Opens a session and leads on. Whatever session the browser brings ends, and its id is never used again.
fn enter(
    office: &Office,
    request: &ServiceRequest,
    at: UnixMillis,
    (account, standing): (&str, Standing),
    next: &str,
    letter: Option<Letter>,
) -> Result<ServiceReply, Trouble> {
    if let Some(session) = office.session(request, at)? {
        office.end(session.key);
    }
    let id = office.secret();
    let ended = office.sessions.open(&id, office.secret(), account, standing, at);
    office.close_sockets(&ended);
    let next = if letter.is_some() { compose::RESTORED } else { next };
    if let Some(letter) = letter {
        office.sessions.hand_over(Key::of(id.expose()), letter);
    }
    Ok(page::see_other(next.to_owned()).header("set-cookie", office.set_cookie(Some(&id))))
}

/// The page that a one-time link leads to. The token stands behind the address's `#`, where the server does not see it;
/// the script puts it into the form.
pub(super) fn welcome(office: &Office) -> ServiceReply {
    page::reply(Status::Ok, page::document(&office.config, "Welcome", None, &welcome_form(None)))
}

fn welcome_form(word: Option<&str>) -> Markup {
    html! {
        @if let Some(word) = word { p.error role="alert" { (word) } }
        p { "Your link lets you in once, without a password." }
        form #welcome .narrow method="post" action="/admin/welcome" {
            input #token type="hidden" name="token" autocomplete="off";
            button type="submit" { "Sign in" }
        }
        noscript { p.error { "The link needs JavaScript. With a name and a password it goes without." } }
        p { a href="/admin/sign-in" { "Sign in with a name and a password" } }
    }
}

/// Takes a one-time link.
pub(super) fn take_link(
    office: &Office,
    request: &ServiceRequest,
    at: UnixMillis,
) -> Result<ServiceReply, Trouble> {
    let form = read_body(request)?;
    let carried = Carried::read(&form);
    check_link(office, request, at, &form, carried).map_err(|trouble| match Carried::read(&form) {
        Some(carried) => trouble.with_way_on(link_form(&carried)),
        None => trouble,
    })
}

fn check_link(
    office: &Office,
    request: &ServiceRequest,
    at: UnixMillis,
    form: &Form,
    carried: Option<Carried>,
) -> Result<ServiceReply, Trouble> {
    let begun = office.lockout.begin_nameless(request.peer, at).map_err(locked)?;
    // The script takes the token out of the address; people paste all of it.
    let token = form.text("token").rsplit('#').next().unwrap_or_default();
    if !office.links.take(token, at) {
        refuse(office, request.peer, at, None, "one-time link that is not good", begun)?;
        let word = "The link is not good any more: it works once, for 15 minutes.";
        if let Some(carried) = &carried {
            return Ok(sign_in_page(office, Status::UnprocessableContent, Some(word), &link_form(carried)));
        }
        let page = page::document(&office.config, "Welcome", None, &welcome_form(Some(word)));
        return Ok(page::reply(Status::UnprocessableContent, page));
    }
    let actor = Actor { kind: ActorKind::Staff, name: LINK_ACCOUNT.to_owned(), address: Some(request.peer) };
    office.audit(&actor, at, "sign_in", LINK_ACCOUNT, "by one-time link".to_owned())?;
    office.lockout.succeeded_nameless(request.peer);
    let letter = carried.and_then(|carried| carried.for_account(LINK_ACCOUNT));
    enter(office, request, at, (LINK_ACCOUNT, Standing::Link), "/admin/compose", letter)
}

/// How long the session lasts, for the script that warns of its end. Asking does not prolong it.
pub(super) fn look(
    office: &Office,
    request: &ServiceRequest,
    at: UnixMillis,
) -> Result<ServiceReply, Trouble> {
    let found = office.cookie(&request.headers).and_then(|cookie| office.sessions.look(cookie, at));
    let Some((session, _)) = found else { return Ok(left(None)) };
    let stands = office.stands(&session)?;
    Ok(left(stands.then(|| (&session, office.sessions.left(&session, at)))))
}

/// The same, asked by somebody who is there: that prolongs it, as every request does.
pub(super) fn stay(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    visit.form()?;
    Ok(left(Some((&visit.session, visit.office.sessions.left(&visit.session, visit.at)))))
}

/// The answer to both; with neither an account nor time if nobody is signed in.
pub(super) fn left(session: Option<(&Session, Left)>) -> ServiceReply {
    #[derive(Serialize)]
    struct Answer<'a> {
        account: Option<&'a str>,
        #[serde(flatten)]
        left: Left,
    }
    let (session, left) = session.unzip();
    let answer = Answer { account: session.map(|session| &*session.account), left: left.unwrap_or_default() };
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    ServiceReply::new(Status::Ok).body("application/json", text)
}

/// Ends the session and its live sockets.
pub(super) fn sign_out(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    visit.form()?;
    visit.audit("sign_out", &visit.session.account, String::new())?;
    visit.office.end(visit.session.key);
    Ok(page::see_other("/admin/sign-in").header("set-cookie", visit.office.set_cookie(None)))
}
