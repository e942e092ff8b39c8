//! Where commands print: width, colours, and a reader that went away.

use std::env;
use std::io::{self, IsTerminal, Write};

use crate::catalogue::render::Style;

/// Longer lines are hard to read; without a terminal nobody says how wide one is.
const TEXT_WIDTH_MAX: usize = 100;
const WIDTH_MIN: usize = 40;

/// Columns of the terminal, `COLUMNS` first; `None` for a pipe of unknown width.
pub fn width() -> Option<usize> {
    let asked =
        env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let measured = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let width = if io::stdout().is_terminal() { asked.or_else(measured) } else { asked };
    width.map(|width| width.max(WIDTH_MIN))
}

/// Lines of the terminal, if there is one.
pub fn height() -> Option<usize> {
    terminal_size::terminal_size().map(|(_, height)| usize::from(height.0))
}

/// How text is laid out on stdout. `--color` has set the global choice; `NO_COLOR` is honoured by `anstream`.
pub fn style() -> Style {
    Style {
        width: width().unwrap_or(TEXT_WIDTH_MAX).min(TEXT_WIDTH_MAX),
        is_colored: anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
    }
}

/// Prints to stdout. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// A remark for a person that is no result.
pub fn remark(text: &str) {
    // Where stderr is closed there is nobody to tell.
    let _: io::Result<()> = writeln!(io::stderr(), "{text}");
}
