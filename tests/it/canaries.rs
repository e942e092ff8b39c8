//! Canaries: names, addresses and ids of people in every member of every record shape that aadstream does not need, and
//! in every text, in every spelling; and the search for them in what comes out.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

/// Parts of everything that is planted, in lower case.
const CANARIES: [&str; 4] = ["c4nary", "203.0.113.199", "2001:db8::c4a2", "dead0000-cafe-"];
const TEXT: &str = " for c4nary-upn@contoso.example (C4nary Person) from 203.0.113.199 on dead0000-cafe-4000-8000-000000000001";
/// Where a test gives the program a secret, it is one of these.
pub const SECRET: &str = "s3cret-c4nary";
pub const KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// Members that steer how a record is read.
const READ: &str = "time timegenerated createddatetime starttime endtime start end category type operationname status \
     extendedstatus resulttype errorcode code refreshtype currentrefreshtype commitmode authenticationprotocol \
     resourceid";
/// Members that PRIVACY.md lets out.
const LET_OUT: &str = "tenantid aadtenantid appid appdisplayname serviceprincipalid serviceprincipalname \
     serviceprincipalcredentialkeyid resourcedisplayname workspaceid datasetid";

/// What a sign-in says of people, in both spellings.
fn person() -> Map<String, Value> {
    let member = json!({
        "userPrincipalName": "c4nary-upn@contoso.example", "UserPrincipalName": "c4nary-upn@contoso.example",
        "userDisplayName": "C4nary Person", "UserDisplayName": "C4nary Person", "identity": "C4nary Person",
        "userId": "dead0000-cafe-4000-8000-000000000002", "UserId": "dead0000-cafe-4000-8000-000000000002",
        "ipAddress": "203.0.113.199", "IPAddress": "2001:db8::c4a2", "callerIpAddress": "203.0.113.199:4711",
        "location": {"city": "C4naryville", "geoCoordinates": {"latitude": "c4nary"}},
        "deviceDetail": {"deviceId": "dead0000-cafe-4000-8000-000000000003", "displayName": "C4NARY-LAPTOP"},
        "userAgent": "c4nary-agent", "sessionId": "dead0000-cafe-4000-8000-000000000004",
        "uniqueTokenIdentifier": "c4nary-token", "autonomousSystemNumber": "c4nary",
    });
    let Value::Object(members) = member else { unreachable!("it is written as one") };
    members
}

/// The value with canaries in it; text within text is opened as the program opens it.
fn plant(key: &str, value: Value, is_refresh: bool) -> Value {
    let lower = key.to_lowercase();
    let stays = READ.split_whitespace().chain(LET_OUT.split_whitespace()).any(|word| word == lower);
    match value {
        Value::Object(members) => {
            let is_refresh = is_refresh || members.contains_key("refreshType");
            let is_envelope = ["records", "value", "refreshes"].iter().any(|key| members.contains_key(*key));
            let mut planted = if is_envelope { Map::new() } else { person() };
            planted.extend(members.into_iter().map(|(key, value)| {
                let value = plant(&key, value, is_refresh);
                (key, value)
            }));
            Value::Object(planted)
        }
        Value::Array(items) => items.into_iter().map(|item| plant(key, item, is_refresh)).collect(),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(inner @ Value::Object(_)) => plant(key, inner, is_refresh).to_string().into(),
            // A refresh's own ids lead to no person.
            _ if stays || is_refresh && (lower == "id" || lower == "requestid") => text.into(),
            _ if text.contains("AADSTS") => format!("{text}{TEXT}").into(),
            _ => format!("c4nary-{key}").into(),
        },
        other => other,
    }
}

/// Every shape of the golden messages, tables, texts and spellings, with canaries.
pub fn messages() -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    for line in include_str!("../golden/messages.jsonl").lines() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let raw = golden["raw"].as_str().unwrap();
        let mut values = serde_json::Deserializer::from_str(raw).into_iter::<Value>();
        let planted: Result<Vec<String>, _> =
            values.by_ref().map(|value| value.map(|value| plant("", value, false).to_string())).collect();
        let text = planted.map_or_else(|_| format!("{raw}{TEXT}"), |values| values.join("\n"));
        messages.push((golden["id"].as_str().unwrap().to_owned(), text.into_bytes()));
    }
    let portal = format!(
        "Date (UTC),Request ID,User,Username,User ID,Application,Application ID ,IP address,Location,Status,Sign-in error code,Failure reason,Client app,Device ID\n\
         2026-11-20T03:14:50Z,c4nary-request,C4nary Person,c4nary-upn@contoso.example,dead0000-cafe-1,App,66666666-0000-4000-8000-000000000006,203.0.113.199,\"C4naryville, DE\",Failure,50126,\"wrong\n{TEXT}\",c4nary,dead0000-cafe-2\n"
    );
    let export = format!(
        "TimeGenerated [UTC],ResultType,ResultDescription,UserPrincipalName,IPAddress,Status,DeviceDetail,CorrelationId,AppId,Type\n\
         2026-11-20T03:14:50Z,50053,AADSTS50053: {TEXT},c4nary-upn@contoso.example,2001:db8::c4a2,\"{{\"\"errorCode\"\":50053,\"\"failureReason\"\":\"\"c4nary\"\"}}\",\"{{\"\"deviceId\"\":\"\"dead0000-cafe-3\"\"}}\",c4nary-correlation,66666666-0000-4000-8000-000000000006,SigninLogs\n"
    );
    messages.push(("portal.csv".to_owned(), portal.into_bytes()));
    messages.push(("export.csv".to_owned(), export.into_bytes()));
    messages.push((
        "broken".to_owned(),
        format!("{{\"resultType\":\"50126\",\"userPrincipalName\":{TEXT}").into_bytes(),
    ));
    messages.push((
        "not UTF-8".to_owned(),
        [b"{\"category\":\"SignInLogs\",\"identity\":\"c4nary \xc3\x28\"}", TEXT.as_bytes()].concat(),
    ));
    messages.extend(steering().map(|record| named("steering", record)));
    messages.extend(power_bi().map(|record| named("power bi", record)));
    messages.extend(texts().into_iter().map(|text| ("text".to_owned(), text.into_bytes())));
    messages
}

fn named(name: &str, record: Value) -> (String, Vec<u8>) {
    (name.to_owned(), record.to_string().into_bytes())
}

/// Records in which a member that says how to read them, or an error's name, says something else.
fn steering() -> impl Iterator<Item = Value> {
    let sign_in = json!({
        "time": "2026-11-20T03:14:50Z", "resourceId": "/tenants/44444444-0000-4000-8000-000000000004/x",
        "operationName": "Sign-in activity", "category": "SignInLogs", "resultType": "50126",
        "properties": {"createdDateTime": "2026-11-20T03:14:50Z", "authenticationProtocol": "ropc",
            "signInEventTypes": ["interactiveUser"], "status": {"errorCode": 50126}},
    });
    let refresh = json!({
        "requestId": "cccccccc-0000-4000-8000-00000000000c", "refreshType": "Scheduled", "status": "Failed",
        "startTime": "2026-11-20T03:10:00Z", "endTime": jiff::Timestamp::now().to_string(), "commitMode": "Transactional",
        "extendedStatus": "Failed", "currentRefreshType": "Full", "type": "Full",
    });
    let activity = json!({
        "time": "2026-11-20T03:14:50Z", "category": "ActivityRuns", "status": "Failed", "level": "Error",
        "operationName": "Copy - Failed", "start": "2026-11-20T03:10:00Z", "end": "2026-11-20T03:12:00Z",
        "properties": {"Error": {"errorCode": "2200", "failureType": "UserError", "message": "AADSTS7000215"}},
    });
    // A name of an error that is none, and ids that are none.
    let person = "c4nary@contoso.example";
    let names = [
        json!({"category": "SignInLogs", "resultType": "50126", "tenantId": person, "properties": {
            "appId": "C4nary Person", "servicePrincipalId": person, "servicePrincipalCredentialKeyId": person}}),
        json!({"category": "SignInLogs", "resultType": "50126", "resourceId": "/tenants/c4nary@contoso.example/providers"}),
        json!({"workspaceId": "C4nary's workspace", "datasetId": person, "refreshes": [{"refreshType": "Scheduled",
            "requestId": person, "id": person, "status": "Failed",
            "serviceExceptionJson": json!({"errorCode": "x", "errorDescription": "AADSTS50173"}).to_string()}]}),
        json!({"category": "SignInLogs", "resultType": "50126", "properties": {"error": {"code": "c4nary@contoso.example"}}}),
        json!({"refreshType": "Scheduled", "status": "Failed", "serviceExceptionJson": json!({"errorCode": "C4nary was here"}).to_string()}),
    ];
    let mut records = names.to_vec();
    for record in [sign_in, refresh, activity] {
        replaced(&record, &mut |changed| records.push(changed));
    }
    records.into_iter()
}

/// The value once for each of its texts and numbers, that one in the place of a canary.
fn replaced(value: &Value, give: &mut dyn FnMut(Value)) {
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                replaced(inner, &mut |changed| {
                    let mut whole = members.clone();
                    whole.insert(key.clone(), changed);
                    give(Value::Object(whole));
                });
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                replaced(inner, &mut |changed| {
                    let mut whole = items.clone();
                    whole[at] = changed;
                    give(Value::Array(whole));
                });
            }
        }
        _ => give(json!("c4nary-upn@contoso.example")),
    }
}

/// Names of datasets, reports and owners, and what errors of a refresh say.
fn power_bi() -> impl Iterator<Item = Value> {
    // In `run` older ones are no news.
    let now = jiff::Timestamp::now().to_string();
    let inner = json!({"error": {
        "code": "DM_GWPipeline_Gateway_DataSourceAccessError", "message": TEXT,
        "pbi.error": {"code": "DM_GWPipeline_Gateway_DataSourceAccessError", "parameters": {"user": "c4nary"},
            "details": [{"code": "DM_ErrorDetailNameCode_UnderlyingErrorMessage", "detail": {"type": 1, "value": TEXT}}]},
    }});
    let exception = json!({"errorCode": "ModelRefreshFailed_CredentialsNotSpecified", "errorDescription": TEXT,
        "errorDescription2": inner.to_string()});
    let attempt = json!({"attemptId": 1, "type": "Data", "startTime": "2026-11-20T03:10:00Z",
        "serviceExceptionJson": json!({"errorCode": "DMTS_OAuthTokenRefreshFailedError", "errorDescription": TEXT}).to_string()});
    let refresh = json!({
        "requestId": "cccccccc-0000-4000-8000-0000000000c4", "id": 4, "refreshType": "ViaEnhancedApi", "status": "Failed",
        "endTime": now, "datasetName": "C4nary Person's sales", "reportName": "C4nary report",
        "owner": "c4nary-upn@contoso.example", "configuredBy": "c4nary-upn@contoso.example", "modifiedBy": "C4nary Person",
        "initiatedBy": {"user": "c4nary-upn@contoso.example", "ip": "203.0.113.199"},
        "serviceExceptionJson": exception.to_string(), "refreshAttempts": [attempt],
        "messages": [{"type": "Error", "code": "0xC1120049", "message": TEXT}],
        "objects": [{"table": "C4nary", "partition": "C4nary", "status": "Failed"}],
    });
    let dataset = json!({"workspaceId": "77777777-0000-4000-8000-000000000007", "workspaceName": "C4nary's workspace",
        "datasetId": "88888888-0000-4000-8000-000000000008", "datasetName": "C4nary's dataset",
        "configuredBy": "c4nary-upn@contoso.example", "refreshes": [refresh]});
    let audit = json!({"Operation": "RefreshDataset", "Workload": "PowerBI", "UserId": "c4nary-upn@contoso.example",
        "ClientIP": "2001:db8::c4a2", "UserAgent": "c4nary", "DatasetName": "C4nary", "ReportName": "C4nary",
        "IsSuccess": false, "Error": format!("AADSTS50173: {TEXT}")});
    [refresh, dataset, audit].into_iter()
}

/// What clients, gateways and jobs print, with a person in it in every spelling.
fn texts() -> Vec<String> {
    let claims =
        json!({"upn": "c4nary-upn@contoso.example", "name": "C4nary Person", "ipaddr": "203.0.113.199"});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.c2lnbmF0dXJl", part(&json!({"typ": "JWT", "alg": "RS256"})), part(&claims));
    let spellings = [
        "c4nary-upn@contoso.example".to_owned(),
        "c4nary-upn%40contoso.example".to_owned(),
        "%634nary-upn%2540contoso.example".to_owned(),
        r"\u0063\u0034nary-upn\u0040contoso.example".to_owned(),
        "&#99;4nary-upn&#64;contoso.example".to_owned(),
        "c4nary-upn_contoso.example#EXT#@fabrikam.example".to_owned(),
        STANDARD.encode("c4nary-upn@contoso.example"),
        token.clone(),
    ];
    let mut texts: Vec<String> = spellings
        .iter()
        .flat_map(|name| [
            format!("AADSTS50053: The account {name} is locked, you've tried to sign in too many times."),
            format!("https://login.microsoftonline.com/common/oauth2/authorize?login_hint={name}&error_description=AADSTS50020%3a+User+account+%27{name}%27"),
            format!("{{\"error\":\"invalid_grant\",\"error_description\":\"AADSTS50126: {name}\",\"error_codes\":[50126],\"error_uri\":\"https://x/?u={name}\"}}"),
            format!("{{\"records\":[{{\"category\":\"SignInLogs\",\"resultType\":\"50126\",\"properties\":{{\"userPrincipalName\":\"{name}\"}}}},{{\"category\":\"SignInLogs\",\"identity\":\"{name}"),
        ])
        .collect();
    texts.extend([
        format!("msal.exceptions: {{'error': 'invalid_grant', 'error_description': 'AADSTS65001:{TEXT}', 'claims': '{token}'}}"),
        format!("03:14:50  Database Error in model c4nary (models/c4nary.sql)\n  ('08001', '[08001] AADSTS7000215:{TEXT}')\n"),
        format!("DM.EnterpriseGateway Error: 0 : [C4NARY-LAPTOP] [DM.Pipeline] user c4nary-upn@contoso.example: DMTS_OAuthTokenRefreshFailedError AADSTS50173{TEXT}"),
        format!("GET /c4nary?upn=c4nary-upn@contoso.example&token={token} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\nAADSTS90013"),
        "AADSTS50053 from ::ffff:203.0.113.199, [2001:db8::c4a2]:443 and 203.0.113.199:4711".to_owned(),
    ]);
    texts
}

/// Where a canary shows in an output, in whatever spelling.
fn found(output: &str) -> Option<(&'static str, String)> {
    let lower = output.to_lowercase();
    let views = [lower.clone(), without_escapes(&lower), unpacked(output).to_lowercase()];
    let mut canaries = CANARIES.iter().copied().chain([SECRET, KEY]);
    let line = |canary: &str| views.iter().flat_map(|view| view.lines()).find(|line| line.contains(canary));
    canaries.find_map(|canary| Some((canary, line(canary)?.to_owned())))
}

#[track_caller]
pub fn assert_silent(what: &str, output: &str) {
    if let Some((canary, line)) = found(output) {
        panic!("{what} shows {canary}: {line}");
    }
}

/// `%40`, `%2540`, `\\u0040` and `&#64;` as the letter that they stand for; in lower case.
fn without_escapes(text: &str) -> String {
    let mut out = text.replace("%25", "%");
    for letter in (b'!'..=b'~').map(char::from) {
        let code = u32::from(letter);
        for spelling in
            [format!("%{code:02x}"), format!("\\u{code:04x}"), format!("&#{code};"), format!("&#x{code:x};")]
        {
            if out.contains(&spelling) {
                out = out.replace(&spelling, &letter.to_ascii_lowercase().to_string());
            }
        }
    }
    out
}

/// What stands in Base64 there, wherever in a word it begins.
fn unpacked(text: &str) -> String {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "+/-_".contains(c);
    let words: BTreeSet<&str> = text.split(|c| !is_letter(c)).filter(|word| word.len() >= 8).collect();
    let mut out = String::new();
    for word in words {
        for start in 0..4 {
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] as [&GeneralPurpose; 2] {
                let word = &word[start..];
                if let Ok(bytes) = engine.decode(&word[..word.len() / 4 * 4]) {
                    out.push_str(&String::from_utf8_lossy(&bytes));
                    out.push('\n');
                }
            }
        }
    }
    out
}

/// Else a search that finds nothing would prove nothing.
#[test]
fn the_search_finds_what_was_planted() {
    for (name, bytes) in messages() {
        assert!(
            found(&String::from_utf8_lossy(&bytes)).is_some(),
            "{name}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    for text in ["x %634NARY y", "Yy4uLmM0bmFyeS4u", r"\u0063\u0034nary", "203.0.113.199", "&#99;4nary"] {
        assert!(found(text).is_some(), "{text}");
    }
    assert_eq!(found("nothing of the kind"), None);
}
