//! The embedded rules obey their laws, and `aadstream rules` shows and checks them.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use aadstream::catalogue::{Catalogue, laws, render};
use serde_json::Value;

#[track_caller]
fn rules(arguments: &[&str], expected: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aadstream"));
    let output = command.arg("rules").args(arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(expected), "{arguments:?}\n{stdout}\n{stderr}");
    stdout + &stderr
}

#[test]
fn embedded_rules_obey_every_law() {
    let problems = laws::check(&Catalogue::embedded());
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn index_lists_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/INDEX.md");
    let index = render::index(&Catalogue::embedded());
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &index).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == index, "rules/INDEX.md is old: run UPDATE_GOLDEN=1 cargo test --test it rules");
}

#[test]
fn list_prints_tables_by_flow_as_objects() {
    let array: Value = serde_json::from_str(&rules(&["list", "--format", "json"], 0)).unwrap();
    let rules = array.as_array().unwrap();
    assert_eq!(rules.len(), Catalogue::embedded().len());
    for rule in rules {
        for key in ["code", "title", "category", "summary"] {
            assert!(rule[key].is_string(), "{key} of {rule}");
        }
        for key in ["outcome", "severity", "audience"] {
            assert!(rule[key]["default"].is_string(), "{key} of {rule}");
        }
        assert!(rule["tier"].is_u64() && rule["flows"].is_array(), "{rule}");
    }
}

#[test]
fn a_wrong_word_in_a_filter_is_a_usage_error_and_no_match_is_not() {
    assert!(rules(&["list", "--severity", "hihg"], 2).contains("a similar value exists: 'high'"));
    assert_eq!(rules(&["list", "no page holds these words"], 0), "aadstream: no rule matches\n");
}

#[test]
fn check_reports_every_problem_of_a_directory_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("AADSTS50076.md", "# no head\n");
    write("AADSTS50079.md", "```toml\nteir = 2\n```\n\n# AADSTS50079: A\n\nB.\n");
    let printed = rules(&["check", directory.path().to_str().unwrap()], 4);
    for expected in
        ["50076.md:1: a rule begins", "50079.md:2: unknown key `teir`; did you mean `tier`?", "problems\n"]
    {
        assert!(printed.contains(expected), "{expected} in {printed}");
    }
    let missing = rules(&["check", "no/such/directory"], 4);
    assert!(missing.contains("no/such/directory: cannot read the directory: "), "{missing}");
}

#[test]
fn check_takes_the_catalogues_own_directory() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/codes");
    let printed = rules(&["check", directory.to_str().unwrap()], 0);
    assert!(printed.ends_with("rules, no problems\n"), "{printed}");
}
