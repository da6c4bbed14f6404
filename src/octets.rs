//! Bytes looked at eight at a time, in plain integers: what heads and bodies are searched with where texts are too
//! short for `memchr` to pay.

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
/// The high bit of each byte.
pub const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Marks, in the high bit of each byte, the bytes below `limit` (at most 128). Marks above the lowest may be wrong.
pub const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES.wrapping_mul(limit as u64)) & !word & HIGHS
}

/// As [`below`], the bytes equal to `byte`.
pub const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ ONES.wrapping_mul(byte as u64), 1)
}

/// Bytes before the first that `marks` marks in a word, or that `stops` where no whole word is left.
pub fn run(bytes: &[u8], marks: impl Fn(u64) -> u64, stops: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut taken = 0_usize;
    for word in words {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return taken.wrapping_add((marked.trailing_zeros() / 8) as usize);
        }
        taken = taken.wrapping_add(8);
    }
    taken.wrapping_add(rest.iter().position(|&byte| stops(byte)).unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_ends_where_the_first_such_byte_stands(bytes: Vec<u8>, byte: u8, limit in 0_u8..=128) {
            let first = |is_it: &dyn Fn(u8) -> bool| bytes.iter().position(|&one| is_it(one)).unwrap_or(bytes.len());
            let run_to_byte = run(&bytes, |word| equal(word, byte), |one| one == byte);
            prop_assert_eq!(run_to_byte, first(&|one| one == byte));
            let run_to_low = run(&bytes, |word| below(word, limit), |one| one < limit);
            prop_assert_eq!(run_to_low, first(&|one| one < limit));
        }
    }
}
