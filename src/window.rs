//! Remembers which refreshes, and on request which sign-ins, were counted already (law 3).
//!
//! A refresh history is a snapshot that is polled again and again; what it lists is counted once. Memory is bounded:
//! so many ids, each forgotten some time after it was last seen.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;

use crate::digest::tally::ended;
use crate::digest::time::Millis;
use crate::digest::{Admission, Held};
use crate::terms::Kind;

/// Ids remembered of each kind. Power BI lists at most 60 refreshes a dataset, so this is enough for 1,600 datasets.
const IDS: usize = 100_000;

/// An id is forgotten this long after it was last seen; a refresh that ended longer ago than this before its message
/// was written is last month's news: a first poll, or a restart.
const MEMORY_MS: Millis = 48 * 3600 * 1000;

/// What a service or a scan has seen.
#[derive(Debug, Default)]
pub struct Window {
    refreshes: Seen,
    sign_ins: Seen,
}

/// Whether refreshes that ended long before their message count as seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Old {
    /// In a stream: an alarm about last month helps nobody.
    IsRepeat,
    /// In a file: whoever scans an old file wants to know what is in it.
    IsNew,
}

impl Window {
    /// Judges a record, and remembers it. `now` counts milliseconds from any beginning, where time passes at all; it must
    /// not jump as the clock does, else what was just seen would be forgotten.
    pub fn judge(&mut self, held: &Held, now: Option<Millis>, old: Old) -> Admission {
        let seen = if held.found.kind == Kind::SignIn { &mut self.sign_ins } else { &mut self.refreshes };
        let place = seen.hashers[0].hash_one(held.place());
        let is_repeat = held.key.as_ref().is_some_and(|key| seen.note(key, place, now.unwrap_or_default()));
        if is_repeat || old == Old::IsRepeat && is_old(held) { Admission::Repeat } else { Admission::New }
    }
}

/// Whether it is a refresh of long before its message.
pub fn is_old(held: &Held) -> bool {
    match (ended(&held.found), held.timestamp_ms) {
        (Some(ended), Some(written)) => held.found.kind == Kind::Refresh && written - ended > MEMORY_MS,
        _ => false,
    }
}

/// Marks of keys with the time they were last seen; all steps take constant time on average.
#[derive(Debug, Default)]
struct Seen {
    last: FxHashMap<Mark, Sighting>,
    /// Every sighting in order. One that a later sighting of the same key replaced is stale and is skipped.
    order: VecDeque<(Mark, u64)>,
    /// Number of the next sighting.
    next: u64,
    hashers: [RandomState; 2],
}

/// Stands for a key: logs write keys of any length, and memory must not grow with them. In a full window two keys
/// share their 128 bits with a chance of 10⁻²⁸.
type Mark = u128;

#[derive(Clone, Copy, Debug)]
struct Sighting {
    number: u64,
    at: Millis,
    /// Stands for the record that was counted. The same one read again, after a partition went away and came back or a
    /// transaction was aborted, is no repeat: what came of it the first time may never have left.
    first: u64,
}

impl Seen {
    /// Whether `key` was seen within the memory at another place; it is from now on.
    fn note(&mut self, key: &str, place: u64, now: Millis) -> bool {
        self.forget(now, usize::MAX);
        let mark = self.mark(key);
        let first = self.last.get(&mark).map(|seen| seen.first);
        if first.is_none() {
            self.forget(now, IDS);
        }
        self.last.insert(mark, Sighting { number: self.next, at: now, first: first.unwrap_or(place) });
        self.order.push_back((mark, self.next));
        self.next += 1;
        if self.order.len() > 2 * IDS {
            // At least half are stale, so this is paid for by as many sightings.
            let last = &self.last;
            self.order.retain(|(mark, number)| last.get(mark).is_some_and(|seen| seen.number == *number));
        }
        first.is_some_and(|first| first != place)
    }

    fn mark(&self, key: &str) -> Mark {
        let [high, low] = [0, 1].map(|half: usize| Mark::from(self.hashers[half].hash_one(key)));
        high << 64 | low
    }

    /// Drops what is too old, and the longest unseen until there is room for one more.
    fn forget(&mut self, now: Millis, limit: usize) {
        while let Some((mark, number)) = self.order.front() {
            match self.last.get(mark) {
                Some(seen) if seen.number == *number => {
                    if now - seen.at <= MEMORY_MS && self.last.len() < limit {
                        return;
                    }
                    self.last.remove(mark);
                }
                _ => {}
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3600 * 1000;

    /// Sees a key at a place where nothing was seen before.
    fn note(seen: &mut Seen, key: &str, now: Millis) -> bool {
        let place = seen.next;
        seen.note(key, place, now)
    }

    #[test]
    fn a_record_is_no_repeat_of_itself() {
        let mut seen = Seen::default();
        assert!(!seen.note("a", 7, 0));
        assert!(seen.note("a", 8, 0));
        assert!(!seen.note("a", 7, 1), "read again");
        assert!(seen.note("a", 8, 1), "the other one is a repeat whenever it is read");
    }

    #[test]
    fn an_id_is_a_repeat_until_it_is_forgotten() {
        let mut seen = Seen::default();
        assert!(!note(&mut seen, "a", 0));
        assert!(note(&mut seen, "a", 40 * HOUR));
        assert!(note(&mut seen, "a", 80 * HOUR), "last seen 40 hours ago");
        assert!(!note(&mut seen, "a", 129 * HOUR), "last seen 49 hours ago");
    }

    #[test]
    fn an_id_is_forgotten_in_time_whatever_was_seen_since() {
        let mut seen = Seen::default();
        assert!(!note(&mut seen, "a", 0));
        assert!(note(&mut seen, "a", HOUR));
        assert!(!note(&mut seen, "b", 40 * HOUR));
        assert!(!note(&mut seen, "c", 48 * HOUR + 1));
        assert!(!note(&mut seen, "a", 60 * HOUR), "last seen 59 hours ago");
        assert!(note(&mut seen, "b", 60 * HOUR), "last seen 20 hours ago");
    }

    #[test]
    fn memory_is_bounded_and_the_longest_unseen_goes_first() {
        let mut seen = Seen::default();
        for id in 0..IDS {
            assert!(!note(&mut seen, &id.to_string(), 0));
        }
        assert!(note(&mut seen, "0", 1), "seen again, so it stays");
        assert!(!note(&mut seen, "new", 2));
        assert!(note(&mut seen, "0", 3));
        assert!(!note(&mut seen, "1", 4), "the oldest was forgotten");
        assert_eq!(seen.last.len(), IDS);
    }

    #[test]
    fn repeats_do_not_grow_memory() {
        let mut seen = Seen::default();
        assert!(!note(&mut seen, "a", 0) && !note(&mut seen, "b", 0));
        for _ in 0..5 * IDS {
            assert!(note(&mut seen, "a", 1));
        }
        assert!(note(&mut seen, "b", 2), "one busy id pushes no other out");
        assert!(seen.last.len() == 2 && seen.order.len() <= 2 * IDS + 1, "{}", seen.order.len());
    }
}
