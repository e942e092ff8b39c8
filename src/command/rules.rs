//! `aadstream rules`: lists the rules in force, checks a directory of them.

use std::path::Path;

use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use super::{load_catalogue, terminal};
use crate::catalogue::rule::{ByFlow, Rule};
use crate::catalogue::{Catalogue, render};
use crate::cli::{ListFormat, RulesCommand, RulesListArgs};
use crate::exit_code::Exit;
use crate::terms::Flow;

pub fn run(command: &RulesCommand) -> anyhow::Result<Exit> {
    match command {
        RulesCommand::List(args) => list(&load_catalogue(None, &[])?, args),
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

/// One row a rule; cells wrap only where a width is known, so that a pipe gets whole lines.
fn table(rules: &[&Rule], width: Option<usize>) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(["CODE", "TIER", "SEVERITY", "WHO ACTS", "CATEGORY", "TITLE"]);
    match width.and_then(|width| u16::try_from(width).ok()) {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for rule in rules {
        table.add_row([
            rule.code.to_string(),
            rule.tier.to_string(),
            render::severity_cell(&rule.severity),
            render::words_cell(&rule.audience),
            rule.category.to_string(),
            rule.title.clone(),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
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
        let catalogue = catalogue_of(&[("AADSTS50076", rule_file("AADSTS50076", title))]);
        let rules: Vec<&Rule> = catalogue.rules().collect();
        assert!(table(&rules, Some(60)).lines().all(|line| line.chars().count() <= 60));
        assert!(table(&rules, None).lines().nth(1).is_some_and(|line| line.ends_with(title)));
    }
}
