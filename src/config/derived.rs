//! What the rest of the program makes of the settings.

use super::Settings;
use crate::catalogue::Catalogue;
use crate::digest::Options;
use crate::digest::event::EventOptions;
use crate::digest::tally::Detail;
use crate::exit_code::{Exit, ExitError};

impl Settings {
    /// The rules in force, or every problem of them.
    pub fn catalogue(&self) -> anyhow::Result<Catalogue> {
        Catalogue::load(self.rules.dir.as_deref(), &self.rules.severity)
            .map_err(|problems| ExitError::new(Exit::BadRules, format!("cannot load the rules:\n{problems}")))
    }

    /// How messages are read.
    pub fn digest_options(&self, detail: Detail, events: bool) -> Options {
        let event_options = || EventOptions {
            external_url: self.web.external_url.clone(),
            forward_ids: self.privacy.forward_ids,
        };
        Options {
            max_message_bytes: self.input.max_message_bytes,
            text_entries: self.input.text_entries,
            detail,
            events: events.then(event_options),
            dedupe_sign_ins: self.input.dedupe_sign_ins,
            apps: self.apps.clone(),
            cluster_id: None,
        }
    }
}
