//! What the rest of the program makes of the settings.

use std::path::PathBuf;

use super::{Settings, kafka};
use crate::catalogue::Catalogue;
use crate::catalogue::problem::{Problem, Problems};
use crate::digest::Options;
use crate::digest::event::EventOptions;
use crate::digest::pseudonym::Pseudonyms;
use crate::digest::tally::Detail;
use crate::exit_code::{Exit, ExitError};
use crate::web::access::Access;

impl Settings {
    /// The rules in force, or every problem of them.
    pub fn catalogue(&self) -> anyhow::Result<Catalogue> {
        self.load_rules()
            .map_err(|problems| ExitError::new(Exit::BadRules, format!("cannot load the rules:\n{problems}")))
    }

    /// The same; a problem of a key of the configuration is reported where that key stands.
    pub fn load_rules(&self) -> Result<Catalogue, Problems> {
        Catalogue::load(self.rules.dir.as_deref(), &self.rules.severity).map_err(|found| {
            let mut problems = Problems::default();
            for Problem { path, line, message } in &found {
                match self.origins.get(path) {
                    Some(origin) => origin.report(&mut problems, format!("cannot use `{path}`: {message}")),
                    None => problems.push(path, *line, message),
                }
            }
            problems
        })
    }

    /// How the service reads messages: it makes only what somebody wants.
    pub fn service_options(&self) -> Options {
        let mut options = self.digest_options(Detail::Apps, self.forward.topic.is_some());
        if let Some(events) = &mut options.events {
            events.min_severity = self.forward.min_severity;
        }
        options.rejects = self.dead_letters.unskipped().next().is_some();
        options
    }

    /// The files that the consumer reads when it is built: passwords, keys, certificates.
    pub fn consumer_files(&self) -> Vec<PathBuf> {
        kafka::files(&self.kafka.options)
    }

    /// Those that the producer reads.
    pub fn producer_files(&self) -> Vec<PathBuf> {
        let mut files = kafka::files(&self.forward.options);
        if self.forward.brokers.is_empty() {
            files.extend(self.consumer_files());
        }
        files
    }

    /// Who may see the pages.
    pub fn web_access(&self) -> Result<Option<Access>, String> {
        let access = self.web.config_file.as_deref().map(Access::new).transpose();
        access.map_err(|problem| format!("cannot use `web.config_file`: {problem}"))
    }

    /// The tables of `new` that a running service cannot take over: all that differ but `[rules]` and the key of pseudonyms.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let Self {
            kafka,
            input,
            forward,
            dead_letters,
            rules: _,
            apps,
            privacy,
            metrics,
            web,
            log,
            workspaces: _,
            origins: _,
            warnings: _,
        } = self;
        let tables = [
            ("[kafka]", *kafka != new.kafka),
            ("[input]", *input != new.input),
            ("[forward]", *forward != new.forward),
            ("[dead_letters]", *dead_letters != new.dead_letters),
            ("[[apps]]", *apps != new.apps),
            ("[privacy]", privacy.forward_ids != new.privacy.forward_ids),
            ("[metrics]", *metrics != new.metrics),
            ("[web]", *web != new.web),
            ("[log]", *log != new.log),
        ];
        tables.into_iter().filter(|(_, differs)| *differs).map(|(table, _)| table).collect()
    }

    /// What makes pseudonyms, where there is a key for them.
    pub fn pseudonyms(&self) -> Option<Pseudonyms> {
        self.privacy.pseudonym_key.as_ref().map(|key| Pseudonyms::new(key.expose()))
    }

    /// How messages are read.
    pub fn digest_options(&self, detail: Detail, events: bool) -> Options {
        let event_options = || EventOptions {
            external_url: self.web.external_url.clone(),
            forward_ids: self.privacy.forward_ids,
            pseudonyms: self.pseudonyms(),
            ..EventOptions::default()
        };
        Options {
            max_message_bytes: self.input.max_message_bytes,
            text_entries: self.input.text_entries,
            detail,
            events: events.then(event_options),
            rejects: false,
            dedupe_sign_ins: self.input.dedupe_sign_ins,
            apps: self.apps.clone(),
            cluster_id: None,
        }
    }
}
