//! A configuration file: refused with its problems, or shown as one that loads again as the same.

use std::path::Path;

use aadstream::config::show::show;
use aadstream::config::{Environment, Settings};

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(settings) = read(text).ok() else { return };
    let shown = show(&settings);
    let again = read(&shown).unwrap_or_else(|error| panic!("what is shown is refused: {error}"));
    assert!(settings.needs_restart(&again).is_empty(), "{:?} differ", settings.needs_restart(&again));
    assert_eq!(settings.rules, again.rules);
    assert_eq!(without_origins(&shown), without_origins(&show(&again)));
}

fn read(text: &str) -> anyhow::Result<Settings> {
    let read = Settings::read(Some((Path::new("aadstream.toml"), text)), &Environment::default(), false);
    if let Err(error) = &read {
        assert!(!error.to_string().is_empty());
    }
    read
}

/// Who set a key stands behind it in a remark.
fn without_origins(shown: &str) -> String {
    let value = |line: &str| line.rsplit_once(" # ").map_or(line, |(value, _)| value).trim_end().to_owned();
    shown.lines().map(value).collect::<Vec<_>>().join("\n")
}
