//! One message of a story: picks the writer's shape, its topic and headers, and keeps the truth about it.

use jiff::Timestamp;

use super::random::Random;
use super::scenario::Scenario;
use super::sign_in::{self, Who};
use super::truth::Truth;
use super::{refresh, text};
use crate::digest::time::Millis;
use crate::terms::{Flow, LogCategory, Outcome, Reason};

/// The topics of the demo, as a diagnostic setting and a publisher of refreshes would name them.
pub const TOPICS: [&str; 5] = [
    "insights-logs-signinlogs",
    "insights-logs-noninteractiveusersigninlogs",
    "insights-logs-serviceprincipalsigninlogs",
    "powerbi-refreshes",
    "pipeline-logs",
];

/// A message that is ready to be sent, and what it must be counted as.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Option<Vec<u8>>,
    pub truth: Truth,
}

/// A point in time, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub Millis);

impl Moment {
    #[must_use]
    pub fn ago(self, seconds: usize) -> Self {
        Self(self.0 - i64::try_from(seconds).unwrap_or(0) * 1000)
    }

    pub fn format(self, format: &str) -> String {
        let time = Timestamp::from_millisecond(self.0).unwrap_or_default();
        jiff::tz::TimeZone::UTC.to_datetime(time).strftime(format).to_string()
    }

    pub fn iso(self) -> String {
        self.format("%Y-%m-%dT%H:%M:%S.1234567Z")
    }

    pub fn us_comma(self) -> String {
        self.format("%-m/%-d/%Y, %-I:%M:%S.123 %p")
    }
}

/// What a writer has at hand.
pub struct Draft<'d> {
    pub scenario: &'d Scenario,
    pub random: &'d mut Random,
    pub moment: Moment,
    pub truth: &'d mut Truth,
    pub headers: &'d mut Vec<(&'static str, String)>,
}

impl Draft<'_> {
    pub fn reborrow(&mut self) -> Draft<'_> {
        Draft {
            scenario: self.scenario,
            random: self.random,
            moment: self.moment,
            truth: self.truth,
            headers: self.headers,
        }
    }

    pub fn code(&self) -> &str {
        self.scenario.code.as_deref().unwrap_or("none")
    }

    /// Notes an event of the scenario's code.
    pub fn event(&mut self, flow: Flow, outcome: Outcome) {
        let code = self.code().to_owned();
        self.truth.event(&code, flow, outcome);
    }
}

/// Writes one message of `scenario`.
pub fn write(
    scenario: &Scenario,
    random: &mut Random,
    moment: Moment,
    memory: &mut refresh::Memory,
) -> Message {
    let writer = random.pick(&scenario.writers).clone();
    let (mut truth, mut headers) = (Truth::default(), Vec::new());
    truth.message();
    let mut draft = Draft { scenario, random, moment, truth: &mut truth, headers: &mut headers };
    let (topic, payload) = payload(&writer, &mut draft, memory);
    Message { topic, headers, payload, truth }
}

fn payload(
    writer: &str,
    draft: &mut Draft<'_>,
    memory: &mut refresh::Memory,
) -> (&'static str, Option<Vec<u8>>) {
    let [people, silent, jobs, refreshes, pipelines] = TOPICS;
    let sign_in = |log, flow| Who { log, flow };
    let who = match writer {
        "interactive" => Some((people, sign_in(LogCategory::SignIn, Flow::Interactive))),
        "adfs" => Some((people, sign_in(LogCategory::Adfs, Flow::Interactive))),
        "ropc" => Some((people, sign_in(LogCategory::SignIn, Flow::UnattendedUser))),
        "non_interactive" => Some((silent, sign_in(LogCategory::NonInteractive, Flow::NonInteractive))),
        "service_principal" => Some((jobs, sign_in(LogCategory::ServicePrincipal, Flow::ServicePrincipal))),
        "microsoft_service_principal" => {
            Some((jobs, sign_in(LogCategory::MicrosoftServicePrincipal, Flow::ServicePrincipal)))
        }
        "managed_identity" => Some((jobs, sign_in(LogCategory::ManagedIdentity, Flow::ManagedIdentity))),
        _ => None,
    };
    if let Some((topic, who)) = who {
        return (topic, Some(sign_in::write(who, draft)));
    }
    match writer {
        "audit" => (people, Some(sign_in::other_log(LogCategory::Audit, draft))),
        "graph_activity" => (people, Some(sign_in::other_log(LogCategory::Other, draft))),
        "refresh_history" => (refreshes, Some(refresh::history(draft, memory))),
        "refresh_envelope" => (refreshes, Some(refresh::envelope(draft))),
        "refresh_details" => (refreshes, Some(refresh::details(draft))),
        "refresh_named" => (refreshes, Some(refresh::named(draft))),
        "activity_run" => (pipelines, Some(refresh::activity_run(draft))),
        "fabric_run" => (pipelines, Some(refresh::fabric_run(draft))),
        _ => broken(writer, draft).unwrap_or_else(|| (pipelines, Some(text::write(writer, draft)))),
    }
}

/// Input that cannot be used.
fn broken(writer: &str, draft: &mut Draft<'_>) -> Option<(&'static str, Option<Vec<u8>>)> {
    let (reason, payload) = match writer {
        "truncated" => {
            draft.truth.record(LogCategory::SignIn, Outcome::Success);
            draft.truth.rejected_record(Reason::InvalidJson);
            return Some((TOPICS[0], Some(sign_in::truncated(draft))));
        }
        "invalid_utf8" => {
            (Reason::InvalidUtf8, Some(b"{\"category\":\"SignInLogs\",\"identity\":\"\xc3\x28\"}".to_vec()))
        }
        "empty" => (Reason::Empty, Some(Vec::new())),
        "null" => (Reason::NullPayload, None),
        "number" => (Reason::UnknownShape, Some(b"50126".to_vec())),
        "deep" => {
            let (open, close) = ("{\"a\":".repeat(10_000), "}".repeat(10_000));
            (Reason::TooDeep, Some(format!("{open}1{close}").into_bytes()))
        }
        _ => return None,
    };
    draft.truth.rejected_message(reason);
    Some((TOPICS[0], payload))
}
