//! The known name that is nearest to one that a person has mistyped.

/// The name of `known` with the least edit distance to `name`, without regard to the case of ASCII letters; the
/// first of several. `None` if nothing is known.
#[must_use]
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    known.into_iter().min_by_key(|known| edit_distance(&name, &known.to_ascii_lowercase()))
}

/// Levenshtein distance in bytes; known names are ASCII.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitution = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["secret", "secret_file", "issuer", "audience"];
        let check = |name, expected| assert_eq!(nearest(name, known), Some(expected), "{name}");
        check("secret", "secret");
        check("secrte", "secret");
        check("SecretFile", "secret_file");
        check("audiance", "audience");
        check("", "secret");
        assert_eq!(nearest("anything", []), None);
    }
}
