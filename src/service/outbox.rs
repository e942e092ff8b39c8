//! What leaves: enriched events and dead letters, through an idempotent producer or into a file.
//!
//! Workers send letters and go on; acknowledgements come on the producer's own thread and settle the letter's parcel. What
//! needs care, a failed letter or a line for the file, goes to one clerk: a thread that may wait. A letter that fails
//! for now is sent again until it is delivered; one that can never be delivered becomes a dead letter, or halts its
//! partition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseRecord;
use tracing::{error, info, warn};

use super::progress::{Parcel, Progress};
use super::session::Current;
use super::teller::Teller;
use super::transaction::Transaction;
use crate::config::kafka::{in_flight_limit_bytes, plain};
use crate::config::{Destination, Settings};
use crate::log::Rarely;

pub mod desk;
mod file;
pub mod letter;
pub mod producers;

pub use desk::Desk;
use desk::{Returned, Verdict, is_purged, verdict};
use file::File;
use letter::{Content, Letter, Paper};
use producers::Producers;

/// Letters that failed for now are sent again after this time, twice as long after every time in vain, and so long at
/// most: each try of everything that is in flight costs a core tenths of a second.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(8);
/// A producer that failed for good is followed by another one, this long after the last one began.
const REBUILD_EVERY: Duration = Duration::from_secs(10);
/// How soon the clerk sees the end.
const TICK: Duration = Duration::from_millis(100);
/// One line a minute about the same trouble.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Why producers are built anew.
pub enum Renewal {
    /// A file that they read when they were built has changed.
    Files,
    /// They failed for good, and others may fare better.
    Failed(String),
}

impl Renewal {
    /// Its word in `aadstream_producer_rebuilds_total`.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Failed(_) => "failed",
        }
    }
}

/// Sends letters and cares for those that come back.
pub struct Outbox {
    desk: Arc<Desk>,
    /// With exactly once; else letters go one by one.
    transaction: Option<Arc<Transaction>>,
    /// Of everything in flight; letters wait beyond it.
    limit_bytes: u64,
    producers: Option<Producers>,
    returned: Receiver<Returned>,
    file: Option<File>,
    line: Rarely,
}

impl Outbox {
    /// `None` if nothing is to leave.
    pub fn open(
        settings: &Settings,
        desk: Arc<Desk>,
        transaction: Option<Arc<Transaction>>,
    ) -> anyhow::Result<Option<Self>> {
        let file = match &settings.dead_letters.destination {
            Some(Destination::File(path)) => Some(File::open(path)?),
            _ => None,
        };
        let producers = Producers::open(settings, &desk)?;
        if producers.is_none() && file.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            limit_bytes: in_flight_limit_bytes(settings) as u64,
            returned: desk.returned(),
            producers,
            transaction,
            file,
            line: Rarely::new(LINE_EVERY),
            desk,
        }))
    }

    pub fn progress(&self) -> &Progress {
        &self.desk.progress
    }

    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_deref()
    }

    /// Whoever ends the transactions; `None` where there are none.
    pub fn teller<'s>(&'s self, consumer: &'s Current) -> Option<Teller<'s>> {
        Some(Teller::new(self.transaction()?, self, consumer, &self.desk))
    }

    /// Sends a letter; waits while too much is on its way. False at the end of the service: then it is not sent.
    pub fn send(&self, letter: Box<Letter>, paper: Paper<'_>) -> bool {
        let Some((letter, paper)) = self.escalate(letter, paper) else { return true };
        let is_open = self.progress().send(letter.bytes, self.limit_bytes);
        if !is_open {
            self.progress().release(letter.bytes);
            return false;
        }
        letter.parcel.add();
        self.post(letter, paper);
        true
    }

    /// The worker has packed the last letter of this parcel.
    pub fn settle(&self, parcel: &Parcel) {
        self.progress().settle(parcel);
    }

    fn post(&self, letter: Box<Letter>, paper: Paper<'_>) {
        let topic = match letter.content {
            Content::Event => self.desk.event_topic.as_deref(),
            Content::Dead { .. } if self.file.is_some() => {
                return self.desk.give_back(Returned { letter, paper: paper.into_owned(), error: None });
            }
            Content::Dead { .. } => self.desk.dead_topic.as_deref(),
        };
        let topic = topic.expect("letters are made for a topic that is configured");
        let is_alone = letter.is_alone;
        let mut record = BaseRecord::with_opaque_to(topic, letter).headers(paper.headers);
        record.key = paper.key.as_deref();
        record.payload = paper.body.as_deref();
        if let Some((error, record)) = self.producers().with(is_alone, |producer| producer.send(record).err())
        {
            let own = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.to_vec().into());
            let paper = Paper {
                key: own(record.key),
                body: own(record.payload),
                headers: record.headers.unwrap_or_default(),
            };
            self.desk.give_back(Returned { letter: record.delivery_opaque, paper, error: Some(error) });
        }
    }

    /// Those that send.
    pub fn producers(&self) -> &Producers {
        self.producers.as_ref().expect("where there is a topic there is a producer")
    }

    /// The clerk: cares for letters until the service ends.
    pub fn care(&self) {
        let mut later: Vec<Returned> = Vec::new();
        let mut lines: Vec<Returned> = Vec::new();
        let mut again_at = Instant::now();
        let mut pause = AGAIN_AFTER;
        let mut rebuilt_at = Instant::now();
        while !self.progress().is_closed() {
            if self.producers.is_some() {
                self.look_at_producers(&mut rebuilt_at);
            }
            match self.returned.recv_timeout(TICK) {
                Ok(first) => {
                    let more = self.returned.try_iter().take(1000);
                    for returned in std::iter::once(first).chain(more) {
                        match &returned.error {
                            None => lines.push(returned),
                            Some(_) => later.extend(self.judge(returned)),
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let is_time = Instant::now() >= again_at;
            if is_time && !later.is_empty() {
                later.drain(..).for_each(|returned| self.post(returned.letter, returned.paper));
                again_at = Instant::now() + pause;
                pause = (pause * 2).min(AGAIN_AFTER_MAX);
            }
            if !lines.is_empty() && is_time && !self.file_lines(&mut lines) {
                again_at = Instant::now() + AGAIN_AFTER;
            }
            if self.desk.unready().is_none() {
                pause = AGAIN_AFTER;
            }
        }
    }

    /// A producer may fail for good without a letter to fail with it, and what it logs in with may change. Between
    /// transactions the teller sees to both. Its token may be about to end.
    fn look_at_producers(&self, rebuilt_at: &mut Instant) {
        let producers = self.producers();
        if self.desk.is_token_due() {
            producers.renew_tokens();
        }
        if let Some(transaction) = &self.transaction {
            if let Some((_, reason)) = producers.fatal(transaction.is_careful()) {
                transaction.break_off(&plain(&reason));
            }
            return;
        }
        let fatal = [false, true].into_iter().find_map(|is_alone| producers.fatal(is_alone));
        if let Some(why) = fatal.as_ref().and_then(|(code, reason)| self.desk.why_final(*code, reason, None))
        {
            return self.desk.fail(&why);
        }
        let is_failed = fatal.is_some() && rebuilt_at.elapsed() >= REBUILD_EVERY;
        let renewal = if self.desk.take_renewal() {
            Renewal::Files
        } else if is_failed {
            Renewal::Failed(fatal.map_or_else(String::new, |(_, reason)| plain(&reason)))
        } else {
            return;
        };
        *rebuilt_at = Instant::now();
        if let Err(error) = self.rebuild(&renewal) {
            warn!("{error:#}; will try again");
            self.desk.renew();
        }
    }

    /// Builds the producers anew. What they had not delivered comes back.
    pub fn rebuild(&self, renewal: &Renewal) -> anyhow::Result<()> {
        self.producers().replace()?;
        self.desk.metrics.producer_rebuild(renewal.as_str());
        match renewal {
            Renewal::Files => info!("keys or certificates have changed; the producer is built anew"),
            Renewal::Failed(reason) => warn!(reason, "the producer failed; it is built anew"),
        }
        Ok(())
    }

    /// What becomes of a letter that came back; gives it back if it is to be sent again later.
    fn judge(&self, mut returned: Returned) -> Option<Returned> {
        let error = returned.error.take().expect("only failed letters are judged");
        if is_purged(&error) {
            // Another producer has taken the place of the one that had it.
            self.post(returned.letter, returned.paper);
            return None;
        }
        let (verdict, reason) = verdict(&error);
        self.desk.metrics.forward_failure(reason);
        if let Some(transaction) = &self.transaction {
            self.lose(transaction, &returned.letter, verdict, &error);
            return None;
        }
        match verdict {
            // A batch that is too large as a whole may hold letters that are not.
            Verdict::Never if !returned.letter.is_alone => {
                returned.letter.is_alone = true;
                self.post(returned.letter, returned.paper);
                None
            }
            Verdict::Never => {
                self.give_up(returned, &error.to_string());
                None
            }
            Verdict::Later => {
                let what = self.desk.trouble(&returned.letter, &error);
                if let Some(suppressed) = self.line.permit() {
                    warn!(suppressed, "{what}; will try again");
                }
                Some(returned)
            }
        }
    }

    /// With a letter its transaction fails. Sent again, in another one, it fares otherwise if it was refused for good.
    fn lose(&self, transaction: &Transaction, letter: &Letter, verdict: Verdict, error: &KafkaError) {
        match verdict {
            Verdict::Never => {
                letter.place().into_iter().for_each(|place| transaction.refuse(place, letter.is_alone));
                transaction.break_off(&format!("a letter was refused: {error}"));
            }
            Verdict::Later => transaction.break_off(&self.desk.trouble(letter, error)),
        }
        self.progress().release(letter.bytes);
    }

    /// What becomes of a letter that was refused in earlier transactions: it goes alone, then as a dead letter, then as
    /// the hash of one; `None` if its partition halts.
    fn escalate<'p>(
        &self,
        mut letter: Box<Letter>,
        mut paper: Paper<'p>,
    ) -> Option<(Box<Letter>, Paper<'p>)> {
        let Some(transaction) = &self.transaction else { return Some((letter, paper)) };
        let refusals = letter.place().map_or(0, |place| transaction.refusals(&place));
        // An event has one step more than a letter that is dead already.
        let steps = refusals + u8::from(letter.content != Content::Event && refusals > 1);
        if steps > 3 || steps > 1 && self.desk.dead_topic.is_none() {
            let advice = if steps > 3 { "" } else { "; set `topic` in [dead_letters] to go on" };
            self.halt(&letter, &format!("its topic refuses what came of it{advice}"));
            transaction.break_off("a partition halted, and nothing behind its message may leave");
            return None;
        }
        if steps > 1 && letter.content == Content::Event {
            (letter, paper) = letter.into_undeliverable(paper);
        }
        if steps > 2 {
            (letter, paper) = letter.into_digest(paper);
        }
        letter.is_alone = transaction.is_careful();
        Some((letter, paper))
    }

    /// A letter that its destination will never take.
    fn give_up(&self, Returned { letter, paper, .. }: Returned, error: &str) {
        let has_place = self.file.is_some() || self.desk.dead_topic.is_some();
        match letter.content {
            Content::Event if has_place => {
                let (letter, paper) = letter.into_undeliverable(paper);
                self.post(letter, paper);
            }
            Content::Dead { is_digest: false, .. } => {
                let (letter, paper) = letter.into_digest(paper);
                self.post(letter, paper);
            }
            Content::Event | Content::Dead { .. } => {
                let advice =
                    if has_place { "" } else { "; set `topic` or `file` in [dead_letters] to go on" };
                self.halt(&letter, &format!("cannot deliver what came of it: {error}{advice}"));
                self.desk.finish(&letter);
            }
        }
    }

    /// Stops the letter's partition in front of its message.
    pub fn halt(&self, letter: &Letter, reason: &str) {
        let Some(share) = letter.share() else { return };
        if self.progress().halt(&share.partition, share.generation, letter.offset) {
            let (topic, partition) = &share.partition;
            error!(topic = &**topic, partition, offset = letter.offset, reason, "partition halted");
        }
    }

    /// Writes dead letters to the file; false if the disk did not take them.
    fn file_lines(&self, lines: &mut Vec<Returned>) -> bool {
        let file = self.file.as_ref().expect("only dead letters of a file come back without an error");
        match file.append(lines) {
            Ok(()) => {
                lines.drain(..).for_each(|filed| self.desk.delivered(&filed.letter));
                true
            }
            Err(error) => {
                self.desk.metrics.forward_failure("file");
                let what = format!("cannot write dead letters to {}: {error}", file.path().display());
                if let Some(suppressed) = self.line.permit() {
                    warn!(suppressed, "{what}; will try again");
                }
                *self.desk.trouble_of(lines[0].letter.content) = Some(what);
                false
            }
        }
    }
}
