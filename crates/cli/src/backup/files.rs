//! The files: copied into a store of the backup's own, and read again.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use zhuji_config::Secret;
use zhuji_storage::{Entry, ErrorKind, LocalOptions, PutOptions, Stored, Verified};

use super::manifest::Object;
use crate::failure::Failure;
use crate::location::Place;
use crate::storage::meter::Meter;
use crate::storage::{object, selected};

/// What was copied.
pub(super) struct Saved {
    pub(super) objects: Vec<Object>,
    /// Listed, and deleted by somebody before their turn came.
    pub(super) gone: u64,
}

/// The store inside a backup. Nothing is signed there, so no key is put into it.
pub(crate) async fn store(directory: &Path, read_only: bool) -> Result<Place, Failure> {
    let options = LocalOptions {
        signing_key: Some(Secret::new("nothing is signed in a backup")),
        read_only,
        ..LocalOptions::default()
    };
    Place::directory(directory, options).await
}

/// Everything in a store.
pub(crate) async fn entries(place: &Place) -> Result<Vec<Entry>, Failure> {
    selected(place, true).await
}

pub(crate) fn meter(sizes: impl Iterator<Item = u64> + Clone) -> Arc<Meter> {
    Arc::new(Meter::new(sizes.clone().count() as u64, sizes.sum()))
}

/// Copies every object that `from` has now.
pub(super) async fn save(from: &Place, to: &Place, parallel: u16) -> Result<Saved, Failure> {
    let entries = entries(from).await?;
    let meter = meter(entries.iter().map(|entry| entry.size));
    let copies = entries.iter().map(|entry| {
        let meter = &meter;
        async move {
            let copied = object::stream(from, to, &entry.key, &entry.key, None, meter).await;
            meter.object();
            let (source, stored) = match copied {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok::<_, Failure>(None),
                copied => copied?,
            };
            object::check(&source, &stored)?;
            Ok(Some(Object {
                crc64: known(&stored)?,
                key: stored.key,
                size: stored.size,
                content_type: source.content_type,
                content_disposition: source.content_disposition,
                user: source.user,
            }))
        }
    });
    let mut saved = Saved {
        objects: Vec::with_capacity(entries.len()),
        gone: 0,
    };
    let mut failed = 0_u64;
    {
        let mut copies = pin!(futures_util::stream::iter(copies).buffer_unordered(usize::from(parallel)));
        while let Some(copied) = copies.next().await {
            match copied {
                Ok(Some(object)) => saved.objects.push(object),
                Ok(None) => saved.gone += 1,
                Err(failure) => {
                    failed += 1;
                    meter.complain(&failure.to_string());
                }
            }
        }
    }
    meter.finish();
    if failed > 0 {
        return Err(Failure::failed(format!("{failed} files could not be copied")));
    }
    saved.objects.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(saved)
}

/// The local adapter always says it.
pub(crate) fn known(stored: &Stored) -> Result<u64, Failure> {
    stored
        .crc64
        .ok_or_else(|| Failure::failed(format!("{}: the store keeps no checksum", stored.key)))
}

/// How the object was stored once.
pub(crate) fn options(object: &Object) -> PutOptions {
    let mut options = PutOptions::new().content_type(&object.content_type);
    options
        .content_disposition
        .clone_from(&object.content_disposition);
    options.metadata.clone_from(&object.user);
    options
}

/// Reads every object, and answers with one line for each that is not what was written down.
pub(crate) async fn damages(place: &Place, objects: &[Object], parallel: u16) -> Vec<String> {
    let meter = meter(objects.iter().map(|object| object.size));
    let looks = objects.iter().map(|object| {
        let meter = &meter;
        async move {
            let found = place.storage.verify(&object.key).await;
            meter.bytes(object.size);
            meter.object();
            let why = match found {
                Ok(Verified::Intact { size, crc64 } | Verified::Unknown { size, crc64 }) => {
                    if (size, crc64) == (object.size, object.crc64) {
                        return None;
                    }
                    "its bytes are not those that were written down".to_owned()
                }
                Ok(Verified::Damaged { why }) => why,
                Ok(other) => format!("it could not be judged: {other:?}"),
                Err(error) if error.kind() == ErrorKind::NotFound => "it is missing".to_owned(),
                Err(error) => error.to_string(),
            };
            Some(format!("{}: {why}", object.key))
        }
    });
    let mut damages: Vec<String> = futures_util::stream::iter(looks)
        .buffer_unordered(usize::from(parallel))
        .filter_map(|damage| async { damage })
        .collect()
        .await;
    meter.finish();
    damages.sort();
    damages
}
