//! Digests a fixed corpus, for `valgrind --tool=callgrind` to count the instructions of: see `benches/instructions`.
//!
//! Instruction counts do not change with the load of the machine, so a build that needs more of them is a slower one.

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::sync::Arc;

use aadstream::catalogue::Catalogue;
use aadstream::digest::{Digest, Framing, Input, Middle, Options, Position};
use records::Layout;

#[path = "corpus/records.rs"]
mod records;

fn main() {
    let middle = Middle::new(Arc::new(Catalogue::embedded()), Options::default());
    for layout in [Layout::Lines, Layout::Batches, Layout::Text] {
        let options = records::Options { bytes: 2 << 20, failures: 10, layout, spaced: false, seed: 1 };
        let mut bytes = Vec::new();
        let truth = records::write(&options, &mut bytes).expect("memory takes everything");
        // Rules are read when they are first asked for; that is start-up, not the stream.
        digest(&middle, &bytes);
        let digest = counted(&middle, &bytes);
        let events: u64 = digest.tally.events.values().map(|events| events.count).sum();
        assert_eq!(events, truth.failures, "what is measured must be right");
        println!("{layout:?}: {} bytes, {} records, {events} failures", bytes.len(), truth.records);
    }
}

/// The instructions of this function, and of what it calls, are counted.
#[inline(never)]
fn counted(middle: &Middle, bytes: &[u8]) -> Digest {
    digest(middle, bytes)
}

fn digest(middle: &Middle, bytes: &[u8]) -> Digest {
    let source = Position::default();
    middle.digest(&[Input { payload: Some(bytes), framing: Framing::Lines, timestamp_ms: None, source }])
}
