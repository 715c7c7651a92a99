//! Store and database belong together: the store holds a random id that the database knows.
//!
//! To the sweep, a PDF that no record names is waste. With an empty database, or another site's, that is every PDF in
//! the store; so before it removes anything, it asks here whether the two belong to each other.

use super::AslConfig;
use futures_util::TryStreamExt;
use std::fmt;
use std::pin::pin;
use uuid::Uuid;
use zhuji::storage::{ErrorKind, PutOptions};
use zhuji::{BoxError, Context};

/// The object that holds the id.
const MARKER: &str = "sweep-owner";
/// A store without a marker is looked at up to this many PDFs.
const LOOKED_AT: usize = 1000;

/// Why nothing may be removed from this store. Made for the operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotOurs {
    reason: &'static str,
    /// The marker's object, and the content that would tie the store to this database.
    marker: String,
    id: Uuid,
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, marker, id } = self;
        write!(
            f,
            "{reason}, so no stored PDF is removed: check that DATABASE_URL and the STORAGE_ or OSS_ settings name \
             what belongs together; if they do, make `{id}` the content of the object `{marker}`"
        )
    }
}

/// Ties the store to the database if neither belongs to another; says why not otherwise. Any number of instances may do
/// so at once.
pub(super) async fn tie(cx: &Context<AslConfig>) -> Result<Result<(), NotOurs>, BoxError> {
    // The first of several instances decides; the others read what it wrote.
    let insert = "insert into store_owner (id) values ($1) on conflict do nothing";
    cx.db().execute(insert, &[&Uuid::new_v4()]).await?;
    let row = cx
        .db()
        .query_one("select id, tied_at is not null from store_owner", &[])
        .await?;
    let (id, was_tied): (Uuid, bool) = (row.get(0), row.get(1));
    let not_ours = |reason| {
        Ok(Err(NotOurs {
            reason,
            marker: format!("{}{MARKER}", cx.storage().prefix()),
            id,
        }))
    };
    let found = match marker(cx).await? {
        Some(found) => found,
        None if was_tied && !is_empty(cx).await? => {
            return not_ours("the store does not say to which database it belongs, as it once did");
        }
        None if !was_tied && !is_mostly_named(cx).await? => {
            return not_ours("the store holds PDFs that this database knows nothing of");
        }
        None => create_marker(cx, id).await?,
    };
    if found != id.to_string() {
        return not_ours("the store belongs to another database");
    }
    if !was_tied {
        let update = "update store_owner set tied_at = now() where id = $1";
        cx.db().execute(update, &[&id]).await?;
        tracing::info!(%id, "the store belongs to this database");
    }
    Ok(Ok(()))
}

async fn marker(cx: &Context<AslConfig>) -> Result<Option<String>, BoxError> {
    match cx.storage().download(MARKER).await {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes the marker, unless somebody else does at the same time; answers what it holds then.
async fn create_marker(cx: &Context<AslConfig>, id: Uuid) -> Result<String, BoxError> {
    let options = PutOptions::new().content_type("text/plain").create_only();
    match cx.storage().upload_with(MARKER, id.to_string(), options).await {
        Ok(_) => Ok(id.to_string()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(marker(cx).await?.ok_or("the marker was removed just now")?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn is_empty(cx: &Context<AslConfig>) -> Result<bool, BoxError> {
    Ok(pin!(cx.storage().list_all(super::sweep::FOLDER))
        .try_next()
        .await?
        .is_none())
}

/// Whether the records name nine of ten of the store's PDFs: so it is in a store that only crashes have left waste in.
async fn is_mostly_named(cx: &Context<AslConfig>) -> Result<bool, BoxError> {
    let mut keys = Vec::new();
    let mut entries = pin!(cx.storage().list_all(super::sweep::FOLDER));
    while let Some(entry) = entries.try_next().await? {
        keys.push(entry.key);
        if keys.len() == LOOKED_AT {
            break;
        }
    }
    let unnamed = super::sweep::unnamed(cx, keys.clone()).await?;
    Ok(unnamed.len() * 10 <= keys.len())
}
