//! The CSV that the portal downloads (`domain` §1.5): 56 columns, trailing blanks and a repeated name in its header, cells
//! over several lines, a byte order mark.

use super::sign_in::{self, Person, SignIn};
use super::writer::Draft;
use crate::terms::{Flow, LogCategory, Outcome};

const COLUMNS: [&str; 56] = [
    "Date (UTC)",
    "Request ID",
    "User agent",
    "Correlation ID",
    "User ID",
    "User",
    "Username",
    "User type",
    "Cross tenant access type",
    "Incoming token type",
    "Authentication Protocol",
    "Unique token identifier",
    "Original transfer method",
    "Client credential type",
    "Token Protection - Sign In Session",
    "Token Protection - Sign In Session StatusCode",
    "Application",
    "Application ID ",
    "App owner tenant ID",
    "Resource",
    "Resource ID ",
    "Resource tenant ID",
    "Resource owner tenant ID",
    "Home tenant ID",
    "Home tenant name",
    "IP address",
    "Location",
    "Status",
    "Sign-in error code",
    "Failure reason",
    "Client app",
    "Device ID",
    "Browser",
    "Operating System",
    "Compliant",
    "Managed",
    "Join Type",
    "Multifactor authentication result",
    "Multifactor authentication auth method",
    "Multifactor authentication auth detail",
    "Authentication requirement",
    "Sign-in identifier",
    "Session ID",
    "IP address (seen by resource)",
    "Through Global Secure Access",
    "Global Secure Access IP address",
    "Autonomous system  number",
    "Flagged for review",
    "Token issuer type",
    "Incoming token type",
    "Token issuer name",
    "Latency",
    "Conditional Access",
    "Managed Identity type",
    "Associated Resource Id",
    "Federated Token Id",
];

/// Rows a message at most.
const ROWS: usize = 15;

pub fn csv(draft: &mut Draft<'_>) -> Vec<u8> {
    let is_job = draft.scenario.has(Flow::UnattendedUser) && draft.random.percent(50);
    let flow = if is_job { Flow::UnattendedUser } else { Flow::Interactive };
    let mut csv = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    csv.write_record(COLUMNS).expect("memory does not fail");
    for _ in 0..=draft.random.below(ROWS) {
        let sign_in = SignIn { details: None, ..sign_in::sign_in(draft, LogCategory::None, flow) };
        sign_in::count(draft, &sign_in, LogCategory::None);
        csv.write_record(COLUMNS.map(|column| cell(column, &sign_in))).expect("memory does not fail");
    }
    let table = csv.into_inner().expect("memory does not fail");
    ["\u{feff}".as_bytes(), &table].concat()
}

fn cell(column: &str, sign_in: &SignIn<'_>) -> String {
    let person =
        |part: fn(&Person) -> &String| sign_in.person.as_ref().map(part).cloned().unwrap_or_default();
    match column {
        "Date (UTC)" => sign_in.created.format("%Y-%m-%dT%H:%M:%SZ"),
        "Request ID" => sign_in.request_id.clone(),
        "Correlation ID" => sign_in.correlation_id.clone(),
        "User ID" => person(|person| &person.id),
        "User" => person(|person| &person.name),
        "Username" => person(|person| &person.principal),
        "Authentication Protocol" => {
            if sign_in.flow == Flow::UnattendedUser { "ropc" } else { "none" }.to_owned()
        }
        "Application" => sign_in.app.name.clone(),
        "Application ID " => sign_in.app.id.clone(),
        "Resource" => sign_in.resource().to_owned(),
        "IP address" => sign_in.address.clone(),
        "Location" => "Köln, Nordrhein-Westfalen, DE".to_owned(),
        "Status" => status(sign_in.outcome).to_owned(),
        "Sign-in error code" => sign_in.number.to_owned(),
        "Failure reason" => sign_in.reason.as_ref().map_or_else(
            || "Other".to_owned(),
            |reason| format!("{reason}\nSee \"Troubleshoot\", then try again."),
        ),
        "Multifactor authentication auth detail" => "+XX XXXXXXXX42, \"office\"".to_owned(),
        "Latency" => "204".to_owned(),
        "Conditional Access" => sign_in.conditional_access().to_owned(),
        _ => String::new(),
    }
}

const fn status(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "Success",
        Outcome::Interrupt => "Interrupted",
        _ => "Failure",
    }
}
