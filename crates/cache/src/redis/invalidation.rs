//! What one instance writes, the others must not go on answering from memory: keys travel by publish and subscribe.
//!
//! Messages may be lost: while a subscriber is away the server keeps nothing for it. So a subscriber drops everything
//! it holds each time it has subscribed anew, and a publisher that could not send asks everybody to drop everything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::dial::Dialer;
use super::link::Link;

/// Who holds values in memory.
pub(crate) trait Listener: Send + Sync + 'static {
    /// Another instance wrote `key`.
    fn forget(&self, key: &str);
    /// Messages may have been missed: everything may be out of date.
    fn forget_all(&self);
}

/// Keys waiting to be sent; when more wait, everybody is asked to drop everything instead.
const MAX_WAITING: usize = 10_000;
/// Bytes of keys in one message.
const MAX_MESSAGE: usize = 256 * 1024;
/// The longest one message may take to be sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// A subscription that heard nothing for this long is tried with a ping.
const QUIET: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The two tasks; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Invalidation {
    outbox: Arc<Outbox>,
    tasks: [AbortHandle; 2],
}

#[derive(Debug, Default)]
struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    keys: Vec<String>,
    all: bool,
}

impl Invalidation {
    pub(crate) fn start(
        link: Arc<Link>,
        dialer: Arc<Dialer>,
        channel: String,
        listener: &Arc<dyn Listener>,
    ) -> Self {
        let outbox = Arc::new(Outbox::default());
        let me = fastrand::u128(..).to_be_bytes();
        let publisher = tokio::spawn(publish(link, outbox.clone(), channel.clone(), me));
        let subscriber = tokio::spawn(subscribe(dialer, Arc::downgrade(listener), channel, me));
        Self {
            outbox,
            tasks: [publisher.abort_handle(), subscriber.abort_handle()],
        }
    }

    /// Tells the others, soon, that `key` was written here.
    pub(crate) fn announce(&self, key: &str) {
        let mut waiting = self.outbox.lock();
        if waiting.keys.len() < MAX_WAITING {
            waiting.keys.push(key.to_owned());
        } else {
            waiting.all = true;
            waiting.keys.clear();
        }
        drop(waiting);
        self.outbox.filled.notify_one();
    }
}

impl Drop for Invalidation {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes into the next message; `None` if nothing waits.
    fn take(&self, me: [u8; 16]) -> Option<Vec<u8>> {
        let mut waiting = self.lock();
        if std::mem::take(&mut waiting.all) {
            waiting.keys.clear();
            return Some(encode(me, None));
        }
        let mut bytes = 0;
        let fits = waiting.keys.iter().take_while(|key| {
            bytes += key.len();
            bytes <= MAX_MESSAGE
        });
        // A single key always fits: it is at most 64 KiB long.
        let fits = fits.count();
        let keys: Vec<String> = waiting.keys.drain(..fits).collect();
        (!keys.is_empty()).then(|| encode(me, Some(&keys)))
    }
}

async fn publish(link: Arc<Link>, outbox: Arc<Outbox>, channel: String, me: [u8; 16]) {
    let mut backoff = Backoff::default();
    loop {
        outbox.filled.notified().await;
        // While one message is under way the next fills up: that is all the batching there is, and it adds no delay.
        while let Some(message) = outbox.take(me) {
            if timeout(SEND_TIMEOUT, send(&link, &channel, &message)).await == Ok(true) {
                backoff = Backoff::default();
                continue;
            }
            outbox.lock().all = true;
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

async fn send(link: &Link, channel: &str, message: &[u8]) -> bool {
    let Ok(mut line) = link.line(false).await else {
        return false;
    };
    let mut command = ::redis::cmd("PUBLISH");
    command.arg(channel).arg(message);
    match line
        .connection
        .send_packed_command(&command)
        .await
        .and_then(::redis::Value::extract_error)
    {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, "cache invalidation not sent");
            if error.is_unrecoverable_error() {
                link.lost(&line);
            }
            false
        }
    }
}

async fn subscribe(dialer: Arc<Dialer>, listener: Weak<dyn Listener>, channel: String, me: [u8; 16]) {
    let mut backoff = Backoff::default();
    loop {
        let since = Instant::now();
        let reason = listen(&dialer, &listener, &channel, me).await;
        if listener.strong_count() == 0 {
            return;
        }
        tracing::debug!(server = %dialer.place(), reason, "not listening for cache invalidations");
        if since.elapsed() > Duration::from_secs(5) {
            backoff = Backoff::default();
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Listens until that is no longer possible; says why.
async fn listen(dialer: &Dialer, listener: &Weak<dyn Listener>, channel: &str, me: [u8; 16]) -> String {
    let connection = match dialer.dial_subscriber().await {
        Ok(connection) => connection,
        Err(error) => return error.reason,
    };
    let (mut sink, mut messages) = connection.split();
    match timeout(PING_TIMEOUT, sink.subscribe(channel)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no answer to SUBSCRIBE".to_owned(),
    }
    // What was written between the last message and this moment was told to nobody here.
    let Some(here) = listener.upgrade() else {
        return String::new();
    };
    here.forget_all();
    drop(here);
    tracing::debug!(server = %dialer.place(), "listening for cache invalidations");
    loop {
        match timeout(QUIET, messages.next()).await {
            Ok(Some(message)) => {
                let Some(listener) = listener.upgrade() else {
                    return String::new();
                };
                deliver(&*listener, message.get_payload_bytes(), me);
            }
            Ok(None) => return "the connection was closed".to_owned(),
            // Nothing to hear, or nobody there: a peer that is gone without a word closes nothing.
            Err(_) => match timeout(PING_TIMEOUT, sink.ping::<::redis::Value>()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "no answer to PING".to_owned(),
            },
        }
    }
}

const VERSION: u8 = 1;

/// Version, sender, then each key with its length in front; no keys at all means everything.
fn encode(me: [u8; 16], keys: Option<&[String]>) -> Vec<u8> {
    let mut message = vec![VERSION];
    message.extend_from_slice(&me);
    for key in keys.unwrap_or_default() {
        // A key is at most 64 KiB long.
        message.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(key.as_bytes());
    }
    message
}

fn deliver(listener: &dyn Listener, message: &[u8], me: [u8; 16]) {
    match decode(message) {
        Some((sender, _)) if sender == me => {}
        Some((_, keys)) if !keys.is_empty() => keys.into_iter().for_each(|key| listener.forget(key)),
        // Everything, or a message that this version does not understand: better too much than too little.
        _ => listener.forget_all(),
    }
}

fn decode(message: &[u8]) -> Option<([u8; 16], Vec<&str>)> {
    let (&version, rest) = message.split_first()?;
    let (sender, mut rest) = rest.split_first_chunk::<16>()?;
    if version != VERSION {
        return None;
    }
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (key, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        keys.push(std::str::from_utf8(key).ok()?);
        rest = after;
    }
    Some((*sender, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Listener for Heard {
        fn forget(&self, key: &str) {
            self.0.lock().expect("not poisoned").push(key.to_owned());
        }
        fn forget_all(&self) {
            self.forget("(all)");
        }
    }

    #[test]
    fn keys_arrive_own_messages_do_not_and_riddles_drop_everything() {
        let (me, other) = ([1; 16], [2; 16]);
        let heard = |message: &[u8]| {
            let listener = Heard::default();
            deliver(&listener, message, me);
            listener.0.into_inner().expect("not poisoned")
        };
        let keys = ["a:1".to_owned(), "文\0献".to_owned(), String::new()];
        assert_eq!(heard(&encode(other, Some(&keys))), keys);
        assert!(heard(&encode(me, Some(&keys))).is_empty());
        assert!(heard(&encode(me, None)).is_empty());
        assert_eq!(heard(&encode(other, None)), ["(all)"]);
        let good = encode(other, Some(&keys));
        for riddle in [
            &b""[..],
            b"\x02",
            &good[..good.len() - 5],
            &[&good[..], &[0, 0, 0, 9]].concat(),
        ] {
            assert_eq!(heard(riddle), ["(all)"], "{riddle:?}");
        }
    }

    #[test]
    fn many_waiting_keys_travel_together_and_too_many_become_all() {
        let outbox = Arc::new(Outbox::default());
        let invalidation = |n: usize| {
            for key in 0..n {
                let mut waiting = outbox.lock();
                if waiting.keys.len() < MAX_WAITING {
                    waiting.keys.push(key.to_string());
                } else {
                    waiting.all = true;
                }
            }
        };
        invalidation(1000);
        let message = outbox.take([0; 16]).expect("something waits");
        assert_eq!(decode(&message).expect("our own").1.len(), 1000);
        assert!(outbox.take([0; 16]).is_none());
        outbox.lock().keys = vec!["k".repeat(60_000); 10];
        let sizes = std::iter::from_fn(|| outbox.take([0; 16])).map(|m| decode(&m).expect("our own").1.len());
        assert_eq!(sizes.collect::<Vec<_>>(), [4, 4, 2]);
        invalidation(MAX_WAITING + 1);
        assert_eq!(outbox.take([0; 16]), Some(encode([0; 16], None)));
        assert!(outbox.take([0; 16]).is_none());
    }
}
