//! A consumer that hangs, or whose password changes, is followed by another one; nothing is lost, and what was committed
//! does not come again.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::forward::{FORWARDED, assert_all_once, expected};
use crate::messages::failure;
use crate::once::REBUILDS as PRODUCERS;
use crate::proxy::Proxy;
use crate::security::WRONG;
use crate::support::{Broker, Config, PATIENCE, Rig, Service, sum, unique, wait_until};
use crate::{EVENTS, PROCESSED};

const REBUILDS: &str = "aadstream_consumer_rebuilds_total";

/// The broker swallows what fetching connections ask for, and closes none: the client waits for its answers for a minute.
#[test]
fn a_broker_that_swallows_bytes_is_read_on_within_two_periods() {
    read_on(|config| config);
}

/// The next consumer has the name of the one that hangs, which never left the group.
#[test]
fn a_static_member_is_read_on_by_its_namesake() {
    read_on(|config| config.kafka("group_instance_id", "one"));
}

fn read_on(prepare: impl Fn(Config) -> Config) {
    const PERIOD: Duration = Duration::from_secs(8);
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("swallow"));
    broker.create_topic(&topic, 4);
    let proxy = Proxy::start(&broker.plain);
    let config = Config::new(&proxy.addresses(), &topic)
        .kafka_raw("stall_timeout_seconds", &PERIOD.as_secs().to_string());
    let mut service = Service::start(rig, &prepare(config));
    let stream = broker.trickle(&topic, 20, failure(50_126));
    service.wait_count(PROCESSED, &[("topic", &topic)], 1000);

    proxy.silence_fetches(0);
    let since = Instant::now();
    let read = wait_until("it reads on", PATIENCE, || {
        let metrics = service.metrics();
        let is_new = metrics.count(REBUILDS, &[("reason", "stalled")]) > 0;
        (is_new && metrics.count("aadstream_stalled_partitions", &[]) == 0).then(|| since.elapsed())
    });
    assert!(read < 2 * PERIOD, "after {read:?}");
    assert!(proxy.swallowed() > 0, "the proxy swallowed something");
    stream.stop();

    let all = sum(&broker.ends(&topic));
    service.wait_count(PROCESSED, &[("topic", &topic)], all);
    broker.wait_committed(&topic, &topic);
    let metrics = service.metrics();
    assert_eq!(metrics.count(EVENTS, &[("code", "AADSTS50126")]), all, "each once");
    assert_eq!(metrics.count(REBUILDS, &[]), 1);
    assert!(!service.complaints_about("stands still and has more to read").is_empty());
    service.wait_status("/-/ready", 200);
}

/// The broker stands still and answers nobody, then goes on: an outage.
#[test]
fn a_frozen_broker_is_no_stall() {
    const PERIOD: Duration = Duration::from_secs(3);
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (Broker::prepare(rig), unique("icy"));
    broker.start();
    broker.create_topic(&topic, 2);
    let config = Config::new(&broker.plain, &topic)
        .option("session.timeout.ms", "45000")
        .kafka_raw("stall_timeout_seconds", &PERIOD.as_secs().to_string());
    let mut service = Service::start(rig, &config);
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 100));
    service.wait_count(PROCESSED, &[("topic", &topic)], 100);
    broker.freeze();
    let since = Instant::now();
    wait_until("three periods pass", PATIENCE, || (since.elapsed() > 3 * PERIOD).then_some(()));
    broker.thaw();
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 100));
    let metrics = service.wait_count(PROCESSED, &[("topic", &topic)], 200);
    assert_eq!(metrics.count(REBUILDS, &[]), 0, "{}", service.log());
}

/// What logs in with a password in this file.
fn with_password(config: Config, table: &str, path: &Path) -> Config {
    let path = path.display().to_string();
    config
        .set(table, "security.protocol", "sasl_plaintext")
        .set(table, "sasl.mechanism", "SCRAM-SHA-512")
        .set(table, "sasl.username", "aadstream")
        .set_raw(table, "sasl.password", &format!("{{ file = {path:?} }}"))
        .kafka_raw("startup_timeout_seconds", "60")
}

#[test]
fn a_password_of_the_output_that_is_put_right_lets_events_out() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic, output) = (rig.broker(), unique("rotatedout"), unique("events"));
    broker.create_topic(&topic, 1);
    broker.create_topic(&output, 1);
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 10));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, WRONG).unwrap();
    let config = Config::new(&broker.plain, &topic).set("forward", "topic", &output).set(
        "forward",
        "brokers",
        &broker.listener("SASL"),
    );
    let mut service = Service::spawn(rig, &with_password(config, "forward.options", &path));
    wait_until("it is refused", PATIENCE, || {
        (!service.complaints_about("refused the user or the password").is_empty()).then_some(())
    });
    fs::write(&path, "right-password").unwrap();
    let metrics = service.wait_count(FORWARDED, &[], 10);
    assert_eq!(metrics.count(PRODUCERS, &[("reason", "files")]), 1);
    assert_eq!(metrics.count(REBUILDS, &[]), 0, "the consumer logs in elsewhere");
    broker.wait_committed(&topic, &topic);

    // What is on its way while the password changes arrives too.
    let stream = broker.trickle(&topic, 20, failure(50_126));
    service.wait_count(FORWARDED, &[], 100);
    fs::write(&path, "right-password\n").unwrap();
    service.wait_count(PRODUCERS, &[("reason", "files")], 2);
    let sent = service.metrics().count(FORWARDED, &[]);
    service.wait_count(FORWARDED, &[], sent + 100);
    stream.stop();
    broker.wait_committed(&topic, &topic);
    assert_all_once(&broker, &expected(&broker, &topic, &[0]), &output);
}

#[test]
fn with_exactly_once_a_password_changes_between_transactions() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic, output) = (rig.broker(), unique("rotatedonce"), unique("events"));
    broker.create_topic(&topic, 2);
    broker.create_topic(&output, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "right-password").unwrap();
    let config = Config::new(&broker.listener("SASL"), &topic).set("forward", "topic", &output).set(
        "forward",
        "delivery",
        "exactly_once",
    );
    let mut service = Service::start(rig, &with_password(config, "kafka.options", &path));
    let stream = broker.trickle(&topic, 20, failure(50_126));
    service.wait_count(FORWARDED, &[], 100);
    fs::write(&path, WRONG).unwrap();
    service.wait_count(PRODUCERS, &[("reason", "files")], 1);
    service.wait_status("/-/ready", 503);
    fs::write(&path, "right-password\n").unwrap();
    service.wait_count(PRODUCERS, &[("reason", "files")], 2);
    let sent = service.metrics().count(FORWARDED, &[]);
    service.wait_count(FORWARDED, &[], sent + 100);
    service.wait_status("/-/ready", 200);
    stream.stop();
    broker.wait_committed(&topic, &topic);
    assert_all_once(&broker, &expected(&broker, &topic, &[0]), &output);
}

#[test]
fn a_password_that_is_put_right_lets_it_in() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("rotated"));
    broker.create_topic(&topic, 1);
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 10));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, WRONG).unwrap();
    let config = with_password(Config::new(&broker.listener("SASL"), &topic), "kafka.options", &path);
    let mut service = Service::spawn(rig, &config);
    wait_until("it is refused", PATIENCE, || {
        (!service.complaints_about("refused the user or the password").is_empty()).then_some(())
    });
    fs::write(&path, "right-password\n").unwrap();
    let metrics = service.wait_count(PROCESSED, &[("topic", &topic)], 10);
    assert_eq!(metrics.count(REBUILDS, &[("reason", "files")]), 1);
    service.wait_status("/-/ready", 200);

    // A wrong one later is no reason to end: it was in already. The next right one lets it in again.
    fs::write(&path, WRONG).unwrap();
    service.wait_count(REBUILDS, &[("reason", "files")], 2);
    service.wait_status("/-/ready", 503);
    broker.produce(&topic, std::iter::repeat_n(failure(50_126), 10));
    fs::write(&path, "right-password").unwrap();
    let metrics = service.wait_count(PROCESSED, &[("topic", &topic)], 20);
    assert_eq!(metrics.count(EVENTS, &[("code", "AADSTS50126")]), 20, "each once");
}
