//! The outbox: writes that wait for the link to a store elsewhere. The service that owns it may run meanwhile, so it is
//! only looked at.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Finding, Patient};

const CHECK: &str = "outbox";
/// A link is down for minutes; after that somebody should know.
const LONG: Duration = Duration::from_secs(3600);

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    match patient.storage.here().and_then(|storage| storage.outbox()) {
        None => vec![Finding::ok(
            CHECK,
            "none: STORAGE_OUTBOX_DIR is off, or there is no store elsewhere",
        )],
        Some(dir) => {
            let looked = tokio::task::spawn_blocking(move || of(&dir)).await;
            looked.map(|finding| vec![finding]).unwrap_or_default()
        }
    }
}

fn of(dir: &Path) -> Finding {
    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
    if let Err(error) = writable(there) {
        let mend = "give STORAGE_OUTBOX_DIR to the service's user, on a volume that is mounted for writing";
        return Finding::error(
            CHECK,
            format!("{} can't be written: {error}", there.display()),
            mend,
        );
    }
    let (waiting, refused) = (entries(dir.join("queue")), entries(dir.join("failed")));
    let oldest = waiting
        .iter()
        .filter_map(|since| since.elapsed().ok())
        .max()
        .unwrap_or_default();
    let shown = format!("{} writes wait in {}", waiting.len(), dir.display());
    if !refused.is_empty() {
        let evidence = format!(
            "{shown}, and {} were refused by the store for good",
            refused.len()
        );
        let mend =
            "look at the records below `failed` of the outbox: each names its key and why it was refused";
        return Finding::warning(CHECK, evidence, mend);
    }
    let age = zhuji_config::format_duration(Duration::from_secs(oldest.as_secs()));
    match waiting.len() {
        0 => Finding::ok(CHECK, format!("nothing waits in {}", dir.display())),
        _ if oldest > LONG => Finding::warning(
            CHECK,
            format!("{shown}, the oldest for {age}"),
            "check the link to the store; `storage` tells what is wrong with it",
        ),
        _ => Finding::info(CHECK, format!("{shown}, the oldest for {age}")),
    }
}

fn writable(dir: &Path) -> std::io::Result<()> {
    let probe = dir.join(format!(".doctor-{}", uuid::Uuid::new_v4()));
    std::fs::write(&probe, b"probe")?;
    std::fs::remove_file(&probe)
}

/// Since when each file below it is there.
fn entries(dir: PathBuf) -> Vec<SystemTime> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let times = files
        .filter_map(|file| file.metadata().ok())
        .filter(std::fs::Metadata::is_file);
    times.filter_map(|file| file.modified().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn what_waits_and_what_was_refused_is_counted() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("outbox");
        assert_eq!(of(&dir).severity, Severity::Ok);
        std::fs::create_dir_all(dir.join("queue")).expect("made");
        std::fs::write(dir.join("queue/1"), "{}").expect("written");
        let waits = of(&dir);
        assert_eq!(waits.severity, Severity::Info);
        assert!(waits.evidence.starts_with("1 writes wait"), "{waits:?}");
        std::fs::create_dir_all(dir.join("failed")).expect("made");
        std::fs::write(dir.join("failed/1"), "{}").expect("written");
        assert_eq!(of(&dir).severity, Severity::Warning);
        let left = std::fs::read_dir(&dir).expect("it is there").count();
        assert_eq!(left, 2, "the probe is gone");
    }
}
