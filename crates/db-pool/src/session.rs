use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::connection::{DbConnection, Held};
use crate::error::{Error, ErrorKind, Result};
use crate::loans::Place;
use crate::pool::DbPool;

/// A connection taken out of the pool for good, for what lives in a session: LISTEN, advisory locks, temporary tables,
/// cursors. Closed when dropped, with all of that; its place in the pool is free again then.
///
/// It is a [`DbConnection`] in everything else. It counts towards the pool's size (a pool of one has nothing left), and
/// to the warning about connections held for long it is unknown. Statements that were under way when it is dropped are
/// cancelled.
pub struct Session(DbConnection);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.0).finish()
    }
}

impl Deref for Session {
    type Target = DbConnection;

    fn deref(&self) -> &DbConnection {
        &self.0
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut DbConnection {
        &mut self.0
    }
}

/// An advisory lock, held until dropped, however that comes about: it is the end of its session that frees it.
///
/// **A lock can be lost**: the server frees it when the connection breaks. Ask [`is_held`](Self::is_held) before what
/// must not happen twice, or let the same transaction that does the work check who may.
#[derive(Debug)]
#[must_use = "the lock is free again when this is dropped"]
pub struct AdvisoryLock {
    session: Session,
    name: String,
}

impl AdvisoryLock {
    /// The name it was taken by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the connection that holds it still lives, as far as this side knows.
    pub fn is_held(&self) -> bool {
        !self.session.is_broken()
    }

    /// Gives it back and waits until the server has.
    ///
    /// # Errors
    /// A lost connection, which gives it back as well.
    pub async fn release(self) -> Result<()> {
        let Self { session, .. } = self;
        session
            .execute("SELECT pg_catalog.pg_advisory_unlock_all()", &[])
            .await
            .map(drop)
    }
}

impl DbPool {
    /// Takes a connection out of the pool for good. With a pooler in front it is one of its own, to `DATABASE_URL`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get); [`ErrorKind::Unsupported`] where only `DATABASE_POOLED_URL` is set.
    #[track_caller]
    pub fn session(&self) -> impl Future<Output = Result<Session>> + Send {
        self.open_session(Location::caller())
    }

    async fn open_session(&self, place: Place) -> Result<Session> {
        let shared = &self.shared;
        if !shared.dialer.pooled {
            let mut connection = self.take(place).await?;
            connection.keep_for_good();
            return Ok(Session(connection));
        }
        let dialer = shared.direct("open a session")?;
        let conn = dialer.dial("session", None).await?;
        let held = Held::Own(Box::new(conn));
        let (shared, scope) = (Arc::clone(shared), Arc::clone(&self.scope));
        let connection = DbConnection::new(held, shared, scope, std::time::Instant::now(), place);
        connection.enter_scope().await?;
        Ok(Session(connection))
    }

    /// Takes the advisory lock of this name in this handle's schema, waiting for it at most `DB_STATEMENT_TIMEOUT`.
    ///
    /// The name is a name for all instances on the same database; another module's lock of the same name is another one.
    /// It holds a connection ([`session`](Self::session)). Safe to cancel: the wait ends on the server too.
    ///
    /// # Errors
    /// [`ErrorKind::LockNotAvailable`] when somebody else held it all the time, and those of [`session`](Self::session).
    #[track_caller]
    pub fn advisory_lock(&self, name: &str) -> impl Future<Output = Result<AdvisoryLock>> + Send {
        let place = Location::caller();
        async move {
            let session = self.open_session(place).await?;
            let key = self.lock_key(name);
            match session
                .query("SELECT pg_catalog.pg_advisory_lock($1)", &[&key])
                .await
            {
                Ok(_) => Ok(AdvisoryLock {
                    session,
                    name: name.to_owned(),
                }),
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    let reason = format!(
                        "somebody else has held it for {:?}",
                        self.shared.limits.statement_timeout
                    );
                    let subject = format!("lock {name:?}");
                    Err(Error::new(ErrorKind::LockNotAvailable, "wait", subject, reason).after(Some(error)))
                }
                Err(error) => Err(error),
            }
        }
    }

    /// As [`advisory_lock`](Self::advisory_lock), without waiting: `None` when somebody else holds it.
    ///
    /// # Errors
    /// Those of [`session`](Self::session).
    #[track_caller]
    pub fn try_advisory_lock(&self, name: &str) -> impl Future<Output = Result<Option<AdvisoryLock>>> + Send {
        let place = Location::caller();
        async move {
            let session = self.open_session(place).await?;
            let key = self.lock_key(name);
            let row = session
                .query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&key])
                .await?;
            Ok(row.get::<_, bool>(0).then(|| AdvisoryLock {
                session,
                name: name.to_owned(),
            }))
        }
    }

    fn lock_key(&self, name: &str) -> i64 {
        // The length keeps `a` in `bc` apart from `ab` in `c`.
        let schema = self.scope.schema.as_deref().unwrap_or_default();
        let digest = Sha256::digest(format!("zhuji lock {} {schema} {name}", schema.len()).as_bytes());
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(key)
    }
}
