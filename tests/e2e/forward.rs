//! Events and dead letters through a real Kafka: what is lost, what is doubled, what is kept.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{PROCESSED, SHUTDOWN};
use crate::messages::{batch, failure, sign_in, text};
use crate::security::{WRONG, assert_refused};
use crate::support::{Broker, Config, Message, PATIENCE, Record, Rig, Service, sum, unique, wait_until};

pub const FORWARDED: &str = "aadstream_events_forwarded_total";
const FAILURES: &str = "aadstream_forward_failures_total";

/// Two events, at the positions 1 and 3; the interrupt between them is below `min_severity`.
fn mixed() -> Message {
    batch(&[0, 50_126, 50_140, 50_053].map(|code| sign_in("SignInLogs", code)))
}

/// The id of every event that the input topic must cause, with these positions in each message.
pub fn expected(broker: &Broker, input: &str, indices: &[u32]) -> BTreeSet<String> {
    let ids = |(partition, end): (usize, i64)| {
        (0..end).flat_map(move |offset| {
            indices.iter().map(move |index| format!("{input}/{partition}/{offset}/{index}"))
        })
    };
    broker.ends(input).into_iter().enumerate().flat_map(ids).collect()
}

/// The ids in the output topic, and how many came more than once. Copies are equal to the last byte.
fn found(records: &[Record]) -> (BTreeSet<String>, u64) {
    let mut bodies: BTreeMap<&str, &Record> = BTreeMap::new();
    let mut copies = 0;
    for record in records {
        if let Some(first) = bodies.insert(record.header("event-id"), record) {
            assert_eq!((&first.payload, &first.key), (&record.payload, &record.key));
            copies += 1;
        }
    }
    (bodies.into_keys().map(str::to_owned).collect(), copies)
}

#[track_caller]
pub fn assert_all_once(broker: &Broker, expected: &BTreeSet<String>, output: &str) {
    let (ids, copies) = found(&broker.read_all(output));
    let lost: Vec<_> = expected.difference(&ids).collect();
    assert!(lost.is_empty(), "{} lost: {:?} …", lost.len(), &lost[..lost.len().min(5)]);
    let unexpected: Vec<_> = ids.difference(expected).collect();
    assert!(
        unexpected.is_empty(),
        "{} unexpected: {:?} …",
        unexpected.len(),
        &unexpected[..unexpected.len().min(5)]
    );
    assert_eq!(copies, 0, "doubled");
}

#[test]
fn every_event_is_forwarded_exactly_once_without_faults() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("forward"), unique("events"));
    broker.create_topic(&input, 3);
    broker.create_topic(&output, 3);
    broker.produce(&input, std::iter::repeat_with(mixed).take(3000));
    let mut service =
        Service::start(rig, &Config::new(&broker.plain, &input).set("forward", "topic", &output));
    let metrics = service.wait_count(FORWARDED, &[("topic", &output)], 6000);
    broker.wait_committed(&input, &input);
    assert_eq!(metrics.count("aadstream_events_total", &[]), 9000, "interrupts are counted");
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
    assert_all_once(&broker, &expected(&broker, &input, &[1, 3]), &output);
    let keys: BTreeSet<_> = broker.read_all(&output).into_iter().map(|record| record.key).collect();
    assert_eq!(keys.len(), 1, "one app, one key: {keys:?}");
}

#[test]
fn after_sigkill_no_event_is_lost() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("forwardkill"), unique("events"));
    broker.create_topic(&input, 3);
    broker.create_topic(&output, 2);
    let config = Config::new(&broker.plain, &input).set("forward", "topic", &output);
    let mut first = Service::start(rig, &config);
    let stream = broker.trickle(&input, 50, failure(50_126));
    wait_until("it has committed in the middle of the stream", PATIENCE, || {
        (sum(&broker.committed(&input, &input)) >= 1000).then_some(())
    });
    first.wait_count(FORWARDED, &[], sum(&broker.committed(&input, &input)) + 50);
    first.kill();
    stream.stop();
    let uncommitted = sum(&broker.ends(&input)) - sum(&broker.committed(&input, &input));
    assert!(uncommitted > 0, "the kill came after the end of the stream");
    let _second = Service::start(rig, &config);
    broker.wait_committed(&input, &input);

    let (ids, copies) = found(&broker.read_all(&output));
    assert_eq!(ids, expected(&broker, &input, &[0]));
    assert!(copies <= uncommitted, "{copies} copies of {uncommitted} messages that were read again");
}

#[test]
fn a_rebalance_delivers_before_it_gives_up_and_doubles_nothing() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("handover"), unique("events"));
    broker.create_topic(&input, 6);
    broker.create_topic(&output, 2);
    let config = Config::new(&broker.plain, &input).set("forward", "topic", &output);
    let assigned = |service: &Service| service.metrics().count("aadstream_assigned_partitions", &[]);
    let mut first = Service::start(rig, &config);
    let stream = broker.trickle(&input, 20, failure(50_126));
    first.wait_count(FORWARDED, &[], 200);
    let mut second = Service::start(rig, &config);
    wait_until("the two share the partitions", PATIENCE, || {
        (assigned(&first) == 3 && assigned(&second) == 3).then_some(())
    });
    second.wait_count(FORWARDED, &[], 200);
    assert_eq!(second.terminate(SHUTDOWN).0.code(), Some(0));
    first.wait_count("aadstream_assigned_partitions", &[], 6);
    stream.stop();
    broker.wait_committed(&input, &input);
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
}

#[test]
fn a_missing_output_topic_delays_no_counting_and_loses_nothing() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("missing"), unique("events"));
    broker.create_topic(&input, 2);
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 500));
    let mut service =
        Service::spawn(rig, &Config::new(&broker.plain, &input).set("forward", "topic", &output));
    service.wait_status("/-/healthy", 200);
    service.wait_count(PROCESSED, &[("topic", &input)], 500);
    service.wait_count(FAILURES, &[("reason", "unknown_topic")], 1);
    service.wait_status("/-/ready", 503);
    assert_eq!(service.status("/-/healthy"), Some(200));
    assert!(!service.complaints_about(&output).is_empty(), "the log names the topic");
    assert_eq!(sum(&broker.committed(&input, &input)), 0, "nothing is committed that was not delivered");

    broker.create_topic(&output, 2);
    broker.wait_committed(&input, &input);
    service.wait_status("/-/ready", 200);
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
}

#[test]
fn while_the_output_is_away_the_budget_holds_and_then_everything_arrives() {
    let Some(rig) = Rig::get() else { return };
    let (broker, away) = (rig.broker(), Broker::prepare(rig));
    let (input, output) = (unique("away"), unique("events"));
    away.start();
    away.create_topic(&output, 2);
    broker.create_topic(&input, 2);
    let limit = 10_000_000;
    let config = Config::new(&broker.plain, &input)
        .kafka_raw("memory_limit_bytes", &limit.to_string())
        .kafka_raw("startup_timeout_seconds", "3")
        .set("forward", "topic", &output)
        .set("forward", "brokers", &away.plain);
    let mut service = Service::start(rig, &config);
    broker.produce(&input, [failure(50_126)]);
    service.wait_count(FORWARDED, &[], 1);
    away.freeze();
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 20_000));
    service.wait_count("aadstream_paused_partitions", &[], 2);
    let metrics = service.metrics();
    let counted = metrics.count(PROCESSED, &[("topic", &input)]);
    assert!((1000..20_000).contains(&counted), "{counted} counted");
    let in_flight = metrics.count("aadstream_in_flight_bytes", &[]);
    assert!(in_flight <= limit, "{in_flight} bytes in flight");
    assert_eq!(service.status("/-/healthy"), Some(200));
    assert_eq!(sum(&broker.committed(&input, &input)), 1);

    away.thaw();
    service.wait_count(PROCESSED, &[("topic", &input)], 20_001);
    broker.wait_committed(&input, &input);
    assert_all_once(&away, &expected(&broker, &input, &[0]), &output);
    wait_until("nothing is paused", PATIENCE, || {
        (service.metrics().count("aadstream_paused_partitions", &[]) == 0).then_some(())
    });
}

#[test]
fn a_broker_that_restarts_loses_and_doubles_nothing() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (Broker::prepare(rig), unique("restart"), unique("events"));
    broker.start();
    broker.create_topic(&input, 2);
    broker.create_topic(&output, 2);
    // Long enough to keep its partitions: who loses them reads again what it had not committed.
    let config = Config::new(&broker.plain, &input)
        .option("session.timeout.ms", "45000")
        .set("forward", "topic", &output);
    let mut service = Service::start(rig, &config);
    for round in 1..=2 {
        broker.produce(&input, std::iter::repeat_n(failure(50_126), 3000));
        service.wait_count(FORWARDED, &[], round * 1000);
        broker.restart();
    }
    broker.wait_committed(&input, &input);
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
}

#[test]
fn dead_letters_wait_for_a_full_disk() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("fulldisk"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    broker.create_topic(&input, 1);
    let poison = |number: u32| Message::new(format!("{{\"n\":{number},{}", "x".repeat(30_000)));
    broker.produce(&input, [text(50_126), poison(0)]);
    let config = Config::new(&broker.plain, &input)
        .set("dead_letters", "policy", "dlq")
        .set("dead_letters", "file", path.to_str().unwrap())
        .file_limit(100_000);
    let mut service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    let length = std::fs::metadata(&path).unwrap().len();

    broker.produce(&input, (1..20).map(poison));
    service.wait_count(FAILURES, &[("reason", "file")], 1);
    service.wait_status("/-/ready", 503);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with('\n') && text.len() as u64 >= length, "no half a line");
    let kept = i64::try_from(text.lines().count()).unwrap();
    let committed = broker.committed(&input, &input)[0];
    assert!(committed <= 1 + kept, "{committed} committed, {kept} kept");

    service.lift_file_limit();
    broker.wait_committed(&input, &input);
    service.wait_status("/-/ready", 200);
    let text = std::fs::read_to_string(&path).unwrap();
    let offset =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["offset"].as_i64().unwrap();
    assert_eq!(text.lines().map(offset).collect::<Vec<_>>(), (1..21).collect::<Vec<_>>());
}

/// Killed while it writes, and while the disk is full.
#[test]
fn a_file_of_dead_letters_loses_nothing_to_kills() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("filekill"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    broker.create_topic(&input, 1);
    let stream = broker.trickle(&input, 10, Message::new(format!("{{\"n\":1,{}", "x".repeat(3000))));
    let config = Config::new(&broker.plain, &input)
        .kafka("group_instance_id", "one")
        .set("dead_letters", "policy", "dlq")
        .set("dead_letters", "file", path.to_str().unwrap());
    for letters in [1, 300, 700] {
        let mut service = Service::start(rig, &config);
        service.wait_count("aadstream_dead_letters_total", &[], letters);
        service.kill();
    }
    let full = std::fs::metadata(&path).unwrap().len() + 100_000;
    let mut service = Service::spawn(rig, &config.clone().file_limit(full));
    service.wait_status("/-/healthy", 200);
    service.wait_count(FAILURES, &[("reason", "file")], 1);
    service.kill();
    stream.stop();
    let _service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    let text = std::fs::read_to_string(&path).unwrap();
    let offset =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["offset"].as_i64().unwrap();
    let found: BTreeSet<i64> = text.lines().map(offset).collect();
    assert_eq!(found, (0..broker.ends(&input)[0]).collect(), "every one, each a line of its own");
    let (code, report) = crate::support::audit(rig, &config);
    assert_eq!(report["dead_letters"]["lost"]["count"], 0, "{report:#}");
    assert!(matches!(code, Some(0 | 7)), "{code:?}");
}

#[test]
fn sigterm_ends_in_time_when_events_cannot_be_delivered() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("undelivered"));
    broker.create_topic(&input, 1);
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 500));
    let config = Config::new(&broker.plain, &input).set("forward", "topic", &unique("never"));
    let mut service = Service::spawn(rig, &config);
    service.wait_status("/-/healthy", 200);
    service.wait_count(PROCESSED, &[("topic", &input)], 500);
    let (status, took) = service.terminate(SHUTDOWN);
    assert_eq!(status.code(), Some(0), "after {took:?}");
    assert_eq!(sum(&broker.committed(&input, &input)), 0);
}

#[test]
fn a_wrong_password_for_the_output_ends_it() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("outputpassword"));
    broker.create_topic(&input, 1);
    let config = Config::new(&broker.plain, &input)
        .set("forward", "topic", &unique("events"))
        .set("forward", "brokers", &broker.listener("SASL"))
        .set("forward.options", "security.protocol", "sasl_plaintext")
        .set("forward.options", "sasl.mechanism", "SCRAM-SHA-512")
        .set("forward.options", "sasl.username", "aadstream")
        .set_raw("forward.options", "sasl.password", r#"{ env = "E2E_PASSWORD" }"#)
        .env("E2E_PASSWORD", WRONG)
        .kafka_raw("startup_timeout_seconds", "10")
        .option("debug", "all")
        .set("log", "level", "trace");
    assert_refused(Service::spawn(rig, &config), "refused the user or the password");
}

/// A failure whose event hardly compresses: each control byte of its names takes six of JSON.
pub fn long_names(seed: u32) -> Message {
    let mut state = u64::from(seed) * 2 + 1;
    let mut name = || -> String {
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(u8::try_from(state >> 33 & 31).expect("five bits"))
        };
        (0..1000).map(letter).collect()
    };
    let mut record = sign_in("ServicePrincipalSignInLogs", 7_000_222);
    for key in ["appDisplayName", "resourceDisplayName"] {
        record["properties"][key] = json!(name());
    }
    batch(&[record])
}

#[test]
fn an_event_that_the_topic_refuses_is_a_dead_letter_and_its_neighbours_are_none() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("refused"));
    let (output, dead) = (unique("events"), unique("dead"));
    broker.create_topic(&input, 1);
    // A batch of a hundred events is over this limit too, and none of them is.
    broker.create_topic_with(&output, 1, &[("max.message.bytes", "5000")]);
    broker.create_topic(&dead, 1);
    let refused = |number: u32| number % 50 == 7;
    broker.produce(&input, (0..200).map(|n| if refused(n) { long_names(n) } else { failure(50_126) }));
    let config = Config::new(&broker.plain, &input).set("forward", "topic", &output).set(
        "dead_letters",
        "topic",
        &dead,
    );
    let mut service = Service::start(rig, &config);
    let metrics = service.wait_count("aadstream_dead_letters_total", &[("reason", "undeliverable")], 4);
    broker.wait_committed(&input, &input);
    assert_eq!(metrics.count("aadstream_dead_letters_total", &[]), 4);

    let letters = broker.read_all(&dead);
    let (of_dead, _) = found(&letters);
    let all = expected(&broker, &input, &[0]);
    let is_refused = |id: &&String| refused(id.split('/').nth(2).unwrap().parse().unwrap());
    let (big, small): (BTreeSet<_>, BTreeSet<_>) = all.iter().partition(is_refused);
    assert_eq!(of_dead.iter().collect::<BTreeSet<_>>(), big);
    for letter in &letters {
        assert_eq!((letter.header("reason"), letter.header("topic")), ("undeliverable", input.as_str()));
        let event: serde_json::Value = serde_json::from_slice(letter.payload.as_ref().unwrap()).unwrap();
        assert_eq!(event["id"], letter.header("event-id"));
    }
    let (ids, copies) = found(&broker.read_all(&output));
    assert_eq!((ids.iter().collect::<BTreeSet<_>>(), copies), (small, 0));
}

#[test]
fn without_a_place_for_it_a_refused_event_halts_its_partition() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("halted"), unique("events"));
    broker.create_topic(&input, 2);
    broker.create_topic_with(&output, 1, &[("max.message.bytes", "5000")]);
    let to = |partition, message: Message| message.in_partition(partition);
    broker.produce(&input, [to(0, failure(50_126)), to(0, long_names(1)), to(0, failure(50_126))]);
    let mut service =
        Service::start(rig, &Config::new(&broker.plain, &input).set("forward", "topic", &output));
    service.wait_status("/-/ready", 503);
    service.wait_count("aadstream_paused_partitions", &[], 1);
    // The other partition goes on.
    broker.produce(&input, std::iter::repeat_n(to(1, failure(50_126)), 50));
    wait_until("what can be committed is", PATIENCE, || {
        (broker.committed(&input, &input) == [1, 50]).then_some(())
    });
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
    assert_eq!(broker.committed(&input, &input), [1, 50]);
}

#[test]
fn poison_is_kept_with_its_bytes() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, dead) = (rig.broker(), unique("poisoned"), unique("dead"));
    broker.create_topic(&input, 1);
    broker.create_topic(&dead, 1);
    let huge = vec![b'{'; 17 << 20]; // one MiB above [input] max_message_bytes
    let poison: Vec<(&str, Option<Vec<u8>>)> = vec![
        ("invalid_json", Some(br#"{"records":[{"category":"SignInLogs""#.to_vec())),
        ("null_payload", None),
        ("empty", Some(Vec::new())),
        ("unknown_shape", Some(b"42".to_vec())),
        ("too_deep", Some(format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000)).into_bytes())),
        ("too_large", Some(huge)),
        ("bad_compression", Some(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03not deflate at all".to_vec())),
        ("invalid_utf8", Some(b"{\"category\":\"SignInLogs\",\"identity\":\"\xc3\x28\"}".to_vec())),
    ];
    for (_, payload) in &poison {
        broker.produce(&input, [Message { payload: payload.clone(), ..Message::default() }, text(50_126)]);
    }
    let config = Config::new(&broker.plain, &input).set("dead_letters", "policy", "dlq").set(
        "dead_letters",
        "topic",
        &dead,
    );
    let service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    let metrics = service.metrics();
    let letters = broker.read_all(&dead);
    assert_eq!(letters.len(), poison.len());
    for ((reason, payload), offset) in poison.iter().zip((0..).step_by(2)) {
        let letter = letters.iter().find(|letter| letter.header("reason") == *reason).expect(reason);
        assert_eq!(letter.header("offset"), offset.to_string(), "{reason}");
        assert!(
            letter.payload.as_deref().unwrap_or_default() == payload.as_deref().unwrap_or_default(),
            "{reason}"
        );
        assert_eq!(metrics.count("aadstream_dead_letters_total", &[("reason", reason)]), 1);
    }
    assert_eq!(metrics.count("aadstream_dead_letters_skipped_total", &[]), 0);
}

#[test]
fn a_dead_letter_over_the_limit_is_its_hash() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, dead) = (rig.broker(), unique("overlong"), unique("dead"));
    broker.create_topic(&input, 1);
    broker.create_topic_with(&dead, 1, &[("max.message.bytes", "2000")]);
    let noise: Vec<u8> =
        (0..30_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
    broker.produce(&input, [Message::new("42"), Message::new(noise), Message::new("43")]);
    let config = Config::new(&broker.plain, &input).set("dead_letters", "policy", "dlq").set(
        "dead_letters",
        "topic",
        &dead,
    );
    let _service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    let mut letters = broker.read_all(&dead);
    letters.sort_by_key(|letter| letter.header("offset").to_owned());
    assert_eq!(letters.len(), 3);
    assert_eq!(letters[0].payload.as_deref(), Some(&b"42"[..]));
    assert_eq!((letters[1].header("bytes"), letters[1].header("sha256").len()), ("30000", 64));
    assert_eq!(letters[1].payload, None);
    assert_eq!(letters[2].payload.as_deref(), Some(&b"43"[..]));
}
