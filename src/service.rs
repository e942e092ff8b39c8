//! The service: Kafka in, counts out.
//!
//! One thread polls, some digest, one tiny runtime serves HTTP. A message is counted as soon as it is digested; its
//! offset is committed afterwards, for a contiguous prefix of every partition. Nothing queues without a limit: when the
//! bytes in flight reach theirs, polling waits, and after a while the partitions are paused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, TopicPartitionList};
use tracing::{debug, error, warn};

use crate::catalogue::Catalogue;
use crate::config::client_log::TroubleKind;
use crate::config::kafka::in_flight_limit_bytes;
use crate::config::{Kafka, Settings};
use crate::digest::pseudonym::Pseudonyms;
use crate::digest::{Middle, Options};
use crate::exit_code::{Exit, ExitError};
use crate::log::Rarely;
use crate::metrics::Metrics;
use crate::web::Health;
use crate::window::Window;

pub mod audit;
mod batch;
mod commit;
mod context;
mod moves;
mod outbox;
mod progress;
mod session;
mod start;
mod steady;
mod teller;
mod transaction;
mod watchdog;
mod worker;

use batch::Batches;
use commit::commit_soon;
use context::Context;
pub use context::now_ms;
use outbox::Desk;
use progress::Progress;
pub use progress::TopicPartition;
use session::End;
use steady::renew_token;
use transaction::Transaction;
use watchdog::Watchdog;

/// How long one poll waits for a message; also how often housekeeping gets its turn in a quiet stream.
const POLL: Duration = Duration::from_millis(100);

/// Messages, and bytes, that one turn of the poll loop takes at most.
const TURN_MESSAGES: usize = 2048;
const TURN_BYTES: usize = 1024 * 1024;

/// Offsets are committed this often: tools that watch the group from outside see its lag only by commits.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Gauges are refreshed this often, below the usual scrape interval.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// Beginnings that could not be found are asked for again this often.
const REPAIR_EVERY: Duration = Duration::from_secs(2);

/// Workers need milliseconds for what is in flight; a poll loop that waits longer for them pauses the partitions, so
/// that it can go on polling and stays in the group.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// A poll loop that has not turned for this long is stuck.
const TURN_LIMIT: Duration = Duration::from_secs(60);

/// Digesting threads: one core is left to the client, which decompresses.
fn workers(settings: &Settings) -> usize {
    match settings.input.workers {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1)),
        asked => asked,
    }
}

/// Everything that the threads of the service share.
pub struct Service {
    settings: Settings,
    /// A batch takes the one of the moment and keeps it to its end; a reload puts another in its place.
    middle: RwLock<Arc<Middle>>,
    pub metrics: Arc<Metrics>,
    /// Known once the brokers have told it.
    cluster_id: OnceLock<String>,
    progress: Arc<Progress>,
    desk: Arc<Desk>,
    /// With exactly once: what leaves goes in it, and offsets along with it.
    transaction: Option<Arc<Transaction>>,
    window: std::sync::Mutex<Window>,
    stopping: AtomicBool,
    born: Instant,
    /// The age of the service at the poll loop's last turn, in milliseconds; 0 before the first.
    turned_at: AtomicU64,
    has_joined: AtomicBool,
    /// Some broker has taken us since the start, whatever consumer it was.
    has_connected: AtomicBool,
    watchdog: Arc<Watchdog>,
    /// A consumer that another one replaces has not left yet.
    is_leaving: Arc<AtomicBool>,
    /// Topics that the brokers do not have, as last heard.
    missing_topics: std::sync::Mutex<Vec<String>>,
    /// The client cannot go on.
    failed: std::sync::Mutex<Option<String>>,
}

impl Service {
    pub fn new(settings: Settings, catalogue: Arc<Catalogue>, metrics: Arc<Metrics>) -> Self {
        let middle = Middle::new(catalogue, settings.service_options());
        let progress: Arc<Progress> = Arc::default();
        let desk = Desk::new(&settings, Arc::clone(&progress), Arc::clone(&metrics));
        let transaction = settings.is_transactional().then(Arc::default);
        let watchdog = Watchdog::new(settings.kafka.stall_timeout, Arc::clone(&progress));
        Self {
            transaction,
            settings,
            middle: RwLock::new(Arc::new(middle)),
            metrics,
            cluster_id: OnceLock::new(),
            progress,
            desk: Arc::new(desk),
            window: std::sync::Mutex::new(Window::default()),
            stopping: AtomicBool::new(false),
            born: Instant::now(),
            turned_at: AtomicU64::new(0),
            has_joined: AtomicBool::new(false),
            has_connected: AtomicBool::new(false),
            watchdog: Arc::new(watchdog),
            is_leaving: Arc::default(),
            missing_topics: std::sync::Mutex::default(),
            failed: std::sync::Mutex::default(),
        }
    }

    /// The middle with the rules in force.
    pub fn middle(&self) -> Arc<Middle> {
        Arc::clone(&self.middle.read().expect("no code panics while it holds this lock"))
    }

    /// Puts other rules in force: their series first, so that whoever counts by them finds them there. The key of
    /// pseudonyms comes with them.
    pub fn adopt(&self, catalogue: Arc<Catalogue>, pseudonyms: Option<Pseudonyms>) {
        self.metrics.adopt(&catalogue);
        let mut middle = self.middle.write().expect("no code panics while it holds this lock");
        let mut options = self.settings.service_options();
        options.cluster_id = self.cluster_id.get().cloned();
        if let Some(events) = &mut options.events {
            events.pseudonyms = pseudonyms;
        }
        *middle = Arc::new(Middle::new(catalogue, options));
    }

    /// Lets events say which cluster they came from.
    fn name_cluster(&self, id: String) {
        let mut middle = self.middle.write().expect("no code panics while it holds this lock");
        if self.cluster_id.set(id.clone()).is_ok() {
            let options = Options { cluster_id: Some(id), ..middle.options.clone() };
            *middle = Arc::new(Middle::new(Arc::clone(middle.catalogue()), options));
        }
    }

    /// Asks the service to end; [`Service::consume`] returns soon after.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.metrics.end_holds();
    }

    /// Where reading of each assigned partition goes on.
    pub fn positions(&self) -> Vec<(TopicPartition, Option<i64>)> {
        self.progress.positions()
    }

    /// Milliseconds since the start: a clock that is set moves no end of a time.
    fn age_ms(&self) -> u64 {
        self.born.elapsed().as_millis().try_into().expect("a service lives no million years")
    }

    fn fail(&self, reason: &str) {
        *self.failed.lock().expect("no code panics while it holds this lock") = Some(reason.to_owned());
    }
}

impl Health for Service {
    fn unhealthy(&self) -> Option<String> {
        let turned_at = self.turned_at.load(Ordering::Relaxed);
        let silent = Duration::from_millis(self.age_ms().saturating_sub(turned_at));
        (turned_at > 0 && silent > TURN_LIMIT)
            .then(|| format!("the poll loop has not turned for {} s", silent.as_secs()))
    }

    fn unready(&self) -> Option<String> {
        if let Some(reason) = self.failed.lock().expect("no code panics while it holds this lock").clone() {
            return Some(reason);
        }
        let missing = self.missing_topics.lock().expect("no code panics while it holds this lock");
        if !missing.is_empty() {
            return Some(format!("waiting for topics that do not exist: {}", missing.join(", ")));
        }
        if !self.has_joined.load(Ordering::Relaxed) {
            return Some("the consumer group has not been joined yet".to_owned());
        }
        let halted = self.progress.halted();
        if let Some(standing) = standing(&halted, "is halted") {
            return Some(standing);
        }
        let stalled = self.watchdog.stalled();
        if let Some(standing) = standing(&stalled, "has more to read and stands still") {
            return Some(standing);
        }
        if let Some(trouble) = self.desk.unready() {
            return Some(trouble);
        }
        self.stopping.load(Ordering::Relaxed).then(|| "stopping".to_owned())
    }
}

/// Says of the first of these partitions what is wrong with it, and where.
fn standing(partitions: &[(TopicPartition, i64)], what: &str) -> Option<String> {
    let ((topic, partition), offset) = partitions.first()?;
    let more = match partitions.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!("the partition {topic}/{partition} {what} at offset {offset}{more}"))
}

/// The state of the thread that polls.
struct PollLoop<'s, 'c> {
    service: &'s Service,
    consumer: &'c BaseConsumer<Context>,
    batches: Batches<'c>,
    is_paused: bool,
    /// How many partitions stand still until somebody looks at them.
    halted: usize,
    started: Instant,
    committed_at: Instant,
    gauges_at: Instant,
    repaired_at: Instant,
    error_line: Rarely,
}

impl<'s, 'c> PollLoop<'s, 'c> {
    fn new(service: &'s Service, consumer: &'c BaseConsumer<Context>, batches: Batches<'c>) -> Self {
        let now = Instant::now();
        Self {
            service,
            consumer,
            batches,
            is_paused: false,
            halted: 0,
            started: now,
            committed_at: now,
            gauges_at: now,
            repaired_at: now,
            error_line: Rarely::new(Duration::from_secs(60)),
        }
    }

    fn run(&mut self) -> anyhow::Result<End> {
        while !self.service.stopping.load(Ordering::Relaxed) {
            if self.service.is_renewed() {
                return Ok(End::Renewed);
            }
            self.service.turned_at.store(self.service.age_ms().max(1), Ordering::Relaxed);
            self.make_room();
            let waited = Instant::now();
            let mut polled = self.consumer.poll(POLL);
            self.service.metrics.step("wait", waited.elapsed());
            let (mut messages, mut bytes) = (0, 0);
            while let Some(result) = polled {
                match result {
                    Ok(message) => {
                        messages += 1;
                        bytes += message.payload_len();
                        self.take(message);
                    }
                    Err(error) => self.error(&error)?,
                }
                // However fast messages come, commits and gauges get their turn.
                if messages >= TURN_MESSAGES || bytes >= TURN_BYTES {
                    break;
                }
                polled = self.consumer.poll(Duration::ZERO);
            }
            self.batches.flush();
            self.housekeeping()?;
        }
        Ok(End::Stopped)
    }

    fn take(&mut self, message: BorrowedMessage<'c>) {
        let partition: TopicPartition = (self.batches.topic(message.topic()), message.partition());
        match self.service.progress.generation(&partition, message.offset()) {
            Some(generation) => self.batches.push(partition, generation, message),
            // Revoked while it was on its way: its new owner reads it again.
            None => debug!(
                topic = &*partition.0,
                partition = partition.1,
                "message of a revoked partition dropped"
            ),
        }
    }

    /// Waits while too much is in flight; pauses the partitions if that takes long, resumes them when it is over.
    fn make_room(&mut self) {
        let limit = in_flight_limit_bytes(&self.service.settings) as u64;
        let deadline = Instant::now() + ROOM_WAIT;
        let has_room =
            self.batches.hand_over(deadline) && self.service.progress.wait_for_room(limit, deadline);
        let halted = self.service.progress.standing();
        // While there is no room, partitions may come that nobody paused yet.
        if has_room && !self.is_paused && self.halted == halted.len() {
            return;
        }
        let Ok(assignment) = self.consumer.assignment() else { return };
        let mut standing = TopicPartitionList::new();
        for (topic, partition) in &halted {
            standing.add_partition(topic, *partition);
        }
        let result = if has_room {
            self.consumer.resume(&assignment).and_then(|()| self.consumer.pause(&standing))
        } else {
            self.consumer.pause(&assignment)
        };
        match result {
            Ok(()) => (self.is_paused, self.halted) = (!has_room, halted.len()),
            Err(error) => warn!(%error, "cannot pause or resume partitions"),
        }
        let paused = if self.is_paused { assignment.count() } else { halted.len() };
        self.service.metrics.paused_partitions(paused);
    }

    fn housekeeping(&mut self) -> anyhow::Result<()> {
        let (service, context) = (self.service, self.consumer.context());
        let now = Instant::now();
        if context.has_connected.load(Ordering::Relaxed) {
            service.has_connected.store(true, Ordering::Relaxed);
        }
        if context.has_joined.load(Ordering::Relaxed) {
            service.has_connected.store(true, Ordering::Relaxed);
            service.has_joined.store(true, Ordering::Relaxed);
            if !service.progress.positions().is_empty() {
                service.missing_topics.lock().expect("no code panics while it holds this lock").clear();
            }
        }
        // Asks nobody: brokers tell it with the first answer, before a message can come.
        if service.cluster_id.get().is_none()
            && let Some(id) = self.consumer.client().fetch_cluster_id(Duration::ZERO)
        {
            service.name_cluster(id);
        }
        if let Some(refusal) = self.refusal(now) {
            return Err(ExitError::new(Exit::Failure, refusal));
        }
        if context.client_log.is_token_due() {
            renew_token(self.consumer.client());
        }
        if let Some(failure) = service.desk.failed() {
            return Err(anyhow::anyhow!(failure));
        }
        if let Some(transaction) = &service.transaction {
            if let Some(offsets) = transaction.aborted_with()
                && self.rewind(offsets).context("cannot go back to the committed offsets")?
            {
                transaction.rewound();
            }
        } else if now.duration_since(self.committed_at) >= COMMIT_EVERY {
            self.committed_at = now;
            let offsets = service.progress.uncommitted();
            if !offsets.is_empty() {
                commit_soon(self.consumer, &offsets);
            }
        }
        if now.duration_since(self.gauges_at) >= GAUGES_EVERY {
            self.gauges_at = now;
            self.gauges();
        }
        if context.needs_repair.load(Ordering::Relaxed)
            && now.duration_since(self.repaired_at) >= REPAIR_EVERY
        {
            self.repaired_at = now;
            self.repair();
        }
        Ok(())
    }

    /// Why the brokers will not have us, once that has lasted for the start-up time and nothing ever connected.
    fn refusal(&self, now: Instant) -> Option<String> {
        let context = self.consumer.context();
        let Kafka { startup_timeout, brokers, .. } = &self.service.settings.kafka;
        if now.duration_since(self.started) < *startup_timeout {
            return None;
        }
        let has_connected = self.service.has_connected.load(Ordering::Relaxed);
        let consumer = (!has_connected).then(|| context.client_log.trouble());
        let trouble = consumer.flatten().map(|trouble| (brokers, trouble));
        let producer = || Some((self.service.settings.output_brokers(), self.service.desk.refusal()?));
        let (brokers, trouble) = trouble.or_else(producer)?;
        (trouble.kind != TroubleKind::Unreachable)
            .then(|| format!("cannot connect to {brokers}: {}", trouble.reason))
    }

    fn gauges(&self) {
        let service = self.service;
        let now = now_ms();
        for lag in service.progress.lags(Instant::now()) {
            let (topic, partition) = &lag.partition;
            if let Some(messages) = lag.messages {
                service.metrics.lag(topic, *partition, messages, lag.behind_ms(now));
            }
        }
        service.metrics.in_flight_bytes(service.progress.in_flight_bytes());
        let stalled = service.watchdog.observe(&service.progress.steps(), self.is_paused, Instant::now());
        service.metrics.stalled_partitions(stalled);
    }

    /// An error that came in place of a message. Most pass by themselves; a fatal one ends the service.
    fn error(&mut self, error: &KafkaError) -> anyhow::Result<()> {
        let context = self.consumer.context();
        match error {
            KafkaError::MessageConsumptionFatal(code) => {
                self.service.fail("the Kafka client failed for good");
                error!(%error, "the Kafka client cannot go on");
                let advice = match code {
                    RDKafkaErrorCode::FencedInstanceId => {
                        "another process uses the same [kafka] group_instance_id"
                    }
                    _ => "start it again",
                };
                return Err(anyhow::anyhow!("the Kafka client failed for good: {error}; {advice}"));
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => self.note_missing_topics(),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                context.needs_repair.store(true, Ordering::Relaxed);
            }
            // The client's own report of an outage has a line already.
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::Resolve,
            ) => debug!(%error, "outage"),
            error => {
                if let Some(suppressed) = self.error_line.permit() {
                    warn!(%error, suppressed, "the Kafka client reports an error; it goes on by itself");
                }
            }
        }
        Ok(())
    }

    /// Asks the brokers which of our topics they lack; patterns wait by themselves.
    fn note_missing_topics(&self) {
        let wanted = self.service.settings.kafka.topics.iter().filter(|topic| !topic.starts_with('^'));
        let metadata = self.consumer.fetch_metadata(None, Duration::from_secs(5));
        let exists = |topic: &str| {
            metadata
                .as_ref()
                .is_ok_and(|metadata| metadata.topics().iter().any(|known| known.name() == topic))
        };
        let missing: Vec<String> = wanted.filter(|topic| !exists(topic)).cloned().collect();
        let mut known = self.service.missing_topics.lock().expect("no code panics while it holds this lock");
        if !missing.is_empty() && *known != missing {
            warn!(
                topics = missing.join(","),
                "waiting for topics that do not exist yet; create them or correct [kafka] topics"
            );
        }
        *known = missing;
    }
}
