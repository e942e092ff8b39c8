//! The Markdown that rule pages are made of: sections, lists and the plain text behind them.
//!
//! A rule page is a small, fixed form, so this reads lines and knows fences; it is no Markdown library.

use std::fmt::Write as _;

/// Sections of a page in the order in which they must stand.
pub(super) const SECTIONS: [&str; 5] = ["Causes", "Fix", "Prevent", "Do not confuse with", "Example"];

/// One `## ` section, or what stands before the first.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// Empty before the first section.
    pub name: &'a str,
    /// Line of the heading within the page, from 0.
    pub line: usize,
    pub lines: Vec<&'a str>,
}

/// One item of a list: its Markdown without marker and indentation.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Item {
    /// Line within the page, from 0.
    pub line: usize,
    pub markdown: String,
}

/// Whether the line opens or closes a fenced block.
pub(super) fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}

/// Splits a page (without its head) at its `## ` lines; those inside fences do not count.
pub(super) fn sections(page: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section { name: "", line: 0, lines: Vec::new() }];
    let mut in_fence = false;
    for (number, line) in page.lines().enumerate() {
        in_fence ^= is_fence(line);
        match line.strip_prefix("## ").filter(|_| !in_fence) {
            Some(name) => sections.push(Section { name: name.trim(), line: number, lines: Vec::new() }),
            None => sections.last_mut().expect("the list begins with one section").lines.push(line),
        }
    }
    sections
}

/// The length of a list marker and the item's number: `- ` has none, `12. ` has 12.
fn marker(line: &str) -> Option<(usize, Option<usize>)> {
    if line.starts_with("- ") {
        return Some((2, None));
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let number = line[..digits].parse().ok()?;
    line[digits..].starts_with(". ").then_some((digits + 2, Some(number)))
}

/// Reads a section as one list; `complain` gets (line within the page, message).
pub(super) fn items(
    section: &Section<'_>,
    numbered: bool,
    mut complain: impl FnMut(usize, String),
) -> Vec<Item> {
    let form = if numbered { "a numbered list" } else { "a list of `- ` items" };
    let mut items: Vec<Item> = Vec::new();
    let mut indent = 0;
    let mut in_fence = false;
    for (offset, line) in section.lines.iter().enumerate() {
        let number = section.line + 1 + offset;
        let is_inside = in_fence;
        in_fence ^= is_fence(line);
        if !is_inside && let Some((width, position)) = marker(line) {
            if position.is_some() != numbered {
                complain(number, format!("`## {}` is {form}", section.name));
            } else if position.is_some_and(|position| position != items.len() + 1) {
                complain(number, format!("this item is number {}", items.len() + 1));
            }
            indent = width;
            items.push(Item { line: number, markdown: line[width..].trim_end().to_owned() });
            continue;
        }
        let is_blank = line.trim().is_empty();
        match items.last_mut() {
            Some(item) => {
                let leading = line.len() - line.trim_start_matches(' ').len();
                if leading < indent.min(2) && !is_blank && !is_inside {
                    complain(number, format!("indent the lines of an item by {indent} spaces"));
                }
                item.markdown.push('\n');
                item.markdown.push_str(line[leading.min(indent)..].trim_end());
            }
            None if is_blank => {}
            None => complain(number, format!("`## {}` is {form} and nothing else", section.name)),
        }
    }
    if in_fence {
        complain(section.line, format!("a fenced block in `## {}` is not closed", section.name));
    }
    for item in &mut items {
        item.markdown.truncate(item.markdown.trim_end().len());
    }
    items
}

/// One line of plain text: emphasis, code marks and line breaks removed, links as `text (address)`.
pub fn plain(markdown: &str) -> String {
    let mut joined = String::with_capacity(markdown.len());
    for line in markdown.lines().filter(|line| !is_fence(line)) {
        for word in line.split_whitespace() {
            if !joined.is_empty() {
                joined.push(' ');
            }
            joined.push_str(word);
        }
    }
    let mut text = String::with_capacity(joined.len());
    for span in spans(&joined) {
        match span {
            Span::Text(words) | Span::Strong(words) | Span::Code(words) => text.push_str(words),
            Span::Link { text: words, address } => {
                write!(text, "{words} ({address})").expect("a String takes every write");
            }
        }
    }
    text
}

/// A stretch of inline Markdown.
#[derive(Debug, Eq, PartialEq)]
pub enum Span<'a> {
    Text(&'a str),
    Strong(&'a str),
    Code(&'a str),
    Link { text: &'a str, address: &'a str },
}

/// Splits one paragraph into spans. A mark without its partner is text; marks do not nest.
pub fn spans(text: &str) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    let mut rest = text;
    let mut plain_end = 0;
    while let Some(found) = rest[plain_end..].find(['`', '*', '[']) {
        let start = plain_end + found;
        let Some((span, end)) = marked(&rest[start..]) else {
            plain_end = start + 1;
            continue;
        };
        if start > 0 {
            spans.push(Span::Text(&rest[..start]));
        }
        spans.push(span);
        rest = &rest[start + end..];
        plain_end = 0;
    }
    if !rest.is_empty() {
        spans.push(Span::Text(rest));
    }
    spans
}

/// The marked span that `text` begins with, and its length in bytes.
fn marked(text: &str) -> Option<(Span<'_>, usize)> {
    let between = |mark: &'static str| {
        let inner = text.strip_prefix(mark)?;
        let length = inner.find(mark).filter(|length| *length > 0)?;
        Some((&inner[..length], length + 2 * mark.len()))
    };
    if let Some((inner, length)) = between("`") {
        return Some((Span::Code(inner), length));
    }
    if let Some((inner, length)) = between("**") {
        return Some((Span::Strong(inner), length));
    }
    let (words, tail) = text.strip_prefix('[')?.split_once("](")?;
    let (address, _) = tail.split_once(')')?;
    let is_link = !words.contains(['[', ']']) && address.starts_with("http");
    is_link.then_some((Span::Link { text: words, address }, words.len() + address.len() + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(page: &str, numbered: bool, expected: &[&str], complaints: &[&str]) {
        let sections = sections(page);
        let mut problems = Vec::new();
        let items =
            items(&sections[1], numbered, |line, message| problems.push(format!("{line}: {message}")));
        let actual: Vec<&str> = items.iter().map(|item| item.markdown.as_str()).collect();
        assert_eq!(actual, expected, "items of {page}");
        assert_eq!(problems, complaints, "complaints about {page}");
    }

    #[test]
    fn an_item_keeps_its_fence_and_loses_its_indentation() {
        check(
            "## Causes\n\n1. **A.** One\n   two:\n\n   ```kusto\n   T\n     | where\n   ## no section\n   ```\n2. B\n",
            true,
            &["**A.** One\ntwo:\n\n```kusto\nT\n  | where\n## no section\n```", "B"],
            &[],
        );
    }

    #[test]
    fn wrong_numbers_and_text_outside_items_are_named() {
        check(
            "## Fix\nDo this:\n\n1. a\n3. b\n",
            true,
            &["a", "b"],
            &["1: `## Fix` is a numbered list and nothing else", "4: this item is number 2"],
        );
        check(
            "## Prevent\n1. a\nb\n",
            false,
            &["a\nb"],
            &["1: `## Prevent` is a list of `- ` items", "2: indent the lines of an item by 3 spaces"],
        );
    }

    #[test]
    fn plain_text_has_no_marks_and_one_line() {
        assert_eq!(
            plain("Run **now** `az ad\n  app`, see [docs](https://x.y/z), 2 * 3 [a]"),
            "Run now az ad app, see docs (https://x.y/z), 2 * 3 [a]"
        );
    }
}
