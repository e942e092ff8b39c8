//! The parts of JSON that a reader of one level needs: blanks, scalars, strings.

use crate::digest::simd::string_stop;

pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Blank between JSON tokens; NUL too, which some writers pad with, and form feeds, which end pages of text.
pub const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0c | 0)
}

pub fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(byte) if is_blank(*byte) => at += 1,
            // Files that were appended to one another have marks in their middle.
            Some(0xef) if bytes[at..].starts_with(b"\xef\xbb\xbf") => at += 3,
            _ => return at,
        }
    }
}

/// Behind the comma at `at`, if there is one.
pub fn skip_comma(bytes: &[u8], at: usize) -> usize {
    let at = skip_blank(bytes, at);
    if bytes.get(at) == Some(&b',') { at + 1 } else { at }
}

pub fn scalar_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'+' | b'-' | b'.' | b'E'))
        .unwrap_or(bytes.len())
}

pub struct JsonString {
    pub start: usize,
    /// Behind the closing quote.
    pub end: usize,
    /// An escape in it.
    pub odd: bool,
    /// A byte below 0x20 in it.
    pub control: bool,
}

/// Reads the string whose opening quote is at `start`.
#[inline]
pub fn string(bytes: &[u8], start: usize) -> Option<JsonString> {
    let mut at = start + 1;
    let (mut odd, mut control) = (false, false);
    loop {
        let stop = string_stop(bytes, at)?;
        control |= stop.control;
        if bytes[stop.at] == b'"' {
            return Some(JsonString { start, end: stop.at + 1, odd, control });
        }
        odd = true;
        at = stop.at + 2;
    }
}
