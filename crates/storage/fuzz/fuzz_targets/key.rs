//! No key leaves the root.
#![no_main]

use std::{
    os::unix::fs::symlink,
    path::{Component, Path},
    sync::OnceLock,
};

use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use zhuji_storage::{Durability, Key, ListOptions, LocalAdapter, LocalOptions, Storage};

/// `outside/` and `root/`, side by side, with links from one to the other.
struct Yard {
    dir: tempfile::TempDir,
    runtime: Runtime,
    storage: Storage,
}

fn yard() -> &'static Yard {
    static YARD: OnceLock<Yard> = OnceLock::new();
    YARD.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["outside", "root"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        std::fs::write(dir.path().join("outside/secret"), "outside").expect("a file");
        for (target, name) in [("../outside", "l"), ("../outside/secret", "f"), (".", "o")] {
            symlink(target, dir.path().join("root").join(name)).expect("a link");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let options = LocalOptions {
            durability: Durability::Rename,
            ..LocalOptions::default()
        };
        let opened = runtime.block_on(LocalAdapter::open(dir.path().join("root"), options));
        Yard {
            storage: Storage::new(opened.expect("a store")),
            dir,
            runtime,
        }
    })
}

fuzz_target!(|key: &str| {
    let good = Key::new(key).is_ok();
    if good {
        let below = Path::new(key)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        assert!(below && !key.contains('\0') && !key.starts_with(".zhuji/"));
    }
    let Yard {
        dir,
        runtime,
        storage,
    } = yard();
    runtime.block_on(async {
        let stored = storage.upload(key, "mine").await;
        assert!(good || stored.is_err());
        if let Ok(bytes) = storage.download(key).await {
            assert!(good && bytes == "mine");
        }
        let _ = storage.list(key, ListOptions::new().limit(2)).await;
        let _ = storage.delete(key).await;
    });
    let secret = std::fs::read(dir.path().join("outside/secret")).expect("nobody removed it");
    assert_eq!(secret, b"outside");
    let outside = std::fs::read_dir(dir.path().join("outside")).expect("nobody removed it");
    assert_eq!(outside.count(), 1);
});
