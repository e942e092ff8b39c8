//! What librdkafka is told where it writes: the connection of the consumer or its own, our options, the operator's.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use super::client_log::ClientLog;
use super::kafka::{canonical, client_config, log_level, plain};
use super::oauth::OAuth;
use super::{Destination, OptionValue, Profile, Settings};

/// Options that the program sets itself, and what to do instead.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers` in [forward]"),
    ("metadata.broker.list", "use `brokers` in [forward]"),
    ("enable.idempotence", IDEMPOTENT),
    ("enable.gapless.guarantee", IDEMPOTENT),
    ("acks", IDEMPOTENT),
    ("request.required.acks", IDEMPOTENT),
    ("max.in.flight", IDEMPOTENT),
    ("max.in.flight.requests.per.connection", IDEMPOTENT),
    ("retries", IDEMPOTENT),
    ("message.send.max.retries", IDEMPOTENT),
    (
        "transactional.id",
        "set `delivery` to exactly_once in [forward]; aadstream names its transactions itself",
    ),
    ("message.timeout.ms", PATIENT),
    ("delivery.timeout.ms", PATIENT),
    ("queue.buffering.max.messages", "use `memory_limit_bytes` in [kafka]"),
    ("queue.buffering.max.kbytes", "use `memory_limit_bytes` in [kafka]"),
    ("statistics.interval.ms", "readiness needs it at a fixed value"),
    ("delivery.report.only.error", "an offset is committed only when its events are acknowledged"),
    ("log_level", "use `level` in [log]"),
    ("log.level", "use `level` in [log]"),
    ("log.queue", "the client's lines go into aadstream's own log"),
    ("enabled_events", "aadstream asks for the events that it handles"),
];
const IDEMPOTENT: &str =
    "the producer is idempotent: every replica acknowledges, and a repeated request is stored once";
const PATIENT: &str = "an event is tried until it is delivered; meanwhile its message is not committed";

/// Options of `[kafka.options]` that say how to connect, as far as a producer knows them.
const CONNECTION: &[&str] = &[
    "api.version",
    "broker.",
    "client.",
    "connections.",
    "debug",
    "enable.metrics.push",
    "enable.sasl",
    "enable.ssl",
    "https.",
    "log.connection.close",
    "metadata.",
    "reconnect.",
    "sasl.",
    "security.",
    "socket.",
    "ssl.",
];

/// Why an option is not the operator's to set.
pub(super) fn refusal(option: &str) -> Option<&'static str> {
    OWNED.iter().find(|(name, _)| *name == option).map(|(_, reason)| *reason)
}

/// The options of the producer; `None` if nothing is produced.
pub fn producer_config(settings: &Settings) -> Option<ClientConfig> {
    if !settings.produces() {
        return None;
    }
    let mut config = ClientConfig::new();
    for (option, value) in own_options(settings) {
        config.set(option, value);
    }
    for (option, value) in &settings.forward.options {
        config.set(canonical(option), value.current());
    }
    config.set_log_level(log_level(settings));
    Some(config)
}

/// What to do about brokers that allow no transaction to be open for so long.
pub fn too_long(timeout: Duration) -> String {
    format!(
        "the brokers allow no transaction.timeout.ms of {}: set a smaller one in [forward.options], or a larger \
         transaction.max.timeout.ms on the brokers",
        timeout.as_millis()
    )
}

/// What aadstream sets by itself, or takes from the consumer.
pub(super) fn own_options(settings: &Settings) -> BTreeMap<String, String> {
    let forward = &settings.forward;
    let mut options = BTreeMap::new();
    if forward.brokers.is_empty() {
        let consumer = client_config(settings);
        let is_connection = |option: &str| CONNECTION.iter().any(|start| option.starts_with(start));
        // The map's own values are masked where they are secrets.
        for option in consumer.config_map().into_keys().filter(|option| is_connection(option)) {
            let value = consumer.get(option).expect("the map has it");
            options.insert(option.to_owned(), value.to_owned());
        }
    }
    let mut set = |option: &str, value: &str| options.insert(option.to_owned(), value.to_owned());
    set("bootstrap.servers", settings.output_brokers());
    set("client.id", "aadstream");
    set("socket.keepalive.enable", "true");
    set("enable.metrics.push", "false");
    // A request that is sent again after a lost answer is stored once, and the order of a key is kept.
    set("enable.idempotence", "true");
    // An outage may last; what is not delivered is not committed.
    set("message.timeout.ms", "0");
    if let Some(patience) = settings.letter_timeout() {
        set("message.timeout.ms", &patience.as_millis().to_string());
        set("transaction.timeout.ms", &settings.transaction_timeout().as_millis().to_string());
    }
    // A topic that is missing is reported after this time, and tried again.
    set("topic.metadata.propagation.max.ms", "10000");
    // The bytes in flight have one limit, which the program holds; these only must not come first.
    set("queue.buffering.max.kbytes", "2147483647");
    set("queue.buffering.max.messages", "10000000");
    // The broker has the last word on a letter's size, as long as it reads the request at all.
    set("message.max.bytes", "100000000");
    // Time to fill a batch: events of one cause resemble each other and compress well together.
    set("linger.ms", "20");
    set("compression.type", "lz4");
    // Java's own: events and other records of the same key meet in the same partition.
    set("partitioner", "murmur2_random");
    // Tells whether a broker ever answered.
    set("statistics.interval.ms", "1000");
    if settings.kafka.profile == Some(Profile::EventHubs) && forward.brokers.is_empty() {
        // What Event Hubs takes in one request, and the one codec that it knows.
        set("message.max.bytes", "1000000");
        set("compression.type", "gzip");
    }
    let is_tls = |options: &BTreeMap<String, String>| {
        let given = forward.options.get("security.protocol").map(OptionValue::expose);
        let protocol = given.or_else(|| options.get("security.protocol").map(String::as_str));
        protocol.is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl"))
    };
    let names_authority = ["ssl.ca.location", "ssl.ca.pem"]
        .iter()
        .any(|option| options.contains_key(*option) || forward.options.contains_key(*option));
    if is_tls(&options) && !names_authority {
        options.insert("ssl.ca.location".to_owned(), "probe".to_owned());
    }
    options
}

/// The options of a consumer of what was produced.
pub fn reader_config(settings: &Settings) -> ClientConfig {
    if settings.forward.brokers.is_empty() {
        return client_config(settings);
    }
    let mut config = ClientConfig::new();
    let mut options = own_options(settings);
    let given = settings.forward.options.iter();
    options.extend(given.map(|(option, value)| (canonical(option).to_owned(), value.expose().to_owned())));
    options.retain(|option, _| CONNECTION.iter().any(|start| option.starts_with(start)));
    for (option, value) in options {
        config.set(option, value);
    }
    config.set("bootstrap.servers", settings.output_brokers()).set("group.id", &settings.kafka.group_id);
    config.set("enable.auto.commit", "false").set_log_level(log_level(settings));
    config
}

/// Builds the producer without a broker to talk to, and gives what librdkafka warns of.
pub fn check(settings: &Settings) -> Result<Vec<String>, String> {
    for value in settings.forward.options.values() {
        if let OptionValue::Secret(secret) = value {
            secret.current()?;
        }
    }
    let Some(mut config) = producer_config(settings) else { return Ok(Vec::new()) };
    config.remove("bootstrap.servers").remove("debug");
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Warning);
    let log = ClientLog::default();
    match config.create_with_context::<ClientLog, BaseProducer<ClientLog>>(log.clone()) {
        Ok(producer) => {
            producer.poll(Duration::ZERO);
            let mut warnings = log.warnings();
            // Taken away above, so that nobody connects.
            warnings.retain(|warning| !warning.contains("bootstrap.servers"));
            Ok(warnings)
        }
        Err(KafkaError::ClientCreation(reason)) => {
            Err(format!("cannot use [forward.options]: {}", plain(&reason)))
        }
        Err(other) => Err(format!("cannot use [forward.options]: {other}")),
    }
}

impl Settings {
    /// Where what leaves is sent.
    pub fn output_brokers(&self) -> &String {
        if self.forward.brokers.is_empty() { &self.kafka.brokers } else { &self.forward.brokers }
    }

    /// Where the producer's tokens come from; those of `[kafka.oauth]` are for its cluster.
    pub fn output_oauth(&self) -> Option<&OAuth> {
        self.kafka.oauth.as_ref().filter(|_| self.forward.brokers.is_empty())
    }

    /// The topics that are written to.
    pub fn output_topics(&self) -> Vec<&str> {
        let dead = match &self.dead_letters.destination {
            Some(Destination::Topic(topic)) => Some(topic),
            _ => None,
        };
        self.forward.topic.iter().chain(dead).map(String::as_str).collect()
    }

    /// Whether anything is written to Kafka.
    pub fn produces(&self) -> bool {
        !self.output_topics().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn load<const N: usize>(pairs: [(&str, &str); N]) -> anyhow::Result<Settings> {
        let mut environment = vec![
            ("AADSTREAM_KAFKA__BROKERS", "h:9092"),
            ("AADSTREAM_KAFKA__TOPICS", "signin"),
            ("AADSTREAM_FORWARD__TOPIC", "events"),
        ];
        environment.extend(pairs);
        Settings::load_with(None, &Environment::of(environment), true)
    }

    fn option<const N: usize>(option: &str, pairs: [(&str, &str); N]) -> Option<String> {
        producer_config(&load(pairs).unwrap()).unwrap().get(option).map(str::to_owned)
    }

    const EVENT_HUBS: [(&str, &str); 2] = [
        ("AADSTREAM_KAFKA__PROFILE", "event_hubs"),
        ("AADSTREAM_KAFKA__OPTIONS__SASL_PASSWORD", "Endpoint=sb://x"),
    ];

    #[test]
    fn the_same_cluster_has_the_same_connection() {
        assert_eq!(option("bootstrap.servers", []).unwrap(), "h:9092");
        assert_eq!(option("sasl.password", EVENT_HUBS).unwrap(), "Endpoint=sb://x");
        assert_eq!(option("compression.type", EVENT_HUBS).unwrap(), "gzip");
        assert_eq!(option("message.max.bytes", EVENT_HUBS).unwrap(), "1000000");
        let [profile, password] = EVENT_HUBS;
        let other = ("AADSTREAM_FORWARD__BROKERS", "other:9092");
        assert_eq!(option("sasl.password", [profile, password, other]), None);
        assert_eq!(option("bootstrap.servers", [other]).unwrap(), "other:9092");
        let mechanism = ("AADSTREAM_FORWARD__OPTIONS__SASL_MECHANISM", "SCRAM-SHA-512");
        assert_eq!(option("sasl.mechanisms", [profile, password, mechanism]).unwrap(), "SCRAM-SHA-512");
        assert_eq!(option("sasl.mechanism", [profile, password, mechanism]), None, "one option has one name");
        let own = ("AADSTREAM_FORWARD__OPTIONS__COMPRESSION_TYPE", "zstd");
        assert_eq!(option("compression.type", [own]).unwrap(), "zstd");
    }

    #[test]
    fn the_producer_is_really_built_and_warns_of_nothing() {
        assert_eq!(check(&load([]).unwrap()).unwrap(), Vec::<String>::new());
        assert_eq!(check(&load(EVENT_HUBS).unwrap()).unwrap(), Vec::<String>::new());
        let tuned = [
            ("AADSTREAM_KAFKA__OPTIONS__FETCH_MIN_BYTES", "7"),
            ("AADSTREAM_KAFKA__OPTIONS__SOCKET_TIMEOUT_MS", "7000"),
        ];
        assert_eq!(check(&load(tuned).unwrap()).unwrap(), Vec::<String>::new());
        assert_eq!(option("socket.timeout.ms", tuned).unwrap(), "7000");
        let consumer = [("AADSTREAM_FORWARD__OPTIONS__FETCH_MIN_BYTES", "7")];
        assert!(check(&load(consumer).unwrap()).unwrap()[0].contains("consumer property"));
    }

    #[test]
    fn a_letter_fails_before_its_transaction_does() {
        let once = ("AADSTREAM_FORWARD__DELIVERY", "exactly_once");
        assert_eq!(option("message.timeout.ms", []).unwrap(), "0");
        assert_eq!(option("message.timeout.ms", [once]).unwrap(), "30000");
        let short = [once, ("AADSTREAM_FORWARD__OPTIONS__TRANSACTION_TIMEOUT_MS", "10000")];
        assert_eq!(option("message.timeout.ms", short).unwrap(), "5000");
        assert_eq!(option("transaction.timeout.ms", short).unwrap(), "10000");
        assert_eq!(check(&load(short).unwrap()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_delivery_stands_on_is_not_for_the_operator() {
        let error = load([("AADSTREAM_FORWARD__OPTIONS__ACKS", "1")]).unwrap_err().to_string();
        let expected =
            "AADSTREAM_FORWARD__OPTIONS__ACKS: cannot use the option `acks`: the producer is idempotent";
        assert!(error.starts_with(expected), "{error}");
        for (option, _) in OWNED.iter().filter(|(option, _)| *option != "log.level") {
            let set = ClientConfig::new().set(*option, "1").create_native_config().err();
            let unknown = rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;
            let exists = !matches!(set, Some(KafkaError::ClientConfig(res, ..)) if res == unknown);
            assert!(exists, "{option}");
        }
    }
}
