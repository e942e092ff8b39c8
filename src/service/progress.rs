//! How far each assigned partition has been read, digested, delivered and committed.
//!
//! The poll loop dispatches messages, workers report them digested, acknowledgements settle what came of them, the poll
//! loop commits. All batches of a partition go through one worker in order, and they wait in this order until what they
//! sent out is acknowledged, so what may be committed is always a contiguous prefix. Reports carry the generation of the
//! assignment they belong to: a late report of an earlier assignment moves nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::digest::time::Millis;

/// A topic and a partition of it.
pub type TopicPartition = (Arc<str>, i32);

/// Shared by the poll loop, the rebalance callbacks, the workers and the gauges.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<TopicPartition, Partition>,
    generation: u64,
    /// Of messages that are not digested yet.
    incoming_bytes: u64,
    /// Of events and dead letters that are not acknowledged yet.
    outgoing_bytes: u64,
    /// Nobody waits any more.
    is_closed: bool,
}

#[derive(Debug)]
struct Partition {
    generation: u64,
    /// Batches that a worker has and did not report yet.
    batches: u32,
    /// Offset behind the last digested message.
    next_offset: Option<i64>,
    /// Offset behind the last message before which everything is delivered.
    delivered: Option<i64>,
    /// Digested batches whose letters are on their way, in order, each with the offset behind it.
    waiting: VecDeque<(Arc<Parcel>, i64)>,
    /// The message in front of which the partition stops.
    halted_at: Option<i64>,
    /// It stopped there: there is nothing more to read.
    stands: bool,
    committed: Option<i64>,
    /// Kafka's time of the last digested message.
    timestamp_ms: Option<Millis>,
    /// Offset behind the last message of the log, as last heard.
    high: Option<i64>,
    /// How far the client has fetched. Markers of transactions and gaps of compaction take it further than any message.
    fetched: Option<i64>,
    /// How far it had fetched when all of that was handed out.
    drained: Option<i64>,
    /// When there was last seen to be nothing more to read.
    abreast: Option<Instant>,
}

impl Partition {
    /// The offset to commit, if it is not committed yet.
    fn uncommitted(&self) -> Option<i64> {
        let next = match (self.delivered?, self.halted_at) {
            (delivered, Some(halted_at)) => delivered.min(halted_at),
            (delivered, None) => delivered,
        };
        (self.committed != Some(next)).then_some(next)
    }

    /// Notes that all before `next_offset` is digested, and will be delivered with the parcel.
    fn pass(&mut self, next_offset: i64, parcel: Option<&Arc<Parcel>>) {
        match (parcel, self.waiting.back_mut()) {
            (Some(parcel), _) => self.waiting.push_back((Arc::clone(parcel), next_offset)),
            // Nothing of its own to wait for: it goes with its predecessor.
            (None, Some((_, behind))) => *behind = next_offset.max(*behind),
            (None, None) => self.delivered = self.delivered.max(Some(next_offset)),
        }
    }

    /// Where reading goes on: behind what was digested, and behind what holds no message if nothing is on its way.
    fn position(&self) -> Option<i64> {
        let beyond = self.drained.filter(|_| self.batches == 0 && self.halted_at.is_none());
        self.next_offset.max(beyond)
    }

    /// Moves over parcels that are settled.
    fn advance(&mut self) {
        while let Some((parcel, behind)) = self.waiting.front()
            && parcel.open.load(Ordering::Acquire) == 0
        {
            self.delivered = self.delivered.max(Some(*behind));
            self.waiting.pop_front();
        }
    }

    /// Whether everything read of it was digested and delivered, or never will be.
    fn is_idle(&self) -> bool {
        self.batches == 0 && (self.waiting.is_empty() || self.halted_at.is_some())
    }
}

/// The letters that came of one batch; when all of them are acknowledged its messages may be committed.
#[derive(Debug)]
pub struct Parcel {
    shares: Vec<Share>,
    /// Letters without an acknowledgement; the worker that packs it counts as one.
    open: AtomicUsize,
}

impl Parcel {
    pub fn new(shares: Vec<Share>) -> Arc<Self> {
        Arc::new(Self { shares, open: AtomicUsize::new(1) })
    }

    pub fn add(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub fn shares(&self) -> &[Share] {
        &self.shares
    }
}

/// Part of a batch: what it holds of one partition.
#[derive(Clone, Debug)]
pub struct Share {
    pub partition: TopicPartition,
    pub generation: u64,
    pub next_offset: i64,
    pub timestamp_ms: Option<Millis>,
}

/// How far one partition has come, for the watchdog.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    pub partition: TopicPartition,
    pub generation: u64,
    /// What the client fetched or a worker digested, whatever is further.
    pub position: Option<i64>,
    pub is_halted: bool,
}

/// What the gauges show of one partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lag {
    pub partition: TopicPartition,
    /// Messages behind the end of the log; unknown until the end was heard of.
    pub messages: Option<u64>,
    /// Kafka's time of the last digested message.
    pub timestamp_ms: Option<Millis>,
    /// How long ago there was nothing more to read.
    pub abreast: Option<Duration>,
}

impl Lag {
    /// How old the last digested message is while there are more. What waits was written since there was last nothing more,
    /// as nearly as ends are known: neither a quiet topic nor a clock that jumps makes it older than that.
    pub fn behind_ms(&self, now: Millis) -> Millis {
        /// Ends are heard of every two seconds.
        const SLACK: Duration = Duration::from_secs(5);
        let (Some(timestamp), Some(1..)) = (self.timestamp_ms, self.messages) else { return 0 };
        let limit = self.abreast.and_then(|ago| Millis::try_from((ago + SLACK).as_millis()).ok());
        now.saturating_sub(timestamp).clamp(0, limit.unwrap_or(Millis::MAX))
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Takes partitions over, each with the offset where reading begins, if it is known.
    pub fn assign(&self, partitions: impl IntoIterator<Item = (TopicPartition, Option<i64>)>) {
        let mut state = self.lock();
        state.generation += 1;
        let generation = state.generation;
        for (partition, next_offset) in partitions {
            let fresh = Partition {
                generation,
                batches: 0,
                next_offset,
                delivered: next_offset,
                waiting: VecDeque::new(),
                halted_at: None,
                stands: false,
                committed: next_offset,
                timestamp_ms: None,
                high: None,
                fetched: None,
                drained: None,
                abreast: None,
            };
            state.partitions.insert(partition, fresh);
        }
    }

    /// Waits until everything of `partitions` is digested and delivered, at most until `deadline`, and gives what is to
    /// be committed of them. The partitions are forgotten.
    pub fn revoke(&self, partitions: &[TopicPartition], deadline: Instant) -> Vec<(TopicPartition, i64)> {
        self.wait_until_drained(partitions, deadline);
        let mut state = self.lock();
        let mut commits = Vec::new();
        for partition in partitions {
            if let Some(next) = state.partitions.remove(partition).and_then(|state| state.uncommitted()) {
                commits.push((partition.clone(), next));
            }
        }
        drop(state);
        self.changed.notify_all();
        commits
    }

    /// Moves a partition to another offset, for one whose next message is gone.
    pub fn reposition(&self, partition: &TopicPartition, next_offset: i64) {
        if let Some(partition) = self.lock().partitions.get_mut(partition) {
            partition.next_offset = Some(partition.next_offset.unwrap_or(0).max(next_offset));
            partition.pass(next_offset, None);
        }
    }

    /// Goes back to what is committed: what was read since then is read again, and no report of it moves anything. Gives
    /// where each partition begins, if that is known.
    pub fn rewind(&self) -> Vec<(TopicPartition, Option<i64>)> {
        let mut state = self.lock();
        state.generation += 1;
        let generation = state.generation;
        for partition in state.partitions.values_mut() {
            let committed = partition.committed;
            *partition = Partition {
                generation,
                batches: 0,
                next_offset: committed,
                delivered: committed,
                waiting: VecDeque::new(),
                stands: false,
                ..*partition
            };
        }
        state.partitions.iter().map(|(key, partition)| (key.clone(), partition.committed)).collect()
    }

    /// The generation under which the message at `offset` is dispatched; `None` if its partition is not ours any more, or
    /// halted in front of it.
    pub fn generation(&self, partition: &TopicPartition, offset: i64) -> Option<u64> {
        let mut state = self.lock();
        let partition = state.partitions.get_mut(partition)?;
        let is_behind = partition.halted_at.is_some_and(|halted_at| offset >= halted_at);
        partition.stands |= is_behind;
        (!is_behind).then_some(partition.generation)
    }

    /// Which partitions of these shares are still what they were.
    pub fn current(&self, shares: &[Share]) -> Vec<i32> {
        let mut state = self.lock();
        let current = shares.iter().filter(|share| state.current(share).is_some());
        current.map(|share| share.partition.1).collect()
    }

    /// Notes a batch on its way to a worker.
    pub fn dispatch(&self, shares: &[Share], bytes: u64) {
        let mut state = self.lock();
        state.incoming_bytes += bytes;
        for share in shares {
            if let Some(partition) = state.current(share) {
                partition.batches += 1;
            }
        }
    }

    /// Notes a batch that was digested and counted; what it has to send out goes into the parcel.
    pub fn digested(&self, shares: &[Share], bytes: u64, parcel: Option<&Arc<Parcel>>) {
        let mut state = self.lock();
        state.incoming_bytes -= bytes;
        for share in shares {
            if let Some(partition) = state.current(share) {
                partition.batches -= 1;
                partition.next_offset = Some(partition.next_offset.unwrap_or(0).max(share.next_offset));
                partition.timestamp_ms = share.timestamp_ms.or(partition.timestamp_ms);
                partition.pass(share.next_offset, parcel);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Notes the bytes of a letter on its way out; waits, as long as it takes, while `limit` bytes are on their way
    /// already. False if it is not to be sent: after [`Progress::close`], and where it would have to wait and no partition
    /// is left, for then somebody else reads its message again.
    pub fn send(&self, bytes: u64, limit: u64) -> bool {
        let mut state = self.lock();
        while state.outgoing_bytes >= limit && !state.is_closed && !state.partitions.is_empty() {
            state = self.changed.wait(state).expect("no code panics while it holds this lock");
        }
        let is_open = state.outgoing_bytes < limit && !state.is_closed;
        state.outgoing_bytes += bytes;
        is_open
    }

    /// Forgets messages that no worker will get any more.
    pub fn abandon(&self, bytes: u64) {
        self.lock().incoming_bytes -= bytes;
        self.changed.notify_all();
    }

    /// Forgets the bytes of a letter that is not on its way any more.
    pub fn release(&self, bytes: u64) {
        self.lock().outgoing_bytes -= bytes;
        self.changed.notify_all();
    }

    /// Notes that one letter of the parcel needs no more care, or that its worker has packed the last one.
    pub fn settle(&self, parcel: &Parcel) {
        if parcel.open.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut state = self.lock();
        for share in &parcel.shares {
            if let Some(partition) = state.current(share) {
                partition.advance();
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Stops a partition in front of a message; nothing behind it is committed or read. False if it is not ours.
    pub fn halt(&self, partition: &TopicPartition, generation: u64, offset: i64) -> bool {
        let mut state = self.lock();
        let Some(found) = state.partitions.get_mut(partition).filter(|found| found.generation == generation)
        else {
            return false;
        };
        found.halted_at = Some(found.halted_at.map_or(offset, |earlier| earlier.min(offset)));
        found.stands = true;
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Partitions that stand still, and in front of which message.
    pub fn halted(&self) -> Vec<(TopicPartition, i64)> {
        let state = self.lock();
        let halted =
            |(key, partition): (&TopicPartition, &Partition)| Some((key.clone(), partition.halted_at?));
        state.partitions.iter().filter_map(halted).collect()
    }

    /// Whether any message of this assignment of the partition came.
    pub fn is_read(&self, partition: &TopicPartition) -> bool {
        let has_read = |partition: &Partition| partition.batches > 0 || partition.next_offset.is_some();
        self.lock().partitions.get(partition).is_some_and(has_read)
    }

    /// Partitions of which nothing is left to read.
    pub fn standing(&self) -> Vec<TopicPartition> {
        let state = self.lock();
        let standing = state.partitions.iter().filter(|(_, partition)| partition.stands);
        standing.map(|(key, _)| key.clone()).collect()
    }

    /// What was delivered and not committed yet.
    pub fn uncommitted(&self) -> Vec<(TopicPartition, i64)> {
        let differs =
            |(key, partition): (&TopicPartition, &Partition)| Some((key.clone(), partition.uncommitted()?));
        self.lock().partitions.iter().filter_map(differs).collect()
    }

    pub fn committed(&self, partition: &TopicPartition, next_offset: i64) {
        if let Some(partition) = self.lock().partitions.get_mut(partition) {
            partition.committed = Some(next_offset);
        }
    }

    /// The end of a partition's log, as the client heard it.
    pub fn high(&self, partition: &TopicPartition, offset: i64) {
        if let Some(partition) = self.lock().partitions.get_mut(partition) {
            partition.high = partition.high.max(Some(offset));
        }
    }

    /// How far the client has fetched a partition, and whether it has handed out all of that.
    pub fn fetched(&self, partition: &TopicPartition, offset: i64, is_drained: bool) {
        if let Some(partition) = self.lock().partitions.get_mut(partition) {
            partition.fetched = Some(offset);
            if is_drained {
                partition.drained = Some(offset);
            }
        }
    }

    pub fn steps(&self) -> Vec<Step> {
        let step = |(key, partition): (&TopicPartition, &Partition)| Step {
            partition: key.clone(),
            generation: partition.generation,
            position: partition.fetched.max(partition.next_offset),
            is_halted: partition.halted_at.is_some(),
        };
        self.lock().partitions.iter().map(step).collect()
    }

    /// Where reading of each assigned partition goes on, if it is known.
    pub fn positions(&self) -> Vec<(TopicPartition, Option<i64>)> {
        self.lock().partitions.iter().map(|(key, partition)| (key.clone(), partition.next_offset)).collect()
    }

    pub fn lags(&self, now: Instant) -> Vec<Lag> {
        let lag = |(key, partition): (&TopicPartition, &mut Partition)| {
            let ends = partition.high.zip(partition.position());
            let messages = ends.map(|(high, next)| (high - next).max(0).unsigned_abs());
            if messages == Some(0) {
                partition.abreast = Some(now);
            }
            let abreast = partition.abreast.map(|at| now.saturating_duration_since(at));
            Lag { partition: key.clone(), messages, timestamp_ms: partition.timestamp_ms, abreast }
        };
        self.lock().partitions.iter_mut().map(lag).collect()
    }

    pub fn in_flight_bytes(&self) -> u64 {
        self.lock().in_flight_bytes()
    }

    /// Waits until less than `limit` bytes are in flight; false if that took until `deadline`.
    pub fn wait_for_room(&self, limit: u64, deadline: Instant) -> bool {
        self.wait_for(deadline, |state| state.in_flight_bytes() < limit).in_flight_bytes() < limit
    }

    /// Waits until nothing is in flight; false if that took until `deadline`.
    pub fn wait_until_idle(&self, deadline: Instant) -> bool {
        self.wait_for(deadline, |state| state.in_flight_bytes() == 0).in_flight_bytes() == 0
    }

    /// Waits until every letter is acknowledged, or given up; false if that took until `deadline`.
    pub fn wait_until_delivered(&self, deadline: Instant) -> bool {
        self.wait_for(deadline, |state| state.outgoing_bytes == 0).outgoing_bytes == 0
    }

    /// Waits until everything that was read of `partitions` is digested and delivered; false if that took until
    /// `deadline`.
    pub fn wait_until_drained(&self, partitions: &[TopicPartition], deadline: Instant) -> bool {
        let is_drained = |state: &State| {
            partitions.iter().all(|partition| state.partitions.get(partition).is_none_or(Partition::is_idle))
        };
        is_drained(&self.wait_for(deadline, is_drained))
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Ends every wait, for good.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn wait_for(&self, deadline: Instant, mut ready: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if ready(&state) || state.is_closed || left == Duration::ZERO {
                return state;
            }
            state =
                self.changed.wait_timeout(state, left).expect("no code panics while it holds this lock").0;
        }
    }
}

impl State {
    fn in_flight_bytes(&self) -> u64 {
        self.incoming_bytes + self.outgoing_bytes
    }

    /// The partition of a share, unless it was revoked or assigned anew since.
    fn current(&mut self, share: &Share) -> Option<&mut Partition> {
        self.partitions.get_mut(&share.partition).filter(|partition| partition.generation == share.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        ("logs".into(), number)
    }

    fn share(progress: &Progress, number: i32, next_offset: i64) -> Share {
        let partition = partition(number);
        let generation = progress.generation(&partition, 0).unwrap();
        Share { partition, generation, next_offset, timestamp_ms: Some(next_offset) }
    }

    #[test]
    fn what_is_done_is_committed_once() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(5)), (partition(1), None)]);
        let batch = [share(&progress, 0, 9)];
        progress.dispatch(&batch, 100);
        assert_eq!((progress.uncommitted(), progress.in_flight_bytes()), (vec![], 100));
        progress.digested(&batch, 100, None);
        assert_eq!((progress.uncommitted(), progress.in_flight_bytes()), (vec![(partition(0), 9)], 0));
        progress.committed(&partition(0), 9);
        assert_eq!(progress.uncommitted(), vec![]);
    }

    #[test]
    fn a_late_report_of_an_earlier_assignment_moves_nothing() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(0))]);
        let late = [share(&progress, 0, 50)];
        progress.dispatch(&late, 10);
        assert_eq!(progress.revoke(&[partition(0)], Instant::now()), vec![]);
        progress.assign([(partition(0), Some(20))]);
        progress.digested(&late, 10, None);
        assert_eq!((progress.positions(), progress.in_flight_bytes()), (vec![(partition(0), Some(20))], 0));
    }

    #[test]
    fn a_revoke_waits_for_the_workers() {
        let progress = Arc::new(Progress::default());
        progress.assign([(partition(0), Some(0))]);
        let batch = [share(&progress, 0, 7)];
        progress.dispatch(&batch, 1);
        let worker = {
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || progress.digested(&batch, 1, None))
        };
        let commits = progress.revoke(&[partition(0)], Instant::now() + Duration::from_secs(30));
        worker.join().unwrap();
        assert_eq!((commits, progress.positions()), (vec![(partition(0), 7)], vec![]));
    }

    #[test]
    fn what_is_delivered_out_of_order_is_committed_in_order() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(0))]);
        let batches: Vec<_> = [10, 20, 30].map(|next| vec![share(&progress, 0, next)]).into();
        let parcels: Vec<_> = batches.iter().map(|shares| Parcel::new(shares.clone())).collect();
        for (shares, parcel) in batches.iter().zip(&parcels) {
            progress.dispatch(shares, 1);
            progress.digested(shares, 1, Some(parcel));
        }
        // A batch without letters goes with the one before it.
        let last = [share(&progress, 0, 33)];
        progress.dispatch(&last, 1);
        progress.digested(&last, 1, None);
        parcels[1].add();
        progress.settle(&parcels[2]);
        assert_eq!(progress.uncommitted(), vec![], "the first is still on its way");
        progress.settle(&parcels[0]);
        progress.settle(&parcels[1]);
        assert_eq!(
            progress.uncommitted(),
            vec![(partition(0), 10)],
            "one letter of the second is on its way"
        );
        progress.settle(&parcels[1]);
        assert_eq!(progress.uncommitted(), vec![(partition(0), 33)]);
    }

    #[test]
    fn a_halted_partition_is_committed_up_to_its_stone() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(5)), (partition(1), Some(5))]);
        let [stone, other] = [share(&progress, 0, 20), share(&progress, 1, 20)];
        let batch = [stone.clone(), other];
        progress.dispatch(&batch, 1);
        assert!(progress.halt(&stone.partition, stone.generation, 12));
        assert!(progress.halt(&stone.partition, stone.generation, 15));
        progress.digested(&batch, 1, None);
        assert_eq!(progress.uncommitted(), vec![(partition(0), 12), (partition(1), 20)]);
        assert_eq!(
            (progress.generation(&partition(0), 20), progress.halted()),
            (None, vec![(partition(0), 12)])
        );
        progress.committed(&partition(0), 12);
        assert_eq!(progress.uncommitted(), vec![(partition(1), 20)]);
        assert!(!progress.halt(&stone.partition, stone.generation + 1, 0), "of another assignment");
    }

    #[test]
    fn what_was_read_since_the_commit_is_read_again_up_to_the_stone() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(5))]);
        let batch = [share(&progress, 0, 20)];
        let parcel = Parcel::new(batch.to_vec());
        progress.dispatch(&batch, 1);
        progress.digested(&batch, 1, Some(&parcel));
        assert!(progress.halt(&partition(0), batch[0].generation, 12));
        assert_eq!(progress.standing(), [partition(0)]);

        assert_eq!(progress.rewind(), [(partition(0), Some(5))]);
        assert_eq!(progress.current(&batch), Vec::<i32>::new());
        progress.settle(&parcel);
        assert_eq!((progress.uncommitted(), progress.standing()), (vec![], vec![]), "a late report");
        let again =
            Share { generation: progress.generation(&partition(0), 11).unwrap(), ..share(&progress, 0, 12) };
        progress.dispatch(std::slice::from_ref(&again), 1);
        progress.digested(std::slice::from_ref(&again), 1, None);
        assert_eq!(progress.uncommitted(), vec![(partition(0), 12)]);
        assert_eq!(progress.generation(&partition(0), 12), None);
        assert!(
            progress.generation(&partition(0), 11).is_some(),
            "what stands before it may wait in a batch"
        );
        assert_eq!((progress.standing(), progress.halted()), (vec![partition(0)], vec![(partition(0), 12)]));
    }

    #[test]
    fn a_revoke_waits_for_deliveries_until_its_deadline() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(0))]);
        let batch = [share(&progress, 0, 7)];
        let parcel = Parcel::new(batch.to_vec());
        progress.dispatch(&batch, 1);
        progress.digested(&batch, 1, Some(&parcel));
        assert_eq!(progress.revoke(&[partition(0)], Instant::now() + Duration::from_millis(20)), vec![]);
        progress.settle(&parcel);
        assert_eq!(progress.uncommitted(), vec![], "it is not ours any more");
    }

    #[test]
    fn what_is_on_its_way_out_takes_room() {
        let progress = Progress::default();
        assert!(progress.send(100, 1));
        assert!(!progress.wait_for_room(100, Instant::now()));
        progress.release(1);
        assert!(progress.wait_for_room(100, Instant::now()));
        assert!(!progress.wait_until_idle(Instant::now()));
        progress.close();
        assert!(!progress.send(1, 1), "after the end nothing waits, and nothing is sent");
    }

    #[test]
    fn nobody_waits_for_room_once_no_partition_is_left() {
        let progress = Arc::new(Progress::default());
        progress.assign([(partition(0), Some(0))]);
        assert!(progress.send(100, 1));
        let waiter = {
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || progress.send(1, 1))
        };
        progress.revoke(&[partition(0)], Instant::now());
        assert!(!waiter.join().unwrap());
        progress.release(101);
        assert!(progress.send(1, 1), "there is room");
    }

    #[test]
    fn lag_is_known_once_the_end_is() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(5))]);
        assert_eq!(progress.lags(Instant::now())[0].messages, None);
        progress.high(&partition(0), 12);
        assert_eq!(progress.lags(Instant::now())[0].messages, Some(7));
    }

    #[test]
    fn what_holds_no_message_is_no_lag() {
        let progress = Progress::default();
        let lag = || progress.lags(Instant::now())[0].messages;
        progress.assign([(partition(0), Some(5))]);
        progress.high(&partition(0), 12);
        progress.fetched(&partition(0), 12, false);
        assert_eq!(lag(), Some(7), "fetched, and not handed out yet");
        let batch = [share(&progress, 0, 11)];
        progress.dispatch(&batch, 1);
        progress.fetched(&partition(0), 12, true);
        assert_eq!(lag(), Some(7), "on its way to a worker");
        progress.digested(&batch, 1, None);
        assert_eq!(lag(), Some(0), "behind the last message stands a marker only");
        progress.high(&partition(0), 13);
        assert_eq!(lag(), Some(1));
    }

    #[test]
    fn lag_is_no_older_than_the_last_moment_without_any() {
        let (progress, start) = (Progress::default(), Instant::now());
        let behind = |seconds, now| progress.lags(start + Duration::from_secs(seconds))[0].behind_ms(now);
        progress.assign([(partition(0), Some(5))]);
        progress.high(&partition(0), 20);
        let batch = [Share { timestamp_ms: Some(1000), ..share(&progress, 0, 10) }];
        progress.dispatch(&batch, 1);
        progress.digested(&batch, 1, None);
        assert_eq!(
            behind(0, 90_000_000),
            89_999_000,
            "a day behind from the start, and nothing speaks against it"
        );
        assert_eq!(behind(0, -90_000_000), 0);
        progress.high(&partition(0), 10);
        assert_eq!(behind(1, 90_000_000), 89_999_000, "an end does not go back");
        let batch = [Share { timestamp_ms: Some(2000), ..share(&progress, 0, 20) }];
        progress.dispatch(&batch, 1);
        progress.digested(&batch, 1, None);
        assert_eq!(behind(2, 90_000_000), 0, "nothing more to read");
        progress.high(&partition(0), 21);
        assert_eq!(behind(3, 90_000_000), 6000, "whatever the clock says");
        assert_eq!(behind(30, 12_000), 10_000);
    }
}
