//! The command line: types and help texts only, no behaviour.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Start, listen_address, parse_start};
use crate::terms::{Audience, Category, Flow, Outcome, Severity};

/// Explains the AADSTS codes in Microsoft Entra sign-in logs and Power BI refresh logs, and counts them.
#[derive(Debug, Parser)]
#[command(name = "aadstream", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// When to use colours; `NO_COLOR` is honoured.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Consume Kafka topics, count codes, serve metrics.
    Run(RunArgs),
    /// Try everything in one process: a broker, generated traffic, the service.
    Demo(DemoArgs),
    /// Count the codes in files, folders or stdin.
    Scan(ScanArgs),
    /// Say what a code or a pasted error message means.
    Explain(ExplainArgs),
    /// List or check the rules of the catalogue.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prove what was lost or doubled between input and output.
    Audit(AuditArgs),
    /// Print a completion script.
    Completions { shell: clap_complete::Shell },
    /// Print the manual page.
    Man,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// Configuration file; without it defaults and `AADSTREAM_…` variables are used.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Messages a second; 0 generates none.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub rate: u32,
    /// Stop by itself after this long, for example 30s or 2m; without it Ctrl-C stops the demo.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Address to listen on, port 0 for a free one; without it 127.0.0.1:9877, or a free port where that is taken.
    #[arg(long, value_name = "HOST:PORT", value_parser = listen_address)]
    pub listen: Option<String>,
    /// Seed of the generated traffic: the same seed gives the same messages.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ScanFormat {
    /// For people.
    Table,
    /// One object; its keys are a contract.
    Json,
    /// Text exposition format 0.0.4.
    Prometheus,
    /// One enriched event a line.
    Events,
}

#[derive(Args, Debug)]
pub struct ScanArgs {
    /// How to print the result.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ScanFormat,
    /// Rows of the table at most.
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Exit 6 if an event of this severity or above was found.
    #[arg(long, value_name = "SEVERITY", value_parser = word::<Severity>())]
    pub fail_on: Option<Severity>,
    /// Configuration file: rules directory, severity overrides, input limits.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads; 0 takes one a core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Files (plain, gzip, zstd), folders, or - for stdin.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ExplainFormat {
    Text,
    Json,
    Markdown,
}

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// How to print the answer.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ExplainFormat,
    /// Configuration file: rules directory, severity overrides.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Codes in any spelling, the address of Microsoft's page for one, or a whole pasted error message or record;
    /// - reads it from stdin.
    #[arg(value_name = "CODE|TEXT", required = true)]
    pub text: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List the rules.
    List(RulesListArgs),
    /// Check a directory of rules, or the embedded ones, and print every problem.
    Check {
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub struct RulesListArgs {
    /// How to print the rules.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Only these categories; each filter takes several words, comma-separated.
    #[arg(long, value_parser = word::<Category>(), value_delimiter = ',')]
    pub category: Vec<Category>,
    /// Only rules with this severity in some flow (or in --flow).
    #[arg(long, value_parser = word::<Severity>(), value_delimiter = ',')]
    pub severity: Vec<Severity>,
    /// Only codes that occur in this flow; the table shows what they mean there.
    #[arg(long, value_parser = word::<Flow>(), value_delimiter = ',')]
    pub flow: Vec<Flow>,
    /// Only rules with this audience in some flow (or in --flow).
    #[arg(long, value_parser = word::<Audience>(), value_delimiter = ',')]
    pub audience: Vec<Audience>,
    /// Only rules with this outcome in some flow (or in --flow).
    #[arg(long, value_parser = word::<Outcome>(), value_delimiter = ',')]
    pub outcome: Vec<Outcome>,
    /// Only rules of this depth: 1 full, 2 short.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2), value_delimiter = ',')]
    pub tier: Vec<u8>,
    /// Configuration file: rules directory, severity overrides.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only rules with these words in code, name, title or summary.
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AuditFormat {
    /// For people.
    Text,
    /// One object; its keys are a contract.
    Json,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AuditEnd {
    /// Where the consumer group has committed.
    Committed,
    /// Where the input ends now.
    End,
}

#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Configuration file of the service whose output is checked.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: AuditFormat,
    /// Where the input begins: earliest, a time ago such as -1h, or a time such as 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME", default_value = "earliest", value_parser = parse_start, allow_hyphen_values = true)]
    pub from: Start,
    /// Where the input ends.
    #[arg(long, value_name = "END", default_value = "committed")]
    pub to: AuditEnd,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every problem of the configuration.
    Check {
        /// Configuration file; without one the environment has to say everything.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Also connect to the brokers, look for the topics, and try whether transactions can begin.
        #[arg(long)]
        connect: bool,
    },
    /// Print the configuration in force, secrets masked.
    Show {
        /// Configuration file; without one the environment has to say everything.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// A word of one of the closed vocabularies.
trait Word: Copy + 'static {
    const ALL: &'static [Self];
    fn as_str(self) -> &'static str;
}

macro_rules! word {
    ($($name:ident),+) => { $(impl Word for $name {
        const ALL: &'static [Self] = $name::ALL;
        fn as_str(self) -> &'static str { $name::as_str(self) }
    })+ };
}
word!(Severity, Category, Flow, Audience, Outcome);

/// One of the words, which help, completions and errors list.
fn word<T: Word + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let find = |text: String| {
        let found = T::ALL.iter().copied().find(|word| word.as_str() == text);
        found.expect("only these words are let through")
    };
    PossibleValuesParser::new(T::ALL.iter().map(|word| word.as_str())).map(find)
}

/// Reads `30s`, `2m`, `1h`, `500ms` or a plain number of seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "expected a time such as 30s, 2m or 1h".to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("unknown unit `{unit}`; use ms, s, m or h")),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "that is too long".to_owned())
}
