//! Cuts the bytes of a message, or of a file, into records, text entries and broken pieces.
//!
//! A record is any object that is no envelope. Objects are read one level deep (keys, and where their values end);
//! what lies below is skipped by the [`Walker`]. A broken piece takes none of its neighbours along: after it, reading
//! goes on at the next sibling or the next line that can begin a value.

use memchr::{memchr, memmem};

use super::simd::string_stop;
use super::structure::{Walk, Walker};
use crate::terms::Reason;

/// Envelopes inside envelopes that are followed; deeper ones are read as records.
const ENVELOPE_DEPTH: u8 = 4;

/// Values cut short without a clear end that are searched to the end of the input; later ones end with their line,
/// so that hostile input costs a constant number of passes.
const OPEN_VALUES: u32 = 4;

/// Broken pieces without a sibling that one was looked for; each look may cost a pass.
const LONE_PIECES: u32 = 16;

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
}

/// Takes the pieces in the order of the input.
pub trait Receiver<'a> {
    fn record(&mut self, bytes: &'a [u8], sketch: &Sketch<'a>, ids: &EnvelopeIds<'a>);
    fn text(&mut self, bytes: &'a [u8]);
    fn broken(&mut self, bytes: &'a [u8], reason: Reason);
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
pub fn frame<'a>(bytes: &'a [u8], entries: Entries, receiver: &mut impl Receiver<'a>) {
    Framer { bytes, entries, receiver, open_values: 0, lone_pieces: 0, is_part: false, is_lone_line: false }
        .top_level();
}

/// Cuts the elements of an array whose opening bracket was read before; trailing commas and the like are skipped.
pub fn frame_elements<'a>(bytes: &'a [u8], ids: &EnvelopeIds<'a>, receiver: &mut impl Receiver<'a>) {
    let mut framer = Framer {
        bytes,
        entries: Entries::Lines,
        receiver,
        open_values: 0,
        lone_pieces: 0,
        is_part: true,
        is_lone_line: false,
    };
    let mut at = 0;
    while at < bytes.len() {
        if framer.open_values > OPEN_VALUES {
            return framer.line_by_line(at);
        }
        let (Elements::Closed(next) | Elements::Resume(next)) = framer.elements(at, ids, 1);
        at = next;
    }
}

/// What a piece of a file begins with, for a reader that holds only a part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening<'a> {
    /// An array of records; its elements begin at this index.
    Elements { at: usize, ids: EnvelopeIds<'a> },
    /// A value that must be read whole, or text.
    Other,
}

/// Looks for an array of records whose elements may be read one after another.
pub fn opening(bytes: &[u8]) -> Opening<'_> {
    struct Nobody;
    impl<'a> Receiver<'a> for Nobody {
        fn record(&mut self, _: &'a [u8], _: &Sketch<'a>, _: &EnvelopeIds<'a>) {}
        fn text(&mut self, _: &'a [u8]) {}
        fn broken(&mut self, _: &'a [u8], _: Reason) {}
    }
    let framer = Framer {
        bytes,
        entries: Entries::Lines,
        receiver: &mut Nobody,
        open_values: 0,
        lone_pieces: 0,
        is_part: true,
        is_lone_line: false,
    };
    let at = skip_blank(bytes, 0);
    if at == bytes.len() {
        return Opening::Other;
    }
    let mut ids = EnvelopeIds::default();
    match framer.opens(at) {
        Opens::Array => Opening::Elements { at: at + 1, ids },
        Opens::Object => match framer.members(at + 1, 1, &mut ids, false) {
            Ok(Object::Envelope { array }) => Opening::Elements { at: array, ids },
            _ => Opening::Other,
        },
        Opens::Text => Opening::Other,
    }
}

/// Where an object ends, or the array of an envelope begins.
enum Object<'a> {
    Record {
        end: usize,
        sketch: Sketch<'a>,
    },
    /// Index behind the opening bracket of `records`, `value` or `refreshes`.
    Envelope {
        array: usize,
    },
}

/// Why an object could not be read to its end.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// Not JSON at this index.
    Grammar(usize),
    /// The input ended.
    Open,
    /// A new value begins behind this line end.
    Cut(usize),
}

enum Elements {
    /// Index behind the closing bracket.
    Closed(usize),
    /// The array was given up; top-level reading goes on here.
    Resume(usize),
}

struct Framer<'a, 'r, R> {
    bytes: &'a [u8],
    entries: Entries,
    receiver: &'r mut R,
    open_values: u32,
    lone_pieces: u32,
    /// The bytes are elements of an array that goes on elsewhere.
    is_part: bool,
    /// The bytes are one line of an input that was given up as a whole.
    is_lone_line: bool,
}

impl<'a, R: Receiver<'a>> Framer<'a, '_, R> {
    fn top_level(&mut self) {
        let mut at = skip_blank(self.bytes, 0);
        while at < self.bytes.len() {
            if self.open_values > OPEN_VALUES {
                return self.line_by_line(at);
            }
            at = match self.opens(at) {
                Opens::Object => {
                    let next = self.object(at, EnvelopeIds::default(), ENVELOPE_DEPTH);
                    self.message_end();
                    next
                }
                Opens::Array => {
                    let next = match self.elements(at + 1, &EnvelopeIds::default(), ENVELOPE_DEPTH) {
                        Elements::Closed(end) | Elements::Resume(end) => end,
                    };
                    self.message_end();
                    next
                }
                Opens::Text => self.text(at),
            };
            at = skip_blank(self.bytes, at);
        }
    }

    /// Reads the rest as lines that stand alone: after so many values without an end none is looked for further.
    fn line_by_line(&mut self, at: usize) {
        if self.is_lone_line {
            self.receiver.broken(&self.bytes[at..], Reason::InvalidJson);
            return self.message_end();
        }
        for line in self.bytes[at..].split(|byte| *byte == b'\n') {
            Framer {
                bytes: line,
                entries: self.entries,
                receiver: &mut *self.receiver,
                open_values: 0,
                lone_pieces: 0,
                is_part: false,
                is_lone_line: true,
            }
            .top_level();
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
            // Text at the start of a message is the message; text behind a record ends where the next one begins.
            Entries::Whole if at == skip_blank(self.bytes, 0) => None,
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
        self.message_end();
        at + entry.len()
    }

    /// Reads the object at `at`; gives the index where reading goes on.
    fn object(&mut self, at: usize, mut ids: EnvelopeIds<'a>, depth: u8) -> usize {
        let mut from = at + 1;
        let mut is_envelope = false;
        loop {
            match self.members(from, depth, &mut ids, is_envelope) {
                Ok(Object::Record { end, sketch }) => {
                    if !is_envelope {
                        self.receiver.record(&self.bytes[at..end], &sketch, &ids);
                    }
                    return end;
                }
                Ok(Object::Envelope { array }) => {
                    is_envelope = true;
                    if depth == ENVELOPE_DEPTH && ids.dataset_id.is_none() {
                        self.ids_behind(array - 1, &mut ids);
                    }
                    match self.elements(array, &ids, depth - 1) {
                        Elements::Closed(end) => from = skip_comma(self.bytes, end),
                        Elements::Resume(next) => return next,
                    }
                }
                Err(reason) => {
                    let start = if is_envelope { from } else { at };
                    return self.give_up(start, reason);
                }
            }
        }
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

    /// Reads members from `at`, which is behind `{` or behind a member, to the end of the object.
    fn members(
        &self,
        mut at: usize,
        depth: u8,
        ids: &mut EnvelopeIds<'a>,
        is_envelope: bool,
    ) -> Result<Object<'a>, Break> {
        let bytes = self.bytes;
        let mut sketch = Sketch::default();
        at = skip_blank(bytes, at);
        if bytes.get(at) == Some(&b'}') {
            return Ok(Object::Record { end: at + 1, sketch });
        }
        loop {
            if *bytes.get(at).ok_or(Break::Open)? != b'"' {
                return Err(self.grammar(at));
            }
            let key = string(bytes, at)?;
            at = skip_blank(bytes, key.end);
            if *bytes.get(at).ok_or(Break::Open)? != b':' {
                return Err(self.grammar(at));
            }
            at = skip_blank(bytes, at + 1);
            let name = &bytes[key.start + 1..key.end - 1];
            sketch.odd |= key.odd;
            let first = *bytes.get(at).ok_or(Break::Open)?;
            if first == b'[' && depth > 0 && is_envelope_key(name) {
                let next = bytes.get(skip_blank(bytes, at + 1));
                let is_record = sketch.result_type.is_some() || sketch.category.is_some();
                if is_envelope
                    || !is_record && matches!(next, Some(b'{' | b']' | b'n') | None)
                    || name.len() == 7
                {
                    return Ok(Object::Envelope { array: at + 1 });
                }
            }
            let value = self.value(at, first, &mut sketch)?;
            note(name, value, &mut sketch, ids);
            at = skip_blank(bytes, at + value.len());
            match *bytes.get(at).ok_or(Break::Open)? {
                b',' => at = skip_blank(bytes, at + 1),
                b'}' => return Ok(Object::Record { end: at + 1, sketch }),
                _ => return Err(self.grammar(at)),
            }
        }
    }

    /// The bytes of the value at `at`.
    fn value(&self, at: usize, first: u8, sketch: &mut Sketch<'_>) -> Result<&'a [u8], Break> {
        let bytes = self.bytes;
        match first {
            b'"' => {
                let string = string(bytes, at)?;
                sketch.odd |= string.control;
                Ok(&bytes[at..string.end])
            }
            b'{' | b'[' => {
                let mut walker = Walker::default();
                match walker.feed(&bytes[at..]) {
                    Walk::Closed(length) => {
                        let value = &bytes[at..at + length];
                        sketch.odd |= walker.control_in_string;
                        sketch.is_deep |= walker.is_deep;
                        if value[length - 1] == first + 2 {
                            Ok(value)
                        } else {
                            Err(Break::Grammar(at + length - 1))
                        }
                    }
                    Walk::Open => Err(Break::Open),
                    Walk::Cut(line_end) => Err(Break::Cut(at + line_end)),
                }
            }
            b'0'..=b'9' | b'-' | b't' | b'f' | b'n' => {
                let length = scalar_length(&bytes[at..]);
                if at + length == bytes.len() { Err(Break::Open) } else { Ok(&bytes[at..at + length]) }
            }
            _ => Err(self.grammar(at)),
        }
    }

    /// Not JSON at `at`. Where that is the first byte of a line that can begin a value, the last line was cut.
    fn grammar(&self, at: usize) -> Break {
        let blank = self.bytes[..at].iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
        match memchr(b'\n', &self.bytes[blank..at]) {
            Some(line_end) if matches!(self.bytes[at], b'{' | b'[') => Break::Cut(blank + line_end),
            _ => Break::Grammar(at),
        }
    }

    /// Reads the elements of an array from `at`.
    fn elements(&mut self, mut at: usize, ids: &EnvelopeIds<'a>, depth: u8) -> Elements {
        loop {
            at = skip_blank(self.bytes, at);
            if self.open_values > OPEN_VALUES {
                return Elements::Resume(at);
            }
            let Some(first) = self.bytes.get(at) else {
                if self.is_part {
                    return Elements::Resume(at);
                }
                self.receiver.broken(&[], Reason::InvalidJson);
                return Elements::Resume(at);
            };
            match first {
                b']' => return Elements::Closed(at + 1),
                b',' => at += 1,
                // A brace too many; what follows may be whole.
                b'}' => {
                    self.receiver.broken(&self.bytes[at..=at], Reason::InvalidJson);
                    at += 1;
                }
                b'{' => match self.element(at, ids, depth) {
                    Ok(next) => at = next,
                    Err(resume) => return Elements::Resume(resume),
                },
                _ => match self.value(at, *first, &mut Sketch::default()) {
                    Ok(value) => {
                        self.receiver.broken(value, Reason::UnknownShape);
                        at += value.len();
                    }
                    Err(reason) => return Elements::Resume(self.give_up(at, reason)),
                },
            }
        }
    }

    /// Reads one object of an array; the index behind it, or where to go on when the array is given up.
    fn element(&mut self, at: usize, ids: &EnvelopeIds<'a>, depth: u8) -> Result<usize, usize> {
        let mut own_ids = *ids;
        match self.members(at + 1, depth, &mut own_ids, false) {
            Ok(Object::Record { end, sketch }) => {
                self.receiver.record(&self.bytes[at..end], &sketch, ids);
                Ok(end)
            }
            Ok(Object::Envelope { .. }) => Ok(self.object(at, *ids, depth)),
            Err(Break::Cut(line_end)) => Err(self.give_up(at, Break::Cut(line_end))),
            // Its brackets match, so its end is known although its inside is no JSON.
            Err(Break::Grammar(_)) if let Some(end) = self.balanced(at) => {
                self.receiver.broken(&self.bytes[at..end], Reason::InvalidJson);
                Ok(end)
            }
            // Looking for its end took a pass to the end of the input.
            Err(Break::Open) if self.open_values > OPEN_VALUES => Err(self.give_up(at, Break::Open)),
            Err(reason) => {
                self.open_values += u32::from(matches!(reason, Break::Open));
                self.next_sibling(at, reason)
            }
        }
    }

    /// The end of the brackets that open at `at`, if they match and a sibling or the end of the array follows.
    fn balanced(&mut self, at: usize) -> Option<usize> {
        let walk = Walker::default().feed(&self.bytes[at..]);
        self.open_values += u32::from(walk == Walk::Open);
        let Walk::Closed(length) = walk else { return None };
        let end = at + length;
        let follows = self.bytes.get(skip_blank(self.bytes, end));
        (self.bytes[end - 1] == b'}' && matches!(follows, Some(b',' | b']'))).then_some(end)
    }

    /// Rejects the broken element at `at` and goes on with its next sibling, if there is one.
    fn next_sibling(&mut self, at: usize, reason: Break) -> Result<usize, usize> {
        match self.sibling(at) {
            Some(next) => {
                let piece = self.bytes[at..next].trim_ascii_end();
                self.receiver.broken(piece.strip_suffix(b",").unwrap_or(piece), Reason::InvalidJson);
                Ok(next)
            }
            None => Err(self.give_up(at, reason)),
        }
    }

    /// The next object in the array behind the broken one at `at`: it begins with the same key, as records of one
    /// writer do.
    fn sibling(&mut self, at: usize) -> Option<usize> {
        let key_at = skip_blank(self.bytes, at + 1);
        let key =
            (self.bytes.get(key_at) == Some(&b'"')).then(|| string(self.bytes, key_at).ok()).flatten()?;
        if self.lone_pieces >= LONE_PIECES {
            return None;
        }
        let opening = &self.bytes[key.start..key.end];
        let reach = &self.bytes[..self.array_reach(key.end)];
        let mut from = key.end;
        while let Some(found) = memmem::find(&reach[from..], opening) {
            let key = from + found;
            let brace = self.bytes[..key].trim_ascii_end();
            if let Some(before) = brace.strip_suffix(b"{")
                && before.trim_ascii_end().ends_with(b",")
            {
                return Some(before.len());
            }
            from = key + opening.len();
        }
        self.lone_pieces += 1;
        None
    }

    /// The end of the array that a piece at `from` is in, at the latest: a line that begins an object ends it, unless
    /// a comma stands before.
    fn array_reach(&self, from: usize) -> usize {
        let ends = |at: &usize| !self.bytes[..from + at].trim_ascii_end().ends_with(b",");
        memmem::find_iter(&self.bytes[from..], b"\n{").find(ends).map_or(self.bytes.len(), |at| from + at)
    }

    /// Rejects what begins at `at` and finds where reading goes on.
    fn give_up(&mut self, at: usize, reason: Break) -> usize {
        let rest = &self.bytes[at..];
        let end = match reason {
            Break::Cut(line_end) => line_end,
            Break::Grammar(failed) if memchr(b'\n', &self.bytes[at..failed]).is_none() => {
                memchr(b'\n', &self.bytes[failed..]).map_or(self.bytes.len(), |length| failed + length)
            }
            Break::Grammar(_) | Break::Open => {
                self.open_values += 1;
                memmem::find(rest, b"\n{").map_or(self.bytes.len(), |length| at + length)
            }
        };
        self.receiver.broken(&self.bytes[at..end], Reason::InvalidJson);
        end
    }
}

enum Opens {
    Object,
    Array,
    Text,
}

/// Remembers the few members that decide how closely a record is looked at.
fn note<'a>(name: &[u8], value: &'a [u8], sketch: &mut Sketch<'a>, ids: &mut EnvelopeIds<'a>) {
    match name.len() {
        8 if name.eq_ignore_ascii_case(b"category") => {
            sketch.odd |= sketch.category.is_some();
            match value {
                [b'"', content @ .., b'"'] if !content.contains(&b'\\') => sketch.category = Some(content),
                _ => sketch.odd = true,
            }
        }
        10 if name.eq_ignore_ascii_case(b"resultType") => {
            sketch.odd |= sketch.result_type.is_some();
            sketch.result_type = Some(value);
        }
        11 if name.eq_ignore_ascii_case(b"workspaceId") => {
            ids.workspace_id = plain(value).or(ids.workspace_id);
        }
        9 if name.eq_ignore_ascii_case(b"datasetId") => ids.dataset_id = plain(value).or(ids.dataset_id),
        _ => {}
    }
}

fn plain(value: &[u8]) -> Option<&str> {
    let content = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(content).ok().filter(|content| !content.is_empty() && !content.contains('\\'))
}

fn is_envelope_key(name: &[u8]) -> bool {
    match name.len() {
        5 => name.eq_ignore_ascii_case(b"value"),
        7 => name.eq_ignore_ascii_case(b"records"),
        9 => name.eq_ignore_ascii_case(b"refreshes"),
        _ => false,
    }
}

pub(super) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Blank between JSON tokens; NUL too, which some writers pad with, and form feeds, which end pages of text.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0c | 0)
}

pub(super) fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(byte) if is_blank(*byte) => at += 1,
            // Files that were appended to one another have marks in their middle.
            Some(0xef) if bytes[at..].starts_with(b"\xef\xbb\xbf") => at += 3,
            _ => return at,
        }
    }
}

/// Behind the comma at `at`, if there is one.
fn skip_comma(bytes: &[u8], at: usize) -> usize {
    let at = skip_blank(bytes, at);
    if bytes.get(at) == Some(&b',') { at + 1 } else { at }
}

pub(super) fn scalar_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'+' | b'-' | b'.' | b'E'))
        .unwrap_or(bytes.len())
}

struct JsonString {
    start: usize,
    /// Behind the closing quote.
    end: usize,
    /// An escape in it.
    odd: bool,
    /// A byte below 0x20 in it.
    control: bool,
}

/// Reads the string whose opening quote is at `start`.
#[inline]
fn string(bytes: &[u8], start: usize) -> Result<JsonString, Break> {
    let mut at = start + 1;
    let (mut odd, mut control) = (false, false);
    loop {
        let stop = string_stop(bytes, at).ok_or(Break::Open)?;
        control |= stop.control;
        if bytes[stop.at] == b'"' {
            return Ok(JsonString { start, end: stop.at + 1, odd, control });
        }
        odd = true;
        at = stop.at + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Pieces(Vec<String>);

    impl<'a> Receiver<'a> for Pieces {
        fn record(&mut self, bytes: &'a [u8], _: &Sketch<'a>, ids: &EnvelopeIds<'a>) {
            let ids = ids.dataset_id.map(|dataset| format!("@{dataset}")).unwrap_or_default();
            self.0.push(format!("R{ids} {}", String::from_utf8_lossy(bytes)));
        }
        fn text(&mut self, bytes: &'a [u8]) {
            self.0.push(format!("T {}", String::from_utf8_lossy(bytes)));
        }
        fn broken(&mut self, bytes: &'a [u8], reason: Reason) {
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
}
