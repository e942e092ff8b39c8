//! What somebody asks `explain`: codes that were typed, or the failures that a pasted text tells.
//!
//! A log must not be read more generously than its contract says; a person who pastes something may be. So the text goes
//! through the same middle as every log first, and only where that finds nothing, numbers count that stand where
//! people and portals write a code without its prefix.

use std::sync::Arc;

use regex_lite::Regex;
use rustc_hash::FxHashSet;

use crate::catalogue::Catalogue;
use crate::catalogue::problem::did_you_mean_any;
use crate::catalogue::render::Told;
use crate::code::{Code, parse_digits};
use crate::digest::event::{Event, EventOptions};
use crate::digest::scan::{Mentions, Scanner};
use crate::digest::{Admission, Framing, Input, Middle, Options, Position};
use crate::terms::{Category, Flow, Outcome};

/// What the arguments came to.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Question {
    /// A text was pasted, rather than codes typed.
    pub is_pasted: bool,
    /// At least one, each once.
    pub failures: Vec<Failure>,
}

/// One code that was typed, or one failure of a text.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Failure {
    pub primary: Code,
    /// Of a text: distinct codes in order of appearance, the primary one included.
    pub mentions: Vec<Code>,
    pub told: Told,
}

impl Failure {
    fn of(primary: Code) -> Self {
        Self { primary, mentions: Vec::new(), told: Told::default() }
    }

    /// The mentions beside the primary code.
    pub(super) fn others(&self) -> impl Iterator<Item = Code> {
        self.mentions.iter().copied().filter(|code| *code != self.primary)
    }
}

/// Finds out what is asked, or says in one line why nothing is.
pub(super) fn ask(catalogue: &Arc<Catalogue>, arguments: &[String]) -> Result<Question, String> {
    let text = joined(arguments.join(" ").trim());
    let typed = typed(catalogue, arguments).or_else(|| code_of(catalogue, &text).map(|code| vec![code]));
    if let Some(codes) = typed {
        let failures = codes.into_iter().map(Failure::of).collect();
        return Ok(Question { is_pasted: false, failures });
    }
    let (mut failures, has_success) = told(catalogue, &text);
    if failures.is_empty() {
        failures.extend(spelled(catalogue, &text).or_else(|| numbered(catalogue, &text)));
    }
    match failures.as_slice() {
        [] if has_success => Err("the text is the record of a success, and no code stands in it".to_owned()),
        [] => Err(no_code(catalogue, &text)),
        _ => Ok(Question { is_pasted: true, failures }),
    }
}

/// Several arguments of which each is a code, or one that lists bare numbers.
fn typed(catalogue: &Catalogue, arguments: &[String]) -> Option<Vec<Code>> {
    let is_listed = |c: char| c.is_ascii_digit() || c.is_whitespace() || matches!(c, ',' | ';');
    let words: Vec<&str> = match arguments {
        [list] if list.chars().all(is_listed) => list.split([' ', '\t', '\n', '\r', ',', ';']).collect(),
        arguments => arguments.iter().map(String::as_str).collect(),
    };
    let mut codes = Vec::new();
    for word in words.into_iter().filter(|word| !word.trim().is_empty()) {
        let code = code_of(catalogue, word)?;
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    (!codes.is_empty()).then_some(codes)
}

/// The code that `word` is: in any spelling, a literal in any letter case, or Microsoft's name if only one rule has it.
fn code_of(catalogue: &Catalogue, word: &str) -> Option<Code> {
    let word = word.trim().trim_end_matches([':', '.', ',', ';']);
    let is_word = |name: &str| name.eq_ignore_ascii_case(word);
    let literal =
        || catalogue.literals().iter().find(|literal| is_word(literal)).map(|name| Code::Named(name));
    let by_name = || {
        let mut named = catalogue.rules().filter(|rule| rule.name.as_deref().is_some_and(is_word));
        named.next().filter(|_| named.next().is_none()).map(|rule| rule.code)
    };
    Code::parse(word).or_else(literal).or_else(by_name)
}

/// The text with prefix and digits of a code together: people write `AADSTS 50126`, `aadsts-50126` and `AADSTS: 50126`.
fn joined(text: &str) -> String {
    let apart = Regex::new(r"(?i)\b(aadsts|aadb2c)(?:[\s:#_-]|error|code){1,12}([1-9][0-9]{3,7})\b");
    apart.expect("the expression is well formed").replace_all(text, "$1$2").into_owned()
}

/// The failures that the middle finds in the text, each once, and whether it holds a success.
fn told(catalogue: &Arc<Catalogue>, text: &str) -> (Vec<Failure>, bool) {
    let options = Options { events: Some(EventOptions::default()), ..Options::default() };
    let middle = Middle::new(Arc::clone(catalogue), options);
    let mut digest = middle.digest(&[Input {
        payload: Some(text.as_bytes()),
        framing: Framing::Message,
        timestamp_ms: None,
        source: Position::default(),
    }]);
    digest.admit(&middle, |_| Admission::New);
    let mut seen = FxHashSet::default();
    let mut failures: Vec<Failure> =
        digest.events.iter().filter_map(|event| failure(catalogue, event)).collect();
    failures.retain(|failure| seen.insert(failure.clone()));
    let has_success = digest.tally.records.iter().any(|outcomes| outcomes[Outcome::Success as usize] > 0);
    (failures, has_success)
}

fn failure(catalogue: &Catalogue, event: &Event) -> Option<Failure> {
    let mentions: Vec<Code> = event.mentions.iter().filter_map(|code| catalogue.find(code)).collect();
    let speaks_of_refreshes = |code: &Code| {
        matches!(code, Code::Named(_))
            && catalogue.rule(*code).is_some_and(|rule| rule.category == Category::Refresh)
    };
    let flow = match Flow::parse(event.flow) {
        // Of unknown origin for a log; but nobody else writes Power BI's own names.
        Some(Flow::Text) | None => mentions.iter().any(speaks_of_refreshes).then_some(Flow::Refresh),
        told => told,
    };
    let primary = catalogue.find(&event.code)?;
    Some(Failure { primary, mentions, told: Told { flow, variant: event.variant } })
}

/// What the text spells without being a failure: a success that mentions codes, for one.
fn spelled(catalogue: &Catalogue, text: &str) -> Option<Failure> {
    let mut mentions = Mentions::default();
    Scanner::new(catalogue.literals()).scan(text.as_bytes(), &mut mentions);
    let primary = mentions.primary(|code| catalogue.umbrella(code))?;
    Some(Failure { mentions: mentions.codes, ..Failure::of(primary) })
}

/// Numbers where a code may stand without its prefix: in the address of Microsoft's page any, behind a key that ends in
/// `code` (or `resultType`) those with a rule. Other services number their errors too.
fn numbered(catalogue: &Catalogue, text: &str) -> Option<Failure> {
    let page = Regex::new(r"(?i)/error(?:\?|%3f)\S*?code(?:=|%3d)([0-9]+)");
    // Between key and number stand quotes, colons, brackets and blanks, also escaped for JSON, URLs or HTML.
    let key = Regex::new(
        r"(?ix)(?:codes?|result\s?type)
          (?:[^0-9a-z%&\\] | \\u00[0-9a-f]{2} | \\ | %[0-9a-f]{2} | &\#?[a-z0-9]+;){1,12}
          ((?:[0-9]+[\s,]*)+)",
    );
    let [page, key] = [page, key].map(|expression| expression.expect("the expression is well formed"));
    let code = |digits: &str| parse_digits(digits.as_bytes()).map(Code::Aadsts);
    let on_page = page.captures_iter(text).filter_map(|found| code(&found[1]));
    let mut mentions = Mentions::default();
    on_page.for_each(|code| mentions.add(code));
    for found in key.captures_iter(text) {
        let numbers = found[1].split(|c: char| !c.is_ascii_digit()).filter_map(code);
        numbers.filter(|code| catalogue.is_known(*code)).for_each(|code| mentions.add(code));
    }
    let codes = mentions.codes;
    let primary = codes.iter().rev().find(|code| !catalogue.umbrella(**code)).or(codes.last()).copied()?;
    Some(Failure { mentions: codes, ..Failure::of(primary) })
}

/// Why `text` is no question, and what would be one.
fn no_code(catalogue: &Catalogue, text: &str) -> String {
    if text.is_empty() {
        return "the text is empty; give a code or an error message".to_owned();
    }
    if text.contains(|c: char| !c.is_alphanumeric() && !"_-.:".contains(c)) {
        let mut numbers = text.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(|word| {
            parse_digits(word.as_bytes()).map(Code::Aadsts).filter(|code| catalogue.is_known(*code))
        });
        let hint = numbers
            .next_back()
            .map(|code| format!("; if a number in it is one, try `aadstream explain {code}`"));
        return format!("the text spells no AADSTS code{}", hint.unwrap_or_default());
    }
    let lower = text.to_ascii_lowercase();
    let digits = ["aadsts", "aadb2c"].iter().find_map(|prefix| lower.strip_prefix(prefix)).unwrap_or(&lower);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("`{text}` is no code: a code has 4 to 8 digits and no leading zero");
    }
    let near: Vec<Code> = catalogue.nearest(text).iter().map(|rule| rule.code).collect();
    if near.is_empty() {
        return format!(
            "`{text}` is no code and spells none; `aadstream rules list {text}` searches the rules"
        );
    }
    format!("`{text}` is no code and spells none{}", did_you_mean_any(&near))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};

    const USER: Code = Code::Aadsts(50034);
    const MFA: Code = Code::Aadsts(50076);
    const UMBRELLA: Code = Code::Aadsts(70002);

    fn sample() -> Arc<Catalogue> {
        let umbrella = rule_file("AADSTS70002", "C").replace("transient", "umbrella = true\ntransient");
        let named = rule_file("AADSTS50076", "B").replace("tier", "name = \"StrongAuthRequired\"\ntier");
        Arc::new(catalogue_of(&[
            ("AADSTS50034", rule_file("AADSTS50034", "A")),
            ("AADSTS50076", named),
            ("AADSTS70002", umbrella),
            ("DM_GWPipeline", rule_file("DM_GWPipeline", "E").replace("\"mfa\"", "\"refresh\"")),
        ]))
    }

    fn asked(arguments: &[&str]) -> Result<Question, String> {
        ask(&sample(), &arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check_typed(arguments: &[&str], expected: &[Code]) {
        let failures = expected.iter().map(|code| Failure::of(*code)).collect();
        assert_eq!(asked(arguments), Ok(Question { is_pasted: false, failures }), "of {arguments:?}");
    }

    #[track_caller]
    fn check_pasted(text: &str, primary: Code, mentions: &[Code], flow: Option<Flow>) {
        let told = Told { flow, variant: None };
        let failure = Failure { primary, mentions: mentions.to_vec(), told };
        assert_eq!(asked(&[text]), Ok(Question { is_pasted: true, failures: vec![failure] }), "of {text:?}");
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(asked(&[text]), Err(expected.to_owned()), "of {text:?}");
    }

    #[test]
    fn every_spelling_of_a_code_asks_for_it() {
        let spellings = ["50076", "AADSTS50076", "aadsts50076:", " 50076\n", "strongauthrequired"];
        let apart =
            ["AADSTS 50076", "aadsts-50076", "AADSTS: 50076", "AADSTS_50076.", "AADSTS error code 50076"];
        for text in spellings.into_iter().chain(apart) {
            check_typed(&[text], &[MFA]);
        }
        check_typed(&["AADSTS", "50076"], &[MFA]);
        check_typed(&["dm_gwpipeline"], &[Code::Named("DM_GWPipeline")]);
        check_typed(&["99999"], &[Code::Aadsts(99999)]);
        check_typed(&["aadb2c 90118"], &[Code::Aadb2c(90118)]);
    }

    #[test]
    fn several_codes_are_each_asked_for_once() {
        check_typed(&["50076", "aadsts50034:", "50076"], &[MFA, USER]);
        check_typed(&["50076, 50034\n70002"], &[MFA, USER, UMBRELLA]);
        check_typed(&["dm_gwpipeline", "99999"], &[Code::Named("DM_GWPipeline"), Code::Aadsts(99999)]);
    }

    #[test]
    fn a_pasted_message_asks_for_its_diagnosis_and_keeps_every_mention() {
        let text = "AADSTS70002: Error. AADSTS50034: no user; AADSTS70002";
        check_pasted(text, USER, &[UMBRELLA, USER], None);
        check_pasted("AADSTS50034 AADSTS50076", MFA, &[USER, MFA], None);
        check_pasted("error:AADSTS50034.", USER, &[USER], None);
        check_pasted("Refused\r\nwith AADSTS 50034,\n\nplease help", USER, &[USER], None);
        check_pasted(
            "{\"error_description\":\"AADSTS70002 x\",\"error_codes\":[70002,50034]",
            UMBRELLA,
            &[UMBRELLA, USER],
            None,
        );
    }

    #[test]
    fn a_pasted_record_tells_its_flow() {
        let record = |more: &str| format!("{{\n  \"resultType\": \"50034\",\n  {more}\n}}");
        let flows = [
            ("\"category\": \"ServicePrincipalSignInLogs\"", Flow::ServicePrincipal),
            ("\"category\": \"SignInLogs\"", Flow::Interactive),
        ];
        for (category, flow) in flows {
            check_pasted(&record(category), USER, &[USER], Some(flow));
        }
        let gateway = "{\"code\":\"DM_GWPipeline\",\"message\":\"AADSTS50034: no user\"}";
        check_pasted(gateway, USER, &[Code::Named("DM_GWPipeline"), USER], Some(Flow::Refresh));
    }

    #[test]
    fn each_failure_of_a_text_is_asked_for_once() {
        let record = |code| format!("{{\"category\":\"SignInLogs\",\"resultType\":\"{code}\"}}\n");
        let text: String = [50034, 0, 50076, 50034].map(record).concat();
        let primaries: Vec<Code> =
            asked(&[&text]).unwrap().failures.iter().map(|failure| failure.primary).collect();
        assert_eq!(primaries, [USER, MFA]);
    }

    #[test]
    fn numbers_count_where_people_write_codes() {
        for text in [
            "https://login.microsoftonline.com/error?code=50034",
            "<https://login.microsoftonline.com/error?lc=1033&amp;code=50034&amp;x=1>",
            "https%3A%2F%2Flogin.microsoftonline.com%2Ferror%3Fcode%3D50034",
            r"see https://login.microsoftonline.us/error?x=1\u0026code=50034\u0026y=2",
            "Sign-in error code: 50034\nFailure reason: x",
            "{\"error_codes\": [\n 50034\n]}",
            "resultType 50034, and the port is 50076",
            "ErrorCode=&quot;50034&quot;",
        ] {
            check_pasted(text, USER, &[USER], None);
        }
        check_pasted(
            "https://login.microsoftonline.com/error?code=99999",
            Code::Aadsts(99999),
            &[Code::Aadsts(99999)],
            None,
        );
        check_pasted("{\"error_codes\":[50034,70002]}", USER, &[USER, UMBRELLA], None);
        check_refused("{\"errorCode\":\"404104\"}", "the text spells no AADSTS code");
    }

    #[test]
    fn a_text_without_a_code_is_refused_in_one_line() {
        check_refused("", "the text is empty; give a code or an error message");
        check_refused("123", "`123` is no code: a code has 4 to 8 digits and no leading zero");
        check_refused(
            "AADSTS123456789",
            "`AADSTS123456789` is no code: a code has 4 to 8 digits and no leading zero",
        );
        check_refused(
            "hello",
            "`hello` is no code and spells none; `aadstream rules list hello` searches the rules",
        );
        check_refused(
            "DM_GWPipelin",
            "`DM_GWPipelin` is no code and spells none; did you mean DM_GWPipeline?",
        );
        check_refused(
            "StrongAuthRequierd",
            "`StrongAuthRequierd` is no code and spells none; did you mean AADSTS50076?",
        );
        check_refused("no code here", "the text spells no AADSTS code");
        check_refused(
            "Sign-in error 50034",
            "the text spells no AADSTS code; if a number in it is one, try `aadstream explain AADSTS50034`",
        );
        check_refused(
            "{\"category\":\"SignInLogs\",\"resultType\":\"0\"}",
            "the text is the record of a success, and no code stands in it",
        );
    }
}
