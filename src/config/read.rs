//! Asks a table for its keys one by one and remembers what was wrong, who set what, and what nobody asked for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Secret;
use super::source::{Environment, Item, Origin, Table, Value};
use crate::catalogue::problem::{Problems, did_you_mean, nearest_word};

/// What reading leaves behind beside the values.
pub(super) struct Notes<'e> {
    pub(super) problems: Problems,
    /// By dotted path; a key that nobody set is absent.
    pub(super) origins: BTreeMap<String, Origin>,
    pub(super) environment: &'e Environment,
}

/// One table while its keys are taken.
pub(super) struct Section<'n, 'e> {
    path: String,
    table: Table,
    known: Vec<&'static str>,
    pub(super) notes: &'n mut Notes<'e>,
}

impl<'n, 'e> Section<'n, 'e> {
    pub(super) fn new(path: &str, table: Table, notes: &'n mut Notes<'e>) -> Self {
        Self { path: path.to_owned(), table, known: Vec::new(), notes }
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, or `default` when it is absent or wrong (which is then a problem).
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> T {
        let Some(Item { value, origin }) = self.take_item(key) else { return default };
        match read(value) {
            Ok(value) => {
                self.notes.origins.insert(self.dotted(key), origin);
                value
            }
            Err(reason) => {
                let key = self.dotted(key);
                origin.report(&mut self.notes.problems, format!("cannot use `{key}`: {reason}"));
                default
            }
        }
    }

    /// A secret, by where it stands.
    pub(super) fn take_secret(&mut self, key: &'static str) -> Option<Secret> {
        let Item { value, origin } = self.take_item(key)?;
        let key = self.dotted(key);
        match Secret::read(value, &origin, self.notes.environment) {
            Ok(secret) => {
                self.notes.origins.insert(key, origin);
                Some(secret)
            }
            Err(reason) => {
                origin.report(&mut self.notes.problems, format!("cannot use `{key}`: {reason}"));
                None
            }
        }
    }

    pub(super) fn take_item(&mut self, key: &'static str) -> Option<Item> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// A table inside this one; absent, it is empty.
    pub(super) fn take_table(&mut self, key: &'static str) -> Table {
        match self.take_item(key) {
            None => Table::new(),
            Some(Item { value: Value::Table(table), .. }) => table,
            Some(Item { value, origin }) => {
                let kind = value.kind();
                let key = self.dotted(key);
                let message = format!("cannot use `{key}`: expected the table `[{key}]`, found {kind}");
                origin.report(&mut self.notes.problems, message);
                Table::new()
            }
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(mut self) {
        for (key, item) in std::mem::take(&mut self.table) {
            let what = if self.path.is_empty() { "table" } else { "key" };
            let near = match &item.origin {
                Origin::Environment(name) => {
                    let near = nearest_word(&key, self.known.iter().copied());
                    let stem = name.to_lowercase().find(&key).map_or(name.as_str(), |start| &name[..start]);
                    near.map_or_else(String::new, |near| {
                        format!("; did you mean `{stem}{}`?", near.to_uppercase())
                    })
                }
                _ => did_you_mean(&key, self.known.iter().copied()),
            };
            let near = if near.is_empty() { format!("; known are {}", self.known.join(", ")) } else { near };
            let message = format!("unknown {what} `{}`{near}", self.dotted(&key));
            // A whole unknown table that came from variables is named by the variable in it.
            innermost(&item).report(&mut self.notes.problems, message);
        }
    }
}

fn innermost(item: &Item) -> &Origin {
    match &item.value {
        Value::Table(table) if matches!(item.origin, Origin::Environment(_)) => {
            table.values().next().map_or(&item.origin, innermost)
        }
        _ => &item.origin,
    }
}

pub(super) fn text(value: Value) -> Result<String, String> {
    match value {
        Value::Text(text) | Value::Variable(text) => Ok(text.trim().to_owned()),
        other => Err(format!("expected a text in quotes, found {}", other.kind())),
    }
}

/// A text; the empty one stands for none.
pub(super) fn optional(value: Value) -> Result<Option<String>, String> {
    text(value).map(|text| Some(text).filter(|text| !text.is_empty()))
}

pub(super) fn filled(value: Value) -> Result<String, String> {
    optional(value)?.ok_or_else(|| "it must not be empty".to_owned())
}

/// A list of texts; in a variable they are parted by commas.
pub(super) fn texts(value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::Variable(text) => {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }
        Value::List(items) => items.into_iter().map(|item| filled(item.value)).collect(),
        Value::Text(text) => Err(format!("expected a list: [\"{text}\"]")),
        other => Err(format!("expected a list of texts, found {}", other.kind())),
    }
}

pub(super) fn boolean(value: Value) -> Result<bool, String> {
    match value {
        Value::Boolean(value) => Ok(value),
        Value::Variable(text) | Value::Text(text) if text == "true" || text == "false" => Ok(text == "true"),
        Value::Variable(text) | Value::Text(text) => Err(format!("expected true or false, found `{text}`")),
        other => Err(format!("expected true or false, found {}", other.kind())),
    }
}

/// A whole number of this range; `unit` names it in errors.
pub(super) fn integer(
    range: RangeInclusive<i64>,
    unit: &'static str,
) -> impl FnOnce(Value) -> Result<i64, String> {
    move |value| {
        let expected = format!("expected a whole number of {unit} from {} to {}", range.start(), range.end());
        let number = match value {
            Value::Integer(number) => number,
            Value::Variable(text) => {
                text.trim().replace('_', "").parse().map_err(|_| format!("{expected}, found `{text}`"))?
            }
            other => return Err(format!("{expected}, found {}", other.kind())),
        };
        if range.contains(&number) { Ok(number) } else { Err(format!("{expected}, found {number}")) }
    }
}

pub(super) fn size(
    range: RangeInclusive<i64>,
    unit: &'static str,
) -> impl FnOnce(Value) -> Result<usize, String> {
    move |value| {
        integer(range, unit)(value).map(|number| usize::try_from(number).expect("no range begins below 0"))
    }
}

pub(super) fn seconds(range: RangeInclusive<i64>) -> impl FnOnce(Value) -> Result<Duration, String> {
    move |value| size(range, "seconds")(value).map(|seconds| Duration::from_secs(seconds as u64))
}

/// One of a closed list of words.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(Value) -> Result<T, String> {
    move |value| {
        let found = text(value)?;
        let hit = words.iter().find(|(word, _)| *word == found).map(|(_, meaning)| *meaning);
        hit.ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = did_you_mean(&found, all.iter().copied());
            format!("`{found}` is none of {}{near}", all.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: std::fmt::Debug + PartialEq>(actual: Result<T, String>, expected: Result<T, &str>) {
        match (actual, expected) {
            (Ok(actual), Ok(expected)) => assert_eq!(actual, expected),
            (Err(actual), Err(expected)) => assert_eq!(actual, expected),
            (actual, expected) => panic!("{actual:?} is not {expected:?}"),
        }
    }

    fn variable(text: &str) -> Value {
        Value::Variable(text.to_owned())
    }

    #[test]
    fn variables_are_read_as_what_is_asked_for() {
        check(integer(1..=20_000_000, "bytes")(variable("16_777_216")), Ok(16_777_216));
        check(texts(variable("a, ^b.*,")), Ok(vec!["a".to_owned(), "^b.*".to_owned()]));
        check(boolean(variable("true")), Ok(true));
        check(optional(variable("")), Ok(None));
    }

    #[test]
    fn wrong_values_are_told_what_was_expected() {
        let words = [("text", 1), ("json", 2)];
        check(word(&words)(variable("jsn")), Err("`jsn` is none of text, json; did you mean `json`?"));
        check(
            integer(0..=9, "seconds")(Value::Integer(10)),
            Err("expected a whole number of seconds from 0 to 9, found 10"),
        );
        check(
            integer(0..=9, "seconds")(variable("1h")),
            Err("expected a whole number of seconds from 0 to 9, found `1h`"),
        );
        check(texts(Value::Text("a".to_owned())), Err("expected a list: [\"a\"]"));
        check(boolean(variable("yes")), Err("expected true or false, found `yes`"));
        check(text(Value::Integer(1)), Err("expected a text in quotes, found a number"));
    }
}
