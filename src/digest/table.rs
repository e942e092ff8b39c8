//! CSV exports: the portal's download and Log Analytics' (`domain` §1.5).
//!
//! A quoted cell may go over lines, so a quote that is never closed would take all rows behind it for its cell. A quote
//! is the end of its cell only before a comma or a line end; where another byte follows, the input ends first, or the
//! cells are too few or too many, the row is broken, and reading goes on with the next line that reads like a row.

use csv::ByteRecord;
use memchr::{memchr, memchr3};

use super::fields::Fields;

/// The columns of an export, in order.
#[derive(Clone, Debug)]
pub struct Header {
    names: Vec<String>,
    line_bytes: usize,
    /// Of the portal's sign-ins, whatever columns were left in it.
    is_sign_ins: bool,
}

/// A header line that is looked at, in bytes; the portal's has 1,200.
const HEADER_BYTES: usize = 16 * 1024;

impl Header {
    /// The header, if `bytes` begin with the first line of a sign-in or refresh export.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        // Nearly every message is JSON, so this look comes first.
        if matches!(bytes.trim_ascii_start().first(), None | Some(b'{' | b'[')) {
            return None;
        }
        let head = &bytes[..bytes.len().min(HEADER_BYTES)];
        let start = head.len() - head.trim_ascii_start().len();
        let line = &head[start..memchr(b'\n', &head[start..]).map_or(head.len(), |end| start + end + 1)];
        if !line.contains(&b',') {
            return None;
        }
        let mut cells = ByteRecord::new();
        read_row(line, 0, true, &mut cells);
        let cells = csv::StringRecord::from_byte_record(cells).ok()?;
        let names: Vec<String> = cells.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let has = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.as_str()));
        let says_outcome = has(&["resulttype", "sign-in error code", "errorcode", "status"]);
        let says_what = has(&[
            "date (utc)",
            "request id",
            "correlation id",
            "correlationid",
            "timegenerated",
            "timegenerated [utc]",
            "createddatetime",
            "createddatetime [utc]",
            "requestid",
            "refreshtype",
        ]);
        let is_sign_ins = has(&["sign-in error code"])
            || ["date (utc)", "request id", "status"].iter().all(|name| has(&[name]))
            // The older portal's: no ids, no codes.
            || ["createddatetime", "status"].iter().all(|name| has(&[name])) && !has(&["refreshtype"]);
        let line_bytes = start + line.len();
        (says_outcome && says_what).then_some(Self { names, line_bytes, is_sign_ins })
    }

    /// Whether `row` says nothing: it is blank, or the header again, as in exports that were put together.
    pub fn is_idle(&self, row: &csv::StringRecord) -> bool {
        let is_header =
            || row.iter().zip(&self.names).all(|(cell, name)| cell.trim().eq_ignore_ascii_case(name));
        row.iter().all(|cell| cell.trim().is_empty()) || row.len() == self.names.len() && is_header()
    }

    /// Bytes up to the end of the header's line.
    pub const fn line_bytes(&self) -> usize {
        self.line_bytes
    }

    /// The members of a row. Of columns with the same name the last one that holds something wins.
    pub fn fields<'a>(&self, row: &'a csv::StringRecord) -> Fields<'a> {
        let mut fields = Fields::default();
        for (name, cell) in self.names.iter().zip(row) {
            fields.set_column(name, cell);
        }
        fields.has.sign_in_columns = self.is_sign_ins;
        fields
    }
}

/// A row of an export.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Row<'a> {
    Whole(&'a [u8]),
    /// A quote in it is open.
    Broken(&'a [u8]),
}

/// Cuts rows.
#[derive(Debug)]
pub struct Rows<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Cells of a row, as the header says.
    width: usize,
    /// Cells of the last whole row.
    last_width: Option<usize>,
    /// A quoted cell was still open at the end of the bytes.
    has_met_end: bool,
    cells: ByteRecord,
}

impl<'a> Rows<'a> {
    /// The rows from `at` on.
    pub fn new(bytes: &'a [u8], at: usize, header: &Header) -> Self {
        Self {
            bytes,
            at,
            width: header.names.len(),
            last_width: None,
            has_met_end: false,
            cells: ByteRecord::new(),
        }
    }

    /// The cells of the last whole row.
    pub fn take_cells(&mut self) -> ByteRecord {
        std::mem::take(&mut self.cells)
    }

    /// Where the next row ends.
    pub fn next_end(&mut self) -> Option<usize> {
        self.next().map(|_| self.at)
    }

    /// Where the last row ends that can be told to be whole, at least one of about `limit` bytes in all; `is_final` if
    /// nothing follows these bytes.
    pub fn whole(&mut self, limit: usize, is_final: bool) -> usize {
        let mut end = 0;
        while end < limit && self.next().is_some() {
            let is_told = self.at < self.bytes.len() && !self.has_met_end;
            if !is_told && !is_final {
                return end;
            }
            end = self.at;
        }
        if is_final && end < limit { self.bytes.len() } else { end }
    }

    /// The cells of the row at `at`, or where it is broken.
    fn read(&mut self, at: usize, is_lenient: bool) -> Read {
        self.cells.clear();
        read_row(self.bytes, at, is_lenient, &mut self.cells)
    }

    /// Whether the row just read goes over lines and has neither as many cells as the header nor as the row before: then
    /// the quote that seems to end a cell in it begins one of another row.
    fn holds_others(&self, start: usize, end: usize) -> bool {
        let cells = self.cells.len();
        cells != self.width
            && self.last_width.is_some_and(|width| width != cells)
            && line_end(self.bytes, start) < end
    }

    /// The row at `start` whose cell at `cell` is broken: whole all the same if a quote inside of a cell is all that is
    /// wrong with it.
    fn mend(&mut self, start: usize, cell: usize) -> Row<'a> {
        let line_end = line_end(self.bytes, cell);
        let line = &self.bytes[start..line_end];
        self.cells.clear();
        if let Read::Row(end) = read_row(line, 0, true, &mut self.cells)
            && end == line.len()
            && self.cells.len() == self.width
        {
            self.at = line_end;
            return Row::Whole(line);
        }
        let mut at = line_end;
        while at < self.bytes.len() && !self.begins_row(at) {
            at = self::line_end(self.bytes, at);
        }
        self.at = at;
        Row::Broken(&self.bytes[start..at])
    }

    /// Whether a row begins with the line at `at`: it reads well and has the right number of cells, or the line has as
    /// many commas as a row and is another broken one.
    fn begins_row(&mut self, at: usize) -> bool {
        let is_whole = match self.read(at, false) {
            Read::Row(_) => self.cells.len() == self.width,
            Read::Open(_) => {
                self.has_met_end = true;
                false
            }
            Read::Malformed(_) => false,
        };
        let line = &self.bytes[at..line_end(self.bytes, at)];
        is_whole || memchr::memchr_iter(b',', line).count() + 1 >= self.width
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let blank = self.bytes[self.at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.at += blank;
        let start = self.at;
        if start == self.bytes.len() {
            return None;
        }
        Some(match self.read(start, false) {
            Read::Row(end) if self.holds_others(start, end) => self.mend(start, start),
            Read::Row(end) => {
                self.at = end;
                self.last_width = Some(self.cells.len());
                Row::Whole(&self.bytes[start..end])
            }
            Read::Malformed(cell) => self.mend(start, cell),
            Read::Open(cell) => {
                self.has_met_end = true;
                self.mend(start, cell)
            }
        })
    }
}

enum Read {
    /// Behind its line end.
    Row(usize),
    /// Behind the closing quote of the cell at this index something else than a comma or a line end follows.
    Malformed(usize),
    /// The bytes ended in the quoted cell at this index.
    Open(usize),
}

/// Behind the end of the line at `at`.
fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length + 1)
}

/// Reads the row at `at`. If `is_lenient`, what follows a closing quote belongs to the cell.
fn read_row(bytes: &[u8], mut at: usize, is_lenient: bool, cells: &mut ByteRecord) -> Read {
    loop {
        let start = at;
        let mut content = Vec::new();
        if bytes.get(at) == Some(&b'"') {
            let Some(close) = closing_quote(bytes, start + 1) else { return Read::Open(start) };
            if !is_lenient && !matches!(bytes.get(close + 1), None | Some(b',' | b'\r' | b'\n')) {
                return Read::Malformed(start);
            }
            unquote(&bytes[start + 1..close], &mut content);
            at = close + 1;
        }
        let rest = &bytes[at..];
        let length = memchr3(b',', b'\r', b'\n', rest).unwrap_or(rest.len());
        if content.is_empty() {
            cells.push_field(&rest[..length]);
        } else {
            content.extend_from_slice(&rest[..length]);
            cells.push_field(&content);
        }
        at += length;
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => return Read::Row(at + 2),
            Some(_) => return Read::Row(at + 1),
            None => return Read::Row(at),
        }
    }
}

/// The quote that ends a cell; two in a row are one in its text.
fn closing_quote(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr(b'"', bytes.get(at..)?)?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

fn unquote(mut quoted: &[u8], content: &mut Vec<u8>) {
    while let Some(quote) = memchr(b'"', quoted) {
        content.extend_from_slice(&quoted[..=quote]);
        quoted = quoted.get(quote + 2..).unwrap_or_default();
    }
    content.extend_from_slice(quoted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_told_from_text_with_commas() {
        assert!(Header::detect(b"Date (UTC),Request ID,Status,Sign-in error code\n1,2").is_some());
        assert!(Header::detect(b"\"TimeGenerated [UTC]\",ResultType,Status\r\n").is_some());
        assert!(Header::detect(b"status, failed, and more text\n").is_none());
        assert!(Header::detect(b"{\"status\":1,\"request id\":2}").is_none());
    }

    /// Rows as they are cut, broken ones marked, and the cells of the whole ones.
    fn rows(text: &str) -> Vec<String> {
        let header = Header::detect(b"Status,Request ID,Note").unwrap();
        let mut rows = Rows::new(text.as_bytes(), 0, &header);
        let mut found = Vec::new();
        while let Some(row) = rows.next() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.push(match row {
                Row::Broken(bytes) => format!("broken {}", text(bytes)),
                Row::Whole(_) => rows.take_cells().iter().map(text).collect::<Vec<_>>().join("|"),
            });
        }
        found
    }

    #[test]
    fn cells_are_read_with_their_quotes_and_line_ends() {
        assert_eq!(
            rows("a,b,c\r\n\"x,\"\"y\",\"two\nlines\",\n\nd,e\n"),
            ["a|b|c", "x,\"y|two\nlines|", "d|e"]
        );
        assert_eq!(rows("a\"b,\"\",c"), ["a\"b||c"]);
    }

    #[test]
    fn a_row_with_an_open_quote_is_broken_alone() {
        assert_eq!(rows("a,\"b,c\nd,e,f\n"), ["broken a,\"b,c\n", "d|e|f"]);
        assert_eq!(rows("a,b,\"c\nd,\"e\",f\n"), ["broken a,b,\"c\n", "d|e|f"]);
        assert_eq!(rows("\"a,\"b\",\"c\"\n\"d\",\"e\",\"f\"\n"), ["broken \"a,\"b\",\"c\"\n", "d|e|f"]);
        assert_eq!(rows("\"a\",\"b\",\"c\n\"d\",\"e\",\"f\"\n"), ["broken \"a\",\"b\",\"c\n", "d|e|f"]);
        // Two of them; one that goes over lines.
        assert_eq!(rows("a,\"b,c\nd,\"e,f\ng,h,i"), ["broken a,\"b,c\n", "broken d,\"e,f\n", "g|h|i"]);
        assert_eq!(rows("a,\"b\nx\nmore,\"c\nd,e,f"), ["broken a,\"b\nx\nmore,\"c\n", "d|e|f"]);
        // It seems to end where the cell of another row begins.
        assert_eq!(rows("a,b,c\nd,\"e,f\ng,h,\"\nx\"\n"), ["a|b|c", "broken d,\"e,f\n", "g|h|\nx"]);
        // A quote inside of a cell is none.
        assert_eq!(rows("a,\"so \"b\" is\",c\nd,e,f"), ["a|so b\" is\"|c", "d|e|f"]);
    }
}
