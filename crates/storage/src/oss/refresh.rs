//! Temporary credentials that are renewed before they end.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::credentials::{Credentials, CredentialsProvider};
use crate::{Error, Result};

/// Credentials that seem to live shorter are used for this long; a server that refuses them knows better.
const LEAST_LIFE: SignedDuration = SignedDuration::from_secs(10);

/// A service that gives out temporary credentials. [`RefreshingCredentials`] asks it, in good time and once for all callers.
#[async_trait]
pub trait CredentialsSource: fmt::Debug + Send + Sync + 'static {
    /// Asks for new credentials. Has to end by itself.
    async fn fetch(&self) -> Result<Credentials>;
}

/// Keeps the credentials of a source and renews them.
///
/// After four fifths of their life, or when five minutes are left if that is earlier, the next caller starts the renewal in
/// the background; everybody goes on with the old ones until the new ones are there. Only without any that are good is a
/// caller made to wait, and then all of them wait for one answer. If the source fails, it is asked again a little later.
pub struct RefreshingCredentials {
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<dyn CredentialsSource>,
    state: Mutex<State>,
    /// Held by whoever asks the source.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// Whether the server has refused the known ones.
    refused: bool,
    /// Whether a task is renewing them.
    renewing: bool,
    /// The renewal failed; not before this.
    pause: Option<Instant>,
    /// When the source last failed somebody who waited for it, and how.
    failed: Option<(Instant, Error)>,
}

struct Known {
    credentials: Arc<Credentials>,
    renew_at: Timestamp,
    end: Timestamp,
}

impl Known {
    fn new(credentials: Credentials, now: Timestamp) -> Self {
        let end = credentials.expires_at().unwrap_or(Timestamp::MAX);
        // By a clock that is wrong they may seem to have ended; still they are the best there are.
        let life = now.duration_until(end).max(LEAST_LIFE);
        Self {
            renew_at: now.saturating_add(life - early(life)).unwrap_or(Timestamp::MAX),
            end: now.saturating_add(life).unwrap_or(Timestamp::MAX),
            credentials: Arc::new(credentials),
        }
    }
}

/// How long before their end credentials of this life are renewed: five minutes or a fifth, whichever is more, but not more
/// than half.
fn early(life: SignedDuration) -> SignedDuration {
    (life / 5).max(SignedDuration::from_mins(5).min(life / 2))
}

impl RefreshingCredentials {
    /// Nothing is fetched before it is needed.
    pub fn new(source: impl CredentialsSource) -> Self {
        Self {
            inner: Arc::new(Inner {
                source: Box::new(source),
                state: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
            }),
        }
    }
}

impl Inner {
    // Every change is one assignment, so a panic elsewhere while it was locked has done it no harm.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Credentials that are good now. If it is time, their renewal begins.
    fn good(self: &Arc<Self>) -> Option<Arc<Credentials>> {
        let mut state = self.lock();
        let now = Timestamp::now();
        let known = state.known.as_ref().filter(|known| known.end > now)?;
        if state.refused {
            return None;
        }
        let (credentials, due) = (Arc::clone(&known.credentials), now >= known.renew_at);
        let paused = state.pause.is_some_and(|pause| Instant::now() < pause);
        if due && !state.renewing && !paused {
            state.renewing = true;
            let renewal = Renewal(Arc::clone(self));
            tokio::spawn(async move { renewal.run().await });
        }
        Some(credentials)
    }

    async fn fetch(&self) -> Result<Arc<Credentials>> {
        let known = Known::new(self.source.fetch().await?, Timestamp::now());
        let credentials = Arc::clone(&known.credentials);
        let mut state = self.lock();
        state.known = Some(known);
        (state.refused, state.pause, state.failed) = (false, None, None);
        Ok(credentials)
    }
}

/// A renewal in the background. Its end is noted however it comes.
struct Renewal(Arc<Inner>);

impl Renewal {
    async fn run(self) {
        let _turn = self.0.turn.lock().await;
        if let Err(error) = self.0.fetch().await {
            tracing::warn!(%error, "the credentials could not be renewed; going on with the old ones");
            let mut state = self.0.lock();
            let end = state
                .known
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |known| known.end);
            let left = Duration::try_from(Timestamp::now().duration_until(end)).unwrap_or_default();
            let pause = (left / 10).clamp(Duration::from_millis(500), Duration::from_secs(60));
            state.pause = Some(Instant::now() + pause);
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.lock().renewing = false;
    }
}

#[async_trait]
impl CredentialsProvider for RefreshingCredentials {
    async fn credentials(&self) -> Result<Arc<Credentials>> {
        if let Some(good) = self.inner.good() {
            return Ok(good);
        }
        let arrived = Instant::now();
        let _turn = self.inner.turn.lock().await;
        // Whoever was before us has asked for us too.
        if let Some(good) = self.inner.good() {
            return Ok(good);
        }
        if let Some((when, error)) = &self.inner.lock().failed
            && *when >= arrived
        {
            return Err(error.repeated());
        }
        self.inner.fetch().await.inspect_err(|error| {
            self.inner.lock().failed = Some((Instant::now(), error.repeated()));
        })
    }

    fn invalidate(&self, rejected: &Credentials) -> bool {
        let mut state = self.inner.lock();
        // Not if they have been renewed meanwhile; either way another attempt is worth it.
        if state
            .known
            .as_ref()
            .is_some_and(|known| known.credentials.id() == rejected.id())
        {
            state.refused = true;
        }
        true
    }
}

impl fmt::Debug for RefreshingCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RefreshingCredentials")
            .field(&self.inner.source)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_renewed_early_enough_and_not_all_the_time() {
        for (life, left) in [
            (3600, 720),
            (1800, 360),
            (900, 300),
            (600, 300),
            (60, 30),
            (10, 5),
        ] {
            let early = early(SignedDuration::from_secs(life));
            assert_eq!(early.as_secs(), left, "of {life} s");
        }
        let now = Timestamp::now();
        let credentials = |seconds| {
            let end = now + SignedDuration::from_secs(seconds);
            Credentials::new("id", "secret").with_token("token", Some(end))
        };
        // A clock that is an hour fast: asked again after some seconds, not with every request.
        let known = Known::new(credentials(-3600), now);
        assert!(known.renew_at > now && known.end > known.renew_at);
        let known = Known::new(credentials(3600), now);
        assert_eq!(now.duration_until(known.renew_at).as_secs(), 2880, "four fifths");
        let fixed = Known::new(Credentials::new("id", "secret"), now);
        assert_eq!(fixed.end, Timestamp::MAX);
    }
}
