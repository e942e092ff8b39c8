//! Reads the rules anew while the service runs: when they change, on SIGHUP, and on request over HTTP. Where keys and
//! certificates change, another consumer or producer takes the place of the one that read them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::config::{Settings, kafka, producer};
use crate::look::{Looks, Watch};
use crate::service::Service;
use crate::web::Reload;

/// Problems that a log line names; `config check` and `rules check` show all.
const SHOWN: usize = 3;

/// Files are looked at this often; a change is taken up when it stands still from one look to the next.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the configuration came from, and what takes the rules in it.
pub struct Reloader {
    path: Option<PathBuf>,
    /// Those that the service began with.
    settings: Settings,
    service: Arc<Service>,
    /// One reload at a time.
    files: Mutex<Files>,
}

/// What is read anew when it changes.
#[derive(Default)]
struct Files {
    /// `[rules] dir` as it was last read, and the file of the key of pseudonyms.
    dir: Option<PathBuf>,
    key: Option<PathBuf>,
    rules: Watch,
    consumer: Watch,
    producer: Watch,
}

impl Files {
    /// Takes their names from the configuration; whether others were named before.
    fn name(&mut self, settings: &Settings) -> bool {
        let key = settings.privacy.pseudonym_key.as_ref().map(|key| key.path.clone());
        let names = (settings.rules.dir.clone(), key);
        let is_new = (&self.dir, &self.key) != (&names.0, &names.1);
        (self.dir, self.key) = names;
        is_new
    }

    fn note_rules(&mut self, config: Option<&Path>) {
        let looks = self.rule_looks(config);
        self.rules.note(looks);
    }

    /// The configuration, the folder of rules and the files in it, the key of pseudonyms.
    fn rule_looks(&self, config: Option<&Path>) -> Looks {
        let listing = self.dir.as_ref().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten();
        let mut rules: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
        rules.sort();
        let named = [config, self.dir.as_deref(), self.key.as_deref()];
        Looks::of(named.into_iter().flatten().map(Path::to_owned).chain(rules))
    }
}

impl Reloader {
    pub fn new(path: Option<PathBuf>, settings: Settings, service: Arc<Service>) -> Self {
        let mut files = Files::default();
        files.name(&settings);
        files.note_rules(path.as_deref());
        files.consumer.note(Looks::of(settings.consumer_files()));
        files.producer.note(Looks::of(settings.producer_files()));
        Self { path, settings, service, files: Mutex::new(files) }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().expect("no code panics while it holds this lock")
    }

    /// Takes up what has changed since the last time.
    pub fn look(&self) {
        let mut files = self.files();
        let now = files.rule_looks(self.path.as_deref());
        if files.rules.is_due(now) {
            // The log has told what came of it.
            let _ = self.read(&mut files);
        }
        let now = Looks::of(self.settings.consumer_files());
        if files.consumer.is_due(now.clone()) {
            files.consumer.note(now);
            match kafka::check(&self.settings) {
                Ok(_) => self.service.renew_consumer(),
                Err(problem) => error!("the consumer in place stays: {problem}"),
            }
        }
        let now = Looks::of(self.settings.producer_files());
        if files.producer.is_due(now.clone()) {
            files.producer.note(now);
            match producer::check(&self.settings) {
                Ok(_) if self.settings.produces() => self.service.renew_producer(),
                Ok(_) => {}
                Err(problem) => error!("the producer in place stays: {problem}"),
            }
        }
    }

    fn read(&self, files: &mut Files) -> Result<String, String> {
        // What changes while it is read is read again.
        files.note_rules(self.path.as_deref());
        let loaded = Settings::load(self.path.as_deref()).map_err(|error| format!("{error:#}"));
        let loaded = loaded.and_then(|settings| {
            if files.name(&settings) {
                files.note_rules(self.path.as_deref());
            }
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

impl Reload for Reloader {
    fn reload(&self) -> Result<String, String> {
        self.read(&mut self.files())
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
