//! Finds where a nested JSON value ends without parsing it.
//!
//! Most bytes of a sign-in log are subtrees that nobody asks for (policies, devices, locations). This walker reads
//! 64 bytes at a time into bit masks: quotes, backslashes, brackets. It knows strings, escapes and depth, and
//! nothing else of JSON's grammar; whoever needs the content parses it.

use super::simd::{self, BLOCK, Hints, Masks, Places};

/// What the walker says about the bytes it was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Walk {
    /// The value ends before this index.
    Closed(usize),
    /// The bytes ended first.
    Open,
    /// No valid JSON can go on like this: the value was cut, and a new one begins after the line end at this index.
    Cut(usize),
}

/// State of a walk; it may be fed block by block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walker {
    depth: u64,
    /// All ones while inside a string.
    in_string: u64,
    /// 1 if the next byte is escaped by a backslash at the end of the last block.
    escaped: u64,
    /// A byte below 0x20 stood inside a string: no valid JSON, though some writers do it.
    pub control_in_string: bool,
    /// The value is nested deeper than any log: at the end of some block more than [`DEPTH_MAX`] brackets were open.
    pub is_deep: bool,
}

/// Brackets that may be open at once. Real records nest about ten deep; parsers of whoever reads our events have limits
/// of this kind too.
const DEPTH_MAX: u64 = 128;

impl Walker {
    /// A walker that is inside a value already, behind its opening bracket.
    pub fn inside() -> Self {
        Self { depth: 1, ..Self::default() }
    }

    /// Walks on over `bytes`; the first bytes ever fed must open the value with `{` or `[`.
    pub fn feed(&mut self, bytes: &[u8]) -> Walk {
        simd::walk(self, bytes, None)
    }

    /// The same, and on the way notes in `hints` where the bytes from `at` on may spell something.
    pub fn feed_hinting(&mut self, bytes: &[u8], at: usize, hints: &mut Hints) -> Walk {
        simd::walk(self, &bytes[at..], Some((at, hints)))
    }

    /// The walk itself, for whatever instructions make the masks; inlined into a function that may use them.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "only inlined code may use the instructions of its caller")]
    pub(super) fn walk(
        &mut self,
        bytes: &[u8],
        masks: impl Fn(&[u8; BLOCK]) -> Masks,
        inside: impl Fn(u64) -> u64,
        mut note: impl FnMut(&Places, usize),
    ) -> Walk {
        let mut base = 0;
        while let Some(places) = bytes.get(base..base + BLOCK + 2) {
            let places: &Places = places.try_into().expect("the slice has the length of the places");
            note(places, base);
            let block = places.first_chunk().expect("places are a block and two bytes");
            match self.step(bytes, base, &masks(block), u64::MAX, &inside) {
                Walk::Open => base += BLOCK,
                done => return done,
            }
        }
        while base < bytes.len() {
            let rest = &bytes[base..];
            let mut places = [b' '; BLOCK + 2];
            places[..rest.len()].copy_from_slice(rest);
            note(&places, base);
            let block = places.first_chunk().expect("places are a block and two bytes");
            let valid = below(rest.len());
            match self.step(bytes, base, &masks(block), valid, &inside) {
                Walk::Open => base += BLOCK,
                done => return done,
            }
            if rest.len() < BLOCK && self.escaped != 0 && rest.last() != Some(&b'\\') {
                self.escaped = 0;
            }
        }
        Walk::Open
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of `walk`")]
    fn step(
        &mut self,
        bytes: &[u8],
        base: usize,
        masks: &Masks,
        valid: u64,
        inside: &impl Fn(u64) -> u64,
    ) -> Walk {
        let escaped = self.escaped_bytes(masks.backslash & valid, valid);
        let quotes = masks.quote & !escaped;
        let in_string = inside(quotes) ^ self.in_string;
        self.in_string = if in_string >> 63 == 1 { u64::MAX } else { 0 };
        if valid != u64::MAX {
            // The padding continues the state of the last real byte.
            let last = valid.ilog2();
            self.in_string = if in_string >> last & 1 == 1 { u64::MAX } else { 0 };
        }
        let control = masks.control & valid;
        if control != 0 {
            self.control_in_string |= control & in_string != 0;
            if let Some(line_end) = first_cut(bytes, base, control, in_string) {
                // A close before the cut wins: the line end then belongs to the next value.
                return match self.brackets(base, masks, in_string, valid & below(line_end - base)) {
                    Walk::Open => Walk::Cut(line_end),
                    closed => closed,
                };
            }
        }
        self.brackets(base, masks, in_string, valid)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of `walk`")]
    fn brackets(&mut self, base: usize, masks: &Masks, in_string: u64, valid: u64) -> Walk {
        let opens = masks.open & !in_string & valid;
        let closes = masks.close & !in_string & valid;
        let close_count = u64::from(closes.count_ones());
        if self.depth > close_count {
            self.depth = self.depth + u64::from(opens.count_ones()) - close_count;
            self.is_deep |= self.depth > DEPTH_MAX;
            return Walk::Open;
        }
        let mut brackets = opens | closes;
        while brackets != 0 {
            let bit = brackets.trailing_zeros();
            if opens >> bit & 1 == 1 {
                self.depth += 1;
            } else {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return Walk::Closed(base + bit as usize + 1);
                }
            }
            brackets &= brackets - 1;
        }
        Walk::Open
    }

    /// Which bytes of the block are escaped by an odd run of backslashes before them.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of `walk`")]
    fn escaped_bytes(&mut self, backslash: u64, valid: u64) -> u64 {
        if backslash == 0 {
            return std::mem::take(&mut self.escaped);
        }
        let mut escaped = self.escaped;
        let mut rest = backslash & !escaped;
        self.escaped = 0;
        while rest != 0 {
            let bit = rest.trailing_zeros();
            if bit == 63 || valid >> (bit + 1) & 1 == 0 {
                self.escaped = 1;
                break;
            }
            escaped |= 1 << (bit + 1);
            // The escaped byte, a backslash or not, is used up.
            rest &= !(0b11 << bit);
        }
        escaped
    }
}

/// The first line end in `control` at which the value must have been cut. In valid JSON no string holds a line
/// end, and a `{` at the start of a line follows a comma, a colon or an opening bracket.
fn first_cut(bytes: &[u8], base: usize, control: u64, in_string: u64) -> Option<usize> {
    let mut rest = control;
    while rest != 0 {
        let bit = rest.trailing_zeros();
        let at = base + bit as usize;
        rest &= rest - 1;
        if bytes[at] != b'\n' || !matches!(blanks_skipped(bytes[at + 1..].iter()), Some(b'{')) {
            continue;
        }
        let inside = in_string >> bit & 1 == 1;
        let before = blanks_skipped(bytes[..at].iter().rev());
        if inside || !matches!(before, Some(b',' | b':' | b'[')) {
            return Some(at);
        }
    }
    None
}

/// The first byte that is no blank, if it comes soon: a bounded look, so that a value full of blank lines stays cheap.
fn blanks_skipped<'a>(bytes: impl Iterator<Item = &'a u8>) -> Option<u8> {
    bytes.take(BLOCK).copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'))
}

const fn below(bit: usize) -> u64 {
    if bit >= 64 { u64::MAX } else { (1 << bit) - 1 }
}

/// Each bit becomes the parity of itself and all lower bits: between quotes the result is 1.
pub(super) const fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^= bits << 32;
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, one byte at a time and obviously right.
    fn slow(bytes: &[u8]) -> Walk {
        let (mut depth, mut in_string, mut escaped) = (0, false, false);
        for (at, &byte) in bytes.iter().enumerate() {
            if byte == b'\n' && first_cut(bytes, at, 1, u64::from(in_string)).is_some() {
                return Walk::Cut(at);
            }
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                in_string = !in_string;
            } else if !in_string && matches!(byte, b'{' | b'[') {
                depth += 1;
            } else if !in_string && matches!(byte, b'}' | b']') {
                depth -= 1;
                if depth == 0 {
                    return Walk::Closed(at + 1);
                }
            }
        }
        Walk::Open
    }

    #[track_caller]
    fn check(text: &str) {
        let expected = slow(text.as_bytes());
        for pad in [0, 1, 30, 62, 63, 64, 65, 127] {
            // The value grows by `pad` spaces after its first byte, so that every byte meets every block edge.
            let padded = format!("{}{}{}", &text[..1], " ".repeat(pad), &text[1..]);
            let expected = match expected {
                Walk::Closed(end) => Walk::Closed(end + pad),
                Walk::Cut(at) => Walk::Cut(at + pad),
                Walk::Open => Walk::Open,
            };
            assert_eq!(Walker::default().feed(padded.as_bytes()), expected, "{pad} {text:?}");
        }
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        check(r#"{"a":"}","b":"{[","c":{"d":[1,2,"]"]}} tail }"#);
        check(r#"{"a":"\"}","b":"\\"}, {"#);
        check(r#"{"a":"\\\"}}}\\","b":[{},{}]}"#);
    }

    #[test]
    fn an_open_value_is_open() {
        check(r#"{"a":{"b":"c"}"#);
        check(r#"{"a":"unterminated }"#);
        check(r#"{"a":"\"#);
    }

    #[test]
    fn a_line_cut_short_ends_where_the_next_value_begins() {
        check("{\"a\":\"cut in a string\n{\"b\":1}\n");
        check("{\"a\":{\"b\":2\n{\"b\":1}\n");
        check("[{\"a\":1},\n {\"b\":2}]");
        check("{\"a\":\n{\"b\":2}}");
        check("{\"a\":\"text\nover lines\"}");
    }

    #[test]
    fn a_walk_may_be_fed_in_pieces() {
        let text = r#"{"k":"\\\" } \\","n":[{"x":"]"},{"y":"\"{"}],"z":1}"#.repeat(3);
        let end = text.len() / 3;
        for cut in 1..end {
            let mut walker = Walker::default();
            assert_eq!(walker.feed(&text.as_bytes()[..cut]), Walk::Open, "{cut}");
            assert_eq!(walker.feed(&text.as_bytes()[cut..]), Walk::Closed(end - cut), "{cut}");
        }
    }
}
