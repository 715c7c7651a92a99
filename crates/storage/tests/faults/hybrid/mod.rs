//! A store in two places, and an outbox between them.

mod flapping;
mod killed;
mod outbox;
mod resident;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use zhuji_storage::{Storage, StorageFactory};
use zhuji_testkit::FaultProxy;
use zhuji_testkit::oss::{OssServer, OssServerOptions};

use crate::support;

/// A site: its disk, its link, and the store at the other end.
struct Site {
    server: OssServer,
    proxy: FaultProxy,
    dir: TempDir,
}

impl Site {
    async fn new() -> Self {
        let server = OssServer::start(OssServerOptions::default()).await.unwrap();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        Self {
            server,
            proxy,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The store as a process on this site opens it.
    async fn open(&self) -> Storage {
        self.open_with(&[]).await
    }

    async fn open_with(&self, more: &[(&str, &str)]) -> Storage {
        open(&self.server, &self.proxy.url(), self.dir.path(), more).await
    }

    /// The other end, seen without the link.
    async fn there(&self) -> Storage {
        crate::connect(&self.server, &self.server.endpoint()).await
    }

    fn outbox(&self) -> PathBuf {
        self.dir.path().join(".zhuji/outbox")
    }

    fn waiting(&self) -> usize {
        files(&self.outbox().join("queue"))
    }

    async fn all_carried_out(&self) {
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            let waiting = self.waiting();
            if waiting == 0 {
                return;
            }
            if waiting < least {
                (least, since) = (waiting, Instant::now());
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "{waiting} wait, and none is carried out"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The writes that the store has taken, in order: `PutObject a`.
    fn writes(&self) -> Vec<String> {
        const WRITES: [&str; 3] = ["PutObject", "CompleteMultipartUpload", "DeleteObject"];
        let requests = self.server.requests().into_iter();
        requests
            .filter(|request| WRITES.contains(&request.operation.as_str()) && request.status / 100 == 2)
            .map(|request| format!("{} {}", request.operation, request.key))
            .collect()
    }
}

async fn open(server: &OssServer, endpoint: &str, dir: &Path, more: &[(&str, &str)]) -> Storage {
    let dir = dir.to_str().unwrap();
    let mut variables = vec![("STORAGE_LOCAL_DIR", dir), ("STORAGE_OUTBOX_DIR", "auto")];
    variables.extend_from_slice(more);
    let config = support::oss_config(server, endpoint, &variables);
    StorageFactory::new().build(&config).await.unwrap()
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}
