//! Room on the disks that the service writes to.

use std::path::{Path, PathBuf};

use super::{Finding, Patient};
use crate::probe::Space;

const MEND: &str = "delete what is not needed, or give the volume more room; a full disk refuses uploads";
/// Shares of the disk, and bytes, below which it is too little.
const LITTLE: f64 = 0.2;
const HARDLY_ANY: (f64, u64) = (0.05, 512 * 1024 * 1024);

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let mut places: Vec<(&'static str, PathBuf)> = vec![("temporary files", std::env::temp_dir())];
    if let Some(storage) = patient.storage.here() {
        let outbox = storage.outbox().map(|dir| ("STORAGE_OUTBOX_DIR", dir));
        let on_site = storage.kind == "local" || !storage.resident_prefixes.is_empty();
        let files = on_site.then(|| ("STORAGE_LOCAL_DIR", storage.local_dir.clone()));
        places.splice(0..0, files.into_iter().chain(outbox));
    }
    let looked = tokio::task::spawn_blocking(move || places.iter().map(one).collect());
    looked.await.unwrap_or_default()
}

fn one((name, path): &(&'static str, PathBuf)) -> Finding {
    // A directory that is not there yet will be made on the file system of the one it goes into.
    let there = path
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("."));
    let shown = path.display();
    match Space::at(there) {
        Ok(space) => judge(&format!("{name} ({shown})"), space),
        Err(error) => {
            let mend = "check that the path exists and is mounted";
            Finding::warning(
                "disk",
                format!("{name} ({shown}) can't be looked at: {error}"),
                mend,
            )
        }
    }
}

fn judge(name: &str, space: Space) -> Finding {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let share = space.share_free();
    let evidence = format!(
        "{name}: {:.1} of {:.1} GiB free ({:.0} %)",
        gib(space.free),
        gib(space.size),
        share * 100.0
    );
    if share < HARDLY_ANY.0 || space.free < HARDLY_ANY.1 {
        Finding::error("disk", evidence, MEND)
    } else if share < LITTLE {
        Finding::warning("disk", evidence, MEND)
    } else {
        Finding::ok("disk", evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn eighty_percent_in_use_is_time_to_act() {
        let severity = |free: u64| {
            judge(
                "d",
                Space {
                    free: free << 30,
                    size: 100 << 30,
                },
            )
            .severity
        };
        assert_eq!(severity(21), Severity::Ok);
        assert_eq!(severity(19), Severity::Warning);
        assert_eq!(severity(4), Severity::Error);
    }
}
