//! What was sent: the list, one message and how far it has got, taking back, cancelling, repeating.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::desk::{DeskError, Message, MessageQuery, MessageState, Progress};
use crate::http::Status;
use crate::service::ServiceReply;

use super::compose;
use super::letter::Letter;
use super::moment;
use super::notice::Notice;
use super::office::Visit;
use super::page::{self, Trouble, csrf_field, name_field};

const HERE: &str = "/admin/messages";
const SCHEDULED: &str = "/admin/messages?state=scheduled";

/// Messages on a page.
const PAGE_MAX: usize = 50;
/// Characters of a body in the list.
const EXCERPT_MAX: usize = 160;

const STATES: [MessageState; 5] = [
    MessageState::Sent,
    MessageState::Scheduled,
    MessageState::Retracted,
    MessageState::Cancelled,
    MessageState::Expired,
];

/// The list, the newest first.
pub(super) fn list(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let query = visit.query()?;
    let state = MessageState::named(query.text("state"));
    let wanted = MessageQuery {
        topic: query.some("topic"),
        sender: query.some("sender"),
        state,
        text: query.some("text"),
        limit: PAGE_MAX,
        before: query.text("before").parse().ok(),
    };
    let found = visit.office.desk.records.messages(&wanted)?;
    let link = |before: u64| {
        let mut link = format!("{HERE}?before={before}");
        for field in ["topic", "sender", "state", "text"] {
            if let Some(value) = query.some(field) {
                link += &format!("&{field}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC));
            }
        }
        link
    };
    let body = html! {
        form.search method="get" action=(HERE) role="search" {
            div { label for="text" { "Text" } input #text type="search" name="text" value=(query.text("text")); }
            (name_field("topic", "Topic", query.text("topic")))
            div {
                label for="state" { "State" }
                select #state name="state" {
                    option value="" { "any" }
                    @for one in STATES { option value=(one.as_str()) selected[state == Some(one)] { (one.as_str()) } }
                }
            }
            button type="submit" { "Search" }
        }
        @if found.messages.is_empty() { p { "There are no such messages." } }
        @else { ul.list { @for message in &found.messages { li { (row(message)) } } } }
        nav.pages aria-label="Pages" {
            @if wanted.before.is_some() { a href=(HERE) { "Newest" } }
            @if let Some(before) = found.next { a href=(link(before)) rel="next" { "Older" } }
        }
    };
    let current = if state == Some(MessageState::Scheduled) { SCHEDULED } else { HERE };
    let heading = if state == Some(MessageState::Scheduled) { "Scheduled" } else { "Messages" };
    Ok(visit.page(Status::Ok, current, heading, &body))
}

fn excerpt(message: &Message) -> String {
    let text = Notice::read(message.payload.get()).map_or_else(
        || message.payload.get().to_owned(),
        |notice| match notice.title {
            Some(title) => format!("{title}: {}", notice.body),
            None => notice.body,
        },
    );
    let mut characters = text.chars();
    let mut excerpt: String = characters.by_ref().take(EXCERPT_MAX).collect();
    if characters.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

fn row(message: &Message) -> Markup {
    html! {
        a.row-title href={ (HERE) "/" (message.id) } { (excerpt(message)) }
        p.row-more {
            (badge(message.state))
            span { "to " (recipient(message)) }
            span { "by " (message.sender) }
            span { (moment::shown(message.sent_at.or(message.send_at).unwrap_or(message.created_at))) }
            @if let Some(subscribers) = message.subscribers {
                span { (subscribers) " addressed" }
                @if let Some(received) = message.received { span { (received) " received" } }
            }
        }
    }
}

fn badge(state: MessageState) -> Markup {
    html! { span class={ "badge badge-" (state.as_str()) } { (state.as_str()) } }
}

fn recipient(message: &Message) -> Markup {
    html! {
        @match &message.user {
            Some(user) => { "the user " b { (user) } }
            None => { code { (message.topic) } }
        }
    }
}

fn find(visit: &Visit<'_>, id: &str) -> Result<Message, Trouble> {
    visit.office.desk.records.message(id)?.ok_or_else(Trouble::not_found)
}

/// One message, live.
pub(super) fn one(visit: &Visit<'_>, id: &str) -> Result<ServiceReply, Trouble> {
    let message = find(visit, id)?;
    let again = Letter::again(visit.office, &message).is_some();
    let body = html! {
        p.row-more {
            (badge(message.state))
            span { "to " (recipient(&message)) }
            span { "by " (message.sender) }
        }
        div.stage {
            @match Notice::read(message.payload.get()) {
                Some(notice) => { (notice.shown()) }
                None => { pre tabindex="0" aria-label="Payload" { (message.payload.get()) } }
            }
        }
        @if message.sent_at.is_some() || message.offset.is_some() { (delivery(visit, &message)) }
        (history(&message))
        div.buttons {
            @if message.state == MessageState::Sent && message.with_id {
                (action(visit, &message, "retract", "Retract it", "danger"))
            }
            @if message.state == MessageState::Scheduled {
                (action(visit, &message, "cancel", "Cancel it", "danger"))
            }
            @if again { a.button href={ (HERE) "/" (message.id) "/resend" } { "Send it again…" } }
        }
    };
    Ok(visit.page(Status::Ok, HERE, "Message", &body))
}

fn action(visit: &Visit<'_>, message: &Message, action: &str, label: &str, class: &str) -> Markup {
    html! {
        form method="post" action={ (HERE) "/" (message.id) "/" (action) } {
            (csrf_field(&visit.session))
            button class=(class) type="submit" { (label) }
        }
    }
}

/// How far it has got. The script keeps the figures up to date; without it they are those of when the page was made.
fn delivery(visit: &Visit<'_>, message: &Message) -> Markup {
    let counted = visit.office.desk.publishing.progress(&message.id);
    let (addressed, received) = (message.subscribers.unwrap_or(0), message.received.unwrap_or(0));
    let figures = counted.unwrap_or(Progress { addressed, received, done: true, ..Progress::default() });
    let bar = |id: &str, label: &str, value: u64| {
        html! {
            label for=(id) { (label) }
            progress id=(id) value=(value) max=(figures.addressed.max(1)) { (value) }
        }
    };
    let figure = |id: &str, label: &str, value: u64| html! { div { dt { (label) } dd id=(id) { (value) } } };
    html! {
        section #delivery data-message=[counted.is_some().then_some(&message.id)] data-done=(figures.done)
            data-age=[message.sent_at.map(|sent| visit.at.saturating_sub(sent))]
            aria-labelledby="delivery-title" {
            h2 #delivery-title { "Delivery" }
            @if counted.is_some() {
                p #summary { "Written to " b #written-text { (figures.written) } " of " b #addressed-text { (figures.addressed) }
                    ", received by " b #received-text { (figures.received) } "." }
                div.bars {
                    (bar("written-bar", "Written", figures.written))
                    (bar("received-bar", "Received", figures.received))
                }
                dl.figures {
                    (figure("addressed", "Addressed", figures.addressed))
                    (figure("written", "Written", figures.written))
                    (figure("behind", "Still behind", figures.behind))
                    (figure("received", "Received", figures.received))
                    (figure("gone", "Gone", figures.gone))
                }
                div #chart {}
                p #spoken .unseen role="status" {}
                p #refresh { a href={ (HERE) "/" (message.id) } { "Refresh the figures" } }
            } @else {
                p {
                    @match message.subscribers {
                        Some(_) => { "Addressed to " b { (addressed) } }
                        None => { "Nobody has counted to how many it was addressed" }
                    }
                    @if message.receipts { ", received by " b { (received) } }
                    "."
                }
            }
        }
    }
}

fn history(message: &Message) -> Markup {
    let time = |label: &str, at: Option<u64>| {
        html! { @if let Some(at) = at { div { dt { (label) } dd { (moment::shown(at)) } } } }
    };
    let (ended, by) = match message.state {
        MessageState::Retracted => ("Retracted", "Retracted by"),
        MessageState::Cancelled => ("Cancelled", "Cancelled by"),
        _ => ("Ended", "Ended by"),
    };
    html! {
        h2 { "History" }
        dl.facts {
            (time("Written", Some(message.created_at)))
            (time("Scheduled for", message.send_at))
            (time("Sent", message.sent_at))
            (time("Kept until", message.expires_at))
            (time(ended, message.ended_at))
            @if let Some(who) = &message.ended_by { div { dt { (by) } dd { (who) } } }
            @if let Some(id) = &message.resend_of {
                div { dt { "Repeats" } dd { a href={ (HERE) "/" (id) } { "an earlier message" } } }
            }
            div { dt { "Event" } dd { code { (message.event) } } }
            div { dt { "Id" } dd { code { (message.id) } } }
        }
    }
}

/// The preview of the same message again.
pub(super) fn resend(visit: &Visit<'_>, id: &str) -> Result<ServiceReply, Trouble> {
    let message = find(visit, id)?;
    let letter = Letter::again(visit.office, &message).ok_or_else(|| {
        let sentence = "It was sent by a program, in a form that the back office does not write.";
        Trouble::new(Status::Conflict, "This message can't be repeated here", sentence)
    })?;
    Ok(compose::preview_of(visit, &letter))
}

/// Takes a message back.
pub(super) fn retract(visit: &Visit<'_>, id: &str) -> Result<ServiceReply, Trouble> {
    end(visit, id, "retract", || visit.office.desk.publishing.retract(id, &visit.actor(), visit.at))
}

/// Cancels a message that waits for its time.
pub(super) fn cancel(visit: &Visit<'_>, id: &str) -> Result<ServiceReply, Trouble> {
    end(visit, id, "cancel", || visit.office.desk.publishing.cancel(id, &visit.actor(), visit.at))
}

fn end(
    visit: &Visit<'_>,
    id: &str,
    action: &str,
    act: impl FnOnce() -> Result<Message, DeskError>,
) -> Result<ServiceReply, Trouble> {
    visit.form()?;
    let message = find(visit, id)?;
    visit.audit(action, id, format!("sent to {}", message.topic))?;
    if let Err(error) = act() {
        visit.audit_outcome(&format!("{action}_failed"), id, error.code.as_str().to_owned());
        return Err(error.into());
    }
    Ok(page::see_other(format!("{HERE}/{id}")))
}
