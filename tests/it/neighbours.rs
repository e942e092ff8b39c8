//! One bad record never harms its neighbours: records of every shape of the demo and of the golden messages, one of them
//! damaged at random, in every framing.

use std::collections::BTreeMap;
use std::sync::Arc;

use aadstream::catalogue::Catalogue;
use aadstream::demo::Traffic;
use aadstream::demo::random::Random;
use aadstream::digest::frame::EnvelopeIds;
use aadstream::digest::tally::Tally;
use aadstream::digest::{Admission, Digest, Framing, Input, Middle, Options, Position};
use aadstream::files::digest_piece;
use aadstream::files::feed::Feed;
use aadstream::terms::Kind;
use serde_json::Value;

/// Damaged lists a test; `NEIGHBOUR_SEEDS` asks for more, `NEIGHBOUR_SEED` for one that failed.
const SEEDS: u64 = 60;

fn middle() -> Middle {
    Middle::new(Arc::new(Catalogue::embedded()), Options::default())
}

fn tally(middle: &Middle, payload: &[u8], framing: Framing<'_>) -> Tally {
    let input = Input { payload: Some(payload), framing, timestamp_ms: None, source: Position::default() };
    let mut digest = middle.digest(&[input]);
    digest.admit(middle, |_| Admission::New);
    digest.tally
}

/// Records by log, kind and outcome, and events that came of records.
fn counts(tally: &Tally) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let logs = tally.records.iter().enumerate();
    for (name, count) in logs
        .flat_map(|(log, outcomes)| {
            outcomes.iter().enumerate().map(move |(outcome, n)| (format!("log {log} {outcome}"), *n))
        })
        .chain(tally.kinds.iter().enumerate().flat_map(|(kind, outcomes)| {
            outcomes.iter().enumerate().map(move |(outcome, n)| (format!("kind {kind} {outcome}"), *n))
        }))
    {
        *counts.entry(name).or_default() += count;
    }
    counts.retain(|_, count| *count > 0);
    counts
}

fn total(tally: &Tally) -> u64 {
    tally.records.iter().flatten().sum()
}

/// The records of a message, whatever its envelope.
fn records_of(value: Value, records: &mut Vec<Value>) {
    match value {
        Value::Array(elements) => elements.into_iter().for_each(|element| records_of(element, records)),
        Value::Object(mut members) => {
            match ["records", "value", "refreshes"].iter().find_map(|key| members.remove(*key)) {
                Some(Value::Array(elements)) => records_of(Value::Array(elements), records),
                Some(_) => {}
                None => records.push(Value::Object(members)),
            }
        }
        _ => {}
    }
}

/// Objects in lists, decoys in strings, text of other languages, nothing at all.
const ODD: &[&str] = &[
    r#"{"a":1}"#,
    "{}",
    r#"{"t":"2026"}"#,
    r#"{"id":"1","createdDateTime":"2026-11-20T03:12:45Z","appliedConditionalAccessPolicies":[{"id":"a","displayName":"x","result":"success"},{"id":"b","displayName":"},{","result":"failure"},{"id":"c"}],"status":{"errorCode":50053}}"#,
    r#"{"time":"2026-01-01T00:00:00Z","category":"SignInLogs","resultType":"50126","properties":{"text":"]}],{\"category\":\"SignInLogs\",\"resultType\":\"50053\"},","authenticationDetails":[{"authenticationStepDateTime":"x"},{"authenticationStepDateTime":"y"}]}}"#,
    r#"{"TimeGenerated":"2026-01-01T00:00:00Z","Category":"SignInLogs","ResultType":"0","Status":"{\"errorCode\":0,\"list\":[{\"a\":1},{\"b\":2}]}","Agent":"[]"}"#,
    r#"{"category":"AuditLogs","identity":"Jos\u00e9 Müller","list":["a","b",{"c":[]},[1,2]],"last":"end}"}"#,
];

fn shapes() -> Vec<Value> {
    let mut records = Vec::new();
    for line in include_str!("../golden/messages.jsonl").lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        if let Ok(value) = serde_json::from_str(message["raw"].as_str().unwrap()) {
            records_of(value, &mut records);
        }
    }
    let mut traffic = Traffic::new(11);
    for number in 0..400 {
        let message = traffic.next(number, 1_763_600_000_000);
        let mut some = Vec::new();
        if let Some(value) = message.payload.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            records_of(value, &mut some);
        }
        some.truncate(2);
        records.extend(some);
    }
    records.extend(ODD.iter().map(|text| serde_json::from_str::<Value>(text).unwrap()));
    records
}

fn positions(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| wanted.contains(&bytes[*at])).collect()
}

/// Damages a record in one way.
fn damage(record: &[u8], random: &mut Random) -> (&'static str, Vec<u8>) {
    let mut bytes = record.to_vec();
    let name = match random.below(6) {
        0 => {
            bytes.remove(random.below(record.len()));
            "a byte is lost"
        }
        1 | 2 => {
            let (wanted, name): (&[u8], _) =
                if random.percent(50) { (b"\"", "a quote is lost") } else { (b"{}[]", "a bracket is lost") };
            match positions(record, wanted) {
                at if at.is_empty() => bytes.clear(),
                at => {
                    bytes.remove(*random.pick(&at));
                }
            }
            name
        }
        3 | 4 => {
            bytes.truncate(1 + random.below(record.len() - 1));
            "it is cut"
        }
        _ => {
            bytes.insert(1 + random.below(record.len()), *random.pick(b"\"\"\\{}[],:x0\n \xff"));
            "a byte is put in"
        }
    };
    (name, bytes)
}

struct Way {
    name: &'static str,
    head: &'static str,
    between: &'static str,
    tail: &'static str,
    is_pretty: bool,
}

const fn way(
    name: &'static str,
    head: &'static str,
    between: &'static str,
    tail: &'static str,
    is_pretty: bool,
) -> Way {
    Way { name, head, between, tail, is_pretty }
}

const WAYS: &[Way] = &[
    way("batch", "{\"records\":[", ",", "]}", false),
    way("spaced batch", "{ \"records\": [ ", ", ", " ] }\n", false),
    way("pretty batch", "{\n  \"records\": [\n", ",\n", "\n  ]\n}\n", true),
    way("array", "[", ",", "]", false),
    way("pretty array", "[\n", ",\n", "\n]\n", true),
    way("array on lines", "[\n", ",\n", "\n]\n", false),
    way("Graph", "{\"@odata.context\":\"c\",\"value\":[", ",", "],\"@odata.nextLink\":\"n\"}", false),
    way("pretty Graph", "{\n  \"value\": [\n", ",\n", "\n  ],\n  \"next\": \"n\"\n}\n", true),
    way("refreshes", "{\"datasetId\":\"d\",\"refreshes\":[", ",", "]}", false),
    way("lines", "", "\n", "\n", false),
    way("CRLF lines", "", "\r\n", "\r\n", false),
    way("pretty values", "", "\n", "\n", true),
];

fn join(way: &Way, records: &[Vec<u8>]) -> Vec<u8> {
    [way.head.as_bytes(), &records.join(way.between.as_bytes()), way.tail.as_bytes()].concat()
}

fn written(value: &Value, is_pretty: bool) -> Vec<u8> {
    if is_pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) }.unwrap()
}

fn seeds() -> std::ops::Range<u64> {
    let asked = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match asked("NEIGHBOUR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("NEIGHBOUR_SEEDS").unwrap_or(SEEDS),
    }
}

/// Whether a record was cut between the elements of a list in it: its siblings are then elements of that list, without a
/// fault in the grammar before the end of the message.
fn ends_in_list(bytes: &[u8]) -> bool {
    let (mut open, mut is_in_string, mut is_escaped) = (Vec::new(), false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'{' | b'[' if !is_in_string => open.push(*byte),
            b'}' | b']' if !is_in_string => drop(open.pop()),
            _ => {}
        }
    }
    !is_in_string && open.last() == Some(&b'[')
}

/// Whether the record says that it is a log's, and no object in a list of another record.
fn is_log(record: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&record[..record.len().min(60)]).to_ascii_lowercase();
    ["\"time\"", "\"timegenerated\"", "\"requestid\"", "\"category\""].iter().any(|key| text.contains(key))
}

/// What is wrong with the counts of a damaged list.
fn fault(clean: &Tally, damaged: &Tally, broken: u64) -> Option<String> {
    let (clean_counts, counts) = (counts(clean), counts(damaged));
    let lost: Vec<&String> = clean_counts
        .iter()
        .filter(|(name, count)| counts.get(*name).unwrap_or(&0) < count)
        .map(|(name, _)| name)
        .collect();
    if !lost.is_empty() {
        return Some(format!("lost {lost:?}"));
    }
    // A damaged record may still be one.
    let extra = total(damaged) - total(clean);
    (extra > broken).then(|| format!("{extra} records too many"))
}

#[test]
fn one_damaged_record_harms_no_neighbour() {
    let (middle, shapes) = (middle(), shapes());
    let mut problems = Vec::new();
    for seed in seeds() {
        for way in WAYS {
            let mut random = Random::new(seed);
            let count = 2 + random.below(5);
            let mut records: Vec<Vec<u8>> =
                (0..count).map(|_| written(random.pick(&shapes), way.is_pretty)).collect();
            let at = random.below(count);
            let whole = records.remove(at);
            let clean = join(way, &records);
            let (what, broken) = damage(&whole, &mut random);
            if what == "it is cut"
                && ends_in_list(&broken)
                && !records[at..].iter().all(|record| is_log(record))
            {
                continue;
            }
            records.insert(at, broken.clone());
            let text = join(way, &records);
            for framing in [Framing::Message, Framing::Lines, Framing::Elements(EnvelopeIds::default())] {
                let is_part = matches!(framing, Framing::Elements(_));
                if is_part && !way.name.contains("array") {
                    continue;
                }
                let inner = |text: &[u8]| {
                    let end = text.len() - if is_part { way.tail.len() } else { 0 };
                    text[if is_part { way.head.len() } else { 0 }..end].to_vec()
                };
                let clean = tally(&middle, &inner(&clean), framing);
                let damaged = tally(&middle, &inner(&text), framing);
                // Without its first bracket an indented value is lines of text, and what is an object among them.
                let is_headless = way.name == "pretty values" && !broken.starts_with(b"{");
                if let Some(fault) = fault(&clean, &damaged, 1)
                    && !(is_headless && fault.ends_with("too many"))
                {
                    let text = String::from_utf8_lossy(&broken).into_owned();
                    let broken: String =
                        text.chars().skip(text.chars().count().saturating_sub(160)).collect();
                    problems.push(format!(
                        "NEIGHBOUR_SEED={seed} {} {framing:?}, record {at} of {count}, {what}: {fault}\n  …{broken:?}",
                        way.name
                    ));
                }
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} faults\n{}",
        problems.len(),
        problems[..problems.len().min(12)].join("\n")
    );
}

/// A byte put in front of any line inside an indented record: that record is one broken piece, its lines are no text,
/// and what is around it stays one message.
#[test]
fn a_stray_byte_in_front_of_a_line_breaks_its_record_alone() {
    let middle = middle();
    for (head, margin, tail) in [
        ("{\"records\":[", "\n", "]}"),
        ("{\"value\":[", "\n", "],\"n\":1}\n"),
        ("[", "\n", "]\n"),
        ("{\n  \"records\": [\n    ", "\n    ", "\n  ]\n}\n"),
    ] {
        let indented = |text: &str| {
            let record = serde_json::to_string_pretty(&serde_json::from_str::<Value>(text).unwrap()).unwrap();
            record.replace('\n', margin)
        };
        let record = indented(ODD[4]);
        for (at, stray) in
            record.match_indices('\n').flat_map(|(end, _)| ['[', '{', 'x'].map(|stray| (end + 1, stray)))
        {
            let mut broken = record.clone();
            broken.insert(at, stray);
            let records = [indented(ODD[3]), broken, indented(ODD[3]), indented(ODD[5])];
            let text = format!("{head}{}{tail}", records.join(","));
            for (way, tally) in [
                ("message", tally(&middle, text.as_bytes(), Framing::Message)),
                ("lines", tally(&middle, text.as_bytes(), Framing::Lines)),
                ("file", tally_of_file(&middle, text.clone().into_bytes())),
            ] {
                let rejected = tally.rejected_records.iter().sum::<u64>();
                let counts = (tally.messages, total(&tally), rejected, tally.text_lines);
                // Deep in a record nobody looks at the byte.
                if stray == 'x' && counts == (1, 4, 0, 0) {
                    continue;
                }
                // The rest of the record may be one still, behind a bracket that opens it anew.
                let is_anew = stray == '{' && record[at..].trim_start().starts_with('"');
                let expected = (1, if is_anew { counts.1.clamp(3, 4) } else { 3 }, 1, 0);
                assert_eq!(counts, expected, "{way} of\n{text}");
            }
        }
    }
}

/// What a file of these bytes counts.
fn tally_of_file(middle: &Middle, bytes: Vec<u8>) -> Tally {
    let mut feed = Feed::new(middle, Box::new(std::io::Cursor::new(bytes)));
    let mut digest = Digest::default();
    while let Some(piece) = feed.next_piece().unwrap() {
        digest_piece(middle, &piece, &Position::default(), &mut digest);
    }
    digest.admit(middle, |_| Admission::New);
    digest.tally
}

#[test]
fn damaged_records_of_a_large_file_harm_no_neighbour() {
    let (middle, shapes) = (middle(), shapes());
    let mut problems = Vec::new();
    for seed in seeds().step_by(20) {
        for way in WAYS {
            let mut random = Random::new(seed);
            let some = |random: &mut Random, count: usize| -> Vec<Vec<u8>> {
                (0..count).map(|_| written(random.pick(&shapes), way.is_pretty)).collect()
            };
            let (mut clean, mut text, mut notes) = (some(&mut random, 60), Vec::new(), Vec::new());
            text.extend(clean.clone());
            for number in 0..4 {
                let (what, broken) = damage(&written(random.pick(&shapes), way.is_pretty), &mut random);
                if what == "it is cut" && ends_in_list(&broken) {
                    continue;
                }
                // Two that lost a quote within the bytes that are not parsed may hide what is between them.
                let count = *random.pick(if number < 3 { &[60, 120] } else { &[1, 60] });
                let neighbours = some(&mut random, count);
                notes.push(format!(
                    "{what}: {}",
                    String::from_utf8_lossy(&broken[broken.len().saturating_sub(160)..])
                ));
                text.push(broken);
                clean.extend(neighbours.clone());
                text.extend(neighbours);
            }
            let broken = notes.len() as u64;
            let clean = tally_of_file(&middle, join(way, &clean));
            let damaged = tally_of_file(&middle, join(way, &text));
            if let Some(fault) = fault(&clean, &damaged, broken)
                && !(way.name == "pretty values" && fault.ends_with("too many"))
            {
                problems.push(format!("NEIGHBOUR_SEED={seed} {}: {fault} {notes:#?}", way.name));
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} faults\n{}",
        problems.len(),
        problems[..problems.len().min(12)].join("\n")
    );
}

/// Cells as exports have them, and awkward ones.
const CELLS: &[&str] = &[
    "plain",
    "",
    "\"\"",
    "\"with, comma\"",
    "\"two\nlines\"",
    "\"he said \"\"no\"\"\"",
    "\"{\"\"a\"\":1}\"",
    "50126",
    "\"x\r\ny, z\n\"",
];

#[test]
fn a_damaged_row_harms_no_other_row() {
    let middle = middle();
    let head = "Date (UTC),User ID,Status,Sign-in error code,Failure reason,More";
    let mut problems = Vec::new();
    for seed in seeds().flat_map(|seed| seed * 50..seed * 50 + 50) {
        let mut random = Random::new(seed);
        let row = |random: &mut Random| -> Vec<u8> {
            let id = random.guid();
            let mut cells = || *random.pick(CELLS);
            let cells = ["2026-01-01T00:00:00Z", &id, "Failure", "50126", cells(), cells()];
            cells.join(",").into_bytes()
        };
        let mut rows: Vec<Vec<u8>> = (0..4).map(|_| row(&mut random)).collect();
        let at = random.below(rows.len());
        let quotes = positions(&rows[at], b"\"");
        if quotes.is_empty() || random.percent(30) {
            let commas = positions(&rows[at], b",");
            let place = *random.pick(&commas) + 1;
            rows[at].insert(place, b'"');
        } else {
            rows[at].remove(*random.pick(&quotes));
        }
        let text = [head.as_bytes(), b"\r\n", &rows.join(&b"\r\n"[..]), b"\r\n"].concat();
        for (what, tally) in [
            ("message", tally(&middle, &text, Framing::Message)),
            ("file", tally_of_file(&middle, text.clone())),
        ] {
            let good: u64 = tally
                .events
                .iter()
                .filter(|(key, _)| key.kind == Kind::SignIn)
                .map(|(_, seen)| seen.count)
                .sum();
            let rejected: u64 =
                tally.rejected_records.iter().sum::<u64>() + tally.rejected_messages.iter().sum::<u64>();
            // Lines of a cell that lost its first quote look like rows.
            if good < 3 || total(&tally) > 6 || total(&tally) + rejected < 4 {
                problems.push(format!(
                    "NEIGHBOUR_SEED={} {what}: {good} good, {rejected} rejected, {} in all of row {at} of\n{}",
                    seed / 50,
                    total(&tally),
                    String::from_utf8_lossy(&text)
                ));
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} faults\n{}",
        problems.len(),
        problems[..problems.len().min(6)].join("\n")
    );
}
