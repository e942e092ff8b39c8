//! A sign-in of the story, before any shape is chosen, and what it must be counted as.

use super::json::{Case, Object};
use super::random::Random;
use super::scenario::App;
use super::writer::{Draft, Moment};
use crate::terms::{Flow, LogCategory, Outcome};

pub const TENANT: &str = "44444444-0000-4000-8000-000000000004";

const FIRST: [&str; 16] = [
    "adele",
    "alex",
    "amina",
    "bianca",
    "diego",
    "enrico",
    "grady",
    "henrietta",
    "isaiah",
    "joni",
    "lidia",
    "megan",
    "nestor",
    "pradeep",
    "sofia",
    "yuki",
];
const LAST: [&str; 16] = [
    "adeyemi", "archer", "bauer", "cattaneo", "fischer", "haddad", "ito", "keller", "larsson", "moreau",
    "novak", "okafor", "petrov", "sherman", "vance", "wilber",
];

/// Somebody in the tenant.
#[derive(Clone, Debug)]
pub struct Person {
    pub name: String,
    pub principal: String,
    pub id: String,
}

/// A sign-in before it is written.
#[derive(Clone, Debug)]
pub struct SignIn<'d> {
    pub log: LogCategory,
    pub flow: Flow,
    /// `0` is success.
    pub number: &'d str,
    pub outcome: Outcome,
    pub app: &'d App,
    /// Absent for a sign-in of a job.
    pub person: Option<Person>,
    pub created: Moment,
    pub request_id: String,
    pub correlation_id: String,
    pub address: String,
    /// Why it failed, as user sign-ins say; jobs say nothing.
    pub reason: Option<String>,
    pub details: Option<String>,
    /// The Conditional Access policy that refused it.
    pub policy: Option<&'d str>,
}

impl SignIn<'_> {
    pub fn failed(&self) -> bool {
        self.number != "0"
    }

    pub fn resource(&self) -> &'static str {
        if self.person.is_some() { "Microsoft Graph" } else { "Power BI Service" }
    }

    /// Of a job: its object in the tenant.
    pub fn service_principal_id(&self) -> String {
        self.app.id.replacen("66666666", "99999999", 1)
    }

    pub fn conditional_access(&self) -> &'static str {
        match (self.policy, self.failed()) {
            (Some(_), _) => "failure",
            (None, true) => "notApplied",
            (None, false) => "success",
        }
    }

    /// `status`, as logs and Graph have it.
    pub fn status(&self, case: Case) -> String {
        let mut status = Object::new(case);
        status.json("errorCode", self.number);
        if let Some(reason) = &self.reason {
            status.text("failureReason", reason);
        }
        if let Some(details) = &self.details {
            status.text("additionalDetails", details);
        }
        status.end()
    }
}

/// A sign-in of the story; some of those around its failures succeed.
pub fn sign_in<'d>(draft: &mut Draft<'d>, log: LogCategory, flow: Flow) -> SignIn<'d> {
    let fails = draft.code.is_some() && draft.random.percent(draft.scenario.failing);
    let outcome = if fails { draft.scenario.outcome(flow) } else { Outcome::Success };
    let is_job = matches!(flow, Flow::ServicePrincipal | Flow::ManagedIdentity);
    let reason = (fails && !is_job).then(|| reason(draft));
    let details = if is_job { None } else { details(draft, fails, log) };
    let app = draft.stories.app(draft.scenario, is_job, draft.random);
    let random = &mut *draft.random;
    SignIn {
        log,
        flow,
        number: if fails {
            draft.code.and_then(|code| code.strip_prefix("AADSTS")).unwrap_or("0")
        } else {
            "0"
        },
        outcome,
        app,
        person: (!is_job).then(|| person(random)),
        created: draft.moment.ago(random.below(240)),
        request_id: random.guid(),
        correlation_id: random.guid(),
        address: draft.scenario.address.clone().unwrap_or_else(|| address(random)),
        reason,
        details,
        policy: draft.scenario.policy.as_deref().filter(|_| fails),
    }
}

/// Notes what a sign-in must be counted as where its shape says `log`.
pub fn count(draft: &mut Draft<'_>, sign_in: &SignIn<'_>, log: LogCategory) {
    draft.truth.record(log, sign_in.outcome);
    let code = draft.code();
    if sign_in.failed() {
        draft.event(sign_in.flow);
    } else if !code.is_empty() && sign_in.details.as_deref().is_some_and(|details| details.contains(code)) {
        // A success that tells of a failure before it.
        draft.truth.mention(code);
    }
}

fn reason(draft: &mut Draft<'_>) -> String {
    if draft.scenario.reasons.is_empty() || draft.random.percent(10) {
        return "Other".to_owned();
    }
    draft.random.pick(&draft.scenario.reasons).clone()
}

/// Texts beside the reason; those of successes may name a code all the same.
fn details(draft: &mut Draft<'_>, fails: bool, log: LogCategory) -> Option<String> {
    let code = draft.code();
    match (fails, draft.random.below(100)) {
        (true, 0..20) if log == LogCategory::Adfs => {
            Some(format!("MSIS7068: Access denied. {code}: refused."))
        }
        (false, 0..5) if code.starts_with("AADSTS") => {
            Some(format!("The first attempt ended with {code}; the user has tried again."))
        }
        (false, 5..70) => Some("MFA requirement satisfied by claim in the token".to_owned()),
        _ => None,
    }
}

/// One of 100,000 people.
fn person(random: &mut Random) -> Person {
    let (first, last, number) = (random.below(FIRST.len()), random.below(LAST.len()), random.below(390));
    let capital = |name: &str| name[..1].to_ascii_uppercase() + &name[1..];
    Person {
        name: format!("{} {}", capital(FIRST[first]), capital(LAST[last])),
        principal: format!("{}.{}{number}@contoso.example", FIRST[first], LAST[last]),
        id: format!("55555555-{first:04}-4000-8000-{last:06}{number:06}"),
    }
}

fn address(random: &mut Random) -> String {
    let number = 1 + random.below(250);
    match random.below(10) {
        0 => format!("2001:db8::{number:x}"),
        1 => format!("203.0.113.{number}:50{number:03}"),
        2 => format!("[2001:db8::{number:x}]:443"),
        3..=6 => format!("198.51.100.{number}"),
        _ => format!("192.0.2.{number}"),
    }
}

/// A sign-in whose result nobody can read.
pub fn undetermined(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::SignIn, Outcome::Undetermined);
    let mut record = Object::camel();
    record.text("time", draft.moment.iso()).text("category", "SignInLogs").text("tenantId", TENANT);
    let result = draft.random.pick(&["true", "\"Pending\"", "-1"]);
    record.text("operationName", "Sign-in activity").json("resultType", result);
    let mut properties = Object::camel();
    properties.text("id", draft.random.guid()).text("createdDateTime", draft.moment.iso());
    record.json("properties", properties.end()).end().into_bytes()
}
