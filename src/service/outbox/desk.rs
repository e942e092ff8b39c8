//! Where letters come back to: acknowledgements, failures, and what readiness says of them.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

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
use crate::config::producer::too_long;
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

/// The producer's name in its transactions, and how long one of them may be open.
pub struct Naming {
    pub id: String,
    /// Another process may be set up to use it too.
    is_shared: bool,
    timeout: Duration,
}

impl Naming {
    fn of(settings: &Settings) -> Self {
        Self {
            id: settings.transactional_id(),
            is_shared: settings.kafka.group_instance_id.is_some(),
            timeout: settings.transaction_timeout(),
        }
    }
}

/// Shared by the workers, the producer's thread, the clerk and readiness.
pub struct Desk {
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
    pub event_topic: Option<String>,
    pub dead_topic: Option<String>,
    /// How the producer is known in its transactions.
    pub naming: Option<Naming>,
    /// How long a letter is tried, where that has an end.
    letter_timeout: Option<Duration>,
    client_log: ClientLog,
    has_connected: AtomicBool,
    /// What stands in the way of events, and of dead letters; gone when one arrives.
    trouble: [Mutex<Option<String>>; 2],
    /// The producer cannot go on.
    failed: Mutex<Option<String>>,
    outage: Rarely,
    /// A file that the producer read when it was built has changed.
    renewal: AtomicBool,
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
            naming: settings.is_transactional().then(|| Naming::of(settings)),
            letter_timeout: settings.letter_timeout(),
            client_log: ClientLog::new(settings.output_oauth()),
            has_connected: AtomicBool::new(false),
            trouble: Default::default(),
            failed: Mutex::default(),
            outage: Rarely::new(LINE_EVERY),
            renewal: AtomicBool::new(false),
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
            Some(RDKafkaErrorCode::MessageTimedOut) => match self.letter_timeout {
                Some(waited) => format!(
                    "no acknowledgement came within {} s; look whether the brokers that lead it and its replicas are slow or \
                     away, or set a longer transaction.timeout.ms in [forward.options], of which this is half",
                    waited.as_secs_f64()
                ),
                None => "no acknowledgement came in time".to_owned(),
            },
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
        let reason = format!("the Kafka producer failed for good: {reason}");
        self.failed.lock().expect("no code panics while it holds this lock").get_or_insert(reason);
    }

    /// Why a producer's fatal error ends the service, in words; `None` if another producer may fare better. `age` is that of
    /// the transaction.
    pub fn why_final(&self, code: RDKafkaErrorCode, reason: &str, age: Option<Duration>) -> Option<String> {
        let naming = self.naming.as_ref();
        match code {
            RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch => {
                // Brokers that give a transaction up fence its producer too, and do not say why.
                let naming = naming.filter(|naming| naming.is_shared && age < Some(naming.timeout))?;
                Some(format!(
                    "fenced: another process took over its transactions (`{}`); give each a [kafka] group_instance_id of \
                     its own",
                    naming.id
                ))
            }
            RDKafkaErrorCode::InvalidTransactionTimeout => {
                Some(too_long(naming.map(|naming| naming.timeout).unwrap_or_default()))
            }
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::UnsupportedVersion => {
                Some(format!("{}; allow it on the brokers, then start it again", plain(reason)))
            }
            _ => None,
        }
    }

    /// Asks for another producer, which reads its keys and certificates anew.
    pub fn renew(&self) {
        self.renewal.store(true, Ordering::Relaxed);
    }

    pub fn is_renewal_due(&self) -> bool {
        self.renewal.load(Ordering::Relaxed)
    }

    /// What was asked for, once.
    pub fn take_renewal(&self) -> bool {
        self.renewal.swap(false, Ordering::Relaxed)
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
}

/// What an error means, and its word in `aadstream_forward_failures_total`.
pub fn verdict(error: &KafkaError) -> (Verdict, &'static str) {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            (Verdict::Never, "too_large")
        }
        // A compacted topic wants keys.
        Some(RDKafkaErrorCode::InvalidRecord) => (Verdict::Never, "refused"),
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => (Verdict::Later, "fatal"),
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
        Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut) => {
            (Verdict::Later, "timed_out")
        }
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
            // The service or the transaction ends; what was on its way comes again.
            Err((error, _)) if is_purged(error) && (desk.naming.is_some() || desk.progress.is_closed()) => {
                desk.progress.release(letter.bytes);
            }
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

/// Whether its producer gave the letter back because another one follows, or none.
pub fn is_purged(error: &KafkaError) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use crate::config::Environment;
    use crate::metrics::MetricsOptions;

    fn desk<const N: usize>(pairs: [(&str, &str); N]) -> Desk {
        let mut environment = vec![
            ("AADSTREAM_KAFKA__BROKERS", "h:9092"),
            ("AADSTREAM_KAFKA__TOPICS", "signin"),
            ("AADSTREAM_KAFKA__GROUP_ID", "g"),
            ("AADSTREAM_FORWARD__TOPIC", "events"),
            ("AADSTREAM_FORWARD__DELIVERY", "exactly_once"),
        ];
        environment.extend(pairs);
        let settings = Settings::load_with(None, &Environment::of(environment), true).unwrap();
        let metrics = Metrics::new(&Catalogue::embedded(), MetricsOptions::default());
        Desk::new(&settings, Arc::default(), Arc::new(metrics))
    }

    #[test]
    fn only_a_producer_that_another_process_fenced_does_not_come_back() {
        const FENCED: RDKafkaErrorCode = RDKafkaErrorCode::Fenced;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let named = desk([("AADSTREAM_KAFKA__GROUP_INSTANCE_ID", "one")]);
        let why = named.why_final(FENCED, "fenced", seconds(59)).unwrap();
        assert!(why.contains("another process took over its transactions (`aadstream/g/one`)"), "{why}");
        assert_eq!(named.why_final(FENCED, "fenced", seconds(60)), None, "the brokers gave it up");
        assert_eq!(desk([]).why_final(FENCED, "fenced", seconds(0)), None, "nobody else has its name");
        assert_eq!(named.why_final(RDKafkaErrorCode::InvalidTransactionalState, "", seconds(0)), None);
    }

    #[test]
    fn what_the_brokers_do_not_allow_says_what_to_set() {
        let limit = ("AADSTREAM_FORWARD__OPTIONS__TRANSACTION_TIMEOUT_MS", "2000000");
        let why = desk([limit]).why_final(RDKafkaErrorCode::InvalidTransactionTimeout, "", None).unwrap();
        assert!(
            why.contains("transaction.timeout.ms of 2000000") && why.contains("[forward.options]"),
            "{why}"
        );
        assert!(why.contains("transaction.max.timeout.ms") && !why.contains("start it again"), "{why}");
    }
}
