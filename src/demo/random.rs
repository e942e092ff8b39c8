//! Chance that repeats: the same seed gives the same traffic. `SplitMix64`.

/// A generator of numbers that look random.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit.max(1) as u64).expect("below a usize")
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// An id. One whose hexadecimal digits happen to spell the prefix of a code is drawn again: what the scanner
    /// makes of that is for its own tests.
    pub fn guid(&mut self) -> String {
        loop {
            let (high, low) = (self.number(), self.number());
            let guid = format!("{:08x}-{:04x}-4000-8000-{:012x}", high >> 32, high & 0xffff, low >> 16);
            if !guid.contains("aadb2c") {
                return guid;
            }
        }
    }

    /// Characters as tokens have them.
    pub fn token(&mut self, length: usize) -> String {
        // No A: a token spells no prefix of a code.
        const LETTERS: &[u8; 60] = b"BCDEFGHIJKLMNOPQRSTUVWXYZbcdefghijklmnopqrstuvwxyz012345678_";
        (0..length).map(|_| char::from(*self.pick(LETTERS))).collect()
    }
}
