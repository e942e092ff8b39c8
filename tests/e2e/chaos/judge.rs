//! What came out beside what had to: a second opinion, which knows nothing of `aadstream audit`.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::corpus::Truth;
use crate::support::Record;

/// Partition and offset of a message.
pub type Place = (i32, i64);

/// The messages between these offsets, by partition, were read by somebody and committed by nobody when a fault came:
/// they may come twice because of it.
#[derive(Clone, Debug)]
pub struct Exposed {
    pub from: Vec<i64>,
    pub to: Vec<i64>,
}

impl Exposed {
    fn holds(&self, (partition, offset): Place) -> bool {
        let at = usize::try_from(partition).expect("partitions are not negative");
        self.from[at] <= offset && offset < self.to[at]
    }

    pub fn messages(&self) -> i64 {
        self.from.iter().zip(&self.to).map(|(from, to)| to - from).sum()
    }
}

/// What must have come out.
#[derive(Debug, Default)]
pub struct Books {
    /// Events as indices, dead letters as index and reason.
    events: HashMap<(Place, u32), Found>,
    letters: HashMap<(Place, Option<u32>), (&'static str, Found)>,
    unexpected: Vec<String>,
}

/// What the first copy was, and how many came.
#[derive(Debug, Default)]
struct Found {
    hash: u64,
    times: u64,
}

impl Found {
    fn note(&mut self, record: &Record) {
        let mut hasher = DefaultHasher::new();
        (&record.key, &record.payload).hash(&mut hasher);
        let hash = hasher.finish();
        assert!(self.times == 0 || self.hash == hash, "copies differ: {:?}", record.headers);
        *self = Self { hash, times: self.times + 1 };
    }
}

#[derive(Debug, Default)]
pub struct Verdict {
    /// Events, and dead letters of broken input.
    pub expected: [u64; 2],
    pub lost: Vec<String>,
    pub doubled: u64,
    /// Copies that no fault explains.
    pub unexplained: Vec<String>,
    pub unexpected: Vec<String>,
}

impl Books {
    pub fn expect(&mut self, place: Place, truth: &Truth) {
        for &index in &truth.events {
            self.events.insert((place, index), Found::default());
        }
        for &(index, reason) in &truth.letters {
            self.letters.insert((place, index), (reason, Found::default()));
        }
    }

    pub fn found_event(&mut self, topic: &str, record: &Record) {
        let id = record.header("event-id");
        let place = id.strip_prefix(topic).and_then(|rest| {
            let mut numbers = rest.split('/').skip(1);
            let place = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
            Some((place, numbers.next()?.parse().ok()?))
        });
        match place.and_then(|place| self.events.get_mut(&place)) {
            Some(found) => found.note(record),
            None => self.unexpected.push(format!("event {id}")),
        }
    }

    /// A dead letter: broken input, or an event that its topic refuses.
    pub fn found_letter(&mut self, topic: &str, record: &Record) {
        if record.header("reason") == "undeliverable" {
            return self.found_event(topic, record);
        }
        let number = |name| record.header(name).parse::<i64>().ok();
        let index = number("index").and_then(|index| u32::try_from(index).ok());
        let place = number("partition").and_then(|it| i32::try_from(it).ok()).zip(number("offset"));
        let expected = place.and_then(|place| self.letters.get_mut(&(place, index)));
        match expected {
            Some((reason, found)) if *reason == record.header("reason") => found.note(record),
            _ => self.unexpected.push(format!("dead letter {:?}", record.headers)),
        }
    }

    /// `low` is the first message of each partition that is still there; what came of those before it may be missing.
    pub fn verdict(&self, low: &[i64], exposed: &[Exposed]) -> Verdict {
        let mut verdict = Verdict { unexpected: self.unexpected.clone(), ..Verdict::default() };
        let events = self.events.iter().map(|((place, index), found)| (*place, Some(*index), found));
        let letters = self.letters.iter().map(|((place, index), (_, found))| (*place, *index, found));
        let all: BTreeMap<_, _> = events
            .map(|(place, index, found)| (("event", place, index), found))
            .chain(letters.map(|(place, index, found)| (("dead letter", place, index), found)))
            .collect();
        for ((kind, place, index), found) in all {
            let name = || format!("{kind} {}/{}/{index:?}", place.0, place.1);
            let is_there = place.1 >= low[usize::try_from(place.0).expect("partitions are not negative")];
            verdict.expected[usize::from(kind == "dead letter")] += u64::from(is_there);
            if found.times == 0 && is_there {
                verdict.lost.push(name());
            }
            let copies = found.times.saturating_sub(1);
            verdict.doubled += copies;
            let chances = exposed.iter().filter(|exposed| exposed.holds(place)).count() as u64;
            if copies > chances {
                verdict.unexplained.push(format!("{}: {copies} copies, {chances} faults", name()));
            }
        }
        verdict
    }
}
