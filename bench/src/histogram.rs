//! Latencies by order of magnitude: constant memory, a few instructions per packet, about 3 %
//! error.

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;

/// Counts of values, in buckets that grow with the value.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; SUB * (65 - SUB_BITS as usize)], total: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
    }

    /// Forgets everything counted.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The value that `per_mille` thousandths of the values do not exceed; `None` when empty.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(upper_bound(index));
            }
        }
        None
    }
}

/// Values below `SUB` have a bucket each; above, each power of two has `SUB` buckets.
fn bucket(value: u64) -> usize {
    let Some(magnitude) = value.checked_ilog2().and_then(|log| log.checked_sub(SUB_BITS)) else {
        return value as usize;
    };
    let within = (value >> magnitude) as usize & (SUB - 1);
    SUB * (magnitude as usize + 1) + within
}

fn upper_bound(index: usize) -> u64 {
    if index < SUB {
        return index as u64;
    }
    let magnitude = index / SUB - 1;
    let floor = ((SUB + index % SUB) as u64) << magnitude;
    floor + ((1 << magnitude) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Histogram::default();
        for value in 1..=10 {
            histogram.record(value);
        }
        assert_eq!(Some(5), histogram.quantile(500));
        assert_eq!(Some(10), histogram.quantile(1000));
    }

    #[test]
    fn every_value_is_at_most_a_thirty_second_below_its_bucket() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) + (1 << shift) / 3, u64::MAX >> shift] {
                let bound = upper_bound(bucket(value));
                assert!(bound >= value, "{value} above {bound}");
                assert!(bound - value <= value / 32, "{value} far below {bound}");
            }
        }
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        let mut histogram = Histogram::default();
        assert_eq!(None, histogram.quantile(500));
        histogram.record(3);
        histogram.clear();
        assert_eq!(None, histogram.quantile(500));
    }
}
