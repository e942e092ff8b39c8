//! What should have left beside what did: lost, doubled, unexpected.
//!
//! Places of what is expected are held in memory, 16 bytes each; what is found is looked up there one by one.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

/// Places that an audit holds; some 300 MB with those of repeated refreshes.
pub const LIMIT: usize = 10_000_000;

/// Ids named of each kind of difference.
const SHOWN: usize = 10;

/// The index of a letter that is a whole message.
pub const WHOLE: u32 = u32::MAX;

/// The part of a partition that is compared.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Range {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    /// Messages before this offset are not there any more: nobody can tell what should have come of them.
    pub deleted_before: i64,
}

/// Topic, partition, offset and index, as a letter says.
pub type Claim<'a> = (&'a str, i32, i64, u32);

/// Which range, and where in it.
type Place = (u32, i64, u32);

#[derive(Clone, Copy, Debug)]
struct Item {
    offset: i64,
    index: u32,
    times: u32,
}

/// Either events or dead letters.
#[derive(Debug, Default)]
struct Side {
    expected: Vec<Vec<Item>>,
    /// Repeats of a refresh, each with the place that stands for all of them, and how often it was found.
    repeats: BTreeMap<Place, (Place, u32)>,
    found: u64,
    outside: u64,
    unexpected: Difference,
}

/// How many, and the first of them.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Difference {
    pub count: u64,
    pub first: Vec<String>,
}

impl Difference {
    fn add(&mut self, id: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(id());
        }
    }
}

/// What came of the comparison of one side.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Outcome {
    pub expected: u64,
    pub found: u64,
    pub lost: Difference,
    /// Those that are there more than once, under the same id.
    pub doubled: Difference,
    /// How many more there are of those than one of each.
    pub copies: u64,
    pub unexpected: Difference,
    /// Found, of messages that are not compared.
    pub outside: u64,
    /// Refreshes that a later process told again, from a later poll of their history: law 3's memory ends with a process.
    pub retold: u64,
}

impl Outcome {
    pub const fn is_equal(&self) -> bool {
        self.lost.count == 0 && self.doubled.count == 0 && self.unexpected.count == 0
    }
}

/// What is expected and what was found.
#[derive(Debug)]
pub struct Books {
    pub ranges: Vec<Range>,
    sides: [Side; 2],
    /// Where each refresh stood first.
    keys: FxHashMap<String, Place>,
    held: usize,
}

/// Which of the two sides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Event,
    Letter,
}

/// More than [`LIMIT`].
#[derive(Debug, Eq, PartialEq)]
pub struct TooMany;

impl Books {
    pub fn new(ranges: Vec<Range>) -> Self {
        let side = || Side { expected: vec![Vec::new(); ranges.len()], ..Side::default() };
        Self { sides: [side(), side()], keys: FxHashMap::default(), held: 0, ranges }
    }

    fn hold(&mut self) -> Result<(), TooMany> {
        self.held += 1;
        if self.held > LIMIT { Err(TooMany) } else { Ok(()) }
    }

    /// Something must have come of a message of this range.
    pub fn expect(&mut self, kind: Kind, range: usize, offset: i64, index: u32) -> Result<(), TooMany> {
        self.sides[kind as usize].expected[range].push(Item { offset, index, times: 0 });
        self.hold()
    }

    /// The same of a record with copies: one event for all of them, whichever was read first.
    pub fn expect_once(&mut self, key: String, range: usize, offset: i64, index: u32) -> Result<(), TooMany> {
        let place = (number(range), offset, index);
        match self.keys.get(&key) {
            Some(first) => {
                self.sides[Kind::Event as usize].repeats.insert(place, (*first, 0));
                self.hold()
            }
            None => {
                self.keys.insert(key, place);
                self.expect(Kind::Event, range, offset, index)
            }
        }
    }

    /// All that is expected is known.
    pub fn close(&mut self) {
        self.keys = FxHashMap::default();
        for items in self.sides.iter_mut().flat_map(|side| &mut side.expected) {
            items.sort_unstable_by_key(|item| (item.offset, item.index));
        }
    }

    /// An event or dead letter says that it is of this place; `at` is where it was found. Topics that are not read are
    /// not repeated: whoever wrote the name may have written anything.
    pub fn found(&mut self, kind: Kind, (topic, partition, offset, index): Claim<'_>, at: &str) {
        if !self.ranges.iter().any(|range| range.topic == topic) {
            return self.found_stranger(kind, format!("{at}, of a topic that is not read"));
        }
        let side = &mut self.sides[kind as usize];
        side.found += 1;
        let is_its = |range: &Range| range.topic == topic && range.partition == partition;
        let Some(at) = self.ranges.iter().position(is_its) else {
            return side.unexpected.add(|| id(topic, partition, offset, index));
        };
        if offset < self.ranges[at].from || offset >= self.ranges[at].to {
            side.outside += 1;
        } else if let Ok(found) =
            side.expected[at].binary_search_by_key(&(offset, index), |item| (item.offset, item.index))
        {
            side.expected[at][found].times += 1;
        } else if let Some((_, times)) = side.repeats.get_mut(&(number(at), offset, index)) {
            *times += 1;
        } else {
            side.unexpected.add(|| id(topic, partition, offset, index));
        }
    }

    /// The same by an event's id.
    pub fn found_event(&mut self, id: &str, at: &str) {
        let mut parts = id.rsplitn(4, '/');
        let (index, offset, partition) = (parts.next(), parts.next(), parts.next());
        let read = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let numbers = (
            read(index).and_then(|number| u32::try_from(number).ok()),
            read(offset),
            read(partition).and_then(|number| i32::try_from(number).ok()),
        );
        match (parts.next(), numbers) {
            (Some(topic), (Some(index), Some(offset), Some(partition))) => {
                self.found(Kind::Event, (topic, partition, offset, index), at);
            }
            _ => self.found_stranger(Kind::Event, format!("{at}, with no event-id of ours")),
        }
    }

    /// Something whose place cannot be read.
    pub fn found_stranger(&mut self, kind: Kind, what: String) {
        let side = &mut self.sides[kind as usize];
        side.found += 1;
        side.unexpected.add(|| what);
    }

    /// What differs.
    pub fn outcome(&self, kind: Kind) -> Outcome {
        let side = &self.sides[kind as usize];
        let mut outcome = Outcome {
            found: side.found,
            outside: side.outside,
            unexpected: side.unexpected.clone(),
            ..Outcome::default()
        };
        // Refreshes that left at another place than the first.
        let mut elsewhere: FxHashSet<Place> = FxHashSet::default();
        let name = |(range, offset, index): Place| {
            let range = &self.ranges[range as usize];
            id(&range.topic, range.partition, offset, index)
        };
        for (place, (first, times)) in side.repeats.iter().filter(|(_, (_, times))| *times > 0) {
            if *times > 1 {
                outcome.doubled.add(|| name(*place));
                outcome.copies += u64::from(*times - 1);
            }
            outcome.retold += u64::from(!elsewhere.insert(*first));
        }
        for (range, items) in side.expected.iter().enumerate() {
            outcome.expected += items.len() as u64;
            for item in items {
                let place = (number(range), item.offset, item.index);
                let is_elsewhere = elsewhere.contains(&place);
                match item.times {
                    0 if is_elsewhere => {}
                    0 => outcome.lost.add(|| name(place)),
                    times => {
                        outcome.retold += u64::from(is_elsewhere);
                        if times > 1 {
                            outcome.doubled.add(|| name(place));
                            outcome.copies += u64::from(times - 1);
                        }
                    }
                }
            }
        }
        outcome
    }
}

fn number(range: usize) -> u32 {
    u32::try_from(range).expect("a cluster has far fewer partitions")
}

fn id(topic: &str, partition: i32, offset: i64, index: u32) -> String {
    match index {
        WHOLE => format!("{topic}/{partition}/{offset}"),
        _ => format!("{topic}/{partition}/{offset}/{index}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let range = |partition| Range { topic: "t".into(), partition, from: 10, to: 20, deleted_before: 5 };
        Books::new(vec![range(0), range(1)])
    }

    fn names(difference: &Difference) -> Vec<&str> {
        assert_eq!(difference.count, difference.first.len() as u64);
        difference.first.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_is_found_once_is_equal() {
        let mut books = books();
        for (offset, index) in [(12, 3), (12, 0), (11, 0)] {
            books.expect(Kind::Event, 0, offset, index).unwrap();
        }
        books.expect(Kind::Letter, 1, 15, WHOLE).unwrap();
        books.close();
        for id in ["t/0/11/0", "t/0/12/0", "t/0/12/3"] {
            books.found_event(id, "out/0/3");
        }
        books.found(Kind::Letter, ("t", 1, 15, WHOLE), "dead/0/3");
        for kind in [Kind::Event, Kind::Letter] {
            let outcome = books.outcome(kind);
            assert!(outcome.is_equal() && outcome.expected == outcome.found, "{outcome:?}");
        }
    }

    #[test]
    fn every_difference_is_told() {
        let mut books = books();
        for offset in [10, 11, 12] {
            books.expect(Kind::Event, 0, offset, 0).unwrap();
        }
        books.close();
        for id in [
            "t/0/11/0",
            "t/0/11/0",
            "t/0/11/0",
            "t/0/12/0",
            "t/0/12/1",
            "t/7/12/0",
            "who/0/12/0",
            "who@example.com/0/1/2",
            "nothing",
        ] {
            books.found_event(id, "out/0/3");
        }
        for id in ["t/0/9/0", "t/1/20/0"] {
            books.found_event(id, "out/0/3");
        }
        let outcome = books.outcome(Kind::Event);
        assert_eq!(names(&outcome.lost), ["t/0/10/0"]);
        assert_eq!((names(&outcome.doubled), outcome.copies), (vec!["t/0/11/0"], 2));
        let elsewhere = "out/0/3, of a topic that is not read";
        let stranger = "out/0/3, with no event-id of ours";
        assert_eq!(names(&outcome.unexpected), ["t/0/12/1", "t/7/12/0", elsewhere, elsewhere, stranger]);
        assert_eq!((outcome.expected, outcome.found, outcome.outside), (3, 11, 2));
    }

    #[test]
    fn a_refresh_is_expected_once_wherever_it_was_read_first() {
        let mut books = books();
        for (range, offset) in [(0, 10), (1, 12), (0, 14)] {
            books.expect_once("r".to_owned(), range, offset, 0).unwrap();
        }
        books.expect_once("other".to_owned(), 1, 13, 0).unwrap();
        books.close();
        books.found_event("t/1/12/0", "out/0/3");
        let outcome = books.outcome(Kind::Event);
        assert_eq!((outcome.expected, outcome.retold, names(&outcome.lost)), (2, 0, vec!["t/1/13/0"]));
        books.found_event("t/0/10/0", "out/0/3");
        books.found_event("t/1/13/0", "out/0/3");
        let outcome = books.outcome(Kind::Event);
        assert!(outcome.is_equal() && outcome.retold == 1, "{outcome:?}");
        books.found_event("t/1/12/0", "out/0/3");
        let outcome = books.outcome(Kind::Event);
        assert_eq!((names(&outcome.doubled), outcome.copies), (vec!["t/1/12/0"], 1));
    }
}
