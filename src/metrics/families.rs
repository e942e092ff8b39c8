//! The list of families: name, help, labels and limit of each.

use super::table::{Clock, Label, Shape, Table};
use super::{
    Collector, Cow, Duration, Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, MetricType,
    Registry, register,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

const COUNTER: MetricType = MetricType::COUNTER;
const GAUGE: MetricType = MetricType::GAUGE;

/// Series of a table whose labels are closed sets, or are given out by Kafka: far above what there can be.
const CLOSED: usize = 50_000;

/// Rows of `aadstream_app_events_total`.
const APP_EVENTS: usize = 5_000;

/// Codes without a rule that are shown by number.
const UNKNOWN_CODES: usize = 200;

/// Series of each refresh table: some thousand datasets.
const REFRESHES: usize = 5_000;

/// Apps whose names are shown.
const APPS: usize = 5_000;

/// Everything that is exported.
pub struct Families {
    pub events: Arc<Table>,
    pub mentions: Arc<Table>,
    pub malformed_codes: IntCounter,
    pub unknown_codes: Arc<Table>,
    pub app_events: Arc<Table>,
    pub app_names: AppNames,
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
    pub source_delay: Histogram,
    pub step_duration: HistogramVec,
    pub rules_loaded: Arc<Table>,
    pub build_info: Arc<Table>,
}

/// A collector that is shared with whoever counts.
struct Shared(Arc<Table>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }
    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

impl Families {
    /// Registers every family.
    #[expect(
        clippy::too_many_lines,
        reason = "one flat list of the program's metrics, in the order of README"
    )]
    pub fn register(registry: &Registry, hold: Duration, clock: Clock) -> Self {
        let table = |kind, name, labels, help| {
            let shape = Shape { name, help, labels, kind, limit: CLOSED, folds: &[], holds: false };
            shared(registry, Table::new(shape, hold, clock))
        };
        let held = |name, labels, limit, folds, help| {
            let shape = Shape { name, help, labels, kind: COUNTER, limit, folds, holds: true };
            shared(registry, Table::new(shape, hold, clock))
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is well formed");
            register(registry, counter.clone());
            counter
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is well formed");
            register(registry, gauge.clone());
            gauge
        };
        let events = held(
            "aadstream_events_total",
            &["code", "flow", "outcome", "severity", "category", "audience"],
            CLOSED,
            &[],
            "Failures and interrupts by primary code, with the severity and audience in force.",
        );
        let mentions = held(
            "aadstream_mentions_total",
            &["code"],
            CLOSED,
            &[],
            "Records and text entries in which a code stands, the primary one included.",
        );
        let unknown_codes = held(
            "aadstream_unknown_codes_total",
            &["code"],
            UNKNOWN_CODES,
            &[0],
            "Events whose code has no rule in the catalogue, by number.",
        );
        let app_events = held(
            "aadstream_app_events_total",
            &["code", "flow", "tenant", "app_id"],
            APP_EVENTS,
            &[3, 2],
            "Events by tenant and app; beyond the limit the app, then the tenant, is `_other`.",
        );
        let refresh_ids = &["workspace_id", "dataset_id"];
        let refreshes = held(
            "aadstream_refreshes_total",
            &["workspace_id", "dataset_id", "outcome"],
            REFRESHES,
            &[1, 0],
            "Power BI refreshes by outcome, each counted once.",
        );
        let refresh_events = held(
            "aadstream_refresh_events_total",
            &["workspace_id", "dataset_id", "code"],
            REFRESHES,
            &[1, 0],
            "Failed Power BI refreshes by primary code.",
        );
        let last_success_shape = Shape {
            name: "aadstream_refresh_last_success_timestamp_seconds",
            help: "End of the last successful refresh of a dataset, as its record says.",
            labels: refresh_ids,
            kind: GAUGE,
            limit: REFRESHES,
            folds: &[1, 0],
            holds: false,
        };
        let refresh_last_success = shared(registry, Table::new(last_success_shape, hold, clock));
        let app_names = AppNames::register(registry);
        let topic = &["topic"];
        let partition = &["topic", "partition"];
        let rejected = &["topic", "reason"];
        let families = Self {
            malformed_codes: counter(
                "aadstream_malformed_codes_total",
                "Runs of digits behind AADSTS or AADB2C that cannot be a code.",
            ),
            records: table(
                COUNTER,
                "aadstream_records_total",
                &["log_category", "outcome"],
                "Records by the log they came from and how they ended.",
            ),
            text_lines: counter("aadstream_text_lines_total", "Text entries: text that is no record."),
            duplicates: table(
                COUNTER,
                "aadstream_duplicate_records_total",
                &["kind"],
                "Copies of records that were counted before, or ended long before they were sent.",
            ),
            time_fallbacks: counter(
                "aadstream_time_fallbacks_total",
                "Records whose time could not be read, so that Kafka's was taken.",
            ),
            rule_info: table(
                GAUGE,
                "aadstream_rule_info",
                &["code", "title", "category", "fix", "runbook_url"],
                "What the catalogue says of a code; fix is the first step.",
            ),
            consumed: table(
                COUNTER,
                "aadstream_messages_consumed_total",
                topic,
                "Messages taken from Kafka.",
            ),
            processed: table(
                COUNTER,
                "aadstream_messages_processed_total",
                topic,
                "Messages that were digested and not rejected.",
            ),
            consumed_bytes: table(
                COUNTER,
                "aadstream_consumed_bytes_total",
                topic,
                "Bytes of the values of consumed messages, after Kafka's decompression.",
            ),
            lost: table(
                COUNTER,
                "aadstream_messages_lost_total",
                topic,
                "Messages that retention or DeleteRecords removed before they were read.",
            ),
            messages_rejected: table(
                COUNTER,
                "aadstream_messages_rejected_total",
                rejected,
                "Messages that gave no record and no text, by reason.",
            ),
            records_rejected: table(
                COUNTER,
                "aadstream_records_rejected_total",
                rejected,
                "Broken pieces of messages that gave something else, by reason.",
            ),
            dead_letters_skipped: table(
                COUNTER,
                "aadstream_dead_letters_skipped_total",
                &["reason"],
                "Rejected messages and pieces that were not kept, by reason.",
            ),
            commits: counter("aadstream_commits_total", "Offset commits that the brokers confirmed."),
            commit_failures: counter(
                "aadstream_commit_failures_total",
                "Offset commits that failed; they are repeated.",
            ),
            rebalances: table(
                COUNTER,
                "aadstream_rebalances_total",
                &["kind"],
                "Changes of the partitions assigned to this process: assign, revoke or lost.",
            ),
            lag_messages: table(
                GAUGE,
                "aadstream_consumer_lag_messages",
                partition,
                "Messages between the last digested one and the end of the partition.",
            ),
            lag_seconds: table(
                GAUGE,
                "aadstream_consumer_lag_seconds",
                partition,
                "Age of the last digested message while there are more to read, else 0.",
            ),
            last_commit: table(
                GAUGE,
                "aadstream_last_commit_timestamp_seconds",
                partition,
                "When an offset of the partition was last committed.",
            ),
            last_progress: table(
                GAUGE,
                "aadstream_last_progress_timestamp_seconds",
                partition,
                "When a message of the partition was last digested.",
            ),
            assigned_partitions: gauge(
                "aadstream_assigned_partitions",
                "Partitions assigned to this process.",
            ),
            paused_partitions: gauge(
                "aadstream_paused_partitions",
                "Partitions paused because too much is in flight.",
            ),
            in_flight_bytes: gauge(
                "aadstream_in_flight_bytes",
                "Bytes of messages taken from Kafka and not yet digested.",
            ),
            source_delay: source_delay(registry),
            step_duration: step_duration(registry),
            rules_loaded: table(
                GAUGE,
                "aadstream_rules_loaded",
                &["origin"],
                "Rules in force, embedded or of [rules] dir.",
            ),
            build_info: table(
                GAUGE,
                "aadstream_build_info",
                &["version", "revision"],
                "Version of the program.",
            ),
            events,
            mentions,
            unknown_codes,
            app_events,
            app_names,
            refreshes,
            refresh_events,
            refresh_last_success,
        };
        families.register_sizes(registry);
        families
    }

    /// Tables that show new series at 0 first.
    pub fn held_tables(&self) -> impl Iterator<Item = &Table> {
        [
            &self.events,
            &self.mentions,
            &self.unknown_codes,
            &self.app_events,
            &self.refreshes,
            &self.refresh_events,
        ]
        .into_iter()
        .map(AsRef::as_ref)
    }

    fn register_sizes(&self, registry: &Registry) {
        let tables = [
            ("app_events", &self.app_events),
            ("unknown_codes", &self.unknown_codes),
            ("refreshes", &self.refreshes),
            ("refresh_events", &self.refresh_events),
            ("refresh_last_success", &self.refresh_last_success),
        ];
        let tables = tables.map(|(name, table)| (name, Arc::clone(table))).to_vec();
        let size = |name, help, kind, of: fn(&Table) -> f64| {
            let shape =
                Shape { name, help, labels: &["table"], kind, limit: CLOSED, folds: &[], holds: false };
            let shown = Table::new(shape, Duration::ZERO, std::time::Instant::now);
            register(registry, Sizes { shown, tables: tables.clone(), of });
        };
        size("aadstream_series", "Series of a table that is bounded.", GAUGE, |table| table.size().0 as f64);
        size("aadstream_series_limit", "Series that a table may have before it folds.", GAUGE, |table| {
            table.shape().limit as f64
        });
        size(
            "aadstream_series_overflow_total",
            "Label values that were folded into `_other`.",
            COUNTER,
            |table| table.size().1 as f64,
        );
    }
}

fn shared(registry: &Registry, table: Table) -> Arc<Table> {
    let table = Arc::new(table);
    register(registry, Shared(Arc::clone(&table)));
    table
}

fn source_delay(registry: &Registry) -> Histogram {
    // From "at once" to "a day late": Event Hubs delivers after 2 to 15 minutes, a stuck export after hours.
    let buckets = vec![10.0, 60.0, 180.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0];
    let help = "From the time of an event to Kafka's time of its message.";
    let options = HistogramOpts::new("aadstream_source_delay_seconds", help).buckets(buckets);
    let histogram = Histogram::with_opts(options).expect("the name and the buckets are well formed");
    register(registry, histogram.clone());
    histogram
}

fn step_duration(registry: &Registry) -> HistogramVec {
    let buckets = vec![0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];
    let options =
        HistogramOpts::new("aadstream_step_duration_seconds", "Time that a batch spends in a step.")
            .buckets(buckets);
    let histogram = HistogramVec::new(options, &["step"]).expect("the name and the buckets are well formed");
    for step in ["wait", "digest", "record"] {
        let _shown_from_the_start = histogram.with_label_values(&[step]);
    }
    register(registry, histogram.clone());
    histogram
}

/// One figure of several tables, read when it is asked for.
struct Sizes {
    shown: Table,
    tables: Vec<(&'static str, Arc<Table>)>,
    of: fn(&Table) -> f64,
}

impl Collector for Sizes {
    fn desc(&self) -> Vec<&Desc> {
        self.shown.desc()
    }
    fn collect(&self) -> Vec<MetricFamily> {
        for (name, table) in &self.tables {
            self.shown.set(&[Cow::Borrowed(*name)], (self.of)(table));
        }
        self.shown.collect()
    }
}

/// Name and team by tenant and app.
type Names = BTreeMap<(Label, Label), (Label, Label)>;

/// `aadstream_app_info`: one row a tenant and app, whatever it was last called.
pub struct AppNames {
    names: Arc<Mutex<Names>>,
}

impl AppNames {
    fn register(registry: &Registry) -> Self {
        let names = Arc::default();
        register(registry, AppRows { names: Arc::clone(&names), desc: app_shape().1 });
        Self { names }
    }

    /// Names an app; beyond the limit new ones stay without a row, and their counts are `_other` anyway.
    pub fn set(&self, tenant: &Label, app_id: &Label, name: &Label, team: &Label) {
        let mut names = self.names.lock().expect("no code panics while it holds this lock");
        let key = (tenant.clone(), app_id.clone());
        if names.len() < APPS || names.contains_key(&key) {
            names.insert(key, (name.clone(), team.clone()));
        }
    }
}

fn app_shape() -> (Shape, Desc) {
    let shape = Shape {
        name: "aadstream_app_info",
        help: "Name and team of an app.",
        labels: &["tenant", "app_id", "app", "team"],
        kind: GAUGE,
        limit: APPS,
        folds: &[],
        holds: false,
    };
    let table = Table::new(shape, Duration::ZERO, std::time::Instant::now);
    let desc = table.desc()[0].clone();
    (shape, desc)
}

struct AppRows {
    names: Arc<Mutex<Names>>,
    desc: Desc,
}

impl Collector for AppRows {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }
    fn collect(&self) -> Vec<MetricFamily> {
        let table = Table::new(app_shape().0, Duration::ZERO, std::time::Instant::now);
        let names = self.names.lock().expect("no code panics while it holds this lock").clone();
        for ((tenant, app_id), (name, team)) in names {
            table.set(&[tenant, app_id, name, team], 1.0);
        }
        table.collect()
    }
}
