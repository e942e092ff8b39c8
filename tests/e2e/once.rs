//! Exactly once: whatever happens to a process, a reader of what is committed sees every event once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::SHUTDOWN;
use crate::forward::{FORWARDED, assert_all_once, expected, long_names};
use crate::messages::failure;
use crate::proxy::Proxy;
use crate::support::{Broker, Config, Message, PATIENCE, Rig, Service, audit, sum, unique, wait_until};

pub const REBUILDS: &str = "aadstream_producer_rebuilds_total";
const LETTERS: &str = "aadstream_dead_letters_total";
/// Many more letters than a producer delivers one by one within a second.
const SLOW: usize = 10_000;
/// Long enough for what a test waits for, short enough that it can wait for the brokers to give a transaction up.
const TRANSACTION_TIMEOUT_MS: &str = "10000";

fn once(broker: &Broker, input: &str, output: &str) -> Config {
    Config::new(&broker.plain, input)
        .set("forward", "topic", output)
        .set("forward", "delivery", "exactly_once")
        .set("forward.options", "transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
}

/// A static member: its next process takes over its partitions and its transactions at once.
fn named(broker: &Broker, input: &str, output: &str) -> Config {
    once(broker, input, output).kafka("group_instance_id", "one")
}

fn assert_letters_once(broker: &Broker, dead: &str, count: usize) {
    let letters = broker.read_all(dead);
    let places: BTreeSet<_> =
        letters.iter().map(|letter| ["partition", "offset"].map(|key| letter.header(key))).collect();
    assert_eq!((letters.len(), places.len()), (count, count), "dead letters, and how many different ones");
}

#[test]
fn killed_again_and_again_it_loses_and_doubles_nothing() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("oncekill"));
    let (output, dead) = (unique("events"), unique("dead"));
    broker.create_topic(&input, 3);
    broker.create_topic(&output, 2);
    broker.create_topic(&dead, 1);
    let config = named(&broker, &input, &output).set("dead_letters", "policy", "dlq").set(
        "dead_letters",
        "topic",
        &dead,
    );
    let stream = broker.trickle(&input, 40, failure(50_126));
    // In the middle of the first transaction, at its end, and in later ones.
    for forwarded in [1, 300, 1500, 2500, 4000, 777] {
        let mut service = Service::start(rig, &config);
        service.wait_count(FORWARDED, &[], forwarded);
        service.kill();
    }
    let poison = |partition| Message::new("{\"records\":[").in_partition(partition);
    broker.produce(&input, (0..3).map(poison));
    stream.stop();
    let service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
    let mut all = expected(&broker, &input, &[0]);
    for letter in broker.read_all(&dead) {
        let id = format!("{input}/{}/{}/0", letter.header("partition"), letter.header("offset"));
        assert!(all.remove(&id), "{id}");
    }
    assert_all_once(&broker, &all, &output);
    assert_letters_once(&broker, &dead, 3);
    let (code, report) = audit(rig, &config);
    assert_eq!(
        (code, report["events"]["expected"].as_u64()),
        (Some(0), Some(all.len() as u64)),
        "{report:#}"
    );
    assert_eq!(report["dead_letters"]["found"], 3, "{report:#}");
}

#[test]
fn members_without_a_name_come_and_go_and_nothing_is_doubled() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("oncemembers"), unique("events"));
    broker.create_topic(&input, 6);
    broker.create_topic(&output, 2);
    let config = once(&broker, &input, &output);
    let assigned = |service: &Service| service.metrics().count("aadstream_assigned_partitions", &[]);
    let mut first = Service::start(rig, &config);
    let stream = broker.trickle(&input, 20, failure(50_126));
    first.wait_count(FORWARDED, &[], 500);
    let second = Service::start(rig, &config);
    wait_until("the two share the partitions", PATIENCE, || {
        (assigned(&first) == 3 && assigned(&second) == 3).then_some(())
    });
    let mut third = Service::start(rig, &config);
    wait_until("the three share the partitions", PATIENCE, || {
        (assigned(&first) == 2 && assigned(&second) == 2 && assigned(&third) == 2).then_some(())
    });
    third.wait_count(FORWARDED, &[], 200);
    assert_eq!(second.terminate(SHUTDOWN).0.code(), Some(0));
    third.wait_count("aadstream_assigned_partitions", &[], 3);
    third.wait_count(FORWARDED, &[], 1000);
    third.kill();
    first.wait_count("aadstream_assigned_partitions", &[], 6);
    stream.stop();
    broker.wait_committed(&input, &input);
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
}

#[test]
fn whoever_takes_over_its_name_fences_it() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("fenced"), unique("events"));
    broker.create_topic(&input, 1);
    broker.create_topic(&output, 1);
    let mut zombie = Service::start(rig, &named(&broker, &input, &output));
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 100));
    broker.wait_committed(&input, &input);
    zombie.wait_count(FORWARDED, &[], 100);
    let id = format!("aadstream/{input}/one");
    broker.take_over_transactions(&id);
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 100));
    let log = zombie.log_file();
    assert_eq!(zombie.wait_exit(PATIENCE).0.code(), Some(1));
    let log = std::fs::read_to_string(log).unwrap();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("another process took over its transactions") && last.contains(&id), "{log}");
    assert_eq!((broker.committed(&input, &input), broker.read_all(&output).len()), (vec![100], 100));

    let _heir = Service::start(rig, &named(&broker, &input, &output));
    broker.wait_committed(&input, &input);
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
}

#[test]
fn a_letter_that_is_refused_takes_its_transaction_along_and_no_event_is_lost() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("oncerefused"));
    let (output, dead) = (unique("events"), unique("dead"));
    broker.create_topic(&input, 1);
    // A batch of a hundred events is over this limit too, and none of them is.
    broker.create_topic_with(&output, 1, &[("max.message.bytes", "5000")]);
    broker.create_topic(&dead, 1);
    let refused = |number: u32| number % 50 == 7;
    broker.produce(&input, (0..200).map(|n| if refused(n) { long_names(n) } else { failure(50_126) }));
    let config = named(&broker, &input, &output).set("dead_letters", "topic", &dead);
    let mut service = Service::start(rig, &config);
    service.wait_count(LETTERS, &[("reason", "undeliverable")], 4);
    broker.wait_committed(&input, &input);
    let (big, small): (BTreeSet<_>, BTreeSet<_>) = expected(&broker, &input, &[0])
        .into_iter()
        .partition(|id| refused(id.split('/').nth(2).unwrap().parse().unwrap()));
    assert_all_once(&broker, &small, &output);
    assert_all_once(&broker, &big, &dead);
}

/// One letter a request: far more letters wait than can arrive before their transaction is given up.
#[test]
fn an_output_too_slow_for_its_transactions_gets_smaller_ones() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("onceslow"), unique("events"));
    broker.create_topic(&input, 2);
    broker.create_topic(&output, 1);
    broker.produce(&input, std::iter::repeat_n(failure(50_126), SLOW));
    let config = named(&broker, &input, &output).set("forward.options", "batch.num.messages", "1").set(
        "forward.options",
        "transaction.timeout.ms",
        "1500",
    );
    let service = Service::start(rig, &config);
    // Beside other tests it is slow indeed.
    broker.wait_committed_for(&input, &input, 3 * PATIENCE);
    let metrics = service.metrics();
    assert!(metrics.count("aadstream_commit_failures_total", &[]) > 0, "it was too slow");
    assert!(metrics.count("aadstream_forward_failures_total", &[("reason", "timed_out")]) > 0);
    assert!(
        !service.complaints_about("no acknowledgement came within 0.75 s").is_empty(),
        "{}",
        service.log()
    );
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
}

#[test]
fn a_halt_commits_what_stands_in_front_of_it() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("oncehalt"), unique("events"));
    broker.create_topic(&input, 2);
    broker.create_topic(&output, 1);
    let to = |partition, message: Message| message.in_partition(partition);
    let before = std::iter::repeat_n(to(0, failure(50_126)), 20);
    let behind = std::iter::repeat_n(to(0, failure(50_126)), 20);
    let config = named(&broker, &input, &output).set("dead_letters.policies", "unknown_shape", "halt");
    let mut service = Service::start(rig, &config);
    broker.produce(&input, before.chain([to(0, Message::new("42"))]).chain(behind));
    service.wait_status("/-/ready", 503);
    service.wait_count("aadstream_paused_partitions", &[], 1);
    broker.produce(&input, std::iter::repeat_n(to(1, failure(50_126)), 50));
    wait_until("what can be committed is", PATIENCE, || {
        (broker.committed(&input, &input) == [20, 50]).then_some(())
    });
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
    assert_eq!(broker.committed(&input, &input), [20, 50]);
    let is_behind = |id: &String| {
        let mut place = id.split('/').skip(1).map(|number| number.parse::<u32>().unwrap());
        place.next() == Some(0) && place.next() >= Some(20)
    };
    let mut all = expected(&broker, &input, &[0]);
    all.retain(|id| !is_behind(id));
    assert_all_once(&broker, &all, &output);
}

#[test]
fn a_broker_that_restarts_and_a_topic_that_is_missing_double_nothing() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (Broker::prepare(rig), unique("oncerestart"), unique("events"));
    broker.start();
    broker.create_topic(&input, 2);
    // The brokers' own time for a transaction is longer than their restart.
    let config = once(&broker, &input, &output).option("session.timeout.ms", "45000").set(
        "forward.options",
        "transaction.timeout.ms",
        "60000",
    );
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 500));
    let mut service = Service::spawn(rig, &config);
    service.wait_status("/-/healthy", 200);
    service.wait_count("aadstream_forward_failures_total", &[("reason", "unknown_topic")], 1);
    assert_eq!(sum(&broker.committed(&input, &input)), 0);
    broker.create_topic(&output, 2);
    broker.wait_committed(&input, &input);

    for round in 1..=2 {
        broker.produce(&input, std::iter::repeat_n(failure(50_126), 3000));
        service.wait_count(FORWARDED, &[], 500 + round * 1000);
        broker.restart();
    }
    broker.wait_committed(&input, &input);
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
}

/// Cuts the connection in the middle of a transaction, until the brokers have given it up.
#[test]
fn an_outage_longer_than_a_transaction_may_last_is_survived() {
    let Some(rig) = Rig::get() else { return };
    for prepare in [once, named] {
        let (broker, input, output) = (rig.broker(), unique("onceoutage"), unique("events"));
        broker.create_topic(&input, 2);
        broker.create_topic(&output, 2);
        let proxy = Proxy::start(&broker.plain);
        let config = prepare(&broker, &input, &output).kafka("brokers", &proxy.addresses()).set(
            "forward.options",
            "transaction.timeout.ms",
            "3000",
        );
        let stream = broker.trickle(&input, 20, failure(50_126));
        let mut service = Service::start(rig, &config);
        service.wait_count(FORWARDED, &[], 200);
        wait_until("a transaction is cut off", PATIENCE, || {
            proxy.shut();
            let is_open = broker.hides_some(&output)?;
            if !is_open {
                proxy.open();
            }
            is_open.then_some(())
        });
        wait_until("the brokers give it up", PATIENCE, || (!broker.hides_some(&output)?).then_some(()));
        proxy.open();
        service.wait_count(REBUILDS, &[("reason", "failed")], 1);
        assert!(!service.complaints_about("the producer failed; it is built anew").is_empty());
        stream.stop();
        broker.wait_committed(&input, &input);
        assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
        assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
    }
}

#[test]
fn a_timeout_that_the_brokers_do_not_allow_is_named() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("oncelong"), unique("events"));
    broker.create_topic(&input, 1);
    broker.create_topic(&output, 1);
    let config = once(&broker, &input, &output).set("forward.options", "transaction.timeout.ms", "2000000");
    let service = Service::spawn(rig, &config);
    let log = service.log_file();
    assert_eq!(service.wait_exit(PATIENCE).0.code(), Some(1));
    let log = std::fs::read_to_string(log).unwrap();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("transaction.timeout.ms of 2000000") && !last.contains("start it again"), "{log}");
}

/// The brokers commit, their answer is lost, and the producer is fenced before it can ask again.
#[test]
fn a_commit_that_nobody_heard_of_is_not_repeated() {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("oncedoubt"), unique("events"));
    broker.create_topic(&input, 2);
    broker.create_topic(&output, 2);
    let proxy = Proxy::start(&broker.plain);
    let config = named(&broker, &input, &output).kafka("brokers", &proxy.addresses()).set(
        "forward.options",
        "transaction.timeout.ms",
        &TIMEOUT.as_millis().to_string(),
    );
    let mut service = Service::start(rig, &config);
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 300));
    broker.wait_committed(&input, &input);
    proxy.silence_ends(0);
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 300));
    broker.wait_committed(&input, &input);
    let committed = Instant::now();
    broker.take_over_transactions(&format!("aadstream/{input}/one"));
    wait_until("a transaction could have been given up", PATIENCE, || {
        (committed.elapsed() > TIMEOUT).then_some(())
    });
    proxy.shut();
    proxy.open();
    service.wait_count(REBUILDS, &[("reason", "failed")], 1);
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 300));
    broker.wait_committed(&input, &input);
    assert_all_once(&broker, &expected(&broker, &input, &[0]), &output);
    service.wait_count(FORWARDED, &[], 900);
}
