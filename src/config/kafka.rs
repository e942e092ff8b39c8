//! What librdkafka is told: our own options with their reasons, a profile's, the operator's, in this order.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::client_log::ClientLog;
use super::option_names::OPTION_NAMES;
use super::{OptionValue, Origin, Profile, Secret, SecretSource, Settings};
use crate::catalogue::problem::did_you_mean;

/// Options that the program sets itself, and what to do instead.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers` in [kafka]"),
    ("metadata.broker.list", "use `brokers` in [kafka]"),
    ("group.id", "use `group_id` in [kafka]"),
    ("group.instance.id", "use `group_instance_id` in [kafka]"),
    (
        "auto.offset.reset",
        "use `start` in [kafka]; offsets that retention took are sought and counted by aadstream",
    ),
    ("enable.auto.commit", COMMITS),
    ("auto.commit.enable", COMMITS),
    ("auto.commit.interval.ms", COMMITS),
    ("enable.auto.offset.store", COMMITS),
    ("offset.store.method", COMMITS),
    (
        "partition.assignment.strategy",
        "it is cooperative-sticky, and a group cannot mix it with another strategy",
    ),
    ("enable.partition.eof", "aadstream reads on at the end of a partition"),
    ("statistics.interval.ms", "the lag metrics need it at a fixed value"),
    ("queued.min.messages", "use `memory_limit_bytes` in [kafka]"),
    ("queued.max.messages.kbytes", "use `memory_limit_bytes` in [kafka]"),
    ("log_level", "use `level` in [log]"),
    ("log.level", "use `level` in [log]"),
    ("log.queue", "the client's lines go into aadstream's own log"),
    ("enabled_events", "aadstream asks for the events that it handles"),
];
const COMMITS: &str = "aadstream commits an offset itself, once every message before it is counted";

/// Two spellings of one option; the second is the one that we set.
const ALIASES: [(&str, &str); 2] =
    [("sasl.mechanism", "sasl.mechanisms"), ("max.partition.fetch.bytes", "fetch.message.max.bytes")];

/// Options that name a file which librdkafka reads when a client is built.
const FILES: &[&str] = &[
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// The share of `memory_limit_bytes` that librdkafka's queue takes; as much is in flight in the program, and a fifth is
/// left for a response that is being read and for the producer.
const QUEUE_SHARE: (usize, usize) = (2, 5);
/// One response may hold this share: it is decompressed as a whole, beyond the queue's limit.
const RESPONSE_DIVISOR: usize = 8;
/// librdkafka's own default, the largest response.
const RESPONSE_BYTES_MAX: usize = 52_428_800;
/// Bytes of limit for each message that a partition's queue is filled up to. A queued message costs librdkafka some
/// 450 bytes beside its payload, which its limit in bytes does not see, and it counts for each partition.
const BYTES_FOR_QUEUED_MESSAGE: usize = 5_000;
const QUEUED_MESSAGES_MAX: usize = 100_000;

/// Why an option is not the operator's to set.
pub(super) fn refusal(option: &str) -> Option<&'static str> {
    OWNED.iter().find(|(name, _)| *name == option).map(|(_, reason)| *reason)
}

/// Lets librdkafka look at one option; the error names it.
pub(super) fn check_option(option: &str, value: &OptionValue) -> Result<(), String> {
    if value.expose().contains('\0') {
        return Err(format!("cannot use the option `{option}`: it holds a zero byte"));
    }
    let refuse = |value: &str| match ClientConfig::new().set(option, value).create_native_config() {
        Err(KafkaError::ClientConfig(kind, reason, ..)) => Some((kind, reason)),
        _ => None,
    };
    let Some((kind, reason)) = refuse(value.expose()) else { return check_file(option, value) };
    if kind == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        let near = did_you_mean(option, OPTION_NAMES.iter().copied());
        return Err(format!("librdkafka has no option `{option}`{near}"));
    }
    let reason = match value {
        OptionValue::Plain(value) => format!("{}, found `{value}`", plain(&reason)),
        // librdkafka repeats the value in its message. What it says of any other value gives nothing away.
        OptionValue::Secret(_) => match refuse("-") {
            Some((_, reason)) => plain(&reason),
            None => "librdkafka does not take this value".to_owned(),
        },
    };
    Err(format!("cannot use the option `{option}`: {reason}"))
}

/// Files that librdkafka reads when the client is built; it complains of them without their names.
fn check_file(option: &str, value: &OptionValue) -> Result<(), String> {
    let OptionValue::Plain(path) = value else { return Ok(()) };
    if !names_file(option, path) {
        return Ok(());
    }
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot use the option `{option}`: cannot read {path}: {error}")),
    }
}

fn names_file(option: &str, value: &str) -> bool {
    FILES.contains(&option) && value != "probe"
}

/// The files of secrets, keys and certificates that a client has read when it was built.
pub(super) fn files(options: &BTreeMap<String, OptionValue>) -> Vec<PathBuf> {
    let file = |(option, value): (&String, &OptionValue)| match value {
        OptionValue::Plain(path) => names_file(option, path).then(|| path.into()),
        OptionValue::Secret(Secret { source: SecretSource::File(path), .. }) => Some(path.clone()),
        OptionValue::Secret(_) => None,
    };
    options.iter().filter_map(file).collect()
}

/// librdkafka's messages begin with a capital letter; ours do not.
pub fn plain(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let mut letters = message.chars();
    match letters.next() {
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => message.to_owned(),
    }
}

/// How many bytes of messages the program may hold between the client's queue and its counts.
pub fn in_flight_limit_bytes(settings: &Settings) -> usize {
    settings.kafka.memory_limit_bytes / QUEUE_SHARE.1 * QUEUE_SHARE.0
}

/// The options of the consumer.
pub fn client_config(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    let mut options = own_options(settings);
    for (option, value) in &settings.kafka.options {
        options.insert(canonical(option).to_owned(), value.current());
    }
    for (option, value) in options {
        config.set(option, value);
    }
    config.set_log_level(log_level(settings));
    config
}

pub(super) fn canonical(option: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == option).map_or(option, |(_, name)| name)
}

/// What aadstream sets by itself, with the operator's options taken into account but not in it.
pub(super) fn own_options(settings: &Settings) -> BTreeMap<String, String> {
    let kafka = &settings.kafka;
    let mut options = BTreeMap::new();
    let mut set = |option: &str, value: &str| options.insert(option.to_owned(), value.to_owned());
    set("client.id", "aadstream");
    set("bootstrap.servers", &kafka.brokers);
    set("group.id", &kafka.group_id);
    if let Some(id) = &kafka.group_instance_id {
        set("group.instance.id", id);
    }
    // An offset is committed when all before it is counted, never because it was handed out.
    set("enable.auto.commit", "false");
    set("enable.auto.offset.store", "false");
    // A lost offset must be seen and its gap counted; the other values jump silently.
    set("auto.offset.reset", "error");
    let is_new_protocol =
        kafka.options.get("group.protocol").is_some_and(|value| value.expose() == "consumer");
    if !is_new_protocol {
        // A rebalance takes only the partitions that move. The new protocol assigns on the broker.
        set("partition.assignment.strategy", "cooperative-sticky");
    }
    let queue = kafka.memory_limit_bytes / QUEUE_SHARE.1 * QUEUE_SHARE.0;
    set("queued.max.messages.kbytes", &(queue / 1024).to_string());
    let queued_messages = kafka.memory_limit_bytes / BYTES_FOR_QUEUED_MESSAGE;
    set("queued.min.messages", &queued_messages.min(QUEUED_MESSAGES_MAX).to_string());
    let response = (kafka.memory_limit_bytes / RESPONSE_DIVISOR).min(RESPONSE_BYTES_MAX);
    set("fetch.max.bytes", &response.to_string());
    // After a full queue librdkafka waits this long; its default of a second leaves the queue empty meanwhile.
    set("fetch.queue.backoff.ms", "10");
    // Partitions that a rebalance brings wait for the fetch under way.
    set("fetch.wait.max.ms", "100");
    // Broken bytes would be counted as broken messages; the check is one machine instruction for eight bytes.
    set("check.crcs", "true");
    // Firewalls and Azure drop idle connections without a word.
    set("socket.keepalive.enable", "true");
    // A topic that is created later, or matches a pattern later, is found soon.
    set("topic.metadata.refresh.interval.ms", "10000");
    // How far each partition was fetched, and where its end is: for the lag and for the watchdog.
    set("statistics.interval.ms", "2000");
    // Brokers with a metrics subscription would get our client's; nobody asked for that.
    set("enable.metrics.push", "false");
    if kafka.profile == Some(Profile::EventHubs) {
        event_hubs(&mut set);
    }
    if kafka.oauth.is_some() {
        options.insert("sasl.mechanisms".to_owned(), "OAUTHBEARER".to_owned());
        // A token is as good as a password to whoever reads it on its way.
        options.insert("security.protocol".to_owned(), "sasl_ssl".to_owned());
        options.remove("sasl.username");
    }
    let value_of = |option: &str| kafka.options.get(option).map(OptionValue::expose);
    let protocol =
        value_of("security.protocol").or_else(|| options.get("security.protocol").map(String::as_str));
    let is_tls = protocol.is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl"));
    // The OpenSSL inside the program does not know where this system keeps its certificates.
    if is_tls && value_of("ssl.ca.location").is_none() && value_of("ssl.ca.pem").is_none() {
        options.insert("ssl.ca.location".to_owned(), "probe".to_owned());
    }
    options
}

/// Azure Event Hubs' Kafka endpoint.
fn event_hubs<R>(set: &mut impl FnMut(&str, &str) -> R) {
    // The endpoint speaks nothing else; the user is this word, the password the connection string.
    set("security.protocol", "sasl_ssl");
    set("sasl.mechanisms", "PLAIN");
    set("sasl.username", "$ConnectionString");
    // Azure drops a connection after 240 idle seconds: talk or hang up before.
    set("metadata.max.age.ms", "180000");
    set("connections.max.idle.ms", "180000");
    // Its own advice: shorter sessions lose their partitions when Azure moves a gateway.
    set("session.timeout.ms", "30000");
    set("heartbeat.interval.ms", "3000");
    set("socket.timeout.ms", "60000");
    // Closing idle connections is normal there.
    set("log.connection.close", "false");
    // Topics are made in Azure, never by a client.
    set("allow.auto.create.topics", "false");
}

/// The reason for a failed connection may come at the level of information; `client_log` decides what is shown.
pub(super) fn log_level(settings: &Settings) -> RDKafkaLogLevel {
    if settings.kafka.options.contains_key("debug") { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info }
}

/// Whether librdkafka can compile this pattern of topics; it alone knows its syntax, and compiles none without a client.
pub(super) fn is_pattern(topic: &str) -> bool {
    let client: Result<BaseConsumer, _> = ClientConfig::new().set("group.id", "-").create();
    client.expect("a client with nothing but a group can be made").subscribe(&[topic]).is_ok()
}

/// Builds the client without a broker to talk to: certificates are read, mechanisms found, options weighed against each
/// other. Gives what librdkafka warns of.
pub fn check(settings: &Settings) -> Result<Vec<String>, String> {
    for value in settings.kafka.options.values() {
        if let OptionValue::Secret(secret) = value {
            secret.current()?;
        }
    }
    let mut config = client_config(settings);
    config.remove("bootstrap.servers").remove("debug").set_log_level(RDKafkaLogLevel::Warning);
    let log = ClientLog::default();
    let cannot = |error: KafkaError| match error {
        KafkaError::ClientCreation(reason) => format!("cannot use [kafka.options]: {}", plain(&reason)),
        other => format!("cannot use [kafka.options]: {other}"),
    };
    let consumer: BaseConsumer<ClientLog> = config.create_with_context(log.clone()).map_err(cannot)?;
    drop(consumer.poll(std::time::Duration::ZERO));
    Ok(log.warnings())
}

impl Settings {
    /// Combinations that librdkafka takes but that cannot work.
    pub(super) fn find_kafka_problems(&self) -> Vec<(Origin, String)> {
        let kafka = &self.kafka;
        let mut problems = Vec::new();
        // An option stands under one of its two names.
        let origin = |key: &str| match self.origin(key) {
            Origin::Default => self.origin(&key.replace("sasl.mechanisms", "sasl.mechanism")),
            origin => origin,
        };
        let mut push = |key: &str, message: String| problems.push((origin(key), message));
        for (alias, name) in ALIASES {
            if kafka.options.contains_key(alias) && kafka.options.contains_key(name) {
                push(
                    &format!("kafka.options.{alias}"),
                    format!("`{alias}` and `{name}` are one option: keep one"),
                );
            }
        }
        let own = own_options(self);
        let value_of = |option: &str| {
            let alias = ALIASES.iter().find(|(_, name)| *name == option).map_or(option, |(alias, _)| alias);
            let given = kafka.options.get(option).or_else(|| kafka.options.get(alias));
            given.map(OptionValue::expose).or_else(|| own.get(option).map(String::as_str))
        };
        let mechanism = value_of("sasl.mechanisms").unwrap_or_default().to_ascii_uppercase();
        let is_sasl = value_of("security.protocol")
            .is_some_and(|protocol| protocol.to_ascii_lowercase().starts_with("sasl"));
        if !is_sasl {
            if kafka.oauth.is_some() {
                let message = "[kafka.oauth] needs security.protocol = \"sasl_ssl\"";
                push("kafka.options.security.protocol", message.to_owned());
            }
            return problems;
        }
        // Whoever asked for a login is shown what it lacks.
        let asked = match kafka.profile {
            Some(_) => "kafka.profile",
            None => "kafka.options.security.protocol",
        };
        match mechanism.as_str() {
            "" => push(
                asked,
                "no `sasl.mechanisms` in [kafka.options]: set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or fill [kafka.oauth]".to_owned(),
            ),
            "GSSAPI" => push(
                "kafka.options.sasl.mechanisms",
                "cannot use GSSAPI: this program is built without Kerberos; use PLAIN, SCRAM, OAUTHBEARER or client certificates"
                    .to_owned(),
            ),
            "OAUTHBEARER" if kafka.oauth.is_none() => push(
                "kafka.options.sasl.mechanisms",
                "cannot use OAUTHBEARER: nobody says where its tokens come from; set `method` in [kafka.oauth]"
                    .to_owned(),
            ),
            "OAUTHBEARER" => {}
            _ if kafka.oauth.is_some() => push(
                "kafka.options.sasl.mechanisms",
                format!("[kafka.oauth] is for OAUTHBEARER, and sasl.mechanisms is {mechanism}: keep one of them"),
            ),
            _ => {
                for option in ["sasl.username", "sasl.password"] {
                    if value_of(option).is_none_or(str::is_empty) {
                        push(
                            asked,
                            format!(
                                "no `{option}` in [kafka.options]: give it, or where it stands, such as \
                                 \"{option}\" = {{ file = \"/run/secrets/kafka\" }}"
                            ),
                        );
                    }
                }
            }
        }
        problems
    }

    /// What an experienced colleague would point at.
    pub(super) fn find_kafka_warnings(&self) -> Vec<String> {
        let kafka = &self.kafka;
        let mut warnings = Vec::new();
        let is_azure = kafka.brokers.contains(".servicebus.");
        if kafka.profile == Some(Profile::EventHubs) {
            if self.origin("kafka.group_id") == Origin::Default {
                warnings.push(
                    "`group_id` is the default: on Event Hubs a group spans the whole namespace, so two deployments \
                     of this name would take partitions from each other; choose one name for each"
                        .to_owned(),
                );
            }
            let user = kafka.options.get("sasl.username").map_or("$ConnectionString", OptionValue::expose);
            let password = kafka.options.get("sasl.password").map_or("", OptionValue::expose);
            if kafka.oauth.is_none() && user == "$ConnectionString" && !password.starts_with("Endpoint=sb://")
            {
                warnings.push(
                    "`sasl.password` does not begin with Endpoint=sb://: Event Hubs wants the whole connection string"
                        .to_owned(),
                );
            }
            if is_azure && kafka.brokers.split(',').any(|broker| !broker.ends_with(":9093")) {
                warnings.push("`brokers`: Event Hubs speaks Kafka on port 9093 only".to_owned());
            }
        } else if is_azure {
            warnings.push(
                "`brokers` is an Event Hubs namespace: set profile = \"event_hubs\" in [kafka] for the options it needs"
                    .to_owned(),
            );
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn load<const N: usize>(pairs: [(&str, &str); N]) -> anyhow::Result<Settings> {
        let mut environment =
            vec![("AADSTREAM_KAFKA__BROKERS", "h:9092"), ("AADSTREAM_KAFKA__TOPICS", "signin")];
        environment.extend(pairs);
        Settings::load_with(None, &Environment::of(environment), true)
    }

    fn option<const N: usize>(option: &str, pairs: [(&str, &str); N]) -> Option<String> {
        client_config(&load(pairs).unwrap()).get(option).map(str::to_owned)
    }

    #[track_caller]
    fn check_refused<const N: usize>(pairs: [(&str, &str); N], expected: &str) {
        let error = load(pairs).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn the_operators_options_win_under_either_name() {
        assert_eq!(option("check.crcs", []).unwrap(), "true");
        assert_eq!(
            option("check.crcs", [("AADSTREAM_KAFKA__OPTIONS__CHECK_CRCS", "false")]).unwrap(),
            "false"
        );
        let alias = [("AADSTREAM_KAFKA__OPTIONS__MAX_PARTITION_FETCH_BYTES", "7")];
        assert_eq!(option("fetch.message.max.bytes", alias).unwrap(), "7");
        check_refused(
            [
                ("AADSTREAM_KAFKA__OPTIONS__MAX_PARTITION_FETCH_BYTES", "7"),
                ("AADSTREAM_KAFKA__OPTIONS__FETCH_MESSAGE_MAX_BYTES", "7"),
            ],
            "are one option: keep one",
        );
    }

    #[test]
    fn system_certificates_are_looked_for_only_with_tls() {
        let tls = ("AADSTREAM_KAFKA__OPTIONS__SECURITY_PROTOCOL", "ssl");
        assert_eq!(option("ssl.ca.location", []), None);
        assert_eq!(option("ssl.ca.location", [tls]).unwrap(), "probe");
        let pem = ("AADSTREAM_KAFKA__OPTIONS__SSL_CA_PEM", "x");
        assert_eq!(option("ssl.ca.location", [tls, pem]), None);
    }

    #[test]
    fn the_memory_limit_bounds_the_queues() {
        let small = [("AADSTREAM_KAFKA__MEMORY_LIMIT_BYTES", "50_000_000")];
        assert_eq!(option("queued.max.messages.kbytes", small).unwrap(), "19531");
        assert_eq!(option("queued.min.messages", small).unwrap(), "10000");
        let large = [("AADSTREAM_KAFKA__MEMORY_LIMIT_BYTES", "4_000_000_000")];
        assert_eq!(option("fetch.max.bytes", large).unwrap(), "52428800");
        for limit in [small, large] {
            check(&load(limit).unwrap()).unwrap();
        }
    }

    #[test]
    fn the_new_group_protocol_gets_no_strategy() {
        assert_eq!(option("partition.assignment.strategy", []).unwrap(), "cooperative-sticky");
        let new = [("AADSTREAM_KAFKA__OPTIONS__GROUP_PROTOCOL", "consumer")];
        assert_eq!(option("partition.assignment.strategy", new), None);
        check(&load(new).unwrap()).unwrap();
    }

    #[test]
    fn event_hubs_needs_a_password_and_a_group_of_its_own() {
        let profile = ("AADSTREAM_KAFKA__PROFILE", "event_hubs");
        let password = ("AADSTREAM_KAFKA__OPTIONS__SASL_PASSWORD", "Endpoint=sb://x");
        check_refused([profile], "AADSTREAM_KAFKA__PROFILE: no `sasl.password`");
        let settings = load([profile, password]).unwrap();
        assert!(settings.warnings()[0].starts_with("`group_id` is the default"), "{:?}", settings.warnings());
        assert_eq!(client_config(&settings).get("sasl.username"), Some("$ConnectionString"));
        check(&settings).unwrap();
        let named = load([profile, password, ("AADSTREAM_KAFKA__GROUP_ID", "x")]).unwrap();
        assert!(named.warnings().is_empty(), "{:?}", named.warnings());
    }

    #[test]
    fn options_that_cannot_work_are_named() {
        let set = |value| [("AADSTREAM_KAFKA__OPTIONS__SECURITY_PROTOCOL", value)];
        check_refused(set("sasl_ssl"), "no `sasl.mechanisms`");
        check_refused(set("tls"), "cannot use the option `security.protocol`: invalid value");
        check_refused([("AADSTREAM_KAFKA__OPTIONS__SSL_CA_LOCATION", "/no/file")], "cannot read /no/file: ");
        check_refused(
            [("AADSTREAM_KAFKA__OPTIONS__SESSION_TIMOUT_MS", "1")],
            "no option `session.timout.ms`; did you mean `session.timeout.ms`?",
        );
        check_refused(
            [("AADSTREAM_KAFKA__OPTIONS__GROUP_ID", "x")],
            "cannot use the option `group.id`: use `group_id`",
        );
    }

    #[test]
    fn the_client_is_really_built() {
        let poll = [("AADSTREAM_KAFKA__OPTIONS__MAX_POLL_INTERVAL_MS", "10")];
        assert!(check(&load(poll).unwrap()).unwrap_err().contains("max.poll.interval.ms"));
        let producer = [("AADSTREAM_KAFKA__OPTIONS__LINGER_MS", "3")];
        let warnings = check(&load(producer).unwrap()).unwrap();
        assert!(warnings.iter().any(|warning| warning.contains("producer property")), "{warnings:?}");
        assert!(check(&load([]).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn every_owned_option_exists_but_the_misspelt_one() {
        for (option, _) in OWNED {
            let set = ClientConfig::new().set(*option, "1").create_native_config().err();
            let exists =
                !matches!(set, Some(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)));
            assert!(exists || *option == "log.level", "{option}");
        }
    }

    #[test]
    fn why_a_secret_option_is_refused_is_told_without_the_secret() {
        let variables = [
            ("AADSTREAM_KAFKA__OPTIONS__SASL_JAAS_CONFIG", "tell-nobody"),
            ("AADSTREAM_KAFKA__OPTIONS__SASL_OAUTHBEARER_CLIENT_SECRET", "tell-nobody"),
        ];
        let error = load(variables).unwrap_err().to_string();
        assert!(error.contains("JAAS configuration is not supported"), "{error}");
        assert!(error.contains("not supported in this build"), "{error}");
        assert!(!error.contains("tell-nobody"), "{error}");
    }
}
