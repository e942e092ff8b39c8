//! `aadstream scan`: counts the codes in files, folders or stdin.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{signals, terminal};
use crate::cli::{ScanArgs, ScanFormat};
use crate::config::Settings;
use crate::digest::tally::{Detail, Tally};
use crate::digest::{Digest, Middle, Position};
use crate::exit_code::{Exit, ExitError};
use crate::files::buffer::Buffer;
use crate::files::feed::{Feed, Piece};
use crate::files::{self, Source};
use crate::metrics::{Metrics, MetricsOptions};
use crate::report::Report;
use crate::report::table::{self, Layout};
use crate::window::{Old, Window};

pub fn run(args: &ScanArgs) -> anyhow::Result<Exit> {
    let paths = if args.paths.is_empty() { vec![PathBuf::from("-")] } else { args.paths.clone() };
    if args.paths.is_empty() && io::stdin().is_terminal() {
        let message = "nothing to scan: name files or folders, or pipe a log into `aadstream scan`";
        return Err(ExitError::new(Exit::Usage, message));
    }
    signals::exit_on_interrupt();
    let settings = Settings::load_optional(args.config.as_deref())?;
    let catalogue = Arc::new(settings.catalogue()?);
    let detail = if args.format == ScanFormat::Prometheus { Detail::Apps } else { Detail::Codes };
    let options = settings.digest_options(detail, args.format == ScanFormat::Events);
    let (sources, errors) = files::list(&paths);
    let apps = settings.apps;
    let metrics = (args.format == ScanFormat::Prometheus).then(|| {
        let options = MetricsOptions { birth_hold: Duration::ZERO, apps, ..MetricsOptions::default() };
        Metrics::new(&catalogue, options)
    });
    let scan = Scan::new(Middle::new(Arc::clone(&catalogue), options), metrics, &sources);
    errors.iter().for_each(|error| scan.report_error(error));
    let mut tally = match args.format {
        ScanFormat::Events => scan.in_order(&sources),
        ScanFormat::Table | ScanFormat::Json | ScanFormat::Prometheus => {
            scan.parallel(&sources, threads(args.threads)).tally
        }
    };
    scan.progress.finish_and_clear();
    scan.read.take_warnings().iter().for_each(|warning| terminal::remark(&format!("aadstream: {warning}")));
    // What stands between records, and what was only scanned raw, is of the files too.
    tally.bytes = scan.read.plain.load(Ordering::Relaxed);
    let report = Report::new(sources.len() as u64, tally, &catalogue);
    match args.format {
        ScanFormat::Table => {
            let layout =
                Layout { width: terminal::width(), is_colored: terminal::style().is_colored, top: args.top };
            terminal::print(&table::render(&report, layout))?;
        }
        ScanFormat::Json => terminal::print(&format!("{}\n", report.json()))?,
        ScanFormat::Prometheus | ScanFormat::Events => {}
    }
    if let Some(metrics) = &scan.metrics {
        terminal::print(&exposition(metrics, &report))?;
    }
    let fails = args.fail_on.is_some_and(|limit| report.severity().is_some_and(|severity| severity >= limit));
    Ok(match scan.errors.load(Ordering::Relaxed) {
        0 if fails => Exit::FailOn,
        0 => Exit::Done,
        _ => Exit::Failure,
    })
}

/// The counts in the text exposition format, as a service that had read the same would show them.
fn exposition(metrics: &Metrics, report: &Report<'_>) -> String {
    metrics.consumed(TOPIC, report.tally.messages, report.tally.bytes);
    let (_, text) = metrics.encode(false);
    String::from_utf8(text).expect("labels are UTF-8")
}

fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        asked => asked,
    }
}

/// Metrics of files say this in the place of a topic.
const TOPIC: &str = "scan";

struct Scan {
    middle: Middle,
    /// Counts by tenant, app and dataset, where they are asked for: only there do they have a limit.
    metrics: Option<Metrics>,
    read: Arc<files::Progress>,
    errors: AtomicU64,
    progress: ProgressBar,
    window: Mutex<Window>,
}

impl Scan {
    fn new(middle: Middle, metrics: Option<Metrics>, sources: &[Source]) -> Self {
        let progress = progress(sources);
        let (read, errors, window) = (Arc::default(), AtomicU64::new(0), Mutex::default());
        Self { middle, metrics, read, errors, progress, window }
    }

    /// Prints an error once and remembers that there was one; the scan goes on.
    fn report_error(&self, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.progress.suspend(|| terminal::remark(&format!("aadstream: {error:#}")));
    }

    /// Reads and digests in this thread and prints the events on the way, in the order of the input.
    fn in_order(&self, sources: &[Source]) -> Tally {
        let mut tally = Tally::default();
        for source in sources {
            let mut place = Place { name: source.name(), ..Place::default() };
            let result = self.pieces(source, |feed, piece| {
                let mut digest = Digest::default();
                files::digest_piece(&self.middle, &piece, &place.position(), &mut digest);
                self.admit(&mut digest);
                place.advance(&piece, &digest.tally);
                let mut lines = String::new();
                for event in &digest.events {
                    lines.push_str(&event.body());
                    lines.push('\n');
                }
                tally.merge(digest.tally);
                if let Piece::Lines(bytes) | Piece::Elements { bytes, .. } | Piece::Rows { bytes, .. } = piece
                {
                    feed.recycle(bytes);
                }
                terminal::print(&lines)
            });
            if let Err(error) = result {
                self.report_error(&error);
            }
        }
        tally
    }

    /// Gives every piece of `source` to `take`.
    fn pieces(
        &self,
        source: &Source,
        mut take: impl FnMut(&mut Feed<'_>, Piece) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut feed = Feed::new(&self.middle, files::open(source, &self.read)?);
        loop {
            let piece = feed.next_piece().with_context(|| format!("cannot read {}", source.name()))?;
            self.progress.set_position(self.read.packed.load(Ordering::Relaxed));
            match piece {
                Some(piece) => take(&mut feed, piece)?,
                None => return Ok(()),
            }
        }
    }

    /// Each of `threads` takes a piece and digests it, in turn: what was just read is still in its core's cache.
    fn parallel<'s>(&'s self, sources: &'s [Source], threads: usize) -> Digest {
        let input = Mutex::new(Pile { sources: sources.iter(), open: None });
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work(&input))).collect();
            let mut digest = Digest::default();
            for worker in workers {
                digest.merge(worker.join().expect("a panic in the middle is caught there"));
            }
            digest
        })
    }

    fn work<'s>(&'s self, input: &Mutex<Pile<'s>>) -> Digest {
        let mut whole = Digest::default();
        let mut spare = None;
        loop {
            let next =
                input.lock().expect("no code panics while it holds this lock").next(self, spare.take());
            let Some((name, piece)) = next else { return whole };
            let position = Position { topic: &name, ..Position::default() };
            let mut digest = Digest::default();
            files::digest_piece(&self.middle, &piece, &position, &mut digest);
            self.admit(&mut digest);
            if let Some(metrics) = &self.metrics {
                metrics.record(&digest.tally, TOPIC);
                digest.tally.forget_details();
            }
            whole.merge(digest);
            if let Piece::Lines(bytes) | Piece::Elements { bytes, .. } | Piece::Rows { bytes, .. } = piece {
                spare = Some(bytes);
            }
        }
    }

    fn admit(&self, digest: &mut Digest) {
        if !digest.held.is_empty() {
            let mut window = self.window.lock().expect("no code panics while it holds this lock");
            digest.admit(&self.middle, |held| window.judge(held, None, Old::IsNew));
        }
    }
}

/// What is still to be read.
struct Pile<'s> {
    sources: std::slice::Iter<'s, Source>,
    open: Option<(Arc<str>, Feed<'s>)>,
}

impl<'s> Pile<'s> {
    /// The next piece of the input and the name of its file. `spare` is the caller's last buffer.
    fn next(&mut self, scan: &'s Scan, spare: Option<Buffer>) -> Option<(Arc<str>, Piece)> {
        if let (Some((_, feed)), Some(spare)) = (&mut self.open, spare) {
            feed.recycle(spare);
        }
        loop {
            let Some((name, feed)) = &mut self.open else {
                let source = self.sources.next()?;
                match files::open(source, &scan.read) {
                    Ok(reader) => self.open = Some((source.name().into(), Feed::new(&scan.middle, reader))),
                    Err(error) => scan.report_error(&error),
                }
                continue;
            };
            let piece = feed.next_piece();
            scan.progress.set_position(scan.read.packed.load(Ordering::Relaxed));
            match piece {
                Ok(Some(piece)) => return Some((Arc::clone(name), piece)),
                Ok(None) => self.open = None,
                Err(error) => {
                    scan.report_error(&anyhow::Error::new(error).context(format!("cannot read {name}")));
                    self.open = None;
                }
            }
        }
    }
}

/// Where the next message of a file stands.
#[derive(Default)]
struct Place {
    name: String,
    offset: i64,
    index: u32,
}

impl Place {
    fn position(&self) -> Position<'_> {
        Position { topic: &self.name, partition: 0, offset: self.offset, index: self.index }
    }

    fn advance(&mut self, piece: &Piece, tally: &Tally) {
        self.offset += i64::try_from(tally.messages).unwrap_or(i64::MAX);
        let elements = tally.records.iter().flatten().sum::<u64>() + tally.duplicates.iter().sum::<u64>();
        let rejected: u64 = tally.rejected_records.iter().sum();
        self.index = match piece {
            Piece::Elements { is_last: false, .. } | Piece::Oversized { ends_array: Some(false), .. } => {
                self.index.saturating_add(u32::try_from(elements + rejected).unwrap_or(u32::MAX))
            }
            _ => 0,
        };
    }
}

/// Shown on a terminal only: bytes, rate and time left.
fn progress(sources: &[Source]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let size = |source: &Source| match source {
        Source::Stdin => None,
        Source::File(path) => std::fs::metadata(path).ok().map(|metadata| metadata.len()),
    };
    let total: Option<u64> = sources.iter().map(size).sum();
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
