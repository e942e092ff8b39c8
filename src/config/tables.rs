//! Every key of the configuration: its table, its default's owner, its allowed values. A new key goes here, into the types
//! of [`super`], into `show` and into `deploy/aadstream.toml`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::kafka::{check_option, refusal};
use super::oauth;
use super::outputs::{read_dead_letters, read_forward};
use super::read::{Notes, Section, boolean, filled, integer, optional, seconds, size, text, texts, word};
use super::secret::{KeyFile, Secret, is_secret};
use super::source::{Item, Origin, Table, Value};
use super::values::{brokers, external_url, listen, start, topics};
use super::{Input, Kafka, Log, LogFormat, Metrics, OptionValue, Privacy, Profile, Rules, Settings, Web};
use crate::catalogue::problem::did_you_mean;
use crate::catalogue::{OVERRIDES, SeverityOverride};
use crate::code::{self, Code};
use crate::digest::App;
use crate::digest::frame::Entries;
use crate::terms::{Flow, Severity};

pub(super) const TEXT_ENTRIES: [(&str, Entries); 2] = [("message", Entries::Whole), ("line", Entries::Lines)];
pub(super) const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

pub(super) const TABLES: [&str; 9] =
    ["kafka", "input", "rules", "forward", "dead_letters", "privacy", "metrics", "web", "log"];

/// Keys that somebody may type into a variable with one underscore too few.
pub(super) const KEYS: [&str; 30] = [
    "brokers",
    "topics",
    "group_id",
    "start",
    "group_instance_id",
    "memory_limit_bytes",
    "startup_timeout_seconds",
    "shutdown_timeout_seconds",
    "stall_timeout_seconds",
    "profile",
    "text_entries",
    "max_message_bytes",
    "dedupe_sign_ins",
    "workers",
    "dir",
    "topic",
    "min_severity",
    "delivery",
    "policy",
    "file",
    "forward_ids",
    "pseudonym_key_file",
    "birth_hold_seconds",
    "listen",
    "external_url",
    "hosts",
    "lifecycle",
    "config_file",
    "format",
    "level",
];

/// Below this not even the smallest queue and one message of a megabyte fit.
const MEMORY_BYTES_MIN: i64 = 10_000_000;
/// What a librdkafka queue can be told at most, twice over.
const MEMORY_BYTES_MAX: i64 = 4_000_000_000;
/// Kafka's own limit is 2 GiB; nobody sends log messages of a gigabyte.
const MESSAGE_BYTES_MAX: i64 = 1_073_741_824;
/// More threads than any machine that this runs on has cores.
const WORKERS_MAX: i64 = 1_024;

/// Reads the whole configuration.
pub(super) fn settings(table: Table, notes: &mut Notes<'_>) -> Settings {
    let mut root = Section::new("", table, notes);
    let tables = TABLES.map(|key| root.take_table(key));
    let apps = root.take_item("apps");
    root.finish();
    let [kafka, input, rules, forward, dead_letters, privacy, metrics, web, log] = tables;
    let (apps, workspaces) = apps.map(|apps| read_apps(apps, notes)).unwrap_or_default();
    Settings {
        kafka: read_kafka(kafka, notes),
        input: read_input(input, notes),
        rules: read_rules(rules, notes),
        apps,
        forward: read_forward(forward, notes),
        dead_letters: read_dead_letters(dead_letters, notes),
        privacy: read_privacy(privacy, notes),
        metrics: read_metrics(metrics, notes),
        web: read_web(web, notes),
        log: read_log(log, notes),
        workspaces,
        ..Settings::default()
    }
}

fn read_kafka(table: Table, notes: &mut Notes<'_>) -> Kafka {
    let defaults = Kafka::default();
    let mut section = Section::new("kafka", table, notes);
    let timeout = || seconds(1..=3_600);
    let kafka = Kafka {
        brokers: section.take("brokers", defaults.brokers, brokers),
        topics: section.take("topics", defaults.topics, topics),
        group_id: section.take("group_id", defaults.group_id, filled),
        start: section.take("start", defaults.start, start),
        group_instance_id: section.take("group_instance_id", None, optional),
        memory_limit_bytes: section.take(
            "memory_limit_bytes",
            defaults.memory_limit_bytes,
            size(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX, "bytes"),
        ),
        startup_timeout: section.take("startup_timeout_seconds", defaults.startup_timeout, timeout()),
        shutdown_timeout: section.take("shutdown_timeout_seconds", defaults.shutdown_timeout, timeout()),
        stall_timeout: section.take("stall_timeout_seconds", defaults.stall_timeout, stall_timeout),
        profile: section.take("profile", None, |value| match text(value)?.as_str() {
            "" => Ok(None),
            "event_hubs" => Ok(Some(Profile::EventHubs)),
            other => Err(format!("`{other}` is no profile; there is `event_hubs`")),
        }),
        oauth: None,
        options: BTreeMap::new(),
    };
    let (options, oauth) = (section.take_table("options"), section.take_table("oauth"));
    section.finish();
    let oauth = oauth::read(oauth, &kafka, notes);
    Kafka { options: read_options("kafka.options", options, refusal, notes), oauth, ..kafka }
}

/// Zero, or more than the poll loop waits for room before it pauses the partitions.
fn stall_timeout(value: Value) -> Result<Duration, String> {
    match seconds(0..=3_600)(value)? {
        short if (1..3).contains(&short.as_secs()) => Err("expected 0, or 3 to 3,600 seconds".to_owned()),
        time => Ok(time),
    }
}

/// `[kafka.options]` and its like: any key that librdkafka knows and the program does not own.
pub(super) fn read_options(
    path: &str,
    table: Table,
    refusal: fn(&str) -> Option<&'static str>,
    notes: &mut Notes<'_>,
) -> BTreeMap<String, OptionValue> {
    let mut flat = BTreeMap::new();
    flatten("", table, &mut flat);
    let mut options = BTreeMap::new();
    for (key, Item { value, origin }) in flat {
        let result = match refusal(&key) {
            Some(reason) => Err(format!("cannot use the option `{key}`: {reason}")),
            None => option_value(&key, value, &origin, notes)
                .map_err(|reason| format!("cannot use the option `{key}`: {reason}"))
                .and_then(|value| check_option(&key, &value).map(|()| value)),
        };
        match result {
            Ok(value) => {
                notes.origins.insert(format!("{path}.{key}"), origin);
                options.insert(key, value);
            }
            Err(message) => origin.report(&mut notes.problems, message),
        }
    }
    options
}

/// Without quotes TOML reads `sasl.password` as a table in a table; librdkafka's keys are meant.
fn flatten(prefix: &str, table: Table, flat: &mut BTreeMap<String, Item>) {
    for (key, item) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match item {
            Item { value: Value::Table(inner), .. } if !is_reference(&inner) => flatten(&key, inner, flat),
            item => {
                let from_file = !matches!(item.origin, Origin::Environment(_));
                if !(from_file && flat.contains_key(&key)) {
                    flat.insert(key, item);
                }
            }
        }
    }
}

fn is_reference(table: &Table) -> bool {
    table.keys().all(|key| key == "file" || key == "env")
}

fn option_value(key: &str, value: Value, origin: &Origin, notes: &Notes<'_>) -> Result<OptionValue, String> {
    if is_secret(key) || matches!(value, Value::Table(_)) {
        return Secret::read(value, origin, notes.environment).map(OptionValue::Secret);
    }
    match value {
        Value::Text(text) | Value::Variable(text) => Ok(OptionValue::Plain(text)),
        Value::Integer(number) => Ok(OptionValue::Plain(number.to_string())),
        Value::Boolean(value) => Ok(OptionValue::Plain(value.to_string())),
        other => Err(format!("expected a text, a whole number, true or false, found {}", other.kind())),
    }
}

fn read_input(table: Table, notes: &mut Notes<'_>) -> Input {
    let defaults = Input::default();
    let mut section = Section::new("input", table, notes);
    let input = Input {
        text_entries: section.take("text_entries", defaults.text_entries, word(&TEXT_ENTRIES)),
        max_message_bytes: section.take(
            "max_message_bytes",
            defaults.max_message_bytes,
            size(1..=MESSAGE_BYTES_MAX, "bytes"),
        ),
        dedupe_sign_ins: section.take("dedupe_sign_ins", defaults.dedupe_sign_ins, boolean),
        workers: section.take("workers", defaults.workers, size(0..=WORKERS_MAX, "threads")),
    };
    section.finish();
    input
}

fn read_rules(table: Table, notes: &mut Notes<'_>) -> Rules {
    let mut section = Section::new("rules", table, notes);
    let dir = section.take("dir", None, |value| Ok(optional(value)?.map(Into::into)));
    let overrides = section.take_table("severity");
    section.finish();
    let mut severity: Vec<SeverityOverride> = Vec::new();
    for (key, Item { value, origin }) in overrides {
        let code = Code::parse(&key).unwrap_or_else(|| Code::Named(code::intern(&key)));
        let result = if severity.iter().any(|earlier| earlier.code == code) {
            Err(format!("{code} stands twice in [rules.severity]"))
        } else {
            severity_override(code, value)
                .map_err(|reason| format!("cannot use `rules.severity.{key}`: {reason}"))
        };
        match result {
            Ok(word) => {
                notes.origins.insert(format!("{OVERRIDES}.{code}"), origin);
                severity.push(word);
            }
            Err(message) => origin.report(&mut notes.problems, message),
        }
    }
    severity.sort_by_key(|word| word.code);
    Rules { dir, severity }
}

pub(super) fn severity_word(value: Value) -> Result<Severity, String> {
    let words: Vec<(&str, Severity)> = Severity::ALL.iter().map(|word| (word.as_str(), *word)).collect();
    word(&words)(value)
}

/// A word for all flows, or a table by flow with an optional `default`.
fn severity_override(code: Code, value: Value) -> Result<SeverityOverride, String> {
    let Value::Table(table) = value else {
        return severity_word(value).map(|severity| SeverityOverride::constant(code, severity));
    };
    let mut result = SeverityOverride { code, default: None, by_flow: Vec::new() };
    for (key, item) in table {
        let severity = severity_word(item.value).map_err(|reason| format!("{key}: {reason}"))?;
        match Flow::parse(&key) {
            Some(flow) => result.by_flow.push((flow, severity)),
            None if key == "default" => result.default = Some(severity),
            None => {
                let flows: Vec<&str> = Flow::ALL.iter().map(|flow| flow.as_str()).collect();
                let near = did_you_mean(&key, flows.iter().copied());
                return Err(format!("`{key}` is none of default, {}{near}", flows.join(", ")));
            }
        }
    }
    Ok(result)
}

/// `[[apps]]`, and which of their ids are workspaces.
fn read_apps(item: Item, notes: &mut Notes<'_>) -> (HashMap<String, App>, Vec<String>) {
    let mut apps = HashMap::new();
    let mut workspaces = Vec::new();
    let Value::List(entries) = item.value else {
        let how = match item.origin {
            Origin::Environment(_) => "apps are set in the file only",
            _ => "write each app as a table [[apps]]",
        };
        item.origin.report(&mut notes.problems, format!("cannot use `apps`: {how}"));
        return (apps, workspaces);
    };
    for Item { value, origin } in entries {
        let Value::Table(table) = value else {
            origin.report(&mut notes.problems, "cannot use `apps`: write each app as a table [[apps]]");
            continue;
        };
        let mut section = Section::new("apps", table, notes);
        let app_id = section.take("app_id", None, optional);
        let workspace_id = section.take("workspace_id", None, optional);
        let app = App {
            alias: section.take("alias", None, optional),
            team: section.take("team", None, optional),
            severity: section.take("severity", None, |value| severity_word(value).map(Some)),
        };
        section.finish();
        let is_workspace = workspace_id.is_some();
        let id = match (app_id, workspace_id) {
            (Some(id), None) | (None, Some(id)) => id.to_lowercase(),
            _ => {
                let message = "cannot use this app: it needs an `app_id` or a `workspace_id`, one of them";
                origin.report(&mut notes.problems, message);
                continue;
            }
        };
        if apps.contains_key(&id) {
            origin.report(&mut notes.problems, format!("the id {id} stands in two [[apps]]"));
        }
        if is_workspace {
            workspaces.push(id.clone());
        }
        apps.insert(id, app);
    }
    (apps, workspaces)
}

fn read_privacy(table: Table, notes: &mut Notes<'_>) -> Privacy {
    let mut section = Section::new("privacy", table, notes);
    let forward_ids = section.take("forward_ids", Privacy::default().forward_ids, boolean);
    let pseudonym_key = section.take("pseudonym_key_file", None, |value| {
        optional(value)?.map(|path| KeyFile::read(path.into())).transpose()
    });
    section.finish();
    Privacy { forward_ids, pseudonym_key }
}

fn read_metrics(table: Table, notes: &mut Notes<'_>) -> Metrics {
    let mut section = Section::new("metrics", table, notes);
    let birth_hold = section.take("birth_hold_seconds", Metrics::default().birth_hold, |value| {
        let seconds = integer(0..=3_600, "seconds")(value)?;
        Ok(Duration::from_secs(seconds.unsigned_abs()))
    });
    section.finish();
    Metrics { birth_hold }
}

fn read_web(table: Table, notes: &mut Notes<'_>) -> Web {
    let defaults = Web::default();
    let mut section = Section::new("web", table, notes);
    let web = Web {
        listen: section.take("listen", defaults.listen, listen),
        external_url: section.take("external_url", None, external_url),
        hosts: section.take("hosts", defaults.hosts, texts),
        lifecycle: section.take("lifecycle", defaults.lifecycle, boolean),
        config_file: section.take("config_file", None, |value| Ok(optional(value)?.map(Into::into))),
    };
    section.finish();
    web
}

fn read_log(table: Table, notes: &mut Notes<'_>) -> Log {
    let defaults = Log::default();
    let mut section = Section::new("log", table, notes);
    let log = Log {
        format: section.take("format", defaults.format, word(&FORMATS)),
        level: section.take("level", defaults.level, word(&LEVELS)),
    };
    section.finish();
    log
}
