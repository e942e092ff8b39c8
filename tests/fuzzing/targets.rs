//! Mutated input against the laws, one target a run: `AADSTREAM_FUZZ` names it. `tests/fuzz` builds this and runs it.
//!
//! A panic anywhere is a finding, also one that the program itself would catch.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

mod config;
mod decode;
mod rules;
mod scan;
mod web;

static TARGET: LazyLock<fn(&[u8])> =
    LazyLock::new(|| match std::env::var("AADSTREAM_FUZZ").unwrap_or_default().as_str() {
        "decode" => decode::check,
        "scan" => scan::check,
        "config" => config::check,
        "rules" => rules::check,
        "web" => web::check,
        other => panic!("AADSTREAM_FUZZ={other} is no target"),
    });

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
