//! Paths as segments.
//!
//! Paths are compared as Plug compares them: by their segments, without the empty ones, so that a slash too many in
//! someone's setting (`wss://example.com/` + `/socket`, or `proxy_pass http://backend/socket/` behind `location /ws`)
//! leads where it was meant to. Everything else of a segment counts as it was sent: `%2F` stays a part of it, and `.` and
//! `..` are names like any other.

use std::borrow::Cow;

use super::syntax::split;

/// The segments of a path that are not empty.
pub fn segments(path: &str) -> impl Iterator<Item = &str> {
    split(path, b'/').filter(|segment| !segment.is_empty())
}

/// Returns true if both paths have the same segments.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || segments(one).eq(segments(other))
}

/// The one spelling of a path that all others of the same segments have: a slash before each. Whoever routes a request
/// and whoever decides what it may do are to see this one. What does not begin with a slash is left as it is.
#[must_use]
pub fn canonical(path: &str) -> Cow<'_, str> {
    if !path.starts_with('/') || path == "/" || !(path.ends_with('/') || path.contains("//")) {
        return Cow::Borrowed(path);
    }
    let mut whole = String::with_capacity(path.len());
    for segment in segments(path) {
        whole.push('/');
        whole.push_str(segment);
    }
    if whole.is_empty() { Cow::Borrowed("/") } else { Cow::Owned(whole) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_segments_are_dropped_and_nothing_else() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("///", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("//a///b//", "/a/b"),
            ("/a%2F%2Fb", "/a%2F%2Fb"),
            ("/a/%2f/b", "/a/%2f/b"),
            ("/./a/../b", "/./a/../b"),
            ("//../a", "/../a"),
            ("/a;/b", "/a;/b"),
            ("/%20/ ", "/%20/ "),
            ("//evil.example/a", "/evil.example/a"),
            ("/\\/a", "/\\/a"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(canonical(path), expected, "{path}");
            assert!(is_same(path, expected));
        }
        for (one, other) in [("/a", "/b"), ("/a", "/a/b"), ("/a%2Fb", "/a/b"), ("/a", "/A"), ("/a/..", "/")] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_path_and_its_canonical_spelling_are_the_same(path in "/[a./%é]{0,12}", other in "/[a./]{0,4}") {
            let spelled = canonical(&path);
            prop_assert_eq!(canonical(&spelled), &*spelled);
            prop_assert!(is_same(&path, &spelled) && spelled.starts_with('/') && !spelled.contains("//"));
            prop_assert!(segments(&path).eq(segments(&spelled)));
            prop_assert_eq!(is_same(&path, &other), spelled == canonical(&other));
        }
    }
}
