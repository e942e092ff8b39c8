//! The demo's parts: stories, the writers of their traffic, the truth about it, and a broker in the process.

use crate::digest::time::Millis;

pub mod broker;
pub mod random;
pub mod refresh;
pub mod scenario;
pub mod sign_in;
pub mod text;
pub mod truth;
pub mod writer;

use random::Random;
use scenario::Stories;
use writer::{Message, Moment};

/// Believable traffic; the same seed gives the same messages.
#[derive(Debug)]
pub struct Traffic {
    pub stories: Stories,
    random: Random,
    memory: refresh::Memory,
}

impl Traffic {
    pub fn new(seed: u64) -> Self {
        Self { stories: Stories::embedded(), random: Random::new(seed), memory: refresh::Memory::default() }
    }

    /// The next message, `seconds` after the start; `now` is the time that it speaks of.
    pub fn next(&mut self, seconds: u64, now: Millis) -> Message {
        let scenario = self.stories.pick(seconds, &mut self.random).clone();
        writer::write(&scenario, &mut self.random, Moment(now), &mut self.memory)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::digest::frame::EnvelopeIds;
    use crate::digest::tally::Tally;
    use crate::digest::{Framing, Input, Middle, Options, Position};
    use crate::terms::{Kind, LogCategory, Outcome, Reason};
    use crate::window::{Old, Window};

    const NOW: Millis = 1_763_600_000_000;

    /// A tally in the words of the truth.
    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order")]
    fn as_truth(tally: &Tally) -> truth::Truth {
        let mut truth = truth::Truth::default();
        let mut add = |metric, labels: &[&str], count: u64| {
            if count > 0 {
                let labels = labels.iter().map(|label| (*label).to_owned()).collect();
                *truth.counts.entry((metric, labels)).or_insert(0) += count;
            }
        };
        add("messages consumed", &[], tally.messages);
        for (log, outcomes) in LogCategory::ALL.iter().zip(&tally.records) {
            for (outcome, count) in Outcome::ALL.iter().zip(outcomes) {
                add("records", &[log.as_str(), outcome.as_str()], *count);
            }
        }
        for (key, seen) in &tally.events {
            add("events", &[&key.code.to_string(), key.flow.as_str(), key.outcome.as_str()], seen.count);
        }
        for (code, count) in &tally.mentions {
            add("mentions", &[&code.to_string()], *count);
        }
        add("text lines", &[], tally.text_lines);
        add("duplicates", &[Kind::Refresh.as_str()], tally.duplicates[Kind::Refresh as usize]);
        for reason in Reason::ALL {
            add("messages rejected", &[reason.as_str()], tally.rejected_messages[*reason as usize]);
            add("records rejected", &[reason.as_str()], tally.rejected_records[*reason as usize]);
        }
        truth
    }

    #[test]
    fn the_middle_counts_what_the_writers_meant() {
        let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
        for seed in [1, 2, 3] {
            let mut traffic = Traffic::new(seed);
            let mut window = Window::default();
            for number in 0..3000u64 {
                let message = traffic.next(number / 50, NOW + 1000 * i64::try_from(number).unwrap());
                let header = |name| {
                    message.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
                };
                let input = Input {
                    payload: message.payload.as_deref(),
                    framing: Framing::Message,
                    timestamp_ms: Some(NOW),
                    source: Position::default(),
                };
                let mut digest = middle.digest(&[input]);
                let ids =
                    EnvelopeIds { workspace_id: header("workspace-id"), dataset_id: header("dataset-id") };
                digest.held.iter_mut().for_each(|held| held.locate(&ids));
                digest.admit(&middle, |held| window.judge(held, Some(NOW), Old::IsRepeat));
                let counted = as_truth(&digest.tally);
                let payload = String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default());
                assert_eq!(counted, message.truth, "seed {seed}, message {number}: {payload}");
            }
        }
    }

    #[test]
    fn every_writer_of_the_stories_writes() {
        let stories = Stories::embedded();
        let mut random = Random::new(7);
        for story in &stories.scenario {
            for writer in &story.writers {
                let mut only = story.clone();
                only.writers = vec![writer.clone()];
                let message = writer::write(&only, &mut random, Moment(NOW), &mut refresh::Memory::default());
                assert!(!message.truth.counts.is_empty(), "{writer} of {}", story.name);
            }
        }
    }
}
