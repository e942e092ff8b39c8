//! The whole middle over one message, or over a file that is cut where a scan may cut it.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use aadstream::catalogue::Catalogue;
use aadstream::digest::event::{BODY_BYTES, EventOptions};
use aadstream::digest::frame::Entries;
use aadstream::digest::table::Header;
use aadstream::digest::tally::Tally;
use aadstream::digest::{Admission, Digest, Framing, Input, Middle, Options, Position};
use aadstream::files::cut;
use aadstream::terms::{Kind, Outcome, Reason};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::embedded()));
static QUICK: LazyLock<Middle> = LazyLock::new(|| middle(Options::default()));
static BY_LINE: LazyLock<Middle> =
    LazyLock::new(|| middle(Options { text_entries: Entries::Lines, ..Options::default() }));
/// Looking for copies needs the ids of every sign-in, so nothing is skimmed.
static THOROUGH: LazyLock<Middle> =
    LazyLock::new(|| middle(Options { dedupe_sign_ins: true, rejects: true, ..Options::default() }));
static SMALL: LazyLock<Middle> =
    LazyLock::new(|| middle(Options { max_message_bytes: 200, rejects: true, ..Options::default() }));

fn middle(options: Options) -> Middle {
    let events = Some(EventOptions::default());
    Middle::new(Arc::clone(&CATALOGUE), Options { events, ..options })
}

/// The first byte chooses the middle, the second where a file is cut; the rest is the input.
pub fn check(bytes: &[u8]) {
    let [choice, place, bytes @ ..] = bytes else { return };
    let middle = [&*QUICK, &BY_LINE, &THOROUGH, &SMALL][usize::from(choice % 4)];
    let message = digest(middle, bytes, Framing::Message);
    assert_eq!(message.tally.messages, 1);
    balances(&message);
    let file = digest(middle, bytes, Framing::Lines);
    balances(&file);
    if choice % 4 == 0 {
        for (quick, framing) in [(&message, Framing::Message), (&file, Framing::Lines)] {
            // Of a success that is skimmed less is checked: what is wrong deep in it costs it only here.
            let thorough = digest(&THOROUGH, bytes, framing);
            if thorough.rejects.is_empty() {
                same(&quick.tally, &thorough.tally, "read without skimming");
            }
        }
        if place % 8 == 0 {
            packed(&message.tally, bytes);
        }
        records_of_a_parser(&file.tally, bytes);
        let end = bytes.len() * usize::from(*place) / 256;
        cut_in_two(&file, bytes, end);
    }
}

fn digest(middle: &Middle, payload: &[u8], framing: Framing<'_>) -> Digest {
    let source = Position { topic: "t", ..Position::default() };
    let input = Input { payload: Some(payload), framing, timestamp_ms: Some(1_763_600_000_000), source };
    let mut digest = middle.digest(&[input]);
    digest.admit(middle, |_| Admission::New);
    digest
}

/// Law 1, and that every event is small JSON.
fn balances(digest: &Digest) {
    let tally = &digest.tally;
    let records: u64 = tally.records.iter().flatten().sum();
    assert_eq!(records, tally.kinds.iter().flatten().sum::<u64>(), "records by log and by kind");
    for kind in [Kind::SignIn, Kind::Refresh, Kind::Pipeline] {
        let outcomes = tally.kinds[kind as usize];
        let raised: u64 =
            tally.events.iter().filter(|(key, _)| key.kind == kind).map(|(_, seen)| seen.count).sum();
        let failed = outcomes[Outcome::Failure as usize] + outcomes[Outcome::Interrupt as usize];
        assert_eq!(failed, raised, "{kind} events");
    }
    let rejected: u64 = tally.rejected_messages.iter().sum();
    assert!(rejected <= tally.messages, "{rejected} rejected of {}", tally.messages);
    let internal = Reason::Internal as usize;
    assert_eq!(tally.rejected_messages[internal] + tally.rejected_records[internal], 0, "internal");
    assert_eq!(tally.events.values().map(|seen| seen.count).sum::<u64>(), digest.events.len() as u64);
    for event in &digest.events {
        let body = event.body();
        assert!(body.len() <= BODY_BYTES, "{} bytes", body.len());
        let json: Value = serde_json::from_str(&body).expect("an event is JSON");
        assert!(json["id"].as_str().is_some_and(|id| id.starts_with("t/0/")), "{body}");
    }
}

#[track_caller]
fn same(left: &Tally, right: &Tally, what: &str) {
    assert_eq!(left.messages, right.messages, "messages, {what}");
    assert_eq!(left.records, right.records, "records, {what}");
    assert_eq!(left.kinds, right.kinds, "kinds, {what}");
    assert_eq!(left.events, right.events, "events, {what}");
    assert_eq!(left.mentions, right.mentions, "mentions, {what}");
    assert_eq!(left.malformed_codes, right.malformed_codes, "malformed codes, {what}");
    assert_eq!(left.text_lines, right.text_lines, "text lines, {what}");
    assert_eq!(left.rejected_messages, right.rejected_messages, "rejected messages, {what}");
    assert_eq!(left.rejected_records, right.rejected_records, "rejected records, {what}");
}

/// A message says the same once it is packed.
fn packed(plain: &Tally, bytes: &[u8]) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).expect("memory does not fail");
    let bytes_packed = encoder.finish().expect("memory does not fail");
    let is_packed = matches!(bytes, [0x1f, 0x8b, ..] | [0x28, 0xb5, ..]);
    if !is_packed {
        same(plain, &digest(&QUICK, &bytes_packed, Framing::Message).tally, "packed");
    }
}

/// Lines that a parser takes for plain objects are one record each.
fn records_of_a_parser(tally: &Tally, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let is_record = |line: &str| {
        let Ok(Value::Object(object)) = serde_json::from_str::<Value>(line) else { return false };
        let is_envelope = |key: &String| ["records", "value", "refreshes"].contains(&&*key.to_lowercase());
        !object.keys().any(is_envelope)
    };
    let mut lines = text.split('\n').filter(|line| !line.as_bytes().trim_ascii().is_empty());
    let count = lines.clone().count() as u64;
    if lines.all(is_record) {
        assert_eq!(tally.records.iter().flatten().sum::<u64>(), count, "records of a parser");
        assert_eq!(tally.messages, count, "messages of a parser");
        assert_eq!(tally.rejected_messages.iter().sum::<u64>(), 0, "rejected what a parser takes");
    }
}

/// A file cut where a scan would cut it says the same in two pieces. Broken records side by side may be one or two.
fn cut_in_two(whole: &Digest, bytes: &[u8], end: usize) {
    let is_broken =
        whole.tally.rejected_messages.iter().chain(&whole.tally.rejected_records).any(|count| *count > 0);
    if is_broken || Header::detect(bytes).is_some() {
        return;
    }
    let Some(at) = cut::last_safe(&bytes[..end]) else { return };
    let mut parts = digest(&QUICK, &bytes[..at], Framing::Lines);
    parts.merge(digest(&QUICK, &bytes[at..], Framing::Lines));
    same(&whole.tally, &parts.tally, "cut in two");
}
