//! Asks the brokers whether the configuration is true: do they answer, do they take us, are the topics there?

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{BaseProducer, Producer};
use regex_lite::Regex;

use super::Settings;
use super::client_log::{ClientLog, TroubleKind};
use super::kafka::{client_config, plain};
use super::oauth::OAuth;
use super::producer::{producer_config, too_long};
use crate::catalogue::problem::did_you_mean;

/// How long one question waits before the client's log is looked at.
const QUESTION: Duration = Duration::from_millis(500);
/// How long brokers that nobody answers for are tried: the addresses of a name are tried one after another, and
/// whoever started this waits at a terminal.
const UNREACHABLE_WAIT: Duration = Duration::from_secs(5);

/// What was found: a line for the cluster and one for each topic. The error lists everything that is wrong.
pub fn check_connection(settings: &Settings) -> Result<Vec<String>, Vec<String>> {
    let mut config = client_config(settings);
    // Only questions are asked: this client must be no member of the group.
    config.remove("group.id").remove("group.instance.id");
    let mut inputs: Vec<&str> = settings.kafka.topics.iter().map(String::as_str).collect();
    // Another address, or perhaps another user, has to be asked by itself.
    let is_apart = !settings.forward.brokers.is_empty() || !settings.forward.options.is_empty();
    let producer = producer_config(settings).filter(|_| is_apart);
    if producer.is_none() {
        inputs.extend(settings.output_topics());
    }
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    let limit = settings.kafka.startup_timeout;
    let mut ask = |config, brokers: &str, oauth: Option<&OAuth>, topics: &[&str]| match fetch(
        config, brokers, oauth, limit,
    ) {
        Ok(metadata) => {
            let count = metadata.brokers().len();
            let plural = if count == 1 { "" } else { "s" };
            found.push(format!("connected to {count} broker{plural}"));
            for topic in topics {
                match find_topic(topic, &metadata) {
                    Ok(line) => found.push(line),
                    Err(line) => wrong.push(line),
                }
            }
        }
        Err(reason) => wrong.push(format!("cannot connect: {reason}")),
    };
    ask(config, &settings.kafka.brokers, settings.kafka.oauth.as_ref(), &inputs);
    if let Some(config) = producer {
        ask(config, settings.output_brokers(), settings.output_oauth(), &settings.output_topics());
    }
    let is_connected = !found.is_empty();
    if settings.is_transactional() && is_connected {
        match begin_transactions(settings, limit) {
            Ok(line) => found.push(line),
            Err(line) => wrong.push(line),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

/// Whether the brokers of input and output answer and take us; the error says which do not.
pub fn reach(settings: &Settings) -> Result<(), String> {
    let limit = settings.kafka.startup_timeout;
    let reach = |config, brokers: &str, oauth: Option<&OAuth>| {
        let answer = fetch(config, brokers, oauth, limit);
        answer.map(drop).map_err(|reason| format!("cannot connect to {brokers}: {reason}"))
    };
    let mut config = client_config(settings);
    // Only a question is asked: this client must be no member of the group.
    config.remove("group.id").remove("group.instance.id");
    reach(config, &settings.kafka.brokers, settings.kafka.oauth.as_ref())?;
    if settings.forward.brokers.is_empty() {
        return Ok(());
    }
    let Some(config) = producer_config(settings) else { return Ok(()) };
    reach(config, settings.output_brokers(), settings.output_oauth())
}

/// Begins transactions under a name of its own, which disturbs nobody: brokers check what is asked for only then.
fn begin_transactions(settings: &Settings, limit: Duration) -> Result<String, String> {
    let id = settings.transactional_id_of("check");
    let mut config = producer_config(settings).expect("transactions are of what is sent");
    config.set("transactional.id", &id);
    let log = ClientLog::new(settings.output_oauth());
    let producer: BaseProducer<ClientLog> = config.create_with_context(log).map_err(in_words)?;
    let began = Instant::now();
    loop {
        let error = match producer.init_transactions(QUESTION) {
            Ok(()) => return Ok("transactions can begin".to_owned()),
            Err(error) => error,
        };
        // Tokens are fetched here.
        producer.poll(Duration::ZERO);
        match &error {
            KafkaError::Transaction(cause) if cause.code() == RDKafkaErrorCode::InvalidTransactionTimeout => {
                return Err(too_long(settings.transaction_timeout()));
            }
            KafkaError::Transaction(cause) if cause.is_retriable() && began.elapsed() < limit => {}
            KafkaError::Transaction(cause) => {
                return Err(format!("cannot begin transactions as `{id}`: {}", plain(&cause.string())));
            }
            other => return Err(format!("cannot begin transactions as `{id}`: {other}")),
        }
    }
}

fn in_words(error: KafkaError) -> String {
    match error {
        KafkaError::ClientCreation(reason) => plain(&reason),
        other => other.to_string(),
    }
}

fn fetch(
    config: ClientConfig,
    brokers: &str,
    oauth: Option<&OAuth>,
    limit: Duration,
) -> Result<Metadata, String> {
    let log = ClientLog::new(oauth);
    // A producer's options serve a consumer that only asks: librdkafka warns of what it does not need, which nobody reads.
    let consumer: BaseConsumer<ClientLog> = config.create_with_context(log.clone()).map_err(in_words)?;
    let began = Instant::now();
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let error = match consumer.fetch_metadata(None, QUESTION.min(left)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        // Log lines and errors wait in the client's queue until somebody polls.
        while consumer.poll(Duration::ZERO).is_some() {}
        let trouble = log.trouble();
        let is_over = match trouble.as_ref().map(|trouble| trouble.kind) {
            Some(TroubleKind::Refused | TroubleKind::Mismatch) => true,
            Some(TroubleKind::Unreachable) => began.elapsed() >= UNREACHABLE_WAIT.min(limit),
            None => false,
        };
        if is_over || began.elapsed() >= limit {
            return Err(trouble.map_or_else(
                || {
                    let seconds = limit.as_secs();
                    format!("no answer from {brokers} within {seconds} s: {error}")
                },
                |trouble| trouble.reason,
            ));
        }
    }
}

/// The pattern is tried with the syntax that librdkafka's and ours share.
fn find_topic(topic: &str, metadata: &Metadata) -> Result<String, String> {
    let names = || metadata.topics().iter().map(MetadataTopic::name);
    if topic.starts_with('^') {
        let pattern =
            Regex::new(topic).map_err(|error| format!("cannot try the pattern `{topic}`: {error}"))?;
        let matches = names().filter(|name| pattern.is_match(name)).count();
        return match matches {
            0 => Err(format!("no topic matches `{topic}`")),
            1 => Ok(format!("1 topic matches `{topic}`")),
            n => Ok(format!("{n} topics match `{topic}`")),
        };
    }
    let Some(found) = metadata.topics().iter().find(|candidate| candidate.name() == topic) else {
        let near = did_you_mean(topic, names().filter(|name| !name.starts_with("__")));
        return Err(format!("no topic `{topic}` that we may see{near}"));
    };
    if let Some(error) = found.error() {
        let error = RDKafkaErrorCode::from(error);
        return Err(format!("cannot read the topic `{topic}`: {error}"));
    }
    match found.partitions().len() {
        1 => Ok(format!("topic `{topic}`: 1 partition")),
        partitions => Ok(format!("topic `{topic}`: {partitions} partitions")),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::config::Environment;

    fn settings(brokers: &str, topics: &str) -> Settings {
        let environment = [
            ("AADSTREAM_KAFKA__BROKERS", brokers),
            ("AADSTREAM_KAFKA__TOPICS", topics),
            ("AADSTREAM_KAFKA__STARTUP_TIMEOUT_SECONDS", "1"),
        ];
        Settings::load_with(None, &Environment::of(environment), true).unwrap()
    }

    #[test]
    fn topics_are_looked_for() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("signin", 3, 1).unwrap();
        let check = |topics| check_connection(&settings(&cluster.bootstrap_servers(), topics));
        let found = ["connected to 1 broker", "topic `signin`: 3 partitions", "1 topic matches `^sign`"];
        assert_eq!(check("signin,^sign"), Ok(found.map(str::to_owned).to_vec()));
        let wrong =
            ["no topic `signins` that we may see; did you mean `signin`?", "no topic matches `^audit.*`"];
        assert_eq!(check("signins,^audit.*"), Err(wrong.map(str::to_owned).to_vec()));
    }

    #[test]
    fn topics_of_outputs_are_looked_for_where_they_are() {
        let (input, output) = (MockCluster::new(1).unwrap(), MockCluster::new(1).unwrap());
        input.create_topic("signin", 1, 1).unwrap();
        output.create_topic("events", 2, 1).unwrap();
        let (input, output) = (input.bootstrap_servers(), output.bootstrap_servers());
        let check = |dead| {
            let environment = [
                ("AADSTREAM_KAFKA__BROKERS", &*input),
                ("AADSTREAM_KAFKA__TOPICS", "signin"),
                ("AADSTREAM_FORWARD__BROKERS", &*output),
                ("AADSTREAM_FORWARD__TOPIC", "events"),
                ("AADSTREAM_DEAD_LETTERS__TOPIC", dead),
            ];
            check_connection(&Settings::load_with(None, &Environment::of(environment), true).unwrap())
        };
        let found = check("").unwrap();
        assert_eq!(found.last().unwrap(), "topic `events`: 2 partitions");
        let wrong = check("evnts").unwrap_err();
        assert_eq!(wrong, ["no topic `evnts` that we may see; did you mean `events`?"]);
    }

    #[test]
    fn transactions_that_the_brokers_do_not_allow_are_found() {
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["signin", "events"] {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let brokers = cluster.bootstrap_servers();
        let environment = [
            ("AADSTREAM_KAFKA__BROKERS", &*brokers),
            ("AADSTREAM_KAFKA__TOPICS", "signin"),
            ("AADSTREAM_KAFKA__GROUP_ID", "g"),
            ("AADSTREAM_FORWARD__TOPIC", "events"),
            ("AADSTREAM_FORWARD__DELIVERY", "exactly_once"),
        ];
        let settings = Settings::load_with(None, &Environment::of(environment), true).unwrap();
        assert_eq!(check_connection(&settings).unwrap().last().unwrap(), "transactions can begin");
        let refuse = |error| cluster.request_errors(RDKafkaApiKey::InitProducerId, &[error]);
        refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT);
        let wrong = check_connection(&settings).unwrap_err();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(
            wrong[0].starts_with("the brokers allow no transaction.timeout.ms of 60000: set"),
            "{wrong:?}"
        );
        refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        let wrong = check_connection(&settings).unwrap_err();
        assert!(wrong[0].starts_with("cannot begin transactions as `aadstream/g/check`: "), "{wrong:?}");
    }

    #[test]
    fn a_silent_address_is_named() {
        // A port that was free a moment ago: nobody listens on it.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let wrong = check_connection(&settings(&free.to_string(), "signin")).unwrap_err();
        assert_eq!(wrong, [format!("cannot connect: no broker answers at {free}: connection refused")]);
    }
}
