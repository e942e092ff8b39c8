//! The pure middle: from the bytes of messages to counts and events.
//!
//! `unpack → frame → fields → found → tally`, and `event` where somebody wants events. Everything here takes bytes and
//! gives values: no I/O, no clock, no log. The service, `scan`, the golden tests and the benches call the same
//! [`Middle::digest`].

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::terms::{Reason, Severity};

pub mod unpack;
mod simd;
pub mod structure;
pub mod resume;
pub mod frame;
pub mod table;
pub mod fields;
pub mod scan;
pub mod time;
pub mod found;
pub mod tally;
pub mod event;
pub mod pseudonym;
mod pieces;

use event::{Event, EventOptions, Source};
use found::{Found, Reader};
use frame::{Entries, EnvelopeIds};
use pieces::Pieces;
use scan::{Mentions, Scanner};
use table::Header;
use tally::{Detail, Tally};
use time::Millis;

/// One message, or a piece of a file that holds whole messages.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `None` is a Kafka tombstone.
    pub payload: Option<&'a [u8]>,
    pub framing: Framing<'a>,
    /// Kafka's time of the message.
    pub timestamp_ms: Option<Millis>,
    pub source: Position<'a>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position<'a> {
    /// A topic, or the path of a file.
    pub topic: &'a str,
    pub partition: i32,
    /// Of a file: the number of the first message in this piece.
    pub offset: i64,
    /// Of the first record in this piece, within its message.
    pub index: u32,
}

/// How the bytes of an input are laid out.
#[derive(Clone, Copy, Debug)]
pub enum Framing<'a> {
    /// One Kafka message.
    Message,
    /// A piece of a file: every top-level value and every line of text is a message.
    Lines,
    /// Elements of an array that began in an earlier piece of the file; they belong to one message.
    Elements(EnvelopeIds<'a>),
    /// Rows of a CSV export, each a message.
    Rows(&'a Header),
}

/// What the middle takes from the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Messages and records above this are rejected and scanned raw.
    pub max_message_bytes: usize,
    /// Text in a Kafka message is one entry, or one a line.
    pub text_entries: Entries,
    pub detail: Detail,
    /// Make events, not only counts.
    pub events: Option<EventOptions>,
    /// List what was rejected, for dead letters.
    pub rejects: bool,
    /// Hold sign-ins back for a look at copies, as refreshes always are.
    pub dedupe_sign_ins: bool,
    /// What the operator says of apps, by app id or workspace id in lower case.
    pub apps: HashMap<String, App>,
    pub cluster_id: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 * 1024 * 1024,
            text_entries: Entries::Whole,
            detail: Detail::Codes,
            events: None,
            rejects: false,
            dedupe_sign_ins: false,
            apps: HashMap::new(),
            cluster_id: None,
        }
    }
}

/// `[[apps]]` of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct App {
    pub alias: Option<String>,
    pub team: Option<String>,
    pub severity: Option<Severity>,
}

/// Events that a digest holds before it gives them away: one message of many small records may raise a million.
const EVENTS_HELD: usize = 2048;

/// Takes events from a digest that is still being made.
type Drain<'f> = dyn FnMut(&mut Vec<Event>) + 'f;

/// What some messages came to.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    pub tally: Tally,
    pub events: Vec<Event>,
    /// Only with [`Options::rejects`].
    pub rejects: Vec<Reject>,
    /// Records that are counted only if they are no copies of earlier ones; see [`Digest::admit`].
    pub held: Vec<Held>,
}

/// What was rejected, and where it stood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reject {
    pub reason: Reason,
    pub partition: i32,
    pub offset: i64,
    /// A piece of a message that gave something else: its position and its bytes. `None` is the whole message.
    pub piece: Option<(u32, Vec<u8>)>,
}

/// A record whose counting waits for a look at what was seen before.
#[derive(Clone, Debug)]
pub struct Held {
    /// Identifies the record among its copies; `None` if nothing in it does, then it is new.
    pub key: Option<String>,
    pub found: Found<'static>,
    pub timestamp_ms: Option<Millis>,
    source: Source,
}

/// Why a held record is not counted as a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    New,
    Repeat,
}

impl Held {
    /// Partition and offset of the message that held it.
    pub const fn position(&self) -> (i32, i64) {
        (self.source.partition, self.source.offset)
    }

    /// Topic, partition, offset and index of the record.
    pub fn place(&self) -> (&str, i32, i64, u32) {
        (&self.source.topic, self.source.partition, self.source.offset, self.found.index)
    }

    /// Fills in where a refresh came from, for a body that does not say.
    pub fn locate(&mut self, ids: &EnvelopeIds<'_>) {
        let fields = &mut self.found.fields;
        for (field, id) in
            [(&mut fields.workspace_id, ids.workspace_id), (&mut fields.dataset_id, ids.dataset_id)]
        {
            if field.is_none() {
                *field = id.map(|id| id.to_owned().into());
            }
        }
        self.key = self.found.dedupe_key();
    }
}

impl Digest {
    pub fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        self.events.extend(other.events);
        self.rejects.extend(other.rejects);
        self.held.extend(other.held);
    }

    /// Counts the held records; `judge` says which are new.
    pub fn admit(&mut self, middle: &Middle, mut judge: impl FnMut(&Held) -> Admission) {
        for held in std::mem::take(&mut self.held) {
            match judge(&held) {
                Admission::New => middle.count(self, &held.found, held.timestamp_ms, || held.source.clone()),
                Admission::Repeat => self.tally.add_duplicate(&held.found, middle.options.detail),
            }
        }
    }
}

/// The middle with its catalogue. Build one and share it between threads.
#[derive(Debug)]
pub struct Middle {
    catalogue: Arc<Catalogue>,
    scanner: Scanner,
    pub options: Options,
}

impl Middle {
    pub fn new(catalogue: Arc<Catalogue>, options: Options) -> Self {
        let scanner = Scanner::new(catalogue.literals());
        Self { catalogue, scanner, options }
    }

    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    fn reader(&self) -> Reader<'_> {
        Reader { catalogue: &self.catalogue, scanner: &self.scanner }
    }

    /// Works out what `inputs` mean. Pure: the same inputs and catalogue give the same digest.
    ///
    /// A panic in here is a bug; it costs the one message it came from, which is rejected as `internal`.
    pub fn digest(&self, inputs: &[Input<'_>]) -> Digest {
        self.digest_draining(inputs, &mut |_| {})
    }

    /// The same for whoever must not hold all events at once: `drain` gets them whenever there are many, the digest keeps
    /// the rest. After a panic, events that were drained before it come again.
    pub fn digest_draining(&self, inputs: &[Input<'_>], drain: &mut Drain<'_>) -> Digest {
        let mut attempt = |inputs: &[Input<'_>], isolate| {
            catch_unwind(AssertUnwindSafe(|| {
                let mut digest = Digest::default();
                inputs.iter().for_each(|input| self.digest_one(input, isolate, &mut digest, drain));
                digest
            }))
        };
        attempt(inputs, false).unwrap_or_else(|_| {
            let mut digest = Digest::default();
            for input in inputs {
                match attempt(std::slice::from_ref(input), !matches!(input.framing, Framing::Message)) {
                    Ok(one) => digest.merge(one),
                    Err(_) => {
                        digest.tally.messages += 1;
                        digest.tally.bytes += input.payload.map_or(0, |payload| payload.len() as u64);
                        digest.tally.reject_message(Reason::Internal);
                        if self.options.rejects {
                            let Position { partition, offset, .. } = input.source;
                            let reason = Reason::Internal;
                            digest.rejects.push(Reject { reason, partition, offset, piece: None });
                        }
                    }
                }
            }
            digest
        })
    }

    fn digest_one<'a>(
        &'a self,
        input: &Input<'a>,
        isolate: bool,
        digest: &mut Digest,
        drain: &mut Drain<'_>,
    ) {
        digest.tally.bytes += input.payload.map_or(0, |payload| payload.len() as u64);
        let mut pieces = Pieces::new(self, input, isolate, digest, drain);
        match (input.framing, input.payload) {
            (Framing::Message, None) => pieces.reject_whole(Reason::NullPayload, &[]),
            (Framing::Message, Some(payload)) => {
                failpoint(payload);
                match unpack::unpack(payload, self.options.max_message_bytes) {
                    _ if payload.len() > self.options.max_message_bytes => {
                        pieces.reject_whole(Reason::TooLarge, payload);
                    }
                    Err((reason, plain)) => pieces.reject_whole(reason, &plain),
                    Ok(plain) => pieces.message(&plain, self.options.text_entries),
                }
                pieces.end_message();
            }
            (Framing::Lines, payload) => {
                frame::frame(payload.unwrap_or_default(), Entries::Lines, &mut pieces);
            }
            (Framing::Elements(ids), payload) => {
                frame::frame_elements(payload.unwrap_or_default(), &ids, &mut pieces);
                pieces.end_elements();
            }
            (Framing::Rows(header), payload) => {
                let bytes = payload.unwrap_or_default();
                pieces.rows(bytes, 0, header, true);
            }
        }
    }

    /// Rejects a message of a file, or an element of one, that was too large to be held, after its pieces were scanned.
    pub fn reject_oversized(
        &self,
        mentions: Mentions,
        is_element: bool,
        position: &Position<'_>,
        digest: &mut Digest,
    ) {
        if is_element {
            digest.tally.rejected_records[Reason::TooLarge as usize] += 1;
        } else {
            digest.tally.messages += 1;
            digest.tally.reject_message(Reason::TooLarge);
        }
        let mut found = self.reader().mentioned(mentions, &[], Some(Reason::TooLarge));
        found.index = position.index;
        self.count(digest, &found, None, || self.source(position, None));
    }

    /// Scans a piece of something too large to be held.
    pub fn scan_raw(&self, bytes: &[u8], mentions: &mut Mentions) {
        self.scanner.scan(bytes, mentions);
    }

    fn source(&self, position: &Position<'_>, timestamp_ms: Option<Millis>) -> Source {
        Source {
            cluster_id: self.options.cluster_id.clone(),
            topic: position.topic.to_owned(),
            partition: position.partition,
            offset: position.offset,
            index: 0,
            timestamp_ms,
        }
    }

    fn count(
        &self,
        digest: &mut Digest,
        found: &Found<'_>,
        timestamp_ms: Option<Millis>,
        source: impl Fn() -> Source,
    ) {
        digest.tally.add(found, self.options.detail, timestamp_ms);
        if let Some(options) = &self.options.events {
            let app = self.app(found);
            digest.events.extend(Event::new(found, source(), app, &self.catalogue, options));
        }
    }

    fn app(&self, found: &Found<'_>) -> Option<&App> {
        if self.options.apps.is_empty() {
            return None;
        }
        [&found.fields.app_id, &found.fields.workspace_id]
            .into_iter()
            .flatten()
            .find_map(|id| self.options.apps.get(&id.to_ascii_lowercase()))
    }
}

/// Stands in for a bug in the middle, for the test that a panic costs one message; it quotes the message as the standard
/// library's panics do.
#[cfg(feature = "failpoints")]
fn failpoint(bytes: &[u8]) {
    let is_planted = memchr::memmem::find(bytes, b"aadstream-failpoint-panic").is_some();
    assert!(!is_planted, "planted by a test in {}", String::from_utf8_lossy(bytes));
}

#[cfg(not(feature = "failpoints"))]
fn failpoint(_: &[u8]) {}
