//! The list of families: name, help, labels and limit of each.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Registry, TextEncoder,
};

use super::builder::{Builder, CLOSED, CLOSED_SETS, COUNTER};
use super::table::{Clock, Fold, Shape, Table};
use crate::terms::{Outcome, Reason};

const GAUGE: MetricType = MetricType::GAUGE;

/// Series of codes and flows: far above what a catalogue and its overrides can make.
const EVENTS: usize = 20_000;
const EVENTS_FOLDS: &[Fold] =
    &[Fold { room: 19_000, labels: &[1] }, Fold { room: EVENTS - 1, labels: &[0, 2, 3, 4, 5] }];

/// Codes without a rule that are shown by number; one more row is for all others.
const UNKNOWN_CODES: usize = 200;

/// Rows of `aadstream_app_events_total`: four fifths for apps, the rest for what folds, so that the code stays.
const APP_EVENTS: usize = 5_000;
const APP_EVENTS_FOLDS: &[Fold] = &[
    Fold { room: 4_000, labels: &[3] },
    Fold { room: 4_500, labels: &[2] },
    Fold { room: APP_EVENTS - 1, labels: &[0, 1] },
];

/// Datasets that are told apart; a dataset beyond them is `_other` in every table.
pub const DATASETS: usize = 2_000;

/// Five codes a dataset, and room for the codes of those beyond.
const REFRESH_EVENTS: usize = 10_000;
const REFRESH_EVENTS_FOLDS: &[Fold] =
    &[Fold { room: 9_500, labels: &[0, 1] }, Fold { room: REFRESH_EVENTS - 1, labels: &[2] }];

/// Topics that are told apart; patterns may match any number.
const TOPICS: usize = 1_000;
const TOPIC_FOLDS: &[Fold] = &[Fold { room: TOPICS, labels: &[0] }];
const TOPIC_REASONS: usize = (TOPICS + 1) * Reason::ALL.len();
const TOPIC_REASON_FOLDS: &[Fold] = &[Fold { room: TOPICS * Reason::ALL.len(), labels: &[0] }];

/// Partitions of this process that have gauges of their own.
const PARTITIONS: usize = 10_000;

/// Everything that is exported.
///
/// Tables stand beside the registry: they write their text themselves (see [`Table::write_text`]).
pub struct Families {
    pub events: Arc<Table>,
    pub mentions: Arc<Table>,
    pub malformed_codes: IntCounter,
    pub unknown_codes: Arc<Table>,
    pub app_events: Arc<Table>,
    pub app_info: Arc<Table>,
    pub refreshes: Arc<Table>,
    pub refresh_events: Arc<Table>,
    pub refresh_last_success: Arc<Table>,
    pub records: Arc<Table>,
    pub text_lines: IntCounter,
    pub duplicates: Arc<Table>,
    pub time_fallbacks: IntCounter,
    pub rule_info: Arc<Table>,
    pub consumed: Arc<Table>,
    pub processed: Arc<Table>,
    pub consumed_bytes: Arc<Table>,
    pub lost: Arc<Table>,
    pub messages_rejected: Arc<Table>,
    pub records_rejected: Arc<Table>,
    pub events_forwarded: Arc<Table>,
    pub forward_failures: Arc<Table>,
    pub dead_letters: Arc<Table>,
    pub dead_letters_skipped: Arc<Table>,
    pub commits: IntCounter,
    pub commit_failures: IntCounter,
    pub rebalances: Arc<Table>,
    pub lag_messages: Arc<Table>,
    pub lag_seconds: Arc<Table>,
    pub last_commit: Arc<Table>,
    pub last_progress: Arc<Table>,
    pub assigned_partitions: IntGauge,
    pub paused_partitions: IntGauge,
    pub in_flight_bytes: IntGauge,
    pub stalled_partitions: IntGauge,
    pub consumer_rebuilds: Arc<Table>,
    pub producer_rebuilds: Arc<Table>,
    pub source_delay: Histogram,
    pub step_duration: HistogramVec,
    pub rules_loaded: Arc<Table>,
    pub rules_reloads: IntCounter,
    pub rules_reload_failures: IntCounter,
    pub rules_last_reload_successful: IntGauge,
    pub build_info: Arc<Table>,
    pub series: Arc<Table>,
    pub series_limit: Arc<Table>,
    pub series_overflow: Arc<Table>,
    /// All of the above that are tables, sorted by name.
    tables: Vec<Arc<Table>>,
    /// All of the above that are the crate's own.
    registry: Registry,
}

impl Families {
    /// Makes every family.
    #[expect(
        clippy::too_many_lines,
        reason = "one flat list of the program's metrics, in the order of README"
    )]
    pub fn new(hold: Duration, clock: Clock) -> Self {
        let mut new = Builder { hold, clock, tables: Vec::new(), registry: Registry::new() };
        let topic = &["topic"];
        let topics = (TOPICS + 1, TOPIC_FOLDS);
        let rejected = &["topic", "reason"];
        let topic_reasons = (TOPIC_REASONS, TOPIC_REASON_FOLDS);
        let partition = &["topic", "partition"];
        let partitions = (PARTITIONS, &[][..]);
        let mut families = Self {
            events: new.held(
                "aadstream_events_total",
                &["code", "flow", "outcome", "severity", "category", "audience"],
                (EVENTS, EVENTS_FOLDS),
                "Failures and interrupts by primary code, with the severity and audience in force.",
            ),
            mentions: new.held(
                "aadstream_mentions_total",
                &["code"],
                CLOSED_SETS,
                "Records and text entries in which a code stands, the primary one included.",
            ),
            malformed_codes: new.counter(
                "aadstream_malformed_codes_total",
                "Runs of digits behind AADSTS or AADB2C that cannot be a code.",
            ),
            unknown_codes: new.held(
                "aadstream_unknown_codes_total",
                &["code"],
                (UNKNOWN_CODES + 1, &[Fold { room: UNKNOWN_CODES, labels: &[0] }]),
                "Events whose code has no rule in the catalogue, by number.",
            ),
            app_events: new.held(
                "aadstream_app_events_total",
                &["code", "flow", "tenant", "app_id"],
                (APP_EVENTS, APP_EVENTS_FOLDS),
                "Events by tenant and app; beyond the limit the app, then the tenant, is `_other`.",
            ),
            app_info: new.add(Shape {
                name: "aadstream_app_info",
                help: "Name and team of an app that stands in aadstream_app_events_total.",
                labels: &["tenant", "app_id", "app", "team"],
                identity: 2,
                kind: GAUGE,
                limit: APP_EVENTS,
                folds: &[],
                holds: false,
            }),
            refreshes: new.held(
                "aadstream_refreshes_total",
                &["workspace_id", "dataset_id", "outcome"],
                ((DATASETS + 1) * Outcome::ALL.len(), &[]),
                "Power BI refreshes by outcome, each counted once.",
            ),
            refresh_events: new.held(
                "aadstream_refresh_events_total",
                &["workspace_id", "dataset_id", "code"],
                (REFRESH_EVENTS, REFRESH_EVENTS_FOLDS),
                "Failed Power BI refreshes by primary code.",
            ),
            refresh_last_success: new.table(
                GAUGE,
                "aadstream_refresh_last_success_timestamp_seconds",
                &["workspace_id", "dataset_id"],
                (DATASETS, &[]),
                "End of the last successful refresh of a dataset, as its record says.",
            ),
            records: new.table(
                COUNTER,
                "aadstream_records_total",
                &["log_category", "outcome"],
                CLOSED_SETS,
                "Records by the log they came from and how they ended.",
            ),
            text_lines: new.counter("aadstream_text_lines_total", "Text entries: text that is no record."),
            duplicates: new.table(
                COUNTER,
                "aadstream_duplicate_records_total",
                &["kind"],
                CLOSED_SETS,
                "Copies of records that were counted before, or ended long before they were sent.",
            ),
            time_fallbacks: new.counter(
                "aadstream_time_fallbacks_total",
                "Records whose time could not be read, so that Kafka's was taken.",
            ),
            rule_info: new.table(
                GAUGE,
                "aadstream_rule_info",
                &["code", "title", "category", "fix", "runbook_url"],
                CLOSED_SETS,
                "What the catalogue says of a code; fix is the first step.",
            ),
            consumed: new.table(
                COUNTER,
                "aadstream_messages_consumed_total",
                topic,
                topics,
                "Messages taken from Kafka.",
            ),
            processed: new.table(
                COUNTER,
                "aadstream_messages_processed_total",
                topic,
                topics,
                "Messages that were digested and not rejected.",
            ),
            consumed_bytes: new.table(
                COUNTER,
                "aadstream_consumed_bytes_total",
                topic,
                topics,
                "Bytes of the values of consumed messages, after Kafka's decompression.",
            ),
            lost: new.table(
                COUNTER,
                "aadstream_messages_lost_total",
                topic,
                topics,
                "Messages that retention or DeleteRecords removed before they were read.",
            ),
            messages_rejected: new.table(
                COUNTER,
                "aadstream_messages_rejected_total",
                rejected,
                topic_reasons,
                "Messages that gave no record and no text, by reason.",
            ),
            records_rejected: new.table(
                COUNTER,
                "aadstream_records_rejected_total",
                rejected,
                topic_reasons,
                "Broken pieces of messages that gave something else, by reason.",
            ),
            events_forwarded: new.table(
                COUNTER,
                "aadstream_events_forwarded_total",
                topic,
                CLOSED_SETS,
                "Enriched events that the output topic acknowledged.",
            ),
            forward_failures: new.table(
                COUNTER,
                "aadstream_forward_failures_total",
                &["reason"],
                CLOSED_SETS,
                "Failed attempts to deliver an event or a dead letter; all but refused ones are repeated.",
            ),
            dead_letters: new.table(
                COUNTER,
                "aadstream_dead_letters_total",
                &["reason"],
                CLOSED_SETS,
                "Dead letters that their topic or file took, by reason.",
            ),
            dead_letters_skipped: new.table(
                COUNTER,
                "aadstream_dead_letters_skipped_total",
                &["reason"],
                CLOSED_SETS,
                "Rejected messages and pieces that were not kept, by reason.",
            ),
            commits: new.counter("aadstream_commits_total", "Offset commits that the brokers confirmed."),
            commit_failures: new
                .counter("aadstream_commit_failures_total", "Offset commits that failed; they are repeated."),
            rebalances: new.table(
                COUNTER,
                "aadstream_rebalances_total",
                &["kind"],
                CLOSED_SETS,
                "Changes of the partitions assigned to this process: assign, revoke or lost.",
            ),
            lag_messages: new.table(
                GAUGE,
                "aadstream_consumer_lag_messages",
                partition,
                partitions,
                "Messages between the last digested one and the end of the partition.",
            ),
            lag_seconds: new.table(
                GAUGE,
                "aadstream_consumer_lag_seconds",
                partition,
                partitions,
                "Age of the last digested message while there are more to read, else 0.",
            ),
            last_commit: new.table(
                GAUGE,
                "aadstream_last_commit_timestamp_seconds",
                partition,
                partitions,
                "When an offset of the partition was last committed.",
            ),
            last_progress: new.table(
                GAUGE,
                "aadstream_last_progress_timestamp_seconds",
                partition,
                partitions,
                "When a message of the partition was last digested.",
            ),
            assigned_partitions: new
                .gauge("aadstream_assigned_partitions", "Partitions assigned to this process."),
            paused_partitions: new.gauge(
                "aadstream_paused_partitions",
                "Partitions paused because too much is in flight, or halted.",
            ),
            in_flight_bytes: new.gauge(
                "aadstream_in_flight_bytes",
                "Bytes of messages not yet digested, and of events and dead letters not yet delivered.",
            ),
            stalled_partitions: new.gauge(
                "aadstream_stalled_partitions",
                "Partitions that stand still although the brokers have more of them.",
            ),
            consumer_rebuilds: new.table(
                COUNTER,
                "aadstream_consumer_rebuilds_total",
                &["reason"],
                CLOSED_SETS,
                "Consumers built anew, because partitions stood still or because keys or certificates changed.",
            ),
            producer_rebuilds: new.table(
                COUNTER,
                "aadstream_producer_rebuilds_total",
                &["reason"],
                CLOSED_SETS,
                "Producers that took the place of another one, by what was wrong.",
            ),
            source_delay: new.register(source_delay()),
            step_duration: new.register(step_duration()),
            rules_loaded: new.table(
                GAUGE,
                "aadstream_rules_loaded",
                &["origin"],
                CLOSED_SETS,
                "Rules in force, embedded or of [rules] dir.",
            ),
            rules_reloads: new
                .counter("aadstream_rules_reloads_total", "Times that rules and severities were taken anew."),
            rules_reload_failures: new.counter(
                "aadstream_rules_reload_failures_total",
                "Times that new rules or severities were refused and the old ones stayed.",
            ),
            rules_last_reload_successful: new.gauge(
                "aadstream_rules_last_reload_successful",
                "1 unless the last attempt to take rules anew was refused.",
            ),
            build_info: new.table(
                GAUGE,
                "aadstream_build_info",
                &["version", "revision"],
                CLOSED_SETS,
                "Version of the program.",
            ),
            series: new.table(
                GAUGE,
                "aadstream_series",
                &["table"],
                CLOSED_SETS,
                "Series of a table that is bounded.",
            ),
            series_limit: new.table(
                GAUGE,
                "aadstream_series_limit",
                &["table"],
                CLOSED_SETS,
                "Series that a table may have, those it folds into included.",
            ),
            series_overflow: new.table(
                COUNTER,
                "aadstream_series_overflow_total",
                &["table"],
                CLOSED_SETS,
                "Times that an amount went to `_other` because its table was full.",
            ),
            tables: Vec::new(),
            registry: new.registry,
        };
        new.tables.sort_by_key(|table| table.shape().name);
        families.tables = new.tables;
        families
    }

    /// Adds what the operating system says of this process.
    pub fn add_process(&self) {
        #[cfg(target_os = "linux")]
        self.registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("the process is registered once");
    }

    pub fn end_holds(&self) {
        self.tables.iter().for_each(|table| table.end_holds());
    }

    /// All families in text format 0.0.4, sorted by name.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        self.measure_tables();
        let mut tables = self.tables.iter().peekable();
        for family in self.registry.gather() {
            while let Some(table) = tables.next_if(|table| table.shape().name < family.name()) {
                table.write_text(out);
            }
            let encoded = TextEncoder::new().encode(&[family], out);
            encoded.expect("families are well formed and memory does not fail");
        }
        tables.for_each(|table| table.write_text(out));
    }

    /// The same families as values of the crate, sorted by name.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.measure_tables();
        let mut families = self.registry.gather();
        families.extend(self.tables.iter().flat_map(|table| table.collect()));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    fn measure_tables(&self) {
        for table in self.tables.iter().filter(|table| table.shape().limit != CLOSED) {
            let (series, overflow) = table.size();
            let name = table.shape().name.trim_start_matches("aadstream_");
            let name = name.trim_end_matches("_total").trim_end_matches("_timestamp_seconds");
            self.series.set(|key| _ = key.own(name), series as f64);
            self.series_limit.set(|key| _ = key.own(name), table.shape().limit as f64);
            self.series_overflow.set(|key| _ = key.own(name), overflow as f64);
        }
    }
}

fn source_delay() -> Histogram {
    // From "at once" to "a day late": Event Hubs delivers after 2 to 15 minutes, a stuck export after hours.
    let buckets = vec![1.0, 10.0, 60.0, 180.0, 300.0, 600.0, 900.0, 3600.0, 14400.0, 86400.0];
    let help = "From the time of an event to Kafka's time of its message.";
    let options = HistogramOpts::new("aadstream_source_delay_seconds", help).buckets(buckets);
    Histogram::with_opts(options).expect("the name and the buckets are well formed")
}

fn step_duration() -> HistogramVec {
    let buckets = vec![0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];
    let options =
        HistogramOpts::new("aadstream_step_duration_seconds", "Time that a batch spends in a step.")
            .buckets(buckets);
    let histogram = HistogramVec::new(options, &["step"]).expect("the name and the buckets are well formed");
    for step in ["wait", "digest", "record", "send", "commit"] {
        let _shown_from_the_start = histogram.with_label_values(&[step]);
    }
    histogram
}
