//! Counting a batch: its tally is added to the tables, each locked once.

use std::sync::Mutex;

use rustc_hash::{FxHashMap, FxHashSet};

use super::label::{Key, OTHER, UNKNOWN, prefix, values};
use super::table::{Placed, Rows, Table};
use super::{Metrics, event_key, seconds};
use crate::catalogue::Verdict;
use crate::code::Code;
use crate::digest::tally::{Dataset, Refreshes, Tally};
use crate::terms::{Flow, Kind, LogCategory, Outcome, Reason};

/// Tenants that are told apart in `aadstream_app_events_total`.
pub const TENANTS: usize = 100;

/// The first comers of something; who comes later is `_other`.
#[derive(Debug)]
pub struct Seats {
    limit: usize,
    taken: Mutex<FxHashSet<Box<str>>>,
}

impl Seats {
    pub fn new(limit: usize) -> Self {
        Self { limit, taken: Mutex::default() }
    }

    /// Whether the one of `key` has a seat or can still take one.
    fn admit(&self, key: &Key) -> bool {
        let mut taken = self.taken.lock().expect("no code panics while it holds this lock");
        taken.contains(key.as_str()) || taken.len() < self.limit && taken.insert(key.as_str().into())
    }
}

impl Metrics {
    /// Counts what one batch of `topic` said.
    pub fn record(&self, tally: &Tally, topic: &str) {
        self.record_pieces(tally, topic);
        self.record_codes(tally);
        self.record_apps(tally);
        self.record_refreshes(&tally.refreshes);
        // Last, so that a message is never shown as processed before what it said is.
        let rejected: u64 = tally.rejected_messages.iter().sum();
        self.families.processed.add(|key| _ = key.own(topic), tally.messages - rejected);
    }

    fn record_pieces(&self, tally: &Tally, topic: &str) {
        let families = &self.families;
        for (reason, messages, records) in counted(Reason::ALL, &tally.rejected_messages)
            .map(|(reason, count)| (reason, count, 0))
            .chain(counted(Reason::ALL, &tally.rejected_records).map(|(reason, count)| (reason, 0, count)))
        {
            let table = if messages > 0 { &families.messages_rejected } else { &families.records_rejected };
            table.add(|key| _ = key.own(topic).own(reason.as_str()), messages + records);
            if !self.unskipped.contains(&reason) {
                families.dead_letters_skipped.add(|key| _ = key.own(reason.as_str()), messages + records);
            }
        }
        let mut records = families.records.rows();
        for (category, outcomes) in LogCategory::ALL.iter().zip(&tally.records) {
            for (outcome, count) in counted(Outcome::ALL, outcomes) {
                records.key().own(category.as_str()).own(outcome.as_str());
                records.add(count);
            }
        }
        drop(records);
        for (kind, count) in counted(Kind::ALL, &tally.duplicates) {
            families.duplicates.add(|key| _ = key.own(kind.as_str()), count);
        }
        families.text_lines.inc_by(tally.text_lines);
        families.malformed_codes.inc_by(tally.malformed_codes);
        families.time_fallbacks.inc_by(tally.time_fallbacks);
        let delays = families.source_delay.local();
        tally.source_delays.iter().for_each(|delay| delays.observe(seconds((*delay).max(0))));
        delays.flush();
    }

    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order")]
    fn record_codes(&self, tally: &Tally) {
        let families = &self.families;
        let mut events = families.events.rows();
        for (event, seen) in &tally.events {
            let code = if event.known || event.code == Code::None { event.code } else { Code::Unknown };
            let verdict = Verdict {
                outcome: event.outcome,
                severity: event.severity,
                audience: event.audience,
                category: event.category,
            };
            event_key(events.key(), code, event.flow, verdict);
            events.add(seen.count);
        }
        drop(events);
        let mut mentions = families.mentions.rows();
        for (code, count) in &tally.mentions {
            mentions.key().code(self.bounded(*code));
            mentions.add(*count);
        }
        drop(mentions);
        let mut unknown = families.unknown_codes.rows();
        for (event, seen) in tally.events.iter().filter(|(event, _)| !event.known) {
            match event.code {
                Code::None => continue,
                // Too many for the tally already.
                Code::Unknown => unknown.key().own(OTHER),
                code => unknown.key().code(code),
            };
            unknown.add(seen.count);
        }
    }

    /// A code that cannot make a series of its own for every number there is.
    fn bounded(&self, code: Code) -> Code {
        let is_known = || self.known.read().expect("no code panics while it holds this lock").contains(&code);
        if code == Code::None || is_known() { code } else { Code::Unknown }
    }

    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order")]
    fn record_apps(&self, tally: &Tally) {
        if tally.apps.is_empty() {
            return;
        }
        let mut born: Vec<Box<str>> = Vec::new();
        let mut events = self.families.app_events.rows();
        let mut seat = Key::default();
        for (app, count) in &tally.apps {
            let code = self.bounded(app.code.unwrap_or(Code::None));
            let flow = app.flow.unwrap_or(Flow::Text);
            seat.clear();
            let has_seat = self.tenants.admit(seat.log(&app.tenant));
            let key = events.key().code(code).own(flow.as_str());
            if has_seat {
                key.log(&app.tenant).log(&app.app_id);
            } else {
                key.own(OTHER).own(OTHER);
                events.overflowed();
            }
            if events.add(*count) == Placed::Born {
                born.push(events.placed_key().into());
            }
        }
        drop(events);
        let mut info = self.families.app_info.rows();
        for key in &born {
            self.inform(&mut info, &key[prefix(key, 2).len()..]);
        }
        for ((tenant, app_id), name) in &tally.app_names {
            name_app(&mut info, tenant, app_id, name);
        }
    }

    /// Gives a tenant and app that has events its row: named by the operator, else for now by its id.
    fn inform(&self, info: &mut Rows<'_>, tenant_and_app: &str) {
        let mut ids = values(tenant_and_app);
        let (tenant, app_id) = (ids.next().unwrap_or(UNKNOWN), ids.next().unwrap_or(UNKNOWN));
        let app = self.apps.get(&app_id.to_ascii_lowercase());
        let alias = app.and_then(|app| app.alias.as_deref()).unwrap_or(app_id);
        let team = app.and_then(|app| app.team.as_deref()).unwrap_or(UNKNOWN);
        info.key().own(tenant).own(app_id).log(alias).log(team);
        info.set(1.0);
    }

    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order")]
    fn record_refreshes(&self, refreshes: &FxHashMap<Dataset, Refreshes>) {
        if refreshes.is_empty() {
            return;
        }
        let families = &self.families;
        let [mut outcomes, mut codes, mut successes] =
            [&families.refreshes, &families.refresh_events, &families.refresh_last_success]
                .map(|table: &std::sync::Arc<Table>| table.rows());
        let mut ids = Key::default();
        for (dataset, counts) in refreshes {
            ids.clear();
            let has_seat = self.datasets.admit(ids.log(&dataset.workspace_id).log(&dataset.dataset_id));
            if !has_seat {
                ids.clear();
                ids.own(OTHER).own(OTHER);
                outcomes.overflowed();
            }
            for (outcome, count) in &counts.outcomes {
                outcomes.key().all(&ids).own(outcome.as_str());
                outcomes.add(*count);
            }
            for (code, count) in &counts.codes {
                codes.key().all(&ids).code(self.bounded(*code));
                codes.add(*count);
            }
            // The last success of many datasets would hide that one of them is stale.
            if let (Some(millis), true) = (counts.last_success, has_seat) {
                successes.key().all(&ids);
                successes.raise(seconds(millis));
            }
        }
    }
}

/// Names an app that has none yet. The first name stays: series that change with every spelling help nobody.
fn name_app(info: &mut Rows<'_>, tenant: &str, app_id: &str, name: &str) {
    info.key().log(tenant).log(app_id);
    let unnamed = info.find().and_then(|row| {
        let mut labels = values(row).skip(1);
        (labels.next() == labels.next()).then(|| labels.next().unwrap_or(UNKNOWN).to_owned())
    });
    if let Some(team) = unnamed {
        info.key().log(tenant).log(app_id).log(name).own(&team);
        info.describe();
    }
}

/// The words whose count is not 0.
fn counted<'c, W: Copy>(words: &'c [W], counts: &'c [u64]) -> impl Iterator<Item = (W, u64)> + 'c {
    words.iter().copied().zip(counts.iter().copied()).filter(|(_, count)| *count > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    use std::time::Duration;

    use prometheus::{Encoder, TextEncoder};

    use super::*;
    use crate::catalogue::{Catalogue, SeverityOverride};
    use crate::digest::App;
    use crate::digest::tally::{AppKey, EventKey, Seen};
    use crate::metrics::MetricsOptions;
    use crate::terms::{Audience, Category, Severity};

    fn metrics(hold: u64, apps: HashMap<String, App>) -> Metrics {
        let birth_hold = Duration::from_secs(hold);
        Metrics::new(&Catalogue::embedded(), MetricsOptions { birth_hold, apps, ..MetricsOptions::default() })
    }

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.encode(false).1).unwrap()
    }

    /// Sum and number of the samples whose line begins with `start`.
    fn sum(text: &str, start: &str) -> (f64, usize) {
        let samples = text.lines().filter(|line| line.starts_with(start));
        samples.fold((0.0, 0), |(sum, count), line| {
            (sum + line.rsplit(' ').next().unwrap().parse::<f64>().unwrap(), count + 1)
        })
    }

    fn app(tenant: &str, app_id: &str, code: Code) -> AppKey {
        let (tenant, app_id) = (tenant.to_owned(), app_id.to_owned());
        AppKey { tenant, app_id, code: Some(code), flow: Some(Flow::Refresh) }
    }

    fn event(code: Code, known: bool) -> EventKey {
        let Verdict { outcome, severity, audience, category } = Verdict::UNKNOWN;
        let (kind, flow) = (Kind::SignIn, Flow::Interactive);
        EventKey { code, known, kind, flow, outcome, severity, category, audience }
    }

    /// Label sets of two labels of a family.
    fn pairs(text: &str, family: &str) -> BTreeSet<(String, String)> {
        let value = |line: &str, label: &str| {
            line.split_once(&format!("{label}=\"")).unwrap().1.split('"').next().unwrap().to_owned()
        };
        let lines = text.lines().filter(|line| line.starts_with(&format!("{family}{{")));
        lines.map(|line| (value(line, "tenant"), value(line, "app_id"))).collect()
    }

    #[test]
    fn the_first_scrape_shows_the_catalogue_at_0() {
        let text = text(&metrics(60, HashMap::new()));
        let rules = Catalogue::embedded();
        for rule in rules.rules() {
            for flow in &rule.flows {
                let start = format!("aadstream_events_total{{code=\"{}\",flow=\"{flow}\",", rule.code);
                let (value, count) = sum(&text, &start);
                assert!(value == 0.0 && count > 0, "{start}");
            }
        }
        assert_eq!(sum(&text, "aadstream_mentions_total{"), (0.0, rules.len() + 1), "`unknown` besides");
        assert_eq!(sum(&text, "aadstream_rule_info{").1, rules.len() + 2, "`unknown` and `none` besides");
        assert!(!text.contains("=\"\""), "no label is empty");
    }

    #[test]
    fn messages_balance() {
        let metrics = metrics(0, HashMap::new());
        let mut tally = Tally::default();
        tally.messages = 10;
        tally.rejected_messages[Reason::TooDeep as usize] = 3;
        tally.rejected_records[Reason::TooDeep as usize] = 2;
        metrics.consumed("t", 12, 100);
        metrics.record(&tally, "t");
        let text = text(&metrics);
        let of = |family: &str| sum(&text, family).0;
        let (processed, rejected) =
            (of("aadstream_messages_processed_total{"), of("aadstream_messages_rejected_total{"));
        assert_eq!((processed, rejected), (7.0, 3.0));
        assert_eq!(of("aadstream_messages_consumed_total{") - processed - rejected, 2.0, "in flight");
        assert_eq!(of("aadstream_dead_letters_skipped_total{"), 5.0, "messages and pieces");
    }

    #[test]
    fn series_of_another_catalogue_come_at_0_and_every_code_has_one_description() {
        let metrics = metrics(60, HashMap::new());
        let rows = sum(&text(&metrics), "aadstream_rule_info{").1;
        let code = Code::Aadsts(50126);
        let word = SeverityOverride::constant(code, Severity::Critical);
        metrics.adopt(&Catalogue::load(None, &[word]).unwrap());
        let mut tally = Tally::default();
        for severity in [Severity::Low, Severity::Critical] {
            let key = EventKey {
                severity,
                category: Category::Credential,
                audience: Audience::User,
                ..event(code, true)
            };
            tally.events.insert(key, Seen { count: 1, ..Seen::default() });
        }
        metrics.record(&tally, "t");
        let of = |severity| {
            let start =
                "aadstream_events_total{code=\"AADSTS50126\",flow=\"interactive\",outcome=\"failure\",";
            sum(&text(&metrics), &format!("{start}severity=\"{severity}\""))
        };
        assert_eq!((of("low"), of("critical")), ((0.0, 1), (0.0, 1)), "held at 0 first");
        metrics.end_holds();
        assert_eq!((of("low"), of("critical")), ((1.0, 1), (1.0, 1)));
        assert_eq!(sum(&text(&metrics), "aadstream_rule_info{").1, rows);
    }

    #[test]
    fn codes_without_a_rule_make_no_series_of_their_own_but_in_their_table() {
        let metrics = metrics(0, HashMap::new());
        let mut tally = Tally::default();
        for number in 10_000_000..10_020_000 {
            let code = Code::Aadsts(number);
            tally.events.insert(event(code, false), Seen { count: 1, ..Seen::default() });
            tally.mentions.insert(code, 1);
            tally.apps.insert(app("t", "a", code), 1);
            tally.refreshes.entry(Dataset::default()).or_default().codes.insert(code, 1);
        }
        metrics.record(&tally, "t");
        let text = text(&metrics);
        assert_eq!(sum(&text, "aadstream_events_total{code=\"unknown\"").0, 20_000.0);
        assert_eq!(sum(&text, "aadstream_mentions_total{code=\"unknown\"}"), (20_000.0, 1));
        assert_eq!(sum(&text, "aadstream_app_events_total{"), (20_000.0, 1));
        assert_eq!(sum(&text, "aadstream_refresh_events_total{"), (20_000.0, 1));
        assert_eq!(sum(&text, "aadstream_unknown_codes_total{"), (20_000.0, 201));
        assert_eq!(sum(&text, "aadstream_unknown_codes_total{code=\"_other\"}"), (19_800.0, 1));
    }

    #[test]
    fn every_table_keeps_its_limit_and_its_total() {
        let metrics = metrics(0, HashMap::new());
        let codes: Vec<Code> = Catalogue::embedded().rules().map(|rule| rule.code).collect();
        let mut tally = Tally::default();
        for (number, code) in (0..30_000).zip(codes.iter().cycle()) {
            tally.apps.insert(app(&format!("t{}", number % 150), &format!("a{number}"), *code), 1);
            let (workspace_id, dataset_id) = (format!("w{}", number % 300), format!("d{number}"));
            let counts = tally.refreshes.entry(Dataset { workspace_id, dataset_id }).or_default();
            counts.outcomes.insert(Outcome::Success, 1);
            counts.codes.insert(*code, 1);
            counts.last_success = Some(1_763_600_000_000);
        }
        metrics.record(&tally, "t");
        (0..3000).for_each(|topic| metrics.consumed(&format!("t{topic}"), 1, 1));
        let text = text(&metrics);
        let limits: BTreeMap<&str, f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("aadstream_series_limit{table=\"")?.split_once("\"} "))
            .map(|(table, limit)| (table, limit.parse().unwrap()))
            .collect();
        assert!(limits.len() > 8, "{limits:?}");
        for (table, limit) in limits {
            let (series, _) = sum(&text, &format!("aadstream_series{{table=\"{table}\"}}"));
            assert!(series <= limit, "{table}: {series} > {limit}");
        }
        for family in ["app_events", "refreshes", "refresh_events"] {
            assert_eq!(sum(&text, &format!("aadstream_{family}_total{{")).0, 30_000.0, "{family}");
            let start = format!("aadstream_series_overflow_total{{table=\"{family}\"}}");
            assert!(sum(&text, &start).0 > 0.0 || family == "refresh_events", "{family}");
        }
        assert_eq!(sum(&text, "aadstream_messages_consumed_total{"), (3000.0, 1001));
        let stale = "aadstream_refresh_last_success_timestamp_seconds{workspace_id=\"_other\"";
        assert_eq!(sum(&text, stale).1, 0, "would hide that one of many is stale");
        assert_eq!(pairs(&text, "aadstream_app_events_total"), pairs(&text, "aadstream_app_info"));
        assert!(pairs(&text, "aadstream_app_info").iter().any(|(tenant, _)| tenant == OTHER));
    }

    #[test]
    fn an_app_has_one_row_named_by_the_operator_the_log_or_its_id() {
        let configured = App { alias: Some("Nightly".into()), team: Some("bi".into()), severity: None };
        let metrics = metrics(0, HashMap::from([("abc".to_owned(), configured)]));
        let mut tally = Tally::default();
        for app_id in ["ABC", "named", "nameless"] {
            tally.apps.insert(app("t", app_id, Code::None), 1);
        }
        tally.app_names.insert(("t".into(), "ABC".into()), "Log's name".into());
        tally.app_names.insert(("t".into(), "named".into()), "First".into());
        tally.app_names.insert(("t".into(), "without events".into()), "Nobody".into());
        metrics.record(&tally, "t");
        tally.app_names.insert(("t".into(), "named".into()), "Second".into());
        metrics.record(&tally, "t");
        let text = text(&metrics);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("aadstream_app_info{")).collect();
        assert_eq!(
            rows,
            [
                "aadstream_app_info{tenant=\"t\",app_id=\"ABC\",app=\"Nightly\",team=\"bi\"} 1",
                "aadstream_app_info{tenant=\"t\",app_id=\"named\",app=\"First\",team=\"unknown\"} 1",
                "aadstream_app_info{tenant=\"t\",app_id=\"nameless\",app=\"nameless\",team=\"unknown\"} 1",
            ]
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_scrape_is_what_the_encoder_of_the_crate_writes() {
        let metrics = metrics(0, HashMap::new());
        metrics.declare_topic("t");
        metrics.lag("t", 3, 5, 1_250);
        let mut tally = Tally::default();
        tally.source_delays = vec![-5, 1_500];
        tally.apps.insert(app("t\"\n", "\\", Code::None), 1);
        metrics.record(&tally, "t");
        let mut expected = Vec::new();
        TextEncoder::new().encode(&metrics.gather(), &mut expected).unwrap();
        assert_eq!(text(&metrics), String::from_utf8(expected).unwrap());
        assert!(text(&metrics).contains("aadstream_source_delay_seconds_bucket{le=\"1\"} 1"));
        metrics.forget_partition("t", 3);
        assert!(!text(&metrics).contains("partition="), "a partition of another process is not ours to show");
    }

    #[test]
    fn counting_goes_on_while_scrapes_encode_and_nothing_is_lost() {
        let metrics = metrics(3600, HashMap::new());
        let mut tally = Tally::default();
        tally.messages = 1;
        tally.apps.insert(app("t", "a", Code::None), 1);
        tally.events.insert(event(Code::None, false), Seen { count: 1, ..Seen::default() });
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..500).for_each(|_| metrics.record(&tally, "t")));
            }
            for _ in 0..20 {
                assert_eq!(sum(&text(&metrics), "aadstream_app_events_total{").0, 0.0, "held");
            }
        });
        metrics.end_holds();
        let text = text(&metrics);
        for family in ["app_events_total{", "events_total{code=\"none\"", "messages_processed_total{"] {
            assert_eq!(sum(&text, &format!("aadstream_{family}")).0, 1000.0, "{family}");
        }
    }
}
