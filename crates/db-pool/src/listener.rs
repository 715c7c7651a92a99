use std::fmt;

use tokio::sync::mpsc;

use crate::conn::Conn;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::DbPool;
use crate::scope::quote;

/// Notifications kept for a listener that does not come to read them. Later ones are dropped.
pub(crate) const KEPT: usize = 1024;

/// A message sent with `NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// The channel it was sent on.
    pub channel: String,
    /// Its text; empty if none was given.
    pub payload: String,
}

/// A connection of its own, outside the pool, that receives notifications. Closed when dropped.
///
/// Notifications are hints: those sent while nobody listens, or beyond the 1024 that are kept, are lost. Look at the
/// tables after every [`DbPool::listen`] and now and then besides.
pub struct Listener {
    // Held so that the connection lives.
    _conn: Conn,
    notifications: mpsc::Receiver<tokio_postgres::Notification>,
    subject: String,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl DbPool {
    /// Opens a connection on `DATABASE_URL` (never the pooler) that listens on these channels.
    ///
    /// # Errors
    /// Those of connecting. There is no retry here: the caller polls meanwhile, and knows how often to try again.
    pub async fn listen(&self, channels: &[&str]) -> Result<Listener> {
        let (send, notifications) = mpsc::channel(KEPT);
        let dialer = self.shared.direct("listen")?;
        let conn = dialer
            .dial("listen", Some(send))
            .await
            .map_err(|error| error.doing("connect to listen"))?;
        let sql: String = channels
            .iter()
            .map(|channel| format!("LISTEN {};", quote(channel)))
            .collect();
        let failed = |error| Error::statement("listen", &dialer.subject, error);
        match tokio::time::timeout(
            self.shared.limits.statement_timeout,
            conn.client.batch_execute(&sql),
        )
        .await
        {
            Ok(result) => result.map_err(failed)?,
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Unreachable,
                    "listen",
                    &dialer.subject,
                    "no answer",
                ));
            }
        }
        Ok(Listener {
            _conn: conn,
            notifications,
            subject: dialer.subject.clone(),
        })
    }
}

impl Listener {
    /// The next notification. Waits for as long as it takes; safe to cancel.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] when the connection is lost: listen again, and look at what was missed.
    pub async fn recv(&mut self) -> Result<Notification> {
        match self.notifications.recv().await {
            Some(notification) => Ok(Notification {
                channel: notification.channel().to_owned(),
                payload: notification.payload().to_owned(),
            }),
            None => {
                let reason = "the connection was lost";
                Err(Error::new(
                    ErrorKind::Disconnected,
                    "listen",
                    &self.subject,
                    reason,
                ))
            }
        }
    }
}
