//! What the steps of the middle cost, and a scrape: `cargo bench --bench middle`.
//!
//! Criterion prints time and throughput; one core. `decode` only cuts records, `scan` looks for spelled codes in text, `enrich` asks
//! the catalogue, `tally` merges the counts of batches, `whole` is everything that a message goes through, `scrape` the text of
//! all metrics. What is read counts as true only if the counts are: every corpus is checked once before it is measured.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aadstream::catalogue::Catalogue;
use aadstream::code::Code;
use aadstream::digest::frame::{self, Entries, EnvelopeIds, Receiver, Sketch};
use aadstream::digest::scan::{Mentions, Scanner};
use aadstream::digest::tally::Tally;
use aadstream::digest::{Digest, Framing, Input, Middle, Options, Position};
use aadstream::metrics::{Metrics, MetricsOptions};
use aadstream::terms::Reason;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prometheus::{Encoder, TextEncoder};
use records::Layout;
use simd_json::prelude::ValueIntoString;

#[path = "corpus/records.rs"]
mod records;

/// Large enough for every record of the generator's pool, small enough for the second level cache.
const BYTES: u64 = 1 << 20;

struct Corpus {
    name: String,
    bytes: Vec<u8>,
    truth: records::Truth,
}

fn corpus(layout: Layout, failures: usize, spaced: bool) -> Corpus {
    let mut bytes = Vec::new();
    let options = records::Options { bytes: BYTES, failures, layout, spaced, seed: 1 };
    let truth = records::write(&options, &mut bytes).expect("memory takes everything");
    let spacing = if spaced { "_spaced" } else { "" };
    Corpus { name: format!("{layout:?}{spacing}_{failures}%").to_lowercase(), bytes, truth }
}

fn corpora() -> Vec<Corpus> {
    let mut all: Vec<Corpus> =
        [0, 1, 10, 50, 100].map(|failures| corpus(Layout::Batches, failures, false)).into();
    all.push(corpus(Layout::Lines, 10, false));
    all.push(corpus(Layout::Batches, 10, true));
    all.push(corpus(Layout::Text, 10, false));
    all
}

fn middle() -> Middle {
    Middle::new(Arc::new(Catalogue::embedded()), Options::default())
}

fn digest(middle: &Middle, bytes: &[u8]) -> Digest {
    let input = Input {
        payload: Some(bytes),
        framing: Framing::Lines,
        timestamp_ms: None,
        source: Position::default(),
    };
    middle.digest(&[input])
}

/// Counts records and looks at none.
#[derive(Default)]
struct Nobody(u64);

impl Receiver for Nobody {
    fn record(&mut self, _: &[u8], _: &Sketch<'_>, _: &EnvelopeIds<'_>) -> bool {
        self.0 += 1;
        true
    }
    fn text(&mut self, _: &[u8]) {
        self.0 += 1;
    }
    fn broken(&mut self, _: &[u8], reason: Reason) {
        unreachable!("a generated record is broken: {reason}");
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for Corpus { name, bytes, truth } in corpora() {
        let run = || {
            let mut nobody = Nobody::default();
            frame::frame(&bytes, Entries::Lines, &mut nobody);
            nobody.0
        };
        assert_eq!(run(), truth.records, "{name}");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(run));
    }
}

/// What decides about a record, and nothing else of it.
#[derive(serde::Deserialize)]
struct Two<'a> {
    #[serde(borrow, rename = "resultType")]
    result_type: Cow<'a, str>,
    #[serde(borrow)]
    category: Cow<'a, str>,
}

/// Other ways to ask every line for `resultType` and `category`, as a reader of successes must, beside ours, which also
/// finds where the record ends and whether it spells a code. `memchr` only looks for line ends: the bytes themselves.
fn candidates(criterion: &mut Criterion) {
    let Corpus { bytes, truth, .. } = corpus(Layout::Lines, 10, false);
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut group = criterion.benchmark_group("candidates");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut bench = |name: &str, failed: &dyn Fn() -> u64| {
        assert_eq!(failed(), truth.failures, "{name}");
        group.bench_function(name, |bencher| bencher.iter(failed));
    };
    let count = |fails: &dyn Fn(&[u8]) -> bool| lines.iter().filter(|line| fails(line)).count() as u64;
    bench("serde_json_borrowed", &|| {
        count(&|line| {
            let two: Two<'_> = serde_json::from_slice(line).expect("a record");
            !two.category.is_empty() && two.result_type != "0"
        })
    });
    bench("serde_json_value", &|| {
        count(&|line| {
            let value: serde_json::Value = serde_json::from_slice(line).expect("a record");
            value["category"].is_string() && value["resultType"] != "0"
        })
    });
    bench("sonic_rs_get", &|| {
        count(&|line| {
            let get = |key: &str| sonic_rs::get_from_slice(line, [key]).expect("a record");
            get("category").as_raw_str().len() > 2 && get("resultType").as_raw_str() != "\"0\""
        })
    });
    bench("simd_json_tape", &|| {
        count(&|line| {
            // It writes into its input.
            let mut line = line.to_vec();
            let tape = simd_json::to_tape(&mut line).expect("a record");
            let record = tape.as_value();
            let get = |key: &str| record.get(key).and_then(ValueIntoString::into_string);
            get("category").is_some() && get("resultType") != Some("0")
        })
    });
    let middle = middle();
    bench("ours_whole", &|| digest(&middle, &bytes).tally.events.values().map(|events| events.count).sum());
    group.bench_function("memchr_lines", |bencher| {
        bencher.iter(|| memchr::memchr_iter(b'\n', &bytes).count());
    });
}

fn scan(criterion: &mut Criterion) {
    let catalogue = Catalogue::embedded();
    let scanner = Scanner::new(catalogue.literals());
    let mut group = criterion.benchmark_group("scan");
    for Corpus { name, bytes, truth } in [corpus(Layout::Text, 1, false), corpus(Layout::Text, 50, false)] {
        let run = || {
            let mut mentions = Mentions::default();
            scanner.scan(&bytes, &mut mentions);
            mentions.codes.len()
        };
        assert_eq!(run(), truth.codes.len(), "{name}");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(run));
    }
}

fn enrich(criterion: &mut Criterion) {
    let catalogue = Catalogue::embedded();
    let situations: Vec<_> =
        catalogue.rules().flat_map(|rule| rule.flows.iter().map(|flow| (rule.code, *flow))).collect();
    let mut group = criterion.benchmark_group("enrich");
    group.throughput(Throughput::Elements(situations.len() as u64));
    group.bench_function("every_code_and_flow", |bencher| {
        bencher.iter(|| {
            let known =
                situations.iter().filter(|(code, flow)| catalogue.verdict(*code, *flow, None).is_some());
            assert_eq!(known.count(), situations.len());
        });
    });
    group.bench_function("unknown", |bencher| {
        bencher.iter(|| catalogue.verdict(black_box(Code::Aadsts(99_999_999)), situations[0].1, None));
    });
}

fn tally(criterion: &mut Criterion) {
    let middle = middle();
    let mut group = criterion.benchmark_group("tally");
    let Corpus { bytes, truth, .. } = corpus(Layout::Batches, 50, false);
    let one = digest(&middle, &bytes).tally;
    group.throughput(Throughput::Elements(truth.failures));
    group.bench_function("merge", |bencher| {
        bencher.iter_batched(
            || (Tally::default(), one.clone()),
            |(mut sum, one)| {
                sum.merge(one);
                sum
            },
            criterion::BatchSize::SmallInput,
        );
    });
    let metrics = Metrics::new(middle.catalogue(), MetricsOptions::default());
    group.bench_function("record", |bencher| bencher.iter(|| metrics.record(&one, "topic")));
}

fn whole(criterion: &mut Criterion) {
    let middle = middle();
    let mut group = criterion.benchmark_group("whole");
    for Corpus { name, bytes, truth } in corpora() {
        let counted: u64 = digest(&middle, &bytes).tally.events.values().map(|events| events.count).sum();
        assert_eq!(counted, truth.failures, "{name}");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| digest(&middle, &bytes)));
    }
}

fn scrape(criterion: &mut Criterion) {
    let middle = middle();
    let options = MetricsOptions { birth_hold: Duration::ZERO, ..MetricsOptions::default() };
    let metrics = Metrics::new(middle.catalogue(), options);
    metrics.record(&digest(&middle, &corpus(Layout::Batches, 50, false).bytes).tally, "topic");
    let mut group = criterion.benchmark_group("scrape");
    let families = metrics.gather();
    group.throughput(Throughput::Bytes(metrics.encode(false).1.len() as u64));
    group.bench_function("ours", |bencher| bencher.iter(|| metrics.encode(false)));
    group.bench_function("encoder_of_the_prometheus_crate", |bencher| {
        bencher.iter(|| {
            let mut text = Vec::new();
            TextEncoder::new().encode(&families, &mut text).expect("families are well formed");
            text
        });
    });
}

criterion_group!(benches, decode, candidates, scan, enrich, tally, whole, scrape);
criterion_main!(benches);
