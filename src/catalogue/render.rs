//! Shows rules: as text for people, as Markdown, as JSON for programs, and as the table `rules/INDEX.md`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Catalogue;
use super::rule::{ByFlow, Rule, Variant};
use crate::code::Code;
use crate::terms::{Flow, Severity};

mod text;

pub use text::{Style, Told, code_rows, explain, severity_style};

/// `{"default":…,"FLOW":…}`: an object also where no flow differs, so that readers need one case only.
fn by_flow_json<T: Copy + ToString>(value: &ByFlow<T>) -> Value {
    let flows = value.by_flow.iter().map(|(flow, word)| (flow.to_string(), json!(word.to_string())));
    let default = ("default".to_owned(), json!(value.default.to_string()));
    Value::Object(std::iter::once(default).chain(flows).collect())
}

/// What `rules list --format json` prints of a rule.
pub fn list_json(rule: &Rule) -> Value {
    json!({
        "code": rule.code.to_string(),
        "name": rule.name,
        "title": rule.title,
        "summary": rule.summary,
        "tier": rule.tier,
        "category": rule.category.as_str(),
        "flows": rule.flows.iter().map(|flow| flow.as_str()).collect::<Vec<_>>(),
        "outcome": by_flow_json(&rule.outcome),
        "severity": by_flow_json(&rule.severity),
        "audience": by_flow_json(&rule.audience),
        "transient": rule.transient,
    })
}

/// What `explain --format json` prints of a rule: lists are Markdown items, `fix` is plain text.
pub fn explain_json(catalogue: &Catalogue, rule: &Rule) -> Value {
    let related: Vec<String> = catalogue.related(rule.code).iter().map(ToString::to_string).collect();
    let mut object = list_json(rule);
    let more = json!({
        "known": true,
        "umbrella": rule.umbrella,
        "meaning": rule.meaning,
        "causes": rule.causes,
        "fix": rule.fix,
        "prevent": rule.prevent,
        "do_not_confuse": rule.do_not_confuse,
        "example": rule.example,
        "related": related,
        "references": rule.references,
        "variants": rule.variants.iter().map(variant_json).collect::<Vec<_>>(),
    });
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

/// A variant's own values; what it leaves to its rule is absent.
fn variant_json(variant: &Variant) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), json!(variant.name));
    object.insert("contains".to_owned(), json!(variant.contains));
    let tables = [
        ("outcome", variant.outcome.as_ref().map(by_flow_json)),
        ("severity", variant.severity.as_ref().map(by_flow_json)),
        ("audience", variant.audience.as_ref().map(by_flow_json)),
        ("summary", variant.summary.as_ref().map(|summary| json!(summary))),
        ("fix", (!variant.fix.is_empty()).then(|| json!(variant.fix))),
    ];
    for (key, value) in tables {
        object.extend(value.map(|value| (key.to_owned(), value)));
    }
    Value::Object(object)
}

/// A code without a rule, in the form of [`explain_json`]: what is assumed of it and where to look.
pub fn unknown_json(code: Code) -> Value {
    let assumed = super::Verdict::UNKNOWN;
    json!({
        "code": code.to_string(),
        "known": false,
        "category": assumed.category.as_str(),
        "outcome": { "default": assumed.outcome.as_str() },
        "severity": { "default": assumed.severity.as_str() },
        "audience": { "default": assumed.audience.as_str() },
        "references": reference_page(code).into_iter().collect::<Vec<_>>(),
    })
}

/// Microsoft's own page for a code.
pub fn reference_page(code: Code) -> Option<String> {
    match code {
        Code::Aadsts(number) => Some(format!("https://login.microsoftonline.com/error?code={number}")),
        Code::Aadb2c(_) => {
            Some("https://learn.microsoft.com/azure/active-directory-b2c/error-codes".to_owned())
        }
        Code::Named(_) | Code::Unknown | Code::None => None,
    }
}

/// The default, and the span of all flows where they differ: `high (info … high)`.
pub fn severity_cell(severity: &ByFlow<Severity>) -> String {
    let all = || Flow::ALL.iter().map(|flow| severity.of(*flow));
    match (all().min(), all().max()) {
        (Some(lowest), Some(highest)) if lowest != highest => {
            format!("{} ({lowest} … {highest})", severity.default)
        }
        _ => severity.default.to_string(),
    }
}

/// Every word of the table once, the default first.
pub fn words_cell<T: Copy + PartialEq + ToString>(value: &ByFlow<T>) -> String {
    let mut words = vec![value.default];
    for (_, word) in &value.by_flow {
        if !words.contains(word) {
            words.push(*word);
        }
    }
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The whole catalogue as the Markdown table `rules/INDEX.md`.
pub fn index(catalogue: &Catalogue) -> String {
    let mut index = format!(
        "# Index of the rules\n\n{} rules. Written by `UPDATE_GOLDEN=1 cargo test --test it rules`; do not edit.\n\n\
         | code | severity | who acts | category | title |\n|---|---|---|---|---|\n",
        catalogue.len()
    );
    for rule in catalogue.rules() {
        let Rule { code, category, title, .. } = rule;
        let severity = severity_cell(&rule.severity);
        let audience = words_cell(&rule.audience);
        let title = title.replace('|', "\\|");
        writeln!(index, "| [{code}](codes/{code}.md) | {severity} | {audience} | {category} | {title} |")
            .expect("a String takes every write");
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};

    #[test]
    fn tables_by_flow_are_always_objects() {
        let catalogue = catalogue_of(&[("AADSTS50076", rule_file("AADSTS50076", "A"))]);
        let rule = catalogue.rule(Code::Aadsts(50076)).unwrap();
        let value = explain_json(&catalogue, rule);
        assert_eq!(value["code"], "AADSTS50076");
        assert_eq!(value["severity"], json!({ "default": "high", "interactive": "low" }));
        assert_eq!(value["audience"], json!({ "default": "user" }));
        assert_eq!(value["fix"], json!(["Do this with az login.", "Verify: it is gone."]));
        assert_eq!(value["name"], Value::Null);
    }

    #[test]
    fn the_index_shows_the_span_of_severities() {
        let catalogue = catalogue_of(&[("AADSTS50076", rule_file("AADSTS50076", "A|B"))]);
        let row = "| [AADSTS50076](codes/AADSTS50076.md) | high (low … high) | user | mfa | A\\|B |\n";
        assert!(index(&catalogue).ends_with(row));
    }
}
