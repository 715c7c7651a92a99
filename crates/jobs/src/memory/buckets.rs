use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::state::{State, between};
use crate::limit::Limit;
use crate::record::JobState;

/// A limit and what is left of it.
pub(super) struct Rule {
    pub(super) limit: Limit,
    tokens: f64,
    refilled_at: Timestamp,
}

impl Rule {
    pub(super) fn new(limit: Limit, now: Timestamp) -> Self {
        Self {
            limit,
            tokens: limit.rate.map_or(0.0, |rate| f64::from(rate.count)),
            refilled_at: now,
        }
    }
}

/// How much a queue may start now.
pub(super) struct Allowance {
    /// In all.
    pub(super) queue: usize,
    /// Of single kinds.
    pub(super) kinds: BTreeMap<String, usize>,
    /// When there may be more, if it keeps something back.
    pub(super) again_in: Option<Duration>,
}

/// A limit of running jobs is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl State {
    pub(super) fn allowance(&mut self, queue: &str, now: Timestamp) -> Allowance {
        let mut allowance = Allowance {
            queue: usize::MAX,
            kinds: BTreeMap::new(),
            again_in: None,
        };
        let mut running: BTreeMap<&str, u32> = BTreeMap::new();
        if self.rules.keys().any(|(of, _)| of == queue) {
            let of_queue = self.running.iter().filter_map(|id| self.rows.get(id));
            for row in
                of_queue.filter(|row| row.record.queue == queue && row.record.state == JobState::Running)
            {
                *running.entry(&row.record.kind).or_default() += 1;
                *running.entry("").or_default() += 1;
            }
        }
        let mut again = |pause: Duration| {
            allowance.again_in = Some(allowance.again_in.map_or(pause, |former| former.min(pause)));
        };
        for ((_, kind), rule) in self.rules.iter_mut().filter(|((of, _), _)| of == queue) {
            let mut left = u32::MAX;
            if let Some(most) = rule.limit.running {
                left = most.saturating_sub(running.get(kind.as_str()).copied().unwrap_or(0));
                again(LOOK_AGAIN);
            }
            if let Some(rate) = rule.limit.rate {
                let per_second = f64::from(rate.count) / rate.per.as_secs_f64();
                let refill = between(rule.refilled_at, now).as_secs_f64() * per_second;
                rule.tokens = (rule.tokens + refill).min(f64::from(rate.count));
                rule.refilled_at = now;
                let whole = rule.tokens.floor();
                again(
                    Duration::try_from_secs_f64((whole + 1.0 - rule.tokens) / per_second).unwrap_or_default(),
                );
                left = left.min(whole as u32);
            }
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            if kind.is_empty() {
                allowance.queue = left;
            } else {
                allowance.kinds.insert(kind.clone(), left);
            }
        }
        allowance
    }

    /// A job of this kind was started.
    pub(super) fn spend(&mut self, queue: &str, kind: &str) {
        for of in ["", kind] {
            if let Some(rule) = self.rules.get_mut(&(queue.to_owned(), of.to_owned())) {
                rule.tokens -= 1.0;
            }
        }
    }
}
