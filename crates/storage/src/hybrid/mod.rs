//! A store in two places: resident keys in a directory on site, everything else in a store elsewhere, with an outbox on site
//! for what can't be sent while the link is down.
//!
//! ```text
//! ResidentRouter ── resident keys ──> LocalAdapter (STORAGE_LOCAL_DIR)
//!        └───────── other keys ─────> OutboxAdapter ── link up ────> layers ─> STORAGE_TYPE
//!                                           └───────── link down ──> LocalAdapter (STORAGE_OUTBOX_DIR)
//! ```
//!
//! Either half works without the other, and both are made of settings that any mode may have.

mod merge;
mod outbox;
mod resident;
mod rules;
mod settings;

use std::sync::Arc;

pub(crate) use self::settings::check;
use self::{outbox::OutboxAdapter, resident::ResidentRouter};
use crate::{
    Durability, LocalAdapter, LocalOptions, Result, StorageAdapter, StorageConfig, layers,
    layers::{LimitLayer, TimeoutLayer, Timeouts},
};

/// Puts around `shared`, which is the adapter of `STORAGE_TYPE` in its layers, what the settings ask for.
pub(crate) async fn around(
    shared: Arc<dyn StorageAdapter>,
    config: &StorageConfig,
) -> Result<Arc<dyn StorageAdapter>> {
    // With the local adapter everything is resident, and nothing has to be sent.
    if config.kind == "local" {
        return Ok(shared);
    }
    let options = LocalOptions {
        durability: config.durability,
        // Not STORAGE_PUBLIC_URL: that is the public address of what is elsewhere.
        base_url: config.base_of_uploads(),
        signing_key: config.signing_key.clone(),
        ..LocalOptions::default()
    };
    let resident = match config.resident_prefixes.is_empty() {
        true => None,
        false => Some(Arc::new(
            LocalAdapter::open(&config.local_dir, options.clone()).await?,
        )),
    };
    let shared: Arc<dyn StorageAdapter> = match config.outbox() {
        None => shared,
        Some(dir) => {
            let options = LocalOptions {
                // What has been acknowledged has to survive a power failure, whatever may be lost elsewhere.
                durability: Durability::Fsync,
                ..options
            };
            let spool = LocalAdapter::open(&dir, options).await?;
            let lock = outbox::lock(&dir).await?;
            // One signer for all URLs that lead to this process, since one server answers them.
            let signer = resident.as_ref().and_then(|resident| resident.url_signer());
            let signer = signer.or_else(|| spool.url_signer());
            let spool = TimeoutLayer::new(Arc::new(spool), Timeouts::default());
            let spool = Arc::new(LimitLayer::new(Arc::new(spool), layers::AT_ONCE));
            let outbox = OutboxAdapter::open(shared, spool, signer, config.outbox_max.bytes(), lock);
            Arc::new(outbox.await?)
        }
    };
    Ok(match resident {
        None => shared,
        Some(resident) => Arc::new(ResidentRouter::new(
            layers::standard(resident, None),
            shared,
            &config.resident_prefixes,
        )),
    })
}
