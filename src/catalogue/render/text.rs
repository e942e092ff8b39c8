//! A rule as a person reads it in a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style as Ansi};

use super::super::Catalogue;
use super::super::page::{Span, is_fence, sections, spans};
use super::super::rule::{Rule, Variant};
use crate::terms::{Audience, Flow, Outcome, Severity};

/// Below this the words that only repeat a severity's meaning are left out.
const NARROW: usize = 80;

/// How text is laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Style {
    pub width: usize,
    pub is_colored: bool,
}

impl Style {
    pub fn paint(self, ansi: Ansi, text: &str) -> String {
        if self.is_colored { format!("{ansi}{text}{ansi:#}") } else { text.to_owned() }
    }

    /// A severity in its colour, padded before it is painted: the colour's bytes have no width.
    fn severity(self, severity: Severity, width: usize) -> String {
        self.paint(severity_style(severity), &format!("{severity:width$}"))
    }

    /// Inline Markdown for a terminal. Without colours a command keeps its marks: they say where it ends.
    fn inline(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for span in spans(text) {
            match span {
                Span::Text(words) => out.push_str(words),
                Span::Strong(words) => out.push_str(&self.paint(Ansi::new().bold(), words)),
                Span::Code(words) if self.is_colored => {
                    out.push_str(&self.paint(AnsiColor::Cyan.on_default(), words));
                }
                Span::Code(words) => write(&mut out, format_args!("`{words}`")),
                Span::Link { text, address } => write(&mut out, format_args!("{text} ({address})")),
            }
        }
        out
    }

    fn wrap(self, text: &str, first: &str, rest: &str) -> String {
        let options = textwrap::Options::new(self.width.max(rest.len() + 20))
            .initial_indent(first)
            .subsequent_indent(rest)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(text, options)
    }
}

/// How every command colours a severity.
pub fn severity_style(severity: Severity) -> Ansi {
    match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold(),
        Severity::High => AnsiColor::Red.on_default(),
        Severity::Medium => AnsiColor::Yellow.on_default(),
        Severity::Low => AnsiColor::Green.on_default(),
        Severity::Info => Ansi::new().dimmed(),
    }
}

fn write(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a String takes every write");
}

/// The page of a rule, wrapped to the terminal.
pub fn explain(catalogue: &Catalogue, rule: &Rule, style: Style) -> String {
    let mut page = Page { out: String::new(), style };
    page.opening(rule);
    page.situations(rule);
    for variant in &rule.variants {
        page.variant(variant);
    }
    for section in sections(&rule.page).into_iter().skip(1) {
        page.heading(section.name);
        page.markdown(&section.lines, "  ");
    }
    let related = catalogue.related(rule.code);
    if !related.is_empty() {
        page.heading("Related");
        let width = related.iter().map(|code| code.to_string().len()).max().unwrap_or(0);
        for other in related.iter().filter_map(|code| catalogue.rule(*code)) {
            page.row(&format!("  {:width$}  ", other.code), &other.title);
        }
    }
    if !rule.references.is_empty() {
        page.heading("References");
        for reference in &rule.references {
            write(&mut page.out, format_args!("  {reference}\n"));
        }
    }
    page.out
}

const fn asks_for(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "page now",
        Severity::High => "act today",
        Severity::Medium => "this week",
        Severity::Low => "user can fix it",
        Severity::Info => "nothing to do",
    }
}

/// What a code means in one flow.
type Situation = (Severity, Audience, Outcome);

struct Page {
    out: String,
    style: Style,
}

impl Page {
    fn heading(&mut self, text: &str) {
        let heading = self.style.paint(Ansi::new().bold(), text);
        write(&mut self.out, format_args!("\n{heading}\n"));
    }

    /// `text` wrapped beside a first column.
    fn row(&mut self, first: &str, text: &str) {
        let rest = " ".repeat(textwrap::core::display_width(first));
        let wrapped = self.style.wrap(text, first, &rest);
        write(&mut self.out, format_args!("{wrapped}\n"));
    }

    fn opening(&mut self, rule: &Rule) {
        let title = format!("{}: {}", rule.code, rule.title);
        for line in textwrap::wrap(&title, self.style.width) {
            let line = self.style.paint(Ansi::new().bold(), &line);
            write(&mut self.out, format_args!("{line}\n"));
        }
        let mut facts: Vec<&str> = rule.name.as_deref().into_iter().collect();
        facts.push(rule.category.as_str());
        facts.push(if rule.transient { "passes by itself" } else { "a retry does not help" });
        facts.extend(rule.umbrella.then_some("umbrella: a second code in the message is the diagnosis"));
        facts.extend(rule.is_override.then_some("from the operator's rules"));
        for line in textwrap::wrap(&facts.join(" · "), self.style.width) {
            let line = self.style.paint(Ansi::new().dimmed(), &line);
            write(&mut self.out, format_args!("{line}\n"));
        }
        self.out.push('\n');
        self.markdown(&[rule.summary.as_str()], "");
        if !rule.meaning.is_empty() {
            self.out.push('\n');
            self.markdown(&rule.meaning.lines().collect::<Vec<_>>(), "");
        }
    }

    /// One row for each different situation, with the flows it holds for.
    fn situations(&mut self, rule: &Rule) {
        self.heading("How bad, who acts");
        let situation = |flow: Flow| (rule.severity.of(flow), rule.audience.of(flow), rule.outcome.of(flow));
        let mut rows: Vec<(Situation, Vec<&str>)> = Vec::new();
        let mut add = |key, label: &'static str| match rows.iter_mut().find(|(other, _)| *other == key) {
            Some((_, labels)) => labels.push(label),
            None => rows.push((key, vec![label])),
        };
        for flow in &rule.flows {
            add(situation(*flow), flow.as_str());
        }
        let others: Vec<Flow> = Flow::ALL.iter().copied().filter(|flow| !rule.flows.contains(flow)).collect();
        let default = (rule.severity.default, rule.audience.default, rule.outcome.default);
        for flow in others.iter().filter(|flow| situation(**flow) != default) {
            add(situation(*flow), flow.as_str());
        }
        if others.iter().any(|flow| situation(*flow) == default) {
            add(default, "any other");
        }
        rows.sort_by_key(|((severity, ..), _)| std::cmp::Reverse(*severity));
        let audience_width =
            rows.iter().map(|((_, audience, _), _)| audience.as_str().len()).max().unwrap_or(0);
        let severity_width =
            rows.iter().map(|((severity, ..), _)| severity.as_str().len()).max().unwrap_or(0);
        let is_single = rows.len() == 1;
        for ((severity, audience, outcome), labels) in rows {
            let severity_cell = self.style.severity(severity, severity_width);
            let asks = match asks_for(severity) {
                asks if self.style.width >= NARROW => format!("{asks:15}  "),
                _ => String::new(),
            };
            let first = format!("  {severity_cell}  {asks}{audience:audience_width$}  {outcome:9}  ");
            self.row(&first, &if is_single { "in every flow".to_owned() } else { labels.join(", ") });
        }
    }

    fn variant(&mut self, variant: &Variant) {
        self.heading(&format!("If the text says \"{}\"", variant.contains.join("\" or \"")));
        if let Some(severity) = &variant.severity {
            let severity_cell = self.style.severity(severity.default, 0);
            let audience = variant.audience.as_ref().map(|audience| format!(", {}", audience.default));
            let audience = audience.unwrap_or_default();
            write(
                &mut self.out,
                format_args!("  {severity_cell} ({}){audience}\n", asks_for(severity.default)),
            );
        }
        if let Some(summary) = &variant.summary {
            self.markdown(&[summary.as_str()], "  ");
        }
        for (position, step) in variant.fix.iter().enumerate() {
            self.row(&format!("  {}. ", position + 1), &self.style.inline(step));
        }
    }

    /// Paragraphs, lists and fences. Fenced text is shown as it is: people copy it.
    fn markdown(&mut self, lines: &[&str], indent: &str) {
        let first = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(lines.len());
        let last = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(first, |last| last + 1);
        let mut paragraph = Paragraph::default();
        let mut fence = None;
        for line in &lines[first..last] {
            if is_fence(line) {
                self.flush(&mut paragraph, indent);
                fence = fence.is_none().then(|| line.len() - line.trim_start().len());
                continue;
            }
            if let Some(margin) = fence {
                let margin = margin.min(line.len() - line.trim_start().len());
                let code = &line[margin..];
                let margin = " ".repeat(margin);
                let row = format!("{indent}{margin}  {code}");
                write(&mut self.out, format_args!("{}\n", row.trim_end()));
                continue;
            }
            let text = line.trim_start();
            let marker = marker_length(text);
            if text.is_empty() || marker > 0 {
                self.flush(&mut paragraph, indent);
            }
            if text.is_empty() {
                self.out.push('\n');
            } else if paragraph.text.is_empty() {
                let margin = " ".repeat(line.len() - text.len());
                paragraph.first = format!("{margin}{}", &text[..marker]);
                paragraph.text.push_str(&text[marker..]);
            } else {
                paragraph.text.push(' ');
                paragraph.text.push_str(text);
            }
        }
        self.flush(&mut paragraph, indent);
    }

    fn flush(&mut self, paragraph: &mut Paragraph, indent: &str) {
        let Paragraph { first, text } = std::mem::take(paragraph);
        if !text.is_empty() {
            let text = self.style.inline(text.trim_end());
            self.row(&format!("{indent}{first}"), &text);
        }
    }
}

/// A paragraph being gathered; `first` is its margin and, of a list item, the marker.
#[derive(Default)]
struct Paragraph {
    first: String,
    text: String,
}

/// Length of `- ` or `12. ` at the start of a line, else 0.
fn marker_length(text: &str) -> usize {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text.as_bytes().get(digits..) {
        Some([b'.', b' ', ..]) if digits > 0 => digits + 2,
        Some([b'-', b' ', ..]) if digits == 0 => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};
    use crate::code::Code;

    #[track_caller]
    fn check(change: (&str, &str), width: usize, expected: &str) {
        let catalogue =
            catalogue_of(&[("AADSTS50076", rule_file("AADSTS50076", "A").replace(change.0, change.1))]);
        let rule = catalogue.rule(Code::Aadsts(50076)).unwrap();
        let text = explain(&catalogue, rule, Style { width, is_colored: false });
        assert!(text.contains(expected), "{expected}\nin\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= width), "too wide:\n{text}");
    }

    #[test]
    fn flows_with_the_same_verdict_share_a_row() {
        let expected = "How bad, who acts\n  high  act today        user  failure    text, any other\n  \
                        low   user can fix it  user  failure    interactive\n";
        check(("", ""), 100, expected);
        check(
            ("{ default = \"high\", interactive = \"low\" }", "\"high\""),
            60,
            "user  failure    in every flow",
        );
    }

    #[test]
    fn items_hang_and_fences_stay_as_they_are() {
        check(
            (
                "1. One cause.",
                "1. One cause that needs more than one line:\n\n   ```kusto\n   T\n     | where x\n   ```",
            ),
            40,
            "Causes\n  1. One cause that needs more than one\n     line:\n\n       T\n         | where x\n\nFix\n",
        );
    }

    #[test]
    fn colours_replace_the_marks() {
        let style = Style { width: 80, is_colored: true };
        assert_eq!(style.inline("**a** `b`"), "\u{1b}[1ma\u{1b}[0m \u{1b}[36mb\u{1b}[0m");
        assert_eq!(Style { is_colored: false, ..style }.inline("**a** `b`"), "a `b`");
    }
}
