//! `aadstream man`: one page for the whole program, a section for each subcommand.

use std::io::{self, Write};

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::terminal;
use crate::cli::Cli;
use crate::exit_code::{Exit, MEANINGS};

pub fn run() -> anyhow::Result<Exit> {
    let page = page().context("cannot write the manual page")?;
    terminal::print(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Done)
}

fn page() -> io::Result<Vec<u8>> {
    let cli = Cli::command();
    let mut page = Vec::new();
    let man = Man::new(cli.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for command in cli.get_subcommands() {
        section(command, cli.get_name(), &mut page)?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for (exit, meaning) in MEANINGS {
        writeln!(page, ".TP\n\\fB{}\\fR\n{meaning}", exit as u8)?;
    }
    Ok(page)
}

/// The command line, what it does, its options; of a group of commands those of each.
fn section(command: &clap::Command, of: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("{of} {}", command.get_name());
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|inner| section(inner, &name, page));
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut command = command.clone().bin_name(&name).disable_help_flag(true).disable_version_flag(true);
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).replace('-', "\\-");
    writeln!(page, ".SH \"{}\"\n\\fB{usage}\\fR\n.PP\n{about}.", name.to_uppercase())?;
    if command.get_arguments().next().is_some() {
        let mut options = Vec::new();
        Man::new(command).render_options_section(&mut options)?;
        // The section is ours already: what stands up to the heading would only repeat it.
        let options = String::from_utf8_lossy(&options);
        let (_, items) = options.split_once(".SH OPTIONS\n").unwrap_or_default();
        page.extend(items.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_section_with_its_options() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        for expected in [
            ".SH \"AADSTREAM RULES LIST\"\n\\fBaadstream rules list [OPTIONS] [TEXT]...\\fR\n",
            ".SH \"AADSTREAM CONFIG CHECK\"\n",
            "\\-\\-fail\\-on",
            "\\-\\-outcome",
            ".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\n",
            "\\fB130\\fR\n",
        ] {
            assert!(page.contains(expected), "{expected} in {page}");
        }
        assert_eq!(page.matches(".SH OPTIONS").count(), 1);
        assert!(!page.contains("(1)\n"), "no page is named that is not there");
    }
}
