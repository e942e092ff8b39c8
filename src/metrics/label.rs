//! Label values: what may stand in one, and the values of one series written one behind the other.

use crate::code::Code;

/// What folds together when a table is full.
pub const OTHER: &str = "_other";

/// What an absent value is shown as: an empty label is the same as none to Prometheus.
pub const UNKNOWN: &str = "unknown";

/// Bytes of a label value from a log; Prometheus may be set to drop a whole scrape for a longer one.
const LABEL_BYTES: usize = 128;

/// Ends each value of a key. No value can hold it, so two label sets never have one key, and keys sort as label sets do.
const END: char = '\0';

/// The label values of one series. Reused, so that counting in a series that exists allocates nothing.
#[derive(Debug, Default)]
pub struct Key {
    text: String,
}

impl Key {
    pub fn clear(&mut self) {
        self.text.clear();
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The values of another key.
    pub fn all(&mut self, other: &Self) -> &mut Self {
        self.text.push_str(&other.text);
        self
    }

    /// A word of our own, of a rule or of Kafka.
    pub fn own(&mut self, value: &str) -> &mut Self {
        if value.contains(END) {
            self.text.extend(value.chars().map(|c| if c == END { char::REPLACEMENT_CHARACTER } else { c }));
        } else {
            self.text.push_str(value);
        }
        self.text.push(END);
        self
    }

    /// A value from a log, or from a configuration: bounded, without marks that deceive the eye, never empty.
    pub fn log(&mut self, value: &str) -> &mut Self {
        let start = self.text.len();
        let is_plain = value.len() <= LABEL_BYTES && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_plain {
            self.text.push_str(value);
        } else {
            tame(value, &mut self.text);
        }
        if self.text[start..].trim().is_empty() {
            self.text.truncate(start);
            self.text.push_str(UNKNOWN);
        }
        self.text.push(END);
        self
    }

    pub fn code(&mut self, code: Code) -> &mut Self {
        let (prefix, number) = match code {
            Code::Aadsts(number) => ("AADSTS", number),
            Code::Aadb2c(number) => ("AADB2C", number),
            Code::Named(name) => return self.own(name),
            Code::Unknown => return self.own(UNKNOWN),
            Code::None => return self.own("none"),
        };
        self.text.push_str(prefix);
        self.number(number.into())
    }

    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut buffer = [0; DIGITS];
        self.text.push_str(digits(number, &mut buffer));
        self.text.push(END);
        self
    }

    /// Puts `_other` in the place of one value.
    pub fn fold(&mut self, position: usize) {
        let start = prefix(&self.text, position).len();
        let end = prefix(&self.text, position + 1).len() - END.len_utf8();
        self.text.replace_range(start..end, OTHER);
    }
}

/// The first `count` values of a key, with their ends.
pub fn prefix(key: &str, count: usize) -> &str {
    match count.checked_sub(1) {
        None => "",
        Some(last) => key.match_indices(END).nth(last).map_or(key, |(at, _)| &key[..=at]),
    }
}

/// The values of a key.
pub fn values(key: &str) -> impl Iterator<Item = &str> {
    key.split_terminator(END)
}

/// Digits of the largest `u64`.
pub const DIGITS: usize = 20;

/// A number as text; the standard library's formatting is the larger half of a scrape's time otherwise.
pub fn digits(mut number: u64, buffer: &mut [u8; DIGITS]) -> &str {
    let mut start = DIGITS;
    loop {
        start -= 1;
        buffer[start] = b'0' + u8::try_from(number % 10).expect("one digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&buffer[start..]).expect("digits are text")
}

fn tame(value: &str, out: &mut String) {
    let room = out.len() + LABEL_BYTES;
    for c in value.chars() {
        let c = if is_deceptive(c) { char::REPLACEMENT_CHARACTER } else { c };
        if out.len() + c.len_utf8() > room {
            break;
        }
        out.push(c);
    }
}

/// Control characters, and the invisible ones that reorder or join what stands around them.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &str) {
        let mut key = Key::default();
        key.log(value);
        assert_eq!(values(key.as_str()).collect::<Vec<_>>(), [expected], "{value:?}");
    }

    #[test]
    fn hostile_values_become_tame_labels() {
        check("", "unknown");
        check("  ", "unknown");
        check(" \u{202e} ", " \u{fffd} ");
        check("a\nb\0c", "a\u{fffd}b\u{fffd}c");
        check("x\u{2066}\u{61c}\u{2028}\u{feff}y", "x\u{fffd}\u{fffd}\u{fffd}\u{fffd}y");
        check("Zoë's \"app\" \\", "Zoë's \"app\" \\");
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        check(&"a".repeat(500), &"a".repeat(128));
        check(&format!("a{}", "é".repeat(500)), &format!("a{}", "é".repeat(63)));
        check(&"\u{1}".repeat(500), &"\u{fffd}".repeat(42));
    }

    #[test]
    fn values_keep_their_borders() {
        let mut key = Key::default();
        key.own("a\0b").own("").code(Code::Aadsts(50076)).number(0).number(u64::MAX);
        let all = ["a\u{fffd}b", "", "AADSTS50076", "0", "18446744073709551615"];
        assert_eq!(values(key.as_str()).collect::<Vec<_>>(), all);
        assert_eq!(values(prefix(key.as_str(), 2)).collect::<Vec<_>>(), all[..2]);
        key.fold(1);
        key.fold(4);
        assert_eq!(
            values(key.as_str()).collect::<Vec<_>>(),
            ["a\u{fffd}b", OTHER, "AADSTS50076", "0", OTHER]
        );
    }
}
