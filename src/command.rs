//! The subcommands: one file each, each a function from arguments to an exit code.

use crate::cli::{Cli, Command};
use crate::exit_code::Exit;

pub mod explain;
pub mod rules;

/// Runs what the command line asked for.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Explain(args) => explain::run(&args),
        Command::Rules(command) => rules::run(&command),
        _ => todo!(),
    }
}
