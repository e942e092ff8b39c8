//! Events and dead letters leave as they should: the real service between two topics of a broker in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aadstream::catalogue::Catalogue;
use aadstream::config::{Environment, Settings};
use aadstream::digest::event::{BODY_BYTES, Event, EventOptions};
use aadstream::digest::{App, Framing, Input, Middle, Options, Position};
use aadstream::metrics::{Metrics, MetricsOptions};
use aadstream::service::Service;
use aadstream::web::Health;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A validator of deploy/events.schema.json that takes no member which that does not describe. The schema itself does:
/// consumers are to ignore what a later version adds.
pub fn schema() -> jsonschema::Validator {
    let text = include_str!("../../deploy/events.schema.json");
    let mut schema: Value = serde_json::from_str(text).unwrap();
    for object in ["", "/properties/source"] {
        let object = schema.pointer_mut(object).unwrap().as_object_mut().unwrap();
        let before = object.insert("additionalProperties".to_owned(), false.into());
        assert_eq!(
            before, None,
            "whoever validates by the deployed schema must be able to read later events"
        );
    }
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

#[track_caller]
pub fn assert_valid(validator: &jsonschema::Validator, event: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(event).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{}\nin {event:#}", errors.join("\n"));
}

/// A message as it was found in an output topic.
struct Sent {
    key: Option<String>,
    body: Option<Vec<u8>>,
    headers: BTreeMap<String, String>,
}

impl Sent {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            key: message.key().map(text),
            body: message.payload().map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }
}

struct Rig {
    cluster: MockCluster<'static, DefaultProducerContext>,
    variables: Vec<(String, String)>,
}

impl Rig {
    fn new(variables: &[(&str, &str)]) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let mut own: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| (format!("AADSTREAM_{name}"), (*value).to_owned()))
            .collect();
        own.push(("AADSTREAM_KAFKA__BROKERS".to_owned(), cluster.bootstrap_servers()));
        own.push(("AADSTREAM_KAFKA__TOPICS".to_owned(), "in".to_owned()));
        cluster.create_topic("in", 1, 1).unwrap();
        Self { cluster, variables: own }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.cluster.bootstrap_servers()).set("group.id", "reader");
        config
    }

    fn produce(&self, payloads: &[Option<&[u8]>]) {
        let producer: BaseProducer = self.client().create().unwrap();
        for payload in payloads {
            let mut record = BaseRecord::<str, [u8]>::to("in").key("the key");
            record.payload = *payload;
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    fn settings(&self) -> Settings {
        let variables = self.variables.iter().map(|(name, value)| (&**name, &**value));
        Settings::load_with(None, &Environment::of(variables), true).unwrap()
    }

    fn service(&self) -> Service {
        let catalogue = Arc::new(Catalogue::embedded());
        let metrics = Arc::new(Metrics::new(&catalogue, MetricsOptions::default()));
        Service::new(self.settings(), catalogue, metrics)
    }

    /// Runs the service until `done` holds, then ends it; what a last look at the metrics says.
    fn run(&self, done: impl Fn(&Service, &str) -> bool) -> String {
        let settings = self.settings();
        let catalogue = Arc::new(Catalogue::embedded());
        let options = MetricsOptions {
            birth_hold: Duration::ZERO,
            unskipped: settings.dead_letters.unskipped().collect(),
            ..MetricsOptions::default()
        };
        let metrics = Arc::new(Metrics::new(&catalogue, options));
        let service = Service::new(settings, catalogue, Arc::clone(&metrics));
        let text = || String::from_utf8(metrics.encode(false).1).unwrap();
        std::thread::scope(|scope| {
            let consumer = scope.spawn(|| service.consume());
            let deadline = Instant::now() + PATIENCE;
            while !done(&service, &text()) {
                assert!(Instant::now() < deadline && !consumer.is_finished(), "{}", text());
                std::thread::sleep(Duration::from_millis(20));
            }
            service.stop();
            consumer.join().unwrap().unwrap();
        });
        text()
    }

    /// Everything in a topic.
    fn read(&self, topic: &str) -> Vec<Sent> {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let mut assignment = TopicPartitionList::new();
        let mut left = 0;
        for partition in metadata.topics()[0].partitions() {
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
            left += consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap().1;
        }
        consumer.assign(&assignment).unwrap();
        (0..left).map(|_| Sent::of(&consumer.poll(PATIENCE).unwrap().unwrap())).collect()
    }

    fn committed(&self) -> Option<Offset> {
        let consumer: BaseConsumer = self.client().set("group.id", "aadstream").create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition("in", 0);
        let answer = consumer.committed_offsets(asked, PATIENCE).unwrap();
        answer.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
    }
}

/// The value of one series, by its exact name and labels.
fn value(metrics: &str, series: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
}

const BATCH: &str = r#"{"records":[
    {"time":"2026-11-24T03:00:00Z","category":"ServicePrincipalSignInLogs","tenantId":"t","resultType":"7000222",
     "correlationId":"c","properties":{"id":"r","appId":"a","servicePrincipalName":"App","resourceDisplayName":"Power BI"}},
    {"category":"SignInLogs","tenantId":"t","resultType":"0"},
    {"category":"SignInLogs","tenantId":"t","resultType":"50140"},
    {"category":"SignInLogs","tenantId":"t","resultType":"50126","properties":{"appId":"a"}}]}"#;
const REFRESH: &str = r#"{"workspaceId":"w","datasetId":"d","refreshes":[{"requestId":"q","id":1,"refreshType":"Scheduled",
    "status":"Failed","serviceExceptionJson":"{\"errorCode\":\"ModelRefreshFailed\",\"errorDescription\":\"AADSTS50173: x\"}"}]}"#;

#[test]
fn every_event_goes_to_the_topic_once() {
    let rig = Rig::new(&[("FORWARD__TOPIC", "out"), ("FORWARD__OPTIONS__LINGER_MS", "1")]);
    rig.produce(&[
        Some(BATCH.as_bytes()),
        Some(REFRESH.as_bytes()),
        Some(b"AADSTS700016: no app"),
        Some(b"{"),
    ]);
    let forwarded = r#"aadstream_events_forwarded_total{topic="out"}"#;
    let metrics = rig.run(|service, metrics| {
        // The topic does not say when the last one came; what is committed was delivered.
        service.unready().is_none()
            && value(metrics, forwarded) >= 4
            && rig.committed() == Some(Offset::Offset(4))
    });
    assert_eq!(value(&metrics, forwarded), 4, "an interrupt is below min_severity");
    assert_eq!(value(&metrics, "aadstream_in_flight_bytes"), 0);
    let (validator, sent) = (schema(), rig.read("out"));
    let client: BaseConsumer = rig.client().create().unwrap();
    let cluster_id = client.client().fetch_cluster_id(PATIENCE).unwrap();
    let mut ids = Vec::new();
    for event in &sent {
        let json = event.json();
        assert_valid(&validator, &json);
        assert_eq!(json["source"]["cluster_id"], cluster_id.as_str());
        for (header, member) in [("event-id", "id"), ("code", "code"), ("severity", "severity")] {
            assert_eq!(Some(event.headers[header].as_str()), json[member].as_str());
        }
        assert_eq!(event.headers["schema"], "1");
        ids.push((json["id"].as_str().unwrap().to_owned(), event.key.clone()));
    }
    ids.sort();
    let expected =
        [("in/0/0/0", Some("t/a")), ("in/0/0/3", Some("t/a")), ("in/0/1/0", Some("w/d")), ("in/0/2/0", None)];
    assert_eq!(ids, expected.map(|(id, key)| (id.to_owned(), key.map(str::to_owned))));
}

#[test]
fn what_cannot_be_read_is_kept_with_its_bytes() {
    let rig = Rig::new(&[
        ("DEAD_LETTERS__POLICY", "dlq"),
        ("DEAD_LETTERS__TOPIC", "dead"),
        ("DEAD_LETTERS__POLICIES__NULL_PAYLOAD", "skip"),
    ]);
    let mixed = br#"{"records":[{"category":"SignInLogs","resultType":"0"},7,{"resultType":tru}]}"#;
    rig.produce(&[Some(b"42"), None, Some(mixed), Some(b"\x1f\x8b\x08broken")]);
    let metrics = rig.run(|_, _| rig.committed() == Some(Offset::Offset(4)));
    let count = |name: &str, reason: &str| {
        value(&metrics, &format!("aadstream_dead_letters_{name}{{reason=\"{reason}\"}}"))
    };
    assert_eq!((count("total", "unknown_shape"), count("skipped_total", "unknown_shape")), (2, 0));
    assert_eq!((count("total", "null_payload"), count("skipped_total", "null_payload")), (0, 1));
    let mut letters = rig.read("dead");
    let place = |letter: &Sent| (letter.headers["offset"].clone(), letter.headers.get("index").cloned());
    letters.sort_by_key(place);
    let found: Vec<(&str, Option<&str>, &[u8])> = letters
        .iter()
        .map(|letter| {
            (
                &*letter.headers["reason"],
                letter.headers.get("index").map(|it| &**it),
                &**letter.body.as_ref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("unknown_shape", None, &b"42"[..]),
            ("unknown_shape", Some("1"), b"7"),
            ("invalid_json", Some("2"), br#"{"resultType":tru}"#),
            ("bad_compression", None, b"\x1f\x8b\x08broken"),
        ]
    );
    for letter in &letters {
        assert_eq!((&*letter.headers["topic"], &*letter.headers["partition"]), ("in", "0"));
        assert_eq!(letter.key.as_deref(), Some("the key"));
    }
}

#[test]
fn dead_letters_in_a_file_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    std::fs::write(&path, "half a line of a cra").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let rig = Rig::new(&[("DEAD_LETTERS__POLICY", "dlq"), ("DEAD_LETTERS__FILE", path.to_str().unwrap())]);
    rig.produce(&[Some(b"42"), None]);
    let metrics = rig.run(|_, _| rig.committed() == Some(Offset::Offset(2)));
    assert_eq!(value(&metrics, r#"aadstream_dead_letters_total{reason="null_payload"}"#), 1);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "half a line of a cra",
            r#"{"schema":1,"reason":"unknown_shape","topic":"in","partition":0,"offset":0,"key":"dGhlIGtleQ==","payload":"NDI="}"#,
            r#"{"schema":1,"reason":"null_payload","topic":"in","partition":0,"offset":1,"key":"dGhlIGtleQ=="}"#,
        ]
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_policy_may_stop_a_partition_in_front_of_a_message() {
    let rig = Rig::new(&[("DEAD_LETTERS__POLICIES__UNKNOWN_SHAPE", "halt")]);
    rig.produce(&[Some(BATCH.as_bytes()), Some(b"42"), Some(BATCH.as_bytes())]);
    let halted = "the partition in/0 is halted at offset 1";
    let metrics = rig.run(|service, metrics| {
        service.unready().as_deref() == Some(halted)
            && value(metrics, "aadstream_paused_partitions") == 1
            && rig.committed() == Some(Offset::Offset(1))
    });
    assert_eq!(value(&metrics, r#"aadstream_dead_letters_skipped_total{reason="unknown_shape"}"#), 0);
    assert_eq!(rig.committed(), Some(Offset::Offset(1)), "nothing behind it at the end either");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_at_once() {
    check_refused_file(
        "/no/such/folder/dead",
        "cannot write dead letters to /no/such/folder/dead ([dead_letters] file): No",
    );
    check_refused_file(
        "/dev/null",
        "cannot write dead letters to /dev/null ([dead_letters] file): it is no regular file",
    );
}

#[track_caller]
fn check_refused_file(path: &str, expected: &str) {
    let rig = Rig::new(&[("DEAD_LETTERS__FILE", path)]);
    let message = format!("{:#}", rig.service().consume().unwrap_err());
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_producer_that_fails_for_good_ends_the_service() {
    let rig = Rig::new(&[("FORWARD__TOPIC", "out")]);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    rig.cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refused; 10]);
    let error = format!("{:#}", rig.service().consume().unwrap_err());
    assert!(error.starts_with("the Kafka producer failed for good: "), "{error}");
}

#[test]
fn a_producer_that_lost_count_is_followed_by_another_one() {
    let rig = Rig::new(&[("FORWARD__TOPIC", "out")]);
    rig.cluster.create_topic("out", 1, 1).unwrap();
    rig.produce(&[Some(b"AADSTS700016: no app".as_slice()); 3]);
    let lost = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    rig.cluster.request_errors(RDKafkaApiKey::Produce, &[lost]);
    let text = rig.run(|_, text| text.contains("aadstream_events_forwarded_total{topic=\"out\"} 3"));
    assert!(text.contains("aadstream_producer_rebuilds_total{reason=\"failed\"} 1"), "{text}");
    assert_eq!(rig.read("out").len(), 3);
}

#[test]
fn an_audit_that_no_broker_answers_names_them_and_does_not_wait_for_long() {
    // A port that was free a moment ago: nobody listens on it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let started = Instant::now();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aadstream"))
        .arg("audit")
        .env("AADSTREAM_KAFKA__BROKERS", &free)
        .env("AADSTREAM_KAFKA__TOPICS", "in")
        .env("AADSTREAM_FORWARD__TOPIC", "out")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((output.status.code(), lines[0]), (Some(1), &*format!("aadstream: asking {free}")), "{text}");
    assert!(
        lines[1].starts_with(&format!("aadstream: cannot connect to {free}: no broker answers")),
        "{text}"
    );
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn what_scan_prints_is_what_the_schema_says() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/messages.jsonl");
    let folder = tempfile::tempdir().unwrap();
    for (number, line) in std::fs::read_to_string(samples).unwrap().lines().enumerate() {
        let sample: Value = serde_json::from_str(line).unwrap();
        std::fs::write(folder.path().join(number.to_string()), sample["raw"].as_str().unwrap()).unwrap();
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aadstream"))
        .args(["scan", "--format", "events"])
        .arg(folder.path())
        .output()
        .unwrap();
    let validator = schema();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().for_each(|line| assert_valid(&validator, &serde_json::from_str(line).unwrap()));
    assert!(text.lines().count() > 25, "{text}");
}

#[test]
fn a_message_of_very_many_events_is_sent_in_pieces() {
    let variables = [("FORWARD__TOPIC", "out"), ("KAFKA__MEMORY_LIMIT_BYTES", "10_000_000")];
    let rig = Rig::new(&variables);
    let record = r#"{"category":"SignInLogs","resultType":"50126"},"#;
    let count = 6000;
    rig.produce(&[Some(format!("[{}0]", record.repeat(count)).as_bytes())]);
    rig.run(|_, metrics| {
        // More than the limit would be a queue that nobody bounds; one letter may come on top.
        let in_flight = value(metrics, "aadstream_in_flight_bytes");
        assert!(in_flight < 4_010_000, "{in_flight}");
        rig.committed() == Some(Offset::Offset(1))
    });
    let ids: std::collections::BTreeSet<_> =
        rig.read("out").iter().map(|event| event.headers["event-id"].clone()).collect();
    assert_eq!(ids, (0..count).map(|index| format!("in/0/0/{index}")).collect());
}

#[test]
fn the_middle_gives_events_away_while_it_reads() {
    let options = Options { events: Some(EventOptions::default()), ..Options::default() };
    let middle = Middle::new(Arc::new(Catalogue::embedded()), options);
    let payload = r#"{"category":"SignInLogs","resultType":"50126"}"#.repeat(10_000);
    let input = Input {
        payload: Some(payload.as_bytes()),
        framing: Framing::Message,
        timestamp_ms: None,
        source: Position { topic: "in", ..Position::default() },
    };
    let mut most = 0;
    let mut ids = Vec::new();
    let mut take = |events: &mut Vec<Event>| {
        most = most.max(events.len());
        ids.extend(events.drain(..).map(|event| event.id));
    };
    let mut digest = middle.digest_draining(&[input], &mut take);
    take(&mut digest.events);
    assert!(most <= 2048, "{most}");
    assert_eq!(ids, (0..10_000).map(|index| format!("in/0/0/{index}")).collect::<Vec<_>>());
    assert_eq!(middle.digest(&[input]).events.len(), 10_000, "whoever asks for all gets all");
}

#[test]
fn no_event_is_longer_than_64_kib() {
    // A control byte takes six in JSON; and an operator may have much to say.
    let long = "\u{1}".repeat(5000);
    let app = App { team: Some("x".repeat(60_000)), ..App::default() };
    let options = Options {
        events: Some(EventOptions::default()),
        apps: [("a".to_owned(), app)].into(),
        ..Options::default()
    };
    let middle = Middle::new(Arc::new(Catalogue::embedded()), options);
    let names = ["appDisplayName", "resourceDisplayName"];
    let mut properties: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), Value::from(long.clone()))).collect();
    properties.insert("appId".to_owned(), "a".into());
    let record = serde_json::json!({
        "category": "SignInLogs", "resultType": "50126", "properties": properties,
    });
    let payload = record.to_string();
    let input = Input {
        payload: Some(payload.as_bytes()),
        framing: Framing::Message,
        timestamp_ms: None,
        source: Position { topic: "in", ..Position::default() },
    };
    let digest = middle.digest(&[input]);
    let event = &digest.events[0];
    let whole = serde_json::to_string(event).unwrap();
    assert!(whole.len() > BODY_BYTES, "the test must be one: {}", whole.len());
    let body = event.body();
    assert!(body.len() <= BODY_BYTES, "{}", body.len());
    assert_valid(&schema(), &serde_json::from_str(&body).unwrap());
}
