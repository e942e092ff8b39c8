//! Where values come from: a TOML file with the line of each key, and `AADSTREAM_…` variables laid over it.
//!
//! Nothing here knows which keys exist; [`super::read`] asks for them and reports what nobody asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::catalogue::problem::Problems;

/// What every variable of ours begins with.
const PREFIX: &str = "AADSTREAM_";

/// The part of the process environment that a configuration may ask for; tests bring their own.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. One that is no UTF-8 counts as absent: nothing of ours can be spelled in it.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Variables that begin with our prefix, the prefix cut off.
    pub(super) fn ours(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            name.strip_prefix(PREFIX).map(|rest| (name.as_str(), rest, value.as_str()))
        })
    }
}

impl Environment {
    /// Exactly these variables.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Who set a key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    #[default]
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// The name of the variable.
    Environment(String),
}

impl Origin {
    /// Reports `message` where the key stands.
    pub(super) fn report(&self, problems: &mut Problems, message: impl Into<String>) {
        match self {
            Self::Default => problems.push("configuration", None, message),
            Self::File { path, line } => problems.push(path.display().to_string(), Some(*line), message),
            Self::Environment(name) => problems.push(name.clone(), None, message),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// A variable's text: whoever asks for a number, a word or a list reads it as such.
    Variable(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Item>),
    Table(Table),
    /// A date or a fraction: only its text is of use.
    Other(String),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Variable(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(_) => "a date or a fraction",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

pub(super) type Table = BTreeMap<String, Item>;

/// Reads the text of a file. A broken one gives what could be read of it, and its problems.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Problems) -> Table {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
    let line_of = |offset: usize| 1 + ends.partition_point(|end| *end < offset);
    for error in errors {
        let line = error.span().map(|span| line_of(span.start));
        problems.push(
            path.display().to_string(),
            line,
            format!("not TOML: {}", error.message().trim().replace('\n', ", ")),
        );
    }
    let at = |offset| Origin::File { path: path.to_owned(), line: line_of(offset) };
    convert_table(table.get_ref(), &at, problems)
}

fn convert_table(table: &DeTable<'_>, at: &dyn Fn(usize) -> Origin, problems: &mut Problems) -> Table {
    let mut converted = Table::new();
    for (key, value) in table {
        let origin = at(key.span().start);
        let value = convert(value.get_ref(), at, &origin, problems);
        converted.insert(key.get_ref().to_string(), Item { value, origin });
    }
    converted
}

fn convert(
    value: &DeValue<'_>,
    at: &dyn Fn(usize) -> Origin,
    origin: &Origin,
    problems: &mut Problems,
) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).map_or_else(
            |_| {
                origin.report(problems, format!("the number {number} is too large"));
                Value::Integer(0)
            },
            Value::Integer,
        ),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(values) => {
            let item = |value: &toml::Spanned<DeValue<'_>>, problems: &mut Problems| {
                let origin = at(value.span().start);
                Item { value: convert(value.get_ref(), at, &origin, problems), origin }
            };
            Value::List(values.iter().map(|value| item(value, problems)).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, at, problems)),
        DeValue::Float(number) => Value::Other(number.to_string()),
        DeValue::Datetime(time) => Value::Other(time.to_string()),
    }
}

/// Lays the variables over what the file says; they win.
///
/// Two underscores part table and key, as single ones are part of our keys. In the tables of options single ones stand
/// for the dots of librdkafka's keys, none of which holds an underscore that a text could set.
pub(super) fn overlay(table: &mut Table, environment: &Environment) {
    for (name, rest, value) in environment.ours().filter(|(_, rest, _)| rest.contains("__")) {
        let mut path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        if path.len() > 2 && ["kafka", "forward"].contains(&path[0].as_str()) && path[1] == "options" {
            path[2] = path[2].replace('_', ".");
        }
        let origin = Origin::Environment(name.to_owned());
        let item = Item { value: Value::Variable(value.to_owned()), origin: origin.clone() };
        let mut table = &mut *table;
        let key = path.pop().expect("a split gives at least one part");
        for part in path {
            let entry = table
                .entry(part)
                .or_insert_with(|| Item { value: Value::Table(Table::new()), origin: origin.clone() });
            if !matches!(entry.value, Value::Table(_)) {
                *entry = Item { value: Value::Table(Table::new()), origin: origin.clone() };
            }
            let Value::Table(inner) = &mut entry.value else { unreachable!("it was made a table above") };
            table = inner;
        }
        table.insert(key, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Table, Problems) {
        let mut problems = Problems::default();
        let table = parse(Path::new("a.toml"), text, &mut problems);
        (table, problems)
    }

    #[test]
    fn keys_know_their_lines() {
        let (table, problems) = read("# one\n[kafka]\nbrokers = \"a:1\"\n\n[[apps]]\nalias = \"x\"\n");
        assert!(problems.is_empty(), "{problems}");
        let Value::Table(kafka) = &table["kafka"].value else { panic!("{table:?}") };
        assert_eq!(kafka["brokers"].origin.to_string(), "a.toml:3");
        let Value::List(apps) = &table["apps"].value else { panic!("{table:?}") };
        let Value::Table(app) = &apps[0].value else { panic!("{apps:?}") };
        assert_eq!(app["alias"].origin.to_string(), "a.toml:6");
    }

    #[test]
    fn every_syntax_error_has_its_line() {
        let (_, problems) = read("[kafka]\nbrokers = \n[web\nlisten = 'x'\n");
        let lines: Vec<_> = problems.iter().filter_map(|problem| problem.line).collect();
        assert!(lines.contains(&2) && lines.contains(&3), "{problems}");
        let (_, problems) = read("[web]\nlisten = 'x'\nlisten = 'y'\n");
        assert_eq!(problems.to_string(), "a.toml:3: not TOML: duplicate key\n1 problem");
    }

    #[test]
    fn variables_win_and_options_get_their_dots_back() {
        let (mut table, _) = read("kafka = { brokers = \"a:1\", options = { \"sasl.password\" = \"x\" } }");
        let environment = [
            ("AADSTREAM_KAFKA__BROKERS", "b:2"),
            ("AADSTREAM_KAFKA__OPTIONS__SASL_PASSWORD__FILE", "/p"),
            ("AADSTREAM_HOST", "a machine"),
            ("OTHER__KEY", "not ours"),
        ];
        overlay(&mut table, &Environment::of(environment));
        assert_eq!(table.len(), 1, "{table:?}");
        let Value::Table(kafka) = &table["kafka"].value else { panic!("{table:?}") };
        assert!(matches!(&kafka["brokers"].value, Value::Variable(text) if text == "b:2"));
        let Value::Table(options) = &kafka["options"].value else { panic!("{kafka:?}") };
        let Value::Table(password) = &options["sasl.password"].value else { panic!("{options:?}") };
        assert_eq!(password["file"].origin, Origin::Environment(environment[1].0.to_owned()));
    }
}
