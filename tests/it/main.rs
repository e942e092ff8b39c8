//! The one test binary: each module looks at the program from outside.

#![expect(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod demo;
mod explain;
#[cfg(feature = "failpoints")]
mod failpoints;
mod laws;
mod messages;
mod metrics;
mod neighbours;
mod privacy;
mod rules;
mod scan;
mod tidy;
