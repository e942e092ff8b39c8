//! Where letters come back to: acknowledgements, failures, and what readiness says of them.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rdkafka::Message;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, OwnedHeaders};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use tracing::{debug, warn};

use super::LINE_EVERY;
use super::letter::{Content, Letter, Paper};
use crate::config::client_log::{ClientLog, Trouble};
use crate::config::kafka::plain;
use crate::config::{Destination, Settings};
use crate::log::Rarely;
use crate::metrics::Metrics;
use crate::service::progress::Progress;

/// A letter that needs care.
pub struct Returned {
    pub letter: Box<Letter>,
    pub paper: Paper<'static>,
    /// Why it was not delivered; `None` if it is for the file.
    pub error: Option<KafkaError>,
}

/// Shared by the workers, the producer's thread, the clerk and readiness.
pub struct Desk {
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
    pub event_topic: Option<String>,
    pub dead_topic: Option<String>,
    /// The producer's name in its transactions.
    pub transactional_id: Option<String>,
    client_log: ClientLog,
    has_connected: AtomicBool,
    /// What stands in the way of events, and of dead letters; gone when one arrives.
    trouble: [Mutex<Option<String>>; 2],
    /// The producer cannot go on.
    failed: Mutex<Option<String>>,
    outage: Rarely,
    /// Holds no more than the bytes in flight.
    returned: (Sender<Returned>, Receiver<Returned>),
}

impl Desk {
    pub fn new(settings: &Settings, progress: Arc<Progress>, metrics: Arc<Metrics>) -> Self {
        let dead_topic = match &settings.dead_letters.destination {
            Some(Destination::Topic(topic)) => Some(topic.clone()),
            _ => None,
        };
        let event_topic = settings.forward.topic.clone();
        event_topic.iter().for_each(|topic| metrics.declare_forwarding(topic));
        Self {
            progress,
            metrics,
            event_topic,
            dead_topic,
            transactional_id: settings.is_transactional().then(|| settings.transactional_id()),
            client_log: ClientLog::new(settings.output_oauth()),
            has_connected: AtomicBool::new(false),
            trouble: Default::default(),
            failed: Mutex::default(),
            outage: Rarely::new(LINE_EVERY),
            returned: unbounded(),
        }
    }

    pub fn returned(&self) -> Receiver<Returned> {
        self.returned.1.clone()
    }

    pub fn give_back(&self, returned: Returned) {
        self.returned.0.send(returned).expect("the receiver lives as long as the desk");
    }

    /// A letter arrived.
    pub fn delivered(&self, letter: &Letter) {
        match (letter.content, &self.event_topic) {
            (Content::Event, Some(topic)) => self.metrics.event_forwarded(topic),
            (Content::Event, None) => {}
            (Content::Dead { reason, .. }, _) => self.metrics.dead_letter(reason),
        }
        // Brokers that hang up because they end look like brokers that refuse us; these did not.
        self.has_connected.store(true, Ordering::Relaxed);
        *self.trouble_of(letter.content) = None;
        self.finish(letter);
    }

    /// A letter needs no more care.
    pub fn finish(&self, letter: &Letter) {
        self.progress.settle(&letter.parcel);
        self.progress.release(letter.bytes);
    }

    /// Remembers why a letter was not delivered, in words.
    pub fn trouble(&self, letter: &Letter, error: &KafkaError) -> String {
        let (what, topic) = match letter.content {
            Content::Event => ("events", &self.event_topic),
            Content::Dead { .. } => ("dead letters", &self.dead_topic),
        };
        let topic = topic.as_deref().unwrap_or_default();
        let why = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                "the topic does not exist; create it".to_owned()
            }
            Some(RDKafkaErrorCode::InvalidTimestamp) => "its time is further from that of the broker than the topic \
                                                         allows (message.timestamp.after.max.ms); look at the clocks"
                .to_owned(),
            Some(code) => code.to_string(),
            None => error.to_string(),
        };
        let trouble = format!("cannot send {what} to `{topic}`: {why}");
        *self.trouble_of(letter.content) = Some(trouble.clone());
        trouble
    }

    /// Why letters like this one do not arrive.
    pub fn trouble_of(&self, content: Content) -> MutexGuard<'_, Option<String>> {
        let slot = &self.trouble[usize::from(content != Content::Event)];
        slot.lock().expect("no code panics while it holds this lock")
    }

    pub fn fail(&self, reason: &str) {
        let reason = format!("the Kafka producer failed for good: {reason}; start it again");
        self.failed.lock().expect("no code panics while it holds this lock").get_or_insert(reason);
    }

    /// A fatal error in words.
    pub fn why_fatal(&self, error: &KafkaError) -> String {
        match error {
            KafkaError::Transaction(cause) => self.why_failed(cause.code(), &cause.string()),
            _ => self.why_failed(
                error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fatal),
                &error.to_string(),
            ),
        }
    }

    /// The same of the client's own code and text.
    pub fn why_failed(&self, code: RDKafkaErrorCode, reason: &str) -> String {
        let is_fenced = matches!(
            code,
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        );
        match &self.transactional_id {
            Some(id) if is_fenced => format!(
                "fenced: another process took over its transactions (`{id}`), or one of them was open for longer than \
                 transaction.timeout.ms; what was not committed is read again"
            ),
            _ => plain(reason),
        }
    }

    /// Why nothing can be sent any more.
    pub fn failed(&self) -> Option<String> {
        self.failed.lock().expect("no code panics while it holds this lock").clone()
    }

    /// Why letters do not arrive at the moment.
    pub fn unready(&self) -> Option<String> {
        let trouble = |slot: &Mutex<Option<String>>| {
            slot.lock().expect("no code panics while it holds this lock").clone()
        };
        self.failed().or_else(|| self.trouble.iter().find_map(trouble))
    }

    pub fn is_token_due(&self) -> bool {
        self.client_log.is_token_due()
    }

    /// Why the brokers will not have us, if none ever did.
    pub fn refusal(&self) -> Option<Trouble> {
        if self.has_connected.load(Ordering::Relaxed) { None } else { self.client_log.trouble() }
    }
}

/// What to do with a letter that was not delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Try again: the brokers or the topic may come back.
    Later,
    /// Its topic will never take it.
    Never,
    /// The producer cannot go on.
    Fatal,
}

/// What an error means, and its word in `aadstream_forward_failures_total`.
pub fn verdict(error: &KafkaError) -> (Verdict, &'static str) {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            (Verdict::Never, "too_large")
        }
        // A compacted topic wants keys.
        Some(RDKafkaErrorCode::InvalidRecord) => (Verdict::Never, "refused"),
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => (Verdict::Fatal, "fatal"),
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition,
        ) => (Verdict::Later, "unknown_topic"),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::Authentication,
        ) => (Verdict::Later, "not_authorized"),
        Some(RDKafkaErrorCode::QueueFull) => (Verdict::Later, "queue_full"),
        _ => (Verdict::Later, "other"),
    }
}

/// The context of a producer.
pub struct Post(pub Arc<Desk>);

impl ProducerContext for Post {
    type DeliveryOpaque = Box<Letter>;

    fn delivery(&self, result: &DeliveryResult<'_>, letter: Box<Letter>) {
        let desk = &self.0;
        match result {
            Ok(_) => desk.delivered(&letter),
            // The service ends; what was on its way comes again after the next start.
            Err((error, _)) if is_purged(error) => desk.progress.release(letter.bytes),
            Err((error, message)) => {
                let paper = Paper {
                    key: message.key().map(|key| key.to_vec().into()),
                    body: message.payload().map(|body| body.to_vec().into()),
                    headers: message.headers().map_or_else(OwnedHeaders::new, BorrowedHeaders::detach),
                };
                desk.give_back(Returned { letter, paper, error: Some(error.clone()) });
            }
        }
    }
}

fn is_purged(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
}

impl ClientContext for Post {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.0.client_log.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.client_log.note(facility, message);
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                self.0.outage_line(message);
            }
            _ => debug!(facility, message, "kafka producer"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // A missing topic has a line of its own, which says what to do.
        let code = error.rdkafka_error_code();
        if matches!(code, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) {
            return;
        }
        self.0.client_log.note("ERROR", reason);
        debug!(%error, reason, "kafka producer error");
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.0.metrics.forward_failure("unavailable");
        }
        self.0.outage_line(reason);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP" && broker.nodeid >= 0) {
            self.0.has_connected.store(true, Ordering::Relaxed);
            self.0.client_log.forget();
        }
    }
}

impl Desk {
    /// One line at once when brokers are away or refuse us, then one a minute.
    fn outage_line(&self, reason: &str) {
        if let Some(suppressed) = self.outage.permit() {
            let cause = self.client_log.reason().unwrap_or_else(|| reason.to_owned());
            warn!(cause, suppressed, "events wait for Kafka");
        }
    }
}
