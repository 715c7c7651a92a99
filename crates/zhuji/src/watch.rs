//! Figures that nobody counts unless somebody looks: room on the disks, and how long certificates are good.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::platform::Settings;
use crate::probe::{Space, TlsEndpoint, endpoints};

/// Disks fill up in minutes at worst.
const DISK_EVERY: Duration = Duration::from_secs(30);
/// Certificates end on a day.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Ends with the service.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub(crate) struct Watch(Vec<JoinHandle<()>>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Watch {
    /// Looks at what the settings name; at nothing that they don't.
    pub(crate) fn start(settings: &Settings) -> Self {
        let mut disks = Vec::new();
        let storage = &settings.storage;
        if storage.kind == "local" || !storage.resident_prefixes.is_empty() {
            disks.push(("storage", storage.local_dir.clone()));
        }
        if let Some(dir) = storage.outbox() {
            disks.push(("outbox", dir));
        }
        let certificates = endpoints(
            Some(&settings.db),
            Some(&settings.storage),
            Some(&settings.cache),
            Some(&settings.service),
        );
        let mut tasks = Vec::new();
        if !disks.is_empty() {
            tasks.push(tokio::spawn(watch_disks(disks)));
        }
        if !certificates.is_empty() {
            tasks.push(tokio::spawn(watch_certificates(certificates)));
        }
        Self(tasks)
    }
}

async fn watch_disks(disks: Vec<(&'static str, PathBuf)>) {
    loop {
        for (of, path) in &disks {
            let path = path.clone();
            // A network's file system may not answer for a long time.
            match tokio::task::spawn_blocking(move || Space::at(&path)).await {
                Ok(Ok(space)) => {
                    metrics::gauge!("zhuji_disk_free_bytes", "of" => *of).set(space.free as f64);
                    metrics::gauge!("zhuji_disk_size_bytes", "of" => *of).set(space.size as f64);
                }
                Ok(Err(error)) => tracing::debug!(of, %error, "the disk could not be looked at"),
                // The runtime ends.
                Err(_) => return,
            }
        }
        tokio::time::sleep(DISK_EVERY).await;
    }
}

async fn watch_certificates(endpoints: Vec<TlsEndpoint>) {
    loop {
        for endpoint in &endpoints {
            let variable = endpoint.variable;
            match endpoint.expiry().await {
                Ok(Some(ends)) => {
                    metrics::gauge!("zhuji_certificate_expiry_timestamp_seconds", "endpoint" => variable)
                        .set(ends.as_second() as f64);
                }
                Ok(None) => {}
                // What was known of it stays: it ends on the same day.
                Err(error) => tracing::debug!(endpoint = variable, error, "no certificate was shown"),
            }
        }
        tokio::time::sleep(CERTIFICATES_EVERY).await;
    }
}
