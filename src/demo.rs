//! The demo's parts: stories, the writers of their traffic, the truth about it, and a broker in the process.
//!
//! A writer decides what happened, notes in the [`truth`] what must be counted, and then spells it in its shape; it never
//! asks the middle. That the two agree is what the demo shows, and the tests below.

use crate::digest::time::Millis;

pub mod random;
pub mod json;
pub mod scenario;
pub mod truth;
pub mod writer;
pub mod framing;
pub mod sign_in;
pub mod diagnostic;
pub mod log_analytics;
pub mod graph;
pub mod portal;
pub mod other;
pub mod refresh;
pub mod pipeline;
pub mod text;
pub mod broken;
pub mod broker;

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
        let scenario = self.stories.pick(seconds, &mut self.random);
        writer::write(&self.stories, scenario, &mut self.random, Moment(now), &mut self.memory)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::truth::Truth;
    use super::writer::{TOPICS, WRITERS};
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
    fn as_truth(tally: &Tally) -> Truth {
        let mut truth = Truth::default();
        truth.add("messages consumed", &[], tally.messages);
        for (log, outcomes) in LogCategory::ALL.iter().zip(&tally.records) {
            for (outcome, count) in Outcome::ALL.iter().zip(outcomes) {
                truth.add("records", &[log.as_str(), outcome.as_str()], *count);
            }
        }
        for (key, seen) in &tally.events {
            let labels = [&key.code.to_string(), key.flow.as_str(), key.outcome.as_str()];
            truth.add("events", &labels, seen.count);
        }
        for (code, count) in &tally.mentions {
            truth.add("mentions", &[&code.to_string()], *count);
        }
        truth.add("malformed codes", &[], tally.malformed_codes);
        truth.add("text lines", &[], tally.text_lines);
        for kind in Kind::ALL {
            truth.add("duplicates", &[kind.as_str()], tally.duplicates[*kind as usize]);
        }
        for reason in Reason::ALL {
            truth.add("messages rejected", &[reason.as_str()], tally.rejected_messages[*reason as usize]);
            truth.add("records rejected", &[reason.as_str()], tally.rejected_records[*reason as usize]);
        }
        truth
    }

    /// The service without its threads.
    struct Service {
        middle: Middle,
        window: Window,
    }

    impl Service {
        fn new() -> Self {
            let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
            Self { middle, window: Window::default() }
        }

        fn count(&mut self, message: &Message, now: Millis) -> Truth {
            let header =
                |name| message.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
            let input = Input {
                payload: message.payload.as_deref(),
                framing: Framing::Message,
                timestamp_ms: Some(now),
                source: Position::default(),
            };
            let mut digest = self.middle.digest(&[input]);
            let ids = EnvelopeIds { workspace_id: header("workspace-id"), dataset_id: header("dataset-id") };
            digest.held.iter_mut().for_each(|held| held.locate(&ids));
            digest.admit(&self.middle, |held| self.window.judge(held, Some(now), Old::IsRepeat));
            as_truth(&digest.tally)
        }

        #[track_caller]
        fn check(&mut self, message: &Message, now: Millis, what: &str) {
            let counted = self.count(message, now);
            let payload = String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default());
            assert_eq!(counted, message.truth, "{what}: {payload}");
        }
    }

    #[test]
    fn the_middle_counts_what_the_writers_meant() {
        for seed in [1, 2, 3] {
            let (mut traffic, mut service) = (Traffic::new(seed), Service::new());
            for number in 0..1500u64 {
                let now = NOW + 100 * i64::try_from(number).unwrap();
                let message = traffic.next(number / 10, now);
                service.check(&message, now, &format!("seed {seed}, message {number}"));
            }
        }
    }

    /// A message of `writer` alone, in a story that asks for it.
    fn write_alone(
        stories: &Stories,
        story: &scenario::Scenario,
        writer: &str,
        random: &mut Random,
    ) -> Message {
        let mut only = story.clone();
        only.writers = vec![writer.to_owned()];
        writer::write(stories, &only, random, Moment(NOW), &mut refresh::Memory::default())
    }

    #[test]
    fn every_writer_of_every_story_is_counted_as_it_means() {
        let stories = Stories::embedded();
        let (mut random, mut service) = (Random::new(7), Service::new());
        for story in &stories.scenario {
            for writer in &story.writers {
                for _ in 0..10 {
                    let message = write_alone(&stories, story, writer, &mut random);
                    service.check(&message, NOW, &format!("{writer} of {}", story.name));
                }
            }
        }
    }

    #[test]
    fn every_shape_has_a_story() {
        let stories = Stories::embedded();
        let told: BTreeSet<&str> =
            stories.scenario.iter().flat_map(|story| &story.writers).map(String::as_str).collect();
        let written: BTreeSet<&str> = WRITERS.iter().map(|writer| writer.name).collect();
        assert_eq!(told, written);
        let topics: BTreeSet<&str> = WRITERS.iter().map(|writer| writer.topic).collect();
        assert_eq!(topics, BTreeSet::from(TOPICS));
    }

    #[test]
    fn most_stories_begin_within_fifteen_seconds() {
        let (stories, mut random) = (Stories::embedded(), Random::new(1));
        let seen: BTreeSet<&str> =
            (0..15 * 200).map(|number| stories.pick(number / 200, &mut random).name.as_str()).collect();
        assert!(stories.scenario.len() - seen.len() <= 1, "only {seen:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_messages() {
        let bytes = |seed| {
            let mut traffic = Traffic::new(seed);
            (0..50).map(|number| traffic.next(number, NOW).payload).collect::<Vec<_>>()
        };
        assert_eq!(bytes(5), bytes(5));
        assert_ne!(bytes(5), bytes(6));
    }

    #[test]
    fn sizes_are_those_of_real_records() {
        let stories = Stories::embedded();
        let (story, mut random) = (&stories.scenario[0], Random::new(3));
        let mut check = |writer: &str, expected: std::ops::Range<u64>| {
            let (mut bytes, mut records) = (0, 0);
            for _ in 0..60 {
                let message = write_alone(&stories, story, writer, &mut random);
                let payload = message.payload.unwrap();
                // Of the framings only plain UTF-8 on one line says how large a record is.
                if payload.starts_with(b"{\"records\"") {
                    bytes += payload.len() as u64;
                    let counts = message.truth.counts.iter();
                    records +=
                        counts.filter(|(key, _)| key.0 == "records").map(|(_, count)| count).sum::<u64>();
                }
            }
            let size = bytes / records;
            assert!(expected.contains(&size), "{writer}: {size} bytes a record");
        };
        check("interactive", 2500..5000);
        check("non_interactive", 4000..6500);
        check("service_principal", 1200..2000);
        check("managed_identity", 1200..2000);
    }
}
