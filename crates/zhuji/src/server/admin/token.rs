//! The admin token, and how often one may guess at it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use zhuji_config::Secret;

/// Wrong tokens in [`SPAN`], from all clients together: behind a load balancer they all have one address.
const GUESSES: usize = 10;
const SPAN: Duration = Duration::from_secs(60);

/// What opens the operator's endpoints.
pub(crate) struct AdminToken {
    token: Secret,
    /// When the last wrong ones came.
    wrong: Mutex<VecDeque<Instant>>,
}

/// What became of a token that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Right,
    Wrong,
    /// None was shown.
    Nothing,
    /// It was not looked at, because there were too many wrong ones; the next will be, after this time.
    TooMany(Duration),
}

impl AdminToken {
    pub(crate) fn new(token: Secret) -> Self {
        Self {
            token,
            wrong: Mutex::default(),
        }
    }

    /// The token itself, for what is derived from it.
    pub(super) fn secret(&self) -> &Secret {
        &self.token
    }

    /// The token in `authorization: Bearer …`.
    pub(crate) fn in_headers(&self, headers: &HeaderMap) -> Shown {
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        given.map_or(Shown::Nothing, |given| self.show(given))
    }

    /// Whether the request carries the token.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        self.in_headers(headers) == Shown::Right
    }

    /// Looks at a token.
    pub(crate) fn show(&self, given: &str) -> Shown {
        self.show_at(given, Instant::now())
    }

    fn show_at(&self, given: &str, now: Instant) -> Shown {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|then| now.duration_since(*then) < SPAN);
        // Before the comparison: a right one among a thousand guesses must not be told apart from the others.
        if wrong.len() >= GUESSES
            && let Some(first) = wrong.front()
        {
            return Shown::TooMany(SPAN.saturating_sub(now.duration_since(*first)));
        }
        if equal_in_constant_time(given.trim().as_bytes(), self.token.expose().as_bytes()) {
            return Shown::Right;
        }
        wrong.push_back(now);
        metrics::counter!("zhuji_admin_wrong_tokens_total").increment(1);
        tracing::warn!(
            left = GUESSES - wrong.len(),
            "a wrong admin token; after too many of them none is looked at for a while"
        );
        Shown::Wrong
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// Takes as long for a wrong first byte as for a wrong last one, so that the time tells nothing of the token.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let token = AdminToken::new(Secret::new("s3cret-token"));
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            token.in_headers(&headers)
        };
        assert_eq!(with("Bearer s3cret-token"), Shown::Right);
        for wrong in ["Bearer ", "Bearer s3cret", "Bearer s3cret-tokem"] {
            assert_eq!(with(wrong), Shown::Wrong, "{wrong}");
        }
        for none in ["s3cret-token", "Basic s3cret-token"] {
            assert_eq!(with(none), Shown::Nothing, "{none}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn guessing_is_slow_and_waiting_mends_it() {
        let token = AdminToken::new(Secret::new("right"));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..10 {
            assert_eq!(token.show_at("wrong", at(second)), Shown::Wrong);
        }
        assert_eq!(
            token.show_at("wrong", at(20)),
            Shown::TooMany(Duration::from_secs(40))
        );
        let locked = token.show_at("right", at(59));
        assert_eq!(
            locked,
            Shown::TooMany(Duration::from_secs(1)),
            "not even the right one tells"
        );
        assert_eq!(token.show_at("right", at(60)), Shown::Right);
        assert_eq!(token.show_at("wrong", at(60)), Shown::Wrong);
        assert_eq!(
            token.show_at("right", at(60)),
            Shown::TooMany(Duration::from_secs(1))
        );
    }
}
