//! `aadstream explain`: says what a code, or a pasted error message, means.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};

use super::{signals, terminal};
use crate::catalogue::rule::Rule;
use crate::catalogue::{Catalogue, render};
use crate::cli::{ExplainArgs, ExplainFormat};
use crate::code::Code;
use crate::config::Settings;
use crate::exit_code::{Exit, ExitError};
use crate::terms::Flow;

mod question;

use question::{Failure, Question, ask};

/// A pasted message is a screen or two; a log file is for `scan`.
const INPUT_BYTES_MAX: u64 = 16 << 20;
/// More pages at once than this nobody reads.
const PAGES_MAX: usize = 10;

pub fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    signals::exit_on_interrupt();
    let arguments = if args.text == ["-"] { vec![read_stdin()?] } else { args.text.clone() };
    let catalogue = Arc::new(Settings::load_optional(args.config.as_deref())?.catalogue()?);
    explain(&catalogue, &arguments, args.format)
}

/// Answers `arguments` from the rules in force.
fn explain(catalogue: &Arc<Catalogue>, arguments: &[String], format: ExplainFormat) -> anyhow::Result<Exit> {
    let question = ask(catalogue, arguments).map_err(|message| ExitError::new(Exit::UnknownCode, message))?;
    terminal::print(&match format {
        ExplainFormat::Text => text_answer(catalogue, &question),
        ExplainFormat::Markdown => markdown_answer(catalogue, &question),
        ExplainFormat::Json => format!("{:#}\n", json_answer(catalogue, &question)),
    })?;
    let primaries = question.failures.iter().map(|failure| failure.primary);
    let unknown = primaries.filter(|code| !catalogue.is_known(*code)).map(|code| unknown(catalogue, code));
    let unknown: Vec<String> = unknown.take(PAGES_MAX).collect();
    if unknown.is_empty() {
        return Ok(Exit::Done);
    }
    Err(ExitError::new(Exit::UnknownCode, unknown.join("\n")))
}

fn read_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut bytes).context("cannot read stdin")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A code that nobody wrote a rule for: what is known all the same.
fn unknown(catalogue: &Catalogue, code: Code) -> String {
    let mut message = format!("{code} is not in the catalogue, but it may be real");
    if let Some(page) = render::reference_page(code) {
        write(&mut message, format_args!("; see {page}"));
    }
    if let Some((category, count, all)) = catalogue.neighbourhood(code) {
        let share = if count == all { format!("all {all}") } else { format!("{count} of the {all}") };
        let what = format_args!("\n  {share} codes with the nearest numbers are about {category}");
        write(&mut message, what);
    }
    let family = catalogue.family(code);
    if let Some(Rule { code, title, .. }) = family {
        write(&mut message, format_args!("\n  its number begins like {code} ({title})"));
    }
    let is_other = |near: &&Rule| family.is_none_or(|family| family.code != near.code);
    for Rule { code, title, .. } in catalogue.nearest(&code.to_string()).into_iter().filter(is_other) {
        write(&mut message, format_args!("\n  did you mean {code} ({title})?"));
    }
    message
}

fn write(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a String takes every write");
}

fn text_answer(catalogue: &Catalogue, question: &Question) -> String {
    let style = terminal::style();
    let answer = |failure: &Failure| {
        let rule = catalogue.rule(failure.primary);
        let page = rule.map(|rule| render::explain(catalogue, rule, failure.told, style));
        let others: Vec<Code> = failure.others().collect();
        let rows = (!others.is_empty())
            .then(|| format!("Also mentioned:\n{}", render::code_rows(catalogue, &others, style)));
        page.into_iter().chain(rows).collect::<Vec<_>>().join("\n")
    };
    let mut answers: Vec<String> = question.failures.iter().take(PAGES_MAX).map(answer).collect();
    answers.retain(|answer| !answer.is_empty());
    let mut text = answers.join(&format!("\n{}\n\n", "─".repeat(style.width)));
    let left = question.failures.len().saturating_sub(PAGES_MAX);
    if left > 0 {
        let more =
            format_args!("\n{left} more failures stand in the text; `aadstream scan` counts them all\n");
        write(&mut text, more);
    }
    text
}

fn markdown_answer(catalogue: &Catalogue, question: &Question) -> String {
    let primaries = question.failures.iter().map(|failure| failure.primary);
    let mut pages: Vec<&str> = Vec::new();
    for code in primaries.chain(question.failures.iter().flat_map(Failure::others)) {
        let page = catalogue.rule(code).map_or("", |rule| rule.page.as_str());
        if !page.is_empty() && !pages.contains(&page) {
            pages.push(page);
        }
    }
    pages.join("\n")
}

/// One answer is an object, several are an array of them.
fn json_answer(catalogue: &Catalogue, question: &Question) -> Value {
    let object = |code: Code| {
        catalogue
            .rule(code)
            .map_or_else(|| render::unknown_json(code), |rule| render::explain_json(catalogue, rule))
    };
    let failure = |failure: &Failure| {
        if !question.is_pasted {
            return object(failure.primary);
        }
        let mut answer = json!({
            "primary": object(failure.primary),
            "mentions": failure.mentions.iter().copied().map(object).collect::<Vec<_>>(),
        });
        let told = [("flow", failure.told.flow.map(Flow::as_str)), ("variant", failure.told.variant)];
        for (key, word) in told {
            if let Some(word) = word {
                answer[key] = word.into();
            }
        }
        answer
    };
    let mut answers: Vec<Value> = question.failures.iter().map(failure).collect();
    if answers.len() == 1 { answers.remove(0) } else { Value::Array(answers) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};

    #[test]
    fn an_unknown_code_has_a_page_a_family_and_neighbours() {
        let umbrella = rule_file("AADSTS70002", "C").replace("transient", "umbrella = true\ntransient");
        let files = [("AADSTS70002", umbrella), ("AADSTS700022", rule_file("AADSTS700022", "B"))];
        let files = [files.as_slice(), &[("AADSTS700024", rule_file("AADSTS700024", "A"))]].concat();
        let message = unknown(&catalogue_of(&files), Code::Aadsts(700_023));
        assert_eq!(
            message.lines().collect::<Vec<_>>(),
            [
                "AADSTS700023 is not in the catalogue, but it may be real; \
                 see https://login.microsoftonline.com/error?code=700023",
                "  all 2 codes with the nearest numbers are about mfa",
                "  its number begins like AADSTS70002 (C)",
                "  did you mean AADSTS700022 (B)?",
                "  did you mean AADSTS700024 (A)?",
            ]
        );
    }
}
