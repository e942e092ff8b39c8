//! The life of a consumer, and of the next one where the first is built anew.
//!
//! A session is one consumer with its workers. It ends with the service, or when the watchdog or a changed file asks for
//! another consumer; the producer and its letters outlast it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tracing::{info, warn};

use super::commit::commit_now;
use super::context::{Context, DRAIN};
use super::outbox::Outbox;
use super::progress::TopicPartition;
use super::watchdog::Renewal;
use super::{POLL, PollLoop, Service, worker, workers};
use crate::config::kafka::client_config;

/// After what is in flight was waited for, a consumer may take so long to commit and to give its partitions up. One that
/// hangs is left behind: its group notices by its session.
const LEAVE: Duration = Duration::from_secs(5);

/// A consumer that cannot be made is tried again after this time.
const AGAIN: Duration = Duration::from_secs(2);

/// How a session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Stopped,
    Renewed,
}

impl Service {
    /// Consumes until [`Service::stop`], or until the client cannot go on.
    pub fn consume(&self) -> anyhow::Result<()> {
        let outbox = Outbox::open(&self.settings, Arc::clone(&self.desk), self.transaction.clone())?;
        let current = Current::default();
        let _guard = (!self.settings.kafka.stall_timeout.is_zero())
            .then(|| self.watchdog.guard(&self.settings))
            .transpose()?;
        let result = std::thread::scope(|scope| {
            if let Some(outbox) = &outbox {
                let clerk = std::thread::Builder::new().name("clerk".to_owned());
                clerk.spawn_scoped(scope, || outbox.care()).context("cannot start a thread")?;
            }
            if let Some(teller) = outbox.as_ref().and_then(|outbox| outbox.teller(&current)) {
                let thread = std::thread::Builder::new().name("teller".to_owned());
                thread.spawn_scoped(scope, move || teller.serve()).context("cannot start a thread")?;
            }
            let result = self.consumer().and_then(|first| self.sessions(first, outbox.as_ref(), &current));
            self.progress.close();
            self.transaction.iter().for_each(|transaction| transaction.end());
            result
        });
        info!("consumer closed");
        result
    }

    /// One consumer after another.
    fn sessions(
        &self,
        first: Arc<BaseConsumer<Context>>,
        outbox: Option<&Outbox>,
        current: &Current,
    ) -> anyhow::Result<()> {
        let mut next = Ok(first);
        while !self.stopping.load(Ordering::Relaxed) {
            match next {
                Ok(consumer) => {
                    current.set(&consumer);
                    if self.session(consumer, outbox)? == End::Stopped {
                        return Ok(());
                    }
                }
                // A certificate that is being replaced, perhaps; the first consumer was made from the same settings.
                Err(error) => {
                    warn!("{error:#}; will try again");
                    std::thread::sleep(AGAIN);
                }
            }
            next = self.consumer();
        }
        Ok(())
    }

    fn consumer(&self) -> anyhow::Result<Arc<BaseConsumer<Context>>> {
        let kafka = &self.settings.kafka;
        let context = Context::new(
            Arc::clone(&self.progress),
            Arc::clone(&self.metrics),
            self.transaction.clone(),
            kafka,
        );
        let consumer: BaseConsumer<Context> = client_config(&self.settings)
            .create_with_context(context)
            .context("cannot create the Kafka client")?;
        let topics: Vec<&str> = kafka.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).with_context(|| format!("cannot subscribe to {}", topics.join(", ")))?;
        info!(brokers = kafka.brokers, topics = topics.join(","), group_id = kafka.group_id, "consuming");
        Ok(Arc::new(consumer))
    }

    /// The life of one consumer.
    fn session(&self, consumer: Arc<BaseConsumer<Context>>, outbox: Option<&Outbox>) -> anyhow::Result<End> {
        let (end, hold) = std::thread::scope(|scope| {
            let (batches, workers) = worker::spawn(scope, self, outbox, workers(&self.settings));
            let mut poll_loop = PollLoop::new(self, &consumer, batches);
            let end = poll_loop.run();
            let hold = match end {
                Ok(End::Renewed) => {
                    poll_loop.batches.hand_over(Instant::now() + DRAIN);
                    Some(self.leave(&consumer))
                }
                _ => {
                    self.finish(&consumer);
                    None
                }
            };
            drop(poll_loop);
            drop(workers);
            (end, hold)
        });
        // The last owner closes it, which may hang as well: not this thread, if another consumer is to follow.
        drop(consumer);
        drop(hold);
        end
    }

    /// Waits until what is in flight is digested and delivered, commits and leaves the group.
    fn finish(&self, consumer: &BaseConsumer<Context>) {
        let deadline = Instant::now() + self.settings.kafka.shutdown_timeout / 2;
        let is_done = match &self.transaction {
            Some(transaction) => {
                self.desk.failed().is_none()
                    && self.progress.wait_until_drained(&self.assigned(), deadline)
                    && transaction.settle(deadline)
            }
            None => {
                let is_done = self.progress.wait_until_idle(deadline);
                let offsets = self.progress.uncommitted();
                if !offsets.is_empty() {
                    commit_now(consumer, &offsets);
                }
                is_done
            }
        };
        if !is_done {
            warn!("some messages were not digested, or not delivered, in time; they will be read again");
        }
        self.progress.close();
        self.transaction.iter().for_each(|transaction| transaction.end());
        consumer.unsubscribe();
    }

    /// Takes the consumer out of the group as a rebalance does: its partitions are drained, committed and given up. It may
    /// hang in all of that, so it does it on a thread of its own, which nobody waits for without end and which closes it
    /// once what is returned is dropped.
    fn leave(&self, consumer: &Arc<BaseConsumer<Context>>) -> Sender<()> {
        self.has_joined.store(false, Ordering::Relaxed);
        let (done_tx, done) = bounded(1);
        let (hold, held) = bounded(0);
        let leaving = Leaving::begin(&self.is_leaving);
        let (progress, leaver) = (Arc::clone(&self.progress), Arc::clone(consumer));
        let thread = std::thread::Builder::new().name("leave".to_owned()).spawn(move || {
            leaver.unsubscribe();
            // What comes now is read again by the next consumer.
            while !leaver.context().is_retired() && !progress.positions().is_empty() {
                drop(leaver.poll(POLL));
            }
            // Nobody listens any more where this took too long.
            let _ = done_tx.send(());
            // Fails as soon as nobody else has it.
            let _ = held.recv();
            drop(leaver);
            drop(leaving);
        });
        let is_done = thread.is_ok() && done.recv_timeout(DRAIN + LEAVE).is_ok();
        consumer.context().retire();
        if !is_done {
            warn!(
                "the consumer does not give its partitions up in time; what it did not commit is read again"
            );
        }
        let left = self.assigned();
        if let Some(transaction) = self.transaction.as_ref().filter(|_| !left.is_empty()) {
            transaction.break_off("the consumer was given up before all that came of it was delivered");
        }
        self.progress.revoke(&left, Instant::now());
        left.iter().for_each(|(topic, partition)| self.metrics.forget_partition(topic, *partition));
        self.metrics.assigned_partitions(0);
        hold
    }

    fn assigned(&self) -> Vec<TopicPartition> {
        self.progress.positions().into_iter().map(|(partition, _)| partition).collect()
    }

    /// Asks for another consumer, which reads its keys and certificates anew.
    pub fn renew_consumer(&self) {
        self.watchdog.renew(Renewal::Files);
    }

    /// Asks for another producer, likewise.
    pub fn renew_producer(&self) {
        self.desk.renew();
    }

    /// Whether the poll loop has to make room for another consumer now.
    pub(super) fn is_renewed(&self) -> bool {
        // One that hangs holds memory: there is only ever one of them.
        if self.is_leaving.load(Ordering::Acquire) {
            return false;
        }
        let Some(renewal) = self.watchdog.take() else { return false };
        self.metrics.consumer_rebuild(renewal.as_str());
        match &renewal {
            Renewal::Stalled(partitions) => {
                for ((topic, partition), offset) in partitions {
                    warn!(
                        topic = &**topic,
                        partition,
                        offset,
                        "partition stands still and has more to read; its consumer is built anew"
                    );
                }
            }
            Renewal::Files => info!("keys or certificates have changed; the consumer is built anew"),
        }
        true
    }
}

/// The consumer of the moment, for whoever commits in its name. It does not keep the consumer alive.
#[derive(Default)]
pub(super) struct Current(Mutex<Weak<BaseConsumer<Context>>>);

impl Current {
    fn set(&self, consumer: &Arc<BaseConsumer<Context>>) {
        *self.0.lock().expect("no code panics while it holds this lock") = Arc::downgrade(consumer);
    }

    pub(super) fn get(&self) -> Option<Arc<BaseConsumer<Context>>> {
        self.0.lock().expect("no code panics while it holds this lock").upgrade()
    }
}

/// Says, while it lives, that a consumer is on its way out.
struct Leaving(Arc<AtomicBool>);

impl Leaving {
    fn begin(flag: &Arc<AtomicBool>) -> Self {
        flag.store(true, Ordering::Release);
        Self(Arc::clone(flag))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
