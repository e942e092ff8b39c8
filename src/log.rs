//! Sets up the log on stderr, and keeps repeated lines rare.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;

use crate::config::LogFormat;

/// Starts the log; a second call changes nothing, so that tests may call it.
pub fn init(format: LogFormat, level: Level) {
    let filter = LevelFilter::from_level(level);
    let builder =
        tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr).with_target(false);
    let _already_set = match format {
        LogFormat::Text => builder.with_ansi(is_colored()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Shows where the program panicked, and nothing else: a panic's message may quote a record. One in the middle is caught
/// and counted.
pub fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, "a bug: the program panicked here");
        } else {
            // Where stderr is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "aadstream: a bug: the program panicked at {place}");
        }
    }));
}

fn is_colored() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Lets one line through at once and then one every `every`, with the number of those it held back.
#[derive(Debug)]
pub struct Rarely {
    every: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl Rarely {
    pub const fn new(every: Duration) -> Self {
        Self { every, state: Mutex::new((None, 0)) }
    }

    /// `Some(held back since the last line)` if a line may be written now.
    pub fn permit(&self) -> Option<u64> {
        let mut state = self.state.lock().expect("no code panics while it holds this lock");
        let now = Instant::now();
        if state.0.is_some_and(|last| now.duration_since(last) < self.every) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_held_back_and_counted() {
        let rarely = Rarely::new(Duration::from_secs(3600));
        assert_eq!([rarely.permit(), rarely.permit(), rarely.permit()], [Some(0), None, None]);
        let always = Rarely::new(Duration::ZERO);
        assert_eq!([always.permit(), always.permit()], [Some(0), Some(0)]);
    }
}
