//! Embeds the rules, and the revision of the clone that it is built in.
//!
//! Lists `rules/codes/*.md` by name; the program parses them at start like any other rule file.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
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
    // Whoever builds outside a clone may set the variable himself.
    println!("cargo::rerun-if-env-changed=AADSTREAM_REVISION");
    if env::var_os("AADSTREAM_REVISION").is_none()
        && let Some(revision) = revision(&root.join(".git"))
    {
        println!("cargo::rustc-env=AADSTREAM_REVISION={revision}");
    }
}

/// The commit that is checked out, read as git keeps it: where images are built there may be no git to ask.
fn revision(dot_git: &Path) -> Option<String> {
    // In a worktree `.git` is a file that says where its own directory is, and that where the common one is.
    let own = match fs::read_to_string(dot_git) {
        Ok(text) => dot_git.parent()?.join(text.trim().strip_prefix("gitdir: ")?),
        Err(_) => dot_git.to_owned(),
    };
    let common = match fs::read_to_string(own.join("commondir")) {
        Ok(path) => own.join(path.trim()),
        Err(_) => own.clone(),
    };
    let head = fs::read_to_string(own.join("HEAD")).ok()?;
    let reference = head.trim().strip_prefix("ref: ");
    // One that is not there would be a reason to build anew every time. The log of HEAD grows with every commit.
    let packed = common.join("packed-refs");
    let loose = common.join(reference.unwrap_or("HEAD"));
    for file in [&own.join("HEAD"), &own.join("logs/HEAD"), &loose, &packed] {
        if file.is_file() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    let commit = match reference {
        None => head,
        Some(reference) => fs::read_to_string(&loose).ok().or_else(|| {
            let all = fs::read_to_string(&packed).ok()?;
            let commit = all.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' '))?;
            Some(commit.to_owned())
        })?,
    };
    let commit = commit.trim();
    (commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| commit.to_owned())
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
