//! Every message of `tests/golden/messages.jsonl` gives the codes and the outcome that it should, as a file and as
//! a Kafka message.

use std::sync::Arc;

use aadstream::catalogue::Catalogue;
use aadstream::code::Code;
use aadstream::digest::frame::EnvelopeIds;
use aadstream::digest::{Admission, Digest, Framing, Input, Middle, Options, Position};
use aadstream::terms::Outcome;
use serde_json::Value;

fn digest(middle: &Middle, payload: &[u8], framing: Framing<'_>) -> Digest {
    let input = Input {
        payload: Some(payload),
        framing,
        timestamp_ms: None,
        ids: EnvelopeIds::default(),
        source: Position::default(),
    };
    let mut digest = middle.digest(&[input]);
    digest.admit(middle, |_| Admission::New);
    digest
}

/// What is wrong with the digest of one message, in words.
fn faults(digest: &Digest, expected: &Value) -> Vec<String> {
    let tally = &digest.tally;
    let mut found: Vec<u64> = tally
        .mentions
        .keys()
        .filter_map(|code| match code {
            Code::Aadsts(number) => Some(u64::from(*number)),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    let mut wanted: Vec<u64> =
        expected["expect_codes"].as_array().unwrap().iter().map(|code| code.as_u64().unwrap()).collect();
    wanted.sort_unstable();
    let outcome =
        |outcome: Outcome| tally.records.iter().map(|records| records[outcome as usize]).sum::<u64>();
    let events: u64 = tally.events.values().map(|seen| seen.count).sum();
    let rejected: u64 = tally.rejected_messages.iter().sum();
    let word = expected["expect_outcome"].as_str().unwrap();
    let has_outcome = match word {
        "event" => events > 0,
        "none" => events == 0,
        "rejected" => rejected == 1,
        word => outcome(Outcome::parse(word).unwrap()) > 0,
    };
    let mut faults = Vec::new();
    if found != wanted {
        faults.push(format!("codes {found:?} instead of {wanted:?}"));
    }
    if !has_outcome {
        faults.push(format!("not `{word}`: {events} events, {rejected} rejected, {:?}", tally.kinds));
    }
    faults
}

#[test]
fn every_message_gives_its_codes_and_its_outcome() {
    let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
    let mut problems = Vec::new();
    let mut count = 0;
    for line in include_str!("../golden/messages.jsonl").lines() {
        let expected: Value = serde_json::from_str(line).unwrap();
        let raw = expected["raw"].as_str().unwrap().as_bytes();
        for (framing, name) in [(Framing::Message, "message"), (Framing::Lines, "file")] {
            for fault in faults(&digest(&middle, raw, framing), &expected) {
                problems.push(format!("{} as a {name}: {fault}", expected["id"]));
            }
        }
        count += 1;
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(count, 37);
}
