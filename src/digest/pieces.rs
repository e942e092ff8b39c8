//! What becomes of the pieces of a message: counts, and the books of who was of use.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::event::Event;
use super::fields::Fields;
use super::found::{self, Found};
use super::frame::token::is_json;
use super::frame::{self, Entries, EnvelopeIds, Receiver, Sketch};
use super::resume::{self, Checked};
use super::scan::Scanner;
use super::table::{Header, Row, Rows};
use super::tally;
use super::time::Millis;
use super::{Digest, Drain, EVENTS_HELD, Framing, Held, Input, Middle, Position, Reject};
use crate::terms::{Kind, LogCategory, Reason};

/// Pieces of one Kafka message: lines in it are entries, not messages.
struct MessagePieces<'p, 'm, 'd>(&'p mut Pieces<'m, 'd>);

impl Receiver for MessagePieces<'_, '_, '_> {
    fn record(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) -> bool {
        self.0.piece(bytes, sketch, ids)
    }
    fn text(&mut self, bytes: &[u8]) {
        self.0.entry(bytes);
    }
    fn broken(&mut self, bytes: &[u8], reason: Reason) {
        self.0.broken(bytes, reason);
    }
}

/// Turns pieces into counts and keeps the books of their message.
pub(super) struct Pieces<'m, 'd> {
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
    pub(super) fn new(
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

    /// Counts a record; false if it is no JSON after all.
    fn piece(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) -> bool {
        if !self.isolate {
            return self.record_bytes(bytes, sketch, ids);
        }
        let (middle, position, timestamp_ms) = (self.middle, self.position, self.timestamp_ms);
        let alone = catch_unwind(AssertUnwindSafe(|| {
            let mut digest = Digest::default();
            let input = Input { payload: None, framing: Framing::Lines, timestamp_ms, source: position };
            let mut keep = |_: &mut Vec<Event>| {};
            let mut pieces = Pieces::new(middle, &input, false, &mut digest, &mut keep);
            let is_json = pieces.record_bytes(bytes, sketch, ids);
            let books = (pieces.used, pieces.broken, pieces.first_broken, pieces.kept);
            (digest, books, is_json)
        }));
        match alone {
            Ok((digest, (used, broken, first_broken, kept), is_json)) => {
                self.digest.merge(digest);
                self.kept.extend(kept);
                self.used += used;
                self.broken.iter_mut().zip(broken).for_each(|(ours, theirs)| *ours += theirs);
                self.first_broken = self.first_broken.or(first_broken);
                self.position.index += u32::from(is_json);
                is_json
            }
            Err(_) => {
                self.note_broken(Reason::Internal, bytes);
                true
            }
        }
    }

    /// A record: a success that needs no parse is only counted.
    fn record_bytes(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) -> bool {
        failpoint_record(bytes);
        let text = simdutf8::basic::from_utf8(bytes);
        let unusable = match text {
            _ if bytes.len() > self.middle.options.max_message_bytes => Some(Reason::TooLarge),
            _ if sketch.is_deep => Some(Reason::TooDeep),
            Err(_) => Some(Reason::InvalidUtf8),
            Ok(_) => None,
        };
        if let Some(reason) = unusable {
            // A quote lost in it may make it seem to hold its neighbours, and what is wrong is theirs.
            let is_json = resume::check(bytes, 0) == Checked::Whole(bytes.len());
            if is_json {
                self.broken(bytes, reason);
            }
            return is_json;
        }
        let text = text.expect("checked above");
        if bytes.len() <= UNPARSED_BYTES
            && let Some(category) = plain_success(sketch)
            && !self.middle.options.dedupe_sign_ins
            && !Scanner::needs_parse(bytes, sketch.hints(bytes))
        {
            self.used += 1;
            self.position.index += 1;
            self.digest.tally.add_success(category);
            return true;
        }
        let without_nul;
        let text = if sketch.odd && text.contains('\0') {
            without_nul = text.replace('\0', " ");
            &without_nul
        } else {
            text
        };
        // Control bytes in strings, written by hand or by mistake, or so long that it may hold its neighbours: only a
        // parser can say what else is wrong.
        if (sketch.odd || bytes.len() > UNPARSED_BYTES) && !is_json(text.as_bytes()) {
            return false;
        }
        let Ok(fields) = Fields::from_json(text) else { return false };
        let found = self.middle.reader().record(fields, &[text.as_bytes()], Some(sketch), ids);
        self.found(found);
        true
    }

    /// Cuts one unpacked Kafka message.
    pub(super) fn message(&mut self, plain: &[u8], entries: Entries) {
        if plain.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return self.reject_whole(Reason::Empty, &[]);
        }
        match Header::detect(plain) {
            Some(header) => self.rows(plain, header.line_bytes(), &header, false),
            None => frame::frame(plain, entries, &mut MessagePieces(self)),
        }
    }

    /// Counts the rows of a CSV export from `at` on.
    pub(super) fn rows(&mut self, bytes: &[u8], at: usize, header: &Header, are_messages: bool) {
        let mut rows = Rows::new(bytes, at, header);
        while let Some(row) = rows.next() {
            match row {
                Row::Broken(bytes) => self.broken(bytes, Reason::InvalidJson),
                Row::Whole(bytes) if bytes.len() > self.middle.options.max_message_bytes => {
                    self.broken(bytes, Reason::TooLarge);
                }
                Row::Whole(bytes) => match csv::StringRecord::from_byte_record(rows.take_cells()) {
                    Ok(cells) if header.is_idle(&cells) => continue,
                    Ok(cells) => self.row(header, &cells),
                    Err(_) => self.broken(bytes, Reason::InvalidUtf8),
                },
            }
            if are_messages {
                self.end_message();
            }
        }
    }

    fn row(&mut self, header: &Header, row: &csv::StringRecord) {
        let cells: Vec<&[u8]> = row.iter().map(str::as_bytes).collect();
        let found = self.middle.reader().record(header.fields(row), &cells, None, &EnvelopeIds::default());
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
            Kind::Refresh => true,
            Kind::SignIn => self.middle.options.dedupe_sign_ins,
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
        if bytes.len() > self.middle.options.max_message_bytes {
            return self.broken(bytes, Reason::TooLarge);
        }
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
    pub(super) fn reject_whole(&mut self, reason: Reason, bytes: &[u8]) {
        self.spelled(bytes, reason);
        // Whoever wants the message itself has it.
        self.note_broken(reason, &[]);
        if reason == Reason::NullPayload {
            self.end_message();
        }
    }

    /// Closes the books of a message: it is rejected if nothing in it was of use, else its broken pieces are.
    pub(super) fn end_message(&mut self) {
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
    pub(super) fn end_elements(&mut self) {
        let ours = &mut self.digest.tally.rejected_records;
        ours.iter_mut().zip(self.broken).for_each(|(ours, count)| *ours += count);
    }
}

impl Receiver for Pieces<'_, '_> {
    fn record(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) -> bool {
        self.piece(bytes, sketch, ids)
    }
    fn text(&mut self, bytes: &[u8]) {
        self.entry(bytes);
    }
    fn broken(&mut self, bytes: &[u8], reason: Reason) {
        Pieces::broken(self, bytes, reason);
    }
    fn message_end(&mut self) {
        self.end_message();
    }
}

#[cfg(feature = "failpoints")]
fn failpoint_record(bytes: &[u8]) {
    super::failpoint(bytes);
}

#[cfg(not(feature = "failpoints"))]
fn failpoint_record(_: &[u8]) {}

/// A longer record is parsed: it may be one that lost a quote, up to the next one that did, and hold the records in
/// between.
const UNPARSED_BYTES: usize = 32 * 1024;

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
