//! How the records of a message are put together (`domain` §1.1): mostly `{"records":[…]}`.

use std::io::Write as _;

use super::json::{list, pretty};
use super::random::Random;
use super::writer::Draft;
use super::{diagnostic, sign_in};
use crate::terms::{Flow, LogCategory};

/// Records a message at most.
const BATCH: usize = 60;

/// A message of diagnostic sign-in records.
pub fn batch(draft: &mut Draft<'_>, log: LogCategory, flow: Flow) -> Vec<u8> {
    let records = some(draft, BATCH, |draft| {
        let sign_in = sign_in::sign_in(draft, log, flow);
        sign_in::count(draft, &sign_in, log);
        diagnostic::record(&sign_in, draft)
    });
    frame(&records, draft.random)
}

/// A number of records up to `limit`; small messages are commoner than large ones.
pub fn some<'d>(
    draft: &mut Draft<'d>,
    limit: usize,
    mut write: impl FnMut(&mut Draft<'d>) -> String,
) -> Vec<String> {
    let at_most = 1 + draft.random.below(limit);
    (0..=draft.random.below(at_most)).map(|_| write(draft)).collect()
}

/// Every framing that real consumers had to learn.
pub fn frame(records: &[String], random: &mut Random) -> Vec<u8> {
    let envelope = || format!("{{\"records\":{}}}", list(records));
    match random.below(100) {
        0..5 => list(records).into_bytes(),
        5..9 => lines(records, "\n"),
        9..11 => lines(records, "\r\n"),
        11..14 => lines(records, ""),
        14..18 => pretty(&envelope()).into_bytes(),
        18..20 => pretty(&list(records)).into_bytes(),
        20..24 => gzip(envelope().as_bytes()),
        24..26 => gzip(&lines(records, "\n")),
        26..28 => utf16(&envelope(), u16::to_le_bytes),
        28..30 => utf16(&envelope(), u16::to_be_bytes),
        30..32 => ["\u{feff}", &envelope()].concat().into_bytes(),
        // A writer that pads its buffer.
        32..33 => [envelope().as_bytes(), &[0; 7]].concat(),
        // One record is the message.
        33..37 if records.len() == 1 => records[0].clone().into_bytes(),
        _ => envelope().into_bytes(),
    }
}

fn lines(records: &[String], end: &str) -> Vec<u8> {
    records.iter().flat_map(|record| [record, end]).collect::<String>().into_bytes()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(order).collect()
}
