//! The configuration in force as TOML that loads again, with who set what; secrets never.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::oauth::METHODS;
use super::outputs::{DELIVERIES, POLICIES};
use super::tables::{FORMATS, LEVELS, TEXT_ENTRIES};
use super::{Destination, OptionValue, Profile, Secret, SecretSource, Settings};
use crate::digest::App;
use crate::terms::Severity;

/// Prints every key with its origin.
pub fn show(settings: &Settings) -> String {
    let mut page = Page { text: String::new(), settings };
    page.kafka();
    page.oauth();
    page.options("kafka.options", &settings.kafka.options, &super::kafka::own_options(settings));
    page.others();
    page.outputs();
    page.severity();
    page.apps();
    page.text
}

struct Page<'a> {
    text: String,
    settings: &'a Settings,
}

impl Page<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn table(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(&format!("[{name}]"));
    }

    /// `key = value` in TOML, and who says so.
    fn key(&mut self, table: &str, key: &str, value: &str) {
        let origin = self.settings.origin(&format!("{table}.{key}"));
        let entry = format!("{} = {value}", bare(key));
        self.line(&format!("{entry:<50} # {origin}"));
    }

    fn kafka(&mut self) {
        let kafka = &self.settings.kafka;
        self.table("kafka");
        if kafka.brokers.is_empty() {
            self.line("# brokers = \"host:9092\" is not set: `run` needs it");
        } else {
            self.key("kafka", "brokers", &quoted(&kafka.brokers));
        }
        if kafka.topics.is_empty() {
            self.line("# topics = [\"insights-logs-signinlogs\"] is not set: `run` needs it");
        } else {
            self.key("kafka", "topics", &list(&kafka.topics));
        }
        self.key("kafka", "group_id", &quoted(&kafka.group_id));
        self.key("kafka", "start", &quoted(&kafka.start.to_string()));
        self.key("kafka", "group_instance_id", &optional(kafka.group_instance_id.as_deref()));
        self.key("kafka", "memory_limit_bytes", &number(kafka.memory_limit_bytes));
        self.key("kafka", "startup_timeout_seconds", &kafka.startup_timeout.as_secs().to_string());
        self.key("kafka", "shutdown_timeout_seconds", &kafka.shutdown_timeout.as_secs().to_string());
        self.key("kafka", "stall_timeout_seconds", &kafka.stall_timeout.as_secs().to_string());
        let profile = kafka.profile.map(|profile| match profile {
            Profile::EventHubs => "event_hubs",
        });
        self.key("kafka", "profile", &optional(profile));
    }

    fn oauth(&mut self) {
        let Some(oauth) = &self.settings.kafka.oauth else { return };
        let table = "kafka.oauth";
        self.table(table);
        self.key(table, "method", &spelling(&METHODS, &oauth.method));
        self.key(table, "token_url", &quoted(&oauth.token_url));
        self.key(table, "client_id", &optional(oauth.client_id.as_deref()));
        if let Some(secret) = &oauth.client_secret {
            self.key(table, "client_secret", &reference(secret));
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        self.key(table, "assertion_file", &optional(path(&oauth.assertion_file).as_deref()));
        self.key(table, "scope", &optional(oauth.scope.as_deref()));
        self.key(table, "ca_file", &optional(path(&oauth.ca_file).as_deref()));
    }

    /// The operator's options, then what librdkafka is told besides.
    fn options(
        &mut self,
        table: &str,
        options: &BTreeMap<String, OptionValue>,
        own: &BTreeMap<String, String>,
    ) {
        self.table(table);
        for (option, value) in options {
            match value {
                OptionValue::Plain(value) => self.key(table, option, &quoted(value)),
                OptionValue::Secret(secret) => self.key(table, option, &reference(secret)),
            }
        }
        self.line("# librdkafka is also told, by aadstream itself:");
        for (option, value) in own.iter().filter(|(option, _)| !options.contains_key(*option)) {
            self.line(&format!("#   {option} = {value}"));
        }
    }

    fn outputs(&mut self) {
        let Settings { forward, dead_letters, .. } = self.settings;
        self.table("forward");
        self.key("forward", "topic", &optional(forward.topic.as_deref()));
        self.key("forward", "min_severity", &quoted(forward.min_severity.as_str()));
        self.key("forward", "delivery", &spelling(&DELIVERIES, &forward.delivery));
        self.key("forward", "brokers", &quoted(&forward.brokers));
        let mut own = BTreeMap::new();
        if self.settings.produces() {
            own = super::producer::own_options(self.settings);
            // What is taken over from there is shown there, and may be a secret.
            own.retain(|option, _| !self.settings.kafka.options.contains_key(option));
        }
        if !own.is_empty() || !forward.options.is_empty() {
            self.options("forward.options", &forward.options, &own);
        }
        self.table("dead_letters");
        self.key("dead_letters", "policy", &spelling(&POLICIES, &dead_letters.policy));
        match &dead_letters.destination {
            Some(Destination::Topic(topic)) => self.key("dead_letters", "topic", &quoted(topic)),
            Some(Destination::File(path)) => {
                self.key("dead_letters", "file", &quoted(&path.display().to_string()));
            }
            None => {}
        }
        if !dead_letters.policies.is_empty() {
            self.table("dead_letters.policies");
            for (reason, policy) in &dead_letters.policies {
                self.key("dead_letters.policies", reason.as_str(), &spelling(&POLICIES, policy));
            }
        }
    }

    fn others(&mut self) {
        let Settings { input, rules, privacy, metrics, web, log, .. } = self.settings;
        self.table("input");
        self.key("input", "text_entries", &spelling(&TEXT_ENTRIES, &input.text_entries));
        self.key("input", "max_message_bytes", &number(input.max_message_bytes));
        self.key("input", "dedupe_sign_ins", &input.dedupe_sign_ins.to_string());
        self.key("input", "workers", &input.workers.to_string());
        self.table("rules");
        let dir = rules.dir.as_ref().map(|dir| dir.display().to_string());
        self.key("rules", "dir", &optional(dir.as_deref()));
        self.table("privacy");
        self.key("privacy", "forward_ids", &privacy.forward_ids.to_string());
        let key = privacy.pseudonym_key.as_ref().map(|key| key.path.display().to_string());
        self.key("privacy", "pseudonym_key_file", &optional(key.as_deref()));
        self.table("metrics");
        self.key("metrics", "birth_hold_seconds", &metrics.birth_hold.as_secs().to_string());
        self.table("web");
        self.key("web", "listen", &quoted(&web.listen));
        self.key("web", "external_url", &optional(web.external_url.as_deref()));
        self.key("web", "hosts", &list(&web.hosts));
        self.key("web", "lifecycle", &web.lifecycle.to_string());
        let file = web.config_file.as_ref().map(|file| file.display().to_string());
        self.key("web", "config_file", &optional(file.as_deref()));
        self.table("log");
        self.key("log", "format", &spelling(&FORMATS, &log.format));
        self.key("log", "level", &spelling(&LEVELS, &log.level));
    }

    fn severity(&mut self) {
        if self.settings.rules.severity.is_empty() {
            return;
        }
        self.table("rules.severity");
        for word in &self.settings.rules.severity {
            let code = word.code.to_string();
            let value = match (word.default, word.by_flow.as_slice()) {
                (Some(severity), []) => quoted(severity.as_str()),
                (default, by_flow) => {
                    let default = default.map(|severity| format!("default = \"{severity}\""));
                    let flows = by_flow.iter().map(|(flow, severity)| format!("{flow} = \"{severity}\""));
                    let pairs: Vec<String> = default.into_iter().chain(flows).collect();
                    format!("{{ {} }}", pairs.join(", "))
                }
            };
            self.key("rules.severity", &code, &value);
        }
    }

    fn apps(&mut self) {
        let mut apps: Vec<(&String, &App)> = self.settings.apps.iter().collect();
        apps.sort_by_key(|(id, _)| *id);
        for (id, app) in apps {
            let is_workspace = self.settings.workspaces.contains(id);
            self.line("\n[[apps]]");
            let key = if is_workspace { "workspace_id" } else { "app_id" };
            self.line(&format!("{key} = {}", quoted(id)));
            let severity = app.severity.map(Severity::as_str);
            for (key, value) in
                [("alias", app.alias.as_deref()), ("team", app.team.as_deref()), ("severity", severity)]
            {
                if let Some(value) = value {
                    self.line(&format!("{key} = {}", quoted(value)));
                }
            }
        }
    }
}

/// Where a secret stands, which loads again.
fn reference(secret: &Secret) -> String {
    match &secret.source {
        SecretSource::File(path) => format!("{{ file = {} }}", quoted(&path.display().to_string())),
        SecretSource::Variable(name) => format!("{{ env = {} }}", quoted(name)),
    }
}

/// A TOML string; whatever stands in it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn optional(text: Option<&str>) -> String {
    quoted(text.unwrap_or_default())
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn bare(key: &str) -> String {
    let is_bare = key.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
    if is_bare { key.to_owned() } else { quoted(key) }
}

/// `16_777_216`.
fn number(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('_');
        }
        write!(text, "{digit}").expect("a String takes every write");
    }
    text
}

fn spelling<T: PartialEq>(words: &[(&str, T)], value: &T) -> String {
    let word = words.iter().find(|(_, meaning)| meaning == value).map(|(word, _)| *word);
    quoted(word.expect("every value has its word in the list that reads it"))
}
