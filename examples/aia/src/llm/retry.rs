//! How long to wait before a question is asked again.

use jiff::Timestamp;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

/// The pause before the next try: as long as the endpoint asked for, or by chance between nothing and a bound that
/// doubles ("full jitter"), so that many who failed together do not come back together.
pub(crate) fn pause(failures: u32, asked_for: Option<Duration>) -> Duration {
    let bound = FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST);
    let jitter = bound.mul_f64(fastrand::f64());
    // What was asked for is the least; a little more keeps apart those who were told the same.
    asked_for.map_or(jitter, |least| least.saturating_add(jitter.min(FIRST)))
}

/// The header `retry-after`: seconds, or a date.
pub(crate) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_their_bounds() {
        for failures in 1..40 {
            assert!(pause(failures, None) <= LONGEST);
            let asked = pause(failures, Some(Duration::from_secs(2)));
            assert!(
                (Duration::from_secs(2)..=Duration::from_millis(2_500)).contains(&asked),
                "{asked:?}"
            );
        }
        assert!(pause(1, None) <= FIRST);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        for (header, expected) in [
            ("2", Some(2_000)),
            (" 0.25 ", Some(250)),
            ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30_000)),
            ("Wed, 31 Dec 2025 23:00:00 GMT", Some(0)),
            ("-1", None),
            ("NaN", None),
            ("1e300", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(header, now),
                expected.map(Duration::from_millis),
                "{header}"
            );
        }
    }
}
