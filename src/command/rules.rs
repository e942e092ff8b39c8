//! `aadstream rules`: lists the rules in force, checks a directory of them.

use std::path::Path;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::Value;

use super::terminal;
use crate::catalogue::rule::{ByFlow, Rule};
use crate::catalogue::{Catalogue, render};
use crate::cli::{ListFormat, RulesCommand, RulesListArgs};
use crate::config::Settings;
use crate::exit_code::Exit;
use crate::terms::Flow;

/// Columns from which every cell of the table stands on one line, nearly always.
const WIDE: usize = 120;
/// Columns from which there is room for who acts beside the title.
const MIDDLE: usize = 75;

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
        ListFormat::Table => terminal::print(&table(&rules, terminal::width()))?,
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

fn is_wanted(rule: &Rule, args: &RulesListArgs) -> bool {
    let page = || format!("{}\n{}", rule.name.as_deref().unwrap_or_default(), rule.page).to_lowercase();
    args.category.is_none_or(|category| rule.category == category)
        && args.flow.is_none_or(|flow| rule.flows.contains(&flow))
        && args.severity.is_none_or(|severity| holds(&rule.severity, severity, args.flow))
        && args.audience.is_none_or(|audience| holds(&rule.audience, audience, args.flow))
        && (args.text.is_empty() || {
            let page = page();
            args.text.iter().all(|words| page.contains(&words.to_lowercase()))
        })
}

/// Whether the value is `word` in this flow, or in any.
fn holds<T: Copy + PartialEq>(value: &ByFlow<T>, word: T, flow: Option<Flow>) -> bool {
    match flow {
        Some(flow) => value.of(flow) == word,
        None => Flow::ALL.iter().any(|flow| value.of(*flow) == word),
    }
}

/// One row a rule. A pipe gets whole lines; a terminal gets as many columns as leave room for the titles.
fn table(rules: &[&Rule], width: Option<usize>) -> String {
    let is_wide = width.is_none_or(|width| width >= WIDE);
    let has_audience = width.is_none_or(|width| width >= MIDDLE);
    let pick = |cells: [String; 6]| {
        let [code, tier, severity, audience, category, title] = cells;
        let mut row = vec![code];
        row.extend(is_wide.then_some(tier));
        // Where room is short, the span of severities stands below the default.
        row.push(if is_wide { severity } else { severity.replacen(" (", "\n(", 1) });
        row.extend(has_audience.then(|| if is_wide { audience } else { audience.replace(", ", ",\n") }));
        row.extend(is_wide.then_some(category));
        row.push(title);
        row
    };
    let mut table = Table::new();
    let header = ["CODE", "TIER", "SEVERITY", "WHO ACTS", "CATEGORY", "TITLE"];
    table.load_style(comfy_table::presets::NOTHING).set_header(pick(header.map(str::to_owned)));
    for rule in rules {
        table.add_row(pick([
            rule.code.to_string(),
            rule.tier.to_string(),
            render::severity_cell(&rule.severity),
            render::words_cell(&rule.audience),
            rule.category.to_string(),
            rule.title.clone(),
        ]));
    }
    match width.and_then(|width| u16::try_from(width).ok()) {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    let last = table.column_iter().count().saturating_sub(1);
    for (position, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        // Only titles give way, and literals that would leave them no room.
        if position == 0
            && let Some(width) = width
        {
            let share = u16::try_from(width / 3).unwrap_or(u16::MAX);
            column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(share)));
        } else if position < last {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};
    use crate::cli::{Cli, Command};

    #[track_caller]
    fn check_filter(arguments: &[&str], expected: &[&str]) {
        let credential =
            rule_file("AADSTS7000222", "B").replace("\"mfa\"", "\"credential\"").replace("It has", "Key");
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
        check_filter(&[], &["AADSTS50076", "AADSTS7000222"]);
        check_filter(&["--category", "mfa"], &["AADSTS50076"]);
        check_filter(&["--severity", "low", "--flow", "text"], &[]);
        check_filter(&["--severity", "low", "--flow", "interactive", "key", "TWO LINES"], &["AADSTS7000222"]);
        check_filter(&["--flow", "refresh"], &[]);
        check_filter(&["--audience", "security"], &[]);
    }

    #[test]
    fn a_table_fits_its_terminal_and_a_pipe_gets_whole_lines() {
        let title = "A title that is long enough to be wrapped in a terminal";
        let literal = "DM_GWPipeline_Gateway_DataSourceAccessError";
        let catalogue = catalogue_of(&[
            ("AADSTS50076", rule_file("AADSTS50076", title)),
            (literal, rule_file(literal, "A")),
        ]);
        let rules: Vec<&Rule> = catalogue.rules().collect();
        for width in [45, 60, 80, 130] {
            let table = table(&rules, Some(width));
            assert!(table.lines().all(|line| line.chars().count() <= width), "{width}\n{table}");
        }
        assert!(table(&rules, None).lines().nth(1).is_some_and(|line| line.ends_with(title)));
    }
}
