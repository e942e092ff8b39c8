//! Sign-ins as Graph lists them and as the portal downloads them (`domain` §1.5): no category, no tenant.

use super::framing::some;
use super::json::{Case, Object, list, pretty};
use super::sign_in::{self, SignIn};
use super::writer::Draft;
use crate::terms::{Flow, LogCategory};

/// Sign-ins a page; Graph allows a thousand.
const PAGE: usize = 20;

/// How a page of Graph tells the flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tells {
    /// `isInteractive`, absent as often as not where it is true.
    Flag,
    /// `signInEventTypes` of the beta.
    EventTypes,
}

/// A page of `GET /auditLogs/signIns`.
pub fn page(draft: &mut Draft<'_>) -> Vec<u8> {
    let silent = draft.code.is_none() || draft.scenario.has(Flow::NonInteractive);
    let flow = if silent && draft.random.percent(50) { Flow::NonInteractive } else { Flow::Interactive };
    envelope(&entries(draft, flow, Tells::Flag))
}

/// The same of the beta, which lists jobs too.
pub fn beta(draft: &mut Draft<'_>) -> Vec<u8> {
    let flows = [Flow::Interactive, Flow::NonInteractive, Flow::ServicePrincipal, Flow::ManagedIdentity];
    let scenario = draft.scenario;
    let told: Vec<Flow> =
        flows.into_iter().filter(|flow| draft.code.is_none() || scenario.has(*flow)).collect();
    let flow = *draft.random.pick(&told);
    envelope(&entries(draft, flow, Tells::EventTypes))
}

/// The portal's download: an array.
pub fn download(draft: &mut Draft<'_>) -> Vec<u8> {
    let entries = entries(draft, Flow::Interactive, Tells::Flag);
    pretty(&list(&entries)).into_bytes()
}

fn envelope(entries: &[String]) -> Vec<u8> {
    let mut page = Object::camel();
    page.text("@odata.context", "https://graph.microsoft.com/v1.0/$metadata#auditLogs/signIns");
    page.text("@odata.nextLink", "https://graph.microsoft.com/v1.0/auditLogs/signIns?$skiptoken=9177f2e3");
    page.json("value", list(entries)).end().into_bytes()
}

fn entries(draft: &mut Draft<'_>, flow: Flow, tells: Tells) -> Vec<String> {
    some(draft, PAGE, |draft| {
        let sign_in = sign_in::sign_in(draft, LogCategory::None, flow);
        sign_in::count(draft, &sign_in, LogCategory::None);
        entry(&sign_in, tells, draft)
    })
}

fn entry(sign_in: &SignIn<'_>, tells: Tells, draft: &mut Draft<'_>) -> String {
    let mut entry = Object::camel();
    entry.text("id", &sign_in.request_id);
    entry.text("createdDateTime", sign_in.created.format("%Y-%m-%dT%H:%M:%SZ"));
    match &sign_in.person {
        Some(person) => {
            entry.text("userDisplayName", &person.name).text("userPrincipalName", &person.principal);
            entry.text("userId", &person.id);
        }
        None => {
            entry.text("userId", "").json("userPrincipalName", "null");
            entry.text("servicePrincipalId", sign_in.service_principal_id());
            entry.text("servicePrincipalName", &sign_in.app.name);
            entry.text_or_null("servicePrincipalCredentialKeyId", sign_in.app.key_id.as_deref());
        }
    }
    entry.text("appId", &sign_in.app.id).text("appDisplayName", &sign_in.app.name);
    entry.text("ipAddress", &sign_in.address).text("clientAppUsed", "Browser");
    entry.text("correlationId", &sign_in.correlation_id);
    entry.text("conditionalAccessStatus", sign_in.conditional_access());
    let is_interactive = sign_in.flow == Flow::Interactive;
    match tells {
        Tells::Flag if is_interactive && draft.random.percent(40) => {}
        Tells::Flag => {
            entry.json("isInteractive", is_interactive);
        }
        Tells::EventTypes => {
            entry.json("isInteractive", is_interactive);
            entry.json("signInEventTypes", format!("[\"{}\"]", event_type(sign_in.flow)));
        }
    }
    entry.text("riskState", "none").json("riskEventTypes_v2", "[]");
    entry.text("resourceDisplayName", sign_in.resource());
    let mut status = Object::new(Case::Camel);
    status.json("errorCode", sign_in.number).text_or_null("failureReason", sign_in.reason.as_deref());
    status.text_or_null("additionalDetails", sign_in.details.as_deref());
    entry.json("status", status.end());
    entry.json("deviceDetail", r#"{"deviceId":null,"operatingSystem":"Windows","browser":"Edge 142.0.0"}"#);
    entry.json("location", r#"{"city":"Redmond","countryOrRegion":"US","geoCoordinates":null}"#);
    entry.json("appliedConditionalAccessPolicies", "[]").end()
}

fn event_type(flow: Flow) -> &'static str {
    match flow {
        Flow::NonInteractive => "nonInteractiveUser",
        Flow::ServicePrincipal => "servicePrincipal",
        Flow::ManagedIdentity => "managedIdentity",
        _ => "interactiveUser",
    }
}
