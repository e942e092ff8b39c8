//! `deploy/examples/consume_events.py` reads what the service forwards: each event once, across restarts and copies.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::messages::{batch, sign_in};
use crate::support::{Broker, Config, PATIENCE, Record, Rig, Service, signal, told, unique, wait_until};

/// The example, run until it has committed everything; what it prints.
fn consume(broker: &Broker, topic: &str, group: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let file = File::create(&output).unwrap();
    let mut child: Child = Command::new(told("AADSTREAM_E2E_PYTHON"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/consume_events.py"))
        .args(["--brokers", &broker.plain, "--topic", topic, "--group", group])
        .stdin(Stdio::null())
        .stderr(file.try_clone().unwrap())
        .stdout(file)
        .spawn()
        .unwrap();
    let printed = || fs::read_to_string(&output).unwrap();
    wait_until("the example commits what it has read", PATIENCE, || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended: {}", printed());
        (broker.committed(group, topic) == broker.ends(topic)).then_some(())
    });
    signal(child.id(), "TERM");
    let status = wait_until("the example ends", PATIENCE, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", printed());
    printed()
}

/// The lines of an event: what it is, whose, and what to do.
fn lines(event: &Record) -> String {
    let event: Value = serde_json::from_slice(event.payload.as_ref().unwrap()).unwrap();
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let head = ["time", "severity", "audience", "code", "title", "app_id"].map(text);
    let [time, severity, whose, code, title, app] = head;
    let mut lines = format!("{time} {severity:8} for {whose}: {code} {title} ({app})\n");
    for (at, step) in event["fix"].as_array().unwrap().iter().enumerate() {
        writeln!(lines, "    {}. {}", at + 1, step.as_str().unwrap()).unwrap();
    }
    lines
}

#[test]
fn the_example_of_a_consumer_handles_every_event_once() {
    let Some(rig) = Rig::get() else { return };
    let (broker, input, output) = (rig.broker(), unique("example"), unique("events"));
    broker.create_topic(&input, 1);
    broker.create_topic(&output, 1);
    let codes = [("ServicePrincipalSignInLogs", 7_000_222), ("SignInLogs", 50_126), ("SignInLogs", 50_140)];
    let records = codes.map(|(category, code)| sign_in(category, code));
    broker.produce(&input, std::iter::repeat_n(batch(&records), 5));
    let config = Config::new(&broker.plain, &input).set("forward", "topic", &output).set(
        "forward",
        "min_severity",
        "info",
    );
    let service = Service::start(rig, &config);
    broker.wait_committed(&input, &input);
    assert_eq!(service.terminate(crate::SHUTDOWN).0.code(), Some(0));
    let events = broker.read_all(&output);
    assert_eq!(events.len(), 15);
    let (urgent, others): (Vec<Record>, Vec<Record>) =
        events.into_iter().partition(|event| ["critical", "high"].contains(&event.header("severity")));
    assert_eq!((urgent.len(), others.len()), (5, 10), "the secret has expired; a password was mistyped");

    // Copies, as after a crash; and what a later version might write, with members that nobody knows yet.
    urgent.iter().for_each(|event| broker.copy(&output, event));
    let later = |id: &str| {
        let mut event: Value = serde_json::from_slice(urgent[0].payload.as_ref().unwrap()).unwrap();
        event["schema"] = json!(2);
        event["later"] = json!({"members": ["that", "nobody", "knows"]});
        let mut headers = urgent[0].headers.clone();
        headers.insert("event-id".to_owned(), id.to_owned());
        headers.insert("later".to_owned(), "?".to_owned());
        Record { key: None, payload: Some(event.to_string().into_bytes()), headers }
    };
    broker.copy(&output, &later("later/0/0/0"));
    let printed = consume(&broker, &output, &output);
    let expected: String = urgent.iter().map(lines).collect();
    assert_eq!(printed, expected + &lines(&urgent[0]));

    // Started again it goes on where it ended.
    broker.copy(&output, &later("later/0/1/0"));
    assert_eq!(consume(&broker, &output, &output), lines(&urgent[0]));
}
