//! The smallest program that uses one crate alone: files on this machine with `zhuji-storage`, no facade and no server.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::path::PathBuf;
use zhuji_storage::{ErrorKind, ListOptions, StorageConfig, StorageFactory};

#[tokio::main]
async fn main() -> Result<(), zhuji_storage::Error> {
    let local_dir = std::env::args_os()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("zhuji-quickstart"), PathBuf::from);
    // `kind: "oss"` and a bucket, and the rest of the program stays as it is.
    let config = StorageConfig {
        kind: "local".into(),
        local_dir,
        ..StorageConfig::default()
    };
    let storage = StorageFactory::new().build(&config).await?;

    let stored = storage.upload("letters/hello.txt", "Hello from Zhuji\n").await?;
    println!("stored {} ({} bytes)", stored.key, stored.size);

    let bytes = storage.download("letters/hello.txt").await?;
    print!("read back: {}", String::from_utf8_lossy(&bytes));

    for entry in storage.list("letters/", ListOptions::default()).await?.entries {
        println!("listed {} of {}", entry.key, entry.last_modified);
    }

    storage.delete("letters/hello.txt").await?;
    match storage.download("letters/hello.txt").await {
        Err(error) if error.kind() == ErrorKind::NotFound => println!("deleted, and gone: {error}"),
        other => println!("still there: {other:?}"),
    }
    Ok(())
}
