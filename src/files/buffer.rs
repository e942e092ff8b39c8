//! Bytes that are filled, drained and used again without being cleared in between: clearing memory that a read is
//! about to overwrite costs as much as reading it.

use std::io::{self, Read};
use std::ops::Deref;

/// The first `length` bytes of `memory` are the content.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Drops bytes at the front.
    pub fn drop_front(&mut self, count: usize) {
        self.memory.copy_within(count..self.length, 0);
        self.length -= count;
    }

    /// Moves what is behind the first `length` bytes into `rest`, which is empty.
    pub fn split_into(&mut self, length: usize, rest: &mut Self) {
        let moved = self.length - length;
        if rest.memory.len() < moved {
            rest.memory.resize(moved, 0);
        }
        rest.memory[..moved].copy_from_slice(&self.memory[length..self.length]);
        rest.length = moved;
        self.length = length;
    }

    /// Reads until there are `wanted` bytes; false if the stream ended before.
    pub fn fill(&mut self, reader: &mut dyn Read, wanted: usize) -> io::Result<bool> {
        if self.memory.len() < wanted {
            self.memory.resize(wanted, 0);
        }
        while self.length < wanted {
            match reader.read(&mut self.memory[self.length..wanted]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub fn into_vec(mut self) -> Vec<u8> {
        self.memory.truncate(self.length);
        self.memory
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}
