//! `aadstream rules`: lists the rules in force, checks a directory of them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::terminal;
use crate::catalogue::Catalogue;
use crate::catalogue::render::{self, Style};
use crate::catalogue::rule::{ByFlow, Rule};
use crate::cli::{ListFormat, RulesCommand, RulesListArgs};
use crate::config::Settings;
use crate::exit_code::Exit;
use crate::terms::Flow;

/// Columns from which every column has room, and each title still stands on one line.
const WIDE: usize = 120;
/// Columns from which there is room for who acts.
const MIDDLE: usize = 95;
/// Longer codes are names; on a terminal these stand on a line of their own.
const CODE_WIDTH: usize = 13;

pub fn run(command: &RulesCommand) -> anyhow::Result<Exit> {
    match command {
        RulesCommand::List(args) => {
            list(&Settings::load_optional(args.config.as_deref())?.catalogue()?, args)
        }
        RulesCommand::Check { dir } => check(dir.as_deref()),
    }
}

/// Prints the rules that match every filter.
pub fn list(catalogue: &Catalogue, args: &RulesListArgs) -> anyhow::Result<Exit> {
    let rules: Vec<&Rule> = catalogue.rules().filter(|rule| is_wanted(rule, args)).collect();
    match args.format {
        ListFormat::Json => {
            let array = Value::Array(rules.iter().map(|rule| render::list_json(rule)).collect());
            terminal::print(&format!("{array:#}\n"))?;
        }
        ListFormat::Table if rules.is_empty() => terminal::remark("aadstream: no rule matches"),
        ListFormat::Table => {
            let flow = match args.flow.as_slice() {
                [flow] => Some(*flow),
                _ => None,
            };
            let layout = Layout { width: terminal::width(), style: terminal::style(), flow };
            terminal::print(&table(&rules, layout))?;
            if layout.width.is_some() {
                terminal::print(&format!("\n{}\n", summary(&rules, catalogue.len(), flow)))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Prints every problem of the embedded rules, or of those in `dir` laid over them.
fn check(dir: Option<&Path>) -> anyhow::Result<Exit> {
    let (rule_count, problems) = Catalogue::check(dir);
    if problems.is_empty() {
        terminal::print(&format!("{rule_count} rules, no problems\n"))?;
        return Ok(Exit::Done);
    }
    terminal::print(&format!("{problems}\n"))?;
    Ok(Exit::BadRules)
}

/// Whether every filter holds; those that speak of a situation must hold in one and the same flow.
fn is_wanted(rule: &Rule, args: &RulesListArgs) -> bool {
    fn any<T: PartialEq>(wanted: &[T], value: &T) -> bool {
        wanted.is_empty() || wanted.contains(value)
    }
    let is_situation = |flow: &Flow| {
        any(&args.severity, &rule.severity.of(*flow))
            && any(&args.audience, &rule.audience.of(*flow))
            && any(&args.outcome, &rule.outcome.of(*flow))
    };
    let mut flows = match args.flow.as_slice() {
        [] => Flow::ALL.to_vec(),
        flows => flows.iter().copied().filter(|flow| rule.flows.contains(flow)).collect(),
    };
    flows.retain(is_situation);
    let name = rule.name.as_deref().unwrap_or_default();
    let texts = format!("{}\n{name}\n{}\n{}", rule.code, rule.title, rule.summary).to_lowercase();
    any(&args.category, &rule.category)
        && any(&args.tier, &rule.tier)
        && !flows.is_empty()
        && args.text.iter().all(|words| texts.contains(&words.to_lowercase()))
}

/// How the table is laid out.
#[derive(Clone, Copy)]
struct Layout {
    /// A pipe gets whole lines, every severity and everybody who acts.
    width: Option<usize>,
    style: Style,
    /// Severity and who acts are shown as in this flow.
    flow: Option<Flow>,
}

/// One line a rule, as long as its code is no long name. A terminal gets as many columns as leave room for the titles.
fn table(rules: &[&Rule], layout: Layout) -> String {
    let has = |columns: usize| layout.width.is_none_or(|width| width >= columns);
    let pick = |[code, tier, severity, audience, category]: [String; 5]| {
        let mut row = vec![code];
        row.extend(has(WIDE).then_some(tier));
        row.push(severity);
        row.extend(has(MIDDLE).then_some(audience));
        row.extend(has(WIDE).then_some(category));
        row
    };
    let header = pick(["CODE", "TIER", "SEVERITY", "WHO ACTS", "CATEGORY"].map(str::to_owned));
    let rows: Vec<Vec<String>> = rules.iter().map(|rule| pick(cells(rule, layout))).collect();
    let is_short = |code: &str| layout.width.is_none() || code.len() <= CODE_WIDTH;
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter(|row| column > 0 || is_short(&row[0])).chain([&header]);
            cells.map(|row| row[column].chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    let bold = anstyle::Style::new().bold();
    let heading = format!("{}TITLE", start(&header, &widths));
    writeln!(out, "{}", layout.style.paint(bold, &heading)).expect("a String takes every write");
    for (rule, mut row) in rules.iter().zip(rows) {
        if !is_short(&row[0]) {
            // A name of its own line leaves the columns below it straight.
            writeln!(out, "{}", std::mem::take(&mut row[0])).expect("a String takes every write");
        }
        let start = start(&row, &widths);
        let rest = " ".repeat(start.chars().count());
        let width = layout.width.unwrap_or(usize::MAX).max(rest.len() + 20);
        let options = textwrap::Options::new(width).initial_indent(&start).subsequent_indent(&rest);
        let line = textwrap::fill(&rule.title, options);
        let severity = layout.flow.map_or(rule.severity.default, |flow| rule.severity.of(flow));
        let painted = layout.style.paint(render::severity_style(severity), severity.as_str());
        // Only the columns before the severity could spell its word, and no code does.
        let line = line.replacen(&format!(" {severity}"), &format!(" {painted}"), 1);
        writeln!(out, "{line}").expect("a String takes every write");
    }
    out
}

/// The cells before the title, padded.
fn start(cells: &[String], widths: &[usize]) -> String {
    cells.iter().zip(widths).fold(String::new(), |start, (cell, width)| start + &format!("{cell:width$}  "))
}

/// Code, tier, severity, who acts, category. On a terminal a `*` stands for what other flows say.
fn cells(rule: &Rule, layout: Layout) -> [String; 5] {
    let (severity, audience) = match (layout.flow, layout.width) {
        (Some(flow), _) => (rule.severity.of(flow).to_string(), rule.audience.of(flow).to_string()),
        (None, None) => (render::severity_cell(&rule.severity), render::words_cell(&rule.audience)),
        (None, Some(_)) => (starred(&rule.severity), starred(&rule.audience)),
    };
    [rule.code.to_string(), rule.tier.to_string(), severity, audience, rule.category.to_string()]
}

fn starred<T: ToString>(value: &ByFlow<T>) -> String {
    format!("{}{}", value.default.to_string(), if value.by_flow.is_empty() { "" } else { "*" })
}

/// What a person wants to know below the table.
fn summary(rules: &[&Rule], all: usize, flow: Option<Flow>) -> String {
    let differs = |rule: &&Rule| !rule.severity.by_flow.is_empty() || !rule.audience.by_flow.is_empty();
    let count =
        if rules.len() == all { format!("{all} rules") } else { format!("{} of {all} rules", rules.len()) };
    if flow.is_none() && rules.iter().any(differs) {
        return format!("{count}; * differs by flow, see --flow or explain");
    }
    count
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};
    use crate::cli::{Cli, Command};

    #[track_caller]
    fn check_filter(arguments: &[&str], expected: &[&str]) {
        let credential = rule_file("AADSTS7000222", "Key")
            .replace("\"mfa\"", "\"credential\"")
            .replace("tier = 2", "name = \"KeysExpired\"\ntier = 2")
            .replace("audience = \"user\"", "audience = { default = \"user\", refresh = \"security\" }");
        let catalogue =
            catalogue_of(&[("AADSTS50076", rule_file("AADSTS50076", "A")), ("AADSTS7000222", credential)]);
        let command = ["aadstream", "rules", "list"].iter().chain(arguments);
        let Command::Rules(RulesCommand::List(args)) = Cli::parse_from(command).command else {
            panic!("rules list was typed")
        };
        let actual: Vec<String> = catalogue
            .rules()
            .filter(|rule| is_wanted(rule, &args))
            .map(|rule| rule.code.to_string())
            .collect();
        assert_eq!(actual, expected, "of {arguments:?}");
    }

    #[test]
    fn filters_must_all_hold() {
        let [mfa, secret] = ["AADSTS50076", "AADSTS7000222"];
        check_filter(&[], &[mfa, secret]);
        check_filter(&["--category", "mfa"], &[mfa]);
        check_filter(&["--category", "mfa,credential"], &[mfa, secret]);
        check_filter(&["--severity", "low", "--flow", "text"], &[]);
        check_filter(&["--severity", "low,high", "--flow", "text"], &[mfa, secret]);
        check_filter(&["--severity", "low", "--flow", "interactive", "key", "TWO LINES"], &[secret]);
        check_filter(&["--flow", "refresh"], &[]);
        check_filter(&["--audience", "security"], &[secret]);
        check_filter(&["--audience", "security", "--severity", "high"], &[secret]);
        check_filter(&["--tier", "1"], &[]);
        check_filter(&["--tier", "2", "--outcome", "failure"], &[mfa, secret]);
        check_filter(&["--outcome", "interrupt"], &[]);
    }

    #[test]
    fn situations_are_those_of_one_flow() {
        // Low is interactive only, where security need not act.
        check_filter(&["--audience", "security", "--severity", "low"], &[]);
    }

    #[test]
    fn texts_are_those_that_name_the_rule() {
        check_filter(&["keysexp"], &["AADSTS7000222"]);
        check_filter(&["plain words"], &["AADSTS50076", "AADSTS7000222"]);
        check_filter(&["50076"], &["AADSTS50076"]);
        // That stands in the fix only.
        check_filter(&["az login"], &[]);
    }

    #[test]
    fn a_table_fits_its_terminal_and_a_pipe_gets_whole_lines() {
        let title = "A title of fifty letters, the longest there may be";
        let literal = "DM_GWPipeline_Gateway_DataSourceAccessError";
        let catalogue = catalogue_of(&[
            ("AADSTS7000222", rule_file("AADSTS7000222", title)),
            (literal, rule_file(literal, "A")),
        ]);
        let rules: Vec<&Rule> = catalogue.rules().collect();
        let of =
            |width, flow| table(&rules, Layout { width, style: Style { width: 0, is_colored: false }, flow });
        for width in [45, 60, 80, 100, 130] {
            let table = of(Some(width), None);
            assert!(table.lines().all(|line| line.chars().count() <= width), "{width}\n{table}");
        }
        let row = format!("AADSTS7000222  high*     {title}");
        assert_eq!(of(Some(80), None).lines().nth(1), Some(row.as_str()));
        assert_eq!(of(Some(80), Some(Flow::Interactive)).lines().nth(3), Some("               low       A"));
        let piped = of(None, None);
        assert!(piped.lines().nth(1).is_some_and(|line| line.ends_with(title)), "{piped}");
        assert!(piped.lines().nth(2).is_some_and(|line| line.contains("high (low … high)")), "{piped}");
    }
}
