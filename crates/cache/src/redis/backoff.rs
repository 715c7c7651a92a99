use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Full jitter: the n-th wait is anything from nothing to 50 ms × 2ⁿ, at most one second, so that the instances of a
/// fleet do not knock together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_grow_and_stay_below_a_second() {
        let longest_of = |n: usize| {
            let waits = (0..2000).map(|_| {
                let mut backoff = Backoff::default();
                (0..=n).map(|_| backoff.next()).last().expect("at least one")
            });
            waits.max().expect("at least one")
        };
        let (first, third, tenth) = (longest_of(0), longest_of(2), longest_of(9));
        assert!(first <= FIRST && first > FIRST / 2, "{first:?}");
        assert!(third <= FIRST * 4 && third > FIRST * 2, "{third:?}");
        assert!(tenth <= LONGEST && tenth > LONGEST / 2, "{tenth:?}");
    }
}
