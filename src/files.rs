//! Files, folders and stdin as a stream of pieces that hold whole messages.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use encoding_rs_io::DecodeReaderBytesBuilder;
use walkdir::WalkDir;

use crate::digest::frame::EnvelopeIds;
use crate::digest::unpack::{Gzip, HALF_CHARACTER, is_gzip, is_zstd};
use crate::digest::{Digest, Framing, Input, Middle, Position};
use crate::terms::Reason;
use feed::Piece;

pub mod buffer;
pub mod cut;
pub mod feed;

/// What the command line named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// The files behind `paths`, folders expanded in the order of names; hidden files and links inside folders are left
/// out. What cannot be listed is reported beside.
pub fn list(paths: &[PathBuf]) -> (Vec<Source>, Vec<anyhow::Error>) {
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        if path == Path::new("-") {
            sources.push(Source::Stdin);
            continue;
        }
        let is_folder = match std::fs::metadata(path) {
            Ok(metadata) => metadata.is_dir(),
            Err(error) => {
                errors.push(anyhow::Error::new(error).context(format!("cannot read {}", path.display())));
                continue;
            }
        };
        if !is_folder {
            sources.push(Source::File(path.clone()));
            continue;
        }
        let is_visible = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
        };
        for entry in WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(is_visible) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => sources.push(Source::File(entry.into_path())),
                Ok(_) => {}
                Err(error) => {
                    let name = error.path().unwrap_or(path).display().to_string();
                    let cause = error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of links"));
                    errors.push(anyhow::Error::new(cause).context(format!("cannot read {name}")));
                }
            }
        }
    }
    (sources, errors)
}

/// Bytes read so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// From disk.
    pub packed: AtomicU64,
    /// Of logs, once unpacked.
    pub plain: AtomicU64,
    warnings: Mutex<Vec<String>>,
}

impl Progress {
    fn warn(&self, warning: String) {
        self.warnings.lock().expect("no code panics while it holds this lock").push(warning);
    }

    /// What was odd about the files, but no reason to stop.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().expect("no code panics while it holds this lock"))
    }
}

/// Opens a source as plain text: gzip and zstd are told by their first bytes, UTF-16 by its mark.
pub fn open(source: &Source, progress: &Arc<Progress>) -> anyhow::Result<Box<dyn Read + Send>> {
    let raw: Box<dyn Read + Send> = match source {
        Source::Stdin => Box::new(io::stdin()),
        Source::File(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(file)
        }
    };
    let packed = Counted { inner: raw, progress: Arc::clone(progress), count: |progress| &progress.packed };
    let (head, packed) = peek(packed).with_context(|| format!("cannot read {}", source.name()))?;
    let plain: Box<dyn Read + Send> = if is_gzip(&head) {
        let (progress, name) = (Arc::clone(progress), source.name());
        let warn = move || progress.warn(format!("{name}: trailing garbage ignored"));
        Box::new(Gzip::new(BufReader::with_capacity(BUFFER_BYTES, packed), warn))
    } else if is_zstd(&head) {
        Box::new(zstd::Decoder::new(packed).with_context(|| format!("cannot unpack {}", source.name()))?)
    } else {
        Box::new(packed)
    };
    let plain = Counted { inner: plain, progress: Arc::clone(progress), count: |progress| &progress.plain };
    let (head, plain) = peek(plain).with_context(|| format!("cannot unpack {}", source.name()))?;
    Ok(decoded(&head, plain))
}

/// Read-ahead of a decoder.
const BUFFER_BYTES: usize = 256 * 1024;

/// Takes marks off; UTF-16 becomes UTF-8.
fn decoded(head: &[u8], plain: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    let is_utf16 = matches!(head, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    if !is_utf16 && !head.starts_with(b"\xef\xbb\xbf") {
        return Box::new(plain);
    }
    let mut builder = DecodeReaderBytesBuilder::new();
    builder.bom_override(true).strip_bom(true).utf8_passthru(true);
    if !is_utf16 {
        return Box::new(builder.build(plain));
    }
    let is_odd = Arc::new(AtomicBool::new(false));
    let pairs = Pairs { inner: plain, is_odd: Arc::clone(&is_odd), last: None, is_whole: true };
    Box::new(builder.build(pairs).chain(HalfCharacter { is_odd, rest: HALF_CHARACTER }))
}

/// Bytes of UTF-16 without the odd one at their end.
struct Pairs<R> {
    inner: R,
    is_odd: Arc<AtomicBool>,
    /// Held back, for it may be the odd one.
    last: Option<u8>,
    /// The bytes so far are whole pairs.
    is_whole: bool,
}

impl<R: Read> Read for Pairs<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.inner.read(buffer)?;
            let Some(before_end) = count.checked_sub(1) else {
                if buffer.is_empty() {
                    return Ok(0);
                }
                self.is_odd.store(!self.is_whole, Ordering::Relaxed);
                let last = self.last.take().filter(|_| self.is_whole);
                return Ok(last.map_or(0, |last| {
                    buffer[0] = last;
                    1
                }));
            };
            self.is_whole ^= count % 2 == 1;
            match self.last.replace(buffer[before_end]) {
                Some(held) => {
                    buffer.copy_within(..before_end, 1);
                    buffer[0] = held;
                    return Ok(count);
                }
                None if before_end > 0 => return Ok(before_end),
                None => {}
            }
        }
    }
}

/// Stands behind UTF-16 that ends in the middle of a character.
struct HalfCharacter {
    is_odd: Arc<AtomicBool>,
    rest: &'static [u8],
}

impl Read for HalfCharacter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_odd.load(Ordering::Relaxed) { self.rest.read(buffer) } else { Ok(0) }
    }
}

type Peeked<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// The first bytes, and a reader that still has them.
fn peek<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head)?;
    Ok((head.clone(), io::Cursor::new(head).chain(reader)))
}

struct Counted<R> {
    inner: R,
    progress: Arc<Progress>,
    count: fn(&Progress) -> &AtomicU64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        (self.count)(&self.progress).fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Counts one piece of a file.
pub fn digest_piece(middle: &Middle, piece: &Piece, position: &Position<'_>, digest: &mut Digest) {
    let input =
        |bytes, framing| Input { payload: Some(bytes), framing, timestamp_ms: None, source: *position };
    match piece {
        Piece::Lines(bytes) => digest.merge(middle.digest(&[input(bytes, Framing::Lines)])),
        Piece::Elements { bytes, ids, is_last, is_cut } => {
            let ids = EnvelopeIds {
                workspace_id: ids.workspace_id.as_deref(),
                dataset_id: ids.dataset_id.as_deref(),
            };
            digest.merge(middle.digest(&[input(bytes, Framing::Elements(ids))]));
            digest.tally.messages += u64::from(*is_last);
            // A value cut in the middle was rejected as a piece; one cut between its elements is rejected here.
            let ends_whole = matches!(bytes.trim_ascii_end().last(), None | Some(b'}' | b','));
            digest.tally.rejected_records[Reason::InvalidJson as usize] += u64::from(*is_cut && ends_whole);
        }
        Piece::Rows { header, bytes, header_bytes } => {
            digest.merge(middle.digest(&[input(&bytes[*header_bytes..], Framing::Rows(header))]));
        }
        Piece::Oversized { mentions, ends_array } => {
            digest.tally.messages += u64::from(*ends_array == Some(true));
            middle.reject_oversized(mentions.clone(), ends_array.is_some(), position, digest);
        }
    }
}
