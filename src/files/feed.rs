//! Reads a stream piece by piece: each piece holds whole messages, or whole elements of one large array.
//!
//! Lines are cut without being understood; only what has no safe line end, a large array or a pretty-printed
//! value, is walked here. Memory is bounded by one block, or by one record up to the limit.

use std::io::{self, Read};
use std::sync::Arc;

use crate::digest::Middle;
use crate::digest::frame::{Opening, opening};
use crate::digest::scan::{Mentions, OVERLAP};
use crate::digest::structure::{Walk, Walker};
use crate::digest::table::{Header, reader};

use super::buffer::Buffer;
use super::cut;

/// Bytes a piece: large enough to make handing over cheap, small enough to stay in a core's cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// Rows of a CSV export a piece.
const ROWS: usize = 512;

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
    Rows {
        header: Arc<Header>,
        rows: Vec<csv::StringRecord>,
        /// Rows that were no UTF-8.
        invalid: Vec<Vec<u8>>,
    },
    /// A record or line above the limit, and what its bytes spelled.
    Oversized {
        mentions: Mentions,
        bytes: u64,
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
        rows: Box<csv::Reader<Limited>>,
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
                    self.state = State::Top;
                    if let Some(header) = Header::detect(&self.buffer) {
                        self.start_csv(header)?;
                    }
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
                State::Csv { header, rows } => return next_rows(header, rows),
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
        let mut rest = self.spare.pop().unwrap_or_default();
        self.buffer.split_into(length, &mut rest);
        std::mem::replace(&mut self.buffer, rest)
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
                return self.oversized().map(Some);
            }
            wanted *= 2;
        }
    }

    fn array(&mut self, ids: Ids, is_object: bool) -> io::Result<Option<Piece>> {
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted);
            let walked = walk_elements(&self.buffer);
            let (length, is_last) = match walked {
                Elements { closed: Some(at), .. } => (at, true),
                Elements { broken: Some(end), .. } => (end, true),
                _ if self.is_eof => (self.buffer.len(), true),
                Elements { complete, .. } => (complete, false),
            };
            if length == 0 && !is_last {
                if wanted > self.middle.options.max_message_bytes {
                    return self.oversized().map(Some);
                }
                wanted *= 2;
                continue;
            }
            let is_cut = is_last && walked.closed.is_none() && walked.broken.is_none();
            let bytes = self.take(length);
            if is_last {
                self.state = State::Top;
                if walked.closed.is_some() {
                    self.buffer.drop_front(1);
                    if is_object {
                        self.state = State::Tail(Walker::inside());
                    }
                }
            }
            return Ok(Some(Piece::Elements { bytes, ids, is_last, is_cut }));
        }
    }

    /// Reads to the end of a value or line that is above the limit, keeping only what it spells.
    fn oversized(&mut self) -> io::Result<Piece> {
        let is_value = matches!(self.buffer.trim_ascii_start().first(), Some(b'{' | b'['));
        let leading = self.buffer.len() - self.buffer.trim_ascii_start().len();
        self.buffer.drop_front(leading);
        let mut walker = Walker::default();
        let mut mentions = Mentions::default();
        let mut scanned = 0;
        let mut bytes = 0;
        loop {
            let end = if is_value {
                match walker.feed(&self.buffer[scanned..]) {
                    Walk::Closed(end) | Walk::Cut(end) => Some(scanned + end),
                    Walk::Open => None,
                }
            } else {
                memchr::memchr(b'\n', &self.buffer[scanned..]).map(|at| scanned + at)
            };
            self.middle.scan_raw(&self.buffer[..end.unwrap_or(self.buffer.len())], &mut mentions);
            if let Some(end) = end {
                self.buffer.drop_front(end);
                return Ok(Piece::Oversized { mentions, bytes: bytes + end as u64 });
            }
            if self.is_eof {
                let bytes = bytes + self.buffer.len() as u64;
                self.buffer.clear();
                return Ok(Piece::Oversized { mentions, bytes });
            }
            let kept = self.buffer.len().saturating_sub(OVERLAP);
            self.buffer.drop_front(kept);
            bytes += kept as u64;
            scanned = self.buffer.len();
            self.fill(scanned + BLOCK_BYTES);
        }
    }

    fn start_csv(&mut self, header: Header) -> io::Result<()> {
        let head = io::Cursor::new(std::mem::take(&mut self.buffer).into_vec());
        let rest = self.reader.take().unwrap_or_else(|| Box::new(io::empty()));
        let limit = self.middle.options.max_message_bytes as u64;
        let mut rows = reader(Limited { inner: Box::new(head.chain(rest)), since_row: 0, limit });
        rows.read_byte_record(&mut csv::ByteRecord::new()).map_err(io::Error::other)?;
        self.state = State::Csv { header: Arc::new(header), rows: Box::new(rows) };
        Ok(())
    }
}

fn next_rows(header: &Arc<Header>, reader: &mut csv::Reader<Limited>) -> io::Result<Option<Piece>> {
    let (mut rows, mut invalid) = (Vec::new(), Vec::new());
    let mut record = csv::ByteRecord::new();
    while rows.len() + invalid.len() < ROWS {
        reader.get_mut().since_row = 0;
        if !reader.read_byte_record(&mut record).map_err(io::Error::other)? {
            break;
        }
        match csv::StringRecord::from_byte_record(std::mem::take(&mut record)) {
            Ok(row) => rows.push(row),
            Err(error) => invalid.push(error.into_byte_record().as_slice().to_vec()),
        }
    }
    let is_end = rows.is_empty() && invalid.is_empty();
    Ok((!is_end).then(|| Piece::Rows { header: Arc::clone(header), rows, invalid }))
}

/// A stream of CSV in which no row may be longer than the limit: a quote that is never closed would otherwise take the
/// rest of the file into memory.
struct Limited {
    inner: Box<dyn Read + Send>,
    since_row: u64,
    limit: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.since_row += length as u64;
        if self.since_row > self.limit {
            return Err(io::Error::other(
                "a row of this CSV is longer than max_message_bytes; is a quote left open?",
            ));
        }
        Ok(length)
    }
}

/// Stands for a stream after it failed.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Elements {
    /// Behind the last whole element.
    complete: usize,
    /// Index of the closing bracket.
    closed: Option<usize>,
    /// Behind the line in which the array stopped being one.
    broken: Option<usize>,
}

/// Walks over the elements of an array.
fn walk_elements(bytes: &[u8]) -> Elements {
    let mut walked = Elements::default();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' | b',' | 0 => at += 1,
            b']' => {
                walked.closed = Some(at);
                break;
            }
            b'{' | b'[' => match Walker::default().feed(&bytes[at..]) {
                Walk::Closed(length) => {
                    at += length;
                    walked.complete = at;
                }
                Walk::Open => break,
                Walk::Cut(length) => {
                    walked.broken = Some(at + length);
                    break;
                }
            },
            b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n' => match scalar_end(bytes, at) {
                Some(end) => {
                    at = end;
                    walked.complete = at;
                }
                None => break,
            },
            _ => {
                walked.broken = memchr::memchr(b'\n', &bytes[at..]).map(|length| at + length);
                break;
            }
        }
    }
    walked
}

fn scalar_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes[at] != b'"' {
        return memchr::memchr3(b',', b']', b'\n', &bytes[at..]).map(|length| at + length);
    }
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
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
}
