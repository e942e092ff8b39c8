//! Finds spelled codes in raw bytes.
//!
//! The scanner knows how codes are spelled, not what they mean. Letters and digits of a code are never escaped by JSON,
//! URLs or HTML (`domain` §2.6), so raw bytes are enough. It reads the whole run of digits: real codes are prefixes
//! of one another, and a longer one must never be booked on a shorter.
//!
//! What stands before `AADSTS` does not matter: no hexadecimal id can spell it, and logs glue it to what they wrote
//! before (`invalid_grantAADSTS…`). `AADB2C` counts only where a word begins.

use std::ops::Range;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind, StartKind, packed};
use memchr::memmem;

use super::simd::next_triple;

use crate::code::{Code, TEXT_DIGITS, parse_digits};

/// Codes found in one record or text entry, each once, in order of appearance.
#[derive(Clone, Debug, Default)]
pub struct Mentions {
    pub codes: Vec<Code>,
    /// How many of `codes` were spelled with their prefix or as a literal; the rest are numbers of `error_codes`.
    spelled: Vec<Code>,
    /// Runs of digits behind a prefix that cannot be a code.
    pub malformed: u64,
}

impl Mentions {
    pub fn clear(&mut self) {
        self.codes.clear();
        self.spelled.clear();
        self.malformed = 0;
    }

    pub fn add(&mut self, code: Code) {
        if !self.codes.contains(&code) {
            self.codes.push(code);
        }
    }

    fn spell(&mut self, code: Code) {
        self.add(code);
        // The last one spelled is the diagnosis, so a repetition moves to the end.
        self.spelled.retain(|spelled| *spelled != code);
        self.spelled.push(code);
    }

    /// The code that says why (law 3): the last AADSTS code that is no umbrella, else the last umbrella, else
    /// AADB2C, else the longest literal.
    pub fn primary(&self, is_umbrella: impl Fn(Code) -> bool) -> Option<Code> {
        let last =
            |wanted: &dyn Fn(Code) -> bool| self.spelled.iter().rev().copied().find(|code| wanted(*code));
        last(&|code| matches!(code, Code::Aadsts(_)) && !is_umbrella(code))
            .or_else(|| last(&|code| matches!(code, Code::Aadsts(_))))
            .or_else(|| last(&|code| matches!(code, Code::Aadb2c(_))))
            .or_else(|| {
                let literal = |code: &Code| match code {
                    Code::Named(name) => Some(*name),
                    _ => None,
                };
                self.spelled.iter().filter_map(literal).max_by_key(|name| name.len()).map(Code::Named)
            })
    }

    fn has_aadsts(&self) -> bool {
        self.spelled.iter().any(|code| matches!(code, Code::Aadsts(_)))
    }

    pub fn has_spelled(&self) -> bool {
        !self.spelled.is_empty()
    }
}

#[derive(Clone, Copy, Debug)]
enum Spelling {
    Aadsts,
    Aadb2c,
    Literal(&'static str),
}

/// The array that errors of the token service carry beside their text.
const ERROR_CODES: &[u8] = b"error_codes";

/// Build one per catalogue and share it: building is slow, scanning is not.
#[derive(Debug)]
pub struct Scanner {
    automaton: AhoCorasick,
    spellings: Vec<Spelling>,
    hints: Hints,
    error_codes: memmem::Finder<'static>,
}

impl Scanner {
    /// A scanner for the prefixes and for the literals that the catalogue asks for.
    pub fn new(literals: &[&'static str]) -> Self {
        let mut spellings = vec![Spelling::Aadsts, Spelling::Aadb2c];
        spellings.extend(literals.iter().copied().map(Spelling::Literal));
        let patterns = spellings.iter().map(|spelling| match spelling {
            Spelling::Aadsts => "aadsts",
            Spelling::Aadb2c => "aadb2c",
            Spelling::Literal(name) => name,
        });
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            .start_kind(StartKind::Anchored)
            // Asked only where a hint points, so quick to build beats quick to run.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(patterns)
            .expect("a few hundred short literals are within every limit of the automaton");
        let error_codes = memmem::Finder::new(ERROR_CODES);
        Self { automaton, spellings, hints: Hints::new(literals), error_codes }
    }

    /// Finds what `bytes` spell.
    pub fn scan(&self, bytes: &[u8], mentions: &mut Mentions) {
        let mut from = 0;
        let mut has_code = false;
        while let Some(hint) = self.hints.next(bytes, from) {
            from = hint.next;
            let input = Input::new(bytes).range(hint.begin..).anchored(Anchored::Yes);
            let Some(found) = self.automaton.find(input) else { continue };
            from = from.max(match self.spellings[found.pattern().as_usize()] {
                Spelling::Aadsts => {
                    has_code = true;
                    aadsts(bytes, found.end(), mentions)
                }
                Spelling::Aadb2c => aadb2c(bytes, found.range(), mentions),
                Spelling::Literal(name) => literal(bytes, found.range(), name, mentions),
            });
        }
        if has_code && mentions.has_aadsts() {
            self.error_codes_of(bytes, mentions);
        }
    }

    /// Finds the codes that a sign-in spells; the names of other products' errors do not occur there. `hints` are the
    /// places to look at, as [`triples`] gives them; a place may come twice, and some may lie behind the end.
    pub fn scan_sign_in(bytes: &[u8], hints: impl Iterator<Item = usize> + Clone, mentions: &mut Mentions) {
        let mut from = 0;
        let mut has_code = false;
        for at in hints.clone() {
            if at < from {
                continue;
            }
            from = at + 1;
            let behind = at + "AADSTS".len();
            if has_word(bytes, at, b"aadsts") {
                has_code = true;
                from = aadsts(bytes, behind, mentions);
            } else if has_word(bytes, at, b"aadb2c") {
                from = aadb2c(bytes, at..behind, mentions);
            }
        }
        if has_code && mentions.has_aadsts() {
            from = 0;
            for at in hints {
                if at < from {
                    continue;
                }
                from = at + 1;
                let start = at.checked_sub("error_".len());
                let is_key = start
                    .and_then(|start| bytes.get(start..))
                    .is_some_and(|rest| rest.starts_with(ERROR_CODES));
                if is_key {
                    error_codes(&bytes[at + "codes".len()..], mentions);
                }
            }
        }
    }

    fn error_codes_of(&self, bytes: &[u8], mentions: &mut Mentions) {
        self.error_codes
            .find_iter(bytes)
            .for_each(|at| error_codes(&bytes[at + ERROR_CODES.len()..], mentions));
    }

    /// Whether a sign-in record that says success at its first level must be parsed all the same: it spells a code of
    /// Entra's, or an `errorCode` in it is not plainly zero. Power BI's names do not occur in sign-ins.
    /// `hints` are the places to look at, as [`triples`] gives them.
    pub fn needs_parse(bytes: &[u8], mut hints: impl Iterator<Item = usize>) -> bool {
        hints.any(|at| {
            let is_key =
                at.checked_sub("error".len()).is_some_and(|start| has_word(bytes, start, b"errorcode"));
            is_key && !is_zero_member(&bytes[at + "code".len()..])
                || PREFIXES.iter().any(|prefix| has_word(bytes, at, prefix))
        })
    }
}

/// Every place in `bytes` where a code may be spelled.
pub fn triples(bytes: &[u8]) -> impl Iterator<Item = usize> + Clone {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = next_triple(bytes, from)?;
        from = at + 1;
        Some(at)
    })
}

const PREFIXES: [&[u8]; 2] = [b"aadsts", b"aadb2c"];

/// Whether `word` stands at `at`, in any letter case.
fn has_word(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    bytes.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
}

/// `AADB2C` is made of hexadecimal digits alone, so ids spell it by chance; those are no codes.
fn aadb2c(bytes: &[u8], found: Range<usize>, mentions: &mut Mentions) -> usize {
    let length = digits(bytes, found.end);
    if length == 0 {
        // Its last letter may be the first one of a name.
        return found.end - 1;
    }
    let end = found.end + length;
    if !is_hex_id(bytes, found.start..end) {
        match parse_digits(&bytes[found.end..end]) {
            Some(number) => mentions.spell(Code::Aadb2c(number)),
            None => mentions.malformed += 1,
        }
    }
    end
}

/// Whether what stands in `range` is only a part of a longer word, a hash or a GUID.
fn is_hex_id(bytes: &[u8], range: Range<usize>) -> bool {
    let (before, after) = (&bytes[..range.start], &bytes[range.end..]);
    let is_hex_group =
        |group: &[u8]| matches!(group, [b'-', digits @ .., b'-'] if digits.iter().all(u8::is_ascii_hexdigit));
    let continues = before.last().is_some_and(u8::is_ascii_alphanumeric) && !ends_in_escape(before);
    continues
        || after.first().is_some_and(u8::is_ascii_hexdigit)
        // The middle groups of a GUID have four digits: one of them stands beside its first and its last group.
        || before.last_chunk::<6>().is_some_and(|group| is_hex_group(group))
        || after.first_chunk::<6>().is_some_and(|group| is_hex_group(group))
}

/// Whether the letter or digit at the end belongs to an escape: `\n`, `\u0022`, `%20`, `%2520`.
fn ends_in_escape(before: &[u8]) -> bool {
    let follows = |length: usize, is_part: fn(&u8) -> bool, marks: &[&[u8]]| {
        let Some(start) = before.len().checked_sub(length) else { return false };
        let (head, tail) = before.split_at(start);
        tail.iter().all(is_part) && marks.iter().any(|mark| head.ends_with(mark))
    };
    follows(1, |byte| b"nrtbf".contains(byte), &[b"\\", b"%5c", b"%5C"])
        || follows(2, u8::is_ascii_hexdigit, &[b"%", b"%25", b"\\x"])
        || follows(4, u8::is_ascii_hexdigit, &[b"\\u", b"%u", b"%5cu", b"%5Cu"])
}

/// A literal is a whole word, in the letter case of its product.
fn literal(bytes: &[u8], found: Range<usize>, name: &'static str, mentions: &mut Mentions) -> usize {
    let goes_on = bytes.get(found.end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if goes_on || &bytes[found.clone()] != name.as_bytes() {
        // Another one may begin in it.
        return found.start;
    }
    mentions.spell(Code::Named(name));
    found.end
}

/// Reads the digits behind `AADSTS` and the codes that MSAL.NET joins to it; gives the index behind them.
fn aadsts(bytes: &[u8], at: usize, mentions: &mut Mentions) -> usize {
    let length = digits(bytes, at);
    if length == 0 {
        return at - 1;
    }
    let mut end = at + length;
    let Some(number) = parse_digits(&bytes[at..end]) else {
        mentions.malformed += 1;
        return end;
    };
    mentions.spell(Code::Aadsts(number));
    for number in joined(bytes, at, &mut end) {
        mentions.spell(Code::Aadsts(number));
    }
    end
}

/// What stands before the codes in MSAL.NET's log, its prefix included.
const PHRASE: &[u8] = b"error code aadsts";

/// The codes of MSAL.NET's scrubbed log, `Error Code AADSTS70002 50012`: joined by single blanks, only the first with
/// the prefix, nothing behind them on the line. Elsewhere a number behind a code is just a number.
fn joined(bytes: &[u8], at: usize, end: &mut usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut reach = *end;
    while bytes.get(reach) == Some(&b' ') {
        let length = digits(bytes, reach + 1);
        // Every known code has five digits or more; four are a year as often as not.
        let Some(number) = (length >= 5).then(|| parse_digits(&bytes[reach + 1..=reach + length])).flatten()
        else {
            break;
        };
        numbers.push(number);
        reach += 1 + length;
    }
    let before = &bytes[at.saturating_sub(PHRASE.len())..at];
    let says_error_code = before.eq_ignore_ascii_case(PHRASE);
    let ends_line = matches!(
        bytes.get(reach),
        None | Some(
            b'\r'
                | b'\n'
                | b'"'
                | b'\''
                | b'\\'
                | b'<'
                | b'&'
                | b'%'
                | b'.'
                | b','
                | b':'
                | b';'
                | b')'
                | b']'
        )
    );
    if numbers.is_empty() || !(says_error_code || ends_line) {
        return Vec::new();
    }
    *end = reach;
    numbers
}

fn digits(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Reads the numbers of `error_codes:[…]`, which may be escaped as JSON in JSON, HTML or URL.
fn error_codes(bytes: &[u8], mentions: &mut Mentions) {
    /// Between the key and its bracket stand a quote, a colon and blanks, escaped at most three deep.
    const GAP: usize = 32;
    /// Codes of one error; the STS writes one or two.
    const NUMBERS: usize = 16;
    let gap = &bytes[..bytes.len().min(GAP)];
    let Some(open) =
        gap.iter().position(|byte| *byte == b'[').map(|at| at + 1).or_else(|| {
            gap.windows(3).position(|window| window.eq_ignore_ascii_case(b"%5b")).map(|at| at + 3)
        })
    else {
        return;
    };
    if gap[..open.saturating_sub(3)].iter().any(|byte| matches!(byte, b',' | b'}' | b'{')) {
        return;
    }
    let mut at = open;
    for _ in 0..NUMBERS {
        while let Some(b' ' | b',' | b'\n' | b'\r' | b'\t' | b'"' | b'\\') = bytes.get(at) {
            // An escaped line end is two bytes.
            let is_escape = bytes[at] == b'\\' && matches!(bytes.get(at + 1), Some(b'n' | b'r' | b't'));
            at += 1 + usize::from(is_escape);
        }
        if bytes[at..].len() >= 3 && bytes[at..at + 3].eq_ignore_ascii_case(b"%2c") {
            at += 3;
        }
        let length = digits(bytes, at);
        if length == 0 {
            return;
        }
        parse_digits(&bytes[at..at + length])
            .into_iter()
            .for_each(|number| mentions.add(Code::Aadsts(number)));
        at += length;
    }
}

/// Whether the bytes behind a key's last letter say `": 0`.
fn is_zero_member(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"\"") else { return false };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b":") else { return false };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"0") else { return false };
    matches!(rest.first(), Some(b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
}

/// A fast look for places that could spell something: rare letters of every spelling, by SIMD.
///
/// It may say yes too often and never no too often; what it points at is read by the automaton.
#[derive(Debug)]
struct Hints {
    searcher: Option<Searcher>,
    /// Of each fragment: how far into its spelling it stands.
    offsets: Vec<usize>,
    /// Does the same where the processor lacks what the searcher needs.
    slow: AhoCorasick,
}

/// A place that may spell something.
#[derive(Clone, Copy, Debug)]
struct Hint {
    /// From where to look on: fragments may overlap.
    next: usize,
    /// Where the spelling would begin.
    begin: usize,
}

impl Hints {
    fn new(literals: &[&'static str]) -> Self {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        let mut offsets = Vec::new();
        // The middle of AADSTS and AADB2C in every letter case: rarer than their first letters.
        for fragment in [b"dst", b"db2"] {
            for upper in 0..8u8 {
                let cased: Vec<u8> = fragment
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| if upper >> at & 1 == 1 { byte.to_ascii_uppercase() } else { *byte })
                    .collect();
                if !patterns.contains(&cased) {
                    patterns.push(cased);
                    offsets.push(2);
                }
            }
        }
        for literal in literals {
            let fragment = literal.as_bytes()[..literal.len().min(6)].to_vec();
            if !patterns.contains(&fragment) {
                patterns.push(fragment);
                offsets.push(0);
            }
        }
        let searcher = packed::Config::new().builder().extend(&patterns).build();
        let slow = AhoCorasick::new(&patterns).expect("a few dozen short fragments are within every limit");
        Self { searcher, offsets, slow }
    }

    /// The next place from `from` on.
    fn next(&self, bytes: &[u8], from: usize) -> Option<Hint> {
        let found = match &self.searcher {
            Some(searcher) => searcher.find_in(bytes, (from..bytes.len()).into())?,
            None => self.slow.find(Input::new(bytes).range(from..))?,
        };
        let begin = found.start().saturating_sub(self.offsets[found.pattern().as_usize()]);
        Some(Hint { next: found.start() + 1, begin })
    }
}

/// Longest spelling with its digits; consecutive chunks of a value that is scanned in chunks overlap by it.
pub const OVERLAP: usize = 128 + *TEXT_DIGITS.end();

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner() -> Scanner {
        Scanner::new(&[
            "DMTS_OAuthTokenRefreshFailedError",
            "DMTS_OAuth",
            "ModelRefresh_ShortMessage_ProcessingError",
        ])
    }

    fn found(text: &str) -> Mentions {
        let mut mentions = Mentions::default();
        scanner().scan(text.as_bytes(), &mut mentions);
        mentions
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let codes: Vec<String> = found(text).codes.iter().map(ToString::to_string).collect();
        assert_eq!(codes.join(" "), expected, "in {text:?}");
    }

    #[track_caller]
    fn primary(text: &str, expected: &str) {
        let primary = found(text).primary(|code| code == Code::Aadsts(70002));
        assert_eq!(primary.map(|code| code.to_string()).unwrap_or_default(), expected, "in {text:?}");
    }

    #[test]
    fn a_longer_code_is_not_cut_at_a_shorter_one() {
        check("AADSTS70002: a", "AADSTS70002");
        check("AADSTS700021: b", "AADSTS700021");
        check("AADSTS7000215: c", "AADSTS7000215");
    }

    #[test]
    fn every_escaping_and_letter_case_is_read() {
        check(r#"{\"error_description\":\"aadsts50020: x"#, "AADSTS50020");
        check("error_description=AaDsTs70002%3a+Error.AADSTS50012%3a", "AADSTS70002 AADSTS50012");
        check(
            "&#34;AADSTS7000215: Invalid&#34;,&#34;error_codes&#34;:[7000215, 70002]",
            "AADSTS7000215 AADSTS70002",
        );
        check("AADB2C90091%3a+cancelled", "AADB2C90091");
    }

    #[test]
    fn other_lengths_are_malformed() {
        check("AADSTS991 AADSTS00000 AADSTS700021512345 AADSTS", "");
        assert_eq!(found("AADSTS991 AADSTS00000 AADSTS700021512345 AADSTS: x").malformed, 3);
    }

    #[test]
    fn msal_net_joins_codes_by_blanks() {
        check("Microsoft Entra ID Error Code AADSTS70002 50012\n", "AADSTS70002 AADSTS50012");
        check("AADSTS70002 50012", "AADSTS70002 AADSTS50012");
        check("AADSTS50126 12345 rows", "AADSTS50126");
        check("AADSTS50126 2026", "AADSTS50126");
    }

    #[test]
    fn error_codes_count_only_beside_a_spelled_code() {
        check(r#"{"error_codes":[70002,50012]}"#, "");
        check(r#"{"error_codes":[70002,50012],"d":"AADSTS: x AADSTS12"}"#, "");
        check(r#"{"error_codes":[70002,50012],"d":"AADSTS70002: x"}"#, "AADSTS70002 AADSTS50012");
        check(r#"{\"error_codes\":[70002,\n 50012],\"d\":\"AADSTS70002: x\"}"#, "AADSTS70002 AADSTS50012");
        check("error_codes%22%3a%5b50012%5d AADSTS70002", "AADSTS70002 AADSTS50012");
    }

    #[test]
    fn ids_that_spell_aadb2c_by_chance_are_no_codes() {
        for id in [
            "aadb2c90118f42d18c0a52c4f0c5a9d1e",
            "faadb2c90118",
            "0aadb2c90118",
            "6d3c1f0e-8a4b-4c55-9f3e-aadb2c901181",
            "aadb2c90-8a4b-4c55-9f3e-0123456789ab",
            "xAADB2C90118",
        ] {
            check(id, "");
            check(&format!("AADSTS50126 {id}"), "AADSTS50126");
            assert_eq!(found(id).malformed, 0, "{id}");
            let mut mentions = Mentions::default();
            let bytes = format!("{{\"id\":\"{id}\"}}").into_bytes();
            Scanner::scan_sign_in(&bytes, triples(&bytes), &mut mentions);
            assert_eq!((mentions.codes.len(), mentions.malformed), (0, 0), "{id}");
        }
    }

    #[test]
    fn hints_behind_the_end_are_passed_over() {
        let record = br#"{"error":"AADSTS50126","error_codes":[50034]}, {"error_codes":[50053]}"#;
        let (first, _) = record.split_at(record.iter().position(|byte| *byte == b'}').unwrap() + 1);
        let mut mentions = Mentions::default();
        Scanner::scan_sign_in(first, triples(record), &mut mentions);
        assert_eq!(mentions.codes, [Code::Aadsts(50_126), Code::Aadsts(50_034)]);
    }

    #[test]
    fn an_escape_before_a_code_is_no_part_of_it() {
        for before in [
            "", "-", "_", ": ", r"\n", r"\\n", r"\u0022", "%20", "%3A", "%253a", "%5Cn", "&quot;", "&#34;",
            "2026-",
        ] {
            check(&format!("{before}AADB2C90118"), "AADB2C90118");
            check(&format!("{before}AADB2C90118: x"), "AADB2C90118");
        }
        check("AADB2C90118-2026", "AADB2C90118");
        check("n20AADB2C90118", "");
    }

    #[test]
    fn aadsts_is_a_code_inside_a_longer_word_too() {
        check("invalid_grantAADSTS50126", "AADSTS50126");
        check("1AADSTS50126x", "AADSTS50126");
    }

    #[test]
    fn literals_are_whole_words_and_the_longest_wins() {
        check("DMTS_OAuthTokenRefreshFailedError", "DMTS_OAuthTokenRefreshFailedError");
        check("DMTS_OAuthTokenRefreshFailedErrors", "");
        check("DMTS_OAuth:", "DMTS_OAuth");
    }

    #[test]
    fn a_name_behind_the_beginning_of_another_is_found() {
        let scanner = Scanner::new(&["DMTS_UserNotFound", "UserDoesNotBelong"]);
        let mut mentions = Mentions::default();
        scanner.scan(b"DMTS_UserDoesNotBelong", &mut mentions);
        assert_eq!(mentions.codes, [Code::Named("UserDoesNotBelong")]);
        // Behind the beginning of a prefix; in a name that goes on.
        let scanner = Scanner::new(&["CrossRequest", "SomeError", "UserNot", "NotFound"]);
        let mut mentions = Mentions::default();
        scanner.scan(b"AADB2CrossRequest AADSTSomeError UserNotFound", &mut mentions);
        let expected = ["CrossRequest", "SomeError", "NotFound"].map(Code::Named);
        assert_eq!((&mentions.codes[..], mentions.malformed), (&expected[..], 0));
    }

    #[test]
    fn the_last_specific_code_is_the_diagnosis() {
        primary("AADSTS70002: x. AADSTS50012: y", "AADSTS50012");
        primary("AADSTS50012: y AADSTS70002: x", "AADSTS50012");
        primary("AADSTS70002 alone", "AADSTS70002");
        primary("DMTS_OAuth ModelRefresh_ShortMessage_ProcessingError AADB2C90091", "AADB2C90091");
        primary(
            "DMTS_OAuth ModelRefresh_ShortMessage_ProcessingError",
            "ModelRefresh_ShortMessage_ProcessingError",
        );
        primary("nothing", "");
    }

    #[test]
    fn only_a_plain_zero_spares_the_parse() {
        for (text, needed) in [
            (r#"{"status":{"errorCode":0,"x":1}}"#, false),
            (r#"{"status":{"errorCode": 0}}"#, false),
            (r#"{"status":{"errorCode":50126}}"#, true),
            (r#"{"status":"{\"errorCode\":0}"}"#, true),
            (r#"{"status":{"errorCode":"0"}}"#, true),
            (r#"{"x":"AADSTS50126"}"#, true),
            (r#"{"x":"aAdStS50126"}"#, true),
            (r#"{"x":"plain"}"#, false),
        ] {
            assert_eq!(Scanner::needs_parse(text.as_bytes(), triples(text.as_bytes())), needed, "{text}");
        }
    }
}
