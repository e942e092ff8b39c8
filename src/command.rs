//! The subcommands: one file each, each a function from arguments to an exit code.

use crate::cli::{Cli, Command};
use crate::exit_code::Exit;

mod config;

/// Runs what the command line asked for.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Config(command) => config::run(&command),
        _ => todo!(),
    }
}
