//! Embeds the rules: lists `rules/codes/*.md` by name; the program parses them at start like any other rule file.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the manifest's directory"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the output directory"));
    let directory = root.join("rules/codes");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=rules/codes");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("rules/codes can be listed")
        .map(|entry| entry.expect("rules/codes can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    fs::write(out.join("embedded.rs"), list(&files)).expect("the output directory can be written");
}

/// The source text of one slice of (file name, content).
fn list(files: &[PathBuf]) -> String {
    let mut source = String::from("&[\n");
    for file in files {
        let name = file.file_name().and_then(OsStr::to_str).expect("rule files have plain names");
        let file = file.to_str().expect("the path of the repository is UTF-8");
        writeln!(source, "    ({name:?}, include_str!({file:?})),").expect("a String takes every write");
    }
    source.push_str("]\n");
    source
}
