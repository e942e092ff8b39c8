//! Laws of the repository that a search can hold.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    // A file named tests.rs is the tests of its folder.
    found.retain(|path| !path.ends_with("tests.rs"));
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The part of a source file before its tests.
fn production(text: &str) -> &str {
    let tests = ["#[cfg(test)]\nmod ", "#[cfg(test)]\npub", "#[cfg(test)]\n#["]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min();
    &text[..tests.unwrap_or(text.len())]
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent =
        files("src", ".rs").into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name);
    assert_none(&silent.collect::<Vec<_>>());
}

#[test]
fn the_codemap_names_every_file_and_no_other() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> =
        map.split('`').filter(|word| word.starts_with("src/") && word.ends_with(".rs")).collect();
    let sources = files("src", ".rs");
    let missing = sources
        .iter()
        .filter(|(name, _)| !named.contains(&name.as_str()))
        .map(|(name, _)| format!("not in the codemap: {name}"));
    let ghosts =
        named.iter().filter(|name| !root().join(name).exists()).map(|name| format!("no such file: {name}"));
    let lib = ["not in the codemap: src/lib.rs".to_owned()];
    assert_none(&missing.chain(ghosts).filter(|problem| !lib.contains(problem)).collect::<Vec<_>>());
}

#[test]
fn libraries_stay_in_their_rooms() {
    let rooms: [(&str, &[&str]); 5] = [
        ("rdkafka::", &["src/service", "src/config", "src/demo/broker.rs"]),
        ("prometheus::", &["src/metrics"]),
        ("ureq::", &["src/config/token.rs"]),
        ("openssl::", &["src/web"]),
        ("unsafe_code", &["src/digest/simd.rs", "src/service/commit.rs", "src/service/steady.rs"]),
    ];
    let mut problems = Vec::new();
    for (name, text) in files("src", ".rs") {
        for (word, allowed) in rooms {
            if production(&text).contains(word) && !allowed.iter().any(|room| name.starts_with(room)) {
                problems.push(format!("{name} names {word}"));
            }
        }
        let is_middle = name.starts_with("src/digest");
        for word in
            ["std::fs", "std::io::std", "tokio", "tracing::", "Instant::now", "SystemTime", "println!"]
        {
            if is_middle && production(&text).contains(word) {
                problems.push(format!("{name} is of the pure middle and names {word}"));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn no_code_number_stands_in_the_source() {
    let mut problems = Vec::new();
    for (name, text) in files("src", ".rs") {
        for (number, line) in production(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let spelled = code
                .match_indices("AADSTS")
                .any(|(at, _)| code[at + 6..].starts_with(|c: char| c.is_ascii_digit()));
            // The help of the demo shows one code as an example of what to type.
            if spelled && !code.contains("aadstream explain") {
                problems.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn nothing_is_left_to_do() {
    let mut problems = Vec::new();
    for (name, text) in files("src", ".rs").into_iter().chain(files("deploy", "")).chain(files("benches", ""))
    {
        for word in ["TODO", "FIXME", "todo!(", "unimplemented!(", "dbg!("] {
            if text.contains(word) {
                problems.push(format!("{name}: {word}"));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn readme_lists_every_metric() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let families = fs::read_to_string(root().join("src/metrics/families.rs")).unwrap();
    let names = families.split('"').filter(|word| word.starts_with("aadstream_"));
    let missing: Vec<String> = names.filter(|name| !readme.contains(*name)).map(str::to_owned).collect();
    assert_none(&missing);
}
