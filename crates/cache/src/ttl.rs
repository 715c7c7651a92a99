use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Longer times to live are cut to this: a cache is not a place to keep things.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long an entry may live. Every entry has an end.
///
/// A plain [`Duration`] is spread by ±10 %, so that entries written together do not all expire together; `None` is the
/// default of the settings (`CACHE_DEFAULT_TTL`), spread as well. [`Ttl::exact`] is not spread: for values that must
/// not outlive a moment, such as a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttl {
    duration: Option<Duration>,
    exact: bool,
}

impl Ttl {
    /// Exactly `duration`, without the ±10 %.
    pub fn exact(duration: Duration) -> Self {
        Self {
            duration: Some(duration),
            exact: true,
        }
    }

    /// The time to live to hand to an adapter.
    pub(crate) fn resolve(self, default: Duration, operation: &'static str, key: &str) -> Result<Duration> {
        let wanted = self.duration.unwrap_or(default);
        if wanted < Duration::from_millis(1) {
            let reason = "the time to live is below one millisecond";
            return Err(Error::new(ErrorKind::InvalidInput, operation, key, reason));
        }
        let wanted = wanted.min(LONGEST);
        if self.exact {
            return Ok(wanted);
        }
        Ok(wanted
            .mul_f64(0.9 + 0.2 * fastrand::f64())
            .max(Duration::from_millis(1)))
    }
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self {
            duration: Some(duration),
            exact: false,
        }
    }
}

impl From<Option<Duration>> for Ttl {
    fn from(duration: Option<Duration>) -> Self {
        Self {
            duration,
            exact: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_stays_within_ten_percent_and_is_a_spread() {
        let ttl = Ttl::from(Duration::from_secs(100));
        let picks: Vec<_> = (0..1000)
            .map(|_| {
                ttl.resolve(Duration::from_secs(1), "set", "k")
                    .expect("a good time to live")
            })
            .collect();
        assert!(picks.iter().all(|d| (90.0..=110.0).contains(&d.as_secs_f64())));
        let (low, high) = (picks.iter().min().unwrap(), picks.iter().max().unwrap());
        assert!(*high - *low > Duration::from_secs(10), "{low:?} {high:?}");
    }

    #[test]
    fn default_exact_zero_and_endless() {
        let default = Duration::from_secs(10);
        let picked = Ttl::from(None).resolve(default, "set", "k").expect("the default");
        assert!((9.0..=11.0).contains(&picked.as_secs_f64()));
        let second = Duration::from_secs(1);
        assert_eq!(
            Ttl::exact(second).resolve(default, "set", "k").expect("exact"),
            second
        );
        let zero = Ttl::from(Duration::ZERO)
            .resolve(default, "set", "k")
            .expect_err("zero is refused");
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);
        let longest = Ttl::exact(Duration::MAX)
            .resolve(default, "set", "k")
            .expect("cut, not refused");
        assert_eq!(longest, LONGEST);
    }
}
