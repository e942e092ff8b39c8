//! End to end: messages in a real Apache Kafka, the released binary, a real Prometheus; what comes out equals the truth.
//!
//! `tests/run` starts the servers and runs this; without them every test passes and one line on stderr says so.
//! Each test has topics and groups of its own and they run side by side; a test that harms its broker starts one.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test program")]

mod audit;
#[allow(dead_code, reason = "each of two test programs uses a part of it")]
#[path = "../it/canaries.rs"]
mod canaries;
mod chaos;
mod clock;
mod consumer;
mod forward;
mod messages;
mod oauth;
mod once;
mod privacy;
#[allow(dead_code, reason = "each of two test programs uses a part of it")]
mod proxy;
mod security;
mod soak;
mod support;
mod watch;

use std::time::Duration;

use messages::{activity_run, batch, failure, refresh, sign_in, text};
use support::{
    Broker, Config, Message, PATIENCE, Prometheus, Rig, Service, free_port, now_ms, sum, unique, wait_until,
};

const PROCESSED: &str = "aadstream_messages_processed_total";
const EVENTS: &str = "aadstream_events_total";
/// `[kafka] shutdown_timeout_seconds` by default, and the second that ending a process may take.
const SHUTDOWN: Duration = Duration::from_secs(16);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

// ---------------------------------------------------------------------------------------------------------------
// Counting

/// Every shape once; the events it must raise as code, flow, how many.
const TRUTH: &[(&str, &str, u64)] = &[
    ("AADSTS7000222", "service_principal", 2),
    ("AADSTS50126", "interactive", 3),
    ("AADSTS50076", "interactive", 1),
    ("AADSTS53003", "non_interactive", 1),
    ("AADSTS50173", "refresh", 1),
    ("AADSTS7000215", "pipeline", 1),
    ("AADSTS700016", "text", 1),
];

fn one_of_every_shape() -> Vec<Message> {
    let mut spaced = batch(&[sign_in("SignInLogs", 50_126), sign_in("SignInLogs", 0)]);
    spaced.payload = spaced.payload.map(|json| {
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        serde_json::to_vec_pretty(&value).unwrap()
    });
    let lines = format!("{}\n{}\n", sign_in("SignInLogs", 50_126), sign_in("SignInLogs", 50_076));
    let array = format!("[{},{}]", sign_in("SignInLogs", 50_126), sign_in("SignInLogs", 0));
    vec![
        batch(&[
            sign_in("ServicePrincipalSignInLogs", 7_000_222),
            sign_in("ServicePrincipalSignInLogs", 7_000_222),
        ]),
        spaced,
        Message::new(lines),
        Message::new(array),
        Message::new(sign_in("NonInteractiveUserSignInLogs", 53_003).to_string()),
        refresh(50_173),
        batch(&[activity_run(7_000_215)]),
        text(700_016),
    ]
}

#[test]
fn prometheus_answers_the_truth() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("truth"));
    broker.create_topic(&topic, 3);
    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic));
    let prometheus = Prometheus::start(rig, service.address());

    // The series of the catalogue are there at 0 before the first event: that is what lets increase() see it.
    let series = |code: &str, flow: &str| format!(r#"{EVENTS}{{code="{code}",flow="{flow}"}}"#);
    wait_until("Prometheus has seen every series at 0", PATIENCE, || {
        TRUTH
            .iter()
            .all(|(code, flow, _)| prometheus.value(&series(code, flow), now_ms()) == Some(0.0))
            .then_some(())
    });
    let zero_ms = now_ms();
    // increase() looks only at samples inside its window, so one zero must be in it.
    wait_until("Prometheus has scraped once more", PATIENCE, || {
        let any = series(TRUTH[0].0, TRUTH[0].1);
        prometheus.value(&format!("timestamp({any})"), now_ms()).filter(|at| at * 1000.0 > zero_ms as f64)
    });

    let rounds = 10;
    let batches = one_of_every_shape();
    for round in 1..=rounds {
        broker.produce(&topic, batches_anew(round, &batches));
        service.wait_count(PROCESSED, &[("topic", &topic)], round * batches.len() as u64);
    }
    let metrics = service.metrics();
    for (code, flow, count) in TRUTH {
        assert_eq!(metrics.count(EVENTS, &[("code", code), ("flow", flow)]), count * rounds, "{code} {flow}");
    }
    let all: u64 = TRUTH.iter().map(|(_, _, count)| count * rounds).sum();
    assert_eq!(metrics.count(EVENTS, &[]), all, "an event that nothing caused");

    // A window from the last zero to now, long enough that one scrape is a small share of it.
    let counted = |code: &str, flow: &str, count: u64| {
        prometheus.value(&series(code, flow), now_ms()) == Some((count * rounds) as f64)
    };
    wait_until("Prometheus has scraped the last count", PATIENCE, || {
        let settled = TRUTH.iter().all(|&(code, flow, count)| counted(code, flow, count));
        (settled && now_ms() - zero_ms >= 12_000).then_some(())
    });
    let at_ms = now_ms();
    let window_ms = at_ms - zero_ms;
    for &(code, flow, count) in TRUTH {
        let (x, truth) = (series(code, flow), (count * rounds) as f64);
        let difference = prometheus.value(&format!("{x} - {x} offset {window_ms}ms"), at_ms);
        assert_eq!(difference, Some(truth), "{code} {flow}: x - x offset w");
        let increase = prometheus.value(&format!("increase({x}[{window_ms}ms])"), at_ms).unwrap();
        let share = Prometheus::INTERVAL.as_secs_f64() / ((window_ms as f64) / 1000.0);
        // Prometheus extrapolates by at most 1.1 intervals at the open end.
        let most = truth * 1.2 * share / (1.0 - share);
        assert!(
            (increase - truth).abs() <= most,
            "{code} {flow}: increase() is {increase}, truth {truth} ± {most}"
        );
    }
}

/// The refreshes of a later round are other refreshes: the same one again would rightly count once.
fn batches_anew(round: u64, first: &[Message]) -> Vec<Message> {
    if round == 1 { first.to_vec() } else { one_of_every_shape() }
}

#[test]
fn every_rule_is_explained_to_prometheus() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("explained"));
    broker.create_topic(&topic, 1);
    let service = Service::start(rig, &Config::new(&broker.plain, &topic));
    let prometheus = Prometheus::start(rig, service.address());
    wait_until("Prometheus has scraped", PATIENCE, || {
        prometheus.value("count(aadstream_rule_info)", now_ms())
    });
    let query = |expression: &str| prometheus.value(expression, now_ms());
    assert_eq!(
        query("max(count by (code) (aadstream_rule_info))"),
        Some(1.0),
        "one row a code, else joins fail"
    );
    assert_eq!(
        query(&format!("count(count by (code) ({EVENTS}) unless on (code) aadstream_rule_info)")),
        None
    );
    assert_eq!(query(r#"count(aadstream_rule_info{title=""} or aadstream_rule_info{fix=""})"#), None);
}

#[test]
fn every_codec_is_read() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("codec"));
    broker.create_topic(&topic, 2);
    let codecs = [("none", 50_126), ("gzip", 50_053), ("snappy", 50_057), ("lz4", 50_055), ("zstd", 50_034)];
    for (codec, code) in codecs {
        broker.produce_as(codec, &topic, std::iter::repeat_n(failure(code), 200));
    }
    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic));
    let metrics = service.wait_count(PROCESSED, &[("topic", &topic)], 1000);
    for (codec, code) in codecs {
        assert_eq!(metrics.count(EVENTS, &[("code", &format!("AADSTS{code}"))]), 200, "{codec}");
    }
}

#[test]
fn poison_takes_no_neighbour_along() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("poison"));
    broker.create_topic(&topic, 1);
    let bytes = |bytes: &[u8]| Message::new(bytes.to_vec());
    let huge = {
        let mut json = br#"{"records":[{"x":""#.to_vec();
        json.resize(17 << 20, b'a'); // one MiB above [input] max_message_bytes
        json.extend_from_slice(br#"AADSTS50020: far behind"}]}"#);
        Message::new(json)
    };
    let deep = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let poison = [
        (
            "invalid_json",
            bytes(br#"{"records":[{"category":"SignInLogs","resultDescription":"AADSTS50011: cut"#),
        ),
        (
            "invalid_utf8",
            bytes(b"{\"category\":\"SignInLogs\",\"resultType\":\"0\",\"identity\":\"\xc3\x28\"}"),
        ),
        ("null_payload", Message::default()),
        ("empty", bytes(b"")),
        ("unknown_shape", bytes(b"42")),
        ("too_deep", Message::new(deep)),
        ("too_large", huge),
        ("bad_compression", bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03not deflate at all")),
    ];
    let good = poison.len() as u64 + 1;
    let mut stream = vec![failure(50_126)];
    for (_, message) in &poison {
        stream.extend([message.clone(), failure(50_126)]);
    }
    broker.produce(&topic, stream);

    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic));
    let on_topic = [("topic", topic.as_str())];
    let metrics = service.wait_count(PROCESSED, &on_topic, good);
    assert_eq!(metrics.count(EVENTS, &[("code", "AADSTS50126")]), good, "every good neighbour counts");
    broker.wait_committed(&topic, &topic);

    let metrics = service.metrics();
    let rejected = |labels: &[(&str, &str)]| metrics.count("aadstream_messages_rejected_total", labels);
    for (reason, _) in &poison {
        assert_eq!(rejected(&[("topic", &topic), ("reason", reason)]), 1, "{reason}");
    }
    assert_eq!(rejected(&on_topic), poison.len() as u64);
    let consumed = metrics.count("aadstream_messages_consumed_total", &on_topic);
    assert_eq!(consumed, metrics.count(PROCESSED, &on_topic) + rejected(&on_topic), "conservation");
    // What rejected bytes spell is still seen.
    assert_eq!(metrics.count(EVENTS, &[("code", "AADSTS50011"), ("flow", "text")]), 1);
    assert_eq!(metrics.count(EVENTS, &[("code", "AADSTS50020"), ("flow", "text")]), 1);
}

// ---------------------------------------------------------------------------------------------------------------
// Nothing is lost

#[test]
fn after_sigkill_every_uncommitted_message_is_read_again() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("sigkill"));
    broker.create_topic(&topic, 4);
    let config = Config::new(&broker.plain, &topic);
    let on_topic = [("topic", topic.as_str())];
    let mut first = Service::start(rig, &config);
    let stream = broker.trickle(&topic, 50, failure(50_126));

    // While it reads: what the broker holds as committed was processed before.
    wait_until("it has committed in the middle of the stream", PATIENCE, || {
        let committed = sum(&broker.committed(&topic, &topic));
        let processed = first.metrics().count(PROCESSED, &on_topic);
        assert!(committed <= processed, "{committed} committed, only {processed} processed");
        (committed >= 1000).then_some(())
    });
    first.wait_count(PROCESSED, &on_topic, sum(&broker.committed(&topic, &topic)) + 50);
    let processed = first.metrics().count(PROCESSED, &on_topic);
    first.kill();
    stream.stop();

    let committed = broker.committed(&topic, &topic);
    let ends = broker.ends(&topic);
    let rest: u64 = sum(&ends) - sum(&committed);
    assert!(rest > 0, "the kill came after the end of the stream");

    let mut second = Service::start(rig, &config);
    second.wait_count(PROCESSED, &on_topic, rest);
    broker.wait_committed(&topic, &topic);
    let again = second.metrics().count(PROCESSED, &on_topic);
    assert_eq!(again, rest, "from the committed offsets to the ends, each once");
    assert!(processed + again >= sum(&ends), "the union of what both processed is everything");
}

/// Commits are counted when the broker has answered, and what is committed is not committed again.
#[test]
fn commits_are_counted_and_end_when_all_is_committed() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("commits"));
    broker.create_topic(&topic, 2);
    broker.produce(&topic, (0..100).map(|n| batch(&[sign_in("SignInLogs", 50_126)]).in_partition(n % 2)));
    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic));
    service.wait_count(PROCESSED, &[("topic", &topic)], 100);
    wait_until("both partitions have a commit", PATIENCE, || {
        let metrics = service.metrics();
        let has = |partition| {
            metrics.has(
                "aadstream_last_commit_timestamp_seconds",
                &[("topic", &topic), ("partition", partition)],
            )
        };
        (has("0") && has("1")).then_some(())
    });
    broker.wait_committed(&topic, &topic);
    // The poll loop commits once a second: after one turn the last answer was heard, after two more nothing was left.
    let turns = |turns: u64| {
        let started = std::time::Instant::now();
        let time = Duration::from_millis(1250 * turns);
        wait_until("time for commits", PATIENCE, || (started.elapsed() > time).then_some(()));
    };
    turns(1);
    let commits = service.metrics().count("aadstream_commits_total", &[]);
    assert!(commits > 0);
    turns(2);
    let metrics = service.metrics();
    assert_eq!(metrics.count("aadstream_commits_total", &[]), commits, "nothing new was committed again");
    assert_eq!(metrics.count("aadstream_commit_failures_total", &[]), 0);
}

#[test]
fn sigterm_commits_everything_and_exits_0() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("sigterm"));
    broker.create_topic(&topic, 3);
    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic));
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 3000));
    service.wait_count(PROCESSED, &[("topic", &topic)], 3000);
    let (status, took) = service.terminate(SHUTDOWN);
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "a clean shutdown with a broker that answers took {took:?}");
    assert_eq!(broker.committed(&topic, &topic), broker.ends(&topic));
}

#[test]
fn sigterm_ends_in_time_when_the_broker_is_frozen() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (Broker::prepare(rig), unique("frozen"));
    broker.start();
    broker.create_topic(&topic, 3);
    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic));
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 100));
    service.wait_count(PROCESSED, &[("topic", &topic)], 100);
    broker.freeze();
    assert_eq!(service.status("/-/healthy"), Some(200), "an outage of the broker alone never fails liveness");
    let (status, took) = service.terminate(SHUTDOWN);
    assert_eq!(status.code(), Some(0), "after {took:?}");
}

#[test]
fn sigterm_ends_in_time_when_the_broker_is_gone() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (Broker::prepare(rig), unique("gone"));
    broker.start();
    broker.create_topic(&topic, 3);
    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic));
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 100));
    service.wait_count(PROCESSED, &[("topic", &topic)], 100);
    drop(broker);
    assert_eq!(service.status("/-/healthy"), Some(200), "an outage of the broker alone never fails liveness");
    let (status, took) = service.terminate(SHUTDOWN);
    assert_eq!(status.code(), Some(0), "after {took:?}");
}

#[test]
fn offsets_lost_to_retention_are_counted() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("retention"));
    broker.create_topic(&topic, 1);
    let config = Config::new(&broker.plain, &topic);
    let on_topic = [("topic", topic.as_str())];
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 10));
    let mut service = Service::start(rig, &config);
    service.wait_count(PROCESSED, &on_topic, 10);
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));

    // 10 are committed; of the next 30 the broker forgets 15.
    broker.produce(&topic, std::iter::repeat_n(failure(50_053), 30));
    broker.delete_records_before(&topic, 0, 25);
    let mut service = Service::start(rig, &config);
    service.wait_count("aadstream_messages_lost_total", &on_topic, 15);
    let metrics = service.wait_count(PROCESSED, &on_topic, 15);
    assert_eq!(metrics.count(PROCESSED, &on_topic), 15);
    assert_eq!(metrics.count("aadstream_messages_lost_total", &on_topic), 15);
    broker.wait_committed(&topic, &topic);
}

// ---------------------------------------------------------------------------------------------------------------
// Groups

#[test]
fn a_rebalance_loses_nothing() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("rebalance"));
    broker.create_topic(&topic, 6);
    let config = Config::new(&broker.plain, &topic);
    let on_topic = [("topic", topic.as_str())];
    let assigned = |service: &Service| service.metrics().count("aadstream_assigned_partitions", &[]);
    let mut first = Service::start(rig, &config);
    first.wait_count("aadstream_assigned_partitions", &[], 6);
    let stream = broker.trickle(&topic, 20, failure(50_126));
    first.wait_count(PROCESSED, &on_topic, 200);

    let mut second = Service::start(rig, &config);
    wait_until("the two share the partitions", PATIENCE, || {
        (assigned(&first) == 3 && assigned(&second) == 3).then_some(())
    });
    second.wait_count(PROCESSED, &on_topic, 200);
    stream.stop();
    broker.wait_committed(&topic, &topic);
    let processed = |service: &Service| service.metrics().count(PROCESSED, &on_topic);
    let (all, both) = (sum(&broker.ends(&topic)), processed(&first) + processed(&second));
    assert!(both >= all, "joining: {} messages were processed by nobody", all - both);

    // The second leaves under load and the first takes over. What the second counted after its last scrape is out of
    // sight, so what came in that moment bounds the difference.
    let stream = broker.trickle(&topic, 20, failure(50_126));
    second.wait_count(PROCESSED, &on_topic, processed(&second) + 200);
    let (seen_of_first, seen_of_second) = (processed(&first), processed(&second));
    assert_eq!(second.terminate(SHUTDOWN).0.code(), Some(0));
    let out_of_sight = sum(&broker.ends(&topic)) - seen_of_first - seen_of_second;
    first.wait_count("aadstream_assigned_partitions", &[], 6);
    stream.stop();
    broker.wait_committed(&topic, &topic);
    let (all, both) = (sum(&broker.ends(&topic)), processed(&first) + seen_of_second);
    assert!(
        both + out_of_sight >= all,
        "leaving: {} messages were processed by nobody",
        all - both - out_of_sight
    );
}

#[test]
fn a_static_member_returns_without_a_rebalance() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("static"));
    broker.create_topic(&topic, 4);
    let config = |id: &str| {
        Config::new(&broker.plain, &topic)
            .kafka("group_instance_id", id)
            .option("session.timeout.ms", "20000")
    };
    let on_topic = [("topic", topic.as_str())];
    let (first, mut second) = (Service::start(rig, &config("a")), Service::start(rig, &config("b")));
    let assigned = |service: &Service| service.metrics().count("aadstream_assigned_partitions", &[]);
    wait_until("the two share the partitions", PATIENCE, || {
        (assigned(&first) == 2 && assigned(&second) == 2).then_some(())
    });
    let rebalances = second.metrics().count("aadstream_rebalances_total", &[]);

    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 400));
    broker.wait_committed(&topic, &topic);
    assert_eq!(first.terminate(SHUTDOWN).0.code(), Some(0));
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 400));
    let mut first = Service::start(rig, &config("a"));
    broker.wait_committed(&topic, &topic);
    first.wait_count("aadstream_assigned_partitions", &[], 2);
    assert_eq!(assigned(&second), 2);
    assert_eq!(
        second.metrics().count("aadstream_rebalances_total", &[]),
        rebalances,
        "its peer's restart moved it"
    );
    second.wait_count(PROCESSED, &on_topic, 1);
}

// ---------------------------------------------------------------------------------------------------------------
// Where reading starts

/// Five messages of the day before yesterday, ten of two hours ago, twenty of half an hour ago, forty of now.
fn produce_history(broker: &Broker, topic: &str, now: i64) {
    let past = [(2 * DAY_MS, 5), (2 * 3_600_000, 10), (30 * 60_000, 20), (0, 40)];
    for (age, count) in past {
        broker.produce(topic, std::iter::repeat_n(text(50_126).at(now - age).in_partition(0), count));
    }
}

fn processed_from(start: &str, expected: u64) {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("start"));
    broker.create_topic(&topic, 1);
    produce_history(&broker, &topic, now_ms());
    let mut service = Service::start(rig, &Config::new(&broker.plain, &topic).kafka("start", start));
    broker.produce(&topic, [text(50_053)]);
    service.wait_count(EVENTS, &[("code", "AADSTS50053")], 1); // the last one: everything before it has been read
    assert_eq!(service.metrics().count(PROCESSED, &[("topic", &topic)]), expected + 1, "start = {start}");
}

#[test]
fn start_earliest_reads_everything() {
    processed_from("earliest", 75);
}

#[test]
fn start_latest_reads_what_comes() {
    processed_from("latest", 0);
}

#[test]
fn start_an_hour_ago_reads_the_last_hour() {
    processed_from("-1h", 60);
}

#[test]
fn start_at_a_time_reads_from_that_time() {
    let yesterday = jiff::Timestamp::from_millisecond(now_ms() - DAY_MS).unwrap();
    processed_from(&yesterday.to_string(), 70);
}

#[test]
fn start_holds_only_where_the_group_has_no_offset() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("resume"));
    broker.create_topic(&topic, 1);
    let config = Config::new(&broker.plain, &topic);
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 10));
    let mut service = Service::start(rig, &config);
    service.wait_count(PROCESSED, &[("topic", &topic)], 10);
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 7));
    let mut service = Service::start(rig, &config.kafka("start", "latest"));
    broker.wait_committed(&topic, &topic);
    let metrics = service.wait_count(PROCESSED, &[("topic", &topic)], 7);
    assert_eq!(metrics.count(PROCESSED, &[("topic", &topic)]), 7);
}

// ---------------------------------------------------------------------------------------------------------------
// Waiting and refusing

#[test]
fn an_unknown_topic_is_waited_for() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("unknown"));
    let mut service = Service::spawn(rig, &Config::new(&broker.plain, &topic));
    assert_waiting(&mut service, &topic);
    broker.create_topic(&topic, 2);
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 20));
    service.wait_count(PROCESSED, &[("topic", &topic)], 20);
    service.wait_status("/-/ready", 200);
}

#[test]
fn a_broker_that_is_not_there_is_waited_for() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (Broker::prepare(rig), unique("nobroker"));
    let mut service = Service::spawn(rig, &Config::new(&broker.plain, &topic));
    assert_waiting(&mut service, &broker.plain);
    broker.start();
    broker.create_topic(&topic, 2);
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 20));
    service.wait_count(PROCESSED, &[("topic", &topic)], 20);
    service.wait_status("/-/ready", 200);
}

#[test]
fn sigterm_ends_a_service_that_never_found_its_broker() {
    let Some(rig) = Rig::get() else { return };
    let address = format!("127.0.0.1:{}", free_port());
    let mut service = Service::spawn(rig, &Config::new(&address, &unique("never")));
    assert_waiting(&mut service, &address);
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
}

/// Alive, not ready, and one line that names what is missing: not one a second.
fn assert_waiting(service: &mut Service, missing: &str) {
    service.wait_status("/-/healthy", 200);
    let first = wait_until("a line names what is missing", PATIENCE, || {
        (!service.complaints_about(missing).is_empty()).then(now_ms)
    });
    wait_until("three seconds more have passed", PATIENCE, || (now_ms() - first > 3000).then_some(()));
    let complaints = service.complaints_about(missing);
    assert_eq!(complaints.len(), 1, "one line, then at a limited rate: {complaints:#?}");
    assert_eq!(service.status("/-/ready"), Some(503));
    assert_eq!(service.status("/-/healthy"), Some(200));
}
