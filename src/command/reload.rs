//! Reads the rules anew while the service runs: on SIGHUP, and on request over HTTP.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tracing::{error, info, warn};

use crate::config::Settings;
use crate::service::Service;
use crate::web::Reload;

/// Problems that a log line names; `config check` and `rules check` show all.
const SHOWN: usize = 3;

/// Where the configuration came from, and what takes the rules in it.
pub struct Reloader {
    path: Option<PathBuf>,
    /// Those that the service began with.
    settings: Settings,
    service: Arc<Service>,
    /// One at a time.
    turn: Mutex<()>,
}

impl Reloader {
    pub fn new(path: Option<PathBuf>, settings: Settings, service: Arc<Service>) -> Self {
        Self { path, settings, service, turn: Mutex::new(()) }
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<String, String> {
        let _turn = self.turn.lock().expect("no code panics while it holds this lock");
        let loaded =
            Settings::load(self.path.as_deref()).map_err(|error| format!("{error:#}")).and_then(|settings| {
                match settings.load_rules() {
                    Ok(catalogue) => Ok((catalogue, settings)),
                    Err(problems) => Err(problems.to_string()),
                }
            });
        let (catalogue, settings) = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => {
                self.service.metrics.reload_failure();
                error!("the rules in force stay: {}", in_one_line(&problems));
                return Err(format!("the rules in force stay: {problems}"));
            }
        };
        let (version, rules) = (catalogue.version().to_owned(), catalogue.len());
        let (own, severities) = (catalogue.override_count(), settings.rules.severity.len());
        self.service.adopt(Arc::new(catalogue), settings.pseudonyms());
        info!(version, rules, own, severities, "rules read anew");
        let waiting = self.settings.needs_restart(&settings).join(", ");
        if !waiting.is_empty() {
            warn!("{waiting} changed too; that needs a restart");
        }
        Ok(format!("{rules} rules are in force, catalogue {version}"))
    }
}

/// The first problems, for the log.
fn in_one_line(problems: &str) -> String {
    let mut lines = problems.lines().map(str::trim);
    let mut line = lines.by_ref().take(SHOWN).collect::<Vec<_>>().join("; ");
    let more = lines.count();
    if more > 0 {
        line.push_str(&format!("; {more} more"));
    }
    line
}
