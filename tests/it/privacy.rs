//! Law 9: what names a person stays inside. Canaries stand in every member of every record shape that aadstream does
//! not need, and in every text; no output may show one. Secrets of the configuration are sought the same way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

use crate::running::Running;

/// Parts of everything that is planted, in lower case.
const CANARIES: [&str; 4] = ["c4nary", "203.0.113.199", "2001:db8::c4a2", "dead0000-cafe-"];
const TEXT: &str = " for c4nary-upn@contoso.example (C4nary Person) from 203.0.113.199 on dead0000-cafe-4000-8000-000000000001";
const SECRET: &str = "s3cret-c4nary";
const KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

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

/// Every shape of the golden messages, and tables, with canaries.
fn messages() -> Vec<(String, Vec<u8>)> {
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
    // A name of an error that is none, and ids that are none.
    let person = "c4nary@contoso.example";
    let odd = [
        json!({"category": "SignInLogs", "resultType": "50126", "tenantId": person, "properties": {
            "appId": "C4nary Person", "servicePrincipalId": person, "servicePrincipalCredentialKeyId": person}}),
        json!({"category": "SignInLogs", "resultType": "50126", "resourceId": "/tenants/c4nary@contoso.example/providers"}),
        json!({"workspaceId": "C4nary's workspace", "datasetId": person, "refreshes": [{"refreshType": "Scheduled",
            "requestId": person, "id": person, "status": "Failed",
            "serviceExceptionJson": json!({"errorCode": "x", "errorDescription": "AADSTS50173"}).to_string()}]}),
        json!({"category": "SignInLogs", "resultType": "50126", "properties": {"error": {"code": "c4nary@contoso.example"}}}),
        json!({"refreshType": "Scheduled", "status": "Failed", "serviceExceptionJson": json!({"errorCode": "C4nary was here"}).to_string()}),
    ];
    messages.extend(odd.map(|record| ("odd".to_owned(), record.to_string().into_bytes())));
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
    messages
}

#[track_caller]
fn assert_silent(what: &str, output: &str) {
    let lower = output.to_lowercase();
    for canary in CANARIES.iter().copied().chain([SECRET, KEY]) {
        let line = lower.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{what} shows {canary}");
    }
}

fn aadstream(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aadstream"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1").env("COLUMNS", "300");
    command
}

/// Everything that a process printed.
fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn scan_names_nobody_in_any_format() {
    let directory = tempfile::tempdir().unwrap();
    for (number, (_, bytes)) in messages().into_iter().enumerate() {
        fs::write(directory.path().join(format!("{number}.log")), bytes).unwrap();
    }
    let config = directory.path().join(".aadstream.toml");
    let key = directory.path().join(".key");
    fs::write(&key, KEY).unwrap();
    let privacy = format!("[privacy]\nforward_ids = false\npseudonym_key_file = {key:?}\n");
    fs::write(&config, privacy).unwrap();
    let (config, folder) = (config.to_str().unwrap(), directory.path().to_str().unwrap());
    for format in ["table", "json", "prometheus", "events"] {
        let output = aadstream(&["scan", "-c", config, "--format", format, folder]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_silent(&format!("scan --format {format}"), &said(&output));
        if format == "events" {
            let events = String::from_utf8_lossy(&output.stdout).lines().count();
            assert!(events >= messages().len() - 10, "{events} events");
            assert!(said(&output).contains("\"principal\":\"p-"), "{}", said(&output));
        }
    }
    // By default an event leads back to its record, and only by ids.
    let output = aadstream(&["scan", "--format", "events", folder]).output().unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let mut event: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        assert!(!event.contains_key("principal"), "nobody gave a key");
        event.retain(|member, _| member != "correlation_id" && member != "request_id");
        assert_silent("an event", &serde_json::to_string(&event).unwrap());
    }
}

#[test]
fn explain_of_a_record_names_nobody() {
    for (name, bytes) in messages() {
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for format in ["text", "json"] {
            let output = aadstream(&["explain", "--format", format, "--", &text]).output().unwrap();
            assert_silent(&format!("explain --format {format} of {name}"), &said(&output));
        }
    }
}

#[test]
fn run_names_nobody_at_any_level() {
    let more = "[kafka.options]\ndebug = \"all\"\nsasl.username = \"u\"\nsasl.password = { env = \"PASSWORD\" }\n\
                ssl.key.password = { env = \"PASSWORD\" }\n[log]\nlevel = \"trace\"";
    let running = Running::start(more, &[("PASSWORD", SECRET)]);
    let messages = messages();
    running.produce(messages.iter().map(|(_, bytes)| bytes.clone()));
    running.wait_read(messages.len());
    for path in ["/metrics", "/", "/-/ready", "/-/healthy", "/c4nary"] {
        assert_silent(path, &running.get(path));
    }
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("facility=\"FETCH\""), "the client was asked to say everything");
    assert_silent("the log", &log);
}

#[test]
fn config_commands_show_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("secret"), SECRET).unwrap();
    let head = "[kafka]\nbrokers = \"127.0.0.1:1\"\ntopics = [\"t\"]\nstartup_timeout_seconds = 1\n[kafka.options]\n\
                security.protocol = \"sasl_ssl\"\nsasl.mechanism = \"PLAIN\"\nsasl.username = \"u\"\n";
    let secret_file = format!("{{ file = {:?} }}", path("secret"));
    let fine = format!("{head}sasl.password = {secret_file}\nssl.key.password = {{ env = \"SECRET\" }}\n");
    let cases = [
        ("fine", fine.clone(), Some(0)),
        ("plain", format!("{head}sasl.password = \"{SECRET}\"\n"), Some(3)),
        ("unquoted", format!("{head}sasl.password = {SECRET}\n"), Some(3)),
        ("open quote", format!("{head}sasl.password = \"{SECRET}\n"), Some(3)),
        ("list", format!("{head}sasl.password = [\"{SECRET}\"]\n"), Some(3)),
        ("twice", format!("{fine}sasl.password = \"{SECRET}\"\n"), Some(3)),
        ("no such option", format!("{fine}sasl.pasword = \"{SECRET}\"\n"), Some(3)),
        ("no key of ours", format!("{fine}[web]\npassword = \"{SECRET}\"\n"), Some(3)),
        ("unusable", format!("{fine}ssl.key.pem = {secret_file}\nssl.certificate.pem = \"x\"\n"), Some(3)),
    ];
    for (name, text, code) in cases {
        let config = path("aadstream.toml");
        fs::write(&config, text).unwrap();
        for args in [&["check"][..], &["show"], &["check", "--connect"]] {
            let output = config_command(args, &config);
            assert_silent(&format!("config {args:?} of {name}"), &said(&output));
            if args == ["check"] {
                assert_eq!(output.status.code(), code, "{name}: {}", said(&output));
            }
        }
    }
}

fn config_command(args: &[&str], config: &Path) -> Output {
    let args = [&["config"], args, &["-c", config.to_str().unwrap()]].concat();
    aadstream(&args)
        .env("SECRET", SECRET)
        .env("AADSTREAM_KAFKA__OPTIONS__SSL_KEYSTORE_PASSWORD", SECRET)
        .output()
        .unwrap()
}
