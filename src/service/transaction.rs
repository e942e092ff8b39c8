//! Exactly once: events, dead letters and offsets in one transaction, as far as workers and the poll loop see it.
//!
//! A worker packs a parcel inside the open transaction. Once a second the [teller](super::teller) lets no further parcel
//! in, waits until all that went in is acknowledged, adds the offsets behind it and commits; then the next one begins.
//! Whatever goes wrong aborts it: the poll loop goes back to the committed offsets, and all since then comes again in
//! another transaction. Counting waits for none of this.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::outbox::letter::Place;
use super::progress::TopicPartition;

/// A transaction ends after this time: readers see nothing of it before.
const EVERY: Duration = Duration::from_secs(1);

/// Or with so many letters: an abort sends all of them again. The next one takes half as many as it had, or what is too
/// much for the brokers' time limit would be too much again and again; every commit doubles that.
const LETTERS: u64 = 50_000;

/// How soon a wait sees what nobody announces.
pub const TICK: Duration = Duration::from_millis(100);

/// What the workers, the poll loop and the teller share.
#[derive(Debug, Default)]
pub struct Transaction {
    state: Mutex<State>,
    changed: Condvar,
    /// How often a letter was refused for good; it fares otherwise the next time.
    refused: Mutex<BTreeMap<Place, u8>>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Parcels that are being packed.
    inside: usize,
    letters: u64,
    /// When the first parcel went in.
    since: Option<Instant>,
    /// After an abort: fewer than [`LETTERS`].
    limit: Option<u64>,
    /// Each letter goes in a batch of its own: one of a larger batch was refused.
    is_careful: bool,
    /// Why it has to be aborted.
    broken: Option<String>,
    /// How many times somebody asked for an end, and how many of these were answered.
    asked: u64,
    answered: u64,
    /// Whether the last end was a commit.
    is_committed: bool,
    /// After an end that was none.
    offsets: Committed,
    is_over: bool,
}

impl State {
    fn is_full(&self) -> bool {
        self.letters >= self.limit.unwrap_or(LETTERS)
    }

    fn adapt(&mut self, is_committed: bool) {
        let limit = if is_committed {
            self.limit.map(|limit| limit * 2)
        } else {
            let half = (self.letters > 0).then(|| (self.letters / 2).max(1));
            half.into_iter().chain(self.limit).min()
        };
        self.limit = limit.filter(|limit| *limit < LETTERS);
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    /// Nothing goes in: it ends, or the first one has not begun.
    #[default]
    Closed,
    Open,
    /// The poll loop has to go back to the committed offsets first.
    Aborted,
}

/// What is known of the offsets that are committed, after a transaction that failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Committed {
    /// They are those of the last one that did not fail.
    #[default]
    Known,
    /// Perhaps this one was committed all the same; the brokers know.
    Unknown,
}

/// Stands for a parcel that is being packed.
pub struct Pass<'t> {
    transaction: &'t Transaction,
    pub letters: u64,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.transaction.lock();
        state.inside -= 1;
        state.letters += self.letters;
        drop(state);
        self.transaction.changed.notify_all();
    }
}

impl Transaction {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, time).expect("no code panics while it holds this lock").0
    }

    /// Lets a parcel in, after a wait while a transaction ends. `None` at the end of the service.
    pub fn enter(&self) -> Option<Pass<'_>> {
        let mut state = self.lock();
        while (state.phase != Phase::Open || state.broken.is_some() || state.is_full()) && !state.is_over {
            state = self.changed.wait(state).expect("no code panics while it holds this lock");
        }
        if state.is_over {
            return None;
        }
        state.inside += 1;
        state.since.get_or_insert_with(Instant::now);
        Some(Pass { transaction: self, letters: 0 })
    }

    /// Makes the teller abort it; between two transactions there is nothing to abort.
    pub fn break_off(&self, reason: &str) {
        let mut state = self.lock();
        if state.phase != Phase::Aborted {
            state.broken.get_or_insert_with(|| reason.to_owned());
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends it now; true if it was committed before `deadline`.
    pub fn settle(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        state.asked += 1;
        let mine = state.asked;
        self.changed.notify_all();
        while state.answered < mine && state.phase != Phase::Aborted && !state.is_over {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            state = self.wait(state, left);
        }
        state.answered >= mine && state.is_committed
    }

    /// Whether the poll loop has to go back to the committed offsets, and what is known of them.
    pub fn aborted_with(&self) -> Option<Committed> {
        let state = self.lock();
        (state.phase == Phase::Aborted).then_some(state.offsets)
    }

    /// The poll loop went back.
    pub fn rewound(&self) {
        self.lock().phase = Phase::Closed;
        self.changed.notify_all();
    }

    /// Ends every wait, for good.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// How often this letter was refused.
    pub fn refusals(&self, place: &Place) -> u8 {
        self.refused().get(place).copied().unwrap_or_default()
    }

    /// A letter was refused. In a batch with others the fault may have been theirs; alone it was its own.
    pub fn refuse(&self, place: Place, is_alone: bool) {
        let mut refused = self.refused();
        let times = refused.entry(place).or_default();
        *times = if is_alone { (*times).max(1) + 1 } else { 1 };
    }

    pub fn is_careful(&self) -> bool {
        self.lock().is_careful
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<Place, u8>> {
        self.refused.lock().expect("no code panics while it holds this lock")
    }
}

/// The teller's side.
impl Transaction {
    /// Whether each letter of the next one goes in a batch of its own.
    pub fn choose(&self, is_careful: bool) {
        self.lock().is_careful = is_careful;
    }

    /// Lets parcels in.
    pub fn open(&self) {
        self.lock().phase = Phase::Open;
        self.changed.notify_all();
    }

    /// Whether letters of these partitions were refused; those of others are not ours any more.
    pub fn has_refusals(&self, partitions: &[TopicPartition]) -> bool {
        let mut refused = self.refused();
        refused.retain(|place, _| partitions.contains(&place.partition));
        !refused.is_empty()
    }

    /// Waits until it is time to end the transaction; false at the end of the service.
    pub fn wait_for_turn(&self) -> bool {
        let due = Instant::now() + EVERY;
        let mut state = self.lock();
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let is_asked = state.asked > state.answered;
            if state.is_over {
                return false;
            }
            if state.broken.is_some() || is_asked || state.is_full() || left == Duration::ZERO {
                return true;
            }
            state = self.wait(state, left);
        }
    }

    /// Lets no parcel in, waits until those inside are packed, and gives the number of its letters. `hurry` is called
    /// while they cannot be sent any more.
    pub fn close(&self, hurry: impl Fn()) -> u64 {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        while state.inside > 0 {
            state = self.wait(state, TICK);
            if state.broken.is_some() {
                drop(state);
                hurry();
                state = self.lock();
            }
        }
        state.letters
    }

    /// Why it has to be aborted.
    pub fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    /// It was committed: `offsets` with all that came of the messages before them.
    pub fn committed(&self, offsets: &[(TopicPartition, i64)]) {
        let is_done = |place: &Place| {
            let is_its =
                |(key, next): &&(TopicPartition, i64)| *key == place.partition && place.offset < *next;
            offsets.iter().any(|offset| is_its(&offset))
        };
        self.refused().retain(|place, _| !is_done(place));
        self.answer(true, Phase::Closed);
    }

    /// It was aborted, or its producer is gone.
    pub fn aborted(&self, offsets: Committed) {
        self.lock().offsets = offsets;
        self.answer(false, Phase::Aborted);
    }

    /// How long it has been open at the brokers, at most.
    pub fn age(&self) -> Duration {
        self.lock().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn answer(&self, is_committed: bool, phase: Phase) {
        let mut state = self.lock();
        state.adapt(is_committed);
        (state.letters, state.since) = (0, None);
        state.answered = state.asked;
        (state.is_committed, state.phase) = (is_committed, phase);
        if !is_committed {
            state.broken = None;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the poll loop went back, and at least `pause`; false at the end of the service.
    pub fn wait_for_rewind(&self, pause: Duration) -> bool {
        let due = Instant::now() + pause;
        let mut state = self.lock();
        while !state.is_over && (state.phase == Phase::Aborted || Instant::now() < due) {
            state = self.wait(state, TICK);
        }
        !state.is_over
    }

    /// Waits a moment; false at the end of the service.
    pub fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        !state.is_over && !self.wait(state, time).is_over
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn opened() -> Arc<Transaction> {
        let transaction = Arc::new(Transaction::default());
        transaction.open();
        transaction
    }

    #[test]
    fn it_is_not_closed_while_a_parcel_is_packed_and_nothing_goes_in_afterwards() {
        let transaction = opened();
        let mut pass = transaction.enter().unwrap();
        let teller = thread::spawn({
            let transaction = Arc::clone(&transaction);
            move || transaction.close(|| {})
        });
        pass.letters = 3;
        drop(pass);
        assert_eq!(teller.join().unwrap(), 3);
        let worker = thread::spawn({
            let transaction = Arc::clone(&transaction);
            move || transaction.enter().is_some()
        });
        assert_eq!(transaction.lock().inside, 0);
        transaction.open();
        assert!(worker.join().unwrap(), "let into the next one");
    }

    #[test]
    fn whoever_asks_for_the_end_hears_what_came_of_it() {
        for is_committed in [true, false] {
            let transaction = opened();
            let asking = thread::spawn({
                let transaction = Arc::clone(&transaction);
                move || transaction.settle(soon())
            });
            while transaction.lock().asked == 0 {
                thread::yield_now();
            }
            assert!(transaction.wait_for_turn());
            transaction.close(|| {});
            if is_committed {
                transaction.committed(&[]);
            } else {
                transaction.aborted(Committed::Known);
            }
            assert_eq!(asking.join().unwrap(), is_committed);
        }
    }

    #[test]
    fn after_an_abort_nothing_goes_in_before_the_poll_loop_went_back() {
        let transaction = opened();
        transaction.break_off("refused");
        assert!(transaction.wait_for_turn());
        assert_eq!((transaction.close(|| {}), transaction.broken()), (0, Some("refused".to_owned())));
        transaction.aborted(Committed::Known);
        assert_eq!(transaction.aborted_with(), Some(Committed::Known));
        assert_eq!(transaction.broken(), None);
        transaction.break_off("again");
        assert_eq!(transaction.broken(), None, "there is nothing to abort");
        assert!(!transaction.settle(soon()), "and nothing to commit");
        transaction.rewound();
        assert!(transaction.wait_for_rewind(Duration::ZERO));
        transaction.open();
        assert!(transaction.enter().is_some());
    }

    #[test]
    fn after_an_abort_fewer_letters_go_into_the_next_ones() {
        let transaction = opened();
        let fill = |letters| {
            transaction.open();
            transaction.enter().unwrap().letters = letters;
        };
        let is_full = || transaction.lock().is_full();
        fill(LETTERS - 1);
        assert!(!is_full());
        transaction.break_off("the brokers were too slow");
        transaction.aborted(Committed::Known);
        fill(LETTERS / 2 - 2);
        assert!(!is_full());
        transaction.enter().unwrap().letters = 1;
        assert!(is_full());
        let worker = thread::spawn({
            let transaction = Arc::clone(&transaction);
            move || transaction.enter().is_some()
        });
        let asked = Instant::now();
        assert!(transaction.wait_for_turn() && asked.elapsed() < EVERY, "it ends because it is full");
        assert_eq!(transaction.close(|| {}), LETTERS / 2 - 1, "the worker waits");
        transaction.committed(&[]);
        transaction.open();
        assert!(worker.join().unwrap(), "let into the next one");
        fill(LETTERS / 2);
        assert!(!is_full(), "as many as before");
        // One whose letters never went in says nothing about how many are too many.
        transaction.committed(&[]);
        transaction.aborted(Committed::Known);
        assert_eq!(transaction.lock().limit, None);
    }

    #[test]
    fn the_end_of_the_service_ends_every_wait() {
        let transaction = Arc::new(Transaction::default());
        let worker = thread::spawn({
            let transaction = Arc::clone(&transaction);
            move || transaction.enter().is_some()
        });
        transaction.end();
        assert!(!worker.join().unwrap());
        assert!(!transaction.wait_for_turn() && !transaction.settle(soon()) && !transaction.pause(EVERY));
    }

    #[test]
    fn a_refusal_is_remembered_until_its_message_is_committed() {
        let transaction = opened();
        let partition: TopicPartition = ("logs".into(), 1);
        let place = |offset| Place { partition: partition.clone(), offset, index: Some(0), is_event: true };
        transaction.refuse(place(4), false);
        transaction.refuse(place(9), true);
        transaction.aborted(Committed::Known);
        assert_eq!((transaction.refusals(&place(4)), transaction.refusals(&place(9))), (1, 2));
        assert!(transaction.has_refusals(std::slice::from_ref(&partition)));
        transaction.refuse(place(4), true);
        assert_eq!(transaction.refusals(&place(4)), 2);
        transaction.committed(&[(partition.clone(), 9)]);
        assert_eq!((transaction.refusals(&place(4)), transaction.refusals(&place(9))), (0, 2));
        assert!(!transaction.has_refusals(&[]), "its partition is not ours any more");
    }
}
