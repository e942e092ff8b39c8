//! Recognises CSV exports: the portal's download and Log Analytics' (`domain` §1.5).

use super::fields::Fields;

/// The columns of an export, in order.
#[derive(Clone, Debug)]
pub struct Header {
    names: Vec<String>,
}

/// A header line that is looked at, in bytes; the portal's has 1,200.
const HEADER_BYTES: usize = 16 * 1024;

impl Header {
    /// The header, if `bytes` begin with the first line of a sign-in or refresh export.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        let head = &bytes[..bytes.len().min(HEADER_BYTES)];
        let line = &head[..memchr::memchr(b'\n', head).unwrap_or(head.len())];
        if matches!(line.trim_ascii_start().first(), None | Some(b'{' | b'[')) || !line.contains(&b',') {
            return None;
        }
        let mut record = csv::StringRecord::new();
        reader(line).read_record(&mut record).ok()?;
        let names: Vec<String> = record.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
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
        (says_outcome && says_what).then_some(Self { names })
    }

    /// The members of a row. Of columns with the same name the last one that holds something wins.
    pub fn fields<'a>(&self, row: &'a csv::StringRecord) -> Fields<'a> {
        let mut fields = Fields::default();
        for (name, cell) in self.names.iter().zip(row) {
            fields.set_column(name, cell);
        }
        fields
    }
}

/// A reader that takes rows of any width, the header among them.
pub fn reader<R: std::io::Read>(input: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input)
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
}
