//! Deciding about one object, for adapters that carry the rules out themselves.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::LifecycleRule;

impl LifecycleRule {
    /// Whether an object that was stored at `modified` has expired by `now`.
    pub(crate) fn has_expired(&self, key: &str, modified: Timestamp, now: Timestamp) -> bool {
        if !self.may_expire() || !key.starts_with(&self.prefix) {
            return false;
        }
        let by_age = self.expire_after_days.is_some_and(|days| {
            let age = SignedDuration::from_hours(24 * i64::from(days));
            now.duration_since(modified) >= age
        });
        let by_date = self.expire_before.is_some_and(|day| {
            day.to_zoned(TimeZone::UTC)
                .is_ok_and(|midnight| modified < midnight.timestamp())
        });
        by_age || by_date
    }

    /// Whether it can delete an object of a store without tags.
    pub(crate) fn may_expire(&self) -> bool {
        self.enabled
            && self.tags.is_empty()
            && (self.expire_after_days.is_some() || self.expire_before.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_expire_by_age_or_by_date() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = time("2025-03-10T12:00:00Z");
        let aged = LifecycleRule {
            expire_after_days: Some(2),
            ..LifecycleRule::new("temp/")
        };
        assert!(aged.has_expired("temp/a", time("2025-03-08T12:00:00Z"), now));
        assert!(!aged.has_expired("temp/a", time("2025-03-08T12:00:01Z"), now));
        assert!(!aged.has_expired("other/a", time("2020-01-01T00:00:00Z"), now));
        // A clock that was set back does not delete what comes from the future.
        assert!(!aged.has_expired("temp/a", time("2035-03-08T12:00:00Z"), now));
        let dated = LifecycleRule {
            expire_before: Some("2025-03-01".parse().unwrap()),
            ..LifecycleRule::new("")
        };
        assert!(dated.has_expired("a", time("2025-02-28T23:59:59Z"), now));
        assert!(!dated.has_expired("a", time("2025-03-01T00:00:00Z"), now));
        for idle in [
            LifecycleRule {
                enabled: false,
                ..aged.clone()
            },
            LifecycleRule {
                tags: [("k".to_owned(), "v".to_owned())].into(),
                ..aged
            },
            LifecycleRule::new(""),
        ] {
            assert!(!idle.has_expired("temp/a", Timestamp::UNIX_EPOCH, now));
        }
    }
}
