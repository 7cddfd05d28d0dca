//! Times in tokens: `exp`, `nbf`, `iat`.

use serde_json::Number;

use crate::auth::UnixTime;

/// The second that a NumericDate lies in. RFC 7519, section 2: it is a number of seconds since 1970, and may have a
/// fraction.
///
/// The fraction is dropped, since the clock that it is compared with has none: a token never outlives its `exp`, and
/// is good from the beginning of the second of its `nbf`. Times before 1970 count as 1970, and those that are too
/// far away for a [`UnixTime`] as its last.
pub(crate) fn seconds(number: &Number) -> UnixTime {
    // A conversion by `as` drops the fraction, and takes the nearest number that there is.
    number.as_u64().unwrap_or_else(|| number.as_f64().map_or(0, |seconds| seconds as UnixTime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_is_a_time() {
        let check = |text: &str, expected: UnixTime| {
            let number: Number = serde_json::from_str(text).expect("it is a number");
            assert_eq!(seconds(&number), expected, "{text}");
        };
        check("0", 0);
        check("1676937402", 1_676_937_402);
        // As lcobucci/jwt writes it.
        check("1676937402.387841", 1_676_937_402);
        check("1676937402.0", 1_676_937_402);
        check("1676937402.999999", 1_676_937_402);
        check("1.9e9", 1_900_000_000);
        check("19E+8", 1_900_000_000);
        check("16769374023e-1", 1_676_937_402);
        check("0.9999", 0);
        check("1e-400", 0);
        check("-0", 0);
        check("-0.0", 0);
        check("-0.5", 0);
        check("-1", 0);
        check("-1676937402.5", 0);
        check("-1e308", 0);
        check("9007199254740993", 9_007_199_254_740_993);
        check("18446744073709551615", UnixTime::MAX);
        check("18446744073709551616", UnixTime::MAX);
        check("1e19", 10_000_000_000_000_000_000);
        check("1e308", UnixTime::MAX);
        check(&"9".repeat(300), UnixTime::MAX);
        check(&format!("1676937402.{}", "9".repeat(5)), 1_676_937_402);
        check(&format!("1676937402.{}", "3".repeat(4000)), 1_676_937_402);
    }

    #[test]
    fn what_no_double_holds_is_no_number() {
        for text in ["1e400", "-1e400", &"9".repeat(400)] {
            assert!(serde_json::from_str::<Number>(text).is_err(), "{text}");
        }
    }
}
