//! Times as people write and read them.

use maud::{Markup, html};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use crate::desk::UnixMillis;

const SHOWN: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
const MACHINE: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
/// What `<input type="datetime-local">` sends; some browsers add seconds.
const TYPED: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute][optional [:[second]]]");

/// Minutes by which local times may differ from UTC, on any island.
const OFFSET_MINUTES_MAX: i64 = 15 * 60;

fn written(at: UnixMillis, format: &[BorrowedFormatItem<'_>]) -> Option<String> {
    let nanos = i128::from(at) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(format).ok()
}

/// A time for programs, as in `2026-11-23T04:00:00.000Z`; empty beyond the year 9999.
pub(super) fn machine(at: UnixMillis) -> String {
    written(at, MACHINE).unwrap_or_default()
}

/// A time on a page. The script shows it as the browser's own.
pub(super) fn shown(at: UnixMillis) -> Markup {
    html! { time datetime=(machine(at)) { (written(at, SHOWN).unwrap_or_else(|| "–".to_owned())) } }
}

/// The time that was typed. `offset` is how many minutes UTC is ahead of the browser, as its script says; without one
/// the time is in UTC.
pub(super) fn typed(text: &str, offset: &str) -> Option<UnixMillis> {
    let local = PrimitiveDateTime::parse(text, TYPED).ok()?;
    let ahead = if offset.is_empty() { 0 } else { offset.parse::<i64>().ok()? };
    if ahead.abs() > OFFSET_MINUTES_MAX {
        return None;
    }
    let utc = local.checked_add(Duration::minutes(ahead))?.assume_utc();
    UnixMillis::try_from(utc.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people_and_programs() {
        let text = shown(1_795_406_400_250).into_string();
        let expected = r#"<time datetime="2026-11-23T04:00:00.250Z">2026-11-23 04:00:00 UTC</time>"#;
        assert_eq!(text, expected);
        assert_eq!(shown(u64::MAX).into_string(), r#"<time datetime="">–</time>"#);
    }

    #[test]
    fn typed_times_are_local_where_the_offset_is_known() {
        for (text, offset, expected) in [
            ("2026-11-23T04:00", "", Some(1_795_406_400_000)),
            ("2026-11-23T05:00", "-60", Some(1_795_406_400_000)),
            ("2026-11-22T22:00:30", "360", Some(1_795_406_430_000)),
            ("1970-01-01T00:00", "0", Some(0)),
            ("1970-01-01T00:00", "-60", None),
            ("2026-11-23T04:00", "901", None),
            ("2026-11-23T04:00", "x", None),
            ("2026-02-30T04:00", "", None),
            ("2026-11-23 04:00", "", None),
            ("9999-12-31T23:59", "900", None),
            ("", "", None),
        ] {
            assert_eq!(typed(text, offset), expected, "{text} {offset}");
        }
    }
}
