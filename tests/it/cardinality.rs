//! Ten million distinct apps, tenants, codes and datasets: series stay within their limits, memory stays flat.
//!
//! Too long for a debug build; `tests/run release` runs it.

use std::sync::Arc;
use std::time::Duration;

use aadstream::catalogue::Catalogue;
use aadstream::digest::tally::Detail;
use aadstream::digest::{Digest, Framing, Input, Middle, Options, Position};
use aadstream::metrics::{Metrics, MetricsOptions};
use aadstream::window::{Old, Window};

const BATCH: u32 = 1000;
/// The ends of the two rounds: in the first all tables fill up.
const ROUNDS: [u32; 2] = [1_000_000, 10_000_000];
/// What the second round may add.
const SLACK_BYTES: i64 = 1 << 20;
/// 20 November 2026.
const NOW_MS: i64 = 1_795_144_370_000;

/// Every one has a tenant, an app and a code of its own; every fifth is a refresh of a dataset of its own.
fn message(number: u32) -> String {
    let code = 10_000_000 + number;
    if number.is_multiple_of(5) {
        return format!(
            r#"{{"workspaceId":"w{number}","datasetId":"d{number}","refreshes":[{{"requestId":"r{number}","status":"Failed","endTime":"2026-11-20T03:12:46Z","serviceExceptionJson":"AADSTS{code}: x"}}]}}"#
        );
    }
    format!(
        r#"{{"category":"ServicePrincipalSignInLogs","tenantId":"t{number}","resultType":"{code}","properties":{{"appId":"a{number}","appDisplayName":"App {number}"}}}}"#
    )
}

struct Stream {
    middle: Middle,
    metrics: Metrics,
    window: Window,
    /// What a scan keeps.
    whole: Digest,
    sent: u32,
}

impl Stream {
    fn new() -> Self {
        let catalogue = Arc::new(Catalogue::embedded());
        let options = MetricsOptions { birth_hold: Duration::ZERO, ..MetricsOptions::default() };
        let metrics = Metrics::new(&catalogue, options);
        metrics.declare_topic("topic");
        let middle = Middle::new(catalogue, Options { detail: Detail::Apps, ..Options::default() });
        Self { middle, metrics, window: Window::default(), whole: Digest::default(), sent: 0 }
    }

    /// As the service and a scan do it, batch by batch.
    fn run_to(&mut self, end: u32) {
        while self.sent < end {
            let messages: Vec<String> = (self.sent..self.sent + BATCH).map(message).collect();
            let inputs: Vec<Input<'_>> = messages.iter().map(|text| input(text)).collect();
            let mut digest = self.middle.digest(&inputs);
            let window = &mut self.window;
            digest.admit(&self.middle, |held| window.judge(held, Some(NOW_MS), Old::IsRepeat));
            self.metrics.record(&digest.tally, "topic");
            digest.tally.forget_details();
            self.whole.merge(digest);
            self.sent += BATCH;
        }
    }

    fn exposition(&self) -> String {
        String::from_utf8(self.metrics.encode(false).1).unwrap()
    }
}

fn input(text: &str) -> Input<'_> {
    Input {
        payload: Some(text.as_bytes()),
        framing: Framing::Message,
        timestamp_ms: Some(NOW_MS),
        source: Position::default(),
    }
}

fn samples<'t>(text: &'t str, name: &'static str) -> impl Iterator<Item = f64> + 't {
    let is_its = move |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    text.lines().filter(is_its).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation; tests/run release")]
fn ten_million_ids_fit() {
    let mut stream = Stream::new();
    let mut held = 0;
    for end in ROUNDS {
        let before = held;
        held += allocation_counter::measure(|| stream.run_to(end)).bytes_current;
        assert!(before == 0 || held - before < SLACK_BYTES, "{before} bytes held, then {held}");
    }
    assert!(held < 100 << 20, "{held} bytes held");
    let text = stream.exposition();
    let failures = f64::from(stream.sent);
    assert_eq!(samples(&text, "aadstream_events_total").sum::<f64>(), failures);
    for (name, limit, sum) in [
        ("aadstream_app_events_total", 5_001, failures * 0.8),
        ("aadstream_app_info", 5_001, -1.0),
        ("aadstream_unknown_codes_total", 201, failures),
        ("aadstream_refreshes_total", 5_010, failures * 0.2),
        ("aadstream_refresh_events_total", 5_010, failures * 0.2),
    ] {
        let (count, found) = (samples(&text, name).count(), samples(&text, name).sum::<f64>());
        assert!((100..=limit).contains(&count), "{name}: {count} series");
        assert!(sum < 0.0 || found == sum, "{name}: {found} counted");
    }
    assert!(stream.whole.tally.apps.is_empty());
}
