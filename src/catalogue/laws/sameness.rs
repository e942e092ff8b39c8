//! The law against filling in forms: no two rules say the same in Causes or in Fix.
//!
//! Words are compared in runs of five (shingles). Codes, names and links are left out first, so that a text copied
//! from one rule to the next with the number changed is still the same text.

use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};

use super::super::page::is_fence;
use super::super::parse::Entry;
use super::super::problem::Problems;
use super::page;

const SHINGLE_WORDS: usize = 5;
/// Share of the shorter section, in percent, that another rule may also hold.
const SHARED_PERCENT_MAX: usize = 60;
/// Shorter sections share everything by chance: "ask the user to sign in again".
const SHINGLES_MIN: usize = 8;

pub(super) fn check(entries: &[Entry]) -> Problems {
    let mut problems = Problems::default();
    for name in ["Causes", "Fix"] {
        let sections: Vec<Vec<u64>> = entries.iter().map(|entry| shingles(entry, name)).collect();
        for (left, right, percent) in alike(&sections) {
            let (left, right) = (&entries[left], &entries[right]);
            let heading = format!("## {name}");
            let line = right.rule().page.lines().position(|line| line == heading).unwrap_or(0);
            problems.push(
                right.path.as_str(),
                Some(right.page_line(line)),
                format!("{percent} % of `{heading}` also stands in {}: say what is specific", left.code),
            );
        }
    }
    problems
}

/// Pairs of sections that share too much, and how much in percent.
fn alike(sections: &[Vec<u64>]) -> Vec<(usize, usize, usize)> {
    let mut holders: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
    let mut pairs = Vec::new();
    for (right, section) in sections.iter().enumerate() {
        let mut shared = vec![0; right];
        for shingle in section {
            let earlier = holders.entry(*shingle).or_default();
            for left in &*earlier {
                shared[*left] += 1;
            }
            earlier.push(right);
        }
        for (left, count) in shared.into_iter().enumerate() {
            let shorter = section.len().min(sections[left].len());
            if shorter >= SHINGLES_MIN && count * 100 > shorter * SHARED_PERCENT_MAX {
                pairs.push((left, right, count * 100 / shorter));
            }
        }
    }
    pairs
}

/// Hashes of the distinct runs of five words in a section of the rule's page.
fn shingles(entry: &Entry, name: &str) -> Vec<u64> {
    let rule = entry.rule();
    let sections = page::sections(&rule.page);
    let Some(section) = sections.iter().find(|section| section.name == name) else { return Vec::new() };
    let own_name = rule.name.as_deref().map(str::to_lowercase);
    let text = section.lines.iter().filter(|line| !is_fence(line)).copied().collect::<Vec<_>>().join(" ");
    let text = text.to_lowercase();
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !word.contains("://"))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| word.contains(char::is_alphabetic))
        .filter(|word| !word.starts_with("aadsts") && !word.starts_with("aadb2c"))
        .filter(|word| own_name.as_deref() != Some(*word))
        .collect();
    let hash = |words: &[&str]| {
        let mut hasher = FxHasher::default();
        words.hash(&mut hasher);
        hasher.finish()
    };
    let mut shingles: Vec<u64> = words.windows(SHINGLE_WORDS).map(hash).collect();
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};

    const STEP: &str =
        "1. Open the portal, look for the app, read the log of today and compare both of them.";

    #[track_caller]
    fn check_steps(left: &str, right: &str, expected: usize) {
        let file = |code, step: &str| rule_file(code, code).replace("1. Do this with `az\n   login`.", step);
        let catalogue = catalogue_of(&[
            ("AADSTS50076", file("AADSTS50076", left)),
            ("AADSTS50079", file("AADSTS50079", right)),
        ]);
        let problems = check(catalogue.entries());
        assert_eq!(problems.len(), expected, "{problems}");
    }

    #[test]
    fn a_copy_with_another_number_is_still_a_copy() {
        check_steps(STEP, &STEP.replace("the app", "the app (AADSTS50079) https://x.y"), 1);
    }

    #[test]
    fn other_words_are_another_text() {
        check_steps(
            STEP,
            "1. Ask whoever changed the policy yesterday evening why the pilot group is in it.",
            0,
        );
    }
}
