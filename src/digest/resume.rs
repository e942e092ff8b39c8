//! Where reading goes on after a broken value.
//!
//! A broken value is checked byte by byte to the place where it stops being JSON ([`Check`]); that place is next to
//! the damage, also where a lost quote or bracket would lead a reader that only counts brackets far away. From there on
//! [`find`] tries one `{` after another, where a record may begin: behind a comma, or on a new line. It is taken if what
//! begins there reads well, value after value, up to a bracket that may be the array's own: `]}` and then the end of the
//! message belong to `records`, `],"more":…}},` to a list inside the broken record. So neither a list in the broken
//! record nor text in its strings is taken for records, and whatever was tried in vain is not read again: the search is
//! linear.

use memchr::{memchr, memchr2, memmem, memrchr};

use super::frame::token::{is_blank, skip_blank};

/// Bytes that are read well behind a place before it is believed without a look at the end of its array. Lists inside
/// records are shorter.
const CONVINCING_BYTES: usize = 64 * 1024;

/// What a check says about the bytes it was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checked {
    /// The value ends before this index.
    Whole(usize),
    /// The bytes ended first.
    Open,
    /// The byte at this index cannot stand here.
    Fault(usize),
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Expected {
    #[default]
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    InScalar,
    InKey,
    InString,
}

/// JSON's grammar, one byte at a time; it may be fed block by block. What scalars and escapes say is not looked at, and
/// control bytes in strings are accepted.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// The brackets that close what is open.
    open: Vec<u8>,
    expected: Expected,
    is_escaped: bool,
    /// Bytes fed before the current ones.
    fed: usize,
    /// The last string, from quote to behind the quote, counted from the first byte ever fed.
    string: (usize, usize),
    /// The object being read, if it is an element behind the first one of a list and nothing in it was nested so far.
    element: Option<usize>,
    /// The first such object that looks like a log's record.
    record: Option<usize>,
}

/// First keys of records in logs; the objects in lists inside of records have others.
const LOG_KEYS: &[&[u8]] = &[
    b"time",
    b"timeGenerated",
    b"timestamp",
    b"createdDateTime",
    b"category",
    b"operationName",
    b"resultType",
    b"requestId",
    b"refreshType",
    b"activityRunId",
];

impl Check {
    /// A check that is inside an object already, behind a comma.
    fn inside_object() -> Self {
        Self { open: vec![b'}'], expected: Expected::Key, ..Self::default() }
    }

    /// Reads on; after [`Checked::Open`] it may be fed the bytes that follow.
    pub fn feed(&mut self, bytes: &[u8]) -> Checked {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if matches!(self.expected, Expected::InString | Expected::InKey) {
                let Some(next) = self.string(bytes, at) else { break };
                at = next;
                if self.expected == Expected::CommaOrEnd && self.open.is_empty() {
                    return Checked::Whole(at);
                }
                continue;
            }
            if self.expected == Expected::InScalar && !is_scalar(byte) {
                self.expected = Expected::CommaOrEnd;
                if self.open.is_empty() {
                    return Checked::Whole(at);
                }
            }
            if self.expected != Expected::InScalar && !is_blank(byte) {
                let Some(expected) = self.token(byte, at) else { return Checked::Fault(at) };
                self.expected = expected;
                if expected == Expected::CommaOrEnd && self.open.is_empty() {
                    return Checked::Whole(at + 1);
                }
            }
            at += 1;
        }
        self.fed += bytes.len();
        Checked::Open
    }

    /// What may follow `byte`, if it may stand here.
    fn token(&mut self, byte: u8, at: usize) -> Option<Expected> {
        use Expected::{Colon, CommaOrEnd, InKey, InScalar, InString, Key, KeyOrEnd, Value, ValueOrEnd};
        Some(match (self.expected, byte) {
            (Value | ValueOrEnd, b'{') => {
                let is_element = self.expected == Value && self.open.last() == Some(&b']');
                self.element = is_element.then_some(self.fed + at);
                self.open.push(b'}');
                KeyOrEnd
            }
            (Value | ValueOrEnd, b'[') => {
                self.element = None;
                self.open.push(b']');
                ValueOrEnd
            }
            (Value | ValueOrEnd | Key | KeyOrEnd, b'"') => {
                self.string.0 = self.fed + at;
                if matches!(self.expected, Key | KeyOrEnd) { InKey } else { InString }
            }
            (Value | ValueOrEnd, byte) if is_scalar(byte) => InScalar,
            (CommaOrEnd, b',') if self.open.last() == Some(&b'}') => Key,
            (CommaOrEnd, b',') | (Colon, b':') => Value,
            (CommaOrEnd | KeyOrEnd | ValueOrEnd, close) if self.open.last() == Some(&close) => {
                self.element = None;
                self.open.pop();
                CommaOrEnd
            }
            _ => return None,
        })
    }

    /// Reads on in a string; the index behind what was read, or none if the bytes ended.
    fn string(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        if std::mem::take(&mut self.is_escaped) {
            return Some(at + 1);
        }
        let stop = at + memchr2(b'"', b'\\', &bytes[at..])?;
        if bytes[stop] == b'\\' {
            self.is_escaped = true;
        } else {
            let is_key = self.expected == Expected::InKey;
            self.expected = if is_key { Expected::Colon } else { Expected::CommaOrEnd };
            if is_key && self.element.is_some() && self.record.is_none() {
                let key = (self.string.0 + 1).checked_sub(self.fed).and_then(|start| bytes.get(start..stop));
                let is_log = |name: &&[u8]| key.is_some_and(|key| key.eq_ignore_ascii_case(name));
                self.record = self.element.filter(|_| LOG_KEYS.iter().any(is_log));
            }
            self.string.1 = self.fed + stop + 1;
        }
        Some(stop + 1)
    }

    /// The first index, counted from the first byte ever fed, that may lie behind the damage. A string just before the
    /// fault may be one whose quote was lost, so it is searched too.
    fn suspect(&self, bytes: &[u8], checked: Checked) -> usize {
        let is_in_string = matches!(self.expected, Expected::InString | Expected::InKey);
        let (start, end) = self.string;
        match checked {
            Checked::Fault(at) if end > start && skip_blank(bytes, end) == at => start,
            Checked::Fault(at) => at,
            Checked::Open if is_in_string => start,
            Checked::Open => bytes.len(),
            Checked::Whole(end) => end,
        }
    }
}

/// Reads the value at `at` to its end.
pub fn check(bytes: &[u8], at: usize) -> Checked {
    match Check::default().feed(&bytes[at..]) {
        Checked::Whole(length) => Checked::Whole(at + length),
        Checked::Fault(length) => Checked::Fault(at + length),
        Checked::Open => Checked::Open,
    }
}

const fn is_scalar(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'+' | b'-' | b'.' | b'E')
}

/// What the broken value stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Nothing.
    Top,
    /// An array that nothing is around.
    Array,
    /// The array of an envelope.
    Envelope,
    /// The array of an envelope that is itself an element.
    InnerEnvelope,
    /// A part of an array that ends between two elements; what is behind them was cut off.
    Part,
}

/// Where reading goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resume {
    /// With an element of the same array.
    Sibling(usize),
    /// With a value or a line of text that is in no array.
    Value(usize),
    /// What begins here needs more bytes to be judged.
    Unsure(usize),
    Nowhere,
}

/// Where reading goes on behind the broken value at `at`; `goes_on` if more bytes can be had. `barren` is [`find`]'s.
pub fn behind(bytes: &[u8], at: usize, place: Place, goes_on: bool, barren: &mut usize) -> Resume {
    let rest = &bytes[at..];
    let mut check = Check::default();
    let checked = check.feed(rest);
    // A record that was cut between the elements of a list in it takes its neighbours for more of them.
    if place != Place::Top
        && let Some(record) = check.record
        && let Ok(resume @ Resume::Sibling(_)) = judge(bytes, at + record, place, goes_on, false)
    {
        return resume;
    }
    match checked {
        // Only a parser minds it. In nothing, what follows is no element.
        Checked::Whole(length) if matches!(rest[0], b'{' | b'[') => believed(at + length, place),
        // A quote too many may be the start of it.
        Checked::Whole(_) => find(bytes, at + 1, place, goes_on, barren),
        checked => {
            let suspect = check.suspect(rest, checked).max(1).min(rest.len());
            // A line that was cut behind a colon takes the next one for its value.
            let line = memmem::find(&rest[..suspect], b"\n{").unwrap_or(suspect);
            find(bytes, at + line, place, goes_on, barren)
        }
    }
}

/// Where the elements go on if the closing bracket at `at` is one too many: what follows does not fit the end of an array.
pub fn behind_bracket(bytes: &[u8], at: usize, place: Place, goes_on: bool) -> Option<usize> {
    closes(bytes, at + 1, place).err()?;
    // Behind an array that may be whole, text is text.
    let mut barren = usize::MAX;
    match find(bytes, at + 1, place, goes_on, &mut barren) {
        Resume::Sibling(next) => Some(next),
        _ => None,
    }
}

/// The first place from `from` on where reading may go on. In an array, lines of text belong to the broken value if an
/// element or the end of an indented value follows them; up to `barren` earlier searches met none.
pub fn find(bytes: &[u8], from: usize, place: Place, goes_on: bool, barren: &mut usize) -> Resume {
    let mut text = None;
    let mut at = from;
    while let Some(found) = memchr2(b'{', b'\n', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if text.is_some_and(|line| at - line > CONVINCING_BYTES) {
            break;
        }
        if bytes[at] == b'\n' {
            if begins_line(bytes, at + 1) {
                let line = *text.get_or_insert(at + 1);
                if place == Place::Top || at < *barren || opens_value(bytes, at + 1) {
                    *barren = at.max(*barren);
                    return Resume::Value(if ends_indented(&bytes[line..=at]) { at + 1 } else { line });
                }
            }
        } else if may_begin_record(bytes, at) {
            match judge(bytes, at, place, goes_on, text.is_some()) {
                Ok(Resume::Value(value)) => {
                    *barren = at.max(*barren);
                    return Resume::Value(text.unwrap_or(value));
                }
                Ok(resume) => return resume,
                Err(next) => at = next.max(at),
            }
        }
        at += 1;
    }
    let Some(line) = text else { return Resume::Nowhere };
    if bytes.len() - line < CONVINCING_BYTES {
        if goes_on {
            return Resume::Unsure(line);
        }
        if ends_indented(&bytes[line..]) {
            return Resume::Nowhere;
        }
    }
    *barren = at.max(*barren);
    Resume::Value(line)
}

/// Whether the last line is the end of an indented value.
fn ends_indented(lines: &[u8]) -> bool {
    let lines = lines.trim_ascii_end();
    let last = memrchr(b'\n', lines).map(|end| lines[end..].trim_ascii_start());
    matches!(last, Some([b'}' | b']', ..]))
}

/// Whether the line at `at` begins a value or text, and is not the inside of an indented value: in valid JSON a line that
/// begins with a bracket follows a comma, a colon or an opening bracket.
fn begins_line(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at) {
        None | Some(b'}' | b']' | b'"' | b',' | b':') => false,
        Some(byte) if is_blank(*byte) => false,
        Some(_) => !matches!(last_before(bytes, at), Some(b',' | b':' | b'[' | b'{')),
    }
}

/// Whether the line at `at` opens a value of its own.
fn opens_value(bytes: &[u8], at: usize) -> bool {
    match bytes[at] {
        b'{' => !is_stray(bytes, at),
        b'[' => matches!(bytes.get(skip_blank(bytes, at + 1)), Some(b'{' | b'[' | b'"')),
        _ => false,
    }
}

/// Whether the `{` at the start of a line stands before the end of an indented value, where it is one too many.
pub fn is_stray(bytes: &[u8], at: usize) -> bool {
    match &bytes[at + 1..] {
        [] => true,
        [b'}', rest @ ..] => !rest.first().is_none_or(|byte| is_blank(*byte)),
        rest => matches!(rest.get(skip_blank(rest, 0)), None | Some(b'}' | b']')),
    }
}

/// Whether the `{` at `at` opens an object with members, or an empty one, behind a comma or on a new line.
fn may_begin_record(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(skip_blank(bytes, at + 1)), Some(b'"' | b'}'))
        && match last_before(bytes, at) {
            Some(b',') | None => true,
            Some(_) if is_stray(bytes, at) => false,
            _ if bytes[at - 1] == b'\n' => true,
            Some(b'[' | b':' | b'{') => false,
            Some(_) => is_behind_line(bytes, at),
        }
}

/// Whether `at` is the first of its line, and no comma ends the line before.
fn is_behind_line(bytes: &[u8], at: usize) -> bool {
    last_before(bytes, at) != Some(b',')
        && bytes[..at].iter().rev().take_while(|byte| is_blank(**byte)).any(|byte| *byte == b'\n')
}

/// The last byte in front of `at` that is no blank, nor part of a mark.
pub fn last_before(bytes: &[u8], at: usize) -> Option<u8> {
    let mut before = &bytes[..at];
    loop {
        match before {
            [rest @ .., byte] if is_blank(*byte) => before = rest,
            [rest @ .., 0xef, 0xbb, 0xbf] => before = rest,
            _ => return before.last().copied(),
        }
    }
}

/// Where reading goes on at `at`, which begins well.
fn believed(at: usize, place: Place) -> Resume {
    if place == Place::Top { Resume::Value(at) } else { Resume::Sibling(at) }
}

/// Whether what begins at `start` reads well up to a fitting end; if not, where the search goes on.
fn judge(
    bytes: &[u8],
    start: usize,
    place: Place,
    goes_on: bool,
    is_behind_text: bool,
) -> Result<Resume, usize> {
    let believed = believed(start, place);
    let at_end = if goes_on { Resume::Unsure(start) } else { believed };
    let mut at = start;
    loop {
        let mut check = Check::default();
        let rest = &bytes[at..];
        let end = match check.feed(rest) {
            Checked::Whole(length) => at + length,
            // The next broken value; the search behind it begins with the first value before it that reads well.
            _ if at > start => return Ok(believed),
            Checked::Open if goes_on => return Ok(at_end),
            checked => return Err(at + check.suspect(rest, checked)),
        };
        let next = skip_blank(bytes, end);
        match bytes.get(next) {
            None => return Ok(at_end),
            Some(b',') if next - start > CONVINCING_BYTES => return Ok(believed),
            Some(b',') => at = skip_blank(bytes, next + 1),
            Some(b']') => {
                // Nothing is around the broken value, so the elements are those of an array whose head was lost.
                let end = closes(bytes, next + 1, place)?;
                let is_told = end < bytes.len() || !goes_on;
                return Ok(if is_told { Resume::Sibling(start) } else { at_end });
            }
            Some(_) if ends_value(bytes, end) => {
                // Lines behind a bracket that nothing closes are no elements.
                let is_alone = is_behind_text || at == start && is_behind_line(bytes, start);
                return Ok(if is_alone { Resume::Value(start) } else { believed });
            }
            Some(_) => return Err(next),
        }
        if at == bytes.len() {
            return Ok(at_end);
        }
    }
}

/// Whether the bytes behind a closing bracket are what follows the array of `place`: where that ends, or where they stop
/// being so.
fn closes(bytes: &[u8], at: usize, place: Place) -> Result<usize, usize> {
    let end = match place {
        // The bracket of the array itself is in a later part.
        Place::Part => return Err(at),
        Place::Top | Place::Array => at,
        Place::Envelope | Place::InnerEnvelope => {
            let next = skip_blank(bytes, at);
            match bytes.get(next) {
                None => return Ok(bytes.len()),
                Some(b'}') => next + 1,
                Some(b',') => match Check::inside_object().feed(&bytes[next + 1..]) {
                    Checked::Whole(length) => next + 1 + length,
                    Checked::Open => return Ok(bytes.len()),
                    Checked::Fault(length) => return Err(next + 1 + length),
                },
                Some(_) => return Err(next),
            }
        }
    };
    let next = skip_blank(bytes, end);
    let fits = match place {
        Place::InnerEnvelope => matches!(bytes.get(next), None | Some(b',' | b']')),
        _ => ends_value(bytes, end),
    };
    if fits { Ok(next) } else { Err(next) }
}

/// Whether a value that is in nothing may end at `end`: another one, a new line or nothing follows.
pub fn ends_value(bytes: &[u8], end: usize) -> bool {
    let next = skip_blank(bytes, end);
    match bytes.get(next) {
        None | Some(b'{' | b'[') => true,
        Some(b'}' | b']' | b',' | b':' | b'"') => false,
        Some(_) => memchr(b'\n', &bytes[end..next]).is_some(),
    }
}
