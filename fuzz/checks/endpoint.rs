/// Must hold for any input.
pub(super) fn check(_data: &[u8]) {}
