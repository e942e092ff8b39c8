//! Every metric of the program; the only module that knows the `prometheus` crate.
//!
//! Names and labels are a contract: README lists them, `tests/golden/metrics.txt` holds them. Counting is one call a batch
//! ([`Metrics::record`]); a scrape copies the tables and encodes the copy.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Registry, TextEncoder,
};
use rustc_hash::FxHashMap;

use crate::catalogue::{Catalogue, Verdict};
use crate::code::Code;
use crate::digest::App;
use crate::digest::event::{runbook_url, title};
use crate::digest::found::without_code;
use crate::digest::tally::{Refreshes, Tally};
use crate::digest::time::Millis;
use crate::terms::{Flow, Kind, LogCategory, Outcome, Reason};

mod families;
mod table;

pub use families::Families;
pub use table::Clock;
use table::{Label, OTHER, Table, UNKNOWN, label};

/// Tenants that are told apart in `aadstream_app_events_total`.
const TENANTS: usize = 100;

/// The first step of a fix as a label; rules keep to it, overrides are cut.
const FIX_BYTES: usize = 160;

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
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self {
            birth_hold: Duration::from_secs(60),
            external_url: None,
            apps: HashMap::new(),
            clock: Instant::now,
            process: false,
        }
    }
}

/// The metrics of one service.
pub struct Metrics {
    registry: Registry,
    families: Families,
    apps: HashMap<String, App>,
    tenants: std::sync::Mutex<Vec<String>>,
}

impl Metrics {
    /// Metrics in which every code of the catalogue stands at 0 already.
    pub fn new(catalogue: &Catalogue, options: MetricsOptions) -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry, options.birth_hold, options.clock);
        if options.process {
            #[cfg(target_os = "linux")]
            register(&registry, prometheus::process_collector::ProcessCollector::for_self());
        }
        let metrics = Self { registry, families, apps: options.apps, tenants: std::sync::Mutex::default() };
        metrics.declare_codes(catalogue, options.external_url.as_deref());
        metrics.declare_closed_sets();
        metrics
    }

    fn declare_codes(&self, catalogue: &Catalogue, external_url: Option<&str>) {
        let families = &self.families;
        for rule in catalogue.rules() {
            let names: Vec<Option<&str>> =
                std::iter::once(None).chain(rule.variants.iter().map(|variant| Some(variant.name))).collect();
            for flow in &rule.flows {
                for variant in &names {
                    if let Some(verdict) = catalogue.verdict(rule.code, *flow, *variant) {
                        families.events.declare(&event_labels(&code_label(rule.code), *flow, verdict));
                    }
                }
            }
            families.mentions.declare(&[code_label(rule.code)]);
            let fix = rule.fix.first().map_or("", String::as_str);
            let page = runbook_url(rule.code, external_url)
                .or_else(|| rule.references.first().cloned())
                .unwrap_or_else(|| GENERAL_PAGE.to_owned());
            self.rule_info(&code_label(rule.code), &rule.title, rule.category.as_str(), fix, page);
        }
        for flow in Flow::ALL {
            families.events.declare(&event_labels(&Cow::Borrowed(UNKNOWN), *flow, Verdict::UNKNOWN));
            if *flow != Flow::Text {
                families.events.declare(&event_labels(&Cow::Borrowed("none"), *flow, without_code(*flow)));
            }
        }
        families.mentions.declare(&[Cow::Borrowed(UNKNOWN)]);
        let unknown =
            "Look the number up on Microsoft's page; then give it a rule of your own in [rules] dir.";
        let none = "Read the record itself: the service named no reason. For a refresh look at its error in Power BI.";
        for (code, label, fix) in [(Code::Unknown, UNKNOWN, unknown), (Code::None, "none", none)] {
            self.rule_info(
                &Cow::Borrowed(label),
                &title(catalogue, code),
                "other",
                fix,
                GENERAL_PAGE.to_owned(),
            );
        }
        families.rules_loaded.set(&[Cow::Borrowed("embedded")], catalogue.embedded_count() as f64);
        families.rules_loaded.set(&[Cow::Borrowed("override")], catalogue.override_count() as f64);
        let revision = option_env!("AADSTREAM_REVISION").unwrap_or(UNKNOWN);
        families.build_info.set(&[Cow::Borrowed(env!("CARGO_PKG_VERSION")), Cow::Borrowed(revision)], 1.0);
    }

    fn rule_info(&self, code: &Label, title: &str, category: &str, fix: &str, page: String) {
        let mut end = fix.len().min(FIX_BYTES);
        while !fix.is_char_boundary(end) {
            end -= 1;
        }
        let own = |text: &str| Cow::Owned(text.to_owned());
        let labels = [code.clone(), own(title), own(category), own(&fix[..end]), Cow::Owned(page)];
        self.families.rule_info.set(&labels, 1.0);
    }

    /// Series whose labels are closed sets exist at 0 from the start.
    fn declare_closed_sets(&self) {
        let families = &self.families;
        for category in LogCategory::ALL {
            for outcome in Outcome::ALL {
                families
                    .records
                    .declare(&[Cow::Borrowed(category.as_str()), Cow::Borrowed(outcome.as_str())]);
            }
        }
        for kind in [Kind::SignIn, Kind::Refresh] {
            families.duplicates.declare(&[Cow::Borrowed(kind.as_str())]);
        }
        for reason in Reason::ALL {
            families.dead_letters_skipped.declare(&[Cow::Borrowed(reason.as_str())]);
        }
        for kind in ["assign", "revoke", "lost"] {
            families.rebalances.declare(&[Cow::Borrowed(kind)]);
        }
    }

    /// Makes the series of a topic exist at 0.
    pub fn declare_topic(&self, topic: &str) {
        let families = &self.families;
        let topic = label(topic);
        for table in [&families.consumed, &families.processed, &families.consumed_bytes, &families.lost] {
            table.declare(std::slice::from_ref(&topic));
        }
        for reason in Reason::ALL {
            for table in [&families.messages_rejected, &families.records_rejected] {
                table.declare(&[topic.clone(), Cow::Borrowed(reason.as_str())]);
            }
        }
    }

    /// Counts what one batch of `topic` said.
    pub fn record(&self, tally: &Tally, topic: &str) {
        let families = &self.families;
        let topic = label(topic);
        let fixed = |word: &'static str| Cow::Borrowed(word);
        for reason in Reason::ALL {
            let [messages, records] =
                [&tally.rejected_messages, &tally.rejected_records].map(|counts| counts[*reason as usize]);
            let labels = [topic.clone(), fixed(reason.as_str())];
            add_some(&families.messages_rejected, &labels, messages);
            add_some(&families.records_rejected, &labels, records);
            add_some(&families.dead_letters_skipped, &[fixed(reason.as_str())], messages + records);
        }
        for (category, outcomes) in LogCategory::ALL.iter().zip(&tally.records) {
            for (outcome, count) in Outcome::ALL.iter().zip(outcomes) {
                add_some(&families.records, &[fixed(category.as_str()), fixed(outcome.as_str())], *count);
            }
        }
        for (kind, count) in Kind::ALL.iter().zip(tally.duplicates) {
            add_some(&families.duplicates, &[fixed(kind.as_str())], count);
        }
        families.text_lines.inc_by(tally.text_lines);
        families.malformed_codes.inc_by(tally.malformed_codes);
        families.time_fallbacks.inc_by(tally.time_fallbacks);
        for delay in &tally.source_delays {
            families.source_delay.observe((*delay).max(0) as f64 / 1000.0);
        }
        self.record_codes(tally);
        self.record_apps(tally);
        self.record_refreshes(&tally.refreshes);
        // Last, so that a message is never shown as processed before what it said is.
        let rejected: u64 = tally.rejected_messages.iter().sum();
        families.processed.add(std::slice::from_ref(&topic), tally.messages - rejected);
    }

    fn record_codes(&self, tally: &Tally) {
        let families = &self.families;
        let mut unknown: FxHashMap<Code, u64> = FxHashMap::default();
        let events = tally.events.iter().map(|(key, seen)| {
            let code =
                if key.known || key.code == Code::None { code_label(key.code) } else { fixed_unknown() };
            if !key.known && key.code != Code::None {
                *unknown.entry(key.code).or_default() += seen.count;
            }
            let verdict = Verdict {
                outcome: key.outcome,
                severity: key.severity,
                audience: key.audience,
                category: key.category,
            };
            (event_labels(&code, key.flow, verdict), seen.count)
        });
        families.events.add_all(events);
        let mentions = tally.mentions.iter().map(|(code, count)| {
            let label = [code_label(*code)];
            (if families.mentions.has(&label) { label } else { [fixed_unknown()] }, *count)
        });
        families.mentions.add_all(mentions.collect::<Vec<_>>());
        families.unknown_codes.add_all(unknown.into_iter().map(|(code, count)| {
            ([if code == Code::Unknown { Cow::Borrowed(OTHER) } else { code_label(code) }], count)
        }));
    }

    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order")]
    fn record_apps(&self, tally: &Tally) {
        let families = &self.families;
        let rows = tally.apps.iter().map(|(key, count)| {
            let (code, flow) = (key.code.unwrap_or(Code::None), key.flow.unwrap_or(Flow::Text));
            let code = [code_label(code)];
            let code = if code[0] == "none" || families.mentions.has(&code) {
                code[0].clone()
            } else {
                fixed_unknown()
            };
            let (tenant, app_id) = self.app_labels(&key.tenant, &key.app_id);
            ([code, Cow::Borrowed(flow.as_str()), tenant, app_id], *count)
        });
        families.app_events.add_all(rows.collect::<Vec<_>>());
        for ((tenant, app_id), name) in &tally.app_names {
            let app = self.apps.get(&app_id.to_ascii_lowercase());
            let name = app.and_then(|app| app.alias.as_deref()).unwrap_or(name);
            let team = app.and_then(|app| app.team.as_deref()).unwrap_or(UNKNOWN);
            let (tenant, app_id) = self.app_labels(tenant, app_id);
            families.app_names.set(&tenant, &app_id, &label(name), &label(team));
        }
    }

    /// The labels of an app; tenants beyond the first hundred are one.
    fn app_labels(&self, tenant: &str, app_id: &str) -> (Label, Label) {
        let mut tenants = self.tenants.lock().expect("no code panics while it holds this lock");
        if !tenants.iter().any(|known| known == tenant) {
            if tenants.len() >= TENANTS {
                return (Cow::Borrowed(OTHER), Cow::Borrowed(OTHER));
            }
            tenants.push(tenant.to_owned());
        }
        (label(tenant), label(app_id))
    }

    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order")]
    fn record_refreshes(&self, refreshes: &FxHashMap<crate::digest::tally::Dataset, Refreshes>) {
        let families = &self.families;
        for (dataset, counts) in refreshes {
            let ids = [label(&dataset.workspace_id), label(&dataset.dataset_id)];
            let with = |more: Label| [ids[0].clone(), ids[1].clone(), more];
            for (outcome, count) in &counts.outcomes {
                families.refreshes.add(&with(Cow::Borrowed(outcome.as_str())), *count);
            }
            for (code, count) in &counts.codes {
                families.refresh_events.add(&with(code_label(*code)), *count);
            }
            if let Some(millis) = counts.last_success {
                families.refresh_last_success.raise(&ids, seconds(millis));
            }
        }
    }

    pub fn consumed(&self, topic: &str, messages: u64, bytes: u64) {
        let topic = [label(topic)];
        self.families.consumed.add(&topic, messages);
        self.families.consumed_bytes.add(&topic, bytes);
    }

    pub fn messages_lost(&self, topic: &str, count: u64) {
        self.families.lost.add(&[label(topic)], count);
    }

    pub fn commit(&self) {
        self.families.commits.inc();
    }

    pub fn commit_failure(&self) {
        self.families.commit_failures.inc();
    }

    pub fn rebalance(&self, kind: &'static str) {
        self.families.rebalances.add(&[Cow::Borrowed(kind)], 1);
    }

    pub fn assigned_partitions(&self, count: usize) {
        set(&self.families.assigned_partitions, count);
    }

    pub fn paused_partitions(&self, count: usize) {
        set(&self.families.paused_partitions, count);
    }

    pub fn in_flight_bytes(&self, bytes: u64) {
        self.families.in_flight_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Messages behind the end of a partition, and how old the last digested one was, in milliseconds.
    pub fn lag(&self, topic: &str, partition: i32, messages: u64, behind_ms: Millis) {
        let labels = partition_labels(topic, partition);
        self.families.lag_messages.set(&labels, messages as f64);
        self.families.lag_seconds.set(&labels, seconds(behind_ms));
    }

    pub fn last_commit(&self, topic: &str, partition: i32, now: Millis) {
        self.families.last_commit.set(&partition_labels(topic, partition), seconds(now));
    }

    pub fn last_progress(&self, topic: &str, partition: i32, now: Millis) {
        self.families.last_progress.set(&partition_labels(topic, partition), seconds(now));
    }

    /// Drops the series of a partition that is not ours any more: sums would count it twice.
    pub fn forget_partition(&self, topic: &str, partition: i32) {
        let families = &self.families;
        let labels = partition_labels(topic, partition);
        for table in
            [&families.lag_messages, &families.lag_seconds, &families.last_commit, &families.last_progress]
        {
            table.remove(&labels);
        }
    }

    pub fn step(&self, step: &'static str, took: Duration) {
        self.families.step_duration.with_label_values(&[step]).observe(took.as_secs_f64());
    }

    /// Shows every value as it is: the last scrapes before the end must see them.
    pub fn end_holds(&self) {
        self.families.held_tables().for_each(Table::end_holds);
    }

    /// The exposition text and its content type, gzipped on request.
    pub fn encode(&self, gzip: bool) -> (&'static str, Vec<u8>) {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("families are well formed and memory does not fail");
        if gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&text).expect("memory does not fail");
            text = encoder.finish().expect("memory does not fail");
        }
        ("text/plain; version=0.0.4; charset=utf-8", text)
    }
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("every metric is registered once");
}

fn set(gauge: &IntGauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

fn add_some(table: &Table, labels: &[Label], count: u64) {
    if count > 0 {
        table.add(labels, count);
    }
}

fn code_label(code: Code) -> Label {
    match code {
        Code::Named(name) => Cow::Borrowed(name),
        code => Cow::Owned(code.to_string()),
    }
}

const fn fixed_unknown() -> Label {
    Cow::Borrowed(UNKNOWN)
}

fn event_labels(code: &Label, flow: Flow, verdict: Verdict) -> [Label; 6] {
    [
        code.clone(),
        Cow::Borrowed(flow.as_str()),
        Cow::Borrowed(verdict.outcome.as_str()),
        Cow::Borrowed(verdict.severity.as_str()),
        Cow::Borrowed(verdict.category.as_str()),
        Cow::Borrowed(verdict.audience.as_str()),
    ]
}

fn partition_labels(topic: &str, partition: i32) -> [Label; 2] {
    [label(topic), Cow::Owned(partition.to_string())]
}

fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1000.0
}
