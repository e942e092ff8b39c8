//! Reads one rule file: a TOML head in a fence, then a page of fixed sections.
//!
//! This checks the form that the rest of the program needs to use a rule at all. What makes a rule a good one,
//! alone and beside the others, is in `laws`.

use std::borrow::Cow;
use std::sync::OnceLock;

use memchr::memchr;

use super::SeverityOverride;
use super::head::{self, code_of_rule};
use super::page::{self, SECTIONS, Section, is_fence, plain};
use super::problem::{Problems, did_you_mean};
use super::rule::{ByFlow, Rule};
use crate::code::Code;
use crate::terms::{Audience, Category, Outcome, Severity};

const FENCE_OPEN: &str = "```toml";

/// A rule file. Its page is read when it is first asked for: a scan that meets three codes reads three pages.
#[derive(Clone, Debug)]
pub struct Entry {
    pub code: Code,
    /// From the embedded catalogue, or from a directory of the operator.
    pub is_override: bool,
    /// As shown in problems.
    pub path: String,
    pub source: Cow<'static, str>,
    severity: Option<SeverityOverride>,
    rule: OnceLock<Rule>,
}

impl Entry {
    /// An embedded file, not read yet.
    pub fn embedded(file_name: &str, source: &'static str) -> Self {
        let code =
            code_of_rule(stem(file_name)).expect("the tests admit no embedded file that names no code");
        let path = format!("rules/codes/{file_name}");
        Self::new(code, path, Cow::Borrowed(source), false)
    }

    fn new(code: Code, path: String, source: Cow<'static, str>, is_override: bool) -> Self {
        Self { code, is_override, path, source: normalize(source), severity: None, rule: OnceLock::new() }
    }

    /// Takes the operator's word on the severity.
    pub fn set_severity(&mut self, word: SeverityOverride) {
        if let Some(rule) = self.rule.get_mut() {
            word.apply(rule);
        }
        self.severity = Some(word);
    }

    /// The rule, with the operator's word on its severity.
    pub fn rule(&self) -> &Rule {
        self.rule.get_or_init(|| {
            let mut problems = Problems::default();
            let rule = read(self, &mut problems);
            assert!(
                problems.is_empty(),
                "a file with problems never becomes part of a catalogue:\n{problems}"
            );
            let mut rule = rule.expect("a file without problems gives a rule");
            if let Some(word) = &self.severity {
                word.apply(&mut rule);
            }
            rule
        })
    }

    /// Line of the file, from 1, for a line of the page, from 0.
    pub(super) fn page_line(&self, line: usize) -> usize {
        let head = self.source.strip_suffix(self.rule().page.as_str()).unwrap_or_default();
        head.matches('\n').count() + line + 1
    }

    /// Line of the head, from 1, that first holds `needle`; the first line if none does.
    pub(super) fn head_line(&self, needle: &str) -> usize {
        let found = self.source.lines().position(|line| line.contains(needle));
        found.map_or(1, |position| position + 1)
    }
}

/// Reads the rule file `file_name` with the content `source`; `None` if it has problems of form.
pub fn parse(
    file_name: &str,
    path: String,
    source: Cow<'static, str>,
    is_override: bool,
    problems: &mut Problems,
) -> Option<Entry> {
    let known = problems.len();
    let Some(code) = code_of_rule(stem(file_name)) else {
        problems.push(path, None, "the file name is no code: it is `AADSTS` and 4 to 8 digits, or a literal");
        return None;
    };
    let entry = Entry::new(code, path, source, is_override);
    let rule = read(&entry, problems)?;
    entry.rule.set(rule).expect("the entry was just made");
    (problems.len() == known).then_some(entry)
}

fn stem(file_name: &str) -> &str {
    file_name.strip_suffix(".md").unwrap_or(file_name)
}

/// Reads the head and the page of a file; what they lack is reported, and the rule is of no use then.
fn read(entry: &Entry, problems: &mut Problems) -> Option<Rule> {
    let Entry { code, path, source, is_override, .. } = entry;
    let Some((head_text, page)) = split(source) else {
        problems.push(
            path.as_str(),
            Some(1),
            format!("a rule begins with a {FENCE_OPEN} block that is closed by ```"),
        );
        return None;
    };
    let head = head::read(head_text, path, 2, problems);
    let before = &source[..source.len() - page.len()];
    let spelling = code.to_string();
    let parts = Page { path, before, problems }.read(page, &spelling, head.tier.unwrap_or(2));
    Some(Rule {
        code: *code,
        name: head.name,
        tier: head.tier.unwrap_or(2),
        title: parts.title,
        category: head.category.unwrap_or(Category::Other),
        flows: head.flows,
        outcome: head.outcome.unwrap_or(ByFlow::constant(Outcome::Failure)),
        severity: head.severity.unwrap_or(ByFlow::constant(Severity::Medium)),
        audience: head.audience.unwrap_or(ByFlow::constant(Audience::IdentityAdmin)),
        transient: head.transient,
        umbrella: head.umbrella,
        related: head.related,
        references: head.references,
        variants: head.variants,
        summary: parts.summary,
        meaning: parts.meaning,
        causes: parts.causes,
        fix: parts.fix,
        prevent: parts.prevent,
        do_not_confuse: parts.do_not_confuse,
        example: parts.example,
        page: page.to_owned(),
        is_override: *is_override,
    })
}

/// Editors on Windows write a mark of byte order and CRLF; neither means anything here.
fn normalize(source: Cow<'static, str>) -> Cow<'static, str> {
    if memchr(b'\r', source.as_bytes()).is_some() || source.starts_with('\u{feff}') {
        return Cow::Owned(source.trim_start_matches('\u{feff}').replace("\r\n", "\n"));
    }
    source
}

/// Splits a file into the text inside the opening fence and the page after it.
fn split(source: &str) -> Option<(&str, &str)> {
    let rest = source.strip_prefix(FENCE_OPEN)?.strip_prefix('\n')?;
    let (head, page) = match rest.strip_prefix("```\n") {
        Some(page) => ("", page),
        None => rest.split_once("\n```\n")?,
    };
    Some((head, page.trim_start_matches('\n')))
}

/// What the page of a rule says.
#[derive(Default)]
struct Parts {
    title: String,
    summary: String,
    meaning: String,
    causes: Vec<String>,
    fix: Vec<String>,
    prevent: Vec<String>,
    do_not_confuse: Vec<String>,
    example: String,
}

struct Page<'a> {
    path: &'a str,
    /// The file up to the page; its lines are counted only for a problem.
    before: &'a str,
    problems: &'a mut Problems,
}

impl Page<'_> {
    fn problem(&mut self, line: usize, message: impl Into<String>) {
        let first_line = self.before.matches('\n').count() + 1;
        self.problems.push(self.path, Some(first_line + line), message);
    }

    fn read(&mut self, page: &str, stem: &str, tier: u8) -> Parts {
        let sections = page::sections(page);
        let mut parts = Parts::default();
        self.opening(&sections[0], stem, &mut parts);
        self.order(&sections[1..], tier);
        for section in &sections[1..] {
            match section.name {
                "Causes" => parts.causes = self.list(section, true),
                "Fix" => parts.fix = self.list(section, true).iter().map(|step| plain(step)).collect(),
                "Prevent" => parts.prevent = self.list(section, false),
                "Do not confuse with" => parts.do_not_confuse = self.list(section, false),
                "Example" => parts.example = self.example(section),
                _ => {}
            }
        }
        parts
    }

    /// Heading, summary and the further paragraphs of the meaning.
    fn opening(&mut self, section: &Section<'_>, stem: &str, parts: &mut Parts) {
        let heading = section.lines.first().copied().unwrap_or_default();
        match heading.strip_prefix("# ").and_then(|heading| heading.split_once(": ")) {
            Some((code, title)) if code == stem => title.trim().clone_into(&mut parts.title),
            Some((code, _)) => {
                self.problem(0, format!("the heading says {code}, the file name says {stem}"));
            }
            None => self.problem(0, format!("the page begins with `# {stem}: Title`")),
        }
        let body = &section.lines[1.min(section.lines.len())..];
        let start = body.iter().position(|line| !line.trim().is_empty()).unwrap_or(body.len());
        let length = body[start..].iter().take_while(|line| !line.trim().is_empty()).count();
        parts.summary = plain(&body[start..start + length].join("\n"));
        body[start + length..].join("\n").trim().clone_into(&mut parts.meaning);
        if parts.summary.is_empty() {
            self.problem(0, "a paragraph that says what happened must follow the heading");
        }
    }

    /// Every section known, once, in order, and none missing.
    fn order(&mut self, sections: &[Section<'_>], tier: u8) {
        let mut last = 0;
        for section in sections {
            let Some(position) = SECTIONS.iter().position(|name| *name == section.name) else {
                let near = did_you_mean(section.name, SECTIONS);
                self.problem(section.line, format!("unknown section `## {}`{near}", section.name));
                continue;
            };
            if sections.iter().any(|other| other.name == section.name && other.line < section.line) {
                self.problem(section.line, format!("a second `## {}`", section.name));
            } else if position < last {
                self.problem(
                    section.line,
                    format!("`## {}` must stand before `## {}`", section.name, SECTIONS[last]),
                );
            }
            last = last.max(position);
        }
        for name in SECTIONS {
            let is_optional = tier == 2 && matches!(name, "Prevent" | "Do not confuse with");
            if !is_optional && !sections.iter().any(|section| section.name == name) {
                self.problem(0, format!("the page has no `## {name}`"));
            }
        }
    }

    fn list(&mut self, section: &Section<'_>, numbered: bool) -> Vec<String> {
        let items = page::items(section, numbered, |line, message| self.problem(line, message));
        if items.is_empty() {
            self.problem(section.line, format!("`## {}` is empty", section.name));
        }
        items.into_iter().map(|item| item.markdown).collect()
    }

    /// The content of the one `text` block.
    fn example(&mut self, section: &Section<'_>) -> String {
        let lines: Vec<&str> =
            section.lines.iter().copied().skip_while(|line| line.trim().is_empty()).collect();
        let closing = lines.iter().skip(1).position(|line| is_fence(line)).map(|position| position + 1);
        let (Some(&"```text"), Some(closing)) = (lines.first(), closing) else {
            self.problem(section.line, "`## Example` is one ```text block");
            return String::new();
        };
        if lines[closing + 1..].iter().any(|line| !line.trim().is_empty()) {
            self.problem(section.line, "`## Example` is one ```text block and nothing else");
        }
        lines[1..closing].join("\n").trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::rule_file;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let mut problems = Problems::default();
        let entry = parse("AADSTS50076.md", "a.md".to_owned(), source.to_owned().into(), true, &mut problems);
        problems.sort();
        let actual: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(actual, expected, "of {source}");
        assert_eq!(entry.is_some(), expected.is_empty());
    }

    #[test]
    fn a_page_gives_its_parts() {
        let mut problems = Problems::default();
        let source = rule_file("AADSTS50076", "Multi-factor authentication required");
        let entry = parse("AADSTS50076.md", "a.md".to_owned(), source.into(), false, &mut problems);
        let entry = entry.unwrap_or_else(|| panic!("{problems}"));
        let rule = entry.rule();
        assert_eq!(rule.title, "Multi-factor authentication required");
        assert_eq!(rule.summary, "What happened in plain words. It has two lines.");
        assert_eq!(rule.meaning, "More about `it`.");
        assert_eq!(rule.fix, ["Do this with az login.", "Verify: it is gone."]);
        assert_eq!(rule.example, "AADSTS50076: a line.");
        assert!(rule.page.starts_with("# AADSTS50076: Multi"));
    }

    #[test]
    fn windows_line_ends_change_nothing() {
        check(&format!("\u{feff}{}", rule_file("AADSTS50076", "A").replace('\n', "\r\n")), &[]);
    }

    #[test]
    fn a_file_without_a_head_says_how_to_begin() {
        check("# AADSTS50076: A\n", &["a.md:1: a rule begins with a ```toml block that is closed by ```"]);
    }

    #[test]
    fn heading_and_file_name_must_agree() {
        check(
            &rule_file("AADSTS50079", "A"),
            &["a.md:13: the heading says AADSTS50079, the file name says AADSTS50076"],
        );
    }

    #[test]
    fn sections_must_be_there_and_in_order() {
        let source = rule_file("AADSTS50076", "A").replace("## Fix", "## Fixes");
        check(
            &source,
            &[
                "a.md:13: the page has no `## Fix`",
                "a.md:24: unknown section `## Fixes`; did you mean `Fix`?",
            ],
        );
    }

    #[test]
    fn all_problems_of_a_file_come_at_once() {
        let source = rule_file("AADSTS50076", "A").replace("tier = 2", "teir = 2").replace("1. Do", "Do");
        check(
            &source,
            &[
                "a.md:2: the head has no `tier`",
                "a.md:2: unknown key `teir`; did you mean `tier`?",
                "a.md:26: `## Fix` is a numbered list and nothing else",
                "a.md:27: `## Fix` is a numbered list and nothing else",
                "a.md:28: this item is number 1",
            ],
        );
    }
}
