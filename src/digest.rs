//! The pure middle: from the bytes of messages to counts and events.
//!
//! `unpack → frame → fields → found → tally`, and `event` where somebody wants events. Everything here takes bytes and
//! gives values: no I/O, no clock, no log. The service, `scan`, the golden tests and the benches call the same
//! [`Middle::digest`].

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::terms::{LogCategory, Reason, Severity};

pub mod unpack;
mod simd;
pub mod structure;
pub mod frame;
pub mod table;
pub mod fields;
pub mod scan;
pub mod time;
pub mod found;
pub mod tally;
pub mod event;

use event::{Event, EventOptions, Source};
use fields::Fields;
use found::{Found, Reader};
use frame::{Entries, EnvelopeIds, Receiver, Sketch};
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
                    Ok(plain) => message(&plain, self.options.text_entries, &mut pieces),
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
        }
    }

    /// Counts a row of a CSV export; every row is a message.
    pub fn digest_row(
        &self,
        header: &Header,
        row: &csv::StringRecord,
        position: &Position<'_>,
        digest: &mut Digest,
    ) {
        let input = Input { payload: None, framing: Framing::Lines, timestamp_ms: None, source: *position };
        let mut keep = |_: &mut Vec<Event>| {};
        let mut pieces = Pieces::new(self, &input, false, digest, &mut keep);
        pieces.row(header, row);
        pieces.end_message();
    }

    /// Rejects a message of a file; what it spells is found all the same.
    pub fn reject(&self, reason: Reason, bytes: &[u8], position: &Position<'_>, digest: &mut Digest) {
        digest.tally.messages += 1;
        digest.tally.reject_message(reason);
        let mut found = self.reader().text(bytes, Some(reason));
        found.index = position.index;
        self.count(digest, &found, None, || self.source(position, None));
    }

    /// Rejects a record of a file that was too large to be held, after its pieces were scanned.
    pub fn reject_oversized(&self, mentions: Mentions, position: &Position<'_>, digest: &mut Digest) {
        digest.tally.messages += 1;
        digest.tally.reject_message(Reason::TooLarge);
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
            let team = self.app(found).and_then(|app| app.team.clone());
            digest.events.extend(Event::new(found, source(), team, &self.catalogue, options));
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

/// Stands in for a bug in the middle, for the test that a panic costs one message.
#[cfg(feature = "failpoints")]
fn failpoint(bytes: &[u8]) {
    assert!(memchr::memmem::find(bytes, b"aadstream-failpoint-panic").is_none(), "planted by a test");
}

#[cfg(not(feature = "failpoints"))]
fn failpoint(_: &[u8]) {}

/// Cuts one unpacked Kafka message.
fn message(plain: &[u8], entries: Entries, pieces: &mut Pieces<'_, '_>) {
    if plain.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        pieces.reject_whole(Reason::Empty, &[]);
        return;
    }
    match Header::detect(plain) {
        Some(header) => {
            for row in table::reader(plain).byte_records().skip(1) {
                match row.map(csv::StringRecord::from_byte_record) {
                    Ok(Ok(row)) => pieces.row(&header, &row),
                    Ok(Err(invalid)) => {
                        pieces.broken(invalid.into_byte_record().as_slice(), Reason::InvalidUtf8);
                    }
                    Err(_) => pieces.broken(&[], Reason::UnknownShape),
                }
            }
        }
        None => frame::frame(plain, entries, &mut MessagePieces(pieces)),
    }
}

/// Pieces of one Kafka message: lines in it are entries, not messages.
struct MessagePieces<'p, 'm, 'd>(&'p mut Pieces<'m, 'd>);

impl<'a> Receiver<'a> for MessagePieces<'_, '_, '_> {
    fn record(&mut self, bytes: &'a [u8], sketch: &Sketch<'a>, ids: &EnvelopeIds<'a>) {
        self.0.piece(bytes, sketch, ids);
    }
    fn text(&mut self, bytes: &'a [u8]) {
        self.0.entry(bytes);
    }
    fn broken(&mut self, bytes: &'a [u8], reason: Reason) {
        self.0.broken(bytes, reason);
    }
}

/// Turns pieces into counts and keeps the books of their message.
struct Pieces<'m, 'd> {
    middle: &'m Middle,
    digest: &'d mut Digest,
    drain: &'d mut Drain<'d>,
    position: Position<'m>,
    timestamp_ms: Option<Millis>,
    /// A panic costs the piece it came from; only on the second try, after one happened.
    isolate: bool,
    /// Pieces of the current message that gave a record or a text entry.
    used: u32,
    broken: tally::Rejections,
    first_broken: Option<Reason>,
    /// The broken pieces themselves, where somebody wants them.
    kept: Vec<(Reason, u32, Vec<u8>)>,
}

impl<'m, 'd> Pieces<'m, 'd> {
    fn new(
        middle: &'m Middle,
        input: &Input<'m>,
        isolate: bool,
        digest: &'d mut Digest,
        drain: &'d mut Drain<'d>,
    ) -> Self {
        Self {
            middle,
            digest,
            drain,
            position: input.source,
            timestamp_ms: input.timestamp_ms,
            isolate,
            used: 0,
            broken: [0; Reason::ALL.len()],
            first_broken: None,
            kept: Vec::new(),
        }
    }

    fn piece(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) {
        if !self.isolate {
            return self.record_bytes(bytes, sketch, ids);
        }
        let (middle, position, timestamp_ms) = (self.middle, self.position, self.timestamp_ms);
        let alone = catch_unwind(AssertUnwindSafe(|| {
            let mut digest = Digest::default();
            let input = Input { payload: None, framing: Framing::Lines, timestamp_ms, source: position };
            let mut keep = |_: &mut Vec<Event>| {};
            let mut pieces = Pieces::new(middle, &input, false, &mut digest, &mut keep);
            pieces.record_bytes(bytes, sketch, ids);
            let books = (pieces.used, pieces.broken, pieces.first_broken);
            (digest, books)
        }));
        match alone {
            Ok((digest, (used, broken, first_broken))) => {
                self.digest.merge(digest);
                self.used += used;
                self.broken.iter_mut().zip(broken).for_each(|(ours, theirs)| *ours += theirs);
                self.first_broken = self.first_broken.or(first_broken);
                self.position.index += 1;
            }
            Err(_) => self.note_broken(Reason::Internal, bytes),
        }
    }

    /// A record: a success that needs no parse is only counted.
    fn record_bytes(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) {
        failpoint_record(bytes);
        if bytes.len() > self.middle.options.max_message_bytes {
            return self.broken(bytes, Reason::TooLarge);
        }
        if sketch.is_deep {
            return self.broken(bytes, Reason::TooDeep);
        }
        let Ok(text) = simdutf8::basic::from_utf8(bytes) else {
            return self.broken(bytes, Reason::InvalidUtf8);
        };
        if let Some(category) = plain_success(sketch)
            && !self.middle.options.dedupe_sign_ins
            && !Scanner::needs_parse(bytes)
        {
            self.used += 1;
            self.position.index += 1;
            return self.digest.tally.add_success(category);
        }
        let without_nul;
        let text = if sketch.odd && text.contains('\0') {
            without_nul = text.replace('\0', " ");
            &without_nul
        } else {
            text
        };
        // Control bytes in strings, written by hand or by mistake: only a parser can say what else is wrong.
        if sketch.odd && !frame::is_json(text.as_bytes()) {
            return self.broken(bytes, Reason::InvalidJson);
        }
        match Fields::from_json(text) {
            Ok(fields) => {
                let found = self.middle.reader().record(fields, &[text.as_bytes()], ids);
                self.found(found);
            }
            Err(_) => self.broken(bytes, Reason::InvalidJson),
        }
    }

    fn row(&mut self, header: &Header, row: &csv::StringRecord) {
        let cells: Vec<&[u8]> = row.iter().map(str::as_bytes).collect();
        let found = self.middle.reader().record(header.fields(row), &cells, &EnvelopeIds::default());
        self.found(found);
    }

    fn found(&mut self, mut found: Found<'_>) {
        found.index = self.position.index;
        self.position.index += 1;
        self.used += 1;
        if let (Some(app), Some(diagnosis)) = (self.middle.app(&found), &mut found.diagnosis)
            && let Some(severity) = app.severity
        {
            diagnosis.verdict.severity = severity;
        }
        let dedupe = match found.kind {
            crate::terms::Kind::Refresh => true,
            crate::terms::Kind::SignIn => self.middle.options.dedupe_sign_ins,
            _ => false,
        };
        if dedupe {
            let source = self.middle.source(&self.position, self.timestamp_ms);
            let (key, timestamp_ms) = (found.dedupe_key(), self.timestamp_ms);
            self.digest.held.push(Held { key, found: found.into_owned(), timestamp_ms, source });
        } else {
            self.count(&found);
        }
    }

    fn count(&mut self, found: &Found<'_>) {
        let (middle, position, timestamp_ms) = (self.middle, self.position, self.timestamp_ms);
        middle.count(self.digest, found, timestamp_ms, || middle.source(&position, timestamp_ms));
        if self.digest.events.len() >= EVENTS_HELD {
            (self.drain)(&mut self.digest.events);
        }
    }

    fn entry(&mut self, bytes: &[u8]) {
        if simdutf8::basic::from_utf8(bytes).is_err() {
            return self.broken(bytes, Reason::InvalidUtf8);
        }
        let mut found = self.middle.reader().text(bytes, None);
        found.index = self.position.index;
        self.position.index += 1;
        self.used += 1;
        self.count(&found);
    }

    fn broken(&mut self, bytes: &[u8], reason: Reason) {
        self.spelled(bytes, reason);
        self.note_broken(reason, bytes);
    }

    /// Counts what rejected bytes spell.
    fn spelled(&mut self, bytes: &[u8], reason: Reason) {
        let mut found = self.middle.reader().text(bytes, Some(reason));
        found.index = self.position.index;
        self.count(&found);
    }

    fn note_broken(&mut self, reason: Reason, bytes: &[u8]) {
        if self.middle.options.rejects {
            self.kept.push((reason, self.position.index, bytes.to_vec()));
        }
        self.broken[reason as usize] += 1;
        self.first_broken.get_or_insert(reason);
        self.position.index += 1;
    }

    /// Rejects the message as a whole; what its bytes spell is still found.
    fn reject_whole(&mut self, reason: Reason, bytes: &[u8]) {
        self.spelled(bytes, reason);
        // Whoever wants the message itself has it.
        self.note_broken(reason, &[]);
        if reason == Reason::NullPayload {
            self.end_message();
        }
    }

    /// Closes the books of a message: it is rejected if nothing in it was of use, else its broken pieces are.
    fn end_message(&mut self) {
        self.digest.tally.messages += 1;
        match self.first_broken {
            Some(reason) if self.used == 0 => {
                self.digest.tally.reject_message(reason);
                if self.middle.options.rejects {
                    self.kept.clear();
                    self.reject(reason, None);
                }
            }
            _ => self.end_elements(),
        }
        for (reason, index, bytes) in std::mem::take(&mut self.kept) {
            self.reject(reason, Some((index, bytes)));
        }
        self.used = 0;
        self.broken = [0; Reason::ALL.len()];
        self.first_broken = None;
        self.position.offset += 1;
        self.position.index = 0;
    }

    fn reject(&mut self, reason: Reason, piece: Option<(u32, Vec<u8>)>) {
        let Position { partition, offset, .. } = self.position;
        self.digest.rejects.push(Reject { reason, partition, offset, piece });
    }

    /// Closes a piece of a message whose end comes later.
    fn end_elements(&mut self) {
        let ours = &mut self.digest.tally.rejected_records;
        ours.iter_mut().zip(self.broken).for_each(|(ours, count)| *ours += count);
    }
}

impl<'a> Receiver<'a> for Pieces<'_, '_> {
    fn record(&mut self, bytes: &'a [u8], sketch: &Sketch<'a>, ids: &EnvelopeIds<'a>) {
        self.piece(bytes, sketch, ids);
    }
    fn text(&mut self, bytes: &'a [u8]) {
        self.entry(bytes);
    }
    fn broken(&mut self, bytes: &'a [u8], reason: Reason) {
        Pieces::broken(self, bytes, reason);
    }
    fn message_end(&mut self) {
        self.end_message();
    }
}

#[cfg(feature = "failpoints")]
fn failpoint_record(bytes: &[u8]) {
    failpoint(bytes);
}

#[cfg(not(feature = "failpoints"))]
fn failpoint_record(_: &[u8]) {}

/// The log of a sign-in that says success at its first level in the plainest way; anything else is parsed.
fn plain_success(sketch: &Sketch<'_>) -> Option<LogCategory> {
    if sketch.odd || !matches!(sketch.result_type, Some(b"\"0\"" | b"0")) {
        return None;
    }
    let category = std::str::from_utf8(sketch.category?).ok()?;
    let is_sign_in = category.len() >= 10
        && category.as_bytes()[category.len() - 10..].eq_ignore_ascii_case(b"SignInLogs");
    is_sign_in.then(|| found::log_category_of(category))
}
