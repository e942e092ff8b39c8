//! Files, folders and stdin as a stream of pieces that hold whole messages.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::bufread::MultiGzDecoder;
use walkdir::WalkDir;

use crate::digest::frame::EnvelopeIds;
use crate::digest::unpack::{is_gzip, is_zstd};
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

/// Opens a source as plain text: gzip and zstd are told by their first bytes, UTF-16 by its mark. `read` counts the
/// bytes taken from the disk.
pub fn open(source: &Source, read: &Arc<AtomicU64>) -> anyhow::Result<Box<dyn Read + Send>> {
    let raw: Box<dyn Read + Send> = match source {
        Source::Stdin => Box::new(io::stdin()),
        Source::File(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(file)
        }
    };
    let counted = Counted { inner: raw, read: Arc::clone(read) };
    let (head, counted) = peek(counted).with_context(|| format!("cannot read {}", source.name()))?;
    let plain: Box<dyn Read + Send> = if is_gzip(&head) {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, counted)))
    } else if is_zstd(&head) {
        Box::new(zstd::Decoder::new(counted).with_context(|| format!("cannot unpack {}", source.name()))?)
    } else {
        return Ok(decoded(&head, counted));
    };
    let (head, plain) = peek(plain).with_context(|| format!("cannot unpack {}", source.name()))?;
    Ok(decoded(&head, plain))
}

/// Read-ahead of a decoder.
const BUFFER_BYTES: usize = 256 * 1024;

/// Takes marks off; UTF-16 becomes UTF-8.
fn decoded(head: &[u8], plain: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    let is_marked = matches!(head, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0xef, 0xbb, 0xbf, ..]);
    if !is_marked {
        return Box::new(plain);
    }
    Box::new(
        DecodeReaderBytesBuilder::new().bom_override(true).strip_bom(true).utf8_passthru(true).build(plain),
    )
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
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
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
        Piece::Rows { header, rows, invalid } => {
            let mut position = *position;
            for row in rows {
                // Cells with their commas and line ends; quotes are gone by now.
                digest.tally.bytes += (row.as_slice().len() + row.len() + 1) as u64;
                middle.digest_row(header, row, &position, digest);
                position.offset += 1;
            }
            for row in invalid {
                middle.reject(Reason::InvalidUtf8, row, &position, digest);
                position.offset += 1;
            }
        }
        Piece::Oversized { mentions, bytes } => {
            digest.tally.bytes += bytes;
            middle.reject_oversized(mentions.clone(), position, digest);
        }
    }
}
