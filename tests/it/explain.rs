//! `aadstream explain`: spellings, pasted texts, formats and exit codes.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

const SECRET: &str = "AADSTS7000222";

struct Printed {
    stdout: String,
    stderr: String,
}

#[track_caller]
fn explain(arguments: &[&str], stdin: &str, expected: i32) -> Printed {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aadstream"))
        .arg("explain")
        .args(arguments)
        .env("COLUMNS", "60")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read stdin may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(expected), "{arguments:?}\n{stdout}\n{stderr}");
    Printed { stdout, stderr }
}

#[test]
fn every_spelling_prints_the_same_page() {
    let page = explain(&[SECRET], "", 0).stdout;
    assert!(page.starts_with("AADSTS7000222: Client secret expired\n"), "{page}");
    let page_of_microsoft = "https://login.microsoftonline.com/error?lc=1033&amp;code=7000222";
    for arguments in [
        ["7000222"],
        ["aadsts7000222:"],
        ["AADSTS 7000222"],
        ["AADSTS7000222: expired keys"],
        ["{\"error_codes\":[7000222]}"],
        [page_of_microsoft],
    ] {
        assert_eq!(explain(&arguments, "", 0).stdout, page);
    }
    assert_eq!(explain(&["-"], "error AADSTS7000222: expired", 0).stdout, page);
}

#[test]
fn readme_shows_a_rule_as_it_is_printed() {
    let readme = include_str!("../../README.md");
    let shown = readme.split("````text\n").nth(1).and_then(|rest| rest.split("\n````").next()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aadstream"))
        .args(["explain", SECRET])
        .env("COLUMNS", "80")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        shown,
        printed.trim_end(),
        "put the output of `COLUMNS=80 aadstream explain 7000222` into README.md"
    );
}

#[test]
fn a_page_fits_a_narrow_terminal() {
    let page = explain(&[SECRET], "", 0).stdout;
    let is_command =
        |line: &str| line.contains("https://") || line.starts_with("       ") || line.contains("AADSTS");
    for line in page.lines().filter(|line| !is_command(line)) {
        assert!(line.chars().count() <= 60, "{line}");
    }
}

#[test]
fn json_of_a_code_is_one_object_and_of_a_text_primary_and_mentions() {
    let object: Value = serde_json::from_str(&explain(&["--format", "json", SECRET], "", 0).stdout).unwrap();
    assert_eq!(object["code"], SECRET);
    assert_eq!(object["severity"], serde_json::json!({ "default": "critical" }));
    for key in ["causes", "fix", "prevent", "related", "references", "do_not_confuse", "flows"] {
        assert!(object[key].is_array(), "{key}");
    }
    for key in ["name", "summary", "title", "category", "example"] {
        assert!(object[key].is_string(), "{key}");
    }
    let text = "AADSTS99999999: x AADSTS7000222: y";
    let pasted: Value = serde_json::from_str(&explain(&["--format", "json", text], "", 0).stdout).unwrap();
    assert_eq!(pasted["primary"], object);
    assert_eq!(pasted["mentions"][0]["known"], false);
    assert_eq!(pasted["mentions"][1]["code"], SECRET);
}

#[test]
fn several_codes_are_several_pages() {
    let printed = explain(&["7000222", "50126", "99999999"], "", 5);
    let titles: Vec<&str> = printed.stdout.lines().filter(|line| line.starts_with("AADSTS")).collect();
    assert_eq!(titles, ["AADSTS7000222: Client secret expired", "AADSTS50126: Wrong user name or password"]);
    assert!(printed.stderr.starts_with("aadstream: AADSTS99999999 is not in"), "{}", printed.stderr);
    let json = explain(&["--format", "json", "7000222", "50126"], "", 0).stdout;
    let array: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&array[0]["code"], &array[1]["code"]), (&SECRET.into(), &"AADSTS50126".into()));
}

#[test]
fn of_many_failures_the_first_are_shown_and_the_rest_is_counted() {
    let codes = [50001, 50011, 50012, 50013, 50020, 50034, 50053, 50055, 50057, 50058, 50059, 50076];
    let records: String =
        codes.map(|code| format!("{{\"category\":\"SignInLogs\",\"resultType\":{code}}}\n")).concat();
    let page = explain(&["-"], &records, 0).stdout;
    assert_eq!(page.lines().filter(|line| line.starts_with("────")).count(), 9, "{page}");
    assert!(
        page.ends_with("\n2 more failures stand in the text; `aadstream scan` counts them all\n"),
        "{page}"
    );
}

#[test]
fn what_a_pasted_record_tells_comes_first() {
    let record = "{\n \"category\": \"SignInLogs\",\n \"resultType\": 50053,\n \
                  \"resultDescription\": \"blocked, malicious\"\n}\n";
    let page = explain(&["-"], record, 0).stdout;
    let [told, other] =
        ["The text says \"malicious\"", "If the text says"].map(|words| page.find(words).unwrap());
    assert!(told < other, "{page}");
    let json = explain(&["--format", "json", "-"], record, 0).stdout;
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&object["flow"], &object["variant"]), (&"interactive".into(), &"malicious_ip".into()));
    let user = record.replace("50053", "50126");
    let page = explain(&["-"], &user, 0).stdout;
    assert!(
        page.contains("How bad, who acts\n  low     user           failure    interactive, as the text"),
        "{page}"
    );
}

#[test]
fn markdown_is_the_page_without_its_head() {
    let page = explain(&["--format", "markdown", SECRET], "", 0).stdout;
    assert!(page.starts_with("# AADSTS7000222: Client secret expired\n"), "{page}");
}

#[test]
fn an_unknown_code_may_be_real() {
    let stderr = explain(&["99999999"], "", 5).stderr;
    assert!(stderr.contains("https://login.microsoftonline.com/error?code=99999999"), "{stderr}");
    assert!(explain(&["7000223"], "", 5).stderr.contains("did you mean AADSTS7000222"));
}

#[test]
fn a_text_without_a_code_is_one_line_on_stderr() {
    for text in ["hello", "nothing to see here", "123", "123456789", "007000222"] {
        let printed = explain(&[text], "", 5);
        assert_eq!(printed.stdout, "");
        assert_eq!(printed.stderr.lines().count(), 1, "{}", printed.stderr);
    }
}

#[test]
fn colours_come_only_when_asked_for() {
    assert!(!explain(&[SECRET], "", 0).stdout.contains('\u{1b}'));
    assert!(explain(&["--color", "always", SECRET], "", 0).stdout.contains("\u{1b}[1m"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aadstream"))
        .args(["rules", "list", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}
