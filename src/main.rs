//! The `aadstream` program: parse the command line, run the command, print the one error, exit with its code.

use std::process::ExitCode;

use clap::Parser;

use aadstream::cli::Cli;
use aadstream::exit_code::{Exit, ExitError};

fn main() -> ExitCode {
    match aadstream::command::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place where an error is printed")]
            {
                eprintln!("aadstream: {error:#}");
            }
            error.downcast_ref::<ExitError>().map_or(Exit::Failure, |error| error.exit).into()
        }
    }
}
