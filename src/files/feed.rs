//! Reads a stream piece by piece: each piece holds whole messages, or whole elements of one large array.
//!
//! Lines are cut without being understood; only what has no safe line end, a large array or a pretty-printed
//! value, is walked here. Memory is bounded by one block, or by one record up to the limit.

use std::io::{self, Read};
use std::sync::Arc;

use crate::digest::Middle;
use crate::digest::frame::{Opening, opening};
use crate::digest::resume::{self, Check, Checked, Place, Resume};
use crate::digest::scan::{Mentions, OVERLAP};
use crate::digest::structure::{Walk, Walker};
use crate::digest::table::{Header, Rows};

use super::buffer::Buffer;
use super::cut;

/// Bytes a piece: large enough to make handing over cheap, small enough to stay in a core's cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// A piece of a file.
#[derive(Debug)]
pub enum Piece {
    Lines(Buffer),
    /// Elements of one array; `is_last` with the last piece of it.
    Elements {
        bytes: Buffer,
        ids: Ids,
        is_last: bool,
        /// The file ended inside the array.
        is_cut: bool,
    },
    /// Rows of a CSV export; the first piece begins with the line of the header.
    Rows {
        header: Arc<Header>,
        bytes: Buffer,
        header_bytes: usize,
    },
    /// A record or line above the limit, and what its bytes spelled.
    Oversized {
        mentions: Mentions,
        /// If it is an element of an array: whether the array ends with it.
        ends_array: Option<bool>,
    },
}

/// Ids of an envelope, owned.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    pub workspace_id: Option<String>,
    pub dataset_id: Option<String>,
}

enum State {
    Start,
    Top,
    Array {
        ids: Ids,
        is_object: bool,
    },
    /// Behind the array of an envelope, before its closing brace.
    Tail(Walker),
    Csv {
        header: Arc<Header>,
        /// Bytes of the line of the header that are still to be given out.
        header_bytes: usize,
    },
    Done,
}

/// Cuts one stream.
pub struct Feed<'m> {
    middle: &'m Middle,
    reader: Option<Box<dyn Read + Send>>,
    buffer: Buffer,
    is_eof: bool,
    state: State,
    spare: Vec<Buffer>,
}

impl<'m> Feed<'m> {
    pub fn new(middle: &'m Middle, reader: Box<dyn Read + Send>) -> Self {
        Self {
            middle,
            reader: Some(reader),
            buffer: Buffer::default(),
            is_eof: false,
            state: State::Start,
            spare: Vec::new(),
        }
    }

    /// Takes back the bytes of a piece, to be used again.
    pub fn recycle(&mut self, mut bytes: Buffer) {
        if bytes.capacity() <= 2 * BLOCK_BYTES {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// The next piece; an error is the stream's, and what was read before it was given out.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            match &mut self.state {
                State::Start => {
                    self.fill(BLOCK_BYTES);
                    self.state = match Header::detect(&self.buffer) {
                        Some(header) => {
                            State::Csv { header_bytes: header.line_bytes(), header: Arc::new(header) }
                        }
                        None => State::Top,
                    };
                }
                State::Top => {
                    if let Some(piece) = self.top()? {
                        return Ok(Some(piece));
                    }
                }
                State::Array { ids, is_object } => {
                    let (ids, is_object) = (ids.clone(), *is_object);
                    if let Some(piece) = self.array(ids, is_object)? {
                        return Ok(Some(piece));
                    }
                }
                State::Tail(walker) => {
                    let walk = walker.feed(&self.buffer);
                    match walk {
                        Walk::Closed(end) | Walk::Cut(end) => {
                            self.buffer.drop_front(end);
                            self.state = State::Top;
                        }
                        Walk::Open => {
                            self.buffer.clear();
                            if self.is_eof {
                                self.state = State::Done;
                            } else {
                                self.fill(BLOCK_BYTES);
                            }
                        }
                    }
                }
                State::Csv { header, header_bytes } => {
                    let (header, header_bytes) = (Arc::clone(header), std::mem::take(header_bytes));
                    return self.rows(header, header_bytes);
                }
                State::Done => return Ok(None),
            }
        }
    }

    /// Reads until the buffer holds `bytes`, or the stream ends.
    fn fill(&mut self, bytes: usize) {
        let Some(reader) = &mut self.reader else { return };
        if self.buffer.len() < bytes && !self.is_eof {
            match self.buffer.fill(reader, bytes) {
                Ok(is_full) => self.is_eof = !is_full,
                Err(error) => {
                    // What came before the fault is given out first; then the stream reports it.
                    self.is_eof = true;
                    self.reader = Some(Box::new(Failed(Some(error))));
                }
            }
        }
    }

    /// The end of the stream, or the error that ended it.
    fn end(&mut self) -> io::Result<()> {
        self.state = State::Done;
        self.reader.take().map_or(Ok(()), |mut reader| reader.read(&mut [0]).map(|_| ()))
    }

    /// Gives the first `length` bytes of the buffer away and keeps the rest.
    fn take(&mut self, length: usize) -> Buffer {
        let spare = self.spare.pop().unwrap_or_default();
        self.buffer.take(length, spare)
    }

    fn top(&mut self) -> io::Result<Option<Piece>> {
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted);
            if self.is_eof {
                if self.buffer.is_empty() {
                    self.end()?;
                    return Ok(None);
                }
                let length = self.buffer.len();
                return Ok(Some(Piece::Lines(self.take(length))));
            }
            if let Some(length) = cut::last_safe(&self.buffer) {
                return Ok(Some(Piece::Lines(self.take(length))));
            }
            if let Opening::Elements { at, ids } = opening(&self.buffer) {
                let own = |id: Option<&str>| id.map(str::to_owned);
                let ids = Ids { workspace_id: own(ids.workspace_id), dataset_id: own(ids.dataset_id) };
                let is_object = self.buffer.trim_ascii_start().first() == Some(&b'{');
                self.buffer.drop_front(at);
                self.state = State::Array { ids, is_object };
                return Ok(None);
            }
            if wanted > self.middle.options.max_message_bytes {
                let is_value = matches!(self.buffer.trim_ascii_start().first(), Some(b'{' | b'['));
                return Ok(Some(self.oversized(if is_value { Above::Value } else { Above::Line })));
            }
            wanted *= 2;
        }
    }

    fn array(&mut self, ids: Ids, is_object: bool) -> io::Result<Option<Piece>> {
        let place = if is_object { Place::Envelope } else { Place::Array };
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted);
            let is_above = wanted > self.middle.options.max_message_bytes;
            let walked = walk_elements(&self.buffer, place, !self.is_eof, is_above);
            let (length, is_last) = match walked.end {
                End::Closed(at) | End::Left(at) => (at, true),
                End::More if self.is_eof => (self.buffer.len(), true),
                End::More => (walked.complete, false),
            };
            if length == 0 && !is_last {
                if is_above {
                    return Ok(Some(self.oversized(Above::Element(place))));
                }
                wanted *= 2;
                continue;
            }
            let bytes = self.take(length);
            if is_last {
                self.state = State::Top;
            }
            if let End::Closed(_) = walked.end {
                self.buffer.drop_front(1);
                if is_object {
                    self.state = State::Tail(Walker::inside());
                }
            }
            let is_cut = is_last && walked.end == End::More;
            return Ok(Some(Piece::Elements { bytes, ids, is_last, is_cut }));
        }
    }

    /// Whole rows. A row whose quote is open to the end of the stream, or further than the limit, is broken there.
    fn rows(&mut self, header: Arc<Header>, header_bytes: usize) -> io::Result<Option<Piece>> {
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted);
            if self.buffer.is_empty() {
                self.end()?;
                return Ok(None);
            }
            let is_above = wanted > self.middle.options.max_message_bytes;
            let mut rows = Rows::new(&self.buffer, header_bytes, &header);
            let length = if is_above && !self.is_eof {
                rows.next_end().filter(|end| *end < self.buffer.len()).unwrap_or(0)
            } else {
                rows.whole(BLOCK_BYTES, self.is_eof)
            };
            if length > 0 {
                return Ok(Some(Piece::Rows { header, bytes: self.take(length), header_bytes }));
            }
            if is_above {
                return Ok(Some(self.oversized(Above::Line)));
            }
            wanted *= 2;
        }
    }

    /// Reads to the end of what is above the limit, keeping only what it spells. If it is broken, its end is where
    /// reading may go on.
    fn oversized(&mut self, above: Above) -> Piece {
        let is_element = matches!(above, Above::Element(_));
        let is_lead = |byte: &u8| byte.is_ascii_whitespace() || is_element && *byte == b',';
        let lead = self.buffer.iter().take_while(|byte| is_lead(byte)).count();
        self.buffer.drop_front(lead);
        let (mut search, mut mentions) = (Search::new(above), Mentions::default());
        loop {
            let (end, is_end, is_left) = match search.feed(&self.buffer, self.is_eof) {
                Found::End(end) => (end, true, false),
                Found::Left(end) => (end, true, true),
                _ if self.is_eof => (self.buffer.len(), true, true),
                Found::More => (self.buffer.len().saturating_sub(OVERLAP), false, false),
                Found::Unsure(at) => (at, false, false),
            };
            self.middle.scan_raw(&self.buffer[..if is_end { end } else { self.buffer.len() }], &mut mentions);
            self.buffer.drop_front(end);
            if is_end {
                let ends_array = is_element.then_some(is_left);
                if ends_array == Some(true) {
                    self.state = State::Top;
                }
                return Piece::Oversized { mentions, ends_array };
            }
            search.dropped(end, self.buffer.len() > self.middle.options.max_message_bytes);
            self.fill(self.buffer.len() + BLOCK_BYTES);
        }
    }
}

/// What is above the limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Above {
    Line,
    Value,
    /// Of an array in this place.
    Element(Place),
}

/// Looks for the end of something above the limit.
struct Search {
    above: Above,
    check: Check,
    is_broken: bool,
    /// Bytes at the front of the buffer that were looked at.
    seen: usize,
}

enum Found {
    End(usize),
    /// The array that it was in ends here too.
    Left(usize),
    More,
    /// It may end here, which more bytes will tell.
    Unsure(usize),
}

impl Search {
    fn new(above: Above) -> Self {
        Self { above, check: Check::default(), is_broken: false, seen: 0 }
    }

    fn feed(&mut self, buffer: &[u8], is_eof: bool) -> Found {
        if self.above == Above::Line {
            let line_end = memchr::memchr(b'\n', &buffer[self.seen..]);
            let end = line_end.map_or(Found::More, |length| Found::End(self.seen + length));
            self.seen = buffer.len();
            return end;
        }
        if !self.is_broken {
            match self.check.feed(&buffer[self.seen..]) {
                Checked::Whole(length) => return Found::End(self.seen + length),
                Checked::Open => {
                    self.seen = buffer.len();
                    return Found::More;
                }
                Checked::Fault(length) => {
                    self.is_broken = true;
                    self.seen += length;
                }
            }
        }
        let place = if let Above::Element(place) = self.above { place } else { Place::Top };
        match resume::find(buffer, self.seen, place, !is_eof, &mut 0) {
            Resume::Sibling(end) => Found::End(end),
            Resume::Value(end) => Found::Left(end),
            Resume::Unsure(at) => Found::Unsure(at),
            Resume::Nowhere => {
                self.seen = buffer.len();
                Found::More
            }
        }
    }

    /// `count` bytes at the front of the buffer are gone. What begins there and is above the limit too is passed over.
    fn dropped(&mut self, count: usize, is_above: bool) {
        self.seen = self.seen.saturating_sub(count);
        if self.is_broken && count == 0 && is_above {
            self.seen += 1;
        }
    }
}

/// Stands for a stream after it failed.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// How far the elements of an array were walked over.
#[derive(Clone, Copy, Debug)]
struct Walked {
    /// Behind the last whole element.
    complete: usize,
    end: End,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Index of the closing bracket.
    Closed(usize),
    /// The array stops being one, and something else begins here.
    Left(usize),
    More,
}

/// Walks over elements. `is_above` if no more bytes can be held: what is still open then may be an element that was cut and
/// seems to hold those behind it.
fn walk_elements(bytes: &[u8], place: Place, goes_on: bool, is_above: bool) -> Walked {
    let mut complete = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' | b',' | 0 => {
                at += 1;
                continue;
            }
            b']' => match resume::behind_bracket(bytes, at, place, goes_on) {
                Some(next) => {
                    at = next;
                    complete = at;
                    continue;
                }
                None => return Walked { complete, end: End::Closed(at) },
            },
            _ => {}
        }
        at = match element_end(bytes, at) {
            Checked::Whole(end) if is_apart(bytes, end) => end,
            Checked::Open if !is_above => break,
            checked => match resume::behind(bytes, at, place, goes_on, &mut 0) {
                Resume::Sibling(next) => next,
                Resume::Value(next) if checked != Checked::Open => {
                    return Walked { complete, end: End::Left(next) };
                }
                _ => break,
            },
        };
        complete = at;
    }
    Walked { complete, end: End::More }
}

/// The end of an element: quickly by its brackets, if what follows looks like the end of an element, else by every byte.
fn element_end(bytes: &[u8], at: usize) -> Checked {
    if let open @ (b'{' | b'[') = bytes[at]
        && let Walk::Closed(length) = Walker::default().feed(&bytes[at..])
        && bytes[at + length - 1] == open + 2
        && is_apart(bytes, at + length)
    {
        return Checked::Whole(at + length);
    }
    resume::check(bytes, at)
}

fn is_apart(bytes: &[u8], end: usize) -> bool {
    matches!(bytes[end..].trim_ascii_start(), [] | [b',' | b']', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use crate::digest::{Digest, Options};

    /// A reader that gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.1).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn middle() -> Middle {
        let options = Options { max_message_bytes: 2 * BLOCK_BYTES, ..Options::default() };
        Middle::new(Arc::new(Catalogue::embedded()), options)
    }

    /// Messages, records and rejections of a stream.
    fn scan(bytes: &'static [u8]) -> (u64, u64, u64, u64) {
        let middle = middle();
        let mut digest = Digest::default();
        let mut feed = Feed::new(&middle, Box::new(Trickle(bytes, 70_001)));
        while let Some(piece) = feed.next_piece().unwrap() {
            crate::files::digest_piece(&middle, &piece, &crate::digest::Position::default(), &mut digest);
        }
        let tally = digest.tally;
        let records = tally.records.iter().flatten().sum();
        let rejected = tally.rejected_messages.iter().sum::<u64>();
        (tally.messages, records, rejected, tally.rejected_records.iter().sum())
    }

    fn leak(text: String) -> &'static [u8] {
        Box::leak(text.into_boxed_str()).as_bytes()
    }

    #[test]
    fn large_arrays_are_read_element_by_element() {
        let record = format!("{{\"a\":\"{}\"}}", "x".repeat(300));
        let elements = vec![record; 20_000].join(",\n  ");
        assert_eq!(scan(leak(format!("[{elements}]\n"))), (1, 20_000, 0, 0));
        let envelope =
            format!("{{\"@odata.context\":\"c\",\"value\":[{elements}],\"next\":\"]}}\"}}\n{{\"b\":1}}\n");
        assert_eq!(scan(leak(envelope)), (2, 20_001, 0, 0));
        assert_eq!(scan(leak(format!("{{\"records\":[{elements}"))), (1, 20_000, 0, 1));
    }

    #[test]
    fn lines_and_pretty_values_of_any_number_are_read() {
        let line = format!("{{\"a\":\"{}\"}}\n", "y".repeat(900));
        assert_eq!(scan(leak(line.repeat(10_000))), (10_000, 10_000, 0, 0));
        let pretty = format!("{{\n  \"a\": \"{}\",\n  \"b\": {{\n    \"c\": 1\n  }}\n}}\n", "z".repeat(500));
        assert_eq!(scan(leak(pretty.repeat(9_000))), (9_000, 9_000, 0, 0));
    }

    #[test]
    fn a_record_above_the_limit_is_skipped_whole() {
        let large = format!("{{\"a\":\"{}\",\"b\":{{}}}}", "x".repeat(5 * BLOCK_BYTES));
        assert_eq!(scan(leak(format!("{{\"s\":1}}\n{large}\n{{\"s\":2}}\n"))), (3, 2, 1, 0));
    }

    #[test]
    fn rows_are_messages() {
        let rows = "2026-01-01T00:00:00Z,a,Failure,50126,\"two\nlines\"\n".repeat(3_000);
        let csv = format!("Date (UTC),Request ID,Status,Sign-in error code,Failure reason\n{rows}");
        assert_eq!(scan(leak(csv)), (3_000, 3_000, 0, 0));
    }

    #[test]
    fn an_element_above_the_limit_leaves_its_neighbours_alone() {
        let record = format!("{{\"a\":\"{}\"}}", "x".repeat(300));
        let some = vec![record; 3_000].join(",");
        let large = format!("{{\"b\":{{\"c\":\"{}\"}}}}", "y".repeat(9 * BLOCK_BYTES));
        for (head, tail) in [("[", "]\n"), ("{\"records\":[", "],\"n\":1}"), ("[\n", "\n]")] {
            let text = leak(format!("{head}{some},{large},{some}{tail}\n{{\"s\":1}}\n"));
            assert_eq!(scan(text), (2, 6_001, 0, 1), "{head}");
            let text = leak(format!("{head}{large},{some}{tail}\n{{\"s\":1}}\n"));
            assert_eq!(scan(text), (2, 3_001, 0, 1), "{head} first");
            let text = leak(format!("{head}{some},{large}{tail}\n{{\"s\":1}}\n"));
            assert_eq!(scan(text), (2, 3_001, 0, 1), "{head} last");
        }
        // Cut inside of it: the array is cut too.
        let text = leak(format!("{{\"records\":[{some},{}", &large[..8 * BLOCK_BYTES]));
        assert_eq!(scan(text), (1, 3_000, 0, 1));
    }

    #[test]
    fn a_broken_element_of_a_large_array_leaves_its_neighbours_alone() {
        let list = r#","l":[{"id":1},{"id":2}],"p":{"q":"r"}}"#;
        let record = |number| format!("{{\"t{number}\":\"{}\"{list}", "x".repeat(300));
        let records = (0..4_000).map(record).collect::<Vec<_>>().join(",\n");
        let large = "z".repeat(5 * BLOCK_BYTES);
        let broken = [
            r#"{"a":{"b":"1,"t":"x"},"l":[{"id":1},{"id":2}]}"#.to_owned(),
            r#"{"a":{"b":[{"id":1},{"id":2},"c":3}}"#.to_owned(),
            r#"{"a":"1"#.to_owned(),
            r#"{"a":{"b":{"c":1}"#.to_owned(),
            format!(r#"{{"a":{{"b":"1,"t":"{large}","l":[{{"id":1}},{{"id":2}}]}}"#),
            format!(r#"{{"a":"{large}","b":{{"b":"1,"t":"x"}},"l":[{{"id":1}},{{"id":2}}]}}"#),
        ];
        for (number, broken) in broken.iter().enumerate() {
            for (head, tail) in [("[", "]"), ("{\"records\":[", "],\"n\":1}")] {
                let text = leak(format!("{head}{records},{broken},{records}{tail}\n{{\"s\":1}}\n"));
                assert_eq!(scan(text), (2, 8_001, 0, 1), "{head} {number}");
                let text = leak(format!("{head}{broken},{records}{tail}\n{{\"s\":1}}\n"));
                assert_eq!(scan(text), (2, 4_001, 0, 1), "{head} {number} first");
                let few = &records[..records.find(",\n").unwrap()];
                let text = leak(format!("{head}{records},{broken},{few},{few}{tail}\n{{\"s\":1}}\n"));
                assert_eq!(scan(text), (2, 4_003, 0, 1), "{head} {number} near the end");
            }
        }
    }

    #[test]
    fn a_bracket_too_many_does_not_end_a_large_array() {
        let some = vec![format!("{{\"a\":\"{}\"}}", "x".repeat(300)); 2_000].join(",");
        for (head, tail) in [("[", "]"), ("{\"records\":[", "],\"n\":1}"), ("{\"records\":[", "]}")] {
            let text = format!("{head}{some},{{\"b\":1}}],{some}{tail}\n{{\"s\":1}}\n");
            assert_eq!(scan(leak(text)), (2, 4_002, 0, 1), "{head}");
        }
    }

    #[test]
    fn an_element_cut_in_a_list_leaves_its_neighbours_alone() {
        let record = format!("{{\"time\":\"1\",\"l\":[{{}},{{}}],\"a\":\"{}\"}}", "x".repeat(300));
        let some = vec![record; 6_000].join(",");
        for (head, tail) in [("[", "]"), ("{\"records\":[", "],\"n\":1}")] {
            let text = format!("{head}{some},{{\"b\":1,\"l\":[{{\"id\":1}},{some}{tail}\n{{\"s\":1}}\n");
            assert_eq!(scan(leak(text)), (2, 12_001, 0, 1), "{head}");
            let last = &some[..some.len() / 6_000];
            let text =
                format!("{head}{some},{{\"b\":1,\"l\":[{{\"id\":1}},{last},{last}{tail}\n{{\"s\":1}}\n");
            assert_eq!(scan(leak(text)), (2, 6_003, 0, 1), "{head} near the end");
        }
    }

    #[test]
    fn a_stray_bracket_in_front_of_a_line_breaks_its_record_alone() {
        let record =
            format!("{{\n \"a\": {{\n  \"b\": [],\n  \"c\": \"{}\"\n }},\n \"d\": 1\n}}", "x".repeat(300));
        for (stray, number) in [('[', 1_500), ('{', 1_500), ('{', 1), ('[', 2_999)] {
            let mut records = vec![record.clone(); 3_000];
            records[number].insert(record.find(" },").unwrap(), stray);
            for (head, tail) in [("[", "]"), ("{\"records\":[", "],\"n\":1}"), ("{\"records\":[", "]}")] {
                let text = format!("{head}{}{tail}\n{{\"s\":1}}\ntext\n", records.join(","));
                assert_eq!(scan(leak(text)), (3, 3_000, 0, 1), "{head} {stray} {number}");
            }
        }
    }

    #[test]
    fn lines_behind_an_array_that_was_cut_are_messages() {
        let some = vec![format!("{{\"a\":\"{}\"}}", "x".repeat(300)); 2_000].join(",");
        for count in [2, 50_000] {
            let lines = "text\n".repeat(count);
            let text = format!("{{\"records\":[{some},{{\"a\":\"cut\n{lines}{{\"s\":1}}\n{lines}");
            assert_eq!(scan(leak(text)), (2 * count as u64 + 2, 2_001, 0, 1));
        }
    }

    #[test]
    fn a_line_above_the_limit_is_rejected_though_it_is_held() {
        let line = "w".repeat(3 * BLOCK_BYTES);
        assert_eq!(scan(leak(format!("first\n{line}\nlast\n"))), (3, 0, 1, 0));
    }

    #[test]
    fn an_open_quote_is_one_broken_row() {
        let head = "Date (UTC),Request ID,Status,Sign-in error code,Failure reason\n";
        let row = "2026-01-01T00:00:00Z,a,Failure,50126,\"two\nlines\"\n";
        let plain = "2026-01-01T00:00:00Z,a,Failure,50126,one\n";
        for broken in [
            "2026-01-01T00:00:00Z,a,Failure,50126,\"open\n",
            "2026-01-01T00:00:00Z,\"a,Failure,50126,\"two\nlines\"\n",
            "2026-01-01T00:00:00Z,\"a\"\"\",\"Failure,50126,x\n",
        ] {
            for rows in [row, plain] {
                let some = rows.repeat(20_000);
                let text = leak(format!("{head}{some}{broken}{some}{broken}"));
                assert_eq!(scan(text), (40_002, 40_000, 2, 0), "{broken}");
            }
        }
        // A quote inside of a cell is no open one.
        let inner = plain.replace("one", "\"he said \"one\" and left\"");
        assert_eq!(scan(leak(format!("{head}{plain}{inner}{plain}"))), (3, 3, 0, 0));
        assert_eq!(
            scan(leak(format!("{head}{plain}\"{}\n{plain}", "x".repeat(5 * BLOCK_BYTES)))),
            (3, 2, 1, 0)
        );
    }
}
