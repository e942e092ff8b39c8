//! The enriched event: what a failure or interrupt becomes for the next consumer (schema 1).

use serde::Serialize;

use super::App;
use super::found::{Found, TimeSource, is_id};
use super::pseudonym::Pseudonyms;
use super::time::{self, Millis};
use crate::catalogue::Catalogue;
use crate::code::Code;
use crate::terms::{Kind, LogCategory, Severity};

/// Where an event's message stood.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Source {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The topic; for a file its path.
    pub topic: String,
    pub partition: i32,
    /// The offset; for a file the number of the message, from 0.
    pub offset: i64,
    pub index: u32,
    /// Kafka's time of the message, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<Millis>,
}

/// A member of text is cut here, so that an event stays far below 64 KiB.
const TEXT_BYTES: usize = 1024;

/// Codes listed in one event; the counts have all of them.
const MENTIONS: usize = 64;

/// The JSON of one event is never longer.
pub const BODY_BYTES: usize = 64 * 1024;

/// What remains of a text, and how many of a list, where the whole would be too long.
const SHORT_TEXT_BYTES: usize = 256;
const SHORT_LIST: usize = 8;

/// One event as it is written; absent rather than null.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Event {
    pub schema: u8,
    /// `topic/partition/offset/index`: the same after a replay.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_source: Option<&'static str>,
    pub source: Source,
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_category: Option<&'static str>,
    pub flow: &'static str,
    pub outcome: &'static str,
    pub code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<&'static str>,
    pub mentions: Vec<String>,
    pub known: bool,
    pub degraded: bool,
    pub title: String,
    pub severity: &'static str,
    pub category: &'static str,
    pub audience: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    pub transient: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_url: Option<String>,
    #[serde(flatten)]
    pub facts: Facts,
    pub catalogue_version: String,
}

/// Members taken from the record; none of them names a person.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_principal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

impl Facts {
    fn of(found: &Found<'_>, options: &EventOptions) -> Self {
        let fields = &found.fields;
        let own = |text: Option<&str>| text.map(cut).filter(|text| !text.is_empty());
        let id = |text: Option<&str>| text.filter(|text| is_id(text)).map(str::to_owned);
        let private_id = |text: Option<&str>| if options.forward_ids { id(text) } else { None };
        let (request, refresh) = match found.kind {
            Kind::Refresh => (None, fields.request_id.as_deref().or(fields.id.as_deref())),
            _ => (fields.request_id.as_deref().or(fields.id.as_deref()), None),
        };
        Self {
            error_name: own(fields.error_name.as_deref()).filter(|name| is_name(name)),
            tenant_id: id(found.tenant_id()),
            app_id: id(fields.app_id.as_deref()),
            app_name: own(fields.app_name.as_deref().or(fields.service_principal_name.as_deref())),
            service_principal_id: id(fields.service_principal_id.as_deref()),
            resource: own(fields.resource_name.as_deref()),
            credential_key_id: id(fields.credential_key_id.as_deref()),
            workspace_id: id(fields.workspace_id.as_deref()),
            dataset_id: id(fields.dataset_id.as_deref()),
            refresh_id: id(refresh),
            correlation_id: private_id(fields.correlation_id.as_deref()),
            request_id: private_id(request),
            principal: options.pseudonyms.as_ref().and_then(|pseudonyms| pseudonyms.of(found)),
        }
    }
}

/// Power BI's and OAuth's errors are words of this form. Data Factory's numbers are no names, and a text in their place
/// may name a person.
fn is_name(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn cut(text: &str) -> String {
    let mut text = text.to_owned();
    shorten(&mut text, TEXT_BYTES);
    text
}

fn shorten(text: &mut String, limit: usize) {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// What events take from the configuration.
#[derive(Clone, Debug)]
pub struct EventOptions {
    /// `external_url` of the pages, without a slash at its end; Microsoft's page per code without it.
    pub external_url: Option<String>,
    pub forward_ids: bool,
    /// Makes `principal`; without it nobody is told from another.
    pub pseudonyms: Option<Pseudonyms>,
    /// Less severe ones are no events for whoever asks.
    pub min_severity: Severity,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self { external_url: None, forward_ids: true, pseudonyms: None, min_severity: Severity::Info }
    }
}

impl Event {
    /// The event that `found` raises; `None` if it raises none.
    pub fn new(
        found: &Found<'_>,
        mut source: Source,
        app: Option<&App>,
        catalogue: &Catalogue,
        options: &EventOptions,
    ) -> Option<Self> {
        let diagnosis =
            found.diagnosis.filter(|diagnosis| diagnosis.verdict.severity >= options.min_severity)?;
        let rule = catalogue.rule(diagnosis.code);
        let variant = rule.and_then(|rule| rule.variant(diagnosis.variant));
        let (time, time_source) = match (found.time, source.timestamp_ms) {
            (Some((millis, TimeSource::Record)), _) => (Some(millis), Some("record")),
            (Some((millis, TimeSource::Envelope)), _) => (Some(millis), Some("envelope")),
            (Some((millis, TimeSource::Kafka)), _) | (None, Some(millis)) => (Some(millis), Some("kafka")),
            (None, None) => (None, None),
        };
        source.index = found.index;
        let fix =
            variant.map(|variant| &variant.fix).filter(|fix| !fix.is_empty()).or(rule.map(|rule| &rule.fix));
        let summary = variant.and_then(|variant| variant.summary.as_ref()).or(rule.map(|rule| &rule.summary));
        let microsoft = microsoft_page(diagnosis.code);
        let mut facts = Facts::of(found, options);
        if let Some(alias) = app.and_then(|app| app.alias.as_ref()) {
            facts.app_name = Some(alias.clone());
        }
        Some(Self {
            schema: 1,
            id: format!("{}/{}/{}/{}", source.topic, source.partition, source.offset, source.index),
            time: time.map(time::format),
            time_source,
            kind: found.kind.as_str(),
            log_category: found
                .record
                .map(|(category, _)| category.as_str())
                .filter(|category| *category != LogCategory::None.as_str()),
            flow: found.flow.as_str(),
            outcome: diagnosis.verdict.outcome.as_str(),
            code: diagnosis.code.to_string(),
            variant: diagnosis.variant,
            mentions: found.mentions.iter().take(MENTIONS).map(ToString::to_string).collect(),
            known: diagnosis.known,
            degraded: found.degraded.is_some(),
            title: title(catalogue, diagnosis.code),
            severity: diagnosis.verdict.severity.as_str(),
            category: diagnosis.verdict.category.as_str(),
            audience: diagnosis.verdict.audience.as_str(),
            team: app.and_then(|app| app.team.clone()),
            transient: rule.is_some_and(|rule| rule.transient),
            summary: summary.cloned(),
            fix: fix.cloned().unwrap_or_default(),
            runbook_url: runbook_url(diagnosis.code, options.external_url.as_deref()),
            reference_url: rule.and_then(|rule| rule.references.first().cloned()).or(microsoft),
            facts,
            source,
            catalogue_version: catalogue.version().to_owned(),
        })
    }
}

impl Event {
    /// The event as JSON of at most [`BODY_BYTES`]. Texts are cut only if it would be longer: with control bytes in every
    /// name, each of which takes six, or with rules of the operator's that have much to say.
    pub fn body(&self) -> String {
        let json = |event: &Self| serde_json::to_string(event).expect("an event is plain data");
        let body = json(self);
        if body.len() <= BODY_BYTES {
            return body;
        }
        let mut short = self.clone();
        short.fix.truncate(SHORT_LIST);
        short.mentions.truncate(SHORT_LIST);
        let facts = &mut short.facts;
        let optional = [
            &mut short.team,
            &mut short.summary,
            &mut short.runbook_url,
            &mut short.reference_url,
            &mut facts.error_name,
            &mut facts.app_name,
            &mut facts.resource,
        ];
        let texts = optional.into_iter().flatten().chain(&mut short.fix).chain(&mut short.mentions);
        texts.chain([&mut short.title]).for_each(|text| shorten(text, SHORT_TEXT_BYTES));
        json(&short)
    }

    /// Events of one app, or of one dataset, stay in order by this key; others need none.
    pub fn key(&self) -> Option<String> {
        let pair = |of: &Option<String>, what: &Option<String>| {
            what.as_ref().map(|what| format!("{}/{what}", of.as_deref().unwrap_or_default()))
        };
        let Facts { tenant_id, app_id, workspace_id, dataset_id, .. } = &self.facts;
        pair(tenant_id, app_id).or_else(|| pair(workspace_id, dataset_id))
    }
}

/// What to call a code that may have no rule.
pub fn title(catalogue: &Catalogue, code: Code) -> String {
    match catalogue.rule(code) {
        Some(rule) => rule.title.clone(),
        None if code == Code::None => "Failure without a code".to_owned(),
        None => "Code without a rule in the catalogue".to_owned(),
    }
}

/// Our own page for a code where pages have an address, else Microsoft's.
pub fn runbook_url(code: Code, external_url: Option<&str>) -> Option<String> {
    match external_url {
        Some(base) if code != Code::None => Some(format!("{}/codes/{code}", base.trim_end_matches('/'))),
        _ => microsoft_page(code),
    }
}

fn microsoft_page(code: Code) -> Option<String> {
    match code {
        Code::Aadsts(number) => Some(format!("https://login.microsoftonline.com/error?code={number}")),
        Code::Aadb2c(_) => {
            Some("https://learn.microsoft.com/azure/active-directory-b2c/error-codes".to_owned())
        }
        _ => None,
    }
}
