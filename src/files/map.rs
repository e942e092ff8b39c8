//! Large files of JSON lines, read where the page cache holds them instead of being copied from there.
//! Beside `digest::simd` the only module with `unsafe`.
//!
//! Measured: copying costs as much as understanding the lines. What a mapped file needs beside is an answer to a file that
//! becomes shorter while it is read: the kernel then sends SIGBUS, and the missing part is made to read as NUL bytes,
//! which are blank between values. Whoever reads on learns of it as an error.
#![expect(unsafe_code, reason = "mapping a file and answering SIGBUS; each use says why it is sound")]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::{Deref, Range};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use memmap2::{Advice, Mmap};

use super::cut;

/// Smaller files are read before a mapping would pay.
const BYTES_MIN: usize = 4 * 1024 * 1024;

/// Bytes a piece; as [`feed`](super::feed) reads them.
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes that are asked for at once.
const PRESENT_BYTES: usize = 4 * BLOCK_BYTES;

/// Whole lines of a mapped file.
#[derive(Debug)]
pub struct Slice {
    map: Arc<Map>,
    range: Range<usize>,
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map.memory[self.range.clone()]
    }
}

/// A file that begins as JSON lines, from its start to the last block: the end is left to a reader, which sees what is
/// appended meanwhile.
#[derive(Debug)]
pub struct Lines {
    file: File,
    map: Arc<Map>,
    at: usize,
    /// Asked for from the kernel up to here.
    present: usize,
}

impl Lines {
    /// Gives the file back if it is small, no regular file, or does not begin with an object.
    pub fn new(file: File) -> Result<Self, File> {
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |file| file.len());
        let Some(map) =
            usize::try_from(length).ok().filter(|length| *length >= BYTES_MIN).and_then(|_| Map::new(&file))
        else {
            return Err(file);
        };
        if map.memory[..BLOCK_BYTES].trim_ascii_start().first() != Some(&b'{') {
            return Err(file);
        }
        Ok(Self { file, map: Arc::new(map), at: 0, present: 0 })
    }

    /// The next lines; `None` where a reader must go on.
    pub fn next_slice(&mut self) -> io::Result<Option<Slice>> {
        if self.map.slot.is_cut.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        // A batch of many records is one long line.
        let mut blocks =
            [1, 4, 16].map(|blocks| self.map.memory.get(self.at..self.at + blocks * BLOCK_BYTES)).into_iter();
        let Some(length) = blocks.find_map(|block| cut::last_safe(block?)) else { return Ok(None) };
        let range = self.at..self.at + length;
        if range.end > self.present {
            self.present = (range.end + PRESENT_BYTES).min(self.map.memory.len());
            // Only a hint; without it every few pages are a fault of their own.
            let _ =
                self.map.memory.advise_range(Advice::PopulateRead, range.start, self.present - range.start);
        }
        self.at = range.end;
        Ok(Some(Slice { map: Arc::clone(&self.map), range }))
    }

    /// Reads what was not given out.
    pub fn rest(mut self) -> io::Result<impl Read> {
        self.file.seek(SeekFrom::Start(self.at as u64))?;
        Ok(self.file)
    }
}

#[derive(Debug)]
struct Map {
    memory: Mmap,
    slot: &'static Slot,
}

impl Map {
    /// `None` if the file cannot be mapped, or too many are.
    fn new(file: &File) -> Option<Self> {
        answer_sigbus();
        let slot = SLOTS.iter().find(|slot| !slot.is_taken.swap(true, Ordering::Acquire))?;
        // SAFETY: the map is only read. Whoever changes the file meanwhile changes what is read: log files grow, and
        // one that shrinks is answered by `on_sigbus`.
        let Ok(memory) = (unsafe { Mmap::map(file) }) else {
            slot.is_taken.store(false, Ordering::Release);
            return None;
        };
        // Only a hint; without it the kernel reads ahead less.
        let _ = memory.advise(Advice::Sequential);
        slot.is_cut.store(false, Ordering::Relaxed);
        slot.end.store(memory.as_ptr() as usize + memory.len(), Ordering::Relaxed);
        slot.start.store(memory.as_ptr() as usize, Ordering::Release);
        Some(Self { memory, slot })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        self.slot.start.store(usize::MAX, Ordering::Release);
        self.slot.is_taken.store(false, Ordering::Release);
    }
}

/// Where a mapped file lies, for the signal handler.
#[derive(Debug)]
struct Slot {
    is_taken: AtomicBool,
    /// Address; the highest one while nothing is mapped.
    start: AtomicUsize,
    end: AtomicUsize,
    is_cut: AtomicBool,
}

/// Files that are mapped at once: the one that is read, and those whose last lines are still being understood.
static SLOTS: [Slot; 8] = [const {
    Slot {
        is_taken: AtomicBool::new(false),
        start: AtomicUsize::new(usize::MAX),
        end: AtomicUsize::new(0),
        is_cut: AtomicBool::new(false),
    }
}; 8];

/// What SIGBUS did before.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

fn answer_sigbus() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both structures are plain data for which zero is valid, and are filled before they are used; the
        // handler calls only what a signal handler may.
        unsafe {
            let mut before: Box<libc::sigaction> = Box::new(std::mem::zeroed());
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_sigbus as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut *before);
            BEFORE.store(Box::into_raw(before), Ordering::Release);
            libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut());
        }
    });
}

/// Puts zeros in the place of what a file lost. Faults elsewhere get the answer that they had before.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid pointer to a handler that was installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &SLOTS {
        let (start, end) = (slot.start.load(Ordering::Acquire), slot.end.load(Ordering::Relaxed));
        if !(start..end).contains(&address) {
            continue;
        }
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let Ok(page) = usize::try_from(page) else { break };
        let from = address / page * page;
        let (read, fixed) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
        // SAFETY: the pages from `from` to the end belong to the map of this slot, which is alive: a thread is reading
        // it. They stay readable, and unmapping it later takes them along.
        let zeros = unsafe { libc::mmap(from as *mut libc::c_void, end - from, read, fixed, -1, 0) };
        if zeros != libc::MAP_FAILED {
            slot.is_cut.store(true, Ordering::Relaxed);
            return;
        }
    }
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: `before` is null or what `sigaction` wrote; the fault comes again and gets the old answer.
    unsafe {
        libc::sigaction(signal, before, ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    const LINE: &[u8] = b"{\"a\":\"0123456789012345678901234567890123456789012345678901\"}\n";

    #[test]
    fn slices_and_the_rest_are_the_file() {
        let content = LINE.repeat(BYTES_MIN / LINE.len() + 1000);
        let file = file_of(&content);
        let mut lines = Lines::new(file.reopen().unwrap()).unwrap();
        let mut read = Vec::new();
        while let Some(slice) = lines.next_slice().unwrap() {
            assert!(slice.ends_with(b"}\n"));
            read.extend_from_slice(&slice);
        }
        assert!(read.len() > content.len() - BLOCK_BYTES && read.len() < content.len());
        lines.rest().unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content);
    }

    #[test]
    fn a_file_that_becomes_shorter_is_an_error_and_no_crash() {
        let file = file_of(&LINE.repeat(2 * BYTES_MIN / LINE.len()));
        let mut lines = Lines::new(file.reopen().unwrap()).unwrap();
        let first = lines.next_slice().unwrap().unwrap();
        file.as_file().set_len(LINE.len() as u64).unwrap();
        assert_eq!(&first[..LINE.len()], LINE);
        assert!(
            first[first.len() - LINE.len()..].iter().all(|byte| *byte == 0),
            "what is gone reads as zero"
        );
        assert_eq!(lines.next_slice().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn small_files_and_text_are_left_to_a_reader() {
        assert!(Lines::new(file_of(LINE).reopen().unwrap()).is_err());
        assert!(Lines::new(file_of(&b"a line of text\n".repeat(BYTES_MIN)).reopen().unwrap()).is_err());
    }
}
