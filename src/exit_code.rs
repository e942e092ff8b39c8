//! What each exit code promises. README lists them; scripts and service managers rely on them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done, also when some input was rejected or a signal asked a service to stop.
    Done = 0,
    /// A run-time failure; for `scan`, some path could not be read.
    Failure = 1,
    /// The command line was wrong.
    Usage = 2,
    /// The configuration was wrong.
    BadConfig = 3,
    /// The rules were wrong.
    BadRules = 4,
    /// `explain` does not know the code.
    UnknownCode = 5,
    /// `scan --fail-on` was met.
    FailOn = 6,
    /// `audit` found a difference.
    Difference = 7,
    /// SIGINT ended `scan` or `explain`; a second signal ended `run` or `demo`.
    Interrupted = 130,
}

/// The same for the manual page.
pub const MEANINGS: [(Exit, &str); 9] = [
    (Exit::Done, "Done, also after a signal asked a service to stop."),
    (Exit::Failure, "A run-time failure; scan: some path could not be read."),
    (Exit::Usage, "The command line was wrong."),
    (Exit::BadConfig, "The configuration was wrong."),
    (Exit::BadRules, "The rules were wrong."),
    (Exit::UnknownCode, "explain: the code is unknown, or the text spells none."),
    (Exit::FailOn, "scan: an event of the severity of --fail-on or above was found."),
    (Exit::Difference, "audit: something was lost, doubled or unexpected."),
    (Exit::Interrupted, "scan, explain: interrupted; run, demo: interrupted twice."),
];

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends the program with a code of its own; every other error ends it with [`Exit::Failure`].
#[derive(Debug)]
pub struct ExitError {
    pub exit: Exit,
    pub message: String,
}

impl ExitError {
    #[expect(clippy::new_ret_no_self, reason = "callers only ever want it as the error that they return")]
    pub fn new(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { exit, message: message.into() })
    }
}

impl std::fmt::Display for ExitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExitError {}
