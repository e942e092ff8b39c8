//! `aadstream config check` and `config show`.

use std::path::Path;

use crate::cli::ConfigCommand;
use crate::config::{Settings, connect, kafka, producer, show};
use crate::exit_code::{Exit, ExitError};

/// Runs the subcommand.
pub fn run(command: &ConfigCommand) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Check { config, connect } => check(config.as_deref(), *connect),
        ConfigCommand::Show { config } => {
            print(show::show(&Settings::load_optional(config.as_deref())?).trim_end());
            Ok(Exit::Done)
        }
    }
}

fn check(path: Option<&Path>, connects: bool) -> anyhow::Result<Exit> {
    let settings = Settings::load(path)?;
    let name = path.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
    let mut problems = Vec::new();
    let mut warnings = settings.warnings().to_vec();
    for checked in [kafka::check(&settings), producer::check(&settings)] {
        match checked {
            Ok(more) => warnings.extend(more),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    if let Err(problem) = settings.web_access() {
        problems.push(format!("{name}: {problem}"));
    }
    if let Err(found) = settings.load_rules() {
        problems.extend(found.iter().map(ToString::to_string));
    }
    if !problems.is_empty() {
        let heading = match problems.len() {
            1 => String::new(),
            n => format!("the configuration has {n} problems\n"),
        };
        return Err(ExitError::new(Exit::BadConfig, format!("{heading}{}", problems.join("\n"))));
    }
    print(&format!("{name}: no problems"));
    for warning in warnings {
        print(&format!("{name}: warning: {warning}"));
    }
    if connects {
        match connect::check_connection(&settings) {
            Ok(found) => found.iter().for_each(|line| print(&format!("{name}: {line}"))),
            Err(wrong) => {
                let lines: Vec<String> = wrong.iter().map(|line| format!("{name}: {line}")).collect();
                return Err(ExitError::new(Exit::Failure, lines.join("\n")));
            }
        }
    }
    Ok(Exit::Done)
}

/// A closed pipe ends the output quietly.
fn print(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}
