//! A panic in the middle costs the message, or in a file the record, that it came from. Only with the feature
//! `failpoints`, which plants one; `tests/run` runs it in the release profile.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aadstream::catalogue::Catalogue;
use aadstream::digest::{Framing, Input, Middle, Options, Position};
use aadstream::terms::Reason;
use rdkafka::Message as _;
use rdkafka::message::Headers as _;

use crate::canaries::{assert_silent, messages};
use crate::running::Running;

const GOOD: &str = r#"{"category":"SignInLogs","resultType":"50126"}"#;
const POISON: &str = r#"{"category":"SignInLogs","resultType":"50126","x":"aadstream-failpoint-panic"}"#;

fn input<'a>(payload: &'a str, framing: Framing<'a>) -> Input<'a> {
    Input { payload: Some(payload.as_bytes()), framing, timestamp_ms: None, source: Position::default() }
}

#[test]
fn a_panic_costs_one_message_of_a_batch() {
    let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
    let batch = [GOOD, POISON, GOOD].map(|payload| input(payload, Framing::Message));
    let tally = middle.digest(&batch).tally;
    let events: u64 = tally.events.values().map(|seen| seen.count).sum();
    assert_eq!((tally.messages, events), (3, 2));
    assert_eq!(tally.rejected_messages[Reason::Internal as usize], 1);
}

#[test]
fn a_panic_costs_one_record_of_a_file() {
    let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
    let lines = format!("{GOOD}\n{POISON}\n{GOOD}\n");
    let tally = middle.digest(&[input(&lines, Framing::Lines)]).tally;
    let events: u64 = tally.events.values().map(|seen| seen.count).sum();
    assert_eq!((tally.messages, events), (3, 2));
    assert_eq!(tally.rejected_messages[Reason::Internal as usize], 1);
}

#[test]
fn a_panic_shows_its_place_and_nothing_of_the_record() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aadstream"))
        .args(["scan", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<Vec<u8>> = poisoned().collect();
    child.stdin.take().unwrap().write_all(&lines.join(&b'\n')).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_told(&String::from_utf8(output.stderr).unwrap());
    assert_silent("the table", &String::from_utf8(output.stdout).unwrap());
}

#[test]
fn a_panic_of_the_service_shows_its_place_and_nothing_of_the_record() {
    let more = "[log]\nlevel = \"trace\"\n[dead_letters]\npolicy = \"dlq\"\ntopic = \"dead\"";
    let running = Running::start(more, &[]);
    let messages: Vec<Vec<u8>> = poisoned().collect();
    let count = messages.len();
    running.produce(messages);
    running.wait("all are rejected", |it| {
        let rejected = it.sum("aadstream_messages_rejected_total{topic=\"signin\",reason=\"internal\"}");
        (rejected == count as f64 && it.sum("aadstream_dead_letters_total{") == rejected).then_some(())
    });
    assert_silent("/metrics", &running.get("/metrics"));
    for letter in running.messages("dead", count) {
        let headers = letter.headers().unwrap();
        let reason = headers.iter().find(|header| header.key == "reason").unwrap();
        assert_eq!(reason.value, Some(&b"internal"[..]));
    }
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0));
    assert_told(&log);
}

/// Records of people, one a line, that make the middle panic.
fn poisoned() -> impl Iterator<Item = Vec<u8>> {
    let good = |bytes: &[u8]| bytes.starts_with(b"{") && !bytes.contains(&b'\n');
    let sign_ins = messages().into_iter().map(|(_, bytes)| bytes).filter(move |bytes| good(bytes));
    sign_ins.map(|bytes| [&br#"{"x":"aadstream-failpoint-panic","#[..], &bytes[1..]].concat())
}

#[track_caller]
fn assert_told(log: &str) {
    assert!(log.contains("a bug: the program panicked") && log.contains("src/digest.rs:"), "{log}");
    assert!(!log.contains("aadstream-failpoint-panic") && !log.contains("SignInLogs"), "{log}");
    assert_silent("the log", log);
}
