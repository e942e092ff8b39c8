//! A rule as a person reads it in a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style as Ansi};

use super::super::Catalogue;
use super::super::page::{Span, is_fence, sections, spans};
use super::super::rule::{Rule, Variant};
use crate::code::Code;
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

/// What a text tells beside its code: it comes first.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Told {
    pub flow: Option<Flow>,
    pub variant: Option<&'static str>,
}

/// The page of a rule, wrapped to the terminal.
pub fn explain(catalogue: &Catalogue, rule: &Rule, told: Told, style: Style) -> String {
    let mut page = Page { out: String::new(), style };
    page.opening(rule);
    page.situations(rule, told);
    let is_told = |variant: &&Variant| told.variant == Some(variant.name);
    for variant in rule.variants.iter().filter(is_told) {
        page.variant("The text says", variant);
    }
    for variant in rule.variants.iter().filter(|variant| !is_told(variant)) {
        page.variant("If the text says", variant);
    }
    for section in sections(&rule.page).into_iter().skip(1) {
        page.heading(section.name);
        page.markdown(&section.lines, "  ");
    }
    let related = catalogue.related(rule.code);
    if !related.is_empty() {
        page.heading("Related");
        page.out.push_str(&code_rows(catalogue, related, style));
    }
    if !rule.references.is_empty() {
        page.heading("References");
        for reference in &rule.references {
            write(&mut page.out, format_args!("  {reference}\n"));
        }
    }
    page.out
}

/// Codes with their titles; names, which are long, do not push the titles of the numbers aside.
pub fn code_rows(catalogue: &Catalogue, codes: &[Code], style: Style) -> String {
    let is_number = |code: &&Code| !matches!(code, Code::Named(_));
    let width = codes.iter().filter(is_number).map(|code| code.to_string().len()).max().unwrap_or(0);
    let mut out = String::new();
    for code in codes {
        let title = catalogue.rule(*code).map_or("not in the catalogue", |rule| &rule.title);
        let rest = " ".repeat(width + 4);
        write(&mut out, format_args!("{}\n", style.wrap(title, &format!("  {code:width$}  "), &rest)));
    }
    out
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

fn situation(rule: &Rule, variant: Option<&str>, flow: Flow) -> Situation {
    let variant = rule.variant(variant);
    let severity = variant.and_then(|variant| variant.severity.as_ref()).unwrap_or(&rule.severity);
    let audience = variant.and_then(|variant| variant.audience.as_ref()).unwrap_or(&rule.audience);
    let outcome = variant.and_then(|variant| variant.outcome.as_ref()).unwrap_or(&rule.outcome);
    (severity.of(flow), audience.of(flow), outcome.of(flow))
}

/// The different situations of a rule and the flows of each, the worst first.
fn situations(rule: &Rule) -> Vec<(Situation, Vec<String>)> {
    let mut rows: Vec<(Situation, Vec<String>)> = Vec::new();
    let mut add = |key, label: &str| match rows.iter_mut().find(|(other, _)| *other == key) {
        Some((_, labels)) => labels.push(label.to_owned()),
        None => rows.push((key, vec![label.to_owned()])),
    };
    for flow in &rule.flows {
        add(situation(rule, None, *flow), flow.as_str());
    }
    let others: Vec<Flow> = Flow::ALL.iter().copied().filter(|flow| !rule.flows.contains(flow)).collect();
    let default = (rule.severity.default, rule.audience.default, rule.outcome.default);
    for flow in others.iter().filter(|flow| situation(rule, None, **flow) != default) {
        add(situation(rule, None, *flow), flow.as_str());
    }
    if others.iter().any(|flow| situation(rule, None, *flow) == default) {
        add(default, "any other");
    }
    rows.sort_by_key(|((severity, ..), _)| std::cmp::Reverse(*severity));
    rows
}

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

    /// One row for each different situation, with the flows it holds for; the flow that a text tells stands first.
    fn situations(&mut self, rule: &Rule, told: Told) {
        self.heading("How bad, who acts");
        let mut rows = situations(rule);
        if let [(_, labels)] = rows.as_mut_slice() {
            *labels = vec!["in every flow".to_owned()];
        }
        if let Some(flow) = told.flow.filter(|_| rows.len() > 1) {
            rows.iter_mut().for_each(|(_, labels)| labels.retain(|label| label != flow.as_str()));
            rows.retain(|(_, labels)| !labels.is_empty());
            rows.insert(0, (situation(rule, told.variant, flow), vec![format!("{flow}, as the text tells")]));
        }
        let width = |word: fn(&Situation) -> &'static str| {
            rows.iter().map(|(situation, _)| word(situation).len()).max().unwrap_or(0)
        };
        let severity_width = width(|(severity, ..)| severity.as_str());
        let audience_width = width(|(_, audience, _)| audience.as_str());
        for ((severity, audience, outcome), labels) in rows {
            let severity_cell = self.style.severity(severity, severity_width);
            let asks = match asks_for(severity) {
                asks if self.style.width >= NARROW => format!("{asks:15}  "),
                _ => String::new(),
            };
            let first = format!("  {severity_cell}  {asks}{audience:audience_width$}  {outcome:9}  ");
            self.row(&first, &labels.join(", "));
        }
    }

    fn variant(&mut self, opening: &str, variant: &Variant) {
        self.heading(&format!("{opening} \"{}\"", variant.contains.join("\" or \"")));
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

    #[track_caller]
    fn check(change: (&str, &str), width: usize, expected: &str) {
        let catalogue =
            catalogue_of(&[("AADSTS50076", rule_file("AADSTS50076", "A").replace(change.0, change.1))]);
        let rule = catalogue.rule(Code::Aadsts(50076)).unwrap();
        let text = explain(&catalogue, rule, Told::default(), Style { width, is_colored: false });
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
    fn what_the_text_tells_stands_first() {
        let variants = "\n[[variant]]\nname = \"one\"\ncontains = [\"locked\"]\nsummary = \"One.\"\n\
                        [[variant]]\nname = \"two\"\ncontains = [\"malicious\"]\nsummary = \"Two.\"\n\
                        severity = \"critical\"\n```\n\n#";
        let file = rule_file("AADSTS50053", "A").replace("\n```\n\n#", variants);
        let catalogue = catalogue_of(&[("AADSTS50053", file)]);
        let rule = catalogue.rule(Code::Aadsts(50053)).unwrap();
        let told = Told { flow: Some(Flow::Interactive), variant: Some("two") };
        let text = explain(&catalogue, rule, told, Style { width: 70, is_colored: false });
        let expected = "How bad, who acts\n  critical  user  failure    interactive, as the text tells\n  \
                        high      user  failure    text, any other\n\nThe text says \"malicious\"\n";
        assert!(text.contains(expected), "{expected}\nin\n{text}");
        assert!(text.contains("\n\nIf the text says \"locked\"\n  One.\n"), "{text}");
    }

    #[test]
    fn names_leave_the_titles_of_numbers_where_they_are() {
        let name = "DM_GWPipeline_Gateway_MashupDataAccessError";
        let catalogue =
            catalogue_of(&[("AADSTS50053", rule_file("AADSTS50053", "A")), (name, rule_file(name, "B"))]);
        let codes = [Code::Aadsts(50053), Code::Named(name), Code::Aadsts(50054)];
        let rows = code_rows(&catalogue, &codes, Style { width: 60, is_colored: false });
        let expected = format!("  AADSTS50053  A\n  {name}  B\n  AADSTS50054  not in the catalogue\n");
        assert_eq!(rows, expected);
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
