//! Rules and severities are taken anew while the service runs: whole, or not at all.

use std::fs;
use std::os::unix::fs::symlink;

use crate::running::Running;

fn failure(code: u32) -> Vec<u8> {
    format!("{{\"category\":\"SignInLogs\",\"resultType\":\"{code}\"}}").into_bytes()
}

/// A rule of the operator's own.
fn rule(code: &str, title: &str) -> String {
    format!(
        "```toml\ntier = 2\ncategory = \"mfa\"\nflows = [\"interactive\"]\noutcome = \"failure\"\nseverity = \"high\"\n\
         audience = \"user\"\ntransient = false\nrelated = []\nreferences = [\"https://learn.microsoft.com/x\"]\n```\n\n\
         # {code}: {title}\n\nWhat happened.\n\n## Causes\n\n1. One cause.\n\n## Fix\n\n1. Do this.\n2. Verify: it is gone.\n\n\
         ## Example\n\n```text\n{code}: a line.\n```\n"
    )
}

fn event(code: &str, severity: &str) -> String {
    let outcome = "outcome=\"failure\"";
    format!("aadstream_events_total{{code=\"{code}\",flow=\"interactive\",{outcome},severity=\"{severity}\"")
}

const RELOADS: &str = "aadstream_rules_reloads_total";
const FAILURES: &str = "aadstream_rules_reload_failures_total";
const SUCCESSFUL: &str = "aadstream_rules_last_reload_successful";

#[test]
fn a_hangup_takes_rules_and_severities_anew() {
    let running = Running::start("", &[]);
    running.produce([failure(50_126), failure(7_999_999)]);
    running.wait_read(2);
    assert_eq!(running.sum(&event("AADSTS50126", "low")), 1.0);
    assert_eq!(running.sum("aadstream_unknown_codes_total{code=\"AADSTS7999999\"}"), 1.0);
    assert_eq!([RELOADS, FAILURES, SUCCESSFUL].map(|name| running.sum(&format!("{name} "))), [0.0, 0.0, 1.0]);

    fs::create_dir(running.path("rules")).unwrap();
    fs::write(running.path("rules/AADSTS7999999.md"), rule("AADSTS7999999", "Our own code")).unwrap();
    let rules = format!(
        "[rules]\ndir = {:?}\n[rules.severity]\nAADSTS50126 = \"critical\"\n[input]\nworkers = 3\n",
        running.path("rules")
    );
    running.configure(&rules);
    running.signal("HUP");
    running.wait("the new rules are in force", |it| (it.sum(&format!("{RELOADS} ")) == 1.0).then_some(()));
    let metrics = running.get("/metrics");
    for line in [
        "aadstream_rule_info{code=\"AADSTS7999999\",title=\"Our own code\",category=\"mfa\",fix=\"Do this.\",",
        "aadstream_rules_loaded{origin=\"override\"} 1",
        "aadstream_mentions_total{code=\"AADSTS7999999\"} 0",
        &event("AADSTS7999999", "high"),
        &event("AADSTS50126", "critical"),
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line}");
    }
    let described =
        metrics.lines().filter(|line| line.starts_with("aadstream_rule_info{code=\"AADSTS50126\"")).count();
    assert_eq!(described, 1, "one row a code, or joins fail");

    running.produce([failure(50_126), failure(7_999_999)]);
    running.wait_read(4);
    for (severity, count) in [("low", 1.0), ("critical", 1.0)] {
        assert_eq!(running.sum(&event("AADSTS50126", severity)), count, "{severity}");
    }
    assert_eq!(running.sum(&event("AADSTS7999999", "high")), 1.0);
    let line = running.logged("rules read anew", 0);
    assert!(line.contains("own=1 severities=1"), "{line}");
    running.logged(" WARN [input] changed too; that needs a restart", 0);
}

#[test]
fn a_changed_key_of_pseudonyms_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let person = || {
        br#"{"category":"SignInLogs","resultType":"50126","properties":{"userId":"u","appId":"a"}}"#.to_vec()
    };
    let more = format!("[forward]\ntopic = \"out\"\n[privacy]\npseudonym_key_file = {key:?}\n");
    fs::write(&key, [1; 32]).unwrap();
    let running = Running::start(&more, &[]);
    running.produce([person(), person()]);
    running.wait_read(2);
    fs::write(&key, "short").unwrap();
    let response = running.ask("POST", "/-/reload", "");
    assert!(response.starts_with("HTTP/1.1 500") && response.contains("has 5 bytes"), "{response}");
    running.produce([person()]);
    running.wait_read(3);
    fs::write(&key, [2; 32]).unwrap();
    running.logged("rules read anew", 0);
    running.produce([person()]);
    running.wait_read(4);

    let mut principals: Vec<String> =
        running.events(4).iter().map(|event| event["principal"].as_str().unwrap().to_owned()).collect();
    principals.sort();
    principals.dedup();
    assert_eq!(principals.len(), 2, "one a key, the bad one none");
    assert!(!running.log().contains("needs a restart"), "{}", running.log());
}

#[test]
fn a_set_with_a_mistake_is_refused_whole() {
    let running = Running::start("", &[]);
    fs::create_dir(running.path("rules")).unwrap();
    fs::write(running.path("rules/AADSTS7999999.md"), rule("AADSTS7999999", "Our own code")).unwrap();
    fs::write(running.path("rules/AADSTS50126.md"), "no rule").unwrap();
    let dir = format!("dir = {:?}\n", running.path("rules"));
    let before = running.get("/metrics");
    let rules = |metrics: &str| -> Vec<String> {
        metrics
            .lines()
            .filter(|line| line.starts_with("aadstream_rule"))
            .filter(|line| !line.contains("_reload"))
            .map(str::to_owned)
            .collect()
    };
    let sets = [
        (format!("[rules]\n{dir}"), "AADSTS50126.md"),
        ("[rules.severity]\nAADSTS50126 = \"hihg\"\n".to_owned(), "did you mean `high`?"),
        ("[rules.severity]\nAADSTS7999998 = \"high\"\n".to_owned(), "no rule has this code"),
        ("[rules]\ndir = \"/no/such/folder\"\n".to_owned(), "cannot read the directory"),
        ("[rules\n".to_owned(), "not TOML"),
    ];
    for (number, (set, words)) in sets.iter().enumerate() {
        running.configure(set);
        let response = running.ask("POST", "/-/reload", "");
        assert!(response.starts_with("HTTP/1.1 500"), "{response}");
        assert!(response.contains("the rules in force stay: ") && response.contains(words), "{response}");
        let line = running.logged(" ERROR ", number);
        assert!(line.contains("the rules in force stay: ") && line.contains(words), "{line}");
        assert_eq!(running.sum(&format!("{FAILURES} ")), number as f64 + 1.0);
        assert_eq!(running.sum(&format!("{SUCCESSFUL} ")), 0.0);
    }
    assert_eq!(rules(&running.get("/metrics")), rules(&before));
    running.produce([failure(50_126)]);
    running.wait_read(1);
    assert_eq!(running.sum(&event("AADSTS50126", "low")), 1.0);

    running.configure("");
    let response = running.ask("POST", "/-/reload", "");
    assert!(response.starts_with("HTTP/1.1 200") && response.contains("rules are in force"), "{response}");
    assert_eq!([RELOADS, SUCCESSFUL].map(|name| running.sum(&format!("{name} "))), [1.0, 1.0]);
}

#[test]
fn nothing_is_lost_or_doubled_while_rules_change() {
    let running = Running::start("", &[]);
    let total = 6_000;
    for round in 0..12_u32 {
        running.produce((0..total / 12).map(|_| failure(50_126)));
        let severity = ["low", "high", "critical"][round as usize % 3];
        running.configure(&format!("[rules.severity]\nAADSTS50126 = {severity:?}\n"));
        let response = running.ask("POST", "/-/reload", "");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    running.wait_read(total);
    assert_eq!(running.sum("aadstream_events_total{code=\"AADSTS50126\""), total as f64);
    assert_eq!(running.sum("aadstream_events_total{"), total as f64);
    assert_eq!(running.terminate().0.code(), Some(0));
}

#[test]
fn only_a_post_of_no_web_page_reloads_and_only_where_it_is_allowed() {
    let running = Running::start("", &[]);
    assert!(running.get("/-/reload").starts_with("HTTP/1.1 405"));
    let from_page = running.ask("POST", "/-/reload", "Origin: https://evil.example\r\n");
    assert!(from_page.starts_with("HTTP/1.1 403"), "{from_page}");
    let off = Running::start("", &[("AADSTREAM_WEB__LIFECYCLE", "false")]);
    let refused = off.ask("POST", "/-/reload", "");
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains("set [web] lifecycle = true"),
        "{refused}"
    );
    for running in [running, off] {
        assert_eq!(running.sum(&format!("{RELOADS} ")) + running.sum(&format!("{FAILURES} ")), 0.0);
    }
}

/// As Kubernetes updates a `ConfigMap`: the files are links into a folder behind a link, and that is swapped.
#[test]
fn changed_files_are_taken_up_by_themselves() {
    let running = Running::start("", &[]);
    let publish = |name: &str, rule: &str| {
        fs::create_dir(running.path(name)).unwrap();
        fs::write(running.path(name).join("AADSTS7999999.md"), rule).unwrap();
        symlink(name, running.path("new")).unwrap();
        fs::rename(running.path("new"), running.path("data")).unwrap();
    };
    publish("first", &rule("AADSTS7999999", "Our own code"));
    fs::create_dir(running.path("rules")).unwrap();
    symlink("../data/AADSTS7999999.md", running.path("rules/AADSTS7999999.md")).unwrap();
    running.configure(&format!("[rules]\ndir = {:?}\n", running.path("rules")));
    let shows = |title: &str| {
        let words = format!("aadstream_rule_info{{code=\"AADSTS7999999\",title={title:?}");
        running.wait(title, |it| it.get("/metrics").contains(&words).then_some(()));
    };
    shows("Our own code");

    publish("second", "no rule");
    running.wait("the bad set is refused", |it| (it.sum(&format!("{SUCCESSFUL} ")) == 0.0).then_some(()));
    shows("Our own code");
    publish("third", &rule("AADSTS7999999", "Our better code"));
    shows("Our better code");
    assert_eq!([RELOADS, FAILURES, SUCCESSFUL].map(|name| running.sum(&format!("{name} "))), [2.0, 1.0, 1.0]);
}

#[test]
fn a_new_password_brings_a_new_consumer_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "first").unwrap();
    let variable = ("AADSTREAM_KAFKA__OPTIONS__SASL_PASSWORD__FILE", path.to_str().unwrap());
    // The broker in the process waits that long, less a second, for a member that has left.
    let session = ("AADSTREAM_KAFKA__OPTIONS__SESSION_TIMEOUT_MS", "6000");
    let running = Running::start("", &[variable, session]);
    running.produce((0..1_000).map(|_| failure(50_126)));
    running.wait_read(1_000);
    fs::write(&path, "").unwrap();
    running.logged("ERROR the consumer in place stays: the secret", 0);
    fs::write(&path, "second").unwrap();
    let rebuilds = "aadstream_consumer_rebuilds_total{reason=\"files\"}";
    let mut sent = 1_000;
    running.wait("another consumer takes over", |it| {
        it.produce([failure(50_126)]);
        sent += 1;
        (it.sum(rebuilds) == 1.0).then_some(())
    });
    running.produce((0..1_000).map(|_| failure(50_126)));
    running.wait_read(sent + 1_000);
    assert_eq!(running.sum("aadstream_events_total{"), sent as f64 + 1_000.0);
    running.configure("");
    assert!(running.ask("POST", "/-/reload", "").starts_with("HTTP/1.1 200"));
    running.logged("rules read anew", 0);
    assert!(!running.log().contains("needs a restart"), "{}", running.log());
}
