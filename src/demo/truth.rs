//! What the service must count, kept by the writers from what they meant to write.

use std::collections::BTreeMap;

use crate::terms::{Flow, Kind, LogCategory, Outcome, Reason};

/// Counts under the names and labels of the metrics they must show up in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Truth {
    pub counts: BTreeMap<(&'static str, Vec<String>), u64>,
}

impl Truth {
    pub fn add(&mut self, metric: &'static str, labels: &[&str], count: u64) {
        if count > 0 {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            *self.counts.entry((metric, labels)).or_default() += count;
        }
    }

    pub fn message(&mut self) {
        self.add("messages consumed", &[], 1);
    }

    pub fn record(&mut self, log: LogCategory, outcome: Outcome) {
        self.add("records", &[log.as_str(), outcome.as_str()], 1);
    }

    pub fn event(&mut self, code: &str, flow: Flow, outcome: Outcome) {
        self.add("events", &[code, flow.as_str(), outcome.as_str()], 1);
    }

    pub fn mention(&mut self, code: &str) {
        self.add("mentions", &[code], 1);
    }

    /// Runs of digits that can be no code.
    pub fn malformed(&mut self, count: u64) {
        self.add("malformed codes", &[], count);
    }

    pub fn text(&mut self) {
        self.add("text lines", &[], 1);
    }

    pub fn duplicate(&mut self, kind: Kind) {
        self.add("duplicates", &[kind.as_str()], 1);
    }

    pub fn rejected_message(&mut self, reason: Reason) {
        self.add("messages rejected", &[reason.as_str()], 1);
    }

    pub fn rejected_record(&mut self, reason: Reason) {
        self.add("records rejected", &[reason.as_str()], 1);
    }

    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(key.clone()).or_default() += count;
        }
    }
}
