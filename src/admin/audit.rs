//! What was done, by whom, from where.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::desk::{AuditEntry, AuditQuery};
use crate::http::Status;
use crate::service::ServiceReply;

use super::form::Form;
use super::moment;
use super::office::Visit;
use super::page::{Trouble, csrf_field};
use super::places::is_id;

const HERE: &str = "/admin/audit";

/// Entries on a page.
const PAGE_MAX: usize = 100;
/// Entries that are read at once for the export.
const EXPORT_STEP: usize = 1_000;
/// Entries of an export, the newest of those that match.
const EXPORT_MAX: usize = 100_000;

fn wanted(form: &Form, limit: usize) -> AuditQuery {
    let before = form.text("before").parse().ok();
    AuditQuery { actor: form.some("actor"), action: form.some("action"), before, limit }
}

/// The log, the newest first.
pub(super) fn list(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let query = visit.query()?;
    let wanted = wanted(&query, PAGE_MAX);
    let entries = visit.office.desk.records.audit(&wanted)?;
    let older = entries.last().filter(|_| entries.len() >= PAGE_MAX).map(|entry| {
        let escaped = |name| utf8_percent_encode(query.text(name), NON_ALPHANUMERIC);
        format!("{HERE}?before={}&actor={}&action={}", entry.number, escaped("actor"), escaped("action"))
    });
    let body = html! {
        form.search method="get" action=(HERE) role="search" {
            div {
                label for="actor" { "Who" }
                input #actor type="search" name="actor" value=(query.text("actor")) placeholder="staff:ada"
                    autocapitalize="none" spellcheck="false";
            }
            div {
                label for="action" { "Action" }
                input #action type="search" name="action" value=(query.text("action")) placeholder="publish"
                    autocapitalize="none" spellcheck="false";
            }
            button type="submit" { "Search" }
        }
        @if entries.is_empty() { p { "There are no such entries." } } @else { (table(&entries)) }
        nav.pages aria-label="Pages" {
            @if wanted.before.is_some() { a href=(HERE) { "Newest" } }
            @if let Some(older) = older { a href=(older) rel="next" { "Older" } }
        }
        form method="post" action="/admin/audit/export" {
            (csrf_field(&visit.session))
            input type="hidden" name="actor" value=(query.text("actor"));
            input type="hidden" name="action" value=(query.text("action"));
            button.quiet type="submit" { "Export what matches as CSV" }
            p.hint { "At most the newest 100,000 entries." }
        }
    };
    Ok(visit.page(Status::Ok, HERE, "Audit log", &body))
}

fn table(entries: &[AuditEntry]) -> Markup {
    html! {
        div.scroll role="region" aria-labelledby="audit-title" tabindex="0" {
            table {
                caption #audit-title { "Entries, the newest first" }
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "Action" }
                    th scope="col" { "Of what" } th scope="col" { "Details" } th scope="col" { "From" }
                } }
                tbody {
                    @for entry in entries {
                        tr {
                            td { (moment::shown(entry.at)) }
                            td { (entry.actor) }
                            td { (entry.action) }
                            td { (subject(entry)) }
                            td { (entry.detail) }
                            td { (entry.address) }
                        }
                    }
                }
            }
        }
    }
}

/// What was done to a message leads to the message.
fn subject(entry: &AuditEntry) -> Markup {
    let of_message = ["published", "scheduled", "retract", "cancel"].contains(&entry.action.as_str());
    html! {
        @if of_message && is_id(&entry.subject) {
            a href={ "/admin/messages/" (entry.subject) } { (entry.subject) }
        } @else { (entry.subject) }
    }
}

/// The log as CSV. That it was taken stands in the log.
pub(super) fn export(visit: &Visit<'_>) -> Result<ServiceReply, Trouble> {
    let form = visit.form()?;
    let mut query = wanted(&form, EXPORT_STEP);
    visit.audit(
        "export",
        "audit log",
        format!("actor “{}”, action “{}”", form.text("actor"), form.text("action")),
    )?;
    let failed = || {
        Trouble::new(Status::InternalServerError, "The export failed", "The entries can't be written as CSV.")
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = ["number", "at", "actor", "action", "subject", "detail", "address"];
    writer.write_record(head).map_err(|_| failed())?;
    let mut written = 0;
    while written < EXPORT_MAX {
        let entries = visit.office.desk.records.audit(&query)?;
        for entry in &entries {
            let record = [
                entry.number.to_string(),
                moment::machine(entry.at),
                cell(&entry.actor),
                cell(&entry.action),
                cell(&entry.subject),
                cell(&entry.detail),
                cell(&entry.address),
            ];
            writer.write_record(record).map_err(|_| failed())?;
        }
        written += entries.len();
        match entries.last() {
            Some(last) if entries.len() >= EXPORT_STEP => query.before = Some(last.number),
            _ => break,
        }
    }
    let bytes = writer.into_inner().map_err(|_| failed())?;
    let reply = ServiceReply::new(Status::Ok).body("text/csv; charset=utf-8; header=present", bytes);
    Ok(reply.header("content-disposition", "attachment; filename=\"hailer-audit.csv\""))
}

/// A text that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        for text in ["", "a=1", "'=1", "1-1"] {
            assert_eq!(cell(text), text);
        }
    }
}
