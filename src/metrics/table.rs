//! A counter or gauge with several labels.
//!
//! The `prometheus` crate keeps the series of a vector by a hash of the label values written one behind the other and
//! never compares them, so `("ab","c")` and `("a","bc")` become one series. Label values from logs may be empty or
//! hostile; these tables compare them whole. They also bound themselves, show a new series at 0 first, and keep each
//! series' labels as they are written in a scrape, so that a scrape copies instead of formatting.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::label::{DIGITS, Key, digits, prefix, values};

/// Gives the time; injected so that tests can move it.
pub type Clock = fn() -> Instant;

/// Below this many series a table takes new ones; from there on `labels` become `_other`.
#[derive(Clone, Copy, Debug)]
pub struct Fold {
    pub room: usize,
    pub labels: &'static [usize],
}

/// How a table counts, shows and bounds its series.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// Labels that tell series apart, from the left; the others only describe them and may change.
    pub identity: usize,
    pub kind: MetricType,
    /// Series at most, those that folding makes included.
    pub limit: usize,
    /// One after the other. The last of a counter leaves one series for everything else, so that no count is lost.
    pub folds: &'static [Fold],
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
    holds_ended: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Position in `series` by the values that identify one. Seeded hashing: values come from logs.
    index: HashMap<Arc<str>, usize>,
    series: Vec<Series>,
    /// Positions in `series`, in the order of a scrape.
    order: Vec<usize>,
    /// The labels of `order` as a scrape writes them; made anew after a birth or a removal.
    shown: Option<Arc<[Arc<str>]>>,
    overflow: u64,
    key: Key,
}

#[derive(Debug)]
struct Series {
    identity: Arc<str>,
    /// All values.
    key: Box<str>,
    /// `{name="value",…}`, escaped.
    text: Arc<str>,
    value: f64,
    born: Instant,
}

/// A table while it is being counted in. Write [`Rows::key`], then add or set.
#[derive(Debug)]
pub struct Rows<'t> {
    table: &'t Table,
    state: MutexGuard<'t, State>,
}

/// Where an amount went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placed {
    Known,
    Born,
    /// There is no room and nothing to fold into.
    Dropped,
}

impl Table {
    pub fn new(shape: Shape, hold: Duration, clock: Clock) -> Self {
        let labels = shape.labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(shape.name.to_owned(), shape.help.to_owned(), labels, HashMap::new())
            .expect("names of metrics and labels are well formed");
        Self { shape, desc, hold, clock, holds_ended: AtomicBool::new(false), state: Mutex::default() }
    }

    pub fn rows(&self) -> Rows<'_> {
        Rows { table: self, state: self.state.lock().expect("no code panics while it holds this lock") }
    }

    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Adds to one series.
    pub fn add(&self, write: impl FnOnce(&mut Key), amount: u64) {
        let mut rows = self.rows();
        write(rows.key());
        rows.add(amount);
    }

    /// Sets one gauge.
    pub fn set(&self, write: impl FnOnce(&mut Key), value: f64) {
        let mut rows = self.rows();
        write(rows.key());
        rows.set(value);
    }

    /// Makes a series exist at 0. What is counted in it before anybody saw the 0, as after a start with a backlog, is held
    /// like that of any new series.
    pub fn declare(&self, write: &dyn Fn(&mut Key)) {
        self.add(write, 0);
    }

    pub fn remove(&self, write: impl FnOnce(&mut Key)) {
        let mut rows = self.rows();
        write(rows.key());
        rows.remove();
    }

    /// Shows every value as it is from now on.
    pub fn end_holds(&self) {
        self.holds_ended.store(true, Ordering::Relaxed);
    }

    /// Series and overflows so far.
    pub fn size(&self) -> (usize, u64) {
        let rows = self.rows();
        (rows.state.series.len(), rows.state.overflow)
    }

    /// Appends the family in text format 0.0.4; nothing if it has no series.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        let (shown, values) = self.snapshot();
        if values.is_empty() {
            return;
        }
        let Shape { name, help, .. } = self.shape;
        let kind = if self.is_counter() { "counter" } else { "gauge" };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let written = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        written.expect("memory does not fail");
        for (labels, value) in shown.iter().zip(values) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(labels.as_bytes());
            out.push(b' ');
            write_value(value, out);
            out.push(b'\n');
        }
    }

    /// Labels and values in the order of a scrape. All writing happens outside the lock: a scrape must not stop the
    /// counting.
    fn snapshot(&self) -> (Arc<[Arc<str>]>, Vec<f64>) {
        let now = (self.clock)();
        let mut rows = self.rows();
        let state = &mut *rows.state;
        let values =
            state.order.iter().map(|position| self.shown_value(&state.series[*position], now)).collect();
        let (order, series) = (&state.order, &state.series);
        let texts = || order.iter().map(|position| Arc::clone(&series[*position].text)).collect();
        (Arc::clone(state.shown.get_or_insert_with(texts)), values)
    }

    fn shown_value(&self, series: &Series, now: Instant) -> f64 {
        let holds = self.shape.holds && !self.holds_ended.load(Ordering::Relaxed);
        let is_held = holds && now.duration_since(series.born) < self.hold;
        if is_held { 0.0 } else { series.value }
    }

    fn is_counter(&self) -> bool {
        self.shape.kind == MetricType::COUNTER
    }
}

impl Rows<'_> {
    /// The label values of the series that is meant next, empty.
    pub fn key(&mut self) -> &mut Key {
        self.state.key.clear();
        &mut self.state.key
    }

    pub fn add(&mut self, amount: u64) -> Placed {
        let (position, placed) = self.place();
        if let Some(position) = position {
            self.state.series[position].value += amount as f64;
        }
        placed
    }

    pub fn set(&mut self, value: f64) -> Placed {
        let (position, placed) = self.place();
        if let Some(position) = position {
            self.state.series[position].value = value;
        }
        placed
    }

    /// Sets a gauge that only grows, such as a time.
    pub fn raise(&mut self, value: f64) {
        if let (Some(position), _) = self.place() {
            let series = &mut self.state.series[position];
            series.value = series.value.max(value);
        }
    }

    /// All values of the series that was meant last, as it stands; after folding they are not those that were written.
    pub fn placed_key(&self) -> &str {
        self.state.key.as_str()
    }

    /// All values of the series that the key identifies.
    pub fn find(&self) -> Option<&str> {
        self.position().map(|position| self.state.series[position].key.as_ref())
    }

    /// Gives the series that the key identifies the other labels of the key.
    pub fn describe(&mut self) {
        if let Some(position) = self.position() {
            let text = labels_text(self.table.shape.labels, self.state.key.as_str());
            let key = self.state.key.as_str().into();
            let series = &mut self.state.series[position];
            (series.key, series.text) = (key, text);
            self.state.shown = None;
        }
    }

    /// Removes every series.
    pub fn clear(&mut self) {
        let state = &mut *self.state;
        state.index.clear();
        state.series.clear();
        state.order.clear();
        state.shown = None;
    }

    /// Notes that a caller folded.
    pub fn overflowed(&mut self) {
        self.state.overflow += 1;
    }

    fn position(&self) -> Option<usize> {
        let identity = prefix(self.state.key.as_str(), self.table.shape.identity);
        self.state.index.get(identity).copied()
    }

    /// The series of the key, or the one it folds into.
    fn place(&mut self) -> (Option<usize>, Placed) {
        let shape = &self.table.shape;
        let mut is_folded = false;
        for fold in shape.folds {
            if let Some(position) = self.position() {
                self.state.overflow += u64::from(is_folded);
                return (Some(position), Placed::Known);
            }
            if self.state.series.len() < fold.room {
                break;
            }
            fold.labels.iter().for_each(|label| self.state.key.fold(*label));
            is_folded = true;
        }
        let position = self.position();
        let has_room = self.state.series.len() < shape.limit;
        self.state.overflow += u64::from(is_folded || position.is_none() && !has_room);
        match position {
            Some(position) => (Some(position), Placed::Known),
            None if has_room => (Some(self.insert()), Placed::Born),
            None => (None, Placed::Dropped),
        }
    }

    fn insert(&mut self) -> usize {
        let shape = &self.table.shape;
        let born = (self.table.clock)();
        let state = &mut *self.state;
        let key = state.key.as_str();
        let identity: Arc<str> = prefix(key, shape.identity).into();
        let text = labels_text(shape.labels, key);
        let (position, rank) = (state.series.len(), state.rank(&identity));
        state.index.insert(Arc::clone(&identity), position);
        state.series.push(Series { identity, key: key.into(), text, value: 0.0, born });
        state.order.insert(rank, position);
        state.shown = None;
        position
    }

    fn remove(&mut self) {
        let Some(position) = self.position() else { return };
        let state = &mut *self.state;
        let rank = state.rank(&state.series[position].identity);
        state.order.remove(rank);
        let series = state.series.swap_remove(position);
        state.index.remove(&series.identity);
        // The last series took the place of the one that went.
        if let Some(moved) = state.series.get(position) {
            let last = state.series.len();
            *state.index.get_mut(&moved.identity).expect("every series is in the index") = position;
            let rank = state.order.iter().position(|position| *position == last);
            state.order[rank.expect("every series is in the order")] = position;
        }
        state.shown = None;
    }
}

impl State {
    /// Where in the order the series of `identity` stands or belongs.
    fn rank(&self, identity: &str) -> usize {
        self.order.partition_point(|position| self.series[*position].identity.as_ref() < identity)
    }
}

/// Labels as the text format writes them.
fn labels_text(names: &[&str], key: &str) -> Arc<str> {
    let mut text = String::with_capacity(key.len() + 16 * names.len());
    for (position, (name, value)) in names.iter().zip(values(key)).enumerate() {
        text.push(if position == 0 { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    if !names.is_empty() {
        text.push('}');
    }
    text.into()
}

/// Whole numbers below this are exact in an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn write_value(value: f64, out: &mut Vec<u8>) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, positive and below 2^53"
    )]
    if value.fract() == 0.0 && (0.0..EXACT).contains(&value) && value.is_sign_positive() {
        out.extend_from_slice(digits(value as u64, &mut [0; DIGITS]).as_bytes());
    } else {
        write!(out, "{value}").expect("memory does not fail");
    }
}

impl Collector for Table {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = (self.clock)();
        let rows = self.rows();
        let ordered = rows.state.order.iter().map(|position| &rows.state.series[*position]);
        let metrics: Vec<Metric> =
            ordered.map(|series| self.metric(&series.key, self.shown_value(series, now))).collect();
        drop(rows);
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
    fn metric(&self, key: &str, value: f64) -> Metric {
        let pairs = self.shape.labels.iter().zip(values(key)).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut metric = Metric::default();
        metric.set_label(pairs.collect::<Vec<_>>());
        if self.is_counter() {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::{LazyLock, PoisonError};

    use prometheus::{Encoder, IntCounterVec, Opts, TextEncoder};

    use super::*;

    static NOW: AtomicU64 = AtomicU64::new(0);
    static TURN: Mutex<()> = Mutex::new(());

    fn clock() -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(NOW.load(Ordering::Relaxed))
    }

    fn table(limit: usize, folds: &'static [Fold]) -> Table {
        let shape = Shape {
            name: "test_total",
            help: "A test\\\n.",
            labels: &["a", "b", "c"],
            identity: 3,
            kind: MetricType::COUNTER,
            limit,
            folds,
            holds: true,
        };
        Table::new(shape, Duration::from_secs(60), clock)
    }

    fn add(table: &Table, labels: [&str; 3], amount: u64) {
        let write = |key: &mut Key| {
            labels.iter().for_each(|label| _ = key.own(label));
        };
        table.add(write, amount);
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

    fn total(table: &Table) -> f64 {
        shown(table).iter().map(|(_, value)| value).sum()
    }

    #[test]
    fn label_sets_that_the_crate_merges_stay_apart() {
        let crates = IntCounterVec::new(Opts::new("x", "x"), &["a", "b", "c"]).unwrap();
        let ours = table(10, &[]);
        for labels in [["ab", "c", ""], ["a", "bc", ""], ["", "abc", ""]] {
            crates.with_label_values(&labels).inc();
            add(&ours, labels, 1);
        }
        ours.end_holds();
        assert_eq!(
            shown(&ours),
            [("|abc|".to_owned(), 1.0), ("a|bc|".to_owned(), 1.0), ("ab|c|".to_owned(), 1.0)]
        );
        assert_eq!(crates.with_label_values(&["ab", "c", ""]).get(), 3, "why this table exists");
    }

    #[test]
    fn text_is_what_the_encoder_of_the_crate_writes() {
        let table = table(100, &[]);
        let odd = ["", "a", "a b", "é\"", "\\", "\n", "\u{1}", "Z", "~"];
        for (number, b) in odd.iter().enumerate() {
            for c in odd {
                add(&table, ["x", b, c], number as u64 * 1_000_003);
            }
        }
        table.end_holds();
        let mut expected = Vec::new();
        TextEncoder::new().encode(&table.collect(), &mut expected).unwrap();
        let mut ours = Vec::new();
        table.write_text(&mut ours);
        assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(expected).unwrap());
    }

    #[test]
    fn values_are_written_as_the_crate_writes_them() {
        for value in [0.0, 1.0, 0.5, -1.0, 1e15, EXACT - 1.0, EXACT, 1e21, 1763600000.25, f64::MAX] {
            let mut out = Vec::new();
            write_value(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn a_new_series_is_shown_at_0_first() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let table = table(10, &[]);
        table.declare(&|key| _ = key.own("a").own("").own(""));
        add(&table, ["a", "", ""], 2);
        let (a, b) = ("a||".to_owned(), "b||".to_owned());
        assert_eq!(shown(&table), [(a.clone(), 0.0)], "a backlog right after the start");
        NOW.fetch_add(60, Ordering::Relaxed);
        add(&table, ["a", "", ""], 1);
        add(&table, ["b", "", ""], 4);
        assert_eq!(shown(&table), [(a.clone(), 3.0), (b.clone(), 0.0)]);
        NOW.fetch_add(59, Ordering::Relaxed);
        add(&table, ["b", "", ""], 1);
        assert_eq!(shown(&table), [(a.clone(), 3.0), (b.clone(), 0.0)]);
        NOW.fetch_add(1, Ordering::Relaxed);
        assert_eq!(shown(&table), [(a.clone(), 3.0), (b.clone(), 5.0)]);
        add(&table, ["c", "", ""], 1);
        table.end_holds();
        assert_eq!(shown(&table), [(a, 3.0), (b, 5.0), ("c||".to_owned(), 1.0)], "shutdown shows all");
    }

    const FOLDS: &[Fold] =
        &[Fold { room: 6, labels: &[2] }, Fold { room: 9, labels: &[1] }, Fold { room: 11, labels: &[0] }];

    #[test]
    fn a_full_table_folds_keeps_its_total_and_its_limit() {
        let table = table(12, FOLDS);
        for number in 0..1000 {
            let (a, b, c) = (format!("a{}", number / 100), format!("b{}", number % 20), format!("c{number}"));
            add(&table, [&a, &b, &c], 1);
        }
        table.end_holds();
        let shown = shown(&table);
        assert_eq!(total(&table), 1000.0);
        assert_eq!(shown.len(), 12, "{shown:?}");
        for row in ["a0|b0|c0", "a0|b6|_other", "a0|_other|_other", "_other|_other|_other"] {
            assert!(shown.iter().any(|(labels, _)| labels == row), "{row} in {shown:?}");
        }
        assert_eq!(table.size(), (12, 1000 - 6), "an amount that folds is one overflow");
    }

    #[test]
    fn a_table_that_cannot_fold_drops_what_is_beyond_its_limit_and_says_so() {
        let table = table(3, &[]);
        (0..5).for_each(|number| add(&table, [&number.to_string(), "", ""], 1));
        assert_eq!((table.size(), shown(&table).len()), ((3, 2), 3));
        table.remove(|key| _ = key.own("0").own("").own(""));
        add(&table, ["4", "", ""], 1);
        assert_eq!(table.size(), (3, 2), "there is room again");
    }

    #[test]
    fn a_removed_series_is_gone_and_its_neighbours_keep_their_values() {
        let table = table(10, &[]);
        ["d", "b", "a", "c"].iter().zip(1..).for_each(|(a, amount)| add(&table, [a, "", ""], amount));
        table.end_holds();
        table.remove(|key| _ = key.own("b").own("").own(""));
        table.remove(|key| _ = key.own("none such").own("").own(""));
        let (a, c, d) = ("a||".to_owned(), "c||".to_owned(), "d||".to_owned());
        assert_eq!(shown(&table), [(a.clone(), 3.0), (c.clone(), 4.0), (d.clone(), 1.0)]);
        add(&table, ["c", "", ""], 10);
        table.remove(|key| _ = key.own("d").own("").own(""));
        assert_eq!(shown(&table), [(a, 3.0), (c, 14.0)]);
    }

    #[test]
    fn counting_goes_on_while_a_scrape_encodes() {
        let table = table(1000, &[]);
        std::thread::scope(|scope| {
            for thread in ["0", "1"] {
                let table = &table;
                scope.spawn(move || {
                    (0..2000).for_each(|number| add(table, [thread, &(number % 50).to_string(), ""], 1));
                });
            }
            for _ in 0..20 {
                let mut text = Vec::new();
                table.write_text(&mut text);
                let is_whole = text.is_empty() || text.ends_with(b"\n");
                assert!(is_whole, "{}", String::from_utf8_lossy(&text));
            }
        });
        table.end_holds();
        assert_eq!(total(&table), 4000.0);
    }
}
