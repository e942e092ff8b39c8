//! How far each assigned partition has been read, digested and committed.
//!
//! The poll loop dispatches messages, workers report them done, the poll loop commits. All batches of a partition go
//! through one worker in order, so what is done is always a contiguous prefix. Reports carry the generation of the
//! assignment they belong to: a late report of an earlier assignment moves nothing.

use std::collections::BTreeMap;
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
    in_flight_bytes: u64,
}

#[derive(Debug)]
struct Partition {
    generation: u64,
    /// Batches that a worker has and did not report yet.
    batches: u32,
    /// Offset behind the last digested message.
    next_offset: Option<i64>,
    committed: Option<i64>,
    /// Kafka's time of the last digested message.
    timestamp_ms: Option<Millis>,
    /// Offset behind the last message of the log, as last heard.
    high: Option<i64>,
}

/// Part of a batch: what it holds of one partition.
#[derive(Clone, Debug)]
pub struct Share {
    pub partition: TopicPartition,
    pub generation: u64,
    pub next_offset: i64,
    pub timestamp_ms: Option<Millis>,
}

/// What the gauges show of one partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lag {
    pub partition: TopicPartition,
    /// Messages behind the end of the log; unknown until the end was heard of.
    pub messages: Option<u64>,
    /// Kafka's time of the last digested message.
    pub timestamp_ms: Option<Millis>,
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
                committed: next_offset,
                timestamp_ms: None,
                high: None,
            };
            state.partitions.insert(partition, fresh);
        }
    }

    /// Waits until the workers have reported everything of `partitions`, at most until `deadline`, and gives what is
    /// to be committed of them. The partitions are forgotten.
    pub fn revoke(&self, partitions: &[TopicPartition], deadline: Instant) -> Vec<(TopicPartition, i64)> {
        let mut state = self.wait_for(deadline, |state| {
            let is_idle =
                |partition| state.partitions.get(partition).is_none_or(|partition| partition.batches == 0);
            partitions.iter().all(is_idle)
        });
        let mut commits = Vec::new();
        for partition in partitions {
            if let Some(Partition { next_offset: Some(next), committed, .. }) =
                state.partitions.remove(partition)
                && committed != Some(next)
            {
                commits.push((partition.clone(), next));
            }
        }
        commits
    }

    /// Moves a partition to another offset, for one whose next message is gone.
    pub fn reposition(&self, partition: &TopicPartition, next_offset: i64) {
        if let Some(partition) = self.lock().partitions.get_mut(partition) {
            partition.next_offset = Some(partition.next_offset.unwrap_or(0).max(next_offset));
        }
    }

    /// The generation under which messages of `partition` are dispatched; `None` if it is not ours any more.
    pub fn generation(&self, partition: &TopicPartition) -> Option<u64> {
        self.lock().partitions.get(partition).map(|partition| partition.generation)
    }

    /// Notes a batch on its way to a worker.
    pub fn dispatch(&self, shares: &[Share], bytes: u64) {
        let mut state = self.lock();
        state.in_flight_bytes += bytes;
        for share in shares {
            if let Some(partition) = state.current(share) {
                partition.batches += 1;
            }
        }
    }

    /// Notes a batch that was digested and counted.
    pub fn done(&self, shares: &[Share], bytes: u64) {
        let mut state = self.lock();
        state.in_flight_bytes -= bytes;
        for share in shares {
            if let Some(partition) = state.current(share) {
                partition.batches -= 1;
                partition.next_offset = Some(partition.next_offset.unwrap_or(0).max(share.next_offset));
                partition.timestamp_ms = share.timestamp_ms.or(partition.timestamp_ms);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// What was digested and not committed yet.
    pub fn uncommitted(&self) -> Vec<(TopicPartition, i64)> {
        let differs = |(key, partition): (&TopicPartition, &Partition)| match partition.next_offset {
            Some(next) if partition.committed != Some(next) => Some((key.clone(), next)),
            _ => None,
        };
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

    /// Where reading of each assigned partition goes on, if it is known.
    pub fn positions(&self) -> Vec<(TopicPartition, Option<i64>)> {
        self.lock().partitions.iter().map(|(key, partition)| (key.clone(), partition.next_offset)).collect()
    }

    pub fn lags(&self) -> Vec<Lag> {
        let lag = |(key, partition): (&TopicPartition, &Partition)| Lag {
            partition: key.clone(),
            messages: partition
                .high
                .zip(partition.next_offset)
                .map(|(high, next)| (high - next).max(0).unsigned_abs()),
            timestamp_ms: partition.timestamp_ms,
        };
        self.lock().partitions.iter().map(lag).collect()
    }

    pub fn in_flight_bytes(&self) -> u64 {
        self.lock().in_flight_bytes
    }

    /// Waits until less than `limit` bytes are in flight; false if that took until `deadline`.
    pub fn wait_for_room(&self, limit: u64, deadline: Instant) -> bool {
        self.wait_for(deadline, |state| state.in_flight_bytes < limit).in_flight_bytes < limit
    }

    /// Waits until nothing is in flight; false if that took until `deadline`.
    pub fn wait_until_idle(&self, deadline: Instant) -> bool {
        self.wait_for(deadline, |state| state.in_flight_bytes == 0).in_flight_bytes == 0
    }

    fn wait_for(&self, deadline: Instant, mut ready: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if ready(&state) || left == Duration::ZERO {
                return state;
            }
            state =
                self.changed.wait_timeout(state, left).expect("no code panics while it holds this lock").0;
        }
    }
}

impl State {
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
        let generation = progress.generation(&partition).unwrap();
        Share { partition, generation, next_offset, timestamp_ms: Some(next_offset) }
    }

    #[test]
    fn what_is_done_is_committed_once() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(5)), (partition(1), None)]);
        let batch = [share(&progress, 0, 9)];
        progress.dispatch(&batch, 100);
        assert_eq!((progress.uncommitted(), progress.in_flight_bytes()), (vec![], 100));
        progress.done(&batch, 100);
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
        progress.done(&late, 10);
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
            std::thread::spawn(move || progress.done(&batch, 1))
        };
        let commits = progress.revoke(&[partition(0)], Instant::now() + Duration::from_secs(30));
        worker.join().unwrap();
        assert_eq!((commits, progress.positions()), (vec![(partition(0), 7)], vec![]));
    }

    #[test]
    fn lag_is_known_once_the_end_is() {
        let progress = Progress::default();
        progress.assign([(partition(0), Some(5))]);
        assert_eq!(progress.lags()[0].messages, None);
        progress.high(&partition(0), 12);
        assert_eq!(progress.lags()[0].messages, Some(7));
    }
}
