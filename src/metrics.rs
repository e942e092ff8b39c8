//! Every metric of the program; the only module that knows the `prometheus` crate.
//!
//! Names and labels are a contract: README lists them, `tests/golden/metrics.txt` holds them. Counting is one call a batch
//! ([`Metrics::record`]); a scrape copies the tables and encodes the copy.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::IntGauge;
use prometheus::proto::MetricFamily;
use rustc_hash::FxHashSet;

use crate::catalogue::{Catalogue, Verdict};
use crate::code::Code;
use crate::digest::App;
use crate::digest::event::{runbook_url, title};
use crate::digest::found::without_code;
use crate::digest::time::Millis;
use crate::terms::{Flow, Kind, LogCategory, Outcome, Reason};

mod builder;
mod families;
mod label;
mod record;
mod table;

use families::Families;
use label::{Key, UNKNOWN};
use record::Seats;
pub use table::Clock;
use table::{Rows, Table};

/// The first step of a fix as a label; rules keep to it, overrides are cut.
const FIX_BYTES: usize = 160;

/// Why an event or a dead letter was not delivered.
pub const FORWARD_FAILURES: [&str; 10] = [
    "too_large",
    "refused",
    "unknown_topic",
    "not_authorized",
    "unavailable",
    "timed_out",
    "queue_full",
    "file",
    "fatal",
    "other",
];

/// Where a code is explained that has no page of its own.
const GENERAL_PAGE: &str = "https://learn.microsoft.com/entra/identity-platform/reference-error-codes";

/// What metrics take from the configuration.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    pub birth_hold: Duration,
    pub external_url: Option<String>,
    pub apps: HashMap<String, App>,
    pub clock: Clock,
    /// Whether `process_*` are shown; a scan's result has none.
    pub process: bool,
    /// Reasons for which rejected input is not skipped.
    pub unskipped: Vec<Reason>,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self {
            birth_hold: Duration::from_secs(60),
            external_url: None,
            apps: HashMap::new(),
            clock: Instant::now,
            process: false,
            unskipped: Vec::new(),
        }
    }
}

/// The metrics of one service.
pub struct Metrics {
    families: Families,
    /// Codes with a rule.
    known: RwLock<FxHashSet<Code>>,
    external_url: Option<String>,
    apps: HashMap<String, App>,
    unskipped: Vec<Reason>,
    tenants: Seats,
    datasets: Seats,
    /// Room for the next scrape: growing a text of megabytes takes longer than writing it.
    text_bytes: AtomicUsize,
}

impl Metrics {
    /// Metrics in which every code of the catalogue stands at 0 already.
    pub fn new(catalogue: &Catalogue, options: MetricsOptions) -> Self {
        let families = Families::new(options.birth_hold, options.clock);
        if options.process {
            families.add_process();
        }
        let metrics = Self {
            families,
            known: RwLock::default(),
            external_url: options.external_url,
            apps: options.apps,
            unskipped: options.unskipped,
            tenants: Seats::new(record::TENANTS),
            datasets: Seats::new(families::DATASETS),
            text_bytes: AtomicUsize::new(0),
        };
        metrics.declare_codes(catalogue);
        metrics.declare_closed_sets();
        metrics
    }

    /// Takes the series of another catalogue: what is new in it stands at 0 and is held there like any late series, what
    /// was counted stays, and every code is described as this catalogue does.
    pub fn adopt(&self, catalogue: &Catalogue) {
        self.declare_codes(catalogue);
        self.families.rules_reloads.inc();
        self.families.rules_last_reload_successful.set(1);
    }

    /// Another catalogue was refused.
    pub fn reload_failure(&self) {
        self.families.rules_reload_failures.inc();
        self.families.rules_last_reload_successful.set(0);
    }

    fn declare_codes(&self, catalogue: &Catalogue) {
        let families = &self.families;
        *self.known.write().expect("no code panics while it holds this lock") =
            catalogue.rules().map(|rule| rule.code).collect();
        for rule in catalogue.rules() {
            let names =
                || std::iter::once(None).chain(rule.variants.iter().map(|variant| Some(variant.name)));
            for (flow, variant) in rule.flows.iter().flat_map(|flow| names().map(move |name| (*flow, name))) {
                if let Some(verdict) = catalogue.verdict(rule.code, flow, variant) {
                    families.events.declare(&|key| event_key(key, rule.code, flow, verdict));
                }
            }
            families.mentions.declare(&|key| _ = key.code(rule.code));
        }
        for flow in Flow::ALL {
            families.events.declare(&|key| event_key(key, Code::Unknown, *flow, Verdict::UNKNOWN));
            if *flow != Flow::Text {
                families.events.declare(&|key| event_key(key, Code::None, *flow, without_code(*flow)));
            }
        }
        families.mentions.declare(&|key| _ = key.code(Code::Unknown));
        for (origin, count) in
            [("embedded", catalogue.embedded_count()), ("override", catalogue.override_count())]
        {
            families.rules_loaded.set(|key| _ = key.own(origin), count as f64);
        }
        self.describe_codes(catalogue);
    }

    /// Writes `aadstream_rule_info` anew, at once: no scrape finds a code twice, or not at all.
    fn describe_codes(&self, catalogue: &Catalogue) {
        let mut rows = self.families.rule_info.rows();
        rows.clear();
        for rule in catalogue.rules() {
            let fix = rule.fix.first().map_or("", String::as_str);
            let page = runbook_url(rule.code, self.external_url.as_deref())
                .or_else(|| rule.references.first().cloned())
                .unwrap_or_else(|| GENERAL_PAGE.to_owned());
            rule_info(&mut rows, rule.code, &rule.title, rule.category.as_str(), fix, &page);
        }
        let unknown =
            "Look the number up on Microsoft's page; then give it a rule of your own in [rules] dir.";
        let none = "Read the record itself: the service named no reason. For a refresh look at its error in Power BI.";
        for (code, fix) in [(Code::Unknown, unknown), (Code::None, none)] {
            rule_info(&mut rows, code, &title(catalogue, code), "other", fix, GENERAL_PAGE);
        }
    }

    /// Series whose labels are closed sets exist at 0 from the start.
    fn declare_closed_sets(&self) {
        let families = &self.families;
        families.rules_last_reload_successful.set(1);
        let revision = option_env!("AADSTREAM_REVISION").unwrap_or(UNKNOWN);
        families.build_info.set(|key| _ = key.own(env!("CARGO_PKG_VERSION")).own(revision), 1.0);
        for category in LogCategory::ALL {
            for outcome in Outcome::ALL {
                families.records.declare(&|key| _ = key.own(category.as_str()).own(outcome.as_str()));
            }
        }
        for kind in [Kind::SignIn, Kind::Refresh] {
            families.duplicates.declare(&|key| _ = key.own(kind.as_str()));
        }
        for reason in Reason::ALL {
            for table in [&families.dead_letters_skipped, &families.dead_letters] {
                table.declare(&|key| _ = key.own(reason.as_str()));
            }
        }
        families.dead_letters.declare(&|key| _ = key.own("undeliverable"));
        for reason in FORWARD_FAILURES {
            families.forward_failures.declare(&|key| _ = key.own(reason));
        }
        for reason in ["stalled", "files"] {
            families.consumer_rebuilds.declare(&|key| _ = key.own(reason));
        }
        for reason in ["failed", "files"] {
            families.producer_rebuilds.declare(&|key| _ = key.own(reason));
        }
        for kind in ["assign", "revoke", "lost"] {
            families.rebalances.declare(&|key| _ = key.own(kind));
        }
    }

    /// Makes the series of a topic exist at 0.
    pub fn declare_topic(&self, topic: &str) {
        let families = &self.families;
        for table in [&families.consumed, &families.processed, &families.consumed_bytes, &families.lost] {
            table.declare(&|key| _ = key.own(topic));
        }
        for reason in Reason::ALL {
            for table in [&families.messages_rejected, &families.records_rejected] {
                table.declare(&|key| _ = key.own(topic).own(reason.as_str()));
            }
        }
    }

    /// Makes the series of an output topic exist at 0.
    pub fn declare_forwarding(&self, topic: &str) {
        self.families.events_forwarded.declare(&|key| _ = key.own(topic));
    }

    pub fn event_forwarded(&self, topic: &str) {
        self.families.events_forwarded.add(|key| _ = key.own(topic), 1);
    }

    /// `reason` is one of [`FORWARD_FAILURES`].
    pub fn forward_failure(&self, reason: &'static str) {
        self.families.forward_failures.add(|key| _ = key.own(reason), 1);
    }

    pub fn dead_letter(&self, reason: &'static str) {
        self.families.dead_letters.add(|key| _ = key.own(reason), 1);
    }

    pub fn consumed(&self, topic: &str, messages: u64, bytes: u64) {
        self.families.consumed.add(|key| _ = key.own(topic), messages);
        self.families.consumed_bytes.add(|key| _ = key.own(topic), bytes);
    }

    pub fn messages_lost(&self, topic: &str, count: u64) {
        self.families.lost.add(|key| _ = key.own(topic), count);
    }

    pub fn commit(&self) {
        self.families.commits.inc();
    }

    pub fn commit_failure(&self) {
        self.families.commit_failures.inc();
    }

    pub fn rebalance(&self, kind: &'static str) {
        self.families.rebalances.add(|key| _ = key.own(kind), 1);
    }

    pub fn assigned_partitions(&self, count: usize) {
        set(&self.families.assigned_partitions, count);
    }

    pub fn paused_partitions(&self, count: usize) {
        set(&self.families.paused_partitions, count);
    }

    pub fn stalled_partitions(&self, count: usize) {
        set(&self.families.stalled_partitions, count);
    }

    pub fn consumer_rebuild(&self, reason: &'static str) {
        self.families.consumer_rebuilds.add(|key| _ = key.own(reason), 1);
    }

    pub fn producer_rebuild(&self, reason: &'static str) {
        self.families.producer_rebuilds.add(|key| _ = key.own(reason), 1);
    }

    pub fn in_flight_bytes(&self, bytes: u64) {
        self.families.in_flight_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Messages behind the end of a partition, and how old the last digested one was, in milliseconds.
    pub fn lag(&self, topic: &str, partition: i32, messages: u64, behind_ms: Millis) {
        set_partition(&self.families.lag_messages, topic, partition, messages as f64);
        set_partition(&self.families.lag_seconds, topic, partition, seconds(behind_ms));
    }

    pub fn last_commit(&self, topic: &str, partition: i32, now: Millis) {
        set_partition(&self.families.last_commit, topic, partition, seconds(now));
    }

    pub fn last_progress(&self, topic: &str, partition: i32, now: Millis) {
        set_partition(&self.families.last_progress, topic, partition, seconds(now));
    }

    /// Drops the series of a partition that is not ours any more: sums would count it twice.
    pub fn forget_partition(&self, topic: &str, partition: i32) {
        let families = &self.families;
        for table in
            [&families.lag_messages, &families.lag_seconds, &families.last_commit, &families.last_progress]
        {
            table.remove(|key| partition_key(key, topic, partition));
        }
    }

    pub fn step(&self, step: &'static str, took: Duration) {
        self.families.step_duration.with_label_values(&[step]).observe(took.as_secs_f64());
    }

    /// Shows every value as it is: the last scrapes before the end must see them.
    pub fn end_holds(&self) {
        self.families.end_holds();
    }

    /// The exposition text and its content type, gzipped on request.
    pub fn encode(&self, gzip: bool) -> (&'static str, Vec<u8>) {
        let mut text = Vec::with_capacity(self.text_bytes.load(Ordering::Relaxed));
        self.families.write_text(&mut text);
        self.text_bytes.store(text.len() + text.len() / 8, Ordering::Relaxed);
        if gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&text).expect("memory does not fail");
            text = encoder.finish().expect("memory does not fail");
        }
        ("text/plain; version=0.0.4; charset=utf-8", text)
    }

    /// All families as values of the crate, sorted by name: the yardstick for [`Metrics::encode`].
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.families.gather()
    }
}

fn rule_info(rows: &mut Rows<'_>, code: Code, title: &str, category: &str, fix: &str, page: &str) {
    let mut end = fix.len().min(FIX_BYTES);
    while !fix.is_char_boundary(end) {
        end -= 1;
    }
    rows.key().code(code).own(title).own(category).own(&fix[..end]).own(page);
    rows.set(1.0);
}

fn set(gauge: &IntGauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

fn set_partition(table: &Table, topic: &str, partition: i32, value: f64) {
    table.set(|key| partition_key(key, topic, partition), value);
}

fn partition_key(key: &mut Key, topic: &str, partition: i32) {
    key.own(topic).number(u64::from(partition.unsigned_abs()));
}

fn event_key(key: &mut Key, code: Code, flow: Flow, verdict: Verdict) {
    key.code(code)
        .own(flow.as_str())
        .own(verdict.outcome.as_str())
        .own(verdict.severity.as_str())
        .own(verdict.category.as_str())
        .own(verdict.audience.as_str());
}

fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1000.0
}
