//! What one record, text entry or rejected piece says: its kind, flow, outcome, codes and time.
//!
//! The tables of flow and outcome are those of README ("How a record is read"); the numbers of codes are the
//! catalogue's business.

use crate::catalogue::{Catalogue, Verdict};
use crate::code::Code;
use crate::terms::{Audience, Category, Flow, Kind, LogCategory, Outcome, Reason, Severity};

use super::fields::{Fields, Scalar};
use super::frame::{EnvelopeIds, Sketch};
use super::scan::{Mentions, Scanner, triples};
use super::time::{self, Millis};

/// Where an event's time was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeSource {
    /// The record says when it happened.
    Record,
    /// Only when the log wrote it.
    Envelope,
    /// Only when Kafka got it.
    Kafka,
}

/// The diagnosis of something that did not succeed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Diagnosis {
    pub code: Code,
    /// The catalogue has a rule for it.
    pub known: bool,
    pub variant: Option<&'static str>,
    pub verdict: Verdict,
}

/// One piece of a message, understood.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    pub kind: Kind,
    pub flow: Flow,
    /// Outcome and log of a record; absent for text and rejected pieces.
    pub record: Option<(LogCategory, Outcome)>,
    /// Present if this raises an event.
    pub diagnosis: Option<Diagnosis>,
    pub mentions: Vec<Code>,
    pub malformed: u64,
    /// The bytes were rejected and scanned raw.
    pub degraded: Option<Reason>,
    pub time: Option<(Millis, TimeSource)>,
    /// Position in its message, from 0.
    pub index: u32,
    pub fields: Fields<'a>,
}

impl Found<'_> {
    pub fn into_owned(self) -> Found<'static> {
        Found {
            kind: self.kind,
            flow: self.flow,
            record: self.record,
            diagnosis: self.diagnosis,
            mentions: self.mentions,
            malformed: self.malformed,
            degraded: self.degraded,
            time: self.time,
            index: self.index,
            fields: self.fields.into_owned(),
        }
    }

    /// The Entra tenant; in a Log Analytics record `TenantId` is the workspace and does not count.
    pub fn tenant_id(&self) -> Option<&str> {
        let fields = &self.fields;
        let from_path = || {
            let path = fields.resource_path.as_deref()?;
            let (start, rest) = path.split_at_checked("/tenants/".len())?;
            start.eq_ignore_ascii_case("/tenants/").then(|| rest.split('/').next()).flatten()
        };
        let is_log_analytics =
            fields.table.is_some() && fields.category.is_none() || fields.entra_tenant_id.is_some();
        let plain = || if is_log_analytics { None } else { fields.tenant_id.as_deref() };
        fields.entra_tenant_id.as_deref().or_else(plain).or_else(from_path).filter(|id| !id.is_empty())
    }

    /// Identifies the record among copies of it (law 3); `None` if nothing in it does.
    pub fn dedupe_key(&self) -> Option<String> {
        let fields = &self.fields;
        match self.kind {
            Kind::Refresh => {
                let ended = fields.end_time.as_deref().unwrap_or_default();
                let id = match (&fields.request_id, &fields.id) {
                    (Some(request), _) => format!("r {request}"),
                    (None, Some(id)) => {
                        let of = |id: &Option<std::borrow::Cow<'_, str>>| {
                            id.as_deref().unwrap_or_default().to_owned()
                        };
                        format!("w {} {} {id}", of(&fields.workspace_id), of(&fields.dataset_id))
                    }
                    (None, None) => return None,
                };
                Some(format!("{id} {ended}"))
            }
            Kind::SignIn => {
                let id = fields.id.as_deref().or(fields.request_id.as_deref())?;
                Some(format!("s {} {id}", self.tenant_id().unwrap_or_default()))
            }
            _ => None,
        }
    }
}

/// Longer words are no ids; Entra's and Power BI's have 36 letters at most.
const ID_BYTES: usize = 64;

/// Whether this can be an id: one word of letters, digits, `-` and `_`. What stands in the place of one may name a person.
pub fn is_id(text: &str) -> bool {
    (1..=ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Reads pieces with a catalogue at hand.
#[derive(Clone, Copy)]
pub struct Reader<'c> {
    pub catalogue: &'c Catalogue,
    pub scanner: &'c Scanner,
}

impl Reader<'_> {
    /// A record: `cells` are the bytes it was read from; of one that was framed `sketch` knows where it may spell codes.
    pub fn record<'a>(
        &self,
        mut fields: Fields<'a>,
        cells: &[&[u8]],
        sketch: Option<&Sketch<'_>>,
        ids: &EnvelopeIds<'a>,
    ) -> Found<'a> {
        let mut mentions = Mentions::default();
        let kind = kind(&fields);
        match kind {
            Kind::SignIn => cells.iter().for_each(|cell| match sketch {
                Some(sketch) => Scanner::scan_sign_in(cell, sketch.hints(cell), &mut mentions),
                None => Scanner::scan_sign_in(cell, triples(cell), &mut mentions),
            }),
            _ => cells.iter().for_each(|cell| self.scanner.scan(cell, &mut mentions)),
        }
        if kind == Kind::Refresh {
            fields.workspace_id = fields.workspace_id.or(ids.workspace_id.map(Into::into));
            fields.dataset_id = fields.dataset_id.or(ids.dataset_id.map(Into::into));
        }
        let read = match kind {
            Kind::SignIn => self.sign_in(&fields, &mut mentions),
            Kind::Refresh => self.refresh(&fields, &mentions),
            Kind::Pipeline => self.pipeline(&fields, &mentions),
            Kind::Other | Kind::Text => {
                Read { flow: Flow::Text, outcome: Outcome::Other, code: self.primary(&mentions) }
            }
        };
        let diagnosis = match read.outcome {
            Outcome::Failure | Outcome::Interrupt => {
                Some(self.diagnose(read.code.unwrap_or(Code::None), read.flow, read.outcome, || {
                    text_of(&fields, cells)
                }))
            }
            Outcome::Other => read.code.map(|code| self.diagnose_text(code, &joined(cells))),
            Outcome::Success | Outcome::Undetermined => None,
        };
        Found {
            kind,
            flow: read.flow,
            record: Some((log_category(kind, &fields), read.outcome)),
            diagnosis,
            malformed: mentions.malformed,
            mentions: mentions.codes,
            degraded: None,
            time: time_of(kind, &fields),
            index: 0,
            fields,
        }
    }

    /// Text of unknown origin, or rejected bytes scanned raw.
    pub fn text(&self, bytes: &[u8], degraded: Option<Reason>) -> Found<'static> {
        let mut mentions = Mentions::default();
        self.scanner.scan(bytes, &mut mentions);
        self.mentioned(mentions, bytes, degraded)
    }

    /// Rejected bytes that were scanned chunk by chunk.
    pub fn mentioned(&self, mentions: Mentions, bytes: &[u8], degraded: Option<Reason>) -> Found<'static> {
        Found {
            kind: Kind::Text,
            flow: Flow::Text,
            record: None,
            diagnosis: self.primary(&mentions).map(|code| self.diagnose_text(code, bytes)),
            malformed: mentions.malformed,
            mentions: mentions.codes,
            degraded,
            time: None,
            index: 0,
            fields: Fields::default(),
        }
    }

    fn primary(&self, mentions: &Mentions) -> Option<Code> {
        mentions.primary(|code| self.catalogue.umbrella(code))
    }

    /// The code of a record with an error text of its own: what that spells, else what the record spells anywhere.
    fn primary_of(&self, own_error: &[Option<&str>], mentions: &Mentions) -> Option<Code> {
        let mut own = Mentions::default();
        own_error.iter().flatten().for_each(|text| self.scanner.scan(text.as_bytes(), &mut own));
        let primary = self.primary(&own);
        match primary {
            Some(Code::Aadsts(_)) => primary,
            _ => self.primary(mentions).or(primary),
        }
    }

    /// A diagnosis whose outcome the source has decided.
    fn diagnose(&self, code: Code, flow: Flow, outcome: Outcome, text: impl FnOnce() -> String) -> Diagnosis {
        let variant = self.catalogue.variant(code, text);
        let verdict = self.catalogue.verdict(code, flow, variant);
        let known = verdict.is_some();
        let verdict =
            verdict.unwrap_or(if code == Code::None { without_code(flow) } else { Verdict::UNKNOWN });
        Diagnosis { code, known, variant, verdict: Verdict { outcome, ..verdict } }
    }

    /// A diagnosis of text: the rule decides, by its values for flow `text`.
    fn diagnose_text(&self, code: Code, text: &[u8]) -> Diagnosis {
        let variant = self.catalogue.variant(code, || String::from_utf8_lossy(text).into_owned());
        let verdict = self.catalogue.verdict(code, Flow::Text, variant);
        Diagnosis { code, known: verdict.is_some(), variant, verdict: verdict.unwrap_or(Verdict::UNKNOWN) }
    }

    fn sign_in(&self, fields: &Fields<'_>, mentions: &mut Mentions) -> Read {
        let flow = sign_in_flow(fields);
        let said = Said::of(fields.result_type.as_ref());
        let status = Said::of(fields.error_code.as_ref());
        let word = fields.status_word.as_deref().map_or(Said::Missing, Said::of_text);
        let mut structured = [said, status].into_iter().filter_map(Said::code);
        let code = structured.next();
        // The structured codes stand first in a record; what its texts spell follows.
        let spelled = std::mem::take(&mut mentions.codes);
        code.into_iter().chain(structured).for_each(|code| mentions.add(code));
        spelled.into_iter().for_each(|code| mentions.add(code));
        let outcome = match code {
            Some(code) => {
                let variant = self.catalogue.variant(code, || sign_in_text(fields));
                let verdict = self.catalogue.verdict(code, flow, variant);
                let source = if word == Said::Interrupted { Outcome::Interrupt } else { Outcome::Failure };
                verdict.map_or(source, |verdict| verdict.outcome)
            }
            None => match (said, status, word) {
                (Said::Failed, _, _) | (Said::Missing, Said::Missing, Said::Failed) => Outcome::Failure,
                (Said::Interrupted, _, _) | (Said::Missing, Said::Missing, Said::Interrupted) => {
                    Outcome::Interrupt
                }
                (Said::Success, _, _)
                | (_, Said::Success, _)
                | (Said::Missing, Said::Missing, Said::Success) => Outcome::Success,
                _ => Outcome::Undetermined,
            },
        };
        Read { flow, outcome, code: code.or_else(|| self.primary(mentions)) }
    }

    fn refresh(&self, fields: &Fields<'_>, mentions: &Mentions) -> Read {
        let own = [
            fields.service_exception.as_deref(),
            fields.error_messages.as_deref(),
            fields.activity_error.as_deref(),
        ];
        let status = fields.status_word.as_deref();
        let outcome =
            run_outcome(&[fields.extended_status.as_deref(), status], own.iter().any(Option::is_some));
        Read { flow: Flow::Refresh, outcome, code: self.primary_of(&own, mentions) }
    }

    fn pipeline(&self, fields: &Fields<'_>, mentions: &Mentions) -> Read {
        let own = [fields.activity_error.as_deref()];
        // Diagnostic logs say it only in the name: `CopySales - Failed`.
        let suffix =
            fields.operation_name.as_deref().and_then(|name| name.rsplit_once(" - ")).map(|(_, word)| word);
        let outcome = run_outcome(&[fields.status_word.as_deref(), suffix], own[0].is_some());
        Read { flow: Flow::Pipeline, outcome, code: self.primary_of(&own, mentions) }
    }
}

struct Read {
    flow: Flow,
    outcome: Outcome,
    code: Option<Code>,
}

/// What a result field says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    Missing,
    Success,
    Code(Code),
    Failed,
    Interrupted,
    Unreadable,
}

impl Said {
    fn of(scalar: Option<&Scalar<'_>>) -> Self {
        match scalar {
            None => Self::Missing,
            Some(Scalar::Text(text)) => Self::of_text(text),
            Some(Scalar::Number(number)) => Self::of_number(*number),
            Some(Scalar::Unreadable) => Self::Unreadable,
        }
    }

    fn of_number(number: u64) -> Self {
        match u32::try_from(number) {
            Ok(0) => Self::Success,
            Ok(number) if number <= 99_999_999 => Self::Code(Code::Aadsts(number)),
            _ => Self::Unreadable,
        }
    }

    fn of_text(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_suffix(".0").unwrap_or(text);
        match text.to_ascii_lowercase().as_str() {
            "" => Self::Missing,
            "success" | "succeeded" => Self::Success,
            "failure" | "failed" | "error" => Self::Failed,
            "interrupted" | "interrupt" => Self::Interrupted,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_or(Self::Unreadable, Self::of_number)
            }
            lower => match lower.strip_prefix("aadsts").and_then(|digits| digits.parse().ok()) {
                Some(number) => Self::of_number(number),
                None => Self::Unreadable,
            },
        }
    }

    fn code(self) -> Option<Code> {
        match self {
            Self::Code(code) => Some(code),
            _ => None,
        }
    }
}

/// The outcome of a refresh or an activity run from its status words, the most telling first.
fn run_outcome(words: &[Option<&str>], has_own_error: bool) -> Outcome {
    for word in words.iter().flatten() {
        match word.trim().to_ascii_lowercase().as_str() {
            "failed" | "timedout" | "failure" | "error" => return Outcome::Failure,
            "completed" | "succeeded" | "success" if has_own_error => return Outcome::Failure,
            "completed" | "succeeded" | "success" => return Outcome::Success,
            "cancelled" | "canceled" | "disabled" | "unknown" | "inprogress" | "notstarted" | "queued" => {
                return Outcome::Undetermined;
            }
            _ => {}
        }
    }
    if has_own_error { Outcome::Failure } else { Outcome::Undetermined }
}

fn kind(fields: &Fields<'_>) -> Kind {
    let is_sign_in = |log: &str| {
        ends_with(log, "SignInLogs") || ends_with(log, "SignInEvents") || ends_with(log, "SignInEventsBeta")
    };
    let is_run = |log: &str| {
        ["ActivityRuns", "PipelineRuns", "TriggerRuns", "ActivityRun", "PipelineRun", "TriggerRun"]
            .iter()
            .any(|run| ends_with(log, run))
    };
    let table =
        fields.table.as_deref().filter(|table| is_sign_in(table) || is_run(table) || is_other_table(table));
    match fields.category.as_deref().or(table) {
        Some(log) if is_sign_in(log) => return Kind::SignIn,
        Some(log) if is_run(log) => return Kind::Pipeline,
        Some(_) => return Kind::Other,
        None => {}
    }
    let names_somebody = fields.user_principal_name.is_some()
        || fields.user_id.is_some()
        || fields.app_id.is_some()
        || fields.app_name.is_some()
        || fields.service_principal_id.is_some();
    if fields.has.refresh_keys {
        Kind::Refresh
    } else if fields.has.pipeline_keys {
        Kind::Pipeline
    } else if fields.has.status_object && (names_somebody || fields.created.is_some())
        || fields.has.sign_in_columns
        || fields.operation_name.as_deref() == Some("Sign-in activity")
        || names_somebody
            && (fields.result_type.is_some() || fields.error_code.is_some() || is_portal_row(fields))
    {
        Kind::SignIn
    } else {
        Kind::Other
    }
}

/// A row of the portal's export whose code is empty: its status is a word of sign-ins.
fn is_portal_row(fields: &Fields<'_>) -> bool {
    let is_word = |word: &str| matches!(word, "Success" | "Failure" | "Interrupted");
    fields.request_id.is_some() && fields.status_word.as_deref().is_some_and(is_word)
}

/// Log Analytics tables that look like sign-ins in some members and are none.
fn is_other_table(table: &str) -> bool {
    [
        "AuditLogs",
        "AADProvisioningLogs",
        "MicrosoftGraphActivityLogs",
        "PowerBIDatasetsWorkspace",
        "PowerBIDatasetsTenant",
    ]
    .iter()
    .any(|other| table.eq_ignore_ascii_case(other))
}

fn ends_with(text: &str, suffix: &str) -> bool {
    text.len() >= suffix.len()
        && text.as_bytes()[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

/// The label of a log, for any spelling of its category or table.
pub fn log_category_of(log: &str) -> LogCategory {
    let bare =
        if log.len() > 3 && log.as_bytes()[..3].eq_ignore_ascii_case(b"AAD") { &log[3..] } else { log };
    let is = |category: &LogCategory| bare.eq_ignore_ascii_case(category.as_str());
    LogCategory::ALL
        .iter()
        .copied()
        .filter(|category| !matches!(category, LogCategory::Refresh | LogCategory::None | LogCategory::Other))
        .find(is)
        .unwrap_or(LogCategory::Other)
}

fn log_category(kind: Kind, fields: &Fields<'_>) -> LogCategory {
    let log = fields
        .category
        .as_deref()
        .or_else(|| fields.table.as_deref().filter(|table| ends_with(table, "Logs")));
    match (log, kind) {
        (Some(log), _) => log_category_of(log),
        (None, Kind::Refresh) => LogCategory::Refresh,
        (None, Kind::Pipeline) if fields.table.is_some() => LogCategory::Other,
        (None, _) => LogCategory::None,
    }
}

fn sign_in_flow(fields: &Fields<'_>) -> Flow {
    let has_user = fields.user_id.is_some() || fields.user_principal_name.is_some();
    let from_type =
        fields.event_type.as_deref().and_then(|event_type| match event_type.to_ascii_lowercase().as_str() {
            "interactiveuser" => Some(Flow::Interactive),
            "noninteractiveuser" => Some(Flow::NonInteractive),
            "serviceprincipal" => Some(Flow::ServicePrincipal),
            "managedidentity" => Some(Flow::ManagedIdentity),
            _ => None,
        });
    let log = fields
        .category
        .as_deref()
        .or_else(|| fields.table.as_deref().filter(|table| ends_with(table, "Logs")));
    let from_log = log.map(|log| match log_category_of(log) {
        LogCategory::NonInteractive => Flow::NonInteractive,
        LogCategory::ServicePrincipal | LogCategory::MicrosoftServicePrincipal => Flow::ServicePrincipal,
        LogCategory::ManagedIdentity => Flow::ManagedIdentity,
        _ => Flow::Interactive,
    });
    let flow = from_type.or(from_log).unwrap_or_else(|| {
        let names_a_principal =
            fields.service_principal_id.is_some() || fields.service_principal_name.is_some();
        let is_managed =
            fields.managed_identity_type.as_deref().is_some_and(|word| !word.eq_ignore_ascii_case("none"));
        match fields.is_interactive {
            _ if is_managed => Flow::ManagedIdentity,
            _ if names_a_principal && !has_user => Flow::ServicePrincipal,
            Some(false) => Flow::NonInteractive,
            _ => Flow::Interactive,
        }
    });
    let is_ropc =
        fields.authentication_protocol.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("ropc"));
    if is_ropc && flow.has_person() { Flow::UnattendedUser } else { flow }
}

/// The texts of a sign-in that may tell a variant.
fn sign_in_text(fields: &Fields<'_>) -> String {
    let texts = [&fields.result_description, &fields.failure_reason, &fields.additional_details];
    texts.into_iter().flatten().map(AsRef::as_ref).collect::<Vec<&str>>().join("\n")
}

fn text_of(fields: &Fields<'_>, cells: &[&[u8]]) -> String {
    let text = sign_in_text(fields);
    if text.is_empty() { joined(cells).iter().map(|byte| char::from(*byte)).collect() } else { text }
}

fn joined(cells: &[&[u8]]) -> Vec<u8> {
    cells.join(&b'\n')
}

fn time_of(kind: Kind, fields: &Fields<'_>) -> Option<(Millis, TimeSource)> {
    let ended = [&fields.end_time, &fields.start_time];
    let happened = if matches!(kind, Kind::Refresh | Kind::Pipeline) { &ended[..] } else { &[] };
    let parse = |text: &&Option<std::borrow::Cow<'_, str>>| text.as_deref().and_then(time::parse);
    happened
        .iter()
        .chain([&&fields.created])
        .find_map(&parse)
        .map(|millis| (millis, TimeSource::Record))
        .or_else(|| parse(&&fields.written).map(|millis| (millis, TimeSource::Envelope)))
}

/// What holds for a failure that spells no code: somebody must look, nobody is paged (`domain` §9).
pub const fn without_code(flow: Flow) -> Verdict {
    let (category, audience) = match flow {
        Flow::Refresh => (Category::Refresh, Audience::DatasetOwner),
        Flow::Pipeline => (Category::Other, Audience::DatasetOwner),
        _ => (Category::Other, Audience::IdentityAdmin),
    };
    Verdict { outcome: Outcome::Failure, severity: Severity::Medium, audience, category }
}
