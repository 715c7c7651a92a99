//! The sweep removes what crashes left, and nothing else: not another site's PDFs, and not all of them.

use crate::support::{LITERATURES, Setup, pdf};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn marker(setup: &Setup) -> PathBuf {
    setup.uploads().join("asl/sweep-owner")
}

/// PDFs that no record names, two days old.
fn leave_behind(setup: &Setup, count: usize) {
    let folder = setup.uploads().join("asl/pdfs/of-nobody");
    std::fs::create_dir_all(&folder).expect("a temporary directory");
    for number in 0..count {
        std::fs::write(folder.join(format!("{number}.pdf")), b"%PDF-").expect("a temporary directory");
    }
    setup.age_stored_pdfs();
}

async fn wait_for_stored(setup: &Setup, count: usize) {
    let start = Instant::now();
    while setup.stored_pdfs().len() != count {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            setup.stored_pdfs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Long enough for several sweeps at an interval of a second.
async fn some_sweeps() {
    tokio::time::sleep(Duration::from_millis(3_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pdfs_of_another_database_are_left_alone() {
    let ours = Setup::new().await;
    let service = ours.start().await;
    let id = service.one_record().await;
    assert_eq!(service.upload(&id, "x.pdf", &pdf(1)).await.status, 200);
    ours.age_stored_pdfs();

    // The wrong DATABASE_URL: an empty database, the same files.
    let wrong = Setup::new()
        .await
        .set("STORAGE_LOCAL_DIR", ours.uploads())
        .set("ASL_SWEEP_INTERVAL", "1s");
    let stranger = wrong.start().await;
    let line = stranger.logged("belongs to another database").await;
    for word in ["\"error\"", "DATABASE_URL", "asl/sweep-owner"] {
        assert!(
            line.to_lowercase().contains(&word.to_lowercase()),
            "{word} is not in {line}"
        );
    }
    some_sweeps().await;
    assert_eq!(ours.stored_pdfs().len(), 1);
    let open = service.get(&format!("{LITERATURES}/{id}/pdf")).await;
    assert_eq!(open.expect("an answer").status(), 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_unknown_pdfs_is_not_taken_over() {
    let setup = Setup::new().await.set("ASL_SWEEP_INTERVAL", "1s");
    leave_behind(&setup, 3);
    let service = setup.start().await;
    let line = service.logged("knows nothing of").await;
    some_sweeps().await;
    assert_eq!(setup.stored_pdfs().len(), 3);
    assert!(!marker(&setup).exists());

    // The operator says that they belong together, in the way the line says.
    let id = line.split('`').nth(1).expect("the line names the id");
    std::fs::write(marker(&setup), id).expect("a temporary directory");
    wait_for_stored(&setup, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_marker_is_only_made_anew_in_an_empty_store() {
    let setup = Setup::new().await.set("ASL_SWEEP_INTERVAL", "1s");
    let service = setup.start().await;
    service.logged("the store belongs to this database").await;
    let id = std::fs::read_to_string(marker(&setup)).expect("it was written");

    leave_behind(&setup, 1);
    std::fs::remove_file(marker(&setup)).expect("it is there");
    // A sweep may have been between its question and its work.
    service.logged("as it once did").await;
    leave_behind(&setup, 1);
    some_sweeps().await;
    assert_eq!(setup.stored_pdfs().len(), 1);
    assert!(!marker(&setup).exists());

    std::fs::remove_dir_all(setup.uploads().join("asl/pdfs")).expect("it is there");
    let start = Instant::now();
    while !marker(&setup).exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "no marker was written");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        std::fs::read_to_string(marker(&setup)).expect("it was written"),
        id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_unnamed_pdfs_at_once_are_a_mistake_and_stay() {
    let setup = Setup::new().await.set("ASL_SWEEP_INTERVAL", "1s");
    let service = setup.start().await;
    service.logged("the store belongs to this database").await;
    let folder = setup.uploads().join("asl/pdfs");
    std::fs::create_dir_all(&folder).expect("a temporary directory");
    // Hidden until all of them are there: a sweep in between would find too few.
    let hidden = setup.dir.path().join("hidden");
    std::fs::create_dir_all(&hidden).expect("a temporary directory");
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 86_400);
    for number in 0..101 {
        let path = hidden.join(format!("{number}.pdf"));
        std::fs::write(&path, b"%PDF-").expect("a temporary directory");
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .expect("it was written");
        file.set_modified(old).expect("it is ours");
    }
    std::fs::rename(&hidden, folder.join("of-nobody")).expect("the same disk");
    let line = service.logged("too many to be what crashes left").await;
    assert!(line.contains("101"), "{line}");
    some_sweeps().await;
    assert_eq!(setup.stored_pdfs().len(), 101);
    std::fs::remove_file(folder.join("of-nobody/0.pdf")).expect("it is there");
    wait_for_stored(&setup, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_at_the_start_and_nothing_young_ever() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    service.logged("the store belongs to this database").await;
    assert!(service.terminate().await.success());
    leave_behind(&setup, 2);
    let service = setup.start().await;
    some_sweeps().await;
    assert_eq!(
        setup.stored_pdfs().len(),
        2,
        "the first sweep comes after an interval"
    );
    assert!(service.terminate().await.success());

    // Of these two, one is from now.
    let young = setup.uploads().join("asl/pdfs/of-nobody/0.pdf");
    std::fs::write(&young, b"%PDF-").expect("a temporary directory");
    let file = std::fs::File::options()
        .write(true)
        .open(&young)
        .expect("it is there");
    file.set_modified(std::time::SystemTime::now())
        .expect("it is ours");
    let setup = setup.set("ASL_SWEEP_INTERVAL", "1s");
    let _service = setup.start().await;
    wait_for_stored(&setup, 1).await;
    some_sweeps().await;
    assert_eq!(setup.stored_pdfs(), ["asl/pdfs/of-nobody/0.pdf"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_that_start_together_agree() {
    let one = Setup::new().await.set("ASL_SWEEP_INTERVAL", "1s");
    let url = one.database.as_ref().expect("it has one").url();
    let two = Setup::with_database_url(&url)
        .set("STORAGE_LOCAL_DIR", one.uploads())
        .set("ASL_SWEEP_INTERVAL", "1s");
    let (first, second) = tokio::join!(one.start(), two.start());
    leave_behind(&one, 5);
    wait_for_stored(&one, 0).await;
    some_sweeps().await;
    for service in [first, second] {
        let log = service.log().join("\n");
        assert!(!log.contains("no stored PDF is removed"), "{log}");
    }
}
