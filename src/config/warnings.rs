//! What is odd about a configuration, but no reason to stop.

use super::source::Environment;
use super::{Settings, tables};

impl Settings {
    pub(super) fn find_warnings(&self, environment: &Environment) -> Vec<String> {
        let mut warnings = self.find_kafka_warnings();
        if self.kafka.memory_limit_bytes < 2 * self.input.max_message_bytes {
            warnings.push(format!(
                "`memory_limit_bytes` = {} holds less than two messages of `max_message_bytes` = {}",
                self.kafka.memory_limit_bytes, self.input.max_message_bytes
            ));
        }
        warnings.extend(self.find_output_warnings());
        if let Some(key) = self.privacy.pseudonym_key.as_ref().filter(|key| key.is_open) {
            warnings.push(format!(
                "everybody on this machine may read the key of pseudonyms {}: chmod o-r takes that away",
                key.path.display()
            ));
        }
        let mut odd: Vec<&str> = self.apps.keys().map(String::as_str).filter(|id| !is_guid(id)).collect();
        odd.sort_unstable();
        warnings.extend(
            odd.iter().map(|id| format!("the id `{id}` in [[apps]] is no GUID: no record will match it")),
        );
        let unused = unused_variables(environment);
        warnings.extend(
            unused.map(|(name, meant)| format!("the variable {name} is not used; did you mean {meant}?")),
        );
        warnings
    }
}

/// Variables with one underscore where two belong, and what was meant; others of our prefix are somebody else's.
pub(super) fn unused_variables(environment: &Environment) -> impl Iterator<Item = (&str, String)> {
    let meant = |rest: &str| {
        tables::TABLES.into_iter().find_map(|table| {
            let table = table.to_uppercase();
            let key = rest.strip_prefix(&table)?.strip_prefix('_')?;
            let is_known = tables::KEYS.iter().any(|known| known.eq_ignore_ascii_case(key));
            is_known.then(|| format!("AADSTREAM_{table}__{}", key.to_uppercase()))
        })
    };
    environment
        .ours()
        .filter(|(_, rest, _)| !rest.contains("__"))
        .filter_map(move |(name, rest, _)| meant(rest).map(|meant| (name, meant)))
}

fn is_guid(id: &str) -> bool {
    let is_in_place = |(at, letter): (usize, char)| match at {
        8 | 13 | 18 | 23 => letter == '-',
        _ => letter.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.char_indices().all(is_in_place)
}
