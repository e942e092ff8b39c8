//! The one test binary: each module looks at the program from outside.

#![expect(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod access;
mod allocations;
mod canaries;
mod cardinality;
mod demo;
mod explain;
mod forward;
mod hostile;
#[cfg(feature = "failpoints")]
mod failpoints;
mod laws;
mod messages;
mod metrics;
mod neighbours;
mod privacy;
#[allow(dead_code, reason = "each of two test programs uses a part of it")]
#[path = "../e2e/proxy.rs"]
mod proxy;
mod reload;
mod rules;
mod running;
mod scan;
mod stalls;
mod tidy;
