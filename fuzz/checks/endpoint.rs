/// Must hold for any input.
pub fn check(_data: &[u8]) {}
