//! A data message whose bytes are still arriving.

use super::ProtocolError;
use super::frame::DataKind;

/// Room that a first allocation has at least, unless the message is known to end below it. It spares the
/// many small steps of a peer that sends byte by byte.
const FIRST_CAPACITY: usize = 64;

/// The bytes of a data message so far, over all its fragments.
#[derive(Debug)]
pub(super) struct Assembly {
    kind: DataKind,
    bytes: Vec<u8>,
    /// How many of `bytes` are whole characters; up to three behind them may begin another. Text only.
    checked: usize,
    fragments: usize,
}

impl Assembly {
    pub(super) const fn new(kind: DataKind) -> Self {
        Self { kind, bytes: Vec::new(), checked: 0, fragments: 0 }
    }

    pub(super) const fn kind(&self) -> DataKind {
        self.kind
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many fragments have begun.
    pub(super) const fn fragments(&self) -> usize {
        self.fragments
    }

    pub(super) const fn begin_fragment(&mut self) {
        self.fragments += 1;
    }

    /// Adds bytes that have arrived. The buffer doubles when it is full, so the time is linear in the bytes
    /// however they are cut, but does not grow beyond `ceiling`, which the message can't exceed.
    ///
    /// # Errors
    /// The text can't be UTF-8, whatever follows. It is refused at the first such byte.
    pub(super) fn append(&mut self, piece: &[u8], ceiling: usize) -> Result<(), ProtocolError> {
        let needed = self.bytes.len() + piece.len();
        if needed > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2).max(FIRST_CAPACITY);
            let target = doubled.min(ceiling).max(needed);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        match self.kind {
            DataKind::Text => self.check_text(),
            DataKind::Binary => Ok(()),
        }
    }

    /// Looks at each byte once, except for the start of a character that is not complete.
    fn check_text(&mut self) -> Result<(), ProtocolError> {
        let unchecked = self.bytes.get(self.checked..).unwrap_or_default();
        match simdutf8::compat::from_utf8(unchecked) {
            Ok(_) => self.checked = self.bytes.len(),
            // Without a length the error is only that the bytes end too early.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::TextNotUtf8),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the text in one piece, in every two, and byte by byte. It must fail with the byte at `bad`, and
    /// with none before it.
    fn check(text: &[u8], bad: Option<usize>) {
        for end in 0..=text.len() {
            for cut in 0..=end {
                let mut assembly = Assembly::new(DataKind::Text);
                let result = assembly
                    .append(&text[..cut], text.len())
                    .and_then(|()| assembly.append(&text[cut..end], text.len()));
                assert_eq!(result.is_ok(), bad.is_none_or(|bad| end <= bad), "{text:x?} cut at {cut}, {end}");
            }
        }
        let mut bytewise = Assembly::new(DataKind::Text);
        let failed = text.iter().position(|byte| bytewise.append(&[*byte], text.len()).is_err());
        assert_eq!(failed, bad, "{text:x?} byte by byte");
    }

    #[test]
    fn text_fails_at_the_first_impossible_byte() {
        check("κόσμε, 🦀 and \u{10ffff}".as_bytes(), None);
        check(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80", Some(12)); // Autobahn 6.4.1
        check(b"plain\xff", Some(5));
        check(b"\x80", Some(0)); // no character begins so
        check(b"\xc0\x80", Some(0)); // overlong NUL
        check(b"\xc1\xbf", Some(0));
        check(b"\xe0\x9f\xbf", Some(1)); // overlong
        check(b"\xed\xa0\x80", Some(1)); // surrogate
        check(b"\xf0\x8f\xbf\xbf", Some(1)); // overlong
        check(b"\xf4\x90\x80\x80", Some(1)); // beyond U+10FFFF
        check(b"\xf5\x80\x80\x80", Some(0));
        check(b"\xe2\x82A", Some(2));
        check(b"\xf0\x9f\xa6A", Some(3));
        // Long enough for the vector code, with the error in its middle and at its end.
        check(&[&[b'a'; 100][..], b"\xff", &[b'b'; 50]].concat(), Some(100));
        check(&[&[b'a'; 127][..], b"\xed\xa0"].concat(), Some(128));
    }

    #[test]
    fn the_buffer_follows_what_has_arrived_and_stops_at_the_ceiling() {
        let mut assembly = Assembly::new(DataKind::Binary);
        let mut capacities = vec![assembly.capacity()];
        for arrived in 1..=1000 {
            assembly.append(&[0], 1000).unwrap();
            capacities.push(assembly.capacity());
            assert!(assembly.capacity() <= (2 * arrived).clamp(FIRST_CAPACITY, 1000), "{arrived}");
        }
        capacities.dedup();
        assert_eq!(capacities, [0, 64, 128, 256, 512, 1000]);
        let mut small = Assembly::new(DataKind::Binary);
        small.append(&[0], 10).unwrap();
        assert_eq!(small.capacity(), 10);
    }
}
