//! The service: Kafka in, counts out.
//!
//! One thread polls, some digest, one tiny runtime serves HTTP. A message is counted as soon as it is digested; its
//! offset is committed afterwards, for a contiguous prefix of every partition. Nothing queues without a limit: when the
//! bytes in flight reach theirs, polling waits, and after a while the partitions are paused.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tracing::{debug, error, info, warn};

use crate::catalogue::Catalogue;
use crate::config::client_log::TroubleKind;
use crate::config::kafka::{client_config, in_flight_limit_bytes};
use crate::config::{Kafka, Settings};
use crate::digest::Middle;
use crate::digest::pseudonym::Pseudonyms;
use crate::exit_code::{Exit, ExitError};
use crate::log::Rarely;
use crate::metrics::Metrics;
use crate::web::Health;
use crate::window::Window;

mod batch;
mod commit;
mod context;
mod outbox;
mod progress;
mod start;
mod worker;

use batch::Batches;
use commit::{commit_now, commit_soon};
use context::Context;
pub use context::now_ms;
use outbox::{Desk, Outbox};
use progress::Progress;
pub use progress::TopicPartition;
use start::Beginning;

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
    progress: Arc<Progress>,
    desk: Arc<Desk>,
    window: std::sync::Mutex<Window>,
    stopping: AtomicBool,
    /// Milliseconds since the epoch of the poll loop's last turn; 0 before the first.
    turned_at: AtomicI64,
    has_joined: AtomicBool,
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
        Self {
            settings,
            middle: RwLock::new(Arc::new(middle)),
            metrics,
            progress,
            desk: Arc::new(desk),
            window: std::sync::Mutex::new(Window::default()),
            stopping: AtomicBool::new(false),
            turned_at: AtomicI64::new(0),
            has_joined: AtomicBool::new(false),
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
        let mut options = self.settings.service_options();
        if let Some(events) = &mut options.events {
            events.pseudonyms = pseudonyms;
        }
        let middle = Middle::new(catalogue, options);
        *self.middle.write().expect("no code panics while it holds this lock") = Arc::new(middle);
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

    /// Consumes until [`Service::stop`], or until the client cannot go on.
    pub fn consume(&self) -> anyhow::Result<()> {
        let kafka = &self.settings.kafka;
        let outbox = Outbox::open(&self.settings, Arc::clone(&self.desk))?;
        let context = Context::new(Arc::clone(&self.progress), Arc::clone(&self.metrics), kafka);
        let consumer: BaseConsumer<Context> = client_config(&self.settings)
            .create_with_context(context)
            .context("cannot create the Kafka client")?;
        let topics: Vec<&str> = kafka.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).with_context(|| format!("cannot subscribe to {}", topics.join(", ")))?;
        info!(brokers = kafka.brokers, topics = topics.join(","), group_id = kafka.group_id, "consuming");
        let result = std::thread::scope(|scope| {
            if let Some(outbox) = &outbox {
                let clerk = std::thread::Builder::new().name("clerk".to_owned());
                clerk.spawn_scoped(scope, || outbox.care()).context("cannot start a thread")?;
            }
            let (batches, workers) = worker::spawn(scope, self, outbox.as_ref(), workers(&self.settings));
            let result = PollLoop::new(self, &consumer, batches).run();
            self.finish(&consumer);
            drop(workers);
            result
        });
        info!("consumer closed");
        result
    }

    /// Waits until what is in flight is digested and delivered, commits and leaves the group.
    fn finish(&self, consumer: &BaseConsumer<Context>) {
        let deadline = Instant::now() + self.settings.kafka.shutdown_timeout / 2;
        if !self.progress.wait_until_idle(deadline) {
            warn!("some messages were not digested, or not delivered, in time; they will be read again");
        }
        let offsets = self.progress.uncommitted();
        if !offsets.is_empty() {
            commit_now(consumer, &offsets);
        }
        self.progress.close();
        consumer.unsubscribe();
    }

    fn fail(&self, reason: &str) {
        *self.failed.lock().expect("no code panics while it holds this lock") = Some(reason.to_owned());
    }
}

impl Health for Service {
    fn unhealthy(&self) -> Option<String> {
        let turned_at = self.turned_at.load(Ordering::Relaxed);
        let silent_ms = now_ms() - turned_at;
        let limit = i64::try_from(TURN_LIMIT.as_millis()).expect("a minute fits");
        (turned_at > 0 && silent_ms > limit)
            .then(|| format!("the poll loop has not turned for {} s", silent_ms / 1000))
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
        if let Some(((topic, partition), offset)) = halted.first() {
            let more =
                if halted.len() > 1 { format!(" and {} more", halted.len() - 1) } else { String::new() };
            return Some(format!("the partition {topic}/{partition} is halted at offset {offset}{more}"));
        }
        if let Some(trouble) = self.desk.unready() {
            return Some(trouble);
        }
        self.stopping.load(Ordering::Relaxed).then(|| "stopping".to_owned())
    }
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

    fn run(&mut self) -> anyhow::Result<()> {
        while !self.service.stopping.load(Ordering::Relaxed) {
            self.service.turned_at.store(now_ms(), Ordering::Relaxed);
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
        Ok(())
    }

    fn take(&mut self, message: BorrowedMessage<'c>) {
        let partition: TopicPartition = (self.batches.topic(message.topic()), message.partition());
        match self.service.progress.generation(&partition) {
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
        let halted = self.service.progress.halted();
        // While there is no room, partitions may come that nobody paused yet.
        if has_room && !self.is_paused && self.halted == halted.len() {
            return;
        }
        let Ok(assignment) = self.consumer.assignment() else { return };
        let mut standing = TopicPartitionList::new();
        for ((topic, partition), _) in &halted {
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
        if context.has_joined.load(Ordering::Relaxed) {
            service.has_joined.store(true, Ordering::Relaxed);
            if !service.progress.positions().is_empty() {
                service.missing_topics.lock().expect("no code panics while it holds this lock").clear();
            }
        }
        if let Some(refusal) = self.refusal(now) {
            return Err(ExitError::new(Exit::Failure, refusal));
        }
        if let Some(failure) = service.desk.failed() {
            return Err(anyhow::anyhow!(failure));
        }
        if now.duration_since(self.committed_at) >= COMMIT_EVERY {
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
        let has_connected =
            context.has_joined.load(Ordering::Relaxed) || context.has_connected.load(Ordering::Relaxed);
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
        for lag in service.progress.lags() {
            let (topic, partition) = &lag.partition;
            if let Some(messages) = lag.messages {
                let behind_ms = match lag.timestamp_ms {
                    Some(timestamp) if messages > 0 => (now - timestamp).max(0),
                    _ => 0,
                };
                service.metrics.lag(topic, *partition, messages, behind_ms);
            }
        }
        service.metrics.in_flight_bytes(service.progress.in_flight_bytes());
    }

    /// Takes partitions whose position is gone, or was never found, up again where they can be read.
    fn repair(&self) {
        let context = self.consumer.context();
        let positions = self.service.progress.positions();
        let found = match context.locate(self.consumer, &positions) {
            Ok(found) => found,
            Err(error) => return warn!(%error, "cannot find where partitions begin; will ask again"),
        };
        context.needs_repair.store(false, Ordering::Relaxed);
        for (Beginning { partition, offset, high, .. }, (_, known)) in found.iter().zip(&positions) {
            if *known == Some(*offset) {
                continue;
            }
            let mut tpl = TopicPartitionList::new();
            let added = tpl.add_partition_offset(&partition.0, partition.1, Offset::Offset(*offset));
            let moved = added
                .and_then(|()| self.consumer.incremental_unassign(&tpl))
                .and_then(|()| self.consumer.incremental_assign(&tpl));
            if let Err(error) = moved {
                warn!(%error, "cannot move a partition to where it can be read");
                context.needs_repair.store(true, Ordering::Relaxed);
            }
            self.service.progress.reposition(partition, *offset);
            self.service.progress.high(partition, *high);
            info!(
                topic = &*partition.0,
                partition = partition.1,
                offset,
                "partition goes on at another offset"
            );
        }
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
