//! Where a stream of lines may be cut so that both sides hold whole messages.

use memchr::memrchr_iter;

use crate::digest::frame::token::skip_blank;
use crate::digest::resume::{is_stray, last_before};

/// Line ends that are tried from the end of a block; where all of them are inside a value, the block is no lines.
const TRIES: usize = 64;

/// The index behind the last line end of `block` that no message goes across.
///
/// In valid JSON a line that begins with `{` follows a comma, a colon or an opening bracket, or begins a new value;
/// so any other line end before a `{` is safe. In text any line end is, unless the next line looks like the inside
/// of an indented value.
pub fn last_safe(block: &[u8]) -> Option<usize> {
    let starts_as_text = !matches!(block.trim_ascii_start().first(), Some(b'{' | b'['));
    memrchr_iter(b'\n', block).take(TRIES).find(|&at| is_safe(block, at, starts_as_text)).map(|at| at + 1)
}

fn is_safe(block: &[u8], at: usize, starts_as_text: bool) -> bool {
    let Some(next) = block.get(at + 1) else { return false };
    match next {
        b'{' => {
            let before = last_before(block, at);
            !matches!(before, None | Some(b',' | b':' | b'[' | b'{')) && !is_stray(block, at + 1)
        }
        b'}' | b'[' | b']' | b'"' | b',' | b':' => false,
        // What a mark at the end of a line opens or goes on with, only what follows can tell.
        _ => {
            let is_apart = || !matches!(last_before(block, at), Some(b'[' | b'{' | b',' | b':'));
            starts_as_text && skip_blank(block, at + 1) == at + 1 && is_apart()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(block: &str, left: Option<&str>) {
        let cut = last_safe(block.as_bytes()).map(|at| &block[..at]);
        assert_eq!(cut, left, "in {block:?}");
    }

    #[test]
    fn values_on_lines_are_cut_between_them() {
        check("{\"a\":1}\n{\"b\":2}\n{\"c\"", Some("{\"a\":1}\n{\"b\":2}\n"));
        check("{\"a\":1}\r\n{\"b\":2}\r\n", Some("{\"a\":1}\r\n"));
    }

    #[test]
    fn no_cut_inside_a_value() {
        check("[\n{\"a\":1},\n{\"b\":2},\n", None);
        check("{\n\"a\": 1,\n\"b\": {\n\"c\": 2\n", None);
        check("{\"a\":\n{\"b\":1\n}\n,", None);
        check("{\"a\":1,\"b\":[1,\u{feff}\n{}]}", None);
        check("[{\n \"a\": {\n  \"b\": 1\n{ },\n \"c\"", None);
    }

    #[test]
    fn text_is_cut_at_lines() {
        check("2026-01-01 a\n2026-01-01 b\n2026", Some("2026-01-01 a\n2026-01-01 b\n"));
        check("text\n  at indented\n  at more", None);
        check("text\n\0\"k\":1}\ntext\n", Some("text\n\0\"k\":1}\n"));
        check("text\n\0\"k\":1}", None);
        check("text\n\u{feff}\"k\":1}", None);
        check("text\nmore\n[\n\nmore", Some("text\n"));
        check("\0\n[\n\nmore", None);
        check("text\n{\"a\"\n:1,\"b\":[1,\n2],\"c\":\ntrue}", Some("text\n"));
        check("Error:\nmore\nof it,\nlast", Some("Error:\nmore\n"));
    }
}
