//! `aadstream explain`: says what a code, or a pasted error message, means.

use std::fmt::Write as _;
use std::io::{self, Read};

use anyhow::Context;
use serde_json::{Value, json};

use super::terminal;
use crate::catalogue::problem::nearest_word;
use crate::catalogue::{Catalogue, render};
use crate::cli::{ExplainArgs, ExplainFormat};
use crate::code::{Code, parse_digits};
use crate::config::Settings;
use crate::digest::scan::{Mentions, Scanner};
use crate::exit_code::{Exit, ExitError};

/// A pasted message is a screen or two; a log file is for `scan`.
const INPUT_BYTES_MAX: u64 = 16 << 20;

/// What the arguments came to.
#[derive(Debug, Eq, PartialEq)]
enum Question {
    /// One code was typed.
    Code(Code),
    /// A text with at least one code was pasted: distinct codes in order of appearance.
    Text { primary: Code, mentions: Vec<Code> },
}

pub fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    super::exit_on_interrupt();
    let text = if args.text == ["-"] { read_stdin()? } else { args.text.join(" ") };
    let catalogue = Settings::load_optional(args.config.as_deref())?.catalogue()?;
    explain(&catalogue, &text, args.format)
}

/// Answers `text` from the rules in force.
pub fn explain(catalogue: &Catalogue, text: &str, format: ExplainFormat) -> anyhow::Result<Exit> {
    let question = ask(catalogue, text).map_err(|message| ExitError::new(Exit::UnknownCode, message))?;
    let primary = match &question {
        Question::Code(code) | Question::Text { primary: code, .. } => *code,
    };
    let answer = match format {
        ExplainFormat::Text => text_answer(catalogue, &question),
        ExplainFormat::Markdown => markdown_answer(catalogue, &question),
        ExplainFormat::Json => format!("{:#}\n", json_answer(catalogue, &question)),
    };
    terminal::print(&answer)?;
    if catalogue.is_known(primary) {
        return Ok(Exit::Done);
    }
    Err(ExitError::new(Exit::UnknownCode, unknown(catalogue, primary)))
}

fn read_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut bytes).context("cannot read stdin")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds out what is asked, or says in one line why nothing is.
fn ask(catalogue: &Catalogue, text: &str) -> Result<Question, String> {
    let text = text.trim();
    if let Some(code) = Code::parse(text) {
        return Ok(Question::Code(code));
    }
    let is_name = |name: &str| name.eq_ignore_ascii_case(text.trim_end_matches([':', '.', ',', ';']));
    if let Some(literal) = catalogue.literals().iter().find(|literal| is_name(literal)) {
        return Ok(Question::Code(Code::Named(literal)));
    }
    let mut mentions = Mentions::default();
    Scanner::new(catalogue.literals()).scan(text.as_bytes(), &mut mentions);
    if let Some(primary) = mentions.primary(|code| catalogue.umbrella(code)) {
        return Ok(Question::Text { primary, mentions: mentions.codes });
    }
    // Microsoft's symbolic name is no key, but if it is all that somebody has, it leads to the code.
    let mut named = catalogue.rules().filter(|rule| rule.name.as_deref().is_some_and(is_name));
    match (named.next(), named.next()) {
        (Some(rule), None) => Ok(Question::Code(rule.code)),
        _ => Err(no_code(catalogue, text)),
    }
}

/// Why `text` is no question, and what would be one.
fn no_code(catalogue: &Catalogue, text: &str) -> String {
    if text.is_empty() {
        return "the text is empty; give a code or an error message".to_owned();
    }
    if text.contains(char::is_whitespace) {
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
    let names = catalogue.rules().filter_map(|rule| rule.name.as_deref());
    let near = catalogue.nearest(text).first().map(|rule| rule.code.to_string());
    let near = near.or_else(|| {
        nearest_word(text, names).filter(|name| strsim::osa_distance(name, text) <= 3).map(str::to_owned)
    });
    match near {
        Some(near) => format!("`{text}` is no code and spells none; did you mean {near}?"),
        None => {
            format!("`{text}` is no code and spells none; `aadstream rules list {text}` searches the rules")
        }
    }
}

/// A code that nobody wrote a rule for: what is known all the same.
fn unknown(catalogue: &Catalogue, code: Code) -> String {
    let mut message = format!("{code} is not in the catalogue, but it may be real");
    if let Some(page) = render::reference_page(code) {
        write(&mut message, format_args!("; see {page}"));
    }
    if let Some(family) = catalogue.family(code) {
        write(&mut message, format_args!("\n  its number begins like {} ({})", family.code, family.title));
    }
    for near in catalogue.nearest(&code.to_string()) {
        write(&mut message, format_args!("\n  did you mean {} ({})?", near.code, near.title));
    }
    message
}

fn write(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a String takes every write");
}

fn text_answer(catalogue: &Catalogue, question: &Question) -> String {
    let style = terminal::style();
    match question {
        Question::Code(code) => {
            catalogue.rule(*code).map(|rule| render::explain(catalogue, rule, style)).unwrap_or_default()
        }
        Question::Text { primary, mentions } => {
            let mut answer = text_answer(catalogue, &Question::Code(*primary));
            let others: Vec<Code> = mentions.iter().copied().filter(|code| code != primary).collect();
            if others.is_empty() {
                return answer;
            }
            let heading = if answer.is_empty() { "Also mentioned:" } else { "\nAlso mentioned:" };
            write(&mut answer, format_args!("{heading}\n"));
            let width = others.iter().map(|code| code.to_string().len()).max().unwrap_or(0);
            for code in others {
                let title = catalogue.rule(code).map_or("not in the catalogue", |rule| &rule.title);
                write(&mut answer, format_args!("  {code:width$}  {title}\n"));
            }
            answer
        }
    }
}

fn markdown_answer(catalogue: &Catalogue, question: &Question) -> String {
    let page = |code: Code| catalogue.rule(code).map_or("", |rule| rule.page.as_str());
    match question {
        Question::Code(code) => page(*code).to_owned(),
        Question::Text { primary, mentions } => {
            let others = mentions.iter().copied().filter(|code| code != primary);
            let pages: Vec<&str> =
                std::iter::once(*primary).chain(others).map(page).filter(|page| !page.is_empty()).collect();
            pages.join("\n")
        }
    }
}

fn json_answer(catalogue: &Catalogue, question: &Question) -> Value {
    let object = |code: Code| {
        catalogue
            .rule(code)
            .map_or_else(|| render::unknown_json(code), |rule| render::explain_json(catalogue, rule))
    };
    match question {
        Question::Code(code) => object(*code),
        Question::Text { primary, mentions } => json!({
            "primary": object(*primary),
            "mentions": mentions.iter().copied().map(object).collect::<Vec<_>>(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};

    fn sample() -> Catalogue {
        let umbrella = rule_file("AADSTS70002", "C").replace("transient", "umbrella = true\ntransient");
        let named = rule_file("AADSTS50076", "B").replace("tier", "name = \"StrongAuthRequired\"\ntier");
        catalogue_of(&[
            ("AADSTS50034", rule_file("AADSTS50034", "A")),
            ("AADSTS50076", named),
            ("AADSTS70002", umbrella),
            ("DM_GWPipeline", rule_file("DM_GWPipeline", "E")),
        ])
    }

    #[track_caller]
    fn check(text: &str, expected: Question) {
        assert_eq!(ask(&sample(), text), Ok(expected), "of {text:?}");
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(ask(&sample(), text), Err(expected.to_owned()), "of {text:?}");
    }

    #[test]
    fn every_spelling_of_a_code_asks_for_it() {
        for text in ["50076", "AADSTS50076", "aadsts50076:", " 50076\n", "strongauthrequired"] {
            check(text, Question::Code(Code::Aadsts(50076)));
        }
        check("dm_gwpipeline", Question::Code(Code::Named("DM_GWPipeline")));
        check("99999", Question::Code(Code::Aadsts(99999)));
    }

    #[test]
    fn a_pasted_message_asks_for_its_diagnosis_and_keeps_every_mention() {
        let [user, mfa, umbrella] = [50034, 50076, 70002].map(Code::Aadsts);
        check(
            "AADSTS70002: Error. AADSTS50034: no user; AADSTS70002",
            Question::Text { primary: user, mentions: vec![umbrella, user] },
        );
        check("AADSTS50034 AADSTS50076", Question::Text { primary: mfa, mentions: vec![user, mfa] });
        check("error:AADSTS50034.", Question::Text { primary: user, mentions: vec![user] });
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
        check_refused("no code here", "the text spells no AADSTS code");
        check_refused(
            "Sign-in error code: 50034",
            "the text spells no AADSTS code; if a number in it is one, try `aadstream explain AADSTS50034`",
        );
    }

    #[test]
    fn an_unknown_code_has_a_page_a_family_and_neighbours() {
        let message = unknown(&sample(), Code::Aadsts(700_023));
        assert!(message.contains("https://login.microsoftonline.com/error?code=700023"), "{message}");
        assert!(message.contains("begins like AADSTS70002"), "{message}");
    }
}
