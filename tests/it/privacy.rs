//! Law 9: what names a person stays inside. Canaries stand in every member of every record shape that aadstream does
//! not need, and in every text; no output may show one. Secrets of the configuration are sought the same way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::canaries::{KEY, SECRET, assert_silent, messages};
use crate::running::Running;
use rdkafka::Message as _;
use rdkafka::message::{Headers, OwnedMessage};

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
            assert!(events >= messages().len() * 3 / 4, "{events} events");
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
    // A process for each: the formats take turns.
    for ((name, bytes), format) in messages().into_iter().zip(["text", "json"].into_iter().cycle()) {
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let output = aadstream(&["explain", "--format", format, "--", &text]).output().unwrap();
        assert_silent(&format!("explain --format {format} of {name}"), &said(&output));
    }
}

#[test]
fn run_and_audit_name_nobody_at_any_level() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    fs::write(&key, KEY).unwrap();
    let more = "[kafka.options]\ndebug = \"all\"\nsasl.username = \"u\"\nsasl.password = { env = \"PASSWORD\" }\n\
                ssl.key.password = { env = \"PASSWORD\" }\n[log]\nlevel = \"trace\"\n[forward]\ntopic = \"out\"\n\
                min_severity = \"info\"\n[dead_letters]\npolicy = \"dlq\"\ntopic = \"dead\"\n[privacy]\n\
                forward_ids = false\npseudonym_key_file = ";
    let running = Running::start(&format!("{more}{key:?}"), &[("PASSWORD", SECRET)]);
    let messages = messages();
    running.produce(messages.iter().map(|(_, bytes)| bytes.clone()));
    running.wait_read(messages.len());
    let (events, letters) = running.wait("everything is delivered", |it| {
        let events = it.count("aadstream_events_forwarded_total{");
        let letters = it.count("aadstream_dead_letters_total{");
        let rejected =
            it.count("aadstream_messages_rejected_total{") + it.count("aadstream_records_rejected_total{");
        (events == it.count("aadstream_events_total{") && letters == rejected).then_some((events, letters))
    });
    assert!(events > 80 && letters > 5, "{events} events, {letters} dead letters");
    for path in ["/metrics", "/", "/-/ready", "/-/healthy", "/c4nary", "/?q=c4nary"] {
        assert_silent(path, &running.get(path));
    }
    assert_silent("/-/reload", &running.ask("POST", "/-/reload", ""));
    for event in running.messages("out", events) {
        assert_silent("an event", &shown(&event));
    }
    for letter in running.messages("dead", letters) {
        assert_letter(&letter);
    }
    audit_of_canaries(&running);
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("facility=\"FETCH\""), "the client was asked to say everything");
    assert_silent("the log", &log);
}

/// Key, headers and body.
fn shown(message: &OwnedMessage) -> String {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers: Vec<String> = headers.map(|it| format!("{}: {}", it.key, text(it.value))).collect();
    format!("{}\n{}\n{}", text(message.key()), headers.join("\n"), text(message.payload()))
}

/// It is the original with its headers; those behind them are ours.
fn assert_letter(letter: &OwnedMessage) {
    let headers = letter.headers().unwrap();
    assert_eq!((headers.get(0).key, letter.key()), ("c4nary", Some(&b"c4nary-key"[..])));
    let own: Vec<_> = headers.iter().skip(1).collect();
    assert!(own.iter().any(|header| header.key == "reason") && own.len() >= 4, "{own:?}");
    for header in own {
        let value = String::from_utf8_lossy(header.value.unwrap());
        assert_silent("a dead letter's header", &format!("{} {value}", header.key));
    }
}

/// Events that nothing caused, copies, and all of them lost: no id that somebody else wrote is repeated.
fn audit_of_canaries(running: &Running) {
    let config = running.path("aadstream.toml");
    let audit = |format: &str, events: &str, letters: &str| {
        let output = aadstream(&["audit", "--to", "end", "--format", format, "-c", config.to_str().unwrap()])
            .env("PASSWORD", SECRET)
            .env("AADSTREAM_FORWARD__TOPIC", events)
            .env("AADSTREAM_DEAD_LETTERS__TOPIC", letters)
            .output()
            .unwrap();
        assert_silent(&format!("audit --format {format}"), &said(&output));
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let strange = [
        "c4nary/0/0/0",
        "c4nary-upn@contoso.example/0/0/0",
        "203.0.113.199",
        "signin/0/0/c4nary",
        "signin/1/0/77",
    ];
    strange.iter().for_each(|id| running.plant(id));
    let first = running.messages("out", 1).remove(0);
    let id = first.headers().unwrap().iter().find(|header| header.key == "event-id").unwrap();
    running.plant(std::str::from_utf8(id.value.unwrap()).unwrap());
    for format in ["text", "json"] {
        let report = audit(format, "out", "dead");
        assert!(report.contains("signin/1/0/77") && report.contains("with no event-id of ours"), "{report}");
        let report = audit(format, "dead", "out");
        assert!(
            report.contains("a dead letter without a position") && report.contains("signin/1/1"),
            "{report}"
        );
    }
}

#[test]
fn config_commands_show_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("secret"), SECRET).unwrap();
    fs::write(path("web.yml"), format!("basic_auth_users: {{u: {SECRET}}}\n")).unwrap();
    fs::write(path("misplaced.yml"), format!("basic_auth_users: {SECRET}\n")).unwrap();
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
        ("secret of oauth", format!("{fine}[kafka.oauth]\nclient_secret = \"{SECRET}\"\n"), Some(3)),
        ("token_url", format!("{fine}[kafka.oauth]\ntoken_url = \"https://u:{SECRET}@h/t\"\n"), Some(3)),
        ("external_url", format!("{fine}[web]\nexternal_url = \"https://u:{SECRET}@h\"\n"), Some(3)),
        ("brokers", fine.replace("127.0.0.1:1", &format!("sasl_ssl://u:{SECRET}@h:1")), Some(3)),
        ("output's brokers", format!("{fine}[forward]\nbrokers = \"u:{SECRET}@h:1\"\n"), Some(3)),
        ("listen", format!("{fine}[web]\nlisten = \"u:{SECRET}@h:1\"\n"), Some(3)),
        ("passwords of pages", format!("{fine}[web]\nconfig_file = {:?}\n", path("web.yml")), Some(3)),
        ("password of pages", format!("{fine}[web]\nconfig_file = {:?}\n", path("misplaced.yml")), Some(3)),
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
