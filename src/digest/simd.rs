//! Vector instructions: where the bytes that matter to JSON's structure stand, one bit a byte, and where a string ends.
//! Beside `service::commit` and `service::steady` the only module with `unsafe`.
//!
//! Measured: the same masks built by a plain loop cost a success record three times its whole time.
#![expect(unsafe_code, reason = "vector instructions; each use says why it is sound")]

use super::structure::{Walk, Walker, prefix_xor};

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

/// Walks with the widest instructions that this processor has. Hints, if somebody wants them, are counted from the given
/// number on.
pub fn walk(walker: &mut Walker, bytes: &[u8], hints: Option<(usize, &mut Hints)>) -> Walk {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("pclmulqdq")
        {
            // SAFETY: the function needs these instructions, and the processor was just asked for them.
            return unsafe { walk_avx512(walker, bytes, hints) };
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("pclmulqdq")
        {
            // SAFETY: the function needs these instructions, and the processor was just asked for them.
            return unsafe { walk_avx2(walker, bytes, hints) };
        }
    }
    match hints {
        None => walker.walk(bytes, portable, prefix_xor, |_, _| {}),
        Some((start, hints)) => walker
            .walk(bytes, portable, prefix_xor, |places, at| hints.add(start + at, plain_triples(places))),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw,bmi1,popcnt,pclmulqdq")]
fn walk_avx512(walker: &mut Walker, bytes: &[u8], hints: Option<(usize, &mut Hints)>) -> Walk {
    match hints {
        None => walker.walk(bytes, |block| avx512(block), |quotes| carryless(quotes), |_, _| {}),
        Some((start, hints)) => walker.walk(
            bytes,
            |block| avx512(block),
            |quotes| carryless(quotes),
            |places, at| hints.add(start + at, avx512_triples(places)),
        ),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,popcnt,pclmulqdq")]
fn walk_avx2(walker: &mut Walker, bytes: &[u8], hints: Option<(usize, &mut Hints)>) -> Walk {
    match hints {
        None => walker.walk(bytes, |block| avx2(block), |quotes| carryless(quotes), |_, _| {}),
        Some((start, hints)) => walker.walk(
            bytes,
            |block| avx2(block),
            |quotes| carryless(quotes),
            |places, at| hints.add(start + at, avx2_triples(places)),
        ),
    }
}

/// The masks of a processor without wide vectors.
fn portable(block: &[u8; BLOCK]) -> Masks {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of every x86-64 processor.
    return unsafe { sse2(block) };
    #[cfg(not(target_arch = "x86_64"))]
    plain(block)
}

/// [`prefix_xor`] in one instruction: a multiplication by all ones without carries.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
#[inline]
fn carryless(quotes: u64) -> u64 {
    use std::arch::x86_64::{_mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set1_epi8};
    let product = _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(quotes.cast_signed()), _mm_set1_epi8(-1));
    _mm_cvtsi128_si64(product).cast_unsigned()
}

/// Three letters that stand inside everything that keeps a success from being only counted, in either letter case: in
/// `AADSTS`, in `AADB2C`, and in `errorCode`. They are rare elsewhere.
const TRIPLES: [&[u8; 3]; 2] = [b"aad", b"cod"];

/// A block, and the two bytes behind it that a triple in it may need.
pub type Places = [u8; BLOCK + 2];

/// Places of one record where one of [`TRIPLES`] begins. Bytes that differ from letters in one bit may be taken for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints {
    places: [u32; HINTS],
    count: usize,
}

/// Hints that are held. A record with more is searched by itself.
const HINTS: usize = 14;

impl Hints {
    /// Adds the places in `bits`, of which the first one is `start`.
    #[inline]
    fn add(&mut self, start: usize, mut bits: u64) {
        while bits != 0 {
            if let Some(place) = self.places.get_mut(self.count) {
                *place = u32::try_from(start + bits.trailing_zeros() as usize).unwrap_or(u32::MAX);
            }
            self.count += 1;
            bits &= bits - 1;
        }
    }

    /// Adds the places in `bytes` from `start` to `end`.
    pub fn add_range(&mut self, bytes: &[u8], start: usize, end: usize) {
        let mut from = start;
        while let Some(at) = next_triple(&bytes[..end], from) {
            self.add(at, 1);
            from = at + 1;
        }
    }

    /// All of them; `None` if there were too many.
    pub fn all(&self) -> Option<impl Iterator<Item = usize> + Clone> {
        Some(self.places.get(..self.count)?.iter().map(|place| *place as usize))
    }
}

/// The next place from `at` on where one of [`TRIPLES`] begins.
#[inline]
pub fn next_triple(bytes: &[u8], mut at: usize) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("bmi1") {
        // SAFETY: the function needs these instructions, and the processor was just asked for them.
        match unsafe { next_triple_avx512(bytes, at) } {
            Ok(found) => return Some(found),
            Err(end) => at = end,
        }
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
        // SAFETY: the function needs these instructions, and the processor was just asked for them.
        match unsafe { next_triple_avx2(bytes, at) } {
            Ok(found) => return Some(found),
            Err(end) => at = end,
        }
    }
    bytes.get(at..)?.windows(3).position(is_triple).map(|offset| at + offset)
}

fn is_triple(three: &[u8]) -> bool {
    TRIPLES.iter().any(|triple| three.iter().map(|byte| byte | 0x20).eq(triple.iter().copied()))
}

/// The same, 64 places at a time; else the place up to which there is none.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw,bmi1")]
fn next_triple_avx512(bytes: &[u8], mut at: usize) -> Result<usize, usize> {
    while let Some(places) = bytes.get(at..at + BLOCK + 2) {
        let hits = avx512_triples(places.try_into().expect("the slice has the length of the places"));
        if hits != 0 {
            return Ok(at + hits.trailing_zeros() as usize);
        }
        at += BLOCK;
    }
    Err(at)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1")]
fn next_triple_avx2(bytes: &[u8], mut at: usize) -> Result<usize, usize> {
    while let Some(places) = bytes.get(at..at + BLOCK + 2) {
        let hits = avx2_triples(places.try_into().expect("the slice has the length of the places"));
        if hits != 0 {
            return Ok(at + hits.trailing_zeros() as usize);
        }
        at += BLOCK;
    }
    Err(at)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
#[inline]
#[expect(clippy::cast_possible_wrap, reason = "bytes are compared bit by bit")]
fn avx512_triples(places: &Places) -> u64 {
    use std::arch::x86_64::{
        __m512i, _mm512_cmpeq_epi8_mask, _mm512_loadu_si512, _mm512_mask_cmpeq_epi8_mask, _mm512_or_si512,
        _mm512_set1_epi8,
    };
    let folded = |offset: usize| {
        // SAFETY: 64 bytes from `offset`, at most 2, on are inside the 66 places; the load needs no alignment.
        let bytes = unsafe { _mm512_loadu_si512(places.as_ptr().add(offset).cast()) };
        _mm512_or_si512(bytes, _mm512_set1_epi8(0x20))
    };
    let all = |byte: u8| _mm512_set1_epi8(byte as i8);
    let and = |hits: u64, bytes: __m512i, byte: u8| _mm512_mask_cmpeq_epi8_mask(hits, bytes, all(byte));
    let (first, second, third) = (folded(0), folded(1), folded(2));
    let d = _mm512_cmpeq_epi8_mask(third, all(b'd'));
    and(and(d, first, b'a'), second, b'a') | and(and(d, first, b'c'), second, b'o')
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_ptr_alignment,
    reason = "bytes are compared bit by bit; the loads need no alignment"
)]
fn avx2_triples(places: &Places) -> u64 {
    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8,
    };
    const LANE: usize = 32;
    let mut hits = 0;
    for lane in 0..BLOCK / LANE {
        let folded = |offset: usize| {
            // SAFETY: 32 bytes from at most 34 on are inside the 66 places; the load needs no alignment.
            let bytes =
                unsafe { _mm256_loadu_si256(places.as_ptr().add(lane * LANE + offset).cast::<__m256i>()) };
            _mm256_or_si256(bytes, _mm256_set1_epi8(0x20))
        };
        let is = |bytes: __m256i, byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
        let (first, second, third) = (folded(0), folded(1), folded(2));
        let aa = _mm256_and_si256(is(first, b'a'), is(second, b'a'));
        let co = _mm256_and_si256(is(first, b'c'), is(second, b'o'));
        let found = _mm256_and_si256(_mm256_or_si256(aa, co), is(third, b'd'));
        hits |= u64::from(_mm256_movemask_epi8(found) as u32) << (lane * LANE);
    }
    hits
}

fn plain_triples(places: &Places) -> u64 {
    places.windows(3).enumerate().fold(0, |bits, (at, three)| bits | u64::from(is_triple(three)) << at)
}

/// Where a string stops being plain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stop {
    /// Index of the next quote or backslash.
    pub at: usize,
    /// A byte below 0x20 stands before it.
    pub control: bool,
}

/// Looks for the next quote or backslash from `at` on. Strings of logs are short, so starting up must cost nothing.
#[inline]
pub fn string_stop(bytes: &[u8], mut at: usize) -> Option<Stop> {
    let mut control = false;
    #[cfg(target_arch = "x86_64")]
    while let Some(lane) = bytes.get(at..at + LANE) {
        let lane: &[u8; LANE] = lane.try_into().expect("the slice has the length of a lane");
        // SAFETY: SSE2 is part of every x86-64 processor.
        let (stops, controls) = unsafe { lane_stops(lane) };
        if stops != 0 {
            let bit = stops.trailing_zeros();
            control |= controls & ((1 << bit) - 1) != 0;
            return Some(Stop { at: at + bit as usize, control });
        }
        control |= controls != 0;
        at += LANE;
    }
    for (offset, byte) in bytes.get(at..)?.iter().enumerate() {
        match byte {
            b'"' | b'\\' => return Some(Stop { at: at + offset, control }),
            byte => control |= *byte < 0x20,
        }
    }
    None
}

/// Bytes of one vector of [`string_stop`].
#[cfg(target_arch = "x86_64")]
const LANE: usize = 16;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_ptr_alignment,
    reason = "bytes are compared bit by bit; the loads need no alignment"
)]
fn lane_stops(lane: &[u8; LANE]) -> (u32, u32) {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    // SAFETY: the lane has 16 bytes; the load needs no alignment.
    let bytes = unsafe { _mm_loadu_si128(lane.as_ptr().cast::<__m128i>()) };
    let equal = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
    let stops = _mm_movemask_epi8(_mm_or_si128(equal(b'"'), equal(b'\\'))) as u32;
    let controls = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes)) as u32;
    (stops, controls)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
#[inline]
#[expect(clippy::cast_possible_wrap, reason = "bytes are compared bit by bit")]
fn avx512(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::{
        _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_loadu_si512, _mm512_or_si512, _mm512_set1_epi8,
    };
    // SAFETY: the block has 64 bytes; the load needs no alignment.
    let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    let all = |byte: u8| _mm512_set1_epi8(byte as i8);
    // `[` and `{`, `]` and `}` differ in this one bit.
    let folded = _mm512_or_si512(bytes, all(0x20));
    Masks {
        quote: _mm512_cmpeq_epi8_mask(bytes, all(b'"')),
        backslash: _mm512_cmpeq_epi8_mask(bytes, all(b'\\')),
        open: _mm512_cmpeq_epi8_mask(folded, all(b'{')),
        close: _mm512_cmpeq_epi8_mask(folded, all(b'}')),
        control: _mm512_cmplt_epu8_mask(bytes, all(0x20)),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_ptr_alignment,
    reason = "bytes are compared bit by bit; the loads need no alignment"
)]
fn avx2(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8,
    };
    let mut masks = Masks { quote: 0, backslash: 0, open: 0, close: 0, control: 0 };
    for lane in 0..BLOCK / 32 {
        // SAFETY: the 32 bytes from `lane * 32` on are inside the block; the load needs no alignment.
        let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().add(lane * 32).cast::<__m256i>()) };
        let bits = |hit: __m256i| u64::from(_mm256_movemask_epi8(hit) as u32) << (lane * 32);
        let equal = |bytes: __m256i, byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
        // `[` and `{`, `]` and `}` differ in this one bit.
        let folded = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
        masks.quote |= bits(equal(bytes, b'"'));
        masks.backslash |= bits(equal(bytes, b'\\'));
        masks.open |= bits(equal(folded, b'{'));
        masks.close |= bits(equal(folded, b'}'));
        masks.control |= bits(_mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes));
    }
    masks
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_ptr_alignment,
    reason = "bytes are compared bit by bit; the loads need no alignment"
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
    fn triples_are_found_wherever_they_stand() {
        for length in 0..100 {
            for triple in ["aad", "AAD", "aAd", "cOd", "COD"] {
                let text = format!("{}{triple}{}", "x".repeat(length), "a".repeat(length / 2));
                assert_eq!(next_triple(text.as_bytes(), 0), Some(length), "{text}");
                assert_eq!(next_triple(text.as_bytes(), length + 1), None, "{text}");
            }
        }
    }

    #[test]
    fn a_string_stops_at_its_first_quote_or_backslash() {
        for length in 0..70 {
            for (stop, control) in [(b'"', false), (b'\\', false), (b'"', true)] {
                let mut bytes = vec![b'x'; length];
                if control && length > 0 {
                    bytes[length / 2] = b'\t';
                }
                bytes.push(stop);
                bytes.extend([0x01; 20]);
                let expected = Stop { at: length, control: control && length > 0 };
                assert_eq!(string_stop(&bytes, 0), Some(expected), "{length}");
                assert_eq!(string_stop(&bytes[..length], 0), None, "{length}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_carryless_product_is_a_prefix_xor() {
        let mut quotes = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..1000 {
            quotes = quotes.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(17);
            if is_x86_feature_detected!("pclmulqdq") {
                // SAFETY: the instruction was just asked for.
                assert_eq!(unsafe { carryless(quotes) }, prefix_xor(quotes), "{quotes:x}");
            }
        }
    }

    #[test]
    fn the_vector_masks_are_the_plain_ones() {
        for start in 0..=255u8 {
            let mut block = [0; BLOCK];
            for (at, byte) in block.iter_mut().enumerate() {
                *byte = start.wrapping_add(u8::try_from(at).unwrap().wrapping_mul(7));
            }
            #[cfg(target_arch = "x86_64")]
            {
                // SAFETY: SSE2 is part of every x86-64 processor; the others are asked for.
                assert_eq!(unsafe { sse2(&block) }, plain(&block), "from {start}");
                if is_x86_feature_detected!("avx2") {
                    assert_eq!(unsafe { avx2(&block) }, plain(&block), "from {start}");
                }
                if is_x86_feature_detected!("avx512bw") {
                    assert_eq!(unsafe { avx512(&block) }, plain(&block), "from {start}");
                }
            }
        }
    }
}
