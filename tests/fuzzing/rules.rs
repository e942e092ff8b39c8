//! A rule file: refused with its problems, or a rule that every command can show, and the same whatever its line ends.

use std::borrow::Cow;
use std::sync::LazyLock;

use aadstream::catalogue::Catalogue;
use aadstream::catalogue::parse::{Entry, parse};
use aadstream::catalogue::problem::Problems;

use aadstream::catalogue::render::{Style, Told, explain, explain_json, list_json};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::embedded);

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(entry) = read(text) else { return };
    let rule = entry.rule();
    let again = read(&entry.source).expect("what was read once is read again");
    assert_eq!(rule, again.rule());
    if !text.contains('\r') {
        let windows = read(&text.replace('\n', "\r\n")).expect("the ends of lines do not matter");
        assert_eq!(rule, windows.rule());
    }
    let narrow = Style { width: 40, is_colored: false };
    assert!(explain(&CATALOGUE, rule, Told::default(), narrow).contains("AADSTS50126"));
    let json = explain_json(&CATALOGUE, rule);
    assert_eq!(json["code"], "AADSTS50126");
    assert!(json["fix"].as_array().is_some_and(|steps| steps.len() == rule.fix.len()), "{json}");
    assert!(list_json(rule)["severity"]["default"].is_string());
}

fn read(text: &str) -> Option<Entry> {
    let mut problems = Problems::default();
    let path = "AADSTS50126.md";
    let entry = parse(path, path.to_owned(), Cow::Owned(text.to_owned()), true, &mut problems);
    assert_eq!(entry.is_none(), !problems.is_empty(), "a rule or problems:\n{problems}");
    entry
}
