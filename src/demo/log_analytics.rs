//! Sign-ins as Log Analytics exports them (`domain` §1.4): flat, keys in capitals, `TenantId` the workspace, no `time`; as
//! a query's CSV; and as Defender's tables have them.

use super::framing::{frame, some};
use super::json::{Case, Object};
use super::sign_in::{self, SignIn, TENANT};
use super::writer::Draft;
use crate::terms::{Flow, LogCategory};

const WORKSPACE: &str = "aaaaaaaa-0000-4000-8000-00000000000a";

/// Records a message at most.
const BATCH: usize = 20;

/// Interactive sign-ins: `Status` is an object.
pub fn interactive(draft: &mut Draft<'_>) -> Vec<u8> {
    table(draft, LogCategory::SignIn, Flow::Interactive)
}

/// Sign-ins of people that nobody sees: `Status` is a JSON string.
pub fn people(draft: &mut Draft<'_>) -> Vec<u8> {
    table(draft, LogCategory::NonInteractive, Flow::NonInteractive)
}

/// Sign-ins of jobs: no text, no status.
pub fn jobs(draft: &mut Draft<'_>) -> Vec<u8> {
    table(draft, LogCategory::ServicePrincipal, Flow::ServicePrincipal)
}

fn table(draft: &mut Draft<'_>, log: LogCategory, flow: Flow) -> Vec<u8> {
    let records = some(draft, BATCH, |draft| {
        let sign_in = sign_in::sign_in(draft, log, flow);
        sign_in::count(draft, &sign_in, log);
        row(&sign_in, draft)
    });
    frame(&records, draft.random)
}

fn table_name(log: LogCategory) -> String {
    if log == LogCategory::SignIn { "SigninLogs".to_owned() } else { format!("AAD{log}") }
}

fn row(sign_in: &SignIn<'_>, draft: &mut Draft<'_>) -> String {
    let mut row = Object::new(Case::Pascal);
    row.text("AADTenantId", TENANT).text("tenantId", WORKSPACE).text("sourceSystem", "Azure AD");
    row.text("timeGenerated", draft.moment.iso()).text("createdDateTime", sign_in.created.iso());
    row.text("operationName", "Sign-in activity").text("operationVersion", "1.0");
    if draft.random.percent(70) {
        row.text("category", sign_in.log.as_str());
    }
    row.text("resultType", sign_in.number).text("resultSignature", "None").json("durationMs", 0);
    row.text("resultDescription", sign_in.reason.as_deref().unwrap_or_default());
    row.text("id", &sign_in.request_id).text("correlationId", &sign_in.correlation_id);
    row.text("appId", &sign_in.app.id).text("appDisplayName", &sign_in.app.name);
    row.text("IPAddress", &sign_in.address).text("location", "DE");
    row.text("resourceDisplayName", sign_in.resource());
    match &sign_in.person {
        Some(person) => {
            row.text("userPrincipalName", &person.principal).text("userId", &person.id);
            row.text("userDisplayName", &person.name);
            row.text("conditionalAccessStatus", sign_in.conditional_access());
            nested(&mut row, sign_in);
        }
        None => {
            row.text("servicePrincipalName", &sign_in.app.name);
            row.text("servicePrincipalId", sign_in.service_principal_id());
            row.text("servicePrincipalCredentialKeyId", sign_in.app.key_id.as_deref().unwrap_or_default());
            row.text("clientCredentialType", "clientSecret");
        }
    }
    row.text("type", table_name(sign_in.log)).end()
}

/// Objects in one table, strings with JSON in the other.
fn nested(row: &mut Object, sign_in: &SignIn<'_>) {
    let device = r#"{"deviceId":"","operatingSystem":"Windows 11","browser":"Edge 142.0.0"}"#;
    let place = r#"{"city":"Utrecht","countryOrRegion":"NL"}"#;
    let status = sign_in.status(Case::Camel);
    for (key, value) in [("status", status.as_str()), ("deviceDetail", device), ("locationDetails", place)] {
        if sign_in.log == LogCategory::SignIn {
            row.json(key, value)
        } else {
            row.text(key, value)
        };
    }
    row.text("agent", r#"{"agentType":"notAgentic"}"#);
}

/// The export of a query's result.
pub fn csv(draft: &mut Draft<'_>) -> Vec<u8> {
    let log = *draft.random.pick(&[LogCategory::SignIn, LogCategory::NonInteractive]);
    let flow = if log == LogCategory::SignIn { Flow::Interactive } else { Flow::NonInteractive };
    let mut csv = csv::Writer::from_writer(Vec::new());
    let mut write = |row: [&str; 12]| csv.write_record(row).expect("memory does not fail");
    write([
        "TimeGenerated [UTC]",
        "Category",
        "AADTenantId",
        "TenantId",
        "ResultType",
        "ResultDescription",
        "AppId",
        "AppDisplayName",
        "UserPrincipalName",
        "AuthenticationProtocol",
        "CorrelationId",
        "Status",
    ]);
    for _ in 0..=draft.random.below(BATCH) {
        let sign_in = sign_in::sign_in(draft, log, flow);
        sign_in::count(draft, &sign_in, log);
        let user = sign_in.person.as_ref().map_or("", |person| &person.principal);
        let time = sign_in.created.format("%-m/%-d/%Y, %-I:%M:%S.123 %p");
        let (reason, status) = (sign_in.reason.as_deref().unwrap_or_default(), sign_in.status(Case::Camel));
        write([
            &time,
            log.as_str(),
            TENANT,
            WORKSPACE,
            sign_in.number,
            reason,
            &sign_in.app.id,
            &sign_in.app.name,
            user,
            "none",
            &sign_in.correlation_id,
            &status,
        ]);
    }
    csv.into_inner().expect("memory does not fail")
}

/// A table of Defender's: the code is called `ErrorCode`.
pub fn defender(draft: &mut Draft<'_>) -> Vec<u8> {
    let records = some(draft, BATCH, |draft| {
        let sign_in = sign_in::sign_in(draft, LogCategory::SignIn, Flow::Interactive);
        let sign_in = SignIn { details: None, ..sign_in };
        sign_in::count(draft, &sign_in, LogCategory::None);
        let mut row = Object::camel();
        row.text("Timestamp", sign_in.created.iso()).text("Application", &sign_in.app.name);
        row.text("ApplicationId", &sign_in.app.id).text("LogonType", "[\"interactiveUser\"]");
        row.json("ErrorCode", sign_in.number).text("CorrelationId", &sign_in.correlation_id);
        row.text("IPAddress", &sign_in.address).text("AccountObjectId", "");
        row.text("Type", "AADSignInEventsBeta").end()
    });
    frame(&records, draft.random)
}
