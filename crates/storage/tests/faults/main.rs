//! The OSS adapter behind a network that fails in every way a network can.
#![allow(clippy::unwrap_used)]

mod each;
mod hybrid;
mod identity;
mod parts;
mod silence;
#[path = "../support/mod.rs"]
mod support;
mod thousands;

use std::time::{Duration, Instant};

use zhuji_storage::{Storage, StorageFactory};
use zhuji_testkit::FaultProxy;
use zhuji_testkit::oss::{OssServer, OssServerOptions};

const KIB: usize = 1024;

/// A server, what is between, and a store as the factory builds it.
struct World {
    server: OssServer,
    proxy: FaultProxy,
    storage: Storage,
}

impl World {
    async fn new() -> Self {
        let server = OssServer::start(OssServerOptions::default()).await.unwrap();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let storage = connect(&server, &proxy.url()).await;
        Self {
            server,
            proxy,
            storage,
        }
    }

    /// A store that sees the server without the proxy.
    async fn direct(&self) -> Storage {
        connect(&self.server, &self.server.endpoint()).await
    }

    /// Waits for aborts that go on in the background.
    async fn no_uploads_left(&self) {
        until("no upload in parts is left", || self.server.uploads_open() == 0).await;
    }
}

async fn connect(server: &OssServer, endpoint: &str) -> Storage {
    let config = support::oss_config(server, endpoint, &[]);
    StorageFactory::new().build(&config).await.unwrap()
}

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The full count of a long proof with `ZHUJI_TEST_FULL=1`, else a smaller one.
fn full() -> bool {
    std::env::var("ZHUJI_TEST_FULL").as_deref() == Ok("1")
}
