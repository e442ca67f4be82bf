//! An input of several parts.

/// Stands between the parts. No text in UTF-8 has it, so that seeds can be read.
const BETWEEN: u8 = 0xFF;

/// The parts of an input; missing ones are empty.
pub fn fields<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |byte| *byte == BETWEEN);
    [(); N].map(|()| parts.next().unwrap_or_default())
}

/// All the parts, as texts.
pub fn texts(input: &[u8]) -> Vec<String> {
    let parts = input.split(|byte| *byte == BETWEEN);
    parts.map(text).collect()
}

/// As far as it is text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
