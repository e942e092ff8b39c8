//! `aadstream audit`: proves what was lost or doubled between input and output.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;

use super::terminal;
use crate::audit::{Books, Difference, Kind, Outcome};
use crate::cli::{AuditArgs, AuditEnd, AuditFormat};
use crate::config::{Settings, connect};
use crate::exit_code::{Exit, ExitError};
use crate::service::audit::{End, audit};

pub fn run(args: &AuditArgs) -> anyhow::Result<Exit> {
    let settings = Settings::load(args.config.as_deref())?;
    if settings.forward.topic.is_none() && settings.dead_letters.destination.is_none() {
        let nothing =
            "nothing leaves that could be compared: no `topic` in [forward], and no place in [dead_letters]";
        return Err(ExitError::new(Exit::BadConfig, nothing));
    }
    let catalogue = Arc::new(settings.catalogue()?);
    for brokers in clusters(&settings) {
        terminal::remark(&format!("aadstream: asking {brokers}"));
    }
    connect::reach(&settings).map_err(|problem| {
        ExitError::new(
            Exit::Failure,
            format!("{problem}; nothing was compared. Correct `brokers`, or try again later"),
        )
    })?;
    let end = match args.to {
        AuditEnd::Committed => End::Committed,
        AuditEnd::End => End::Log,
    };
    let books = audit(&settings, catalogue, args.from, end)?;
    let sides: Vec<(&str, Outcome)> = [
        ("events", Kind::Event, settings.forward.topic.is_some()),
        ("dead_letters", Kind::Letter, settings.dead_letters.destination.is_some()),
    ]
    .into_iter()
    .filter(|(_, _, is_kept)| *is_kept)
    .map(|(name, kind, _)| (name, books.outcome(kind)))
    .collect();
    let is_equal = sides.iter().all(|(_, outcome)| outcome.is_equal());
    let text = match args.format {
        AuditFormat::Text => text(&books, &sides, is_equal),
        AuditFormat::Json => json(&books, &sides, is_equal),
    };
    terminal::print(&text)?;
    Ok(if is_equal { Exit::Done } else { Exit::Difference })
}

/// Where the input is, and the output if that is elsewhere.
fn clusters(settings: &Settings) -> impl Iterator<Item = &str> {
    [&*settings.kafka.brokers, &*settings.forward.brokers].into_iter().filter(|brokers| !brokers.is_empty())
}

fn json(books: &Books, sides: &[(&str, Outcome)], is_equal: bool) -> String {
    let mut object = json!({ "schema": 1, "equal": is_equal, "input": books.ranges });
    for (name, outcome) in sides {
        object[*name] = json!(outcome);
    }
    format!("{object:#}\n")
}

fn text(books: &Books, sides: &[(&str, Outcome)], is_equal: bool) -> String {
    let mut text = String::new();
    for range in &books.ranges {
        let _ = write!(text, "{}/{}: offsets {} to {}", range.topic, range.partition, range.from, range.to);
        if range.deleted_before > 0 {
            let _ = write!(text, "; those before {} are deleted and not compared", range.deleted_before);
        }
        text.push('\n');
    }
    for (name, outcome) in sides {
        let Outcome { expected, found, lost, doubled, copies, unexpected, outside, retold } = outcome;
        let name = name.replace('_', " ");
        let _ = writeln!(
            text,
            "{name}: {expected} expected, {found} found, {} lost, {} doubled, {} unexpected",
            lost.count, doubled.count, unexpected.count
        );
        if *copies > 0 {
            let _ = writeln!(text, "  {copies} copies more than one of each");
        }
        if *outside > 0 {
            let _ = writeln!(text, "  {outside} of messages outside these offsets");
        }
        if *retold > 0 {
            let _ = writeln!(text, "  {retold} refreshes told again from a later poll, after a restart");
        }
        for (what, difference) in [("lost", lost), ("doubled", doubled), ("unexpected", unexpected)] {
            list(&mut text, what, difference);
        }
    }
    text.push_str(if is_equal { "equal\n" } else { "different\n" });
    text
}

fn list(text: &mut String, what: &str, difference: &Difference) {
    for id in &difference.first {
        let _ = writeln!(text, "  {what} {id}");
    }
    let more = difference.count - difference.first.len() as u64;
    if more > 0 {
        let _ = writeln!(text, "  {what} {more} more");
    }
}
