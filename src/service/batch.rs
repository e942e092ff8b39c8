//! Gathers polled messages into batches, one a topic and worker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{SendTimeoutError, Sender};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use super::progress::{Progress, Share, TopicPartition};
use crate::metrics::Metrics;

/// A batch is handed over at this size: large enough that locks and tables cost little per message, small enough that
/// it stays in a core's cache.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_MESSAGES: usize = 1024;

/// Messages of one topic on their way to one worker.
pub struct Batch<'c> {
    pub topic: Arc<str>,
    pub messages: Vec<BorrowedMessage<'c>>,
    pub shares: Vec<Share>,
    pub bytes: usize,
}

/// The batches that are being filled.
pub struct Batches<'c> {
    workers: Vec<Sender<Batch<'c>>>,
    open: Vec<(usize, Batch<'c>)>,
    /// Full batches whose worker is busy, in order.
    ready: VecDeque<(usize, Batch<'c>)>,
    topics: Vec<Arc<str>>,
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
}

impl<'c> Batches<'c> {
    pub fn new(workers: Vec<Sender<Batch<'c>>>, progress: Arc<Progress>, metrics: Arc<Metrics>) -> Self {
        Self { workers, open: Vec::new(), ready: VecDeque::new(), topics: Vec::new(), progress, metrics }
    }

    /// The one shared name of a topic.
    pub fn topic(&mut self, name: &str) -> Arc<str> {
        if let Some(topic) = self.topics.iter().find(|topic| &***topic == name) {
            return Arc::clone(topic);
        }
        let topic: Arc<str> = name.into();
        self.topics.push(Arc::clone(&topic));
        topic
    }

    /// Puts a message into the batch of its topic and worker. A partition always has the same worker, so its batches
    /// are digested in order.
    pub fn push(&mut self, partition: TopicPartition, generation: u64, message: BorrowedMessage<'c>) {
        let worker = partition.1.unsigned_abs() as usize % self.workers.len();
        let at = self
            .open
            .iter()
            .position(|(owner, batch)| *owner == worker && Arc::ptr_eq(&batch.topic, &partition.0));
        // Behind a rebalance the same partition begins a batch of its own: one batch, one generation of it.
        let is_older = |share: &Share| share.partition.1 == partition.1 && share.generation != generation;
        let at = match at {
            Some(at) if self.open[at].1.shares.iter().any(is_older) => {
                let (worker, batch) = self.open.swap_remove(at);
                self.close(worker, batch);
                None
            }
            at => at,
        };
        let at = at.unwrap_or_else(|| {
            let topic = Arc::clone(&partition.0);
            self.open.push((worker, Batch { topic, messages: Vec::new(), shares: Vec::new(), bytes: 0 }));
            self.open.len() - 1
        });
        let batch = &mut self.open[at].1;
        let (next_offset, timestamp_ms) = (message.offset() + 1, message.timestamp().to_millis());
        match batch.shares.iter_mut().find(|share| share.partition.1 == partition.1) {
            Some(share) => {
                share.next_offset = next_offset;
                share.timestamp_ms = timestamp_ms;
            }
            None => batch.shares.push(Share { partition, generation, next_offset, timestamp_ms }),
        }
        batch.bytes += message.payload_len();
        batch.messages.push(message);
        if batch.bytes >= BATCH_BYTES || batch.messages.len() >= BATCH_MESSAGES {
            let (worker, batch) = self.open.swap_remove(at);
            self.close(worker, batch);
        }
    }

    /// Closes all batches and hands over what can be handed over at once.
    pub fn flush(&mut self) {
        for (worker, batch) in std::mem::take(&mut self.open) {
            self.close(worker, batch);
        }
        self.hand_over(Instant::now());
    }

    fn close(&mut self, worker: usize, mut batch: Batch<'c>) {
        let shares = batch.shares.len();
        let generation = |share: &Share| self.progress.generation(&share.partition, share.next_offset - 1);
        batch.shares.retain(|share| generation(share) == Some(share.generation));
        if batch.shares.len() < shares {
            // Revoked or halted while the batch was filled: nothing of it shall be counted twice.
            let is_ours = |message: &BorrowedMessage<'_>| {
                batch.shares.iter().any(|share| share.partition.1 == message.partition())
            };
            batch.messages.retain(is_ours);
            batch.bytes = batch.messages.iter().map(BorrowedMessage::payload_len).sum();
        }
        if batch.messages.is_empty() {
            return;
        }
        self.metrics.consumed(&batch.topic, batch.messages.len() as u64, batch.bytes as u64);
        self.progress.dispatch(&batch.shares, batch.bytes as u64);
        self.ready.push_back((worker, batch));
    }

    /// Gives closed batches to their workers, at most until `deadline`: a worker may wait for room on the way out, and
    /// the poll loop must turn meanwhile. False if some are left.
    pub fn hand_over(&mut self, deadline: Instant) -> bool {
        while let Some((worker, batch)) = self.ready.pop_front() {
            match self.workers[worker].send_deadline(batch, deadline) {
                Ok(()) => {}
                Err(SendTimeoutError::Timeout(batch)) => {
                    self.ready.push_front((worker, batch));
                    return false;
                }
                Err(SendTimeoutError::Disconnected(_)) => {
                    unreachable!("workers live as long as the poll loop")
                }
            }
        }
        true
    }
}

/// At the end nobody takes what is left; it will be read again.
impl Drop for Batches<'_> {
    fn drop(&mut self) {
        self.progress.abandon(self.ready.iter().map(|(_, batch)| batch.bytes as u64).sum());
    }
}
