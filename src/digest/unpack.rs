//! Takes the wrapping off a message: compression inside the value, byte order marks, UTF-16.

use std::borrow::Cow;
use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::GzDecoder;

use crate::terms::Reason;

/// The plain bytes, or why there are none and whatever was unpacked before.
pub type Unpacked<'a> = Result<Cow<'a, [u8]>, (Reason, Cow<'a, [u8]>)>;

/// Whether it is gzip, or was cut so early that it says no more than that.
pub fn is_gzip(bytes: &[u8]) -> bool {
    matches!(bytes, [0x1f, 0x8b] | [0x1f, 0x8b, 0x08, ..])
}

pub fn is_zstd(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

/// Unpacks a whole message of at most `max_bytes` plain bytes. A larger one is cut there, so that a small message
/// cannot blow up memory.
pub fn unpack(bytes: &[u8], max_bytes: usize) -> Unpacked<'_> {
    let plain = if is_gzip(bytes) {
        inflate(Gzip::new(bytes, || {}), max_bytes)?
    } else if is_zstd(bytes) {
        match zstd::Decoder::with_buffer(bytes) {
            Ok(decoder) => inflate(decoder, max_bytes)?,
            Err(_) => return Err((Reason::BadCompression, Cow::Borrowed(bytes))),
        }
    } else {
        Cow::Borrowed(bytes)
    };
    Ok(decode_text(plain))
}

/// The members of a gzip stream, one behind the other. What follows them is left out as gzip(1) does it: zeros, which tapes
/// and disks pad with, silently; anything else is told to `on_garbage`.
pub struct Gzip<R, F> {
    member: Option<GzDecoder<Chain<Cursor<Vec<u8>>, R>>>,
    on_garbage: F,
}

impl<R: BufRead, F: FnMut()> Gzip<R, F> {
    pub fn new(packed: R, on_garbage: F) -> Self {
        Self { member: Some(GzDecoder::new(Cursor::default().chain(packed))), on_garbage }
    }
}

impl<R: BufRead, F: FnMut()> Read for Gzip<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let ended = self.member.take().expect("it was just read");
            let (_, mut packed) = ended.into_inner().into_inner();
            let mut head = Vec::new();
            packed.by_ref().take(2).read_to_end(&mut head)?;
            if head == [0x1f, 0x8b] {
                self.member = Some(GzDecoder::new(Cursor::new(head).chain(packed)));
            } else if !is_zero(Cursor::new(head).chain(packed))? {
                (self.on_garbage)();
            }
        }
        Ok(0)
    }
}

fn is_zero(mut rest: impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = rest.fill_buf()?;
        if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
            return Ok(bytes.is_empty());
        }
        let count = bytes.len();
        rest.consume(count);
    }
}

fn inflate<'a>(decoder: impl Read, max_bytes: usize) -> Unpacked<'a> {
    let mut plain = Vec::new();
    let read = decoder.take(max_bytes as u64 + 1).read_to_end(&mut plain);
    match read {
        Err(_) => Err((Reason::BadCompression, Cow::Owned(plain))),
        Ok(_) if plain.len() > max_bytes => Err((Reason::TooLarge, Cow::Owned(plain))),
        Ok(_) => Ok(Cow::Owned(plain)),
    }
}

/// What UTF-16 that ends in the middle of a character becomes: a line that is no UTF-8, so that it is rejected.
pub const HALF_CHARACTER: &[u8] = b"\n\xff";

/// Removes a byte order mark; UTF-16 with one becomes UTF-8.
pub fn decode_text(bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let utf16 = match bytes.as_ref() {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        [0xef, 0xbb, 0xbf, ..] => {
            return match bytes {
                Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[3..]),
                Cow::Owned(mut bytes) => Cow::Owned(bytes.split_off(3)),
            };
        }
        _ => return bytes,
    };
    let units = bytes[2..].chunks_exact(2).map(|pair| utf16([pair[0], pair[1]]));
    let text: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let mut text = text.into_bytes();
    if bytes.len() % 2 == 1 {
        text.extend_from_slice(HALF_CHARACTER);
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_and_zstd_inside_a_message_are_unpacked() {
        assert_eq!(unpack(&gzip(b"hello"), 100).unwrap().as_ref(), b"hello");
        assert_eq!(unpack(&[gzip(b"a"), gzip(b"b")].concat(), 100).unwrap().as_ref(), b"ab");
        assert_eq!(unpack(&zstd::encode_all(&b"hello"[..], 1).unwrap(), 100).unwrap().as_ref(), b"hello");
    }

    #[test]
    fn what_follows_gzip_is_left_out() {
        for (rest, is_garbage) in [
            (&b""[..], false),
            (&[0; 1000], false),
            (&[0, 0, 1], true),
            (b"\x1f", true),
            (b"\n", true),
            (b"garbage", true),
        ] {
            let packed = [&gzip(b"a"), &gzip(b"b"), rest].concat();
            let (mut plain, mut garbage) = (String::new(), 0);
            Gzip::new(&*packed, || garbage += 1).read_to_string(&mut plain).unwrap();
            assert_eq!((plain.as_str(), garbage), ("ab", u32::from(is_garbage)), "{rest:?}");
            assert_eq!(unpack(&packed, 100).unwrap().as_ref(), b"ab");
        }
        // A member that begins must be whole.
        let cut = [&gzip(b"a")[..], &gzip(b"b")[..12]].concat();
        assert_eq!(unpack(&cut, 100).unwrap_err(), (Reason::BadCompression, b"ab"[..].into()));
    }

    #[test]
    fn a_bomb_is_cut_at_the_limit() {
        let bomb = gzip(&vec![b'x'; 10_000_000]);
        let (reason, kept) = unpack(&bomb, 1000).unwrap_err();
        assert_eq!((reason, kept.len()), (Reason::TooLarge, 1001));
    }

    #[test]
    fn a_truncated_stream_gives_what_it_held() {
        let packed = gzip("AADSTS50126 ".repeat(10_000).as_bytes());
        let (reason, kept) = unpack(&packed[..packed.len() / 2], 1 << 20).unwrap_err();
        assert!(reason == Reason::BadCompression && kept.starts_with(b"AADSTS50126"), "{} bytes", kept.len());
        assert_eq!(unpack(&packed[..2], 9).unwrap_err().0, Reason::BadCompression);
    }

    #[test]
    fn marks_and_utf16_are_read() {
        assert_eq!(unpack(b"\xef\xbb\xbfx", 9).unwrap().as_ref(), b"x");
        assert_eq!(unpack(b"\xff\xfeA\0B\0", 9).unwrap().as_ref(), b"AB");
        assert_eq!(unpack(b"\xfe\xff\0A\0B", 9).unwrap().as_ref(), b"AB");
        assert_eq!(unpack(b"\xfe\xff\0A\0", 9).unwrap().as_ref(), b"A\n\xff");
    }
}
