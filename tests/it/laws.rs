//! Laws that hold for any input: nothing panics, nothing gets lost, the quick way and the thorough way agree.

use std::sync::{Arc, LazyLock};

use aadstream::catalogue::Catalogue;
use aadstream::digest::frame::EnvelopeIds;
use aadstream::digest::tally::Tally;
use aadstream::digest::{Admission, Digest, Framing, Input, Middle, Options, Position};
use aadstream::terms::{Kind, Outcome};
use proptest::prelude::*;

fn middle(options: Options) -> Middle {
    static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::embedded()));
    Middle::new(Arc::clone(&CATALOGUE), options)
}

fn digest(middle: &Middle, payload: &[u8], framing: Framing<'_>) -> Digest {
    let input = Input {
        payload: Some(payload),
        framing,
        timestamp_ms: Some(1_763_600_000_000),
        source: Position::default(),
    };
    let mut digest = middle.digest(&[input]);
    digest.admit(middle, |_| Admission::New);
    digest
}

fn records(tally: &Tally) -> u64 {
    tally.records.iter().flatten().sum()
}

/// Law 1: every record has one outcome, every failure and interrupt one event.
fn assert_balance(tally: &Tally) {
    assert_eq!(records(tally), tally.kinds.iter().flatten().sum::<u64>(), "records by log and by kind");
    for kind in [Kind::SignIn, Kind::Refresh, Kind::Pipeline] {
        let outcomes = tally.kinds[kind as usize];
        let raised: u64 =
            tally.events.iter().filter(|(key, _)| key.kind == kind).map(|(_, seen)| seen.count).sum();
        assert_eq!(
            outcomes[Outcome::Failure as usize] + outcomes[Outcome::Interrupt as usize],
            raised,
            "{kind} events"
        );
    }
    let rejected: u64 = tally.rejected_messages.iter().sum();
    assert!(rejected <= tally.messages, "{rejected} rejected of {} messages", tally.messages);
}

/// JSON-like text with the parts that decide how a record is read, and decoys of them.
fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        " ",
        "0",
        "50126",
        "\"0\"",
        "\"resultType\":\"0\",",
        "\"resultType\":\"50126\",",
        "\"category\":\"SignInLogs\",",
        "\"category\":\"AuditLogs\",",
        "\"status\":{\"errorCode\":0}",
        "\"status\":{\"errorCode\":50053}",
        "{\"records\":[",
        "]}",
        "},{",
        "{\"value\":[",
        "\"properties\":{",
        "\"x\":\"\\\"resultType\\\":\\\"50126\\\"\"",
        "AADSTS50126",
        "AADSTS70002 50012",
        "aadsts7000215:",
        "AADB2C90091",
        "error_codes\":[50126]",
        "\"serviceExceptionJson\":\"",
        "\"refreshType\":\"ViaApi\",\"status\":\"Failed\"",
        "null",
        "true",
        "DMTS_OAuthTokenRefreshFailedError",
        "text",
        "é",
        "\u{0}",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

/// A sign-in record: well formed, success or not, with decoys in strings and nested objects.
fn sign_in() -> impl Strategy<Value = String> {
    let result = prop_oneof![
        Just("\"0\"".to_owned()),
        Just("0".to_owned()),
        Just("\"50126\"".to_owned()),
        Just("50053".to_owned()),
        Just("\"Success\"".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
    ];
    let key =
        prop_oneof![Just("resultType"), Just("ResultType"), Just("resulttype"), Just("result\\u0054ype")];
    let category = prop_oneof![
        Just("SignInLogs"),
        Just("NonInteractiveUserSignInLogs"),
        Just("AuditLogs"),
        Just("XSIGNINLOGS")
    ];
    let status = prop_oneof![
        Just(r#"{"errorCode":0}"#),
        Just(r#"{"errorCode": 0,"x":"}"}"#),
        Just(r#"{"errorCode":50053}"#),
        Just(r#"{"errorCode":"0"}"#),
        Just(r#""{\"errorCode\":50126}""#),
        Just(r#"{"additionalDetails":"errorCode\":0"}"#),
        Just("{}"),
    ];
    let extra = prop_oneof![
        Just(String::new()),
        Just(r#","nested":{"resultType":"50126","deep":[{"category":"AuditLogs"}]}"#.to_owned()),
        Just(r#","resultType":"50034""#.to_owned()),
        Just(r#","text":"{\"resultType\":\"50126\"} \\\" ]}""#.to_owned()),
        Just(r#","detail":"AADSTS50076: x""#.to_owned()),
        Just(r#","tab":"a b""#.to_owned()),
        "[ -~]{0,80}".prop_map(|text| format!(",\"free\":{}", serde_json::Value::String(text))),
    ];
    (result, key, category, status, extra, any::<bool>()).prop_map(|(result, key, category, status, extra, spaced)| {
        let blank = if spaced { " " } else { "" };
        format!("{{\"time\":{blank}\"2026-11-20T03:14:50Z\",\"category\":{blank}\"{category}\",\"{key}\":{blank}{result},\"properties\":{blank}{{\"status\":{blank}{status}}}{extra}}}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_counted_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let middle = middle(Options::default());
        for framing in [Framing::Message, Framing::Lines, Framing::Elements(EnvelopeIds::default())] {
            let tally = digest(&middle, &bytes, framing).tally;
            assert_balance(&tally);
            prop_assert_eq!(tally.rejected_messages[aadstream::terms::Reason::Internal as usize], 0);
        }
    }

    #[test]
    fn any_pieces_of_json_are_counted_without_a_panic(text in fragment()) {
        let middle = middle(Options::default());
        for framing in [Framing::Message, Framing::Lines] {
            let tally = digest(&middle, text.as_bytes(), framing).tally;
            assert_balance(&tally);
            prop_assert_eq!(tally.rejected_messages[aadstream::terms::Reason::Internal as usize], 0);
            prop_assert_eq!(tally.rejected_records[aadstream::terms::Reason::Internal as usize], 0);
        }
    }

    #[test]
    fn the_quick_way_counts_what_the_thorough_way_counts(records in proptest::collection::vec(sign_in(), 1..6)) {
        let batch = format!("{{\"records\":[{}]}}", records.join(","));
        let quick = digest(&middle(Options::default()), batch.as_bytes(), Framing::Message).tally;
        // Looking for copies needs the ids of every sign-in, so nothing is skimmed.
        let options = Options { dedupe_sign_ins: true, ..Options::default() };
        let thorough = digest(&middle(options), batch.as_bytes(), Framing::Message).tally;
        prop_assert_eq!(quick.records, thorough.records);
        prop_assert_eq!(quick.events, thorough.events);
        prop_assert_eq!(quick.mentions, thorough.mentions);
        prop_assert_eq!(quick.rejected_records, thorough.rejected_records);
        prop_assert_eq!(quick.kinds.iter().flatten().sum::<u64>(), records.len() as u64);
    }

    #[test]
    fn a_batch_cut_anywhere_keeps_the_records_before_the_cut(records in proptest::collection::vec(sign_in(), 1..5), cut in any::<prop::sample::Index>()) {
        let batch = format!("{{\"records\":[{}]}}", records.join(","));
        let cut = cut.index(batch.len());
        let mut end = "{\"records\":[".len();
        let mut whole = 0;
        for record in &records {
            end += record.len();
            whole += u64::from(end <= cut);
            end += 1;
        }
        let tally = digest(&middle(Options::default()), &batch.as_bytes()[..cut], Framing::Message).tally;
        prop_assert_eq!(self::records(&tally), whole, "{}", &batch[..cut]);
        prop_assert_eq!(tally.rejected_messages.iter().sum::<u64>() + tally.rejected_records.iter().sum::<u64>(), 1);
    }

    #[test]
    fn lines_around_a_broken_line_are_read(before in sign_in(), after in sign_in(), cut in any::<prop::sample::Index>()) {
        let cut = 1 + cut.index(before.len() - 1);
        let text = format!("{before}\n{}\n{after}\n", &before[..cut]);
        let tally = digest(&middle(Options::default()), text.as_bytes(), Framing::Lines).tally;
        prop_assert_eq!((records(&tally), tally.messages), (2, 3), "{}", text);
    }
}

/// Input made to be read again and again; each is a message that a stranger can send.
#[test]
fn hostile_input_costs_a_bounded_number_of_passes() {
    let middle = middle(Options::default());
    let patterns = [
        "{\"records\":[\n",
        "{\"records\":[{\"a\":\"x\",,\n",
        "{\"a\":{\"b\":\n",
        "{\"records\":[{\"a\" 1,\"b\":{",
        "{\"records\":[{\"a\":\"\n",
        "{\"records\":[{\"a\" 5},\n",
        "[{\"a\":{\"b\":1\n",
        "{\"records\":[{\"a\":1},{\"a\":{\"b\":1},\n",
        "{\"a\":\n",
        "[\n",
        "{\"a\":[\n{\"b\":",
        "{\"records\":[{\"records\":[",
        "{\"refreshes\":[{\"refreshes\":[{\"datasetId\":\"d\"},",
        "\"\n",
        ",\n{\"a\" 5},",
        "{\"a\":[0,",
        "{\"a\":[0,\n",
        "[{\"a\":1,{\"a\":",
        "{\"a\":\"},{\"",
        "{\"a\":\n{\"a\":1}\n",
        "{\"a\":[{},{},{\"b\" 1},",
        "{\"records\":[{\"a\":\"x},{\"b\":1}",
        "{\"refreshes\":[{\"a\" 5},",
        "{\"refreshes\":[{\"a\" 5}\n",
        "{\"records\":\"[{",
        "{\"records\":{\"a\":",
        "{\"value\":[1,",
        "{\"a\":1}},",
        "],[",
        "{   ",
        "{\"a\":{\"b\":\"x},\"c\":{\"d\":[{},{}],\"e\":\"y\"}},",
        " [{x}\ntext\n",
        " [{x}\ntext,\n",
        "[{x}\ntext, {\"a\":1}\n",
        " {\"records\":[{\"a\" 1}\ntext\n",
        "[{\"a\":{\n{ },\n",
        "[{\"a\":1\n[ },\ntext\n",
    ];
    for pattern in patterns {
        let time = |bytes: usize| {
            let text = pattern.repeat(bytes / pattern.len());
            let started = std::time::Instant::now();
            for framing in [Framing::Message, Framing::Lines, Framing::Elements(EnvelopeIds::default())] {
                digest(&middle, text.as_bytes(), framing);
            }
            started.elapsed().as_secs_f64()
        };
        // Four times the bytes may cost four times the time; sixteen times would be a pass a piece.
        let (short, long) = (time(50_000).max(0.02), time(200_000));
        assert!(long < 12.0 * short, "{pattern:?}: {short} s, then {long} s");
    }
}
