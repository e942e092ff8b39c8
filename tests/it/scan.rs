//! `aadstream scan` as a user meets it: what it prints, and how it ends.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

fn scanner(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aadstream"));
    command.arg("scan").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn scan(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = scanner(args).spawn().unwrap();
    // A scan that ends before it has read everything closes the pipe, which is fine.
    let _closed = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn json_of(args: &[&str], stdin: &[u8]) -> Value {
    let output = scan(&[&["--format", "json"], args].concat(), stdin);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn failure(code: u32) -> String {
    format!("{{\"category\":\"SignInLogs\",\"time\":\"2026-11-20T03:14:50Z\",\"resultType\":\"{code}\"}}\n")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_object_has_the_keys_of_the_contract() {
    let report = json_of(&[], format!("{}{}", failure(7000222), failure(50126)).as_bytes());
    assert_eq!(report["schema"], 1);
    assert_eq!(report["files"], 1);
    assert_eq!(report["messages"], 2);
    assert_eq!(report["records"], 2);
    assert_eq!(report["text_lines"], 0);
    assert_eq!(report["outcomes"], json!({"success":0,"interrupt":0,"failure":2,"undetermined":0,"other":0}));
    assert_eq!(
        report["kinds"]["sign_in"],
        json!({"records":2,"success":0,"interrupt":0,"failure":2,"undetermined":0})
    );
    assert_eq!(report["rejected"]["invalid_json"], 0);
    let code = &report["codes"][0];
    assert_eq!(code["code"], "AADSTS50126");
    assert_eq!(code["flows"], json!({"interactive": 1}));
    assert_eq!(code["first"], "2026-11-20T03:14:50.000Z");
    for key in
        ["known", "title", "category", "severity", "audience", "fix", "events", "mentions", "kinds", "last"]
    {
        assert!(!code[key].is_null(), "{key}");
    }
}

#[test]
fn files_folders_and_packed_files_count_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.json"), failure(50126)).unwrap();
    fs::write(path("b.json.gz"), gzip(failure(50126).as_bytes())).unwrap();
    fs::write(path("c.zst"), zstd::encode_all(failure(50126).as_bytes(), 1).unwrap()).unwrap();
    fs::write(path(".hidden"), failure(50126)).unwrap();
    fs::create_dir(path("inner")).unwrap();
    fs::write(path("inner/d.log"), "x AADSTS50126: text\nmore text\n").unwrap();
    let report = json_of(&[folder.path().to_str().unwrap()], b"");
    assert_eq!(
        (&report["files"], &report["records"], &report["text_lines"]),
        (&json!(4), &json!(3), &json!(2))
    );
    assert_eq!(report["codes"][0]["events"], 4);
}

#[test]
fn the_order_of_threads_changes_nothing() {
    let lines: String = (0..20_000).map(|number| failure(50_000 + number % 300)).collect();
    let one = json_of(&["--threads", "1"], lines.as_bytes());
    let four = json_of(&["--threads", "4"], lines.as_bytes());
    assert_eq!(one, four);
    assert_eq!(one["records"], 20_000);
}

#[track_caller]
fn check_exit(args: &[&str], stdin: &[u8], code: i32, stderr: &str) {
    let output = scan(args, stdin);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(stderr), "{stderr:?} in {said:?}");
    assert!(said.lines().count() <= 1 || code == 2, "one line: {said}");
}

#[test]
fn every_end_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = gzip(failure(50126).repeat(1000).as_bytes());
    let broken = write("broken.gz", &whole[..whole.len() / 2]);
    let critical = failure(7000222);
    check_exit(&["-"], b"{broken", 0, "");
    check_exit(&["/no/such/file"], b"", 1, "cannot read /no/such/file");
    check_exit(&[&broken], b"", 1, "broken.gz");
    check_exit(&[&write("cut.gz", &whole[..2])], b"", 1, "cut.gz");
    let padded = write("padded.gz", &[&whole[..], b"xyz"].concat());
    check_exit(&[&padded], b"", 0, "padded.gz: trailing garbage ignored");
    check_exit(&["--no-such-flag"], b"", 2, "--no-such-flag");
    check_exit(&["--fail-on", "critical"], critical.as_bytes(), 6, "");
    check_exit(&["--fail-on", "critical"], failure(50126).as_bytes(), 0, "");
    check_exit(&["--fail-on", "critical", &broken, "-"], critical.as_bytes(), 1, "broken.gz");
    check_exit(&["--fail-on", "loud"], b"", 2, "possible values: info, low,");
}

#[test]
fn kinds_flows_and_times_are_those_of_events() {
    let record = failure(50126).replace('}', ",\"resultDescription\":\"AADSTS70002: x\"}");
    let report = json_of(&[], record.as_bytes());
    let [reason, mentioned] = ["AADSTS50126", "AADSTS70002"]
        .map(|code| report["codes"].as_array().unwrap().iter().find(|row| row["code"] == code).unwrap());
    assert_eq!((&reason["events"], &reason["mentions"]), (&json!(1), &json!(1)));
    assert_eq!((&reason["kinds"], &reason["flows"]), (&json!({"sign_in": 1}), &json!({"interactive": 1})));
    assert_eq!((&mentioned["events"], &mentioned["mentions"]), (&json!(0), &json!(1)));
    assert_eq!((&mentioned["kinds"], &mentioned["flows"]), (&json!({}), &json!({})));
    assert_eq!((mentioned.get("first"), mentioned.get("last")), (None, None));
}

#[test]
fn exports_of_the_portal_are_sign_ins() {
    let old = "CreatedDateTime,UserPrincipalName,AppDisplayName,Status,RiskState\n\
               11/20/2026 3:12:45 AM,a@example.invalid,Mail,Success,none\n\
               11/20/2026 3:12:46 AM,,,Failure,none\n11/20/2026 3:12:47 AM,,Mail,Interrupted,none\n";
    let report = json_of(&["-"], old.as_bytes());
    let outcomes = ["success", "failure", "interrupt"].map(|outcome| &report["kinds"]["sign_in"][outcome]);
    assert_eq!(outcomes, [1, 1, 1], "{report}");
    let app = "Date (UTC),Request ID,Managed identity ID,Application,Status,Sign-in error code,Managed Identity type\n\
               2026-11-20T03:12:45Z,r,m,Job,Failure,7000222,User assigned\n\
               2026-11-20T03:12:45Z,r,m,Job,Failure,7000222,None\n2026-11-20T03:12:45Z,r,,Job,Failure,7000222,\n";
    let flows = &json_of(&["-"], app.as_bytes())["codes"][0]["flows"];
    assert_eq!(
        *flows,
        serde_json::json!({"interactive": 1, "service_principal": 1, "managed_identity": 1}),
        "{flows}"
    );
}

#[test]
fn numbers_and_times_that_say_nothing_cost_no_record() {
    let text = r#"{"category":"SignInLogs","resultType":-0,"properties":{"isInteractive":1e400}}
{"records":[{"category":"SignInLogs","resultType":"50126","properties":{"latency":1e400,"createdDateTime":"0001-01-01T00:00:00Z"},
"time":"2026-11-20T03:12:45Z"}],"count":1e400}
{"category":"SignInLogs","resultType":1e400}"#;
    let report = json_of(&["-"], text.as_bytes());
    let outcomes = ["success", "failure", "undetermined"].map(|outcome| &report["outcomes"][outcome]);
    assert_eq!(outcomes, [1, 1, 1], "{report}");
    assert_eq!(report["codes"][0]["first"], "2026-11-20T03:12:45.000Z");
}

#[test]
fn utf16_that_ends_in_half_a_character_says_so() {
    let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        format!("\u{feff}{}", failure(50126)).encode_utf16().flat_map(order).collect()
    };
    for whole in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
        let report = json_of(&[], &whole);
        assert_eq!((&report["records"], &report["messages"]), (&json!(1), &json!(1)));
        let report = json_of(&[], &[&whole[..], b"{"].concat());
        assert_eq!((&report["records"], &report["rejected"]["invalid_utf8"]), (&json!(1), &json!(1)));
        assert_eq!(report["text_lines"], 0);
    }
}

#[test]
fn bytes_are_those_of_the_files() {
    let csv =
        "\u{feff}Date (UTC),Request ID,Status,Sign-in error code\r\n\r\n2026,\"a\"\"b\",Failure,50126\r\n\n";
    let record = failure(50126);
    let array = format!("{{\"records\": [ {} ],\"n\":1}}\n", vec![record.trim(); 5_000].join(" , "));
    for text in [csv, &array, "\n\ntext\n", ""] {
        for bytes in [text.as_bytes(), &gzip(text.as_bytes())] {
            assert_eq!(json_of(&[], bytes)["bytes"], text.len(), "{}", &text[..text.len().min(80)]);
        }
    }
}

#[test]
fn what_a_corrupt_file_held_before_the_fault_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gz");
    let whole = gzip(
        &(0..50_000u32).flat_map(|number| failure(50_000 + number % 9000).into_bytes()).collect::<Vec<u8>>(),
    );
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let report = json_of(&[path.to_str().unwrap()], b"");
    assert!(report["records"].as_u64().unwrap() > 10_000, "{}", report["records"]);
}

#[test]
fn events_come_one_a_line_with_ids_of_their_own() {
    let text = format!("{}{}text AADSTS50020: y\n", failure(50126), failure(0));
    let output = scan(&["--format", "events"], text.as_bytes());
    let events: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["stdin/0/0/0", "stdin/0/2/0"]);
    assert_eq!((&events[0]["code"], &events[0]["flow"]), (&json!("AADSTS50126"), &json!("interactive")));
    assert_eq!(events[1]["kind"], "text");
}

#[test]
fn memory_stays_bounded_over_one_endless_record() {
    // 96 MiB in one value: held, it would show in the peak.
    const MIB: usize = 1 << 20;
    let mut child = scanner(&["--format", "json"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"{\"a\":\"").unwrap();
    for _ in 0..96 {
        stdin.write_all(&vec![b'x'; MIB]).unwrap();
    }
    // All but what fits into the pipe was read by now, and the child waits for more.
    let peak = peak_bytes(child.id());
    stdin.write_all(format!("AADSTS50126: deep inside\"}}\n{}", failure(50053)).as_bytes()).unwrap();
    drop(stdin);
    let report: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((&report["records"], &report["rejected"]["too_large"]), (&json!(1), &json!(1)));
    assert_eq!(report["codes"].as_array().unwrap().len(), 2);
    if cfg!(target_os = "linux") {
        let peak = peak.expect("Linux says how much memory a process had at most");
        assert!((MIB..100 * MIB).contains(&peak), "{} MiB", peak / MIB);
    }
}

/// The most memory that a running process has held so far; `None` where the system does not say.
fn peak_bytes(process: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().map(|kib: usize| kib * 1024)
}
