//! Ends one transaction after the other: a thread that may wait for the brokers.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{Producer, PurgeConfig, ThreadedProducer};
use tracing::{info, warn};

use super::commit::{list, note};
use super::outbox::desk::{Desk, Post};
use super::outbox::{Outbox, Renewal};
use super::progress::Progress;
use super::session::Current;
use super::transaction::{Committed, TICK, Transaction};
use crate::config::kafka::plain;
use crate::log::Rarely;

/// One call to the brokers; one that takes longer is made again, until the service ends.
const CALL: Duration = Duration::from_secs(2);

/// After an abort the next transaction waits for so long, twice as long after every one in a row, and so long at most.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(8);

/// One line a minute about the same trouble.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// With other keys at hand, letters that do not arrive are waited for so long.
const RENEW_AFTER: Duration = Duration::from_secs(5);

/// Why a transaction was not committed.
enum Failure {
    /// It can be aborted, and its messages read again.
    Abort(String),
    /// The producer cannot go on.
    Broken(RDKafkaErrorCode, String),
    /// The brokers do not answer, and there are other keys to log in with.
    Renewed,
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
    /// The producer of most letters, and that of those that go alone, have begun transactions.
    has_begun: [bool; 2],
    /// The producer of the last transaction is gone, and nobody told whether it was committed.
    is_in_doubt: bool,
    line: Rarely,
}

impl<'s> Teller<'s> {
    pub fn new(
        transaction: &'s Transaction,
        outbox: &'s Outbox,
        consumer: &'s Current,
        desk: &'s Desk,
    ) -> Self {
        let progress = &desk.progress;
        let (has_begun, is_in_doubt, line) = ([false; 2], false, Rarely::new(LINE_EVERY));
        Self { transaction, outbox, consumer, progress, desk, has_begun, is_in_doubt, line }
    }

    /// Uses the producer of the transaction that is open, or ends.
    fn with<R>(&self, call: impl FnOnce(&ThreadedProducer<Post>) -> R) -> R {
        self.outbox.producers().with(self.transaction.is_careful(), call)
    }

    /// Serves until the service ends.
    pub fn serve(mut self) {
        let mut pause = AGAIN_AFTER;
        loop {
            match self.turn().map_or_else(|failure| self.recover(failure), Some) {
                Some(true) => pause = AGAIN_AFTER,
                Some(false) if self.transaction.wait_for_rewind(pause) => {
                    pause = (pause * 2).min(AGAIN_AFTER_MAX);
                }
                Some(false) | None => break,
            }
        }
        // What is still open would hide what others write until the brokers give it up.
        let _ = self.with(|producer| producer.abort_transaction(CALL));
    }

    /// Begins a transaction and ends it; false if none could begin, for the poll loop has to go back first.
    fn turn(&mut self) -> Result<bool, Failure> {
        if self.desk.take_renewal() {
            self.replace(&Renewal::Files)?;
        }
        if !self.is_in_doubt {
            let positions = self.progress.positions();
            let partitions: Vec<_> = positions.into_iter().map(|(partition, _)| partition).collect();
            self.transaction.choose(self.transaction.has_refusals(&partitions));
        }
        let is_careful = self.transaction.is_careful();
        if !self.has_begun[usize::from(is_careful)] {
            // Ends what a predecessor of the same name left open.
            self.insist("cannot begin transactions", |producer, timeout| {
                producer.init_transactions(timeout)
            })?;
            self.has_begun[usize::from(is_careful)] = true;
            info!(is_careful, "events, dead letters and offsets go in transactions");
        }
        if std::mem::take(&mut self.is_in_doubt) {
            // Only now the brokers know what became of it.
            self.transaction.aborted(Committed::Unknown);
            return Ok(false);
        }
        self.insist("cannot begin a transaction", |producer, _| producer.begin_transaction())?;
        self.transaction.open();
        self.end().map(|()| true)
    }

    /// Puts right what can be; `None` where the service has to end.
    fn recover(&mut self, failure: Failure) -> Option<bool> {
        let rebuilt = match failure {
            Failure::Over => return None,
            Failure::Renewed => self.rebuild(&Renewal::Files),
            Failure::Broken(code, reason) => {
                if let Some(why) = self.desk.why_final(code, &reason, Some(self.transaction.age())) {
                    self.desk.fail(&why);
                    return None;
                }
                self.rebuild(&Renewal::Failed(plain(&reason)))
            }
            Failure::Abort(reason) => match self.abort(&reason) {
                Ok(()) => return Some(false),
                Err(Failure::Abort(reason)) => self.rebuild(&Renewal::Failed(reason)),
                Err(failure) => return self.recover(failure),
            },
        };
        rebuilt.is_ok().then_some(false)
    }

    /// Another producer takes the place of one in the middle of a transaction, which that one cannot end any more.
    fn rebuild(&mut self, renewal: &Renewal) -> Result<(), Failure> {
        self.transaction.break_off("the producer is built anew");
        self.transaction.close(|| self.purge());
        self.purge();
        self.wait_until_returned()?;
        self.desk.metrics.commit_failure();
        self.desk.take_renewal();
        self.replace(renewal)?;
        self.is_in_doubt = true;
        Ok(())
    }

    /// Nothing is on its way now.
    fn replace(&mut self, renewal: &Renewal) -> Result<(), Failure> {
        while let Err(error) = self.outbox.rebuild(renewal) {
            if let Some(suppressed) = self.line.permit() {
                warn!(suppressed, "{error:#}; will try again");
            }
            if !self.transaction.pause(AGAIN_AFTER_MAX) {
                return Err(Failure::Over);
            }
        }
        self.has_begun = [false; 2];
        Ok(())
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
            self.insist("cannot commit offsets", |producer, timeout| {
                producer.send_offsets_to_transaction(&list, &member, timeout)
            })?;
            self.insist("cannot commit a transaction", |producer, timeout| {
                producer.commit_transaction(timeout)
            })?;
            note(consumer.context(), Ok(()), &list);
            self.transaction.committed(&offsets);
            return Ok(());
        }
    }

    /// Waits until every letter is acknowledged.
    fn wait_for_letters(&self) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let is_delivered = self.progress.wait_until_delivered(Instant::now() + TICK);
            if let Some(reason) = self.transaction.broken() {
                return Err(Failure::Abort(reason));
            }
            if is_delivered {
                return Ok(());
            }
            if self.desk.is_renewal_due() && since.elapsed() >= RENEW_AFTER {
                return Err(Failure::Renewed);
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
        self.insist("cannot abort a transaction", Producer::abort_transaction)?;
        self.wait_until_returned()?;
        self.transaction.aborted(Committed::Known);
        Ok(())
    }

    /// The last letters of a transaction that failed come back; what they say is about this transaction.
    fn wait_until_returned(&self) -> Result<(), Failure> {
        while !self.progress.wait_until_delivered(Instant::now() + TICK) {
            if self.transaction.is_over() {
                return Err(Failure::Over);
            }
        }
        Ok(())
    }

    /// Gives up letters that wait for the brokers, so that who waits for room goes on.
    fn purge(&self) {
        self.with(|producer| producer.purge(PurgeConfig::default().queue().inflight()));
    }

    /// Calls until the brokers answer.
    fn insist(
        &self,
        what: &str,
        call: impl Fn(&ThreadedProducer<Post>, Duration) -> KafkaResult<()>,
    ) -> Result<(), Failure> {
        loop {
            let Err(error) = self.with(|producer| call(producer, CALL)) else { return Ok(()) };
            let KafkaError::Transaction(cause) = &error else { return Err(self.broken(&error)) };
            if cause.is_fatal() {
                return Err(self.broken(&error));
            }
            if cause.txn_requires_abort() {
                return Err(Failure::Abort(format!("{what}: {}", cause.string())));
            }
            if !cause.is_retriable() {
                return Err(self.broken(&error));
            }
            if let Some(suppressed) = self.line.permit() {
                warn!(cause = cause.string(), suppressed, "{what}; will try again");
            }
            if self.desk.is_renewal_due() {
                return Err(Failure::Renewed);
            }
            if !self.transaction.pause(TICK) {
                return Err(Failure::Over);
            }
        }
    }

    /// The client's own word for what is wrong with it, if it has one, says more than that of the call.
    fn broken(&self, error: &KafkaError) -> Failure {
        let fatal = self.outbox.producers().fatal(self.transaction.is_careful());
        let (code, reason) = fatal.unwrap_or_else(|| match error {
            KafkaError::Transaction(cause) => (cause.code(), cause.string()),
            other => (other.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fatal), other.to_string()),
        });
        Failure::Broken(code, reason)
    }
}
