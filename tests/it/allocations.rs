//! A success record costs a scan: reading it takes no memory from the allocator.

use std::sync::Arc;

use aadstream::catalogue::Catalogue;
use aadstream::digest::{Framing, Input, Middle, Options, Position};

/// Allocations of one digest.
fn allocations(middle: &Middle, inputs: &[Input<'_>]) -> u64 {
    let mut records = 0;
    let info = allocation_counter::measure(|| {
        records = middle.digest(inputs).tally.records.iter().flatten().sum();
    });
    assert!(records > 0, "something was read");
    info.count_total
}

fn input<'a>(bytes: &'a [u8], framing: Framing<'a>) -> Input<'a> {
    Input { payload: Some(bytes), framing, timestamp_ms: Some(0), source: Position::default() }
}

#[test]
fn more_successes_need_no_more_allocations() {
    let success = |number: u32| {
        format!(
            r#"{{"time":"2026-11-20T03:14:50Z","category":"SignInLogs","resultType":"0","properties":{{"id":"{number}","status":{{"errorCode":0}},"appliedConditionalAccessPolicies":[{{"displayName":"CA000: \"strong\"","result":"notApplied"}}],"note":"{}"}}}}"#,
            "é".repeat(700)
        )
    };
    let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
    let records: Vec<String> = (0..400).map(success).collect();
    let lines = |count: usize| records[..count].join("\n");
    let batch = |count: usize| format!("{{\"records\":[{}]}}", records[..count].join(","));

    let (few, many) = (lines(100), lines(400));
    let framing = Framing::Lines;
    assert_eq!(
        allocations(&middle, &[input(few.as_bytes(), framing)]),
        allocations(&middle, &[input(many.as_bytes(), framing)])
    );
    let (few, many) = (batch(100), batch(400));
    let framing = Framing::Message;
    assert_eq!(
        allocations(&middle, &[input(few.as_bytes(), framing)]),
        allocations(&middle, &[input(many.as_bytes(), framing)])
    );
    // One record a message.
    let messages: Vec<Input<'_>> = records.iter().map(|record| input(record.as_bytes(), framing)).collect();
    assert_eq!(allocations(&middle, &messages[..100]), allocations(&middle, &messages));
}

/// The counter counts: a failure does need memory.
#[test]
fn failures_are_seen_to_allocate() {
    let failure = r#"{"category":"SignInLogs","resultType":"50126","properties":{"signInEventTypes":["interactiveUser"]}}"#;
    let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
    let (few, many) = ([failure; 10].join("\n"), [failure; 100].join("\n"));
    let of = |text: &str| allocations(&middle, &[input(text.as_bytes(), Framing::Lines)]);
    of(&many);
    assert!(of(&many) > of(&few) + 50);
}
