//! The configuration as a whole: what a file and variables come to, what they are told, and that `show` loads again.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::code::Code;
use crate::terms::{Flow, Severity};

const MINIMAL: &str = "[kafka]\nbrokers = \"h:9092\"\ntopics = [\"signin\"]\n";

fn load_with(text: &str, variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    std::fs::write(&path, text).unwrap();
    Settings::load_with(Some(&path), &Environment::of(variables.iter().copied()), true)
        .map_err(|error| relative(&error, directory.path()))
}

/// Messages without the folder of the test.
fn relative(error: &anyhow::Error, directory: &Path) -> anyhow::Error {
    let exit = error.downcast_ref::<ExitError>().map(|error| error.exit);
    assert_eq!(exit, Some(Exit::BadConfig));
    anyhow::anyhow!(error.to_string().replace(&format!("{}/", directory.display()), ""))
}

fn load(text: &str) -> Settings {
    load_with(&format!("{MINIMAL}{text}"), &[]).unwrap()
}

#[track_caller]
fn check_problems(text: &str, variables: &[(&str, &str)], expected: &[&str]) {
    let error = load_with(text, variables).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().filter(|line| !line.starts_with("the configuration has")).collect();
    assert_eq!(lines, expected);
}

/// One wrong line behind the minimal file, in line 4 and 5.
#[track_caller]
fn check_wrong(table: &str, line: &str, expected: &str) {
    check_problems(&format!("{MINIMAL}[{table}]\n{line}\n"), &[], &[&format!("a.toml:5: {expected}")]);
}

#[test]
fn two_lines_or_two_variables_are_enough() {
    let defaults =
        Kafka { brokers: "h:9092".to_owned(), topics: vec!["signin".to_owned()], ..Kafka::default() };
    let settings = load("");
    assert_eq!(settings.kafka, defaults);
    assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
    let variables = [("AADSTREAM_KAFKA__BROKERS", "h:9092"), ("AADSTREAM_KAFKA__TOPICS", "signin")];
    let settings = Settings::load_with(None, &Environment::of(variables), true).unwrap();
    assert_eq!(settings.kafka, defaults);
}

#[test]
fn without_kafka_only_the_service_stops() {
    let nothing = Environment::default();
    let settings = Settings::load_with(None, &nothing, false).unwrap();
    let error = settings.require_kafka().unwrap_err();
    assert_eq!(error.downcast_ref::<ExitError>().unwrap().exit, Exit::BadConfig);
    let error = error.to_string();
    assert!(error.contains("add `brokers = \"host:9092\"`, or set AADSTREAM_KAFKA__BROKERS"), "{error}");
    assert!(error.contains("add `topics = ["), "{error}");
    assert!(Settings::load_with(None, &nothing, true).is_err());
    assert!(load("").require_kafka().is_ok());
}

#[test]
fn every_problem_is_reported_with_its_line() {
    check_problems(
        "[kafka]\nbroker = \"h:9092\"\ntopics = [\"a b\"]\n[log]\nlevel = \"inf\"\n[loging]\n",
        &[("AADSTREAM_WEB__LISTN", "x"), ("AADSTREAM_FOO__BAR", "x"), ("AADSTREAM_HOST", "x")],
        &[
            "a.toml: no `brokers` in [kafka]: add `brokers = \"host:9092\"`, or set AADSTREAM_KAFKA__BROKERS",
            "a.toml:2: unknown key `kafka.broker`; did you mean `brokers`?",
            "a.toml:3: cannot use `kafka.topics`: `a b` is no topic: names have at most 249 of the letters A-Z a-z \
             0-9 . _ -, patterns begin with ^",
            "a.toml:5: cannot use `log.level`: `inf` is none of error, warn, info, debug, trace; did you mean `info`?",
            "a.toml:6: unknown table `loging`; did you mean `log`?",
            "AADSTREAM_FOO__BAR: unknown table `foo`; known are kafka, input, rules, forward, dead_letters, privacy, metrics, web, log, apps",
            "AADSTREAM_WEB__LISTN: unknown key `web.listn`; did you mean `AADSTREAM_WEB__LISTEN`?",
        ],
    );
}

#[test]
fn every_bad_broker_and_topic_is_named() {
    check_problems(
        "[kafka]\nbrokers = \"a,b:x,c:9092\"\ntopics = [\"^sig[\", \"^sign.*\", \"in valid\", \"^x(\"]\n",
        &[],
        &[
            "a.toml:2: cannot use `kafka.brokers`: expected host:port, such as \"kafka:9092\", found `a`, `b:x`",
            "a.toml:3: cannot use `kafka.topics`: the pattern `^sig[` is no regular expression; `in valid` is no \
             topic: names have at most 249 of the letters A-Z a-z 0-9 . _ -, patterns begin with ^; the pattern \
             `^x(` is no regular expression",
        ],
    );
}

#[test]
fn a_broken_file_is_told_only_where_it_is_broken() {
    check_problems(
        "[kafka]\nbrokers = \ntopic = 1\n",
        &[],
        &["a.toml:2: not TOML: string values must be quoted, expected literal string"],
    );
}

#[test]
fn the_key_of_pseudonyms_is_read_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let load = || load_with(&format!("{MINIMAL}[privacy]\npseudonym_key_file = {path:?}\n"), &[]);
    let error = load().unwrap_err().to_string();
    assert!(
        error.starts_with("a.toml:5: cannot use `privacy.pseudonym_key_file`: cannot read the key "),
        "{error}"
    );
    let of_folder = format!("{MINIMAL}[privacy]\npseudonym_key_file = {:?}\n", folder.path());
    let error = load_with(&of_folder, &[]).unwrap_err().to_string();
    assert!(error.ends_with(": it is no file"), "{error}");
    std::fs::write(&path, [0xff; 31]).unwrap();
    let error = load().unwrap_err().to_string();
    assert!(
        error.contains("/key has 31 bytes, it needs at least 32: head -c 32 /dev/urandom makes one"),
        "{error}"
    );
    std::fs::write(&path, [b'k'; 5000]).unwrap();
    assert!(load().unwrap_err().to_string().contains("that is no key"));
    std::fs::write(&path, [b'k'; 32]).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();
    let settings = load().unwrap();
    assert!(
        settings.warnings()[0].starts_with("everybody on this machine may read the key"),
        "{:?}",
        settings.warnings()
    );
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let settings = load().unwrap();
    assert!(settings.warnings().is_empty());
    assert_eq!(settings.privacy.pseudonym_key.as_ref().unwrap().expose(), [b'k'; 32]);
    let shown = format!("{}{settings:?}{:?}", show::show(&settings), settings.pseudonyms());
    assert!(
        shown.contains("pseudonym_key_file = ") && !shown.contains("kkk") && !shown.contains("107, 107"),
        "{shown}"
    );
}

#[test]
fn wrong_values_are_told_what_is_right() {
    check_wrong(
        "input",
        "workers = -1",
        "cannot use `input.workers`: expected a whole number of threads from 0 to 1024, found -1",
    );
    check_wrong(
        "privacy",
        "forward_ids = 1",
        "cannot use `privacy.forward_ids`: expected true or false, found a number",
    );
    check_wrong(
        "web",
        "external_url = \"host\"",
        "cannot use `web.external_url`: expected an address such as https://aadstream.example.com, found `host`",
    );
    check_wrong(
        "rules.severity",
        "AADSTS50076 = { text = \"7x\" }",
        "cannot use `rules.severity.AADSTS50076`: text: `7x` is none of info, low, medium, high, critical",
    );
}

#[test]
fn start_is_a_word_a_time_ago_or_a_time() {
    let start = |text: &str| load_with(MINIMAL, &[("AADSTREAM_KAFKA__START", text)]).map(|it| it.kafka.start);
    assert_eq!(start("latest").unwrap(), Start::Latest);
    assert_eq!(start("-90m").unwrap(), Start::Ago(Duration::from_secs(5_400)));
    assert_eq!(start("-2d").unwrap(), Start::Ago(Duration::from_secs(172_800)));
    for written in ["-0s", "-90s", "-90m", "-48h", "2026-01-31T08:00:00Z", "earliest", "latest"] {
        assert_eq!(start(written).unwrap().to_string(), written, "as `config show` writes it");
    }
    assert_eq!(start("1970-01-01T00:00:01Z").unwrap(), Start::At(1_000));
    assert_eq!(start("1970-01-01T01:00:00+01:00").unwrap(), Start::At(0));
    for wrong in ["-1", "1h", "-h", "yesterday", "-99999999999d", "2026-01-01"] {
        assert!(start(wrong).unwrap_err().to_string().contains(&format!("found `{wrong}`")), "{wrong}");
    }
    let unquoted = format!("{MINIMAL}start = 1970-01-01T00:00:01Z\n");
    assert_eq!(load_with(&unquoted, &[]).unwrap().kafka.start, Start::At(1_000));
}

#[test]
fn brokers_are_hosts_and_ports() {
    let brokers =
        |text: &str| load_with(MINIMAL, &[("AADSTREAM_KAFKA__BROKERS", text)]).map(|it| it.kafka.brokers);
    assert_eq!(brokers("a:1, [::1]:2,").unwrap(), "a:1,[::1]:2");
    for wrong in ["a", "a:0", "a:70000", ":9092", "::1:9092", "a b:1"] {
        assert!(brokers(wrong).unwrap_err().to_string().contains(&format!("found `{wrong}`")), "{wrong}");
    }
}

#[test]
fn apps_and_severities_are_read() {
    let id = "0F0F0F0F-0000-0000-0000-000000000001";
    let settings = load(&format!(
        "[rules.severity]\n50076 = \"info\"\nAADSTS50053 = {{ default = \"low\", refresh = \"high\" }}\n\
         [[apps]]\napp_id = \"{id}\"\nteam = \"bi\"\nseverity = \"info\"\n[[apps]]\nworkspace_id = \"w\"\n"
    ));
    let by_flow = SeverityOverride {
        code: Code::Aadsts(50053),
        default: Some(Severity::Low),
        by_flow: vec![(Flow::Refresh, Severity::High)],
    };
    assert_eq!(
        settings.rules.severity,
        [by_flow, SeverityOverride::constant(Code::Aadsts(50076), Severity::Info)]
    );
    let app = App { alias: None, team: Some("bi".to_owned()), severity: Some(Severity::Info) };
    assert_eq!(settings.apps[&id.to_lowercase()], app);
    assert_eq!(settings.warnings(), ["the id `w` in [[apps]] is no GUID: no record will match it"]);
}

#[test]
fn secrets_come_from_files_and_variables_and_show_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p");
    std::fs::write(&path, "hunter2\n").unwrap();
    let file = format!("sasl.password = {{ file = {:?} }}", path.display().to_string());
    for (line, variables) in [
        (file.as_str(), vec![]),
        ("sasl.password = { env = \"PASS\" }", vec![("PASS", "hunter2")]),
        ("", vec![("AADSTREAM_KAFKA__OPTIONS__SASL_PASSWORD", "hunter2")]),
    ] {
        let forward = "[forward]\ntopic = \"out\"\n";
        let text = format!("{MINIMAL}[kafka.options]\n{line}\n{forward}");
        let own = format!("{MINIMAL}{forward}brokers = \"o:1\"\n[forward.options]\n{line}\n");
        let settings = load_with(&text, &variables).unwrap();
        let shown = show::show(&settings);
        assert_eq!(load_with(&shown, &variables).unwrap().kafka, settings.kafka, "{shown}");
        let consumer = kafka::client_config(&settings);
        assert_eq!(consumer.get("sasl.password"), Some("hunter2"), "{line}");
        for settings in [Some(settings), load_with(&own, &variables).ok()].into_iter().flatten() {
            let producer = producer::producer_config(&settings).unwrap();
            // The variable of the last one is the consumer's.
            let is_ours = producer.get("sasl.password") == Some("hunter2");
            assert!(is_ours || line.is_empty(), "{line}");
            for shown in
                [format!("{settings:?}"), show::show(&settings), format!("{consumer:?} {producer:?}")]
            {
                assert!(!shown.contains("hunter2"), "{shown}");
            }
        }
    }
    check_wrong(
        "kafka.options",
        "sasl.password = { env = \"PASS\" }",
        "cannot use the option `sasl.password`: the variable PASS is not set",
    );
    for line in
        ["sasl.password = \"hunter2\"", "\"ssl.key.pem\" = \"hunter2\"", "\"sasl.password\" = [\"hunter2\"]"]
    {
        let error = load_with(&format!("{MINIMAL}[kafka.options]\n{line}\n"), &[]).unwrap_err().to_string();
        assert!(error.contains("a secret does not stand in the configuration; say where"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn nothing_inside_values_is_expanded() {
    let settings = load(
        "[kafka.options]\n\"sasl.username\" = \"$ConnectionString\"\n\"session.timeout.ms\" = 45000\n\"check.crcs\" = false\n",
    );
    let config = kafka::client_config(&settings);
    assert_eq!(config.get("sasl.username"), Some("$ConnectionString"));
    assert_eq!(config.get("session.timeout.ms"), Some("45000"));
    assert_eq!(config.get("check.crcs"), Some("false"));
}

#[test]
fn one_underscore_too_few_is_pointed_at() {
    let settings =
        load_with(MINIMAL, &[("AADSTREAM_KAFKA_GROUP_ID", "x"), ("AADSTREAM_KAFKA_PORT", "tcp://")]).unwrap();
    assert_eq!(
        settings.warnings(),
        ["the variable AADSTREAM_KAFKA_GROUP_ID is not used; did you mean AADSTREAM_KAFKA__GROUP_ID?"]
    );
}

#[test]
fn what_show_prints_loads_again() {
    let text = format!(
        "{MINIMAL}start = \"-36h\"\nprofile = \"event_hubs\"\ngroup_instance_id = \"a\\\"b\\\\\"\n[kafka.options]\n\
         \"client.rack\" = \"r\"\n[kafka.oauth]\nmethod = \"client_credentials\"\ntoken_url = \"https://h/t\"\n\
         client_id = \"c\"\nclient_secret = {{ env = \"PASS\" }}\n[input]\ntext_entries = \"line\"\nworkers = 3\n\
         [forward]\ntopic = \"out\"\nmin_severity = \"info\"\n[forward.options]\n\"linger.ms\" = 7\n[dead_letters]\n\
         file = \"/f\"\n[dead_letters.policies]\nempty = \"dlq\"\n[rules]\ndir = \"d\"\n[rules.severity]\nAADSTS50076 = {{ text = \"high\" }}\n[log]\nlevel = \"debug\"\n\
         [[apps]]\nworkspace_id = \"0F0F0F0F-0000-0000-0000-000000000001\"\nalias = \"x\"\n"
    );
    let variables = [("PASS", "Endpoint=sb://x")];
    let first = load_with(&text, &variables).unwrap();
    let shown = show::show(&first);
    assert!(shown.contains("a.toml:4") && shown.contains("# default"), "{shown}");
    assert!(shown.contains("enable.idempotence = true") && !shown.contains("sb://x"), "{shown}");
    let second = load_with(&shown, &variables).unwrap();
    assert_eq!(first.kafka, second.kafka);
    assert_eq!((first.input, &first.rules, &first.apps), (second.input, &second.rules, &second.apps));
    assert_eq!((&first.web, first.log, first.metrics), (&second.web, second.log, second.metrics));
    assert_eq!(first.workspaces, second.workspaces);
    assert_eq!((first.forward, first.dead_letters), (second.forward, second.dead_letters));
}

/// `deploy/aadstream.toml` explains every key at its default.
#[test]
fn the_explained_file_is_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/aadstream.toml");
    if !path.exists() {
        return;
    }
    let settings = Settings::load_with(Some(&path), &Environment::default(), true).unwrap();
    let Settings { mut kafka, input, rules, apps, forward, dead_letters, privacy, metrics, web, log, .. } =
        settings;
    assert!(!kafka.brokers.is_empty() && !kafka.topics.is_empty());
    (kafka.brokers, kafka.topics) = Default::default();
    assert_eq!(kafka, Kafka::default());
    assert_eq!((input, rules, privacy), Default::default());
    assert_eq!((forward, dead_letters), Default::default());
    assert_eq!((metrics, web, log), Default::default());
    assert!(apps.is_empty());
    let text = std::fs::read_to_string(&path).unwrap();
    let others = [
        "options",
        "severity",
        "app_id",
        "alias",
        "team",
        "oauth",
        "method",
        "token_url",
        "client_id",
        "client_secret",
        "assertion_file",
        "scope",
        "ca_file",
    ];
    for key in tables::KEYS.iter().chain(&others) {
        let is_explained = text.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.starts_with(&format!("{key} =")) || line.contains(&format!(".{key}]"))
        });
        assert!(is_explained, "deploy/aadstream.toml does not have `{key}`");
    }
}

#[test]
fn a_severity_for_a_code_without_a_rule_is_reported_where_it_stands() {
    let variables = [("AADSTREAM_RULES__SEVERITY__NONSENSE", "low")];
    let table = "[rules.severity]\n7000222 = \"low\"\nAADSTS7000221 = \"low\"\n";
    let settings = load_with(&format!("{MINIMAL}{table}"), &variables).unwrap();
    let problems = settings.load_rules().unwrap_err().to_string();
    for expected in [
        "a.toml:6: cannot use `rules.severity.AADSTS7000221`: no rule has this code; did you mean AADSTS7000222",
        "AADSTREAM_RULES__SEVERITY__NONSENSE: cannot use `rules.severity.nonsense`: no rule has this code; \
         `aadstream rules list` shows all",
        "2 problems",
    ] {
        assert!(problems.contains(expected), "{expected} in {problems}");
    }
}

#[test]
fn a_variable_with_one_underscore_is_named_where_its_key_is_missing() {
    let variables = [("AADSTREAM_KAFKA_BROKERS", "h:1"), ("AADSTREAM_KAFKA__TOPICS", "a")];
    let error = Settings::load_with(None, &Environment::of(variables), true).unwrap_err().to_string();
    let expected =
        "AADSTREAM_KAFKA_BROKERS: this variable is not used; did you mean AADSTREAM_KAFKA__BROKERS?";
    assert!(error.lines().any(|line| line == expected), "{error}");
}

#[test]
fn options_of_an_output_that_is_switched_off_are_shown() {
    let settings = load("[forward.options]\nlinger.ms = 7\n");
    let shown = show::show(&settings);
    assert_eq!(load_with(&shown, &[]).unwrap().forward, settings.forward, "{shown}");
    assert!(!show::show(&load("")).contains("[forward.options]"));
}
