//! Repeatable pseudo-random numbers: the n-th draw depends on the seed and n alone, so a run can
//! be repeated. Called by everything that chooses: arrivals, the
//! mix, duplicates, and the faults for their `rate`.

/// The `index`-th draw of the sequence `seed` (splitmix64's finalizer: enough to spread load,
/// useless as a secret).
#[must_use]
pub fn draw(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The `index`-th draw as a fraction: 0 or more, below 1.
#[must_use]
pub fn unit(seed: u64, index: u64) -> f64 {
    // 53 bits are what an f64 holds exactly: the quotient is below 1.
    const SPAN: f64 = (1_u64 << 53) as f64;
    ((draw(seed, index) >> 11) as f64) / SPAN
}

/// Whether the `index`-th draw falls into a fraction of 0 (never) to 1 (always).
#[must_use]
pub fn falls_into(seed: u64, index: u64, fraction: f64) -> bool {
    unit(seed, index) < fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_met_and_its_ends_are_exact() {
        let hits = (0..100_000).filter(|&i| falls_into(7, i, 0.3)).count();
        assert!((29_000..31_000).contains(&hits), "{hits}");
        assert!((0..1000).all(|i| !falls_into(7, i, 0.0) && falls_into(7, i, 1.0)));
    }
}
