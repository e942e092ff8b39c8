//! `aadstream audit` against the real Kafka: equal where all is well, and every planted difference is found.

use serde_json::Value;

use super::SHUTDOWN;
use crate::forward::FORWARDED;
use crate::messages::{failure, refresh};
use crate::support::{Config, Message, PATIENCE, Rig, Service, audit, sum, unique, wait_until};

#[track_caller]
fn check(side: &Value, [expected, lost, doubled, unexpected]: [u64; 4]) {
    let counts = ["lost", "doubled", "unexpected"].map(|key| side[key]["count"].as_u64().unwrap());
    assert_eq!((side["expected"].as_u64(), counts), (Some(expected), [lost, doubled, unexpected]), "{side}");
}

#[test]
fn a_planted_loss_copy_and_stranger_are_found() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("audited"));
    let (output, dead) = (unique("events"), unique("dead"));
    for topic in [&input, &output, &dead] {
        broker.create_topic(topic, 1);
    }
    // A history that is polled twice tells a refresh twice; one event comes of it.
    let history = refresh(50_173);
    let poison = || Message::new("{\"records\":[");
    broker.produce(&input, std::iter::repeat_n(failure(50_126), 40));
    broker.produce(&input, [history.clone(), poison(), history, failure(50_140)]);
    let config = Config::new(&broker.plain, &input)
        .set("forward", "topic", &output)
        .set("dead_letters", "policy", "dlq")
        .set("dead_letters", "topic", &dead);
    let service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));
    let (code, report) = audit(rig, &config);
    assert_eq!((code, &report["equal"]), (Some(0), &Value::Bool(true)), "{report:#}");
    // The broken piece spells no code; the interrupt is below `min_severity`.
    check(&report["events"], [41, 0, 0, 0]);
    check(&report["dead_letters"], [1, 0, 0, 0]);

    broker.plant(&output, &format!("{input}/0/7/0"));
    broker.plant(&output, &format!("{input}/0/7/1"));
    broker.plant(&output, "elsewhere/0/7/0");
    broker.delete_records_before(&output, 0, 3);
    let (code, report) = audit(rig, &config);
    assert_eq!(code, Some(7), "{report:#}");
    check(&report["events"], [41, 3, 1, 2]);
    assert_eq!(report["events"]["doubled"]["first"][0], format!("{input}/0/7/0"));
    let elsewhere = report["events"]["unexpected"]["first"][1].as_str().unwrap();
    assert_eq!(elsewhere, format!("{output}/0/43, of a topic that is not read"));
    assert_eq!(report["events"]["copies"], 1, "{report:#}");
    check(&report["dead_letters"], [1, 0, 0, 0]);

    // Nobody can tell what should have come of messages that are gone.
    broker.delete_records_before(&input, 0, 10);
    let (code, report) = audit(rig, &config);
    assert_eq!((code, report["input"][0]["deleted_before"].as_i64()), (Some(7), Some(10)), "{report:#}");
    check(&report["events"], [31, 0, 0, 1]);
    assert_eq!(report["events"]["outside"], 9, "{report:#}");
}

#[test]
fn at_least_once_a_kill_doubles_some_and_loses_none() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("auditkill"), unique("events"));
    broker.create_topic(&input, 3);
    broker.create_topic(&output, 2);
    let config =
        Config::new(&broker.plain, &input).set("forward", "topic", &output).kafka("group_instance_id", "one");
    let stream = broker.trickle(&input, 40, failure(50_126));
    let mut committed = 0;
    for _ in 0..2 {
        let mut service = Service::start(rig, &config);
        wait_until("it has committed", PATIENCE, || {
            (sum(&broker.committed(&input, &input)) >= committed + 500).then_some(())
        });
        service.wait_count(FORWARDED, &[], 700);
        service.kill();
        committed = sum(&broker.committed(&input, &input));
    }
    stream.stop();
    let _service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    let (code, report) = audit(rig, &config);
    let all = sum(&broker.ends(&input));
    let doubled = report["events"]["doubled"]["count"].as_u64().unwrap();
    check(&report["events"], [all, 0, doubled, 0]);
    assert_eq!(code, Some(if doubled > 0 { 7 } else { 0 }), "{report:#}");
    let count = |member: &str| report["events"][member].as_u64().unwrap();
    assert!(count("copies") >= doubled);
    assert_eq!(count("found"), all + count("copies"), "{report:#}");
}
