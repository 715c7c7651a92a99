//! The files back into a store.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::StreamExt as _;
use zhuji_storage::Entry;

use crate::backup::files;
use crate::backup::manifest::Object;
use crate::failure::Failure;
use crate::location::Place;
use crate::storage::object;

/// Puts every object of the list into the store. One that is there already, to the checksum, is not sent again, so that a
/// restore which was interrupted goes on.
pub(super) async fn put(
    from: &Place,
    to: &Place,
    objects: &[Object],
    present: &HashMap<String, Entry>,
    parallel: u16,
) -> Result<(), Failure> {
    let meter = files::meter(objects.iter().map(|object| object.size));
    let copies = objects.iter().map(|object| {
        let meter = &meter;
        async move {
            let done = match present.get(&object.key) {
                Some(entry) if is_there(to, object, entry).await? => {
                    meter.bytes(object.size);
                    Ok(())
                }
                _ => one(from, to, object, meter).await,
            };
            meter.object();
            done.map_err(|failure| Failure::failed(format!("{}: {failure}", object.key)))
        }
    });
    let mut failed = 0_u64;
    {
        let mut copies = pin!(futures_util::stream::iter(copies).buffer_unordered(usize::from(parallel)));
        while let Some(copied) = copies.next().await {
            if let Err(failure) = copied {
                failed += 1;
                meter.complain(&failure.to_string());
            }
        }
    }
    meter.finish();
    match failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!(
            "{failed} files could not be brought back; run it again with --force, what is there is not sent twice"
        ))),
    }
}

async fn one(
    from: &Place,
    to: &Place,
    object: &Object,
    meter: &std::sync::Arc<crate::storage::meter::Meter>,
) -> Result<(), Failure> {
    let options = Some(files::options(object));
    let (source, stored) = object::stream(from, to, &object.key, &object.key, options, meter).await?;
    object::check(&source, &stored)?;
    match stored.crc64 {
        Some(crc64) if (stored.size, crc64) != (object.size, object.crc64) => Err(Failure::failed(
            "its bytes are not those that the backup wrote down: the backup is damaged",
        )),
        Some(_) => Ok(()),
        // The store keeps none: what is there has to be read.
        None => {
            let mut expected = stored;
            expected.crc64 = Some(object.crc64);
            object::read_back(to, &expected).await
        }
    }
}

async fn is_there(to: &Place, object: &Object, entry: &Entry) -> Result<bool, Failure> {
    if entry.size != object.size {
        return Ok(false);
    }
    let found = to.storage.metadata(&object.key).await?;
    Ok(found.crc64 == Some(object.crc64)
        && found.content_type == object.content_type
        && found.content_disposition == object.content_disposition
        && found.user == object.user)
}

/// Removes what the backup does not have.
pub(super) async fn remove(to: &Place, extra: &[String]) -> Result<(), Failure> {
    for (key, result) in extra.iter().zip(to.storage.delete_many(extra).await) {
        result.map_err(|error| Failure::failed(format!("{key}: {error}")))?;
    }
    Ok(())
}

/// One line for each object that the store has and the list has not, or the other way round, or of another size.
pub(super) fn differences(objects: &[Object], found: &HashMap<String, Entry>) -> Vec<String> {
    let mut lines = Vec::new();
    for object in objects {
        match found.get(&object.key) {
            None => lines.push(format!("{}: the file is missing", object.key)),
            Some(entry) if entry.size != object.size => {
                lines.push(format!(
                    "{}: {} bytes instead of {}",
                    object.key, entry.size, object.size
                ));
            }
            Some(_) => {}
        }
    }
    lines.extend(
        extra(objects, found)
            .iter()
            .map(|key| format!("{key}: the backup has no such file")),
    );
    lines
}

/// Keys that the backup does not have.
pub(super) fn extra(objects: &[Object], found: &HashMap<String, Entry>) -> Vec<String> {
    let kept: std::collections::HashSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let mut extra: Vec<String> = found
        .keys()
        .filter(|key| !kept.contains(key.as_str()))
        .cloned()
        .collect();
    extra.sort();
    extra
}
