//! Law 9 in front of a real Kafka: canaries in every shape and spelling go in; events, audits, pages and logs name nobody.

use std::collections::BTreeSet;
use std::fs;

use crate::canaries::{KEY, assert_silent, messages};
use crate::forward::FORWARDED;
use crate::support::{Config, Message, PATIENCE, Record, Rig, Service, audit_as, get, unique, wait_until};

/// What is ours in a dead letter.
const OURS: [&str; 5] = ["reason", "topic", "partition", "offset", "index"];

fn shown(record: &Record) -> String {
    let text =
        |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
    format!("{}\n{:?}\n{}", text(&record.key), record.headers, text(&record.payload))
}

#[test]
fn nobody_is_named_by_anything_that_leaves() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input) = (rig.broker(), unique("canaries"));
    let (output, dead) = (unique("events"), unique("dead"));
    for topic in [&input, &output, &dead] {
        broker.create_topic(topic, 1);
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, KEY).unwrap();
    broker.produce(&input, messages().into_iter().map(|(_, bytes)| Message::new(bytes)));
    let config = Config::new(&broker.plain, &input)
        .option("debug", "all")
        .set("log", "level", "trace")
        .set("forward", "topic", &output)
        .set("forward", "min_severity", "info")
        .set("dead_letters", "policy", "dlq")
        .set("dead_letters", "topic", &dead)
        .set("privacy", "pseudonym_key_file", key.to_str().unwrap())
        .set_raw("privacy", "forward_ids", "false");
    let service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    wait_until("events are acknowledged", PATIENCE, || {
        let metrics = service.metrics();
        (metrics.count(FORWARDED, &[]) == metrics.count("aadstream_events_total", &[])).then_some(())
    });
    for path in ["/", "/metrics", "/-/ready", "/-/healthy", "/?q=c4nary", "/c4nary"] {
        assert_silent(path, &get(service.address(), path).unwrap().body);
    }
    let log = service.log_file();
    assert_eq!(service.terminate(crate::SHUTDOWN).0.code(), Some(0));
    assert_silent("the log", &fs::read_to_string(log).unwrap());

    let events = broker.read_all(&output);
    assert!(events.len() > 80 && events.iter().any(|event| shown(event).contains("\"principal\":\"p-")));
    events.iter().for_each(|event| assert_silent("an event", &shown(event)));
    let letters = broker.read_all(&dead);
    let reasons: BTreeSet<&str> = letters.iter().map(|letter| letter.header("reason")).collect();
    assert!(reasons.contains("invalid_json") && reasons.contains("invalid_utf8"), "{reasons:?}");
    for letter in &letters {
        assert!(letter.headers.keys().all(|name| OURS.contains(&name.as_str())), "{:?}", letter.headers);
        assert_silent("a dead letter's headers", &format!("{:?}", letter.headers));
    }

    assert_eq!(audit_as(rig, &config, "json").0, Some(0));
    let id = events[0].header("event-id");
    for id in [id, "c4nary/0/0/0", "c4nary-upn@contoso.example/0/0/0", "203.0.113.199"] {
        broker.plant(&output, id);
    }
    broker.delete_records_before(&output, 0, 3);
    for format in ["text", "json"] {
        let (code, report) = audit_as(rig, &config, format);
        assert_eq!(code, Some(7), "{report}");
        assert!(report.contains("of a topic that is not read"), "{report}");
        assert_silent("an audit", &report);
    }
}
