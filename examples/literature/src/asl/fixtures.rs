//! Real files for the tests.

use std::path::{Path, PathBuf};

/// A real file from the folder beside the checkout; says so and answers nothing where it is missing.
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/fixtures")
        .join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("SKIPPED: the real file {name} is not beside this checkout");
    }
    bytes
}
