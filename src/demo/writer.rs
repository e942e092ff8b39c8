//! One message of a story: what its writer has at hand, and the list of all writers.

use jiff::Timestamp;

use super::random::Random;
use super::scenario::{Scenario, Stories};
use super::truth::Truth;
use super::{broken, framing, graph, log_analytics, other, pipeline, portal, refresh, sign_in, text};
use crate::digest::time::Millis;
use crate::terms::{Flow, LogCategory, Outcome};

/// The topics of the demo, as diagnostic settings and publishers name them.
pub const TOPICS: [&str; 7] = [PEOPLE, SILENT, JOBS, IDENTITIES, REFRESHES, RUNS, GATEWAY];
const PEOPLE: &str = "insights-logs-signinlogs";
const SILENT: &str = "insights-logs-noninteractiveusersigninlogs";
const JOBS: &str = "insights-logs-serviceprincipalsigninlogs";
const IDENTITIES: &str = "insights-logs-managedidentitysigninlogs";
const REFRESHES: &str = "powerbi-refreshes";
const RUNS: &str = "adf-activity-runs";
const GATEWAY: &str = "gateway-logs";

/// A message that is ready to be sent, and what it must be counted as.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: &'static str,
    pub key: Option<Vec<u8>>,
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

    /// As errors of the token service end.
    pub fn stamp(self) -> String {
        self.format("%Y-%m-%d %H:%M:%SZ")
    }
}

/// What a writer has at hand.
pub struct Draft<'d> {
    pub stories: &'d Stories,
    pub scenario: &'d Scenario,
    /// The one of the story's codes that this message is about.
    pub code: Option<&'d str>,
    pub random: &'d mut Random,
    pub memory: &'d mut refresh::Memory,
    pub moment: Moment,
    pub truth: Truth,
    pub headers: Vec<(&'static str, String)>,
    pub key: Option<Vec<u8>>,
}

impl<'d> Draft<'d> {
    pub fn code(&self) -> &'d str {
        self.code.unwrap_or_default()
    }

    /// The digits of the code, as sign-in records carry it; 0 is success.
    pub fn number(&self) -> &'d str {
        self.code.and_then(|code| code.strip_prefix("AADSTS")).unwrap_or("0")
    }

    /// Notes an event of the story's code, which is mentioned too.
    pub fn event(&mut self, flow: Flow) {
        if let Some(code) = self.code {
            self.truth.event(code, flow, self.scenario.outcome(flow));
            self.truth.mention(code);
        }
    }

    /// Notes an event of a failure that spells no code.
    pub fn event_without_code(&mut self, flow: Flow) {
        self.truth.event("none", flow, Outcome::Failure);
    }

    /// The trailer of the token service's errors.
    pub fn trailer(&mut self, separator: &str) -> String {
        let (trace, correlation) = (self.random.guid(), self.random.guid());
        format!(
            "{separator}Trace ID: {trace}{separator}Correlation ID: {correlation}{separator}Timestamp: {}",
            self.moment.stamp()
        )
    }
}

/// A way of writing a message.
pub struct Writer {
    /// As `deploy/demo.toml` names it.
    pub name: &'static str,
    pub topic: &'static str,
    /// `None` is a tombstone.
    write: fn(&mut Draft<'_>) -> Option<Vec<u8>>,
}

macro_rules! writers {
    ($($name:ident $topic:ident $write:expr;)+) => {
        /// Every shape there is.
        pub const WRITERS: &[Writer] =
            &[$(Writer { name: stringify!($name), topic: $topic, write: |draft| Some($write(draft)) }),+,
              Writer { name: "null", topic: PEOPLE, write: broken::tombstone }];
    };
}

writers! {
    interactive PEOPLE |draft: &mut _| framing::batch(draft, LogCategory::SignIn, Flow::Interactive);
    ropc PEOPLE |draft: &mut _| framing::batch(draft, LogCategory::SignIn, Flow::UnattendedUser);
    adfs PEOPLE |draft: &mut _| framing::batch(draft, LogCategory::Adfs, Flow::Interactive);
    non_interactive SILENT |draft: &mut _| framing::batch(draft, LogCategory::NonInteractive, Flow::NonInteractive);
    service_principal JOBS |draft: &mut _| framing::batch(draft, LogCategory::ServicePrincipal, Flow::ServicePrincipal);
    microsoft_service_principal JOBS |draft: &mut _| framing::batch(draft, LogCategory::MicrosoftServicePrincipal, Flow::ServicePrincipal);
    managed_identity IDENTITIES |draft: &mut _| framing::batch(draft, LogCategory::ManagedIdentity, Flow::ManagedIdentity);
    log_analytics PEOPLE log_analytics::interactive;
    log_analytics_people SILENT log_analytics::people;
    log_analytics_jobs JOBS log_analytics::jobs;
    log_analytics_csv PEOPLE log_analytics::csv;
    defender PEOPLE log_analytics::defender;
    graph_page PEOPLE graph::page;
    graph_beta PEOPLE graph::beta;
    portal_json PEOPLE graph::download;
    portal_csv PEOPLE portal::csv;
    undetermined PEOPLE sign_in::undetermined;

    audit PEOPLE other::audit;
    graph_activity PEOPLE other::graph_activity;
    provisioning PEOPLE other::provisioning;
    risk PEOPLE other::risk;
    empty_batch PEOPLE other::empty_batch;
    activity_event REFRESHES other::activity_event;
    dataset_log REFRESHES other::dataset_log;

    refresh_history REFRESHES refresh::history;
    refresh_envelope REFRESHES refresh::envelope;
    refresh_lines REFRESHES refresh::lines;
    refresh_details REFRESHES refresh::details;
    refresh_named REFRESHES refresh::named;
    refresh_retried REFRESHES refresh::retried;
    refresh_odd_states REFRESHES refresh::odd_states;
    refresh_last_month REFRESHES refresh::last_month;

    activity_run RUNS pipeline::activity_run;
    pipeline_run RUNS pipeline::pipeline_run;
    trigger_run RUNS pipeline::trigger_run;
    fabric_run RUNS pipeline::fabric_run;
    fabric_inner_error RUNS pipeline::inner_error;

    sts_json RUNS text::sts_json;
    sts_claims RUNS text::sts_claims;
    sts_pair RUNS text::sts_pair;
    sts_pair_joined RUNS text::sts_pair_joined;
    msal_net RUNS text::msal_net;
    msal_net_joined RUNS text::msal_net_joined;
    msal_js RUNS text::msal_js;
    adal RUNS text::adal;
    url RUNS text::url;
    url_b2c RUNS text::url_b2c;
    url_without_code RUNS text::url_without_code;
    html RUNS text::html;
    databricks RUNS text::databricks;
    go_sdk RUNS text::go_sdk;
    dbt RUNS text::dbt;
    gateway GATEWAY text::gateway;
    gateway_unreachable GATEWAY text::gateway_unreachable;
    claims_challenge RUNS text::claims_challenge;
    placeholder RUNS text::placeholder;

    truncated PEOPLE broken::truncated;
    cut_in_the_middle PEOPLE broken::cut_in_the_middle;
    single_quotes PEOPLE broken::single_quotes;
    raw_newline PEOPLE broken::raw_newline;
    bare_numbers PEOPLE broken::bare_numbers;
    invalid_utf8 PEOPLE broken::invalid_utf8;
    invalid_utf8_record PEOPLE broken::invalid_utf8_record;
    empty PEOPLE broken::empty;
    number PEOPLE broken::number;
    deep PEOPLE broken::deep;
    broken_gzip PEOPLE broken::broken_gzip;
    blob_note PEOPLE broken::blob_note;
}

/// Writes one message of `scenario`.
pub fn write(
    stories: &Stories,
    scenario: &Scenario,
    random: &mut Random,
    moment: Moment,
    memory: &mut refresh::Memory,
) -> Message {
    let name = random.pick(&scenario.writers);
    let writer = WRITERS
        .iter()
        .find(|writer| writer.name == name)
        .unwrap_or_else(|| panic!("deploy/demo.toml: `{}` names no writer `{name}`", scenario.name));
    let code = (!scenario.codes.is_empty()).then(|| random.pick(&scenario.codes).as_str());
    let (truth, headers) = (Truth::default(), Vec::new());
    let mut draft = Draft { stories, scenario, code, random, memory, moment, truth, headers, key: None };
    draft.truth.message();
    let payload = (writer.write)(&mut draft);
    Message { topic: writer.topic, key: draft.key, headers: draft.headers, payload, truth: draft.truth }
}
