//! Cuts the bytes of a message, or of a file, into records, text entries and broken pieces.
//!
//! A record is any object that is no envelope. Objects are read one level deep (keys, and where their values end);
//! what lies below is skipped by the [`Walker`]. A broken piece takes none of its neighbours along: [`resume`] says
//! where reading goes on.

use memchr::{memchr, memmem};

use super::resume::{self, Checked, Place, Resume};
use super::scan::triples;
use super::simd::Hints;
use super::structure::{Walk, Walker};
use crate::terms::Reason;
use member::{is_envelope_key, note};
pub use opening::{Opening, opening};
use token::{is_json, scalar_length, skip_blank, skip_comma, string};

mod member;
mod opening;
pub mod token;

/// Envelopes inside envelopes that are followed; deeper ones are read as records.
const ENVELOPE_DEPTH: u8 = 4;

/// What an envelope says of all its records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EnvelopeIds<'a> {
    pub workspace_id: Option<&'a str>,
    pub dataset_id: Option<&'a str>,
}

/// An object read one level deep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sketch<'a> {
    /// The value of `resultType` as written, quotes included.
    pub result_type: Option<&'a [u8]>,
    /// The content of `category`, if it is a plain string.
    pub category: Option<&'a [u8]>,
    /// Something needs a closer look: a repeated key, an escape in a key, a control byte in a string.
    pub odd: bool,
    /// Nested deeper than any log.
    pub is_deep: bool,
    /// Where it may spell something, counted as `start` is.
    hints: Hints,
    /// Where it starts in the bytes that are framed.
    start: usize,
    /// Hints up to here were taken.
    hinted: usize,
}

impl Sketch<'_> {
    /// The places in `bytes`, which are the record, where it may spell something.
    pub fn hints(&self, bytes: &[u8]) -> impl Iterator<Item = usize> + Clone {
        let known = self.hints.all();
        let sought = known.is_none().then(|| triples(bytes));
        known.into_iter().flatten().map(|at| at - self.start).chain(sought.into_iter().flatten())
    }
}

/// Takes the pieces in the order of the input.
pub trait Receiver {
    /// False if it is no JSON after all; then it was not counted and comes again as a broken piece.
    fn record(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) -> bool;
    fn text(&mut self, bytes: &[u8]);
    fn broken(&mut self, bytes: &[u8], reason: Reason);
    /// A top-level value or a line of text ended; only with [`Entries::Lines`].
    fn message_end(&mut self) {}
}

/// What a text entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entries {
    /// The whole message, or what is left of it.
    Whole,
    /// A line. Every top-level value and every line is a message of its own.
    Lines,
}

/// Cuts `bytes` into pieces.
pub fn frame(bytes: &[u8], entries: Entries, receiver: &mut impl Receiver) {
    Framer::new(bytes, entries, receiver).top_level();
}

/// Cuts the elements of an array whose opening bracket was read before; trailing commas and the like are skipped.
pub fn frame_elements(bytes: &[u8], ids: &EnvelopeIds<'_>, receiver: &mut impl Receiver) {
    let mut framer = Framer::new(bytes, Entries::Lines, receiver);
    let mut at = 0;
    while at < bytes.len() {
        at = match framer.elements(at, ids, 1, Place::Part) {
            Elements::Resume(next) => next,
            // The array's own bracket is elsewhere.
            Elements::Closed(next) => {
                framer.receiver.broken(&bytes[next - 1..next], Reason::InvalidJson);
                next
            }
        };
    }
}

/// Where an object ends, or the records of an envelope begin.
enum Object<'a> {
    Record {
        end: usize,
        sketch: Sketch<'a>,
    },
    /// Index of the value of `records`, `value` or `refreshes`.
    Envelope {
        at: usize,
    },
}

enum Elements {
    /// Index behind the closing bracket.
    Closed(usize),
    /// The array was given up; top-level reading goes on here.
    Resume(usize),
}

/// Where reading goes on behind an element.
enum Next {
    /// In the same array.
    Here(usize),
    /// Outside of it.
    Out(usize),
}

struct Framer<'a, 'r, R> {
    bytes: &'a [u8],
    entries: Entries,
    receiver: &'r mut R,
    /// Something was broken, so objects are checked before they are read: counting brackets behind a lost quote can
    /// lead to the end of the input, which must not happen again and again.
    is_wary: bool,
    /// Up to here no element was found behind a broken one and text.
    barren: usize,
}

impl<'a, 'r, R: Receiver> Framer<'a, 'r, R> {
    fn new(bytes: &'a [u8], entries: Entries, receiver: &'r mut R) -> Self {
        Self { bytes, entries, receiver, is_wary: false, barren: 0 }
    }

    fn top_level(&mut self) {
        let mut at = skip_blank(self.bytes, 0);
        while at < self.bytes.len() {
            at = match self.opens(at) {
                Opens::Object => {
                    let end = self.object(at, EnvelopeIds::default(), ENVELOPE_DEPTH, Place::Top);
                    self.behind_value(end)
                }
                Opens::Array => {
                    let end = self.outer_array(at + 1);
                    self.behind_value(end)
                }
                Opens::Text => self.text(at),
            };
            self.message_end();
            at = skip_blank(self.bytes, at);
        }
    }

    /// Reads the elements of an array that nothing is around.
    fn outer_array(&mut self, at: usize) -> usize {
        match self.elements(at, &EnvelopeIds::default(), ENVELOPE_DEPTH, Place::Array) {
            Elements::Closed(end) | Elements::Resume(end) => end,
        }
    }

    /// What stands on the line behind a top-level value and begins no other one: a comma is nothing, a bracket too many
    /// is broken.
    fn behind_value(&mut self, end: usize) -> usize {
        let line = self.bytes[..end].last() != Some(&b'\n');
        let blank = self.bytes[end..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match self.bytes.get(end + blank) {
            Some(b',') if line => end + blank + 1,
            Some(b'}' | b']' | b':') if line => self.give_up(end + blank),
            _ => end,
        }
    }

    /// Rejects the broken value at `at` that is in nothing; the index where top-level reading goes on.
    fn give_up(&mut self, at: usize) -> usize {
        match self.recover(at, Place::Top) {
            // Elements of an array whose head is lost.
            Next::Here(sibling) => self.outer_array(sibling),
            Next::Out(next) => next,
        }
    }

    fn message_end(&mut self) {
        if self.entries == Entries::Lines {
            self.receiver.message_end();
        }
    }

    /// What begins at `at`, which is no blank.
    fn opens(&self, at: usize) -> Opens {
        match self.bytes[at] {
            b'{' => Opens::Object,
            b'[' => match self.bytes.get(skip_blank(self.bytes, at + 1)) {
                Some(b'{' | b'[' | b'"' | b']') | None => Opens::Array,
                Some(_) if is_json(self.entry(at)) => Opens::Array,
                Some(_) => Opens::Text,
            },
            _ => Opens::Text,
        }
    }

    /// The text entry that begins at `at`: the line, or all that is left up to a line that opens an object.
    fn entry(&self, at: usize) -> &'a [u8] {
        let rest = &self.bytes[at..];
        let end = match self.entries {
            Entries::Lines => memchr(b'\n', rest),
            // Text at the start of a message is the message, unless it looks like a record that lost its bracket; text
            // behind a record ends where the next one begins.
            Entries::Whole if at == skip_blank(self.bytes, 0) && rest[0] != b'"' => None,
            Entries::Whole => memmem::find(rest, b"\n{"),
        };
        rest[..end.unwrap_or(rest.len())].trim_ascii_end()
    }

    fn text(&mut self, at: usize) -> usize {
        let entry = self.entry(at);
        if matches!(entry[0], b'0'..=b'9' | b'-' | b'"' | b't' | b'f' | b'n') && is_json(entry) {
            self.receiver.broken(entry, Reason::UnknownShape);
        } else {
            self.receiver.text(entry);
        }
        at + entry.len()
    }

    /// Reads the object at `at` in `place`; gives the index where reading goes on.
    fn object(&mut self, at: usize, mut ids: EnvelopeIds<'a>, depth: u8, place: Place) -> usize {
        let inner = if place == Place::Top { Place::Envelope } else { Place::InnerEnvelope };
        let mut from = at + 1;
        let mut is_envelope = false;
        loop {
            let read = self.read(at, from, depth, &mut ids, is_envelope);
            let elements = match read {
                Some(Object::Record { end, sketch }) => {
                    if is_envelope || self.receiver.record(&self.bytes[at..end], &sketch, &ids) {
                        return end;
                    }
                    return self.give_up(at);
                }
                Some(Object::Envelope { at: value }) => {
                    is_envelope = true;
                    if depth == ENVELOPE_DEPTH && ids.dataset_id.is_none() {
                        self.ids_behind(value, &mut ids);
                    }
                    match self.bytes[value] {
                        b'[' => self.elements(value + 1, &ids, depth - 1, inner),
                        b'{' => Elements::Closed(self.object(value, ids, depth - 1, inner)),
                        _ => Elements::Closed(self.array_in_string(value, &ids, depth - 1)),
                    }
                }
                // Behind its array, which a bracket too many may have closed.
                None if is_envelope => match self.recover(from, inner) {
                    Next::Here(sibling) => self.elements(sibling, &ids, depth - 1, inner),
                    Next::Out(next) => return next,
                },
                None => return self.give_up(at),
            };
            match elements {
                Elements::Closed(end) => from = skip_comma(self.bytes, end),
                Elements::Resume(next) => return next,
            }
        }
    }

    /// Reads records that came as JSON in a string.
    fn array_in_string(&mut self, at: usize, ids: &EnvelopeIds<'_>, depth: u8) -> usize {
        let end = string(self.bytes, at).map_or(self.bytes.len(), |string| string.end);
        let Ok(text) = serde_json::from_slice::<String>(&self.bytes[at..end]) else {
            self.receiver.broken(&self.bytes[at..end], Reason::InvalidJson);
            return end;
        };
        let bytes = text.as_bytes();
        let mut framer = Framer::new(bytes, Entries::Whole, &mut *self.receiver);
        framer.is_wary = self.is_wary;
        let start = skip_blank(bytes, 0);
        if bytes[start] == b'[' {
            framer.elements(start + 1, ids, depth, Place::Array);
        } else {
            framer.object(start, *ids, depth, Place::Top);
        }
        end
    }

    /// Ids of a `refreshes` envelope that stand behind the array.
    fn ids_behind(&self, array: usize, ids: &mut EnvelopeIds<'a>) {
        let before = self.bytes[..array].trim_ascii_end();
        let is_refreshes =
            before.strip_suffix(b":").is_some_and(|key| key.trim_ascii_end().ends_with(b"refreshes\""));
        if !is_refreshes {
            return;
        }
        if let Walk::Closed(length) = Walker::default().feed(&self.bytes[array..]) {
            let from = skip_comma(self.bytes, array + length);
            let _ = self.members(from, 0, ids, true);
        }
    }

    /// Reads the object at `at` from `from` on, which is behind its `{` or behind a member.
    fn read(
        &mut self,
        at: usize,
        from: usize,
        depth: u8,
        ids: &mut EnvelopeIds<'a>,
        is_envelope: bool,
    ) -> Option<Object<'a>> {
        if !self.is_wary || is_envelope {
            return self.members(from, depth, ids, is_envelope);
        }
        let whole = self.bytes;
        let end = match resume::check(whole, at) {
            Checked::Whole(end) | Checked::Fault(end) => end,
            Checked::Open => whole.len(),
        };
        // An envelope may be read to its array, whatever comes then.
        self.bytes = &whole[..end];
        let read = self.members(from, depth, ids, is_envelope);
        self.bytes = whole;
        read
    }

    /// Reads members from `at`, which is behind `{` or behind a member, to the end of the object.
    fn members(
        &self,
        mut at: usize,
        depth: u8,
        ids: &mut EnvelopeIds<'a>,
        is_envelope: bool,
    ) -> Option<Object<'a>> {
        let bytes = self.bytes;
        let mut sketch = Sketch { start: at - 1, hinted: at, ..Sketch::default() };
        at = skip_blank(bytes, at);
        if bytes.get(at) == Some(&b'}') {
            return Some(Object::Record { end: at + 1, sketch });
        }
        loop {
            if *bytes.get(at)? != b'"' {
                return None;
            }
            let key = string(bytes, at)?;
            at = skip_blank(bytes, key.end);
            if *bytes.get(at)? != b':' {
                return None;
            }
            at = skip_blank(bytes, at + 1);
            let name = &bytes[key.start + 1..key.end - 1];
            sketch.odd |= key.odd;
            let first = *bytes.get(at)?;
            if (first == b'[' || name.len() == 7) && depth > 0 && is_envelope_key(name) {
                let is_record = sketch.result_type.is_some() || sketch.category.is_some();
                if self.holds_records(at, name, is_envelope, is_record) {
                    return Some(Object::Envelope { at });
                }
            }
            let value = self.value(at, first, &mut sketch)?;
            note(name, value, &mut sketch, ids);
            at = skip_blank(bytes, at + value.len());
            match *bytes.get(at)? {
                b',' => at = skip_blank(bytes, at + 1),
                b'}' => {
                    sketch.hints.add_range(bytes, sketch.hinted, at);
                    return Some(Object::Record { end: at + 1, sketch });
                }
                _ => return None,
            }
        }
    }

    /// Whether the value at `at` of an envelope's key holds records. `records` may be an object where the array should be,
    /// or JSON in a string.
    fn holds_records(&self, at: usize, name: &[u8], is_envelope: bool, is_record: bool) -> bool {
        let rest = &self.bytes[at..];
        match rest[0] {
            b'[' => is_envelope || !is_record || name.len() == 7,
            b'{' => !is_envelope && !is_record,
            b'"' => !is_envelope && !is_record && matches!(rest[1..].trim_ascii_start(), [b'{' | b'[', ..]),
            _ => false,
        }
    }

    /// The bytes of the value at `at`.
    fn value(&self, at: usize, first: u8, sketch: &mut Sketch<'_>) -> Option<&'a [u8]> {
        let bytes = self.bytes;
        match first {
            b'"' => {
                let string = string(bytes, at)?;
                sketch.odd |= string.control;
                Some(&bytes[at..string.end])
            }
            b'{' | b'[' => {
                let mut walker = Walker::default();
                sketch.hints.add_range(bytes, sketch.hinted, at);
                let walk = walker.feed_hinting(bytes, at, &mut sketch.hints);
                let Walk::Closed(length) = walk else { return None };
                sketch.hinted = at + length;
                let value = &bytes[at..at + length];
                sketch.odd |= walker.control_in_string;
                sketch.is_deep |= walker.is_deep;
                (value[length - 1] == first + 2).then_some(value)
            }
            b'0'..=b'9' | b'-' | b't' | b'f' | b'n' => {
                let length = scalar_length(&bytes[at..]);
                (at + length < bytes.len()).then(|| &bytes[at..at + length])
            }
            _ => None,
        }
    }

    /// Reads the elements of an array from `at`.
    fn elements(&mut self, mut at: usize, ids: &EnvelopeIds<'a>, depth: u8, place: Place) -> Elements {
        loop {
            at = skip_blank(self.bytes, at);
            let next = match self.bytes.get(at) {
                None => {
                    if place != Place::Part {
                        self.receiver.broken(&[], Reason::InvalidJson);
                    }
                    return Elements::Resume(at);
                }
                Some(b']') => return Elements::Closed(at + 1),
                Some(b',') => Next::Here(at + 1),
                Some(b'{') => self.element(at, ids, depth, place),
                Some(_) => match resume::check(self.bytes, at) {
                    Checked::Whole(end) if self.is_apart(end, place) => {
                        self.receiver.broken(&self.bytes[at..end], Reason::UnknownShape);
                        Next::Here(end)
                    }
                    _ => self.recover(at, place),
                },
            };
            match next {
                Next::Here(next) => at = next,
                Next::Out(next) => return Elements::Resume(next),
            }
        }
    }

    /// Reads one object of an array.
    fn element(&mut self, at: usize, ids: &EnvelopeIds<'a>, depth: u8, place: Place) -> Next {
        match self.read(at, at + 1, depth, &mut { *ids }, false) {
            Some(Object::Record { end, sketch })
                if (self.is_apart(end, place)
                    || resume::behind(self.bytes, at, place, false, &mut self.barren)
                        == Resume::Sibling(end))
                    && self.receiver.record(&self.bytes[at..end], &sketch, ids) =>
            {
                Next::Here(end)
            }
            Some(Object::Envelope { .. }) => Next::Here(self.object(at, *ids, depth, place)),
            _ => self.recover(at, place),
        }
    }

    /// Whether an element ends at `end` as elements do. Where it does not, a quote or bracket lost in it may have led
    /// into its neighbours.
    fn is_apart(&self, end: usize, place: Place) -> bool {
        match self.bytes.get(skip_blank(self.bytes, end)) {
            Some(byte) => matches!(byte, b',' | b']'),
            None => place == Place::Part,
        }
    }

    /// Rejects the broken value at `at` and says where reading goes on.
    fn recover(&mut self, at: usize, place: Place) -> Next {
        self.is_wary = true;
        let next = match resume::behind(self.bytes, at, place, false, &mut self.barren) {
            Resume::Sibling(next) => Next::Here(next),
            Resume::Value(next) => Next::Out(next),
            Resume::Unsure(_) | Resume::Nowhere => Next::Out(self.bytes.len()),
        };
        let piece = match next {
            Next::Here(end) => {
                let piece = self.bytes[at..end].trim_ascii_end();
                piece.strip_suffix(b",").unwrap_or(piece)
            }
            Next::Out(end) => self.bytes[at..end].trim_ascii_end(),
        };
        self.receiver.broken(piece, Reason::InvalidJson);
        next
    }
}

enum Opens {
    Object,
    Array,
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Pieces(Vec<String>);

    impl Receiver for Pieces {
        fn record(&mut self, bytes: &[u8], sketch: &Sketch<'_>, ids: &EnvelopeIds<'_>) -> bool {
            if !is_json(bytes) {
                return false;
            }
            let mut hints: Vec<usize> = sketch.hints(bytes).filter(|at| at + 3 <= bytes.len()).collect();
            // What stands in the last block of a nested value is seen again behind it.
            hints.sort_unstable();
            hints.dedup();
            assert_eq!(hints, triples(bytes).collect::<Vec<_>>(), "{}", String::from_utf8_lossy(bytes));
            let ids = ids.dataset_id.map(|dataset| format!("@{dataset}")).unwrap_or_default();
            self.0.push(format!("R{ids} {}", String::from_utf8_lossy(bytes)));
            true
        }
        fn text(&mut self, bytes: &[u8]) {
            self.0.push(format!("T {}", String::from_utf8_lossy(bytes)));
        }
        fn broken(&mut self, bytes: &[u8], reason: Reason) {
            self.0.push(format!("B {reason} {}", String::from_utf8_lossy(bytes)));
        }
        fn message_end(&mut self) {
            self.0.push("|".to_owned());
        }
    }

    #[track_caller]
    fn check(text: &str, entries: Entries, expected: &[&str]) {
        let mut pieces = Pieces::default();
        frame(text.as_bytes(), entries, &mut pieces);
        assert_eq!(pieces.0, expected, "in {text:?}");
    }

    #[test]
    fn envelopes_give_their_elements() {
        use Entries::Whole;
        check(r#"{"records":[{"a":1}, {"b":2}]}"#, Whole, &[r#"R {"a":1}"#, r#"R {"b":2}"#]);
        check(r#"[{"a":1},{"b":[]}]"#, Whole, &[r#"R {"a":1}"#, r#"R {"b":[]}"#]);
        check(r#"{"@odata.context":"x","value":[{"a":1}],"n":2}"#, Whole, &[r#"R {"a":1}"#]);
        check(r#"{"records":[]}"#, Whole, &[]);
        check(r#"{"workspaceId":"w","datasetId":"d","refreshes":[{"a":1}]}"#, Whole, &[r#"R@d {"a":1}"#]);
        check(r#"{"refreshes":[{"a":1}],"datasetId":"d"}"#, Whole, &[r#"R@d {"a":1}"#]);
        check(r#"[{"records":[{"a":1}]}]"#, Whole, &[r#"R {"a":1}"#]);
    }

    #[test]
    fn hints_of_a_record_are_found_in_and_around_nested_values() {
        for (length, word) in [(0, "aadsts"), (1, "cod"), (61, "AAD"), (62, "Code"), (63, "aad"), (64, "cod")]
        {
            let pad = "x".repeat(length);
            let nested = format!(r#"{{"{pad}{word}":["{pad}{word}",{{}}],"{word}":"{pad}"}}"#);
            let some = format!(r#"{{"{word}":"{pad}{word}","n":{nested},"m":{nested},"{pad}":"{word}"}}"#);
            let many = format!(r#"{{"m":{nested},"n":{nested},"o":{nested},"p":{nested},"q":{nested}}}"#);
            let text = format!("{some}{many}{some}");
            check(&text, Entries::Whole, &[&format!("R {some}"), &format!("R {many}"), &format!("R {some}")]);
        }
    }

    #[test]
    fn an_object_that_only_looks_like_an_envelope_is_a_record() {
        check(r#"{"records":"x"}"#, Entries::Whole, &[r#"R {"records":"x"}"#]);
        check(r#"{"value":5}"#, Entries::Whole, &[r#"R {"value":5}"#]);
        check(r#"{"category":"x","value":[1]}"#, Entries::Whole, &[r#"R {"category":"x","value":[1]}"#]);
    }

    #[test]
    fn lines_values_and_text_are_messages_of_a_file() {
        check(
            "{\"a\":1}\r\n\r\n[INFO] text\n{\n \"b\": 2\n}\n{\"c\":3}{\"d\":4}\n42\nlast",
            Entries::Lines,
            &[
                r#"R {"a":1}"#,
                "|",
                "T [INFO] text",
                "|",
                "R {\n \"b\": 2\n}",
                "|",
                r#"R {"c":3}"#,
                "|",
                r#"R {"d":4}"#,
                "|",
                "B unknown_shape 42",
                "|",
                "T last",
                "|",
            ],
        );
    }

    #[test]
    fn a_kafka_message_of_text_is_one_entry() {
        check("first\n{\"a\":1}\nlast\n", Entries::Whole, &["T first\n{\"a\":1}\nlast"]);
        check(
            "{\"a\":1}\ntext\nmore\n{\"b\":2}",
            Entries::Whole,
            &[r#"R {"a":1}"#, "T text\nmore", r#"R {"b":2}"#],
        );
    }

    #[test]
    fn a_broken_record_leaves_its_neighbours_alone() {
        use Entries::{Lines, Whole};
        check(
            "{\"a\":1}\n{\"records\":[{\"b\":\"cut in\n{\"c\":3}\n",
            Lines,
            &[r#"R {"a":1}"#, "|", "B invalid_json {\"b\":\"cut in", "|", r#"R {"c":3}"#, "|"],
        );
        check(
            "{\"a\":{\"b\":1\n{\"c\":3}\n",
            Lines,
            &["B invalid_json {\"a\":{\"b\":1", "|", r#"R {"c":3}"#, "|"],
        );
        check("{\"a\":1,\n{\"c\":3}\n", Lines, &["B invalid_json {\"a\":1,", "|", r#"R {"c":3}"#, "|"]);
        check("{status=bad}\n{\"c\":3}", Lines, &["B invalid_json {status=bad}", "|", r#"R {"c":3}"#, "|"]);
        check(
            r#"{"records":[{"t":1},{"t":{"x":1},{"t":3}]}"#,
            Whole,
            &[r#"R {"t":1}"#, r#"B invalid_json {"t":{"x":1}"#, r#"R {"t":3}"#],
        );
        check(
            r#"{"records":[{"t":1},{"t" 2},{"t":3}]}"#,
            Whole,
            &[r#"R {"t":1}"#, r#"B invalid_json {"t" 2}"#, r#"R {"t":3}"#],
        );
        check(
            r#"{"records":[{"t":1},7,{"t":3}]}"#,
            Whole,
            &[r#"R {"t":1}"#, "B unknown_shape 7", r#"R {"t":3}"#],
        );
        check(r#"{"records":[{"t":1},{"t":2"#, Whole, &[r#"R {"t":1}"#, r#"B invalid_json {"t":2"#]);
        check(r#"{"records":[{"t":1},"#, Whole, &[r#"R {"t":1}"#, "B invalid_json "]);
    }

    /// Lines that only a parser minds, or that open what nothing closes.
    #[test]
    fn a_broken_line_leaves_the_lines_behind_it_messages_of_their_own() {
        for broken in ["{\"a\":\"\t\"}", "{\"a\":\"1\n2\"}", "[[[", "[[[]", "[[[{\"a\":1}", "{\"a\":[[["] {
            let text = format!("{{\"a\":1}}\n{broken}\n{{\"b\":2}}\n{{\"c\":3}}\n");
            let mut pieces = Pieces::default();
            frame(text.as_bytes(), Entries::Lines, &mut pieces);
            assert_eq!(pieces.0.len(), 8, "{text}: {:?}", pieces.0);
            assert!(pieces.0[2].starts_with("B invalid_json "), "{text}: {:?}", pieces.0);
            assert_eq!(pieces.0[3..], ["|", r#"R {"b":2}"#, "|", r#"R {"c":3}"#, "|"], "{text}");
            let mut whole = Pieces::default();
            frame(text.as_bytes(), Entries::Whole, &mut whole);
            pieces.0.retain(|piece| piece != "|");
            assert_eq!(whole.0, pieces.0, "{text} as one message");
        }
    }

    /// Every damage in every framing: what is whole comes as it was, what is broken as one piece.
    #[test]
    fn a_lost_quote_or_bracket_ends_with_its_record() {
        let broken = [
            r#"{"a":"1,"t":"x"}"#,
            r#"{"a":[1}"#,
            r#"{"a":{"b":[1,2},"c":3}"#,
            r#"{"a":"1}"#,
            r#"{"a:1}"#,
            r#"{"time":"2026","operationName":"x""#,
            r#"{"time":"2026","operationName":"x"#,
            r#"{"time":"2026","l":[{"id":1},{"id":"2},{"id":3}],"n":{"x":[{},{}]}}"#,
            r#"{"l":[{"id":1} {"id":2},{"id":3}],"n":1}"#,
            r#"{"a":"},{\"t\":1},","b" 2}"#,
            r#""a":1}"#,
            r#"{"a":1},"b":2}}"#,
        ];
        let (first, last) = (r#"{"AADTenantId":"x","l":[{"y":1}]}"#, r#"{"id":"]}],\"{","s":{"e":0}}"#);
        for (head, between, tail) in [
            ("{\"records\":[", ",", "]}"),
            ("{\"records\" : [ ", " , ", " ] , \"n\" : 1 } "),
            ("[", ",", "]"),
            ("[\n  ", ",\n  ", "\n]\n"),
            ("{\"value\":[", ",", "],\"@odata.nextLink\":\"x\"}"),
            ("", "\n", "\n"),
        ] {
            for broken in broken {
                // On lines a record that lost its first bracket is text.
                if head.is_empty() && !broken.starts_with('{') {
                    continue;
                }
                for at in 0..3 {
                    let mut records = vec![first, last];
                    records.insert(at, broken);
                    let text = format!("{head}{}{tail}", records.join(between));
                    let mut pieces = Pieces::default();
                    frame(text.as_bytes(), Entries::Whole, &mut pieces);
                    for whole in [first, last] {
                        let count = pieces.0.iter().filter(|piece| piece[2..] == *whole).count();
                        assert_eq!(count, 1, "{whole} of {text}: {:?}", pieces.0);
                    }
                    let read = pieces.0.iter().filter(|piece| piece.starts_with("R ")).count();
                    let is_record_still = usize::from(broken.starts_with(r#"{"a":1}"#));
                    assert_eq!(read, 2 + is_record_still, "{text}: {:?}", pieces.0);
                }
            }
        }
    }

    #[test]
    fn siblings_are_told_from_elements_of_a_list_that_was_cut() {
        for (head, tail) in [("[", "]"), ("{\"records\":[", "]}"), ("{\"value\":[", "],\"n\":1}")] {
            for cut in [r#"{"id":1,"l":[{"id":1},{"id":2}"#, r#"{"time":"x","p":{"l":["a""#] {
                let text = format!(r#"{head}{cut},{{"time":"1","l":[{{}},{{}}]}},{{"y":1}}{tail}"#);
                let broken = format!("B invalid_json {cut}");
                let last = [&broken, r#"R {"time":"1","l":[{},{}]}"#, r#"R {"y":1}"#];
                check(&text, Entries::Whole, &last);
            }
        }
    }

    #[test]
    fn records_are_found_in_an_object_and_in_a_string() {
        use Entries::Whole;
        check(r#"{"records":{"a":1},"n":2}"#, Whole, &[r#"R {"a":1}"#]);
        check(r#"{"records":{"records":[{"a":1}]}}"#, Whole, &[r#"R {"a":1}"#]);
        check(
            r#"{"records":"[{\"a\":1},{\"b\":\"\\\"\"}]","n":2}"#,
            Whole,
            &[r#"R {"a":1}"#, r#"R {"b":"\""}"#],
        );
        check(r#"{"records":" {\"a\":1}"}"#, Whole, &[r#"R {"a":1}"#]);
        check(
            r#"{"value":[1,"x",{"a":1}]}"#,
            Whole,
            &["B unknown_shape 1", r#"B unknown_shape "x""#, r#"R {"a":1}"#],
        );
        check(r#"{"category":"x","records":{"a":1}}"#, Whole, &[r#"R {"category":"x","records":{"a":1}}"#]);
    }
}
