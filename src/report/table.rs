//! The report of a scan for people: what was read, then a row a code with its first fix below.

use std::fmt::Write as _;

use anstyle::Style;

use super::{Report, Row};
use crate::catalogue::render::severity_style;
use crate::terms::{Outcome, Reason};

/// Columns where nobody says how wide the terminal is.
const WIDTH: usize = 110;

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
    let mentioned = report.rows.len() - rows.len();
    if rows.is_empty() {
        let _ = writeln!(out, "\nno failure and no code found");
        return out;
    }
    let shown = layout.top.unwrap_or(rows.len()).min(rows.len());
    let code_width = rows[..shown].iter().map(|row| row.code.to_string().len()).max().unwrap_or(0).max(4);
    let total = report.events();
    let bold = Style::new().bold();
    let heading = format!(
        "{:>10} {:>6}  {:8}  {:14}  {:code_width$}  title",
        "events", "share", "severity", "who acts", "code"
    );
    let _ = writeln!(out, "\n{}", painted(&heading, bold, layout));
    for row in &rows[..shown] {
        render_row(row, total, code_width, layout, &mut out);
    }
    let hidden = rows.len() - shown;
    if hidden > 0 {
        let events: u64 = rows[shown..].iter().map(|row| row.events).sum();
        let _ =
            writeln!(out, "{:>10} {:>6}  in {hidden} more codes", thousands(events), share(events, total));
    }
    if mentioned > 0 {
        let _ =
            writeln!(out, "\n{mentioned} more codes were only mentioned beside others (see --format json)");
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

fn render_row(row: &Row<'_>, total: u64, code_width: usize, layout: Layout, out: &mut String) {
    let severity = painted(&format!("{:8}", row.severity), severity_style(row.severity), layout);
    let code = painted(&format!("{:code_width$}", row.code), Style::new().bold(), layout);
    let _ = writeln!(
        out,
        "{:>10} {:>6}  {severity}  {:14}  {code}  {}",
        thousands(row.events),
        share(row.events, total),
        row.audience,
        row.title,
    );
    let Some(fix) = row.fix else { return };
    let indent = " ".repeat(19);
    let width = layout.width.unwrap_or(WIDTH).max(60);
    let options = textwrap::Options::new(width).initial_indent(&indent).subsequent_indent(&indent);
    for line in textwrap::wrap(fix, options) {
        let _ = writeln!(out, "{}", painted(&line, Style::new().dimmed(), layout));
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
    use super::*;

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
