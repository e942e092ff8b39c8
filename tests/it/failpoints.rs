//! A panic in the middle costs the message, or in a file the record, that it came from. Only with the feature
//! `failpoints`, which plants one; `tests/run` runs it in the release profile.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aadstream::catalogue::Catalogue;
use aadstream::digest::{Framing, Input, Middle, Options, Position};
use aadstream::terms::Reason;

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
    child.stdin.take().unwrap().write_all(format!("{GOOD}\n{POISON}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("aadstream: a bug: the program panicked at src/digest.rs:"), "{log}");
    assert!(!log.contains("aadstream-failpoint-panic") && !log.contains("SignInLogs"), "{log}");
    assert_eq!(output.status.code(), Some(0));
}
