//! The scanner of raw bytes beside slow searches of the same text.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use aadstream::catalogue::Catalogue;
use aadstream::code::Code;
use aadstream::digest::scan::{Mentions, Scanner, triples};

static LITERALS: LazyLock<Vec<&'static str>> = LazyLock::new(|| Catalogue::embedded().literals().to_vec());
static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::new(&LITERALS));
pub fn check(bytes: &[u8]) {
    // Bytes beyond ASCII spell nothing, whatever they are.
    let text: String =
        bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
    let mut mentions = Mentions::default();
    SCANNER.scan(text.as_bytes(), &mut mentions);
    let mut of_raw = Mentions::default();
    SCANNER.scan(bytes, &mut of_raw);
    assert_eq!((&mentions.codes, mentions.malformed), (&of_raw.codes, of_raw.malformed), "of other bytes");

    let spelled = numbers("aadsts", &text);
    let found: BTreeSet<u32> = mentions.codes.iter().filter_map(aadsts).collect();
    let missed: Vec<&u32> = spelled.good.difference(&found).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
    // The others stand behind one, joined or in `error_codes`.
    let all: BTreeSet<u32> =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|run| run.parse().ok()).collect();
    assert!(found.is_subset(&all), "{found:?} of {all:?}");
    assert!(!spelled.good.is_empty() || found.is_empty(), "{found:?} beside no code");

    let b2c = numbers("aadb2c", &text);
    let found_b2c: BTreeSet<u32> = mentions.codes.iter().filter_map(aadb2c).collect();
    assert!(found_b2c.is_subset(&b2c.good), "{found_b2c:?} of {:?}", b2c.good);
    let malformed = spelled.bad..=spelled.bad + b2c.bad;
    assert!(malformed.contains(&mentions.malformed), "{} malformed of {malformed:?}", mentions.malformed);

    literals(&text, &mentions);
    sign_in(bytes, &mentions);
}

struct Numbers {
    good: BTreeSet<u32>,
    bad: u64,
}

/// Whatever digits stand behind a prefix, in either case.
fn numbers(prefix: &str, text: &str) -> Numbers {
    let mut numbers = Numbers { good: BTreeSet::new(), bad: 0 };
    let text = text.to_ascii_lowercase();
    for (start, _) in text.match_indices(prefix) {
        let behind = &text[start + prefix.len()..];
        let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        let digits = &behind[..end];
        match digits.parse() {
            Ok(number) if (4..=8).contains(&digits.len()) && !digits.starts_with('0') => {
                numbers.good.insert(number);
            }
            _ if digits.is_empty() => {}
            _ => numbers.bad += 1,
        }
    }
    numbers
}

/// Every name that stands at the end of a word is found, and no other.
fn literals(text: &str, mentions: &Mentions) {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for name in &*LITERALS {
        let stands = words.iter().any(|word| word.ends_with(name));
        let is_found = mentions.codes.contains(&Code::Named(name));
        assert_eq!(is_found, stands, "{name}");
    }
}

/// The quicker scan of sign-ins finds the same numbers, and whatever it finds makes a record be parsed.
fn sign_in(bytes: &[u8], mentions: &Mentions) {
    let mut found = Mentions::default();
    Scanner::scan_sign_in(bytes, triples(bytes), &mut found);
    let of = |codes: &[Code]| {
        codes.iter().filter(|code| !matches!(code, Code::Named(_))).copied().collect::<Vec<_>>()
    };
    assert_eq!(of(&found.codes), of(&mentions.codes), "of a sign-in");
    assert_eq!(found.malformed, mentions.malformed, "malformed in a sign-in");
    assert!(found.codes.is_empty() || Scanner::needs_parse(bytes, triples(bytes)), "found, and not parsed");
}

fn aadsts(code: &Code) -> Option<u32> {
    if let Code::Aadsts(number) = code { Some(*number) } else { None }
}

fn aadb2c(code: &Code) -> Option<u32> {
    if let Code::Aadb2c(number) = code { Some(*number) } else { None }
}
