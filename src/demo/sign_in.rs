//! Sign-in records in every shape they come in (`domain` §1).

use serde_json::{Map, Value, json};

use super::random::Random;
use super::truth::Truth;
use super::writer::{Draft, Moment};
use crate::terms::{Flow, LogCategory, Outcome};

pub const TENANT: &str = "44444444-0000-4000-8000-000000000004";
const WORKSPACE: &str = "aaaaaaaa-0000-4000-8000-00000000000a";

/// Apps of people, and of jobs.
const APPS: [(&str, &str); 6] = [
    ("66666666-0000-4000-8000-000000000001", "Office 365 Exchange Online"),
    ("66666666-0000-4000-8000-000000000002", "Microsoft Teams"),
    ("66666666-0000-4000-8000-000000000003", "Power BI Service"),
    ("66666666-0000-4000-8000-000000000004", "Azure Portal"),
    ("66666666-0000-4000-8000-000000000005", "Contoso HR"),
    ("66666666-0000-4000-8000-000000000006", "Contoso Time Sheets"),
];
pub const JOBS: [(&str, &str); 3] = [
    ("66666666-0000-4000-8000-0000000000a1", "pbi-refresh-prod"),
    ("66666666-0000-4000-8000-0000000000a2", "adf-nightly"),
    ("66666666-0000-4000-8000-0000000000a3", "databricks-etl"),
];

/// Who signs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Who {
    pub log: LogCategory,
    pub flow: Flow,
}

/// How a record is spelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Spelling {
    Camel,
    Pascal,
    Lower,
    /// `status` as a JSON string.
    StatusString,
    /// `properties` as a JSON string.
    PropertiesString,
    ResultNumber,
    ResultWord,
}

const SPELLINGS: [Spelling; 10] = [
    Spelling::Camel,
    Spelling::Camel,
    Spelling::Camel,
    Spelling::Camel,
    Spelling::Pascal,
    Spelling::Lower,
    Spelling::StatusString,
    Spelling::PropertiesString,
    Spelling::ResultNumber,
    Spelling::ResultWord,
];

/// Records a message at most; Event Hubs packs some dozens into one.
const BATCH: usize = 40;

/// Writes one message of sign-ins of `who`.
pub fn write(who: Who, draft: &mut Draft<'_>) -> Vec<u8> {
    let layout = draft.random.below(14);
    let is_person =
        matches!(who.flow, Flow::Interactive | Flow::NonInteractive) && who.log != LogCategory::Adfs;
    match layout {
        0 if is_person => return graph(who, draft),
        1 if who.flow == Flow::Interactive && is_person => return portal_csv(draft),
        2 => return log_analytics_csv(who, draft),
        _ => {}
    }
    let count = if layout < 8 { 1 + draft.random.below(BATCH) } else { 1 + draft.random.below(4) };
    let records: Vec<Value> = (0..count).map(|_| record(who, draft)).collect();
    let lines = |records: &[Value], end: &str| {
        records
            .iter()
            .flat_map(|record| [record.to_string(), end.to_owned()])
            .collect::<String>()
            .into_bytes()
    };
    match layout {
        8 => Value::Array(records).to_string().into_bytes(),
        9 => lines(&records, "\n"),
        10 => lines(&records, ""),
        11 => format!("{:#}", json!({ "records": records })).into_bytes(),
        12 => gzip(&json!({ "records": records }).to_string()),
        13 => utf16(&json!({ "records": records }).to_string()),
        _ => json!({ "records": records }).to_string().into_bytes(),
    }
}

/// One record with its outcome; half of the failing batches hold successes too.
fn record(who: Who, draft: &mut Draft<'_>) -> Value {
    let number = if draft.random.below(10) < 6 { draft.scenario.number().to_owned() } else { "0".to_owned() };
    let spelling = *draft.random.pick(&SPELLINGS);
    count(who.log, who.flow, &number, draft);
    spell(&camel(who, &number, draft), spelling, &number)
}

/// Notes what a record must be counted as.
fn count(log: LogCategory, flow: Flow, number: &str, draft: &mut Draft<'_>) {
    let outcome = if number == "0" { Outcome::Success } else { draft.scenario.outcome(flow) };
    draft.truth.record(log, outcome);
    if number != "0" {
        let code = format!("AADSTS{number}");
        draft.truth.event(&code, flow, outcome);
        draft.truth.mention(&code);
    }
}

fn camel(who: Who, number: &str, draft: &mut Draft<'_>) -> Value {
    let (random, moment) = (&mut *draft.random, draft.moment);
    let is_user = matches!(who.flow, Flow::Interactive | Flow::NonInteractive | Flow::UnattendedUser);
    let (app_id, app_name) = if is_user { *random.pick(&APPS) } else { *random.pick(&JOBS) };
    let mut status = json!({ "errorCode": number.parse::<u32>().unwrap_or(0) });
    if is_user && number != "0" {
        status["failureReason"] =
            json!(if random.below(3) == 0 { "Other" } else { "The sign-in was refused." });
    } else if is_user {
        status["additionalDetails"] = json!("MFA requirement satisfied by claim in the token");
    }
    let mut properties = json!({
        "id": random.guid(),
        "createdDateTime": moment.ago(random.below(300)).iso(),
        "appId": app_id,
        "appDisplayName": app_name,
        "resourceDisplayName": "Microsoft Graph",
        "ipAddress": "203.0.113.7",
        "correlationId": random.guid(),
        "conditionalAccessStatus": "notApplied",
        "appliedConditionalAccessPolicies": policies(random),
        "authenticationDetails": [{ "authenticationMethod": "Password", "succeeded": number == "0", "authenticationStepResultDetail": "{ \"note\": [1, 2] }" }],
        "riskState": "none",
        "isInteractive": who.flow == Flow::Interactive,
        "status": status,
    });
    if is_user {
        let user = random.below(100_000);
        properties["userPrincipalName"] = json!(format!("user{user}@contoso.example"));
        properties["userDisplayName"] = json!(format!("User {user}"));
        properties["userId"] = json!(random.guid());
    } else {
        properties["servicePrincipalId"] = json!(random.guid());
        properties["servicePrincipalName"] = json!(app_name);
        properties["servicePrincipalCredentialKeyId"] = json!("88888888-0000-4000-8000-000000000008");
        properties["userId"] = Value::Null;
    }
    if who.flow == Flow::UnattendedUser {
        properties["authenticationProtocol"] = json!("ropc");
    }
    let mut record = json!({
        "time": moment.log_time(random),
        "resourceId": format!("/tenants/{TENANT}/providers/Microsoft.aadiam"),
        "operationName": "Sign-in activity",
        "operationVersion": "1.0",
        "category": who.log.as_str(),
        "tenantId": TENANT,
        "resultType": number,
        "resultSignature": "None",
        "durationMs": 0,
        "callerIpAddress": "203.0.113.7",
        "correlationId": properties["correlationId"],
        "Level": 4,
        "properties": properties,
    });
    if is_user && number != "0" {
        record["resultDescription"] = json!("The sign-in was refused: \"see the record\".");
    }
    record
}

fn policies(random: &mut Random) -> Vec<Value> {
    (0..random.below(8))
        .map(|at| {
            json!({
                "id": random.guid(),
                "displayName": format!("CA{at:03}: Require \"strong\" sign-in for {{all}}"),
                "enforcedGrantControls": ["Mfa"],
                "enforcedSessionControls": [],
                "result": "notApplied",
            })
        })
        .collect()
}

fn spell(camel: &Value, spelling: Spelling, number: &str) -> Value {
    let mut record = camel.clone();
    match spelling {
        Spelling::Camel => {}
        Spelling::Pascal => return pascal(camel),
        Spelling::Lower => return lower(camel),
        Spelling::StatusString => {
            record["properties"]["status"] = json!(record["properties"]["status"].to_string());
        }
        Spelling::PropertiesString => record["properties"] = json!(record["properties"].to_string()),
        Spelling::ResultNumber => record["resultType"] = json!(number.parse::<u32>().unwrap_or(0)),
        Spelling::ResultWord => {
            record["resultType"] = json!(if number == "0" { "Success" } else { "Failure" });
        }
    }
    record
}

/// Log Analytics' data export: one level, `TenantId` is the workspace, `Status` a JSON string, no `time`.
fn pascal(camel: &Value) -> Value {
    let mut record = Map::new();
    let properties = camel["properties"].as_object().expect("camelCase records have properties");
    for (key, value) in camel.as_object().expect("a record is an object").iter().chain(properties) {
        let mut name = key.clone();
        name[..1].make_ascii_uppercase();
        match key.as_str() {
            "properties" | "time" | "tenantId" | "resourceId" => {}
            "status" => {
                record.insert(name, json!(value.to_string()));
            }
            _ => {
                record.insert(name, value.clone());
            }
        }
    }
    record.insert("TimeGenerated".to_owned(), properties["createdDateTime"].clone());
    record.insert("AADTenantId".to_owned(), camel["tenantId"].clone());
    record.insert("TenantId".to_owned(), json!(WORKSPACE));
    record.insert("Type".to_owned(), json!(format!("AAD{}", camel["category"].as_str().unwrap_or_default())));
    Value::Object(record)
}

fn lower(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object.iter().map(|(key, value)| (key.to_ascii_lowercase(), lower(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(lower).collect()),
        value => value.clone(),
    }
}

/// A page of `GET /auditLogs/signIns`: no category, no tenant.
fn graph(who: Who, draft: &mut Draft<'_>) -> Vec<u8> {
    let count = 1 + draft.random.below(20);
    let records: Vec<Value> = (0..count)
        .map(|_| {
            let number =
                if draft.random.below(2) == 0 { draft.scenario.number().to_owned() } else { "0".to_owned() };
            self::count(LogCategory::None, who.flow, &number, draft);
            camel(who, &number, draft)["properties"].clone()
        })
        .collect();
    json!({ "@odata.context": "https://graph.example/$metadata#auditLogs/signIns", "value": records })
        .to_string()
        .into_bytes()
}

/// The portal's download: trailing blanks and a repeated name in the header, cells over several lines, a byte order mark.
fn portal_csv(draft: &mut Draft<'_>) -> Vec<u8> {
    let mut text = "\u{feff}Date (UTC),Request ID,Correlation ID,User,Username,Application,Application ID ,Status,Sign-in error code,Failure reason,Incoming token type,Incoming token type\r\n".to_owned();
    for _ in 0..=draft.random.below(10) {
        let number =
            if draft.random.below(2) == 0 { draft.scenario.number().to_owned() } else { "0".to_owned() };
        count(LogCategory::None, Flow::Interactive, &number, draft);
        let outcome =
            if number == "0" { Outcome::Success } else { draft.scenario.outcome(Flow::Interactive) };
        let status = match outcome {
            Outcome::Success => "Success",
            Outcome::Interrupt => "Interrupted",
            _ => "Failure",
        };
        let (app_id, app) = *draft.random.pick(&APPS);
        let (request, correlation) = (draft.random.guid(), draft.random.guid());
        text.push_str(&format!(
            "{},{request},{correlation},User,user@contoso.example,{app},{app_id},{status},{number},\"Refused, as the policy says.\nSee \"\"CA001\"\".\",none,\r\n",
            draft.moment.iso()
        ));
    }
    text.into_bytes()
}

/// An export of a Log Analytics query.
fn log_analytics_csv(who: Who, draft: &mut Draft<'_>) -> Vec<u8> {
    let mut text =
        "\"TimeGenerated [UTC]\",Category,AADTenantId,TenantId,ResultType,AppId,AppDisplayName,UserPrincipalName,AuthenticationProtocol,Status\n"
            .to_owned();
    for _ in 0..=draft.random.below(10) {
        let number =
            if draft.random.below(2) == 0 { draft.scenario.number().to_owned() } else { "0".to_owned() };
        count(who.log, who.flow, &number, draft);
        let (app_id, app) = *draft.random.pick(&APPS);
        let protocol = if who.flow == Flow::UnattendedUser { "ropc" } else { "none" };
        text.push_str(&format!(
            "\"{}\",{},{TENANT},{WORKSPACE},{number},{app_id},{app},user@contoso.example,{protocol},\"{{\"\"errorCode\"\":{number},\"\"failureReason\"\":\"\"x\"\"}}\"\n",
            draft.moment.us_comma(),
            who.log
        ));
    }
    text.into_bytes()
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// Records of other logs in the same stream.
pub fn other_log(log: LogCategory, draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(log, Outcome::Other);
    let record = match log {
        LogCategory::Audit => json!({
            "time": draft.moment.iso(), "category": "AuditLogs", "resultType": "Update", "tenantId": TENANT,
            "operationName": "Update application – Certificates and secrets management",
            "properties": { "result": "success", "targetResources": [{ "displayName": JOBS[0].1 }] },
        }),
        _ => json!({
            "time": draft.moment.iso(), "category": "MicrosoftGraphActivityLogs", "resultSignature": "404", "tenantId": TENANT,
            "properties": { "responseStatusCode": 404, "requestUri": "https://graph.example/v1.0/me" },
        }),
    };
    record.to_string().into_bytes()
}

/// A batch whose second record is cut in the middle.
pub fn truncated(draft: &mut Draft<'_>) -> Vec<u8> {
    let who = Who { log: LogCategory::SignIn, flow: Flow::Interactive };
    let mut ignored = Truth::default();
    let mut plain = Draft { truth: &mut ignored, ..draft.reborrow() };
    let [whole, cut] =
        [camel(who, "0", &mut plain), camel(who, "0", &mut plain)].map(|record| record.to_string());
    format!("{{\"records\":[{whole},{}", &cut[..cut.len() / 2]).into_bytes()
}

/// A moment as the eleven time formats of the logs write it.
impl Moment {
    fn log_time(self, random: &mut Random) -> String {
        match random.below(11) {
            0 => self.format("%m/%d/%Y %H:%M:%S"),
            1 => self.format("%-m/%-d/%Y %H:%M:%S"),
            2 => self.format("%m/%d/%Y %I:%M:%S %p"),
            3 => self.format("%-m/%-d/%Y %-I:%M:%S %p"),
            4 => self.format("%-m/%-d/%Y %-I:%M:%S %p +00:00"),
            5 => self.format("%Y-%m-%dT%H:%M:%S"),
            6 => self.format("%Y-%m-%dT%H:%M:%S.22Z"),
            7 => self.format("%Y-%m-%dT%H:%M:%S.6816663Z"),
            8 => self.format("%Y-%m-%dT%H:%M:%S.535404056Z"),
            9 => self.format("%Y-%m-%dT%H:%M:%S.992099+00:00"),
            _ => self.format("%Y-%m-%dT%H:%M:%S+00:00"),
        }
    }
}
