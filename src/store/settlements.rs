//! Which events one upstream has settled: all up to a watermark, and a compressed set above it, because
//! lanes settle out of order. Kept by recovery; the checkpoint stores it.

use roaring::RoaringTreemap;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settlements {
    /// Every sequence up to this one is settled, or was never this upstream's.
    watermark: u64,
    above: RoaringTreemap,
}

impl Settlements {
    pub(super) fn contains(&self, sequence: u64) -> bool {
        sequence <= self.watermark || self.above.contains(sequence)
    }

    /// Whether it was not settled before.
    pub(super) fn insert(&mut self, sequence: u64) -> bool {
        sequence > self.watermark && self.above.insert(sequence)
    }

    /// Nothing up to `watermark` is outstanding any more.
    pub(super) fn raise(&mut self, watermark: u64) {
        if watermark > self.watermark {
            self.above.remove_range(..=watermark);
            self.watermark = watermark;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settlement_counts_once_below_and_above_the_watermark() {
        let mut settled = Settlements::default();
        assert!(settled.insert(5));
        assert!(!settled.insert(5), "a duplicate");
        assert!(settled.insert(9));
        settled.raise(7);
        assert!(settled.contains(5) && settled.contains(6) && settled.contains(9) && !settled.contains(8));
        assert!(!settled.insert(6), "below the watermark everything is settled");
        assert!(settled.insert(8));
    }

    #[test]
    fn raising_the_watermark_frees_the_set_and_never_lowers_it() {
        let mut settled = Settlements::default();
        (1..=1000).for_each(|sequence| assert!(settled.insert(sequence)));
        settled.raise(1000);
        assert!(settled.above.is_empty());
        settled.raise(10);
        assert!(settled.contains(1000));
    }
}
