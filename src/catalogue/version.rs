//! The catalogue's version: a hash that two builds on two machines agree on.
//!
//! Written out here because the hashers of the libraries may change between their releases.

use super::SeverityOverride;
use super::parse::Entry;

/// Twelve hexadecimal characters over all rule files in force, then the overrides.
pub(super) fn of(entries: &[Entry], overrides: &[SeverityOverride]) -> String {
    let mut hash = Hash(0);
    for entry in entries {
        hash.add(entry.code.to_string().as_bytes());
        hash.add(entry.source.as_bytes());
    }
    for word in overrides {
        let default = word.default.map_or("", |severity| severity.as_str());
        hash.add(format!("{}={default}", word.code).as_bytes());
        for (flow, severity) in &word.by_flow {
            hash.add(format!("{flow}={severity}").as_bytes());
        }
    }
    format!("{:012x}", hash.finish() >> 16)
}

struct Hash(u64);

impl Hash {
    /// Eight bytes a step: a megabyte of rules must not be felt at start-up.
    fn add(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The upper bits depend on every byte; this spreads them to the lower ones too.
    fn finish(&self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        folded ^ (folded >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};

    #[test]
    fn a_version_is_twelve_characters_and_changes_with_any_byte() {
        let version = |title: &str| {
            of(catalogue_of(&[("AADSTS50076", rule_file("AADSTS50076", title))]).entries(), &[])
        };
        assert_eq!(version("A").len(), 12);
        assert_eq!(version("A"), version("A"));
        assert_ne!(version("A"), version("B"));
    }

    #[test]
    fn the_hash_is_the_same_in_every_build() {
        let mut hash = Hash(0);
        hash.add(b"aadstream");
        assert_eq!(format!("{:016x}", hash.finish()), "06ff55c67c06e54f");
    }
}
