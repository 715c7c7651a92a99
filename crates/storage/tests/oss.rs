//! The OSS adapter against a server that checks signatures, breaks connections, and is sometimes not OSS at all.
#![allow(clippy::unwrap_used)]

#[path = "oss/faults.rs"]
mod faults;
#[path = "oss/files.rs"]
mod files;
#[path = "oss/others.rs"]
mod others;
#[path = "oss/phases.rs"]
mod phases;
#[path = "oss/refusals.rs"]
mod refusals;
#[path = "oss/resumed.rs"]
mod resumed;
#[path = "oss/rules.rs"]
mod rules;
#[path = "oss/secrets.rs"]
mod secrets;
#[path = "oss/strangers.rs"]
mod strangers;
mod support;
#[path = "oss/temporary.rs"]
mod temporary;

use zhuji_storage::{Storage, StorageFactory};
use zhuji_testkit::oss::{OssServer, OssServerOptions};

/// A server, and a store on its bucket with these settings besides.
async fn start(more: &[(&str, &str)]) -> (OssServer, Storage) {
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let storage = connect(&server, &server.endpoint(), more).await;
    (server, storage)
}

async fn connect(server: &OssServer, endpoint: &str, more: &[(&str, &str)]) -> Storage {
    StorageFactory::new()
        .build(&support::oss_config(server, endpoint, more))
        .await
        .unwrap()
}

/// The operations the server has seen.
fn operations(server: &OssServer) -> Vec<String> {
    server
        .requests()
        .into_iter()
        .map(|request| request.operation)
        .collect()
}
