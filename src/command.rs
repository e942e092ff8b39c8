//! The subcommands: one file each, each a function from arguments to an exit code.

use clap::CommandFactory;

use crate::cli::{Cli, Color, Command};
use crate::exit_code::Exit;

pub mod audit;
pub mod config;
pub mod demo;
pub mod explain;
mod exposition;
mod manual;
mod reload;
pub mod rules;
pub mod run;
pub mod scan;
mod signals;
pub mod terminal;

/// Runs what the command line asked for.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    crate::log::guard_panics();
    match cli.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    match cli.command {
        Command::Explain(args) => explain::run(&args),
        Command::Rules(command) => rules::run(&command),
        Command::Scan(args) => scan::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Completions { shell } => completions(shell),
        Command::Man => manual::run(),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "aadstream", &mut script);
    terminal::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
