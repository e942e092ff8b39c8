//! What counting and a scrape cost: `cargo run --release --example metrics`.
//!
//! Prints medians and, beside the scrape, the time of the crate's own encoder over the same families in the same run.

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::time::{Duration, Instant};

use aadstream::catalogue::{Catalogue, Verdict};
use aadstream::code::Code;
use aadstream::digest::tally::{AppKey, Dataset, EventKey, Tally};
use aadstream::metrics::{Metrics, MetricsOptions};
use aadstream::terms::{Flow, Kind, Outcome};
use prometheus::{Encoder, TextEncoder};

/// Apps that a batch of 1,000 events is spread over, batch after batch.
const APPS: usize = 1_200;

fn main() {
    let catalogue = Catalogue::embedded();
    let start = Instant::now();
    let options = MetricsOptions { birth_hold: Duration::ZERO, ..MetricsOptions::default() };
    let metrics = Metrics::new(&catalogue, options);
    println!("start: {:?}", start.elapsed());

    let situations: Vec<(Code, Flow, Verdict)> = catalogue
        .rules()
        .flat_map(|rule| rule.flows.iter().map(|flow| (rule.code, *flow)))
        .filter_map(|(code, flow)| Some((code, flow, catalogue.verdict(code, flow, None)?)))
        .collect();
    let tallies: Vec<Tally> = (0..6)
        .map(|batch| {
            let mut tally = Tally::default();
            (batch * 200..batch * 200 + 1_000)
                .for_each(|number| event(&mut tally, number % APPS, &situations));
            tally
        })
        .collect();
    tallies.iter().for_each(|tally| metrics.record(tally, "topic"));
    let mut batches = tallies.iter().cycle();
    let took = median(301, || metrics.record(batches.next().expect("it goes round"), "topic"));
    println!("record of 1,000 events: {took:?}");

    fill(&metrics, &situations);
    let text = metrics.encode(false).1;
    let samples = text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")).count() - 1;
    println!("at all caps: {} bytes, {samples} samples", text.len());
    println!("encode: {:?}", median(41, || drop(metrics.encode(false))));
    println!("encode gzip: {:?}", median(21, || drop(metrics.encode(true))));
    println!("gather: {:?}", median(21, || drop(metrics.gather())));

    let families = metrics.gather();
    let mut expected = Vec::new();
    let took = median(41, || {
        expected.clear();
        TextEncoder::new().encode(&families, &mut expected).expect("families are well formed");
    });
    println!("the crate's encoder over gathered families: {took:?}");
    assert!(expected == text, "a faster scrape must say the same");
}

fn event(tally: &mut Tally, number: usize, situations: &[(Code, Flow, Verdict)]) {
    let (code, flow, verdict) = situations[number % situations.len()];
    let Verdict { outcome, severity, audience, category } = verdict;
    let key = EventKey { code, known: true, kind: Kind::SignIn, flow, outcome, severity, category, audience };
    tally.events.entry(key).or_default().count += 1;
    *tally.mentions.entry(code).or_default() += 1;
    app(tally, number, 20, code, flow);
    tally.source_delays.push(300_000);
}

fn app(tally: &mut Tally, number: usize, tenants: usize, code: Code, flow: Flow) {
    let tenant = format!("{:08x}-aaaa-bbbb-cccc-dddddddddddd", number % tenants);
    let app_id = format!("{number:08x}-1111-2222-3333-444455556666");
    tally.app_names.insert((tenant.clone(), app_id.clone()), format!("App {number}"));
    *tally.apps.entry(AppKey { tenant, app_id, code: Some(code), flow: Some(flow) }).or_default() += 1;
}

/// Fills every table that folds beyond its limit, and the gauges of 1,000 partitions.
fn fill(metrics: &Metrics, situations: &[(Code, Flow, Verdict)]) {
    let mut tally = Tally::default();
    for number in 0..24_000 {
        let (code, flow, verdict) = situations[number % situations.len()];
        app(&mut tally, number, 150, code, flow);
        let workspace_id = format!("{:08x}-1111-2222-3333-444455556666", number % 200);
        let dataset_id = format!("{:08x}-5555-2222-3333-444455556666", number % 3_000);
        let refreshes = tally.refreshes.entry(Dataset { workspace_id, dataset_id }).or_default();
        refreshes.outcomes.insert(Outcome::Success, 1);
        refreshes.outcomes.insert(Outcome::Failure, 1);
        refreshes.codes.insert(code, 1);
        refreshes.last_success = Some(1_763_600_000_000);
        let Verdict { outcome, severity, audience, category } = verdict;
        let unknown = Code::Aadsts(80_000_000 + u32::try_from(number).expect("small"));
        let (kind, known) = (Kind::SignIn, false);
        let key = EventKey { code: unknown, known, kind, flow, outcome, severity, category, audience };
        tally.events.entry(key).or_default().count += 1;
    }
    metrics.record(&tally, "topic");
    for topic in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        metrics.declare_topic(topic);
        for partition in 0..100 {
            metrics.lag(topic, partition, 5, 1_000);
            metrics.last_commit(topic, partition, 1_763_600_000_000);
            metrics.last_progress(topic, partition, 1_763_600_000_000);
        }
    }
}

fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[runs / 2]
}
