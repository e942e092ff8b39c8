//! Bytes that are filled, drained and used again without being cleared in between: clearing memory that a read is
//! about to overwrite costs as much as reading it.

use std::io::{self, Read};
use std::ops::Deref;

/// The bytes of `memory` from `start` to `end` are the content.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Drops bytes at the front.
    pub fn drop_front(&mut self, count: usize) {
        self.start += count;
    }

    /// Gives the first `length` bytes away and keeps the rest. `spare`, which is empty, takes the shorter of both.
    #[must_use]
    pub fn take(&mut self, length: usize, mut spare: Self) -> Self {
        if length < self.len() - length {
            spare.set(&self[..length]);
            self.drop_front(length);
            spare
        } else {
            spare.set(&self[length..]);
            self.end = self.start + length;
            std::mem::replace(self, spare)
        }
    }

    fn set(&mut self, bytes: &[u8]) {
        if self.memory.len() < bytes.len() {
            self.memory.resize(bytes.len(), 0);
        }
        self.memory[..bytes.len()].copy_from_slice(bytes);
        (self.start, self.end) = (0, bytes.len());
    }

    /// Reads until there are `wanted` bytes; false if the stream ended before.
    pub fn fill(&mut self, reader: &mut dyn Read, wanted: usize) -> io::Result<bool> {
        if self.len() >= wanted {
            return Ok(true);
        }
        self.memory.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.len());
        if self.memory.len() < wanted {
            self.memory.resize(wanted, 0);
        }
        while self.end < wanted {
            match reader.read(&mut self.memory[self.end..wanted]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }
}
