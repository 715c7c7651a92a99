//! An upload's way to the disk, and from there to the store or into the queue.

use std::sync::Arc;

use futures_util::StreamExt;

use super::{
    OutboxAdapter, Shared,
    queue::{self, Record},
    room::Room,
};
use crate::{Body, ByteStream, Error, ErrorKind, GetOptions, Key, PutOptions, Result, Stored};

/// The bytes of an upload, on disk and not yet acknowledged. Dropped, they are removed.
pub(super) struct Staged {
    shared: Arc<Shared>,
    data: Key,
    room: Arc<Room>,
    kept: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (shared, data, room) = (
            Arc::clone(&self.shared),
            self.data.clone(),
            Arc::clone(&self.room),
        );
        // Without a runtime the next start removes them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = shared.spool.delete(&data).await {
                    tracing::warn!(%error, "bytes of an upload are left in the outbox until the next start");
                }
                drop(room);
            });
        }
    }
}

impl OutboxAdapter {
    /// Writes the bytes of an upload to the disk.
    pub(super) async fn stage(
        &self,
        key: &Key,
        body: Body,
        options: &PutOptions,
    ) -> Result<(Staged, Stored)> {
        let (data, room) = (queue::new_data()?, self.shared.queue.space.room());
        let body = match body.length() {
            Some(length) => {
                room.take(key, length)?;
                body
            }
            None => {
                let (key, room) = (key.clone(), Arc::clone(&room));
                body.map_stream(|stream| {
                    ByteStream::new(stream.map(move |piece| {
                        let piece = piece?;
                        room.take(&key, piece.len() as u64)?;
                        Ok(piece)
                    }))
                })
            }
        };
        let options = PutOptions {
            create_only: false,
            ..options.clone()
        };
        // Made before its bytes are there, so that they go if this is dropped half-way.
        let staged = Staged {
            shared: Arc::clone(&self.shared),
            data,
            room,
            kept: false,
        };
        let stored = self.shared.spool.put(&staged.data, body, &options).await;
        Ok((staged, stored.map_err(|error| error.with_subject(key.as_str()))?))
    }

    /// Sends what is on the disk to the store.
    pub(super) async fn send(&self, key: &Key, staged: &Staged, create_only: bool) -> Result<Stored> {
        let source = self
            .shared
            .spool
            .get(&staged.data, &GetOptions::default())
            .await?;
        let options = PutOptions {
            create_only,
            ..PutOptions::of(&source.metadata)
        };
        let body = Body::stream(source.stream).with_length(source.metadata.size);
        self.write("upload", key, self.shared.remote.put(key, body, &options))
            .await
    }

    /// Acknowledges an upload that is on the disk.
    pub(super) async fn keep(
        &self,
        key: &Key,
        (mut staged, stored): (Staged, Stored),
        create_only: bool,
    ) -> Result<Stored> {
        let Stored {
            size, etag, crc64, ..
        } = stored;
        let record = Record::upload(key, &staged.data, create_only, size, &etag);
        let kept = self.append(key, record, move || {
            staged.kept = true;
            staged.room.keep();
        });
        kept.await?;
        Ok(Stored::new(
            key.as_str(),
            size,
            etag,
            crc64,
            self.shared.remote.url(key),
        ))
    }

    pub(super) async fn keep_delete(&self, key: &Key) -> Result<()> {
        self.append(key, Record::delete(key), || {}).await
    }

    /// Puts a record behind all others, also if whoever asks goes away meanwhile: half of it would be a record without data.
    async fn append(&self, key: &Key, record: Record, kept: impl FnOnce() + Send + 'static) -> Result<()> {
        let (shared, subject) = (Arc::clone(&self.shared), key.clone());
        let task = tokio::spawn(async move {
            shared.queue.append(&subject, record).await?;
            kept();
            shared.wake.notify_one();
            Ok(())
        });
        task.await.unwrap_or_else(|error| {
            let why = "the runtime is shutting down";
            Err(Error::new(ErrorKind::Unexpected, "upload", key.as_str(), why).with_source(error))
        })
    }
}
