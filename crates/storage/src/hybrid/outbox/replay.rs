//! Carrying out what waits, one after the other, whenever the link is up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use metrics::counter;
use tokio::time::{sleep, timeout};

use super::{
    Shared,
    link::{refused_for_good, unreachable},
    queue::{Operation, Record},
};
use crate::{Body, ByteStream, Error, ErrorKind, GetOptions, PutOptions, Result};

/// How long a probe of the link may take.
const PROBE: Duration = Duration::from_secs(6);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Runs until it is aborted, which may happen at any time: what was under way is carried out again.
pub(super) async fn run(outbox: Arc<Shared>) {
    let mut failures = 0;
    loop {
        outbox.queue.measure();
        let doubted = outbox.doubted.swap(false, Ordering::Relaxed);
        if (doubted || !outbox.link.is_up()) && !probe(&outbox).await {
            failures += 1;
            wait(failures).await;
            continue;
        }
        let Some((number, record)) = outbox.queue.head() else {
            failures = 0;
            outbox.wake.notified().await;
            continue;
        };
        match carry_out(&outbox, number, &record).await {
            Ok(()) => failures = 0,
            Err(error) => {
                if unreachable(&error) {
                    outbox.link.lost(&error);
                } else {
                    tracing::error!(%error, "the outbox can't go on; what waits is kept and tried again");
                }
                failures += 1;
                wait(failures).await;
            }
        }
    }
}

/// Whether the store answers, whatever it answers.
async fn probe(outbox: &Shared) -> bool {
    let answer = timeout(PROBE, outbox.remote.check()).await;
    let late = || {
        Error::new(
            ErrorKind::Timeout,
            "check",
            outbox.remote.name(),
            "no answer to a probe",
        )
    };
    match answer.unwrap_or_else(|_| Err(late())) {
        Err(error) if unreachable(&error) => {
            outbox.link.lost(&error);
            false
        }
        Ok(()) | Err(_) => {
            outbox.link.found();
            true
        }
    }
}

/// Anything from half of the bound to the bound, which doubles.
async fn wait(failures: u32) {
    let bound = FIRST_WAIT
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_WAIT);
    sleep(bound.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
}

/// An error means that it has to be tried again.
async fn carry_out(outbox: &Shared, number: u64, record: &Record) -> Result<()> {
    let done = match record.operation {
        Operation::Upload => upload(outbox, record).await,
        Operation::Delete => outbox
            .remote
            .delete(&record.key()?)
            .await
            .map_err(Failed::ByStore),
    };
    let refused = match done {
        Ok(()) => {
            outbox.queue.done(number, record).await?;
            counter!("zhuji_storage_outbox_replayed_total").increment(1);
            return Ok(());
        }
        Err(Failed::ByStore(error)) if !refused_for_good(&error) => return Err(error),
        Err(Failed::ByStore(error) | Failed::Damaged(error)) => error,
    };
    tracing::error!(
        error = %refused,
        record = number,
        "an operation that was acknowledged can't be carried out; it is kept aside in the outbox's `failed` folder"
    );
    outbox.queue.set_aside(number, record, &refused.to_string()).await
}

enum Failed {
    ByStore(Error),
    /// The bytes are not those that were acknowledged.
    Damaged(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::ByStore(error)
    }
}

async fn upload(outbox: &Shared, record: &Record) -> Result<(), Failed> {
    let key = record.key()?;
    let data = match outbox.spool.get(&record.data()?, &GetOptions::default()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Failed::Damaged(error)),
        other => other?,
    };
    let (size, crc) = (data.metadata.size, data.metadata.crc64);
    let options = PutOptions {
        create_only: record.create_only,
        ..PutOptions::of(&data.metadata)
    };
    // Length and checksum are compared at the end of this stream, and the store keeps nothing of a stream that fails.
    let damaged = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&damaged);
    let stream = data.stream.inspect(move |piece| {
        if piece
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Integrity)
        {
            seen.store(true, Ordering::Relaxed);
        }
    });
    let body = Body::stream(ByteStream::new(stream)).with_length(size);
    match outbox.remote.put(&key, body, &options).await {
        Ok(stored) if stored.crc64.zip(crc).is_some_and(|(there, here)| there != here) => {
            let why = "the store has other bytes than were sent";
            Err(Error::new(ErrorKind::Integrity, "upload", key.as_str(), why).with_retryable(true))?
        }
        Ok(_) => Ok(()),
        Err(error) if damaged.load(Ordering::Relaxed) => Err(Failed::Damaged(error)),
        // Maybe the answer to an earlier attempt was lost.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let there = outbox.remote.head(&key).await?;
            match there.size == size && there.crc64.is_some() && there.crc64 == crc {
                true => Ok(()),
                false => Err(error)?,
            }
        }
        Err(error) => Err(error)?,
    }
}
