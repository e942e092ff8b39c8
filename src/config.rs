//! The configuration: a TOML file, `AADSTREAM_…` variables over it, defaults under it, checked as a whole.
//!
//! [`Settings`] is what the program uses: typed, validated, complete. `source` says where values come from, `read` how a
//! table is asked for them, `tables` which keys there are; `kafka` makes the client's options of it. The
//! environment is read nowhere else, but for the proxy of token endpoints and the system's certificates.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::catalogue::SeverityOverride;
use crate::catalogue::problem::Problems;
use crate::digest::App;
use crate::digest::frame::Entries;
use crate::exit_code::{Exit, ExitError};
use crate::terms::{Reason, Severity};

mod source;
mod read;
mod values;
pub mod secret;
pub mod oauth;
pub mod token;
mod tables;
mod outputs;
mod option_names;
pub mod kafka;
pub mod producer;
pub mod client_log;
pub mod connect;
pub mod show;
mod warnings;
mod derived;

pub use secret::{KeyFile, Secret, SecretSource};
pub use source::{Environment, Origin};
pub use values::{listen_address, parse_start};

/// What the program uses.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub kafka: Kafka,
    pub input: Input,
    pub rules: Rules,
    /// What the operator says of apps, by app id or workspace id in lower case.
    pub apps: HashMap<String, App>,
    pub forward: Forward,
    pub dead_letters: DeadLetters,
    pub privacy: Privacy,
    pub metrics: Metrics,
    pub web: Web,
    pub log: Log,
    /// Which of `apps` are workspaces; the others are apps.
    workspaces: Vec<String>,
    /// Who set which key, by dotted path.
    origins: BTreeMap<String, Origin>,
    /// Odd, but no reason to stop.
    warnings: Vec<String>,
}

/// `[kafka]`: what is read, and as whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Names, or patterns that begin with `^`.
    pub topics: Vec<String>,
    pub group_id: String,
    pub start: Start,
    /// Static membership.
    pub group_instance_id: Option<String>,
    /// For the client's queues, and what is in flight to the workers and to the brokers.
    pub memory_limit_bytes: usize,
    pub startup_timeout: Duration,
    pub shutdown_timeout: Duration,
    /// A partition that stands still for so long although there is more in it has its consumer built anew; zero never.
    pub stall_timeout: Duration,
    pub profile: Option<Profile>,
    /// Where tokens come from, with OAUTHBEARER.
    pub oauth: Option<oauth::OAuth>,
    /// librdkafka's own options.
    pub options: BTreeMap<String, OptionValue>,
}

/// Where a group without an offset begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    Earliest,
    Latest,
    /// Messages of the last so much time, in whole seconds.
    Ago(Duration),
    /// Messages from this time on, in milliseconds since 1970.
    At(i64),
}

/// A dozen options that one kind of broker needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    EventHubs,
}

/// The value of one of librdkafka's options.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OptionValue {
    Plain(String),
    Secret(Secret),
}

impl OptionValue {
    /// The value itself, for the client only.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Secret(secret) => secret.expose(),
        }
    }

    /// The same as it is now: a secret's file may have been written anew. One that cannot be read is what it was.
    pub fn current(&self) -> String {
        match self {
            Self::Plain(value) => value.clone(),
            Self::Secret(secret) => secret.current().unwrap_or_else(|_| secret.expose().to_owned()),
        }
    }
}

/// `[input]`: how messages are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Input {
    pub text_entries: Entries,
    pub max_message_bytes: usize,
    pub dedupe_sign_ins: bool,
    /// 0 takes one a core.
    pub workers: usize,
}

/// `[rules]`: what replaces the embedded ones.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    pub dir: Option<PathBuf>,
    pub severity: Vec<SeverityOverride>,
}

/// `[forward]`: where enriched events go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward {
    /// Without one nothing is forwarded.
    pub topic: Option<String>,
    /// Events below it stay here.
    pub min_severity: Severity,
    pub delivery: Delivery,
    /// Of another cluster; empty: the one that is read.
    pub brokers: String,
    /// librdkafka's own options.
    pub options: BTreeMap<String, OptionValue>,
}

/// How often what leaves may arrive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Delivery {
    /// After a crash some events come again.
    #[default]
    AtLeastOnce,
    /// Events, dead letters and offsets go in one transaction.
    ExactlyOnce,
}

/// `[dead_letters]`: what becomes of rejected input.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeadLetters {
    pub policy: Policy,
    pub destination: Option<Destination>,
    /// Reasons with a policy of their own.
    pub policies: Vec<(Reason, Policy)>,
}

impl DeadLetters {
    pub fn policy(&self, reason: Reason) -> Policy {
        self.policies.iter().find(|(word, _)| *word == reason).map_or(self.policy, |(_, policy)| *policy)
    }

    /// Reasons for which rejected input is kept or halts its partition.
    pub fn unskipped(&self) -> impl Iterator<Item = Reason> {
        Reason::ALL.iter().copied().filter(|reason| self.policy(*reason) != Policy::Skip)
    }
}

/// What to do with input that was rejected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Policy {
    /// Count it and go on.
    #[default]
    Skip,
    /// Keep it.
    Keep,
    /// Stop its partition in front of it.
    Halt,
}

/// Where dead letters are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    Topic(String),
    File(PathBuf),
}

/// `[privacy]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Privacy {
    /// Correlation and request ids go into events.
    pub forward_ids: bool,
    /// Pseudonyms of principals go into events; `None` leaves them out.
    pub pseudonym_key: Option<KeyFile>,
}

/// `[metrics]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metrics {
    /// A late series is shown at 0 for so long, so that its first increase is seen.
    pub birth_hold: Duration,
}

/// `[web]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Web {
    /// `host:port`.
    pub listen: String,
    /// Without a slash at its end.
    pub external_url: Option<String>,
    /// Names under which pages answer, beside IP literals, localhost and `external_url`'s.
    pub hosts: Vec<String>,
    /// Whether `POST /-/reload` reads the rules anew.
    pub lifecycle: bool,
    /// TLS, client certificates and passwords, in the form of Prometheus' exporters.
    pub config_file: Option<PathBuf>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    pub level: tracing::Level,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            topics: Vec::new(),
            group_id: "aadstream".to_owned(),
            start: Start::Earliest,
            group_instance_id: None,
            // With the program itself and its tables this stays under 150 MiB.
            memory_limit_bytes: 100_000_000,
            startup_timeout: Duration::from_secs(30),
            // Half of what Kubernetes waits before it kills.
            shutdown_timeout: Duration::from_secs(15),
            // The client gives up a dead connection by itself after socket.timeout.ms, a minute: twice that.
            stall_timeout: Duration::from_secs(120),
            profile: None,
            oauth: None,
            options: BTreeMap::new(),
        }
    }
}

impl Default for Input {
    fn default() -> Self {
        Self {
            text_entries: Entries::Whole,
            max_message_bytes: 16 * 1024 * 1024,
            dedupe_sign_ins: false,
            workers: 0,
        }
    }
}

impl Default for Forward {
    fn default() -> Self {
        // Interrupts are steps of normal sign-ins: `info`.
        Self {
            topic: None,
            min_severity: Severity::Low,
            delivery: Delivery::default(),
            brokers: String::new(),
            options: BTreeMap::new(),
        }
    }
}

impl Default for Privacy {
    fn default() -> Self {
        Self { forward_ids: true, pseudonym_key: None }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        // Two scrapes at the usual interval of 15 to 30 seconds.
        Self { birth_hold: Duration::from_secs(60) }
    }
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9877".to_owned(),
            external_url: None,
            hosts: Vec::new(),
            lifecycle: false,
            config_file: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: tracing::Level::INFO }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Ago(time) => match time.as_secs() {
                seconds if seconds > 0 && seconds % 3600 == 0 => write!(f, "-{}h", seconds / 3600),
                seconds if seconds > 0 && seconds % 60 == 0 => write!(f, "-{}m", seconds / 60),
                seconds => write!(f, "-{seconds}s"),
            },
            Self::At(millis) => match jiff::Timestamp::from_millisecond(*millis) {
                Ok(time) => write!(f, "{time}"),
                Err(_) => write!(f, "{millis}"),
            },
        }
    }
}

impl Settings {
    /// The configuration of a service: brokers and topics must be in it.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        Self::load_with(path, &Environment::of_process(), true)
    }

    /// The configuration of a command that needs no broker.
    pub fn load_optional(path: Option<&Path>) -> anyhow::Result<Self> {
        Self::load_with(path, &Environment::of_process(), false)
    }

    /// The same from a given environment.
    pub fn load_with(
        path: Option<&Path>,
        environment: &Environment,
        needs_kafka: bool,
    ) -> anyhow::Result<Self> {
        let Some(path) = path else { return Self::read(None, environment, needs_kafka) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let mut problems = Problems::default();
            let message = format!("cannot read the configuration: {error}");
            problems.push(path.display().to_string(), None, message);
            bad_config(problems)
        })?;
        Self::read(Some((path, &text)), environment, needs_kafka)
    }

    /// The same from the text of a file.
    pub fn read(
        file: Option<(&Path, &str)>,
        environment: &Environment,
        needs_kafka: bool,
    ) -> anyhow::Result<Self> {
        let path = file.map(|(path, _)| path);
        let mut problems = Problems::default();
        let mut table = file.map(|(path, text)| source::parse(path, text, &mut problems)).unwrap_or_default();
        if !problems.is_empty() {
            // What follows from half a file would only hide where it is broken.
            return Err(bad_config(problems));
        }
        source::overlay(&mut table, environment);
        let mut notes = read::Notes { problems, origins: BTreeMap::new(), environment };
        let mut settings = tables::settings(table, &mut notes);
        settings.origins = notes.origins;
        settings.join_clusters();
        let mut problems = notes.problems;
        let mut found = settings.find_output_problems();
        found.extend(settings.find_delivery_problems());
        // An option that was refused may be the one that is missed.
        if !problems.iter().any(|problem| problem.message.starts_with("cannot use the option")) {
            found.extend(settings.find_kafka_problems());
        }
        for (origin, message) in found {
            origin.report(&mut problems, message);
        }
        if needs_kafka {
            settings.report_missing_kafka(path, &mut problems);
        }
        if !problems.is_empty() {
            // A variable that nobody reads may be why something is missing.
            for (name, meant) in warnings::unused_variables(environment) {
                problems.push(name, None, format!("this variable is not used; did you mean {meant}?"));
            }
            return Err(bad_config(problems));
        }
        settings.warnings = settings.find_warnings(environment);
        Ok(settings)
    }

    /// Refuses settings without brokers or topics.
    pub fn require_kafka(&self) -> anyhow::Result<()> {
        let mut problems = Problems::default();
        self.report_missing_kafka(None, &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(bad_config(problems)) }
    }

    fn report_missing_kafka(&self, path: Option<&Path>, problems: &mut Problems) {
        let path = path.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
        for (key, example, is_missing) in [
            ("brokers", "\"host:9092\"", self.kafka.brokers.is_empty()),
            ("topics", "[\"insights-logs-signinlogs\"]", self.kafka.topics.is_empty()),
        ] {
            // A wrong value was reported already.
            let is_wrong = |message: &str| message.contains(&format!("cannot use `kafka.{key}`"));
            if is_missing && !problems.iter().any(|problem| is_wrong(&problem.message)) {
                let variable = key.to_uppercase();
                problems.push(
                    path.clone(),
                    None,
                    format!(
                        "no `{key}` in [kafka]: add `{key} = {example}`, or set AADSTREAM_KAFKA__{variable}"
                    ),
                );
            }
        }
    }

    /// What is odd about this configuration, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Who set the key of this dotted path.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or_default()
    }
}

/// All problems in one error: a single one on a line of its own, several below a heading.
fn bad_config(mut problems: Problems) -> anyhow::Error {
    problems.sort();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let message = match lines.as_slice() {
        [line] => line.clone(),
        lines => format!("the configuration has {} problems\n{}", lines.len(), lines.join("\n")),
    };
    ExitError::new(Exit::BadConfig, message)
}

#[cfg(test)]
mod tests;
