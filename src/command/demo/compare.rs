//! Expected beside counted: the truth of the traffic against what a scrape shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::exposition::{Sample, samples, whole};
use crate::catalogue::Catalogue;
use crate::code::Code;
use crate::demo::truth::Truth;
use crate::report::table::thousands;

/// The comparison, for people and for the exit code.
pub struct Comparison {
    pub text: String,
    pub is_equal: bool,
}

type Counts = BTreeMap<(&'static str, Vec<String>), u64>;

/// Compares the truth with the exposition text of the metrics.
pub fn compare(truth: &Truth, exposition: &str, catalogue: &Catalogue) -> Comparison {
    let expected = bounded(&truth.counts, catalogue);
    let counted = counts(exposition);
    let mut keys: Vec<_> = expected.keys().chain(counted.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut families: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut differences = String::new();
    for key in keys {
        let expected = expected.get(key).copied().unwrap_or(0);
        let found = counted.get(key).copied().unwrap_or(0);
        let family = families.entry(key.0).or_default();
        family.0 += expected;
        family.1 += found;
        if expected != found {
            let _ = writeln!(
                differences,
                "  {} {}: expected {expected}, counted {found}",
                key.0,
                key.1.join(" ")
            );
        }
    }
    let is_equal = differences.is_empty();
    if families.is_empty() {
        return Comparison { text: "\nnothing was sent, and nothing was counted\n".to_owned(), is_equal };
    }
    let mut text = format!("\n{:20} {:>12} {:>12}\n", "", "expected", "counted");
    for (family, (expected, found)) in families {
        let _ = writeln!(text, "{family:20} {:>12} {:>12}", thousands(expected), thousands(found));
    }
    if is_equal {
        text.push_str("every count is as expected, code by code\n");
    } else {
        let _ = write!(text, "these counts differ:\n{differences}");
    }
    Comparison { text, is_equal }
}

/// The truth under bounded labels: a code without a rule is `unknown`, no code at all stays `none`.
fn bounded(truth: &Counts, catalogue: &Catalogue) -> Counts {
    let mut counts = Counts::new();
    for ((family, labels), count) in truth {
        let mut labels = labels.clone();
        if matches!(*family, "events" | "mentions")
            && labels[0] != Code::None.to_string()
            && catalogue.find(&labels[0]).is_none_or(|code| !catalogue.is_known(code))
        {
            "unknown".clone_into(&mut labels[0]);
        }
        *counts.entry((*family, labels)).or_default() += count;
    }
    counts
}

/// What a scrape shows, in the words of the truth.
fn counts(exposition: &str) -> Counts {
    let mut counts = Counts::new();
    for sample in samples(exposition) {
        let Some((name, labels)) = key(&sample) else { continue };
        if sample.value > 0.0 {
            let labels = labels.into_iter().map(str::to_owned).collect();
            *counts.entry((name, labels)).or_default() += whole(sample.value);
        }
    }
    counts
}

fn key<'s>(sample: &'s Sample<'_>) -> Option<(&'static str, Vec<&'s str>)> {
    let pick = |names: &[&str]| names.iter().map(|name| sample.label(name)).collect();
    Some(match sample.name {
        "aadstream_messages_consumed_total" => ("messages consumed", Vec::new()),
        "aadstream_records_total" => ("records", pick(&["log_category", "outcome"])),
        "aadstream_events_total" => ("events", pick(&["code", "flow", "outcome"])),
        "aadstream_mentions_total" => ("mentions", pick(&["code"])),
        "aadstream_malformed_codes_total" => ("malformed codes", Vec::new()),
        "aadstream_text_lines_total" => ("text lines", Vec::new()),
        "aadstream_duplicate_records_total" => ("duplicates", pick(&["kind"])),
        "aadstream_messages_rejected_total" => ("messages rejected", pick(&["reason"])),
        "aadstream_records_rejected_total" => ("records rejected", pick(&["reason"])),
        _ => return None,
    })
}
