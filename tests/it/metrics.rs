//! Names, types and labels of metrics are a contract; `tests/golden/metrics.txt` holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use aadstream::catalogue::Catalogue;
use aadstream::digest::Admission;
use aadstream::digest::tally::Detail;
use aadstream::digest::{Digest, Framing, Input, Middle, Options, Position};
use aadstream::metrics::{Metrics, MetricsOptions};
use std::sync::Arc;

const INPUT: &str = concat!(
    r#"{"workspaceId":"w","datasetId":"d","refreshes":[{"requestId":"r1","refreshType":"Scheduled","status":"Failed","endTime":"2026-11-20T03:12:46Z","serviceExceptionJson":"AADSTS50173: x"},{"requestId":"r2","refreshType":"Scheduled","status":"Completed","endTime":"2026-11-20T03:12:46Z"}]}"#,
    "\n",
    r#"{"records":[{"category":"SignInLogs","tenantId":"t","resultType":"50126","properties":{"appId":"a\"\n","appDisplayName":"App"}},7]}"#,
    "\n",
    r#"{"category":"SignInLogs","resultType":"7999999"}"#,
    "\ntext AADSTS123\n",
);

fn digest(middle: &Middle) -> Digest {
    let input = Input {
        payload: Some(INPUT.as_bytes()),
        framing: Framing::Lines,
        timestamp_ms: Some(1_763_600_000_000),
        source: Position::default(),
    };
    let mut digest = middle.digest(&[input]);
    digest.admit(middle, |_| Admission::New);
    digest
}

fn exposition() -> String {
    let catalogue = Arc::new(Catalogue::embedded());
    let options = Options { detail: Detail::Apps, ..Options::default() };
    let middle = Middle::new(Arc::clone(&catalogue), options);
    let metrics =
        Metrics::new(&catalogue, MetricsOptions { birth_hold: Duration::ZERO, ..MetricsOptions::default() });
    metrics.declare_topic("topic");
    metrics.declare_forwarding("out");
    metrics.record(&digest(&middle).tally, "topic");
    metrics.lag("topic", 0, 5, 1000);
    metrics.last_commit("topic", 0, 1000);
    metrics.last_progress("topic", 0, 1000);
    String::from_utf8(metrics.encode(false).1).unwrap()
}

/// `type name{labels}`, a line a family.
fn families(text: &str) -> String {
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let set = labels.entry(family.to_owned()).or_default();
            set.extend(
                line.split("=\"")
                    .filter_map(|part| part.rsplit(['{', ',']).next())
                    .map(str::to_owned)
                    .filter(|label| line.contains(&format!("{label}=\""))),
            );
        }
    }
    let line = |(name, kind): (&String, &String)| {
        let labels: Vec<&str> = labels.get(name).into_iter().flatten().map(String::as_str).collect();
        format!("{kind} {name}{{{}}}\n", labels.join(","))
    };
    kinds.iter().map(line).collect()
}

#[test]
fn names_types_and_labels_are_those_of_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    let found = families(&exposition());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&path).unwrap(), "UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn the_books_balance() {
    let text = exposition();
    let sum = |prefix: &str| -> f64 {
        text.lines()
            .filter(|line| line.starts_with(prefix))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    assert_eq!(sum("aadstream_messages_processed_total{"), 4.0);
    assert_eq!(sum("aadstream_messages_rejected_total{"), 0.0);
    assert_eq!(sum("aadstream_records_rejected_total{"), 1.0, "the number in the batch");
    assert_eq!(sum("aadstream_records_total{"), 4.0);
    assert_eq!(sum("aadstream_text_lines_total"), 1.0);
    assert_eq!(sum("aadstream_malformed_codes_total"), 1.0);
    assert_eq!(sum("aadstream_events_total{"), 3.0);
    assert_eq!(sum("aadstream_events_total{code=\"unknown\""), 1.0);
    assert_eq!(sum("aadstream_unknown_codes_total{code=\"AADSTS7999999\""), 1.0);
    assert_eq!(sum("aadstream_refreshes_total{"), 2.0);
    assert!(text.contains("app_id=\"invalid\""), "what is no id is no label");
    assert!(!text.contains("app_id=\"\""), "no label is empty");
}

#[test]
fn what_is_deployed_asks_for_metrics_that_exist() {
    let golden =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt")).unwrap();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut unknown = BTreeSet::new();
    for file in ["prometheus/alerts.yml", "grafana/aadstream.json"] {
        let text = fs::read_to_string(deploy.join(file)).unwrap();
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let name = word.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
            if name.starts_with("aadstream_") && !golden.contains(&format!(" {name}{{")) {
                unknown.insert(format!("{file}: {name}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_revision_of_a_clone_is_known() {
    let text = exposition();
    let line = text.lines().find(|line| line.starts_with("aadstream_build_info{")).unwrap();
    let revision = line.split("revision=\"").nth(1).unwrap().split('"').next().unwrap();
    let is_clone = Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists();
    assert_eq!(is_clone, revision != "unknown", "{line}");
}
