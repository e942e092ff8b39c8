//! What some messages did, as plain integers: the counts of a batch, merged into metrics or a report once.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::code::Code;
use crate::terms::{Audience, Category, Flow, Kind, LogCategory, Outcome, Reason, Severity};

use super::found::{Found, is_id};
use super::time::{self, Millis};

/// Distinct codes without a rule that are counted by number; further ones are counted as `unknown`.
pub const UNKNOWN_CODES: usize = 10_000;

/// Counted in place of what is no id.
const INVALID: &str = "invalid";

/// Everything that an event is counted by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventKey {
    pub code: Code,
    pub known: bool,
    pub kind: Kind,
    pub flow: Flow,
    pub outcome: Outcome,
    pub severity: Severity,
    pub category: Category,
    pub audience: Audience,
}

/// How often, and from when to when.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    pub count: u64,
    pub first: Option<Millis>,
    pub last: Option<Millis>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }
}

/// Whose sign-in it was, and for what.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct AppKey {
    pub tenant: String,
    pub app_id: String,
    pub code: Option<Code>,
    pub flow: Option<Flow>,
}

/// A dataset and the workspace it is in.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Dataset {
    pub workspace_id: String,
    pub dataset_id: String,
}

/// Refreshes of one dataset.
#[derive(Clone, Debug, Default)]
pub struct Refreshes {
    pub outcomes: FxHashMap<Outcome, u64>,
    pub codes: FxHashMap<Code, u64>,
    pub last_success: Option<Millis>,
}

/// Counts by reason.
pub type Rejections = [u64; Reason::ALL.len()];

/// Counts by outcome.
pub type Outcomes = [u64; Outcome::ALL.len()];

/// The counts of some messages.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub bytes: u64,
    pub messages: u64,
    pub rejected_messages: Rejections,
    pub rejected_records: Rejections,
    pub records: [Outcomes; LogCategory::ALL.len()],
    pub kinds: [Outcomes; Kind::ALL.len()],
    pub text_lines: u64,
    pub malformed_codes: u64,
    /// Records whose time could not be read.
    pub time_fallbacks: u64,
    pub duplicates: [u64; Kind::ALL.len()],
    pub events: FxHashMap<EventKey, Seen>,
    pub mentions: FxHashMap<Code, u64>,
    /// Only with [`Detail::Apps`].
    pub apps: FxHashMap<AppKey, u64>,
    /// Names of the apps that were counted, by tenant and app.
    pub app_names: FxHashMap<(String, String), String>,
    pub refreshes: FxHashMap<Dataset, Refreshes>,
    /// From the event's time to Kafka's, in milliseconds, one entry an event whose time is known.
    pub source_delays: Vec<Millis>,
    unknown: FxHashSet<Code>,
}

/// How finely events are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detail {
    /// Codes only: a report over any amount of input stays small.
    Codes,
    /// Also by tenant, app and dataset; for batches that are merged into bounded tables.
    Apps,
}

impl Tally {
    /// Counts a success that was not parsed.
    pub fn add_success(&mut self, category: LogCategory) {
        self.records[category as usize][Outcome::Success as usize] += 1;
        self.kinds[Kind::SignIn as usize][Outcome::Success as usize] += 1;
    }

    /// Counts one piece. `kafka_time` is the message's timestamp.
    pub fn add(&mut self, found: &Found<'_>, detail: Detail, kafka_time: Option<Millis>) {
        self.malformed_codes += found.malformed;
        for code in &found.mentions {
            let code = self.bounded(*code, found);
            *self.mentions.entry(code).or_default() += 1;
        }
        match found.record {
            Some((category, outcome)) => {
                self.records[category as usize][outcome as usize] += 1;
                self.kinds[found.kind as usize][outcome as usize] += 1;
                self.time_fallbacks += u64::from(found.time.is_none());
            }
            None => self.text_lines += u64::from(found.degraded.is_none()),
        }
        if found.kind == Kind::Refresh && detail == Detail::Apps {
            self.add_refresh(found);
        }
        let Some(diagnosis) = found.diagnosis else { return };
        let time = found.time.map(|(millis, _)| millis).or(kafka_time);
        let verdict = diagnosis.verdict;
        let key = EventKey {
            code: if diagnosis.known { diagnosis.code } else { self.bounded(diagnosis.code, found) },
            known: diagnosis.known,
            kind: found.kind,
            flow: found.flow,
            outcome: verdict.outcome,
            severity: verdict.severity,
            category: verdict.category,
            audience: verdict.audience,
        };
        self.events.entry(key).or_default().add(Seen { count: 1, first: time, last: time });
        if detail == Detail::Apps {
            self.add_app(found, key.code, kafka_time);
        }
    }

    fn add_app(&mut self, found: &Found<'_>, code: Code, kafka_time: Option<Millis>) {
        if let (Some((millis, _)), Some(kafka_time)) = (found.time, kafka_time) {
            self.source_delays.push(kafka_time - millis);
        }
        let (tenant, app_id) = (found.tenant_id(), found.fields.app_id.as_deref());
        if tenant.is_none() && app_id.is_none() {
            return;
        }
        let key = AppKey { tenant: id(tenant), app_id: id(app_id), code: Some(code), flow: Some(found.flow) };
        let fields = &found.fields;
        let name = fields.app_name.as_deref().or(fields.service_principal_name.as_deref());
        if let Some(name) = name.filter(|_| key.app_id != INVALID) {
            self.app_names.entry((key.tenant.clone(), key.app_id.clone())).or_insert_with(|| name.to_owned());
        }
        *self.apps.entry(key).or_default() += 1;
    }

    fn add_refresh(&mut self, found: &Found<'_>) {
        let Some((_, outcome)) = found.record else { return };
        let refreshes = self.refreshes.entry(dataset_of(found)).or_default();
        *refreshes.outcomes.entry(outcome).or_default() += 1;
        if let Some(diagnosis) = found.diagnosis {
            *refreshes.codes.entry(diagnosis.code).or_default() += 1;
        }
        if outcome == Outcome::Success {
            refreshes.last_success = refreshes.last_success.max(ended(found));
        }
    }

    /// A repeat: no record, but a success in it still says when its dataset was last fresh.
    pub fn add_duplicate(&mut self, found: &Found<'_>, detail: Detail) {
        self.duplicates[found.kind as usize] += 1;
        let is_success = matches!(found.record, Some((_, Outcome::Success)));
        if found.kind == Kind::Refresh && is_success && detail == Detail::Apps {
            let refreshes = self.refreshes.entry(dataset_of(found)).or_default();
            refreshes.last_success = refreshes.last_success.max(ended(found));
        }
    }

    pub fn reject_message(&mut self, reason: Reason) {
        self.rejected_messages[reason as usize] += 1;
    }

    /// A code without a rule, or `unknown` once too many distinct ones were seen.
    fn bounded(&mut self, code: Code, found: &Found<'_>) -> Code {
        let is_known = found.diagnosis.is_some_and(|diagnosis| diagnosis.code == code && diagnosis.known);
        if is_known || matches!(code, Code::Named(_) | Code::None) || self.unknown.contains(&code) {
            return code;
        }
        if self.unknown.len() >= UNKNOWN_CODES {
            return Code::Unknown;
        }
        self.unknown.insert(code);
        code
    }

    /// Adds the counts of other messages.
    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order; what may fold is sorted")]
    pub fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.text_lines += other.text_lines;
        self.malformed_codes += other.malformed_codes;
        self.time_fallbacks += other.time_fallbacks;
        add_all(&mut self.rejected_messages, &other.rejected_messages);
        add_all(&mut self.rejected_records, &other.rejected_records);
        add_all(&mut self.duplicates, &other.duplicates);
        self.records.iter_mut().zip(&other.records).for_each(|(ours, theirs)| add_all(ours, theirs));
        self.kinds.iter_mut().zip(&other.kinds).for_each(|(ours, theirs)| add_all(ours, theirs));
        for (mut key, seen) in sorted(other.events) {
            if !key.known && !self.room_for(key.code) {
                key.code = Code::Unknown;
            }
            self.events.entry(key).or_default().add(seen);
        }
        for (code, count) in sorted(other.mentions) {
            let code =
                if other.unknown.contains(&code) && !self.room_for(code) { Code::Unknown } else { code };
            *self.mentions.entry(code).or_default() += count;
        }
        merge_counts(&mut self.apps, other.apps);
        self.app_names.extend(other.app_names);
        self.source_delays.extend(other.source_delays);
        for (dataset, theirs) in other.refreshes {
            let ours = self.refreshes.entry(dataset).or_default();
            merge_counts(&mut ours.outcomes, theirs.outcomes);
            merge_counts(&mut ours.codes, theirs.codes);
            ours.last_success = ours.last_success.max(theirs.last_success);
        }
    }

    /// Keeps what [`Detail::Codes`] counts.
    pub fn forget_details(&mut self) {
        self.apps.clear();
        self.app_names.clear();
        self.refreshes.clear();
        self.source_delays.clear();
    }

    fn room_for(&mut self, code: Code) -> bool {
        matches!(code, Code::Named(_) | Code::None)
            || self.unknown.contains(&code)
            || self.unknown.len() < UNKNOWN_CODES && self.unknown.insert(code)
    }
}

/// In the order of the keys, so that which codes fold into `unknown` does not depend on hashing.
fn sorted<K: Ord, V>(map: FxHashMap<K, V>) -> Vec<(K, V)> {
    let mut entries: Vec<(K, V)> = map.into_iter().collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    entries
}

#[expect(clippy::iter_over_hash_type, reason = "sums do not depend on order")]
fn merge_counts<K: Eq + std::hash::Hash>(ours: &mut FxHashMap<K, u64>, theirs: FxHashMap<K, u64>) {
    for (key, count) in theirs {
        *ours.entry(key).or_default() += count;
    }
}

fn add_all(ours: &mut [u64], theirs: &[u64]) {
    ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
}

fn dataset_of(found: &Found<'_>) -> Dataset {
    let fields = &found.fields;
    Dataset { workspace_id: id(fields.workspace_id.as_deref()), dataset_id: id(fields.dataset_id.as_deref()) }
}

/// An id as it is counted.
fn id(id: Option<&str>) -> String {
    match id.filter(|id| !id.is_empty()) {
        None => "unknown",
        Some(id) if is_id(id) => id,
        Some(_) => INVALID,
    }
    .to_owned()
}

/// When a run ended, as its record says.
pub fn ended(found: &Found<'_>) -> Option<Millis> {
    found.fields.end_time.as_deref().and_then(time::parse)
}
