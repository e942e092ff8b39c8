//! Ends one transaction after the other: a thread that may wait for the brokers.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{Producer, PurgeConfig, ThreadedProducer};
use tracing::{info, warn};

use super::commit::{list, note};
use super::outbox::Outbox;
use super::outbox::desk::{Desk, Post};
use super::progress::Progress;
use super::session::Current;
use super::transaction::{TICK, Transaction};
use crate::log::Rarely;

/// One call to the brokers; one that takes longer is made again, until the service ends.
const CALL: Duration = Duration::from_secs(2);

/// After an abort the next transaction waits for so long, twice as long after every one in a row, and so long at most.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(8);

/// One line a minute about the same trouble.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Why a transaction was not committed.
enum Failure {
    /// It can be aborted, and its messages read again.
    Abort(String),
    /// The producer cannot go on.
    Fatal(KafkaError),
    /// The service ends.
    Over,
}

/// Whoever ends transactions.
pub struct Teller<'s> {
    transaction: &'s Transaction,
    outbox: &'s Outbox,
    consumer: &'s Current,
    progress: &'s Progress,
    desk: &'s Desk,
    line: Rarely,
}

impl<'s> Teller<'s> {
    pub fn new(
        transaction: &'s Transaction,
        outbox: &'s Outbox,
        consumer: &'s Current,
        desk: &'s Desk,
    ) -> Self {
        let line = Rarely::new(LINE_EVERY);
        Self { transaction, outbox, consumer, progress: &desk.progress, desk, line }
    }

    /// The producer of the transaction that is open, or ends.
    fn producer(&self) -> &ThreadedProducer<Post> {
        let producer = self.outbox.producer(self.transaction.is_careful());
        producer.expect("transactions are made where something is produced")
    }

    /// Serves until the service ends.
    pub fn serve(&self) {
        match self.turns() {
            Ok(()) | Err(Failure::Over) => {}
            Err(Failure::Abort(reason)) => self.desk.fail(&reason),
            Err(Failure::Fatal(error)) => self.desk.fail(&self.desk.why_fatal(&error)),
        }
        // What is still open would hide what others write until the brokers give it up.
        let _ = self.producer().abort_transaction(CALL);
    }

    fn turns(&self) -> Result<(), Failure> {
        let mut pause = AGAIN_AFTER;
        let mut has_begun = [false; 2];
        loop {
            let partitions: Vec<_> =
                self.progress.positions().into_iter().map(|(partition, _)| partition).collect();
            let is_careful = self.transaction.has_refusals(&partitions);
            self.transaction.choose(is_careful);
            if !std::mem::replace(&mut has_begun[usize::from(is_careful)], true) {
                // Ends what a predecessor of the same name left open.
                self.insist("cannot begin transactions", |timeout| {
                    self.producer().init_transactions(timeout)
                })?;
                info!(is_careful, "events, dead letters and offsets go in transactions");
            }
            self.insist("cannot begin a transaction", |_| self.producer().begin_transaction())?;
            self.transaction.open();
            match self.end() {
                Ok(()) => pause = AGAIN_AFTER,
                Err(Failure::Abort(reason)) => {
                    self.abort(&reason)?;
                    if !self.transaction.wait_for_rewind(pause) {
                        return Ok(());
                    }
                    pause = (pause * 2).min(AGAIN_AFTER_MAX);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Waits until something is to be committed, and commits it.
    fn end(&self) -> Result<(), Failure> {
        loop {
            if !self.transaction.wait_for_turn() {
                return Err(Failure::Over);
            }
            let letters = self.transaction.close(|| self.purge());
            self.wait_for_letters()?;
            // All letters in it belong to messages before these offsets: what waits for the next one is not settled.
            let offsets = self.progress.uncommitted();
            if offsets.is_empty() && letters > 0 {
                return Err(Failure::Abort("what was sent has no offset any more".to_owned()));
            }
            if offsets.is_empty() {
                self.transaction.committed(&[]);
                self.transaction.open();
                continue;
            }
            let list = list(&offsets);
            // With it the brokers refuse the offsets of a member that the group has given up.
            let consumer = self.consumer.get();
            let Some((consumer, member)) = consumer.and_then(|consumer| {
                let member = consumer.group_metadata()?;
                Some((consumer, member))
            }) else {
                return Err(Failure::Abort("the consumer is being built anew".to_owned()));
            };
            self.insist("cannot commit offsets", |timeout| {
                self.producer().send_offsets_to_transaction(&list, &member, timeout)
            })?;
            self.insist("cannot commit a transaction", |timeout| {
                self.producer().commit_transaction(timeout)
            })?;
            note(consumer.context(), Ok(()), &list);
            self.transaction.committed(&offsets);
            return Ok(());
        }
    }

    /// Waits until every letter is acknowledged.
    fn wait_for_letters(&self) -> Result<(), Failure> {
        loop {
            let is_delivered = self.progress.wait_until_delivered(Instant::now() + TICK);
            if let Some(reason) = self.transaction.broken() {
                return Err(Failure::Abort(reason));
            }
            if is_delivered {
                return Ok(());
            }
            if self.transaction.is_over() || self.desk.failed().is_some() {
                return Err(Failure::Over);
            }
        }
    }

    fn abort(&self, reason: &str) -> Result<(), Failure> {
        if let Some(suppressed) = self.line.permit() {
            warn!(reason, suppressed, "transaction aborted; its messages are read again");
        }
        self.desk.metrics.commit_failure();
        self.insist("cannot abort a transaction", |timeout| self.producer().abort_transaction(timeout))?;
        // The last of its letters come back now; what they say is about this transaction.
        while !self.progress.wait_until_delivered(Instant::now() + TICK) {
            if self.transaction.is_over() {
                return Err(Failure::Over);
            }
        }
        self.transaction.aborted();
        Ok(())
    }

    /// Gives up letters that wait for the brokers, so that who waits for room goes on.
    fn purge(&self) {
        self.producer().purge(PurgeConfig::default().queue().inflight());
    }

    /// Calls until the brokers answer.
    fn insist(&self, what: &str, call: impl Fn(Duration) -> KafkaResult<()>) -> Result<(), Failure> {
        loop {
            let Err(error) = call(CALL) else { return Ok(()) };
            let KafkaError::Transaction(cause) = &error else { return Err(Failure::Fatal(error)) };
            if cause.is_fatal() {
                return Err(Failure::Fatal(error));
            }
            if cause.txn_requires_abort() {
                return Err(Failure::Abort(format!("{what}: {}", cause.string())));
            }
            if !cause.is_retriable() {
                return Err(Failure::Fatal(error));
            }
            if let Some(suppressed) = self.line.permit() {
                warn!(cause = cause.string(), suppressed, "{what}; will try again");
            }
            if !self.transaction.pause(TICK) {
                return Err(Failure::Over);
            }
        }
    }
}
