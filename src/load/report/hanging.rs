//! Text that is broken between words, below its beginning.

/// Breaks `text` between words, so that no line has more than `width` characters: the first line stands behind `first`
/// other characters, and `indent` blanks before all others. A word that is longer has a line of its own.
pub(crate) fn hanging(text: &str, first: usize, indent: usize, width: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = first;
    let mut begins = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if begins {
            column += length;
        } else if column + 1 + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent + length;
        } else {
            out.push(' ');
            column += 1 + length;
        }
        out.push_str(word);
        begins = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_below_its_beginning() {
        assert_eq!(hanging("one two three", 2, 2, 9), "one two\n  three");
        assert_eq!(hanging("one two three", 2, 2, 8), "one\n  two\n  three");
        assert_eq!(hanging("one  two", 0, 1, 80), "one  two");
        assert_eq!(hanging("a\u{e4}\u{e4}\u{e4}\u{e4} b", 0, 0, 5), "a\u{e4}\u{e4}\u{e4}\u{e4}\nb");
        assert_eq!(hanging("extraordinary a", 0, 4, 6), "extraordinary\n    a");
        assert_eq!(hanging("", 3, 3, 10), "");
        assert_eq!(hanging("as it is", 9, 9, usize::MAX), "as it is");
    }
}
