//! Whether the store elsewhere can be reached.

use tokio::sync::watch;

use crate::{Error, ErrorKind};

/// What is known of the link. It is taken to be up until something fails, and down until a probe gets through.
#[derive(Debug)]
pub(super) struct Link {
    up: watch::Sender<bool>,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            up: watch::Sender::new(true),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Something could not be reached. Says whether that is news.
    pub(super) fn lost(&self, error: &Error) -> bool {
        let news = self.up.send_if_modified(std::mem::take);
        if news {
            tracing::warn!(%error, "the link to the store is down: uploads are kept in the outbox");
        }
        news
    }

    pub(super) fn found(&self) {
        if self.up.send_if_modified(|up| !std::mem::replace(up, true)) {
            tracing::info!("the link to the store is up again");
        }
    }

    /// Ends when the link is lost.
    pub(super) async fn until_lost(&self) {
        // The sender is in `self`.
        let _ = self.up.subscribe().wait_for(|up| !up).await;
    }
}

/// Whether nobody was there to refuse: no answer, one that says "later", or one that something in between gave, which knows
/// nothing of the store's request ids.
pub(super) fn unreachable(error: &Error) -> bool {
    let stranger = error.status().is_some() && error.request_id().is_none() && error.code().is_none();
    stranger || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// Whether the store will never take this object. What is wrong with the store, its settings or the credentials may be
/// mended, and the object waits.
pub(super) fn refused_for_good(error: &Error) -> bool {
    use ErrorKind as K;
    // An account in arrears and the like, which is about no object; one that is forbidden to this key says `AccessDenied`.
    let closed = error.kind() == K::Denied && error.code().is_some_and(|code| code != "AccessDenied");
    let may_be_mended = closed
        || matches!(
            error.kind(),
            K::Credential
                | K::Signature
                | K::ClockSkew
                | K::Config
                | K::UploadGone
                | K::NoSpace
                | K::ReadOnly
                | K::Source
        );
    !(unreachable(error) || error.is_retryable() || may_be_mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_only_from_the_store_itself() {
        let denied = || Error::new(ErrorKind::Denied, "upload", "k", "no");
        let of_the_store = denied().with_answer(403, Some("AccessDenied".to_owned()), Some("1".to_owned()));
        assert!(!unreachable(&of_the_store) && refused_for_good(&of_the_store));
        let in_arrears = denied().with_answer(403, Some("UserDisable".to_owned()), Some("1".to_owned()));
        assert!(!unreachable(&in_arrears) && !refused_for_good(&in_arrears));
        // A site's proxy whose way out is closed.
        let of_a_proxy = denied().with_answer(403, None, None);
        assert!(unreachable(&of_a_proxy) && !refused_for_good(&of_a_proxy));
        for (kind, good) in [
            (ErrorKind::Unavailable, false),
            (ErrorKind::Timeout, false),
            (ErrorKind::Credential, false),
            (ErrorKind::Config, false),
            (ErrorKind::InvalidKey, true),
            (ErrorKind::InvalidInput, true),
            (ErrorKind::AlreadyExists, true),
        ] {
            let error = Error::new(kind, "upload", "k", "no");
            assert_eq!(refused_for_good(&error), good, "{kind}");
        }
    }
}
