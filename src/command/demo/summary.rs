//! What the demo shows while it runs: on a terminal a picture that is drawn anew, elsewhere a line now and then.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::super::exposition::{samples, whole};
use crate::catalogue::Catalogue;
use crate::cli::DemoArgs;
use crate::code::Code;
use crate::command::terminal;
use crate::report::table::thousands;
use crate::service::Service;
use crate::terms::Severity;

/// Between two pictures.
const REDRAW: Duration = Duration::from_millis(500);

/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Codes in the picture.
const CODES: usize = 12;

/// Stories below them.
const STORIES: usize = 4;

/// Longer codes are names; they push the meaning aside in their own line.
const CODE_WIDTH: usize = 14;

/// Below this who acts makes room for the meaning.
const NARROW: usize = 80;

/// Said once, on stderr.
pub fn introduction(address: &str, args: &DemoArgs) -> String {
    let how_long = match args.duration {
        Some(duration) => format!("for {duration:?}, or until Ctrl-C"),
        None => "until Ctrl-C".to_owned(),
    };
    let what = match args.rate {
        0 => "A broker and the service run in this process, without traffic,".to_owned(),
        rate => format!(
            "A broker, {} messages a second of a tenant's traffic and the service run in this process,",
            thousands(rate.into())
        ),
    };
    format!(
        "{what} {how_long}.\nMetrics: http://{address}/metrics. A code's meaning: aadstream explain AADSTS7000222. \
         Joining the group takes 3 s."
    )
}

/// The picture.
pub struct Live {
    is_terminal: bool,
    drawn_at: Option<Instant>,
    lines: usize,
}

/// Events of one code.
#[derive(Default)]
struct Row {
    events: u64,
    severity: Option<Severity>,
    audience: String,
}

impl Live {
    pub const fn new(is_terminal: bool) -> Self {
        Self { is_terminal, drawn_at: None, lines: 0 }
    }

    pub fn draw(
        &mut self,
        elapsed: Duration,
        sent: u64,
        stories: &[String],
        service: &Service,
        catalogue: &Catalogue,
    ) {
        let every = if self.is_terminal { REDRAW } else { LINE };
        if self.drawn_at.is_some_and(|drawn| drawn.elapsed() < every) {
            return;
        }
        self.drawn_at = Some(Instant::now());
        let (_, text) = service.metrics.encode(false);
        let text = String::from_utf8_lossy(&text);
        let (records, rows) = read(&text);
        if self.is_terminal {
            self.picture(&render(elapsed, sent, records, &rows, stories, catalogue));
        } else {
            let events: u64 = rows.values().map(|row| row.events).sum();
            terminal::remark(&format!(
                "{:>4} s  {sent} messages sent, {records} records and {events} failures and interrupts counted",
                elapsed.as_secs()
            ));
        }
    }

    /// Draws over the last picture.
    fn picture(&mut self, picture: &str) {
        let mut out = String::new();
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A", self.lines);
        }
        for line in picture.lines() {
            let _ = writeln!(out, "\x1b[2K{line}");
        }
        let lines = picture.lines().count();
        for _ in lines..self.lines {
            out.push_str("\x1b[2K\n");
        }
        self.lines = self.lines.max(lines);
        // A terminal that is gone is noticed by the signal that follows.
        let _gone = std::io::stderr().write_all(out.as_bytes());
    }

    pub fn finish(&self) {
        if self.is_terminal && self.lines > 0 {
            terminal::remark("");
        }
    }
}

/// Records, and events by code, as a scrape shows them.
fn read(text: &str) -> (u64, BTreeMap<String, Row>) {
    let mut records = 0;
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for sample in samples(text).filter(|sample| sample.value > 0.0) {
        match sample.name {
            "aadstream_records_total" => records += whole(sample.value),
            "aadstream_events_total" => {
                let row = rows.entry(sample.label("code").to_owned()).or_default();
                row.events += whole(sample.value);
                let severity = Severity::parse(sample.label("severity"));
                if severity > row.severity {
                    row.severity = severity;
                    sample.label("audience").clone_into(&mut row.audience);
                }
            }
            _ => {}
        }
    }
    (records, rows)
}

fn render(
    elapsed: Duration,
    sent: u64,
    records: u64,
    rows: &BTreeMap<String, Row>,
    stories: &[String],
    catalogue: &Catalogue,
) -> String {
    let width = terminal::width().unwrap_or(100);
    let audience = |word: &str| if width < NARROW { String::new() } else { format!("{word:14}  ") };
    let mut lines = vec![
        String::new(),
        format!(
            "{:>4} s   {} messages sent   {} records counted",
            elapsed.as_secs(),
            thousands(sent),
            thousands(records)
        ),
        String::new(),
        format!("{:>8}  {:8}  {}{:CODE_WIDTH$}  meaning", "events", "severity", audience("who acts"), "code"),
    ];
    let mut sorted: Vec<(&String, &Row)> = rows.iter().collect();
    sorted.sort_by(|a, b| b.1.severity.cmp(&a.1.severity).then(b.1.events.cmp(&a.1.events)));
    let others = lines.len() + STORIES + 2;
    let room = terminal::height().map_or(CODES, |height| height.saturating_sub(others).clamp(1, CODES));
    for (code, row) in sorted.iter().take(room) {
        lines.push(format!(
            "{:>8}  {:8}  {}{:CODE_WIDTH$}  {}",
            thousands(row.events),
            row.severity.map_or("", Severity::as_str),
            audience(&row.audience),
            code,
            title(code, catalogue)
        ));
    }
    lines.push(String::new());
    lines.extend(stories.iter().take(STORIES).map(|story| format!("now: {story}")));
    lines.iter().map(|line| cut(line, width) + "\n").collect()
}

/// `text` in at most so many columns.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn title(code: &str, catalogue: &Catalogue) -> String {
    // The label of all codes without a rule is no code itself.
    let code = catalogue.find(code).unwrap_or(if code == "none" { Code::None } else { Code::Unknown });
    crate::digest::event::title(catalogue, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_keeps_to_the_terminal() {
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".to_owned(), "ab…".to_owned()));
    }

    #[test]
    fn a_long_name_is_shown_whole() {
        let name = "ModelRefreshFailed_CredentialsNotSpecified";
        let row = Row { events: 3, severity: Some(Severity::High), audience: "dataset_owner".to_owned() };
        let rows = BTreeMap::from([(name.to_owned(), row)]);
        let picture = render(Duration::ZERO, 0, 0, &rows, &[], &Catalogue::embedded());
        assert!(picture.contains(name), "{picture}");
    }

    #[test]
    fn every_label_has_a_meaning() {
        let catalogue = Catalogue::embedded();
        assert_eq!(title("AADSTS7000222", &catalogue), "Client secret expired");
        assert_eq!(title("none", &catalogue), "Failure without a code");
        assert_eq!(title("unknown", &catalogue), "Code without a rule in the catalogue");
    }
}
