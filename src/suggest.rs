//! The known name that somebody may have meant by one that is not known.

/// Names that are less alike than this are not suggested: the likeness from which on clap suggests a flag.
const LIKENESS_MIN: f64 = 0.7;

/// Characters of a name that is compared. What is longer is no mistyped name.
const CHARACTERS_MAX: usize = 64;

/// The name of `known` that is most like `name` (by the Jaro similarity, without regard to the case of ASCII letters),
/// the first of several. `None` if none of them is like it.
#[must_use]
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().count() > CHARACTERS_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let mut best = None;
    let mut most = LIKENESS_MIN;
    for known in known {
        let likeness = strsim::jaro(&name, &known.to_ascii_lowercase());
        if likeness > most {
            (best, most) = (Some(known), likeness);
        }
    }
    best
}

/// Names as a sentence lists them: `"a", "b" and "c"`.
#[cfg(any(test, feature = "api", feature = "config"))]
#[must_use]
pub(crate) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_nothing_is_suggested_for_a_name_that_is_like_none() {
        let known = ["secret", "secret_file", "issuer", "audience", "poll_window", "frame_bytes_max", "by"];
        let check = |name, expected| assert_eq!(nearest(name, known), expected, "{name}");
        check("secret", Some("secret"));
        check("secrte", Some("secret"));
        check("SecretFile", Some("secret_file"));
        check("audiance", Some("audience"));
        check("isuer", Some("issuer"));
        check("frame_byte_max", Some("frame_bytes_max"));
        check("frame_max", Some("frame_bytes_max"));
        check("pol_windw", Some("poll_window"));
        for unlike in ["", "foo", "x", "who", "port", "colour", "a\n\u{1b}[31mé", &"secret".repeat(20)] {
            check(unlike, None);
        }
        assert_eq!(nearest("anything", []), None);
    }

    #[test]
    fn of_names_that_are_equally_near_it_is_the_first() {
        assert_eq!(nearest("key", ["keys", "keyb"]), Some("keys"));
    }

    #[test]
    fn names_are_listed_in_a_sentence() {
        assert_eq!(listed(&[]), "");
        assert_eq!(listed(&["a"]), "\"a\"");
        assert_eq!(listed(&["a", "b", "c"]), "\"a\", \"b\" and \"c\"");
    }
}
