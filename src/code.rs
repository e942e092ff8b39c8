//! A reason code: what it is, how it is spelled and read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

/// Digits that a code in text may have (`domain`: all known codes have 5, 6 or 7; one more each way is tolerated).
pub const TEXT_DIGITS: std::ops::RangeInclusive<usize> = 4..=8;

/// Why something failed, in the words of the service that refused it. Ordered as shown to people.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Code {
    /// Microsoft Entra: `AADSTS` and a number.
    Aadsts(u32),
    /// Azure AD B2C and External ID: `AADB2C` and a number.
    Aadb2c(u32),
    /// A literal of the catalogue: Power BI's, the gateway's and Fabric's own names.
    Named(&'static str),
    /// One of too many distinct codes without a rule; only in counts.
    Unknown,
    /// A failure that spells no code.
    None,
}

impl Code {
    /// Reads exactly one code as people type it: `AADSTS50076`, `aadsts50076:`, `50076`, `AADB2C90091`.
    /// Literals are the catalogue's to know.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.trim().trim_end_matches([':', '.', ',', ';']);
        let lower = word.to_ascii_lowercase();
        let number = |digits: &str| parse_digits(digits.as_bytes());
        if let Some(digits) = lower.strip_prefix("aadsts") {
            number(digits).map(Self::Aadsts)
        } else if let Some(digits) = lower.strip_prefix("aadb2c") {
            number(digits).map(Self::Aadb2c)
        } else {
            number(&lower).map(Self::Aadsts)
        }
    }

    /// Names have none.
    pub const fn number(self) -> Option<u32> {
        match self {
            Self::Aadsts(number) | Self::Aadb2c(number) => Some(number),
            Self::Named(_) | Self::Unknown | Self::None => None,
        }
    }

    /// The code of the same kind with this number; what has no number stays as it is.
    #[must_use]
    pub const fn renumbered(self, number: u32) -> Self {
        match self {
            Self::Aadsts(_) => Self::Aadsts(number),
            Self::Aadb2c(_) => Self::Aadb2c(number),
            other => other,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aadsts(number) => f.pad(&format!("AADSTS{number}")),
            Self::Aadb2c(number) => f.pad(&format!("AADB2C{number}")),
            Self::Named(name) => f.pad(name),
            Self::Unknown => f.pad("unknown"),
            Self::None => f.pad("none"),
        }
    }
}

/// A whole run of digits as a code's number; `None` for a length outside [`TEXT_DIGITS`] or a leading zero.
pub fn parse_digits(digits: &[u8]) -> Option<u32> {
    if !TEXT_DIGITS.contains(&digits.len()) || digits[0] == b'0' {
        return None;
    }
    digits
        .iter()
        .try_fold(0u32, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

/// Gives a literal the life of the program, once per distinct name, so that [`Code`] stays a small copy.
///
/// Names come from rule files only, so what is kept is bounded by the catalogues ever loaded.
pub fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().expect("no code panics while it holds this lock");
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = Box::leak(name.into());
    names.insert(name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_typing_a_code_is_read() {
        for word in ["50076", "AADSTS50076", "aadsts50076", "AadSts50076:", " 50076 "] {
            assert_eq!(Code::parse(word), Some(Code::Aadsts(50076)), "{word:?}");
        }
        assert_eq!(Code::parse("aadb2c90091"), Some(Code::Aadb2c(90091)));
    }

    #[test]
    fn other_lengths_and_leading_zeros_are_no_codes() {
        for word in ["991", "AADSTS123456789", "00050076", "AADSTS00000", "AADSTS", "hello", ""] {
            assert_eq!(Code::parse(word), None, "{word:?}");
        }
    }
}
