//! A configuration file: refused with its problems, or shown as one that loads again as the same.

use std::path::PathBuf;
use std::sync::LazyLock;

use aadstream::config::show::show;
use aadstream::config::{Environment, Settings};

/// One a process; tests/fuzz says where and clears up.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("aadstream-fuzz-{}.toml", std::process::id())));

pub fn check(bytes: &[u8]) {
    let Some(settings) = load(bytes).ok() else { return };
    let shown = show(&settings);
    let again = load(shown.as_bytes()).unwrap_or_else(|error| panic!("what is shown is refused: {error}"));
    assert!(settings.needs_restart(&again).is_empty(), "{:?} differ", settings.needs_restart(&again));
    assert_eq!(settings.rules, again.rules);
    assert_eq!(without_origins(&shown), without_origins(&show(&again)));
}

fn load(bytes: &[u8]) -> anyhow::Result<Settings> {
    std::fs::write(&*FILE, bytes)?;
    let loaded = Settings::load_with(Some(&FILE), &Environment::default(), false);
    if let Err(error) = &loaded {
        assert!(!error.to_string().is_empty());
    }
    loaded
}

/// Who set a key stands behind it in a remark.
fn without_origins(shown: &str) -> String {
    let value = |line: &str| line.rsplit_once(" # ").map_or(line, |(value, _)| value).trim_end().to_owned();
    shown.lines().map(value).collect::<Vec<_>>().join("\n")
}
