//! The local adapter: what can go wrong with a directory, and with serving it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "local/confinement.rs"]
mod confinement;
#[path = "local/disk.rs"]
mod disk;
#[path = "local/files.rs"]
mod files;
#[path = "local/killed.rs"]
mod killed;
#[path = "local/rules.rs"]
mod rules;
#[path = "local/serving.rs"]
mod serving;
#[path = "local/signing.rs"]
mod signing;
mod support;
#[path = "local/syscalls.rs"]
mod syscalls;

use std::path::Path;

use zhuji_storage::{Durability, LocalAdapter, LocalOptions, Storage};

/// A store on this directory that doesn't wait for the disk.
async fn open(root: &Path) -> Storage {
    let options = LocalOptions {
        durability: Durability::Rename,
        ..LocalOptions::default()
    };
    Storage::new(LocalAdapter::open(root, options).await.unwrap())
}

/// The full count of a long proof with `ZHUJI_TEST_FULL=1`, else a smaller one; says which.
fn full_or(full: u64, fewer: u64) -> u64 {
    let count = match std::env::var("ZHUJI_TEST_FULL").as_deref() {
        Ok("1") => full,
        _ => fewer,
    };
    println!("{count} of {full} rounds (all with ZHUJI_TEST_FULL=1)");
    count
}
