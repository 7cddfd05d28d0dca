//! The client's mask (RFC 6455, section 5.3).

/// Takes the mask off `bytes`, the first of which stands at `offset` in the frame's payload.
pub(super) fn unmask(bytes: &mut [u8], mut key: [u8; 4], offset: usize) {
    key.rotate_left(offset % 4);
    let [a, b, c, d] = key;
    // Arrays of a fixed size let the compiler use its widest registers without a copy or unsafe code.
    let wide =
        [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
    let (chunks, rest) = bytes.as_chunks_mut::<32>();
    for chunk in chunks {
        for (byte, key) in chunk.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(wide) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_agrees_with_the_formula_of_the_standard() {
        let key = [0x6d, 0xb6, 0x00, 0x80];
        for len in 0..150 {
            for offset in 0..9 {
                let mut bytes: Vec<u8> = (0..len).collect();
                let expected: Vec<u8> =
                    bytes.iter().enumerate().map(|(i, byte)| byte ^ key[(i + offset) % 4]).collect();
                unmask(&mut bytes, key, offset);
                assert_eq!(bytes, expected, "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn an_offset_at_the_end_of_the_address_space_is_no_overflow() {
        let mut bytes = [1, 2];
        unmask(&mut bytes, [0, 0, 4, 8], usize::MAX - 1);
        assert_eq!(bytes, [5, 10]);
    }
}
