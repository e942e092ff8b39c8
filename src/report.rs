//! What a scan found: one row a code, ready to be printed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::catalogue::Catalogue;
use crate::code::Code;
use crate::digest::event::title;
use crate::digest::tally::{Rejections, Tally};
use crate::digest::time::{self, Millis};
use crate::terms::{Audience, Category, Flow, Kind, Outcome, Reason, Severity};

pub mod table;

/// Everything a scan has to say.
#[derive(Debug)]
pub struct Report<'c> {
    pub files: u64,
    pub tally: Tally,
    /// By events, then by code.
    pub rows: Vec<Row<'c>>,
}

/// One code.
#[derive(Debug)]
pub struct Row<'c> {
    pub code: Code,
    pub known: bool,
    pub title: String,
    pub category: Category,
    /// The highest seen; of a code that was only mentioned the rule's for text.
    pub severity: Severity,
    /// Who acts at that severity.
    pub audience: Audience,
    pub fix: Option<&'c str>,
    pub events: u64,
    pub mentions: u64,
    /// Of events, as everything below: a code that was only mentioned has none.
    pub kinds: BTreeMap<Kind, u64>,
    pub flows: BTreeMap<Flow, u64>,
    pub first: Option<Millis>,
    pub last: Option<Millis>,
}

impl<'c> Report<'c> {
    pub fn new(files: u64, tally: Tally, catalogue: &'c Catalogue) -> Self {
        let mut rows: BTreeMap<Code, Row<'c>> = BTreeMap::new();
        for (key, seen) in sorted(&tally.events) {
            let row = rows.entry(key.code).or_insert_with(|| Row::new(key.code, catalogue));
            if row.events == 0 || key.severity > row.severity {
                (row.severity, row.audience) = (key.severity, key.audience);
            }
            row.category = key.category;
            row.events += seen.count;
            *row.kinds.entry(key.kind).or_default() += seen.count;
            *row.flows.entry(key.flow).or_default() += seen.count;
            row.first = [row.first, seen.first].into_iter().flatten().min();
            row.last = row.last.max(seen.last);
        }
        for (code, count) in sorted(&tally.mentions) {
            rows.entry(*code).or_insert_with(|| Row::new(*code, catalogue)).mentions += count;
        }
        let mut rows: Vec<Row<'c>> = rows.into_values().collect();
        rows.sort_by(|a, b| b.events.cmp(&a.events).then(a.code.cmp(&b.code)));
        Self { files, tally, rows }
    }

    /// The highest severity of any event.
    pub fn severity(&self) -> Option<Severity> {
        self.rows.iter().filter(|row| row.events > 0).map(|row| row.severity).max()
    }

    pub fn events(&self) -> u64 {
        self.rows.iter().map(|row| row.events).sum()
    }

    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.tally.records.iter().map(|outcomes| outcomes[outcome as usize]).sum()
    }

    pub fn records(&self) -> u64 {
        self.tally.records.iter().flatten().sum()
    }

    /// Messages and pieces of messages that could not be used, by reason.
    pub fn rejected(&self) -> Rejections {
        let mut rejected = self.tally.rejected_messages;
        rejected.iter_mut().zip(self.tally.rejected_records).for_each(|(sum, records)| *sum += records);
        rejected
    }

    /// The object of `scan --format json`; its keys are a contract.
    pub fn json(&self) -> Value {
        let tally = &self.tally;
        let outcomes: Map<String, Value> =
            Outcome::ALL.iter().map(|outcome| (outcome.to_string(), json!(self.outcome(*outcome)))).collect();
        let rejected = self.rejected();
        let rejected: Map<String, Value> = Reason::ALL
            .iter()
            .map(|reason| (reason.to_string(), json!(rejected[*reason as usize])))
            .collect();
        json!({
            "schema": 1,
            "files": self.files,
            "bytes": tally.bytes,
            "messages": tally.messages,
            "records": self.records(),
            "text_lines": tally.text_lines,
            "outcomes": outcomes,
            "kinds": self.kinds_json(),
            "rejected": rejected,
            "malformed_codes": tally.malformed_codes,
            "duplicates": tally.duplicates.iter().sum::<u64>(),
            "codes": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }

    /// The three kinds always, `other` where such records came.
    fn kinds_json(&self) -> Value {
        let mut kinds = Map::new();
        for kind in [Kind::SignIn, Kind::Refresh, Kind::Pipeline, Kind::Other] {
            let outcomes = &self.tally.kinds[kind as usize];
            let records: u64 = outcomes.iter().sum();
            if kind == Kind::Other && records == 0 {
                continue;
            }
            let mut object = Map::from_iter([("records".to_owned(), json!(records))]);
            for outcome in Outcome::ALL {
                if *outcome != Outcome::Other || kind == Kind::Other {
                    object.insert(outcome.to_string(), json!(outcomes[*outcome as usize]));
                }
            }
            kinds.insert(kind.to_string(), Value::Object(object));
        }
        Value::Object(kinds)
    }
}

impl<'c> Row<'c> {
    fn new(code: Code, catalogue: &'c Catalogue) -> Self {
        let rule = catalogue.rule(code);
        let verdict = catalogue.verdict(code, Flow::Text, None).unwrap_or(crate::catalogue::Verdict::UNKNOWN);
        Self {
            code,
            known: rule.is_some(),
            title: title(catalogue, code),
            category: verdict.category,
            severity: verdict.severity,
            audience: verdict.audience,
            fix: rule.and_then(|rule| rule.fix.first()).map(String::as_str),
            events: 0,
            mentions: 0,
            kinds: BTreeMap::new(),
            flows: BTreeMap::new(),
            first: None,
            last: None,
        }
    }

    fn json(&self) -> Value {
        fn counts<K: ToString>(counts: &BTreeMap<K, u64>) -> Map<String, Value> {
            counts.iter().map(|(key, count)| (key.to_string(), json!(count))).collect()
        }
        let mut object = json!({
            "code": self.code.to_string(),
            "known": self.known,
            "title": self.title,
            "category": self.category.as_str(),
            "severity": self.severity.as_str(),
            "audience": self.audience.as_str(),
            "events": self.events,
            "mentions": self.mentions,
            "kinds": counts(&self.kinds),
            "flows": counts(&self.flows),
        });
        let optional = [
            ("fix", self.fix.map(str::to_owned)),
            ("first", self.first.map(time::format)),
            ("last", self.last.map(time::format)),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                object[key] = Value::String(value);
            }
        }
        object
    }
}

fn sorted<K: Ord, V>(map: &rustc_hash::FxHashMap<K, V>) -> Vec<(&K, &V)> {
    let mut entries: Vec<(&K, &V)> = map.iter().collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
    entries
}
