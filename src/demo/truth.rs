//! What the service must count, kept by the writers from what they meant to write.

use std::collections::BTreeMap;

use crate::terms::{Flow, Kind, LogCategory, Outcome, Reason};

/// Counts under the names and labels of the metrics they must show up in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Truth {
    pub counts: BTreeMap<(&'static str, Vec<String>), u64>,
}

impl Truth {
    fn add(&mut self, metric: &'static str, labels: &[&str]) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        *self.counts.entry((metric, labels)).or_default() += 1;
    }

    pub fn message(&mut self) {
        self.add("messages consumed", &[]);
    }

    pub fn record(&mut self, log: LogCategory, outcome: Outcome) {
        self.add("records", &[log.as_str(), outcome.as_str()]);
    }

    pub fn event(&mut self, code: &str, flow: Flow, outcome: Outcome) {
        self.add("events", &[code, flow.as_str(), outcome.as_str()]);
    }

    pub fn mention(&mut self, code: &str) {
        self.add("mentions", &[code]);
    }

    pub fn text(&mut self) {
        self.add("text lines", &[]);
    }

    pub fn duplicate(&mut self, kind: Kind) {
        self.add("duplicates", &[kind.as_str()]);
    }

    pub fn rejected_message(&mut self, reason: Reason) {
        self.add("messages rejected", &[reason.as_str()]);
    }

    pub fn rejected_record(&mut self, reason: Reason) {
        self.add("records rejected", &[reason.as_str()]);
    }

    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(key.clone()).or_default() += count;
        }
    }
}
