//! Where the bytes that matter to JSON's structure stand, one bit a byte; the only module with `unsafe`.
//!
//! Measured: the same masks built by a plain loop cost a success record three times its whole time.
#![expect(unsafe_code, reason = "vector instructions; SSE2 is part of every x86-64 processor")]

/// Bytes a step; the width of the masks.
pub const BLOCK: usize = 64;

/// One bit a byte of a block, the first byte in the lowest bit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Masks {
    pub quote: u64,
    pub backslash: u64,
    /// `{` and `[`.
    pub open: u64,
    /// `}` and `]`.
    pub close: u64,
    /// Below 0x20.
    pub control: u64,
}

impl Masks {
    #[inline]
    pub fn of(block: &[u8; BLOCK]) -> Self {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the function needs SSE2, which every x86-64 processor has.
        return unsafe { sse2(block) };
        #[cfg(not(target_arch = "x86_64"))]
        return plain(block);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "bytes and bits are compared, not counted"
)]
fn sse2(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    let mut masks = Masks { quote: 0, backslash: 0, open: 0, close: 0, control: 0 };
    for lane in 0..BLOCK / 16 {
        // SAFETY: the 16 bytes from `lane * 16` on are inside the block; the load needs no alignment.
        let bytes = unsafe { _mm_loadu_si128(block.as_ptr().add(lane * 16).cast::<__m128i>()) };
        let bits = |hit: __m128i| u64::from(_mm_movemask_epi8(hit) as u32) << (lane * 16);
        let equal = |bytes: __m128i, byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
        // `[` and `{`, `]` and `}` differ in this one bit.
        let folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
        masks.quote |= bits(equal(bytes, b'"'));
        masks.backslash |= bits(equal(bytes, b'\\'));
        masks.open |= bits(equal(folded, b'{'));
        masks.close |= bits(equal(folded, b'}'));
        masks.control |= bits(_mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes));
    }
    masks
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn plain(block: &[u8; BLOCK]) -> Masks {
    let mask = |hit: fn(u8) -> bool| {
        block.iter().enumerate().fold(0u64, |bits, (at, byte)| bits | u64::from(hit(*byte)) << at)
    };
    Masks {
        quote: mask(|byte| byte == b'"'),
        backslash: mask(|byte| byte == b'\\'),
        open: mask(|byte| byte | 0x20 == b'{'),
        close: mask(|byte| byte | 0x20 == b'}'),
        control: mask(|byte| byte < 0x20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_masks_are_the_plain_ones() {
        for start in 0..=255u8 {
            let mut block = [0; BLOCK];
            for (at, byte) in block.iter_mut().enumerate() {
                *byte = start.wrapping_add((at * 7) as u8);
            }
            assert_eq!(Masks::of(&block), plain(&block), "from {start}");
        }
    }
}
