//! Writes a seeded corpus, and what is in it.
//!
//! `corpus --bytes 200000000 --failures 10 --layout lines|batches|text [--spaced] [--seed 1] [--truth FILE]` writes to stdout.

#![expect(clippy::print_stderr, clippy::exit, reason = "a program of its own")]

use std::io::{self, BufWriter, Write as _};

use records::{Layout, Options};

#[path = "corpus/records.rs"]
mod records;

fn main() -> io::Result<()> {
    let (options, path) = options();
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let truth = records::write(&options, &mut out)?;
    out.flush()?;
    if let Some(path) = path {
        let codes: Vec<String> =
            truth.codes.iter().map(|(code, count)| format!("\"AADSTS{code}\":{count}")).collect();
        let json = format!(
            "{{\"records\":{},\"failures\":{},\"codes\":{{{}}}}}\n",
            truth.records,
            truth.failures,
            codes.join(",")
        );
        std::fs::write(path, json)?;
    }
    Ok(())
}

/// Also the file that the truth goes to.
fn options() -> (Options, Option<String>) {
    let mut options =
        Options { bytes: 200_000_000, failures: 10, layout: Layout::Lines, spaced: false, seed: 1 };
    let mut truth = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--bytes" => options.bytes = number(&value()),
            "--failures" => {
                options.failures = usize::try_from(number(&value())).unwrap_or(usize::MAX).min(100);
            }
            "--seed" => options.seed = number(&value()),
            "--truth" => truth = Some(value()),
            "--layout" => match value().as_str() {
                "lines" => options.layout = Layout::Lines,
                "batches" => options.layout = Layout::Batches,
                "text" => options.layout = Layout::Text,
                other => usage(&format!("unknown layout {other}")),
            },
            "--spaced" => options.spaced = true,
            other => usage(&format!("unknown argument {other}")),
        }
    }
    (options, truth)
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| usage(&format!("{text} is no number")))
}

fn usage(problem: &str) -> ! {
    eprintln!(
        "corpus: {problem}\nusage: corpus --bytes N --failures PERCENT --layout lines|batches|text [--spaced] [--seed N] [--truth FILE]"
    );
    std::process::exit(2)
}
