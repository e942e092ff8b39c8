//! A counter or gauge with several labels.
//!
//! The `prometheus` crate keeps the series of a vector by a hash of the label values written one behind the other and
//! never compares them, so `("ab","c")` and `("a","bc")` become one series. Label values from logs may be empty or
//! hostile; these tables compare them whole. They also bound themselves, and show a new series at 0 first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// A label's value; those of closed vocabularies cost nothing.
pub type Label = Cow<'static, str>;

/// What folds into when a table is full.
pub const OTHER: &str = "_other";

/// What an absent value is shown as: an empty label is the same as none to Prometheus.
pub const UNKNOWN: &str = "unknown";

/// Bytes of a label value from a log; Prometheus may be set to drop a whole scrape for a longer one.
const LABEL_BYTES: usize = 128;

/// Gives the time; injected so that tests can move it.
pub type Clock = fn() -> Instant;

/// How a table counts, shows and bounds its series.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    pub kind: MetricType,
    /// Series at most, those that folding makes left out.
    pub limit: usize,
    /// Labels that are replaced by `_other` when the table is full, the first one first.
    pub folds: &'static [usize],
    /// Whether a series is shown at 0 before its value.
    pub holds: bool,
}

/// A family of series.
#[derive(Debug)]
pub struct Table {
    shape: Shape,
    desc: Desc,
    hold: Duration,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    series: HashMap<Box<[Label]>, Series>,
    overflow: u64,
    holds_ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    value: f64,
    /// When it was born; `None` if it was there from the start.
    born: Option<Instant>,
}

impl Table {
    pub fn new(shape: Shape, hold: Duration, clock: Clock) -> Self {
        let labels = shape.labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(shape.name.to_owned(), shape.help.to_owned(), labels, HashMap::new())
            .expect("names of metrics and labels are well formed");
        Self { shape, desc, hold, clock, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Makes a series exist at 0 from the first scrape on.
    pub fn declare(&self, labels: &[Label]) {
        self.lock().series.entry(labels.into()).or_insert(Series { value: 0.0, born: None });
    }

    /// Adds to a series.
    pub fn add(&self, labels: &[Label], amount: u64) {
        self.add_all(std::iter::once((labels, amount)));
    }

    /// Adds to many series under one lock.
    pub fn add_all<'l>(&self, amounts: impl IntoIterator<Item = (impl AsRef<[Label]> + 'l, u64)>) {
        let mut state = self.lock();
        for (labels, amount) in amounts {
            self.series(&mut state, labels.as_ref()).value += amount as f64;
        }
    }

    /// Sets a gauge.
    pub fn set(&self, labels: &[Label], value: f64) {
        let mut state = self.lock();
        self.series(&mut state, labels).value = value;
    }

    /// Sets a gauge that only grows, such as a time.
    pub fn raise(&self, labels: &[Label], value: f64) {
        let mut state = self.lock();
        let series = self.series(&mut state, labels);
        series.value = series.value.max(value);
    }

    pub fn remove(&self, labels: &[Label]) {
        self.lock().series.remove(labels);
    }

    pub fn has(&self, labels: &[Label]) -> bool {
        self.lock().series.contains_key(labels)
    }

    /// Shows every value as it is from now on.
    pub fn end_holds(&self) {
        self.lock().holds_ended = true;
    }

    /// Series and overflows so far.
    pub fn size(&self) -> (usize, u64) {
        let state = self.lock();
        (state.series.len(), state.overflow)
    }

    /// The series of `labels`, or the one they fold into.
    ///
    /// Detail fills a share of the room; what folds once fills the rest. The last fold has as many series as the labels
    /// that never fold, which are closed sets, so it needs no limit.
    fn series<'s>(&self, state: &'s mut State, labels: &[Label]) -> &'s mut Series {
        let mut labels: Cow<'_, [Label]> = Cow::Borrowed(labels);
        let steps = self.shape.folds.len();
        for (step, fold) in self.shape.folds.iter().enumerate() {
            let room = self.shape.limit - self.shape.limit * (steps - 1 - step) / (2 * steps);
            if state.series.contains_key(labels.as_ref()) || state.series.len() < room {
                break;
            }
            state.overflow += 1;
            labels.to_mut()[*fold] = Cow::Borrowed(OTHER);
        }
        if !state.series.contains_key(labels.as_ref()) {
            let fresh = Series { value: 0.0, born: Some((self.clock)()) };
            state.series.insert(labels.as_ref().into(), fresh);
        }
        state.series.get_mut(labels.as_ref()).expect("it was there or was just put there")
    }
}

impl Collector for Table {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = (self.clock)();
        let state = self.lock();
        let holds = self.shape.holds && !state.holds_ended;
        let mut series: Vec<(Box<[Label]>, f64)> = Vec::with_capacity(state.series.len());
        #[expect(clippy::iter_over_hash_type, reason = "sorted below")]
        for (labels, Series { value, born }) in &state.series {
            let is_held = holds && born.is_some_and(|born| now.duration_since(born) < self.hold);
            series.push((labels.clone(), if is_held { 0.0 } else { *value }));
        }
        // Encoding and sorting happen outside the lock: a scrape must not stop the counting.
        drop(state);
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let metrics: Vec<Metric> =
            series.into_iter().map(|(labels, value)| self.metric(&labels, value)).collect();
        if metrics.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(self.shape.name.to_owned());
        family.set_help(self.shape.help.to_owned());
        family.set_field_type(self.shape.kind);
        family.set_metric(metrics);
        vec![family]
    }
}

impl Table {
    fn metric(&self, labels: &[Label], value: f64) -> Metric {
        let pairs = self.shape.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone().into_owned());
            pair
        });
        let mut metric = Metric::default();
        metric.set_label(pairs.collect::<Vec<_>>());
        if self.shape.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }
}

/// A value from a log as a label: bounded, without control and bidirectional marks, never empty.
pub fn label(value: &str) -> Label {
    let is_plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut clean: String =
        value.chars().take(LABEL_BYTES).map(|c| if is_plain(c) { c } else { '\u{fffd}' }).collect();
    let mut end = clean.len().min(LABEL_BYTES);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.truncate(end);
    if clean.trim().is_empty() { Cow::Borrowed(UNKNOWN) } else { Cow::Owned(clean) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{LazyLock, PoisonError};

    use prometheus::{IntCounterVec, Opts};

    use super::*;

    static NOW: AtomicU64 = AtomicU64::new(0);
    static TURN: Mutex<()> = Mutex::new(());

    fn clock() -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(NOW.load(Ordering::Relaxed))
    }

    fn table(limit: usize, folds: &'static [usize]) -> Table {
        let shape = Shape {
            name: "test_total",
            help: "A test.",
            labels: &["a", "b", "c"],
            kind: MetricType::COUNTER,
            limit,
            folds,
            holds: true,
        };
        Table::new(shape, Duration::from_secs(60), clock)
    }

    fn row(labels: [&str; 3]) -> Vec<Label> {
        labels.iter().map(|label| Cow::Owned((*label).to_owned())).collect()
    }

    fn shown(table: &Table) -> Vec<(String, f64)> {
        let families = table.collect();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        metrics
            .map(|metric| {
                let labels: Vec<&str> = metric.get_label().iter().map(LabelPair::value).collect();
                (labels.join("|"), metric.get_counter().get_value())
            })
            .collect()
    }

    #[test]
    fn label_sets_that_the_crate_merges_stay_apart() {
        let crates = IntCounterVec::new(Opts::new("x", "x"), &["a", "b", "c"]).unwrap();
        let ours = table(10, &[]);
        for labels in [["ab", "c", ""], ["a", "bc", ""], ["", "abc", ""]] {
            crates.with_label_values(&labels).inc();
            ours.add(&row(labels), 1);
        }
        ours.end_holds();
        assert_eq!(
            shown(&ours),
            [("|abc|".to_owned(), 1.0), ("a|bc|".to_owned(), 1.0), ("ab|c|".to_owned(), 1.0)]
        );
        assert_eq!(crates.with_label_values(&["ab", "c", ""]).get(), 3, "why this table exists");
    }

    #[test]
    fn a_new_series_is_shown_at_0_first() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let table = table(10, &[]);
        table.declare(&row(["a", "", ""]));
        table.add(&row(["a", "", ""]), 3);
        table.add(&row(["b", "", ""]), 4);
        let (a, b) = ("a||".to_owned(), "b||".to_owned());
        assert_eq!(shown(&table), [(a.clone(), 3.0), (b.clone(), 0.0)]);
        NOW.fetch_add(59, Ordering::Relaxed);
        table.add(&row(["b", "", ""]), 1);
        assert_eq!(shown(&table), [(a.clone(), 3.0), (b.clone(), 0.0)]);
        NOW.fetch_add(1, Ordering::Relaxed);
        assert_eq!(shown(&table), [(a.clone(), 3.0), (b.clone(), 5.0)]);
        table.add(&row(["c", "", ""]), 1);
        table.end_holds();
        assert_eq!(shown(&table), [(a, 3.0), (b, 5.0), ("c||".to_owned(), 1.0)], "shutdown shows all");
    }

    #[test]
    fn a_full_table_folds_and_keeps_its_total() {
        let table = table(8, &[2, 1]);
        for number in 0..100 {
            let (b, c) = (format!("b{}", number % 20), format!("c{number}"));
            table.add(&row(["a", &b, &c]), 1);
        }
        table.end_holds();
        let shown = shown(&table);
        assert_eq!(shown.iter().map(|(_, value)| value).sum::<f64>(), 100.0);
        assert!(shown.len() <= 9, "{shown:?}");
        assert!(shown.iter().any(|(labels, _)| labels == "a|_other|_other"), "{shown:?}");
        assert!(shown.iter().any(|(labels, _)| labels == "a|b6|_other"), "{shown:?}");
        assert!(table.size().1 > 0);
    }

    #[test]
    fn hostile_values_become_tame_labels() {
        assert_eq!(label(""), "unknown");
        assert_eq!(label(" \u{202e} "), " \u{fffd} ");
        assert_eq!(label("a\nb\0c"), "a\u{fffd}b\u{fffd}c");
        assert!(label(&"é".repeat(500)).len() <= 128);
    }

    #[test]
    fn counting_goes_on_while_a_scrape_encodes() {
        let table = std::sync::Arc::new(table(1000, &[]));
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let table = &table;
                scope.spawn(move || {
                    for number in 0..2000 {
                        table.add(&row([&format!("{thread}"), &format!("{}", number % 50), ""]), 1);
                    }
                });
            }
            (0..20).for_each(|_| drop(table.collect()));
        });
        table.end_holds();
        assert_eq!(shown(&table).iter().map(|(_, value)| value).sum::<f64>(), 4000.0);
    }
}
