//! Numbers as people read them: three digits that count, and a unit that fits.

/// What stands for a figure that there is none of.
pub(super) const NONE: &str = "–";

/// A whole number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that count.
pub(super) fn three(number: f64) -> String {
    // Each bound is where rounding would give one digit more than the form has.
    match number.abs() {
        _ if !number.is_finite() => NONE.to_owned(),
        0.0 => "0".to_owned(),
        size if size < 0.9995 => format!("{number:.3}"),
        size if size < 9.995 => format!("{number:.2}"),
        size if size < 99.95 => format!("{number:.1}"),
        _ if number >= 0.0 => count(number.round() as u64),
        _ => format!("-{}", count(-number.round() as u64)),
    }
}

/// A time that is given in microseconds.
pub(super) fn micros(micros: f64) -> String {
    match micros.abs() {
        _ if !micros.is_finite() => NONE.to_owned(),
        size if size < 999.5 => format!("{} µs", three(micros)),
        size if size < 999_500.0 => format!("{} ms", three(micros / 1e3)),
        _ => format!("{} s", three(micros / 1e6)),
    }
}

/// A time that is given in whole microseconds: what is below one is not told more exactly than it was measured.
pub(super) fn whole_micros(whole: u64) -> String {
    if whole < 1_000 { format!("{whole} µs") } else { micros(whole as f64) }
}

/// A size in bytes: to the byte where every byte counts.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        _ if !bytes.is_finite() => NONE.to_owned(),
        size if size < 9_999.5 => format!("{} B", three_or_whole(bytes)),
        size if size < 1_023.5 * 1024.0 => format!("{} KiB", three(bytes / 1024.0)),
        size if size < 1_023.5 * 1024.0 * 1024.0 => format!("{} MiB", three(bytes / 1024.0 / 1024.0)),
        _ => format!("{} GiB", three(bytes / 1024.0 / 1024.0 / 1024.0)),
    }
}

fn three_or_whole(number: f64) -> String {
    if number.fract() == 0.0 && number >= 0.0 { count(number as u64) } else { three(number) }
}

/// A number with its unit, without zeros that say nothing: for the ticks of an axis.
pub(super) fn short(text: &str) -> String {
    let (number, unit) = text.split_once(' ').map_or((text, None), |(number, unit)| (number, Some(unit)));
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    unit.map_or_else(|| number.to_owned(), |unit| format!("{number} {unit}"))
}

/// A share of one as percent.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", share * 100.0) } else { NONE.to_owned() }
}

/// A percentile's name: `p99.9`, and `max` for all.
pub(super) fn percentile(percent: f64) -> String {
    if percent >= 100.0 { "max".to_owned() } else { format!("p{percent}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_unit_that_fits() {
        for (number, expected) in [
            (0.0, "0 µs"),
            (0.067, "0.067 µs"),
            (0.37, "0.370 µs"),
            (0.9996, "1.00 µs"),
            (6.2049, "6.20 µs"),
            (9.996, "10.0 µs"),
            (99.96, "100 µs"),
            (999.4, "999 µs"),
            (999.6, "1.00 ms"),
            (125_000.0, "125 ms"),
            (999_600.0, "1.00 s"),
            (2_345_678_900.0, "2,346 s"),
            (f64::NAN, NONE),
            (f64::INFINITY, NONE),
        ] {
            assert_eq!(micros(number), expected, "{number}");
        }
        for (number, expected) in [(0, "0 µs"), (7, "7 µs"), (999, "999 µs"), (1_234, "1.23 ms")] {
            assert_eq!(whole_micros(number), expected);
        }
        for (number, expected) in [
            (0.0, "0 B"),
            (319.6, "320 B"),
            (1_700.0, "1,700 B"),
            (10_400.0, "10.2 KiB"),
            (1_047_900.0, "1,023 KiB"),
            (1_048_570.0, "1.00 MiB"),
            (3.0e9, "2.79 GiB"),
            (f64::NAN, NONE),
        ] {
            assert_eq!(bytes(number), expected, "{number}");
        }
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(number), expected);
        }
        for (number, expected) in [(-1.5, "-1.50"), (-1234.0, "-1,234"), (1_234.4, "1,234")] {
            assert_eq!(three(number), expected);
        }
        assert_eq!(percent(0.905), "90 %");
        assert_eq!(percent(f64::NAN), NONE);
        for (text, expected) in
            [("10.0 ms", "10 ms"), ("1.50 s", "1.5 s"), ("100 µs", "100 µs"), ("0", "0"), ("20", "20")]
        {
            assert_eq!(short(text), expected);
        }
        assert_eq!([50.0, 99.99, 100.0].map(percentile), ["p50", "p99.99", "max"]);
    }
}
