//! The report of a scan for people: what was read, then a row a code with its first fix below.

use std::fmt::Write as _;

use anstyle::Style;
use textwrap::core::display_width;

use super::{Report, Row};
use crate::catalogue::render::severity_style;
use crate::terms::{Outcome, Reason};

/// Columns where nobody says how wide the terminal is.
const WIDTH: usize = 110;
/// Narrower than this nothing can be laid out.
const MIN_WIDTH: usize = 50;
/// Columns from which who acts has a column of its own.
const WITH_AUDIENCE: usize = 100;
/// Letters of the longest code that is a number.
const NUMBER_WIDTH: usize = 14;
/// Where the first step of the fix begins: below the severity.
const FIX_INDENT: usize = 19;

/// How the report is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub width: Option<usize>,
    pub is_colored: bool,
    /// Rows at most.
    pub top: Option<usize>,
}

/// Renders the report.
pub fn render(report: &Report<'_>, layout: Layout) -> String {
    let mut out = String::new();
    summary(report, &mut out);
    let rows: Vec<&Row<'_>> = report.rows.iter().filter(|row| row.events > 0).collect();
    if rows.is_empty() {
        let _ = writeln!(out, "\nno failure and no code found");
        return out;
    }
    let shown = layout.top.unwrap_or(rows.len()).min(rows.len());
    let columns = Columns::new(&rows[..shown], layout);
    let total = report.events();
    let plain = [Style::new(); 2];
    let heading = columns.start("events", "share", ["severity", "who acts", "code"], plain, layout) + "title";
    let _ = writeln!(out, "\n{}", painted(&heading, Style::new().bold(), layout));
    for row in &rows[..shown] {
        columns.row(row, total, layout, &mut out);
    }
    let hidden = rows.len() - shown;
    if hidden > 0 {
        let events: u64 = rows[shown..].iter().map(|row| row.events).sum();
        let codes = plural(hidden as u64, "more code");
        let _ = writeln!(out, "{:>10} {:>6}  in {codes}", thousands(events), share(events, total));
    }
    let mentioned = (report.rows.len() - rows.len()) as u64;
    if mentioned > 0 {
        let was = if mentioned == 1 { "was" } else { "were" };
        let codes = plural(mentioned, "more code");
        let _ = writeln!(out, "\n{codes} {was} only mentioned beside others (see --format json)");
    }
    out
}

fn summary(report: &Report<'_>, out: &mut String) {
    let tally = &report.tally;
    let _ = writeln!(
        out,
        "{} in {}: {}, {}",
        bytes(tally.bytes),
        plural(report.files, "file"),
        plural(report.records(), "record"),
        plural(tally.text_lines, "line of text").replace("line of texts", "lines of text"),
    );
    let outcomes: Vec<String> = Outcome::ALL
        .iter()
        .filter(|outcome| report.outcome(**outcome) > 0)
        .map(|outcome| format!("{} {outcome}", thousands(report.outcome(*outcome))))
        .collect();
    if !outcomes.is_empty() {
        let _ = writeln!(out, "{}", outcomes.join(", "));
    }
    let rejected = report.rejected();
    let reasons: Vec<String> = Reason::ALL
        .iter()
        .filter(|reason| rejected[**reason as usize] > 0)
        .map(|reason| format!("{} {reason}", thousands(rejected[*reason as usize])))
        .collect();
    if !reasons.is_empty() {
        let _ = writeln!(out, "rejected: {}", reasons.join(", "));
    }
    for (count, what) in [
        (tally.duplicates.iter().sum(), "repeated records left out"),
        (tally.malformed_codes, "runs of digits behind AADSTS that are no code"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "{} {what}", thousands(count));
        }
    }
}

/// Where the columns of the table stand.
struct Columns {
    code_width: usize,
    /// Where there is no room for it, who acts stands before the fix.
    has_audience: bool,
    width: usize,
}

impl Columns {
    fn new(rows: &[&Row<'_>], layout: Layout) -> Self {
        // Names are long; they do not push the titles of the numbers aside.
        let numbers =
            rows.iter().map(|row| row.code.to_string().len()).filter(|length| *length <= NUMBER_WIDTH);
        Self {
            code_width: numbers.max().unwrap_or(4),
            has_audience: layout.width.is_none_or(|width| width >= WITH_AUDIENCE),
            width: layout.width.unwrap_or(WIDTH).max(MIN_WIDTH),
        }
    }

    /// What stands before the title; severity and code are padded before they are painted.
    fn start(
        &self,
        events: &str,
        share: &str,
        cells: [&str; 3],
        paint: [Style; 2],
        layout: Layout,
    ) -> String {
        let [severity, audience, code] = cells;
        let severity = painted(&format!("{severity:8}"), paint[0], layout);
        let audience = if self.has_audience { format!("{audience:14}  ") } else { String::new() };
        let code = painted(&format!("{code:width$}", width = self.code_width), paint[1], layout);
        format!("{events:>10} {share:>6}  {severity}  {audience}{code}  ")
    }

    fn row(&self, row: &Row<'_>, total: u64, layout: Layout, out: &mut String) {
        let code = row.code.to_string();
        let cells = [row.severity.as_str(), row.audience.as_str(), &code];
        let paint = [severity_style(row.severity), Style::new().bold()];
        let start = self.start(&thousands(row.events), &share(row.events, total), cells, paint, layout);
        let start_width = display_width(&start);
        // A pipe gets the whole row on one line; else the title of a long name stands below it where it must.
        if layout.width.is_none() || start_width + display_width(&row.title) <= self.width {
            let _ = writeln!(out, "{start}{}", row.title);
        } else if code.len() > self.code_width {
            let rest = " ".repeat(start_width - code.len() + self.code_width);
            let _ = writeln!(out, "{}\n{}", start.trim_end(), self.wrap(&row.title, &rest, &rest));
        } else {
            let _ = writeln!(out, "{}", self.wrap(&row.title, &start, &" ".repeat(start_width)));
        }
        let Some(fix) = row.fix else { return };
        let indent = " ".repeat(FIX_INDENT);
        let first = if self.has_audience { indent.clone() } else { format!("{indent}{}: ", row.audience) };
        for line in self.wrap(fix, &first, &indent).lines() {
            let _ = writeln!(out, "{}", painted(line, Style::new().dimmed(), layout));
        }
    }

    fn wrap(&self, text: &str, first: &str, rest: &str) -> String {
        let options = textwrap::Options::new(self.width)
            .initial_indent(first)
            .subsequent_indent(rest)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(text, options)
    }
}

fn painted(text: &str, style: Style, layout: Layout) -> String {
    if layout.is_colored { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.1}%", part as f64 * 100.0 / whole.max(1) as f64)
}

fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in decimal units, as disks and networks count them.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::code::Code;
    use crate::digest::tally::Tally;
    use crate::terms::{Audience, Category, Severity};

    fn row(code: Code, title: &str) -> Row<'static> {
        Row {
            code,
            known: true,
            title: title.to_owned(),
            category: Category::Refresh,
            severity: Severity::High,
            audience: Audience::IdentityAdmin,
            fix: Some("Open the Sign-in logs, look for what is written there, and go on from there."),
            events: 1,
            mentions: 1,
            kinds: BTreeMap::new(),
            flows: BTreeMap::new(),
            first: None,
            last: None,
        }
    }

    #[test]
    fn the_table_fits_its_terminal_and_a_pipe_gets_whole_rows() {
        let name = "DM_GWPipeline_Gateway_InvalidConnectionCredentials";
        let title = "A title of fifty letters, the longest there may be";
        let rows = vec![row(Code::Aadsts(50126), title), row(Code::Named(name), title)];
        let report = Report { files: 1, tally: Tally::default(), rows };
        let of = |width, is_colored| render(&report, Layout { width, is_colored, top: None });
        for width in [60, 80, 99, 100, 130] {
            let table = of(Some(width), false);
            for line in table.lines().filter(|line| !line.ends_with(name)) {
                assert!(line.chars().count() <= width, "{width}\n{table}");
            }
            let colored = of(Some(width), true);
            assert!(
                colored.lines().map(display_width).eq(table.lines().map(display_width)),
                "colours move nothing\n{table}"
            );
        }
        assert!(of(Some(80), false).contains("    identity_admin: Open the Sign-in"));
        assert!(of(None, false).lines().any(|line| line.ends_with(&format!("{name}  {title}"))));
    }

    #[test]
    fn numbers_are_grouped_and_bytes_have_units() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(
            (bytes(999), bytes(1_500), bytes(2_000_000_000)),
            ("999 B".into(), "1.5 KB".into(), "2.0 GB".into())
        );
    }
}
