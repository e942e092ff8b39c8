//! Remembers which refreshes, and on request which sign-ins, were counted already (law 3).
//!
//! A refresh history is a snapshot that is polled again and again; what it lists is counted once. Memory is bounded:
//! so many ids, each forgotten some time after it was last seen.

use std::collections::VecDeque;

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
    /// Judges a record, and remembers it. `now` is the time in milliseconds, where time passes at all.
    pub fn judge(&mut self, held: &Held, now: Option<Millis>, old: Old) -> Admission {
        let seen = if held.found.kind == Kind::SignIn { &mut self.sign_ins } else { &mut self.refreshes };
        let is_repeat = seen.note(&held.key, now.unwrap_or_default());
        let is_old = || match (ended(&held.found), held.timestamp_ms) {
            (Some(ended), Some(written)) => held.found.kind == Kind::Refresh && written - ended > MEMORY_MS,
            _ => false,
        };
        if is_repeat || old == Old::IsRepeat && is_old() { Admission::Repeat } else { Admission::New }
    }
}

/// Keys with the time they were last seen; each stands once in `order`, at or before its place by that time.
#[derive(Debug, Default)]
struct Seen {
    last: FxHashMap<Box<str>, Millis>,
    order: VecDeque<(Box<str>, Millis)>,
}

impl Seen {
    /// Whether `key` was seen within the memory; it is from now on.
    fn note(&mut self, key: &str, now: Millis) -> bool {
        self.forget(now, usize::MAX);
        if let Some(last) = self.last.get_mut(key) {
            *last = now;
            return true;
        }
        self.forget(now, IDS);
        self.last.insert(key.into(), now);
        self.order.push_back((key.into(), now));
        false
    }

    /// Drops what is too old, and the longest unseen until there is room for one more.
    fn forget(&mut self, now: Millis, limit: usize) {
        while let Some((key, noted)) = self.order.front_mut() {
            let last = self.last.get(key).copied().unwrap_or(*noted);
            let is_expired = now - *noted > MEMORY_MS;
            if !is_expired && self.last.len() < limit {
                return;
            }
            let Some((key, noted)) = self.order.pop_front() else { return };
            if last > noted {
                // Seen again since: its turn comes later.
                self.order.push_back((key, last));
            } else {
                self.last.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3600 * 1000;

    #[test]
    fn an_id_is_a_repeat_until_it_is_forgotten() {
        let mut seen = Seen::default();
        assert!(!seen.note("a", 0));
        assert!(seen.note("a", 40 * HOUR));
        assert!(seen.note("a", 80 * HOUR), "last seen 40 hours ago");
        assert!(!seen.note("a", 129 * HOUR), "last seen 49 hours ago");
    }

    #[test]
    fn memory_is_bounded_and_the_longest_unseen_goes_first() {
        let mut seen = Seen::default();
        for id in 0..IDS {
            assert!(!seen.note(&id.to_string(), 0));
        }
        assert!(seen.note("0", 1), "seen again, so it stays");
        assert!(!seen.note("new", 2));
        assert!(seen.note("0", 3));
        assert!(!seen.note("1", 4), "the oldest was forgotten");
        assert_eq!((seen.last.len(), seen.order.len()), (IDS, IDS));
    }
}
