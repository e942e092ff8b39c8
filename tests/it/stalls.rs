//! Partitions that stand still although there is more in them are read on by another consumer; those that rest are left alone.

use std::time::{Duration, Instant};

use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;

use crate::proxy::Proxy;
use crate::running::{Running, TOPIC};

/// The shortest period that the configuration takes.
const SHORTEST: Duration = Duration::from_secs(3);

const REBUILDS: &str = "aadstream_consumer_rebuilds_total{reason=\"stalled\"}";
const STALLED: &str = "aadstream_stalled_partitions ";
const PROCESSED: &str = "aadstream_messages_processed_total{";
const EVENTS: &str = "aadstream_events_total{code=\"AADSTS50126\"";

fn failure() -> Vec<u8> {
    br#"{"category":"SignInLogs","resultType":"50126"}"#.to_vec()
}

/// A partition for each of three brokers; the first one coordinates the group.
fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic(TOPIC, 3, 1).unwrap();
    for number in 0..3 {
        cluster.partition_leader(TOPIC, number, Some(number + 1)).unwrap();
    }
    cluster.coordinator(MockCoordinator::Group("aadstream".to_owned()), 1).unwrap();
    cluster
}

/// The service behind a proxy, with this period of its watchdog.
fn start(period: Duration, more: &str) -> (Running, Proxy) {
    let cluster = cluster();
    let proxy = Proxy::start(&cluster.bootstrap_servers());
    let seconds = period.as_secs().to_string();
    let variables = [
        ("AADSTREAM_KAFKA__STALL_TIMEOUT_SECONDS", seconds.as_str()),
        // After an outage the client is back before the watchdog could wonder.
        ("AADSTREAM_KAFKA__OPTIONS__RECONNECT_BACKOFF_MAX_MS", "200"),
        ("AADSTREAM_KAFKA__OPTIONS__SESSION_TIMEOUT_MS", "6000"),
    ];
    let running = Running::start_at(cluster, &proxy.addresses(), more, &variables);
    (running, proxy)
}

/// So many messages to each of the three partitions.
fn produce(running: &Running, each: usize) {
    running.produce_to((0..3).flat_map(|number| (0..each).map(move |_| (Some(number), failure()))));
}

fn wait_for(running: &Running, time: Duration) {
    let since = Instant::now();
    running.wait("time passes", |_| (since.elapsed() >= time).then_some(()));
}

#[test]
fn a_broker_that_falls_silent_is_noticed_and_nothing_is_lost_or_doubled() {
    let period = Duration::from_secs(10);
    let (running, proxy) = start(period, "");
    produce(&running, 100);
    running.wait_read(300);
    proxy.silence(2);
    // What is on its way through is read still; from here on the silent broker holds messages back.
    let since = Instant::now();
    let mut sent = 300;
    running.wait("the silent broker's messages are read again", |it| {
        produce(it, 1);
        sent += 3;
        (it.sum(REBUILDS) == 1.0 && it.sum(STALLED) == 0.0).then_some(())
    });
    let took = since.elapsed();
    assert!(took < 2 * period, "recovered after {took:?}");
    assert!(proxy.swallowed() > 0, "the proxy swallowed something");
    running.wait_read(sent);
    let line = running.logged("partition stands still and has more to read", 0);
    assert!(line.contains("WARN") && line.contains("partition=2"), "{line}");
    running.wait("it is ready again", |it| it.get("/-/ready").starts_with("HTTP/1.1 200").then_some(()));
    assert_eq!(running.sum(EVENTS), sent as f64, "as many as were sent: what was read had been committed");
    assert_eq!(running.sum(REBUILDS), 1.0);
    assert_eq!(running.terminate().0.code(), Some(0));
}

#[test]
fn the_coordinator_itself_may_fall_silent() {
    let (running, proxy) = start(SHORTEST, "");
    produce(&running, 100);
    running.wait_read(300);
    proxy.silence(0);
    produce(&running, 100);
    running.wait("everything is read", |it| (it.sum(PROCESSED) >= 600.0).then_some(()));
    running.wait("it is ready again", |it| it.get("/-/ready").starts_with("HTTP/1.1 200").then_some(()));
    assert!(running.sum(EVENTS) <= 600.0 + 300.0, "repeated is at most what was not committed");
    assert_eq!(running.terminate().0.code(), Some(0));
}

#[test]
fn idle_topics_and_outages_are_no_stalls() {
    let period = SHORTEST;
    let (running, proxy) = start(period, "");
    produce(&running, 10);
    running.wait_read(30);
    wait_for(&running, 2 * period);
    proxy.shut();
    produce(&running, 10);
    wait_for(&running, 2 * period);
    assert_eq!(running.sum(PROCESSED), 30.0, "nothing comes through");
    proxy.open();
    running.wait_read(60);
    assert_eq!([REBUILDS, STALLED].map(|name| running.sum(name)), [0.0, 0.0]);
    assert!(!running.log().contains("stands still"), "{}", running.log());
}

#[test]
fn halted_partitions_are_no_stalls_and_show_their_lag() {
    let period = SHORTEST;
    let (running, _proxy) = start(period, "[dead_letters]\npolicy = \"halt\"\n");
    running.produce_to([(Some(0), b"{\"broken".to_vec())]);
    running.wait("it is halted", |it| it.get("/-/ready").contains("is halted at offset 0").then_some(()));
    produce(&running, 10);
    running.wait("the lag of the halted partition is known", |it| {
        let lag = it.sum("aadstream_consumer_lag_messages{topic=\"signin\",partition=\"0\"}");
        (lag >= 10.0).then_some(())
    });
    wait_for(&running, 2 * period);
    assert_eq!([REBUILDS, STALLED].map(|name| running.sum(name)), [0.0, 0.0]);
}

/// Events that nobody takes use up the memory limit.
#[test]
fn partitions_that_wait_for_memory_are_no_stalls() {
    let period = SHORTEST;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("[forward]\ntopic = \"events\"\nbrokers = \"{}\"\n", nobody.local_addr().unwrap());
    let cluster = cluster();
    let proxy = Proxy::start(&cluster.bootstrap_servers());
    let variables = [
        ("AADSTREAM_KAFKA__STALL_TIMEOUT_SECONDS", "3"),
        ("AADSTREAM_KAFKA__MEMORY_LIMIT_BYTES", "10_000_000"),
    ];
    let running = Running::start_at(cluster, &proxy.addresses(), &more, &variables);
    let paused = |it: &Running| it.sum("aadstream_paused_partitions ") == 3.0;
    running.wait("partitions are paused", |it| {
        produce(it, 500);
        paused(it).then_some(())
    });
    wait_for(&running, 2 * period);
    assert!(paused(&running));
    assert_eq!([REBUILDS, STALLED].map(|name| running.sum(name)), [0.0, 0.0]);
}
