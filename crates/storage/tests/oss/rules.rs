//! The rules of a bucket, as the server keeps them.

use zhuji_storage::{ErrorKind, StorageRules};
use zhuji_testkit::oss::Fault;

use crate::{operations, start};

fn sample() -> StorageRules {
    let text = include_str!("../../../../examples/literature/deploy/storage-rules.json");
    StorageRules::from_json(text).unwrap()
}

#[tokio::test]
async fn rules_are_applied_once() {
    let (server, storage) = start(&[]).await;
    assert_eq!(
        storage.rules().await.unwrap(),
        StorageRules::from_json(r#"{"lifecycle": [], "cors": []}"#).unwrap()
    );
    let rules = sample();
    let dry = storage.apply_rules(&rules, true).await.unwrap();
    assert_eq!(
        (dry.changes.len(), dry.notes.len(), dry.applied),
        (4, 0, false),
        "{dry}"
    );
    assert!(
        !operations(&server).iter().any(|name| name.starts_with("Put")),
        "a dry run writes nothing"
    );
    assert!(storage.apply_rules(&rules, false).await.unwrap().applied);
    let before = operations(&server).len();
    assert!(storage.apply_rules(&rules, false).await.unwrap().is_empty());
    let asked = operations(&server).split_off(before);
    assert!(asked.iter().all(|name| name.starts_with("Get")), "{asked:?}");
    assert_eq!(storage.rules().await.unwrap().lifecycle, rules.lifecycle);
    assert_eq!(storage.rules().await.unwrap().cors, rules.cors);
    // An empty section is removed, an absent one stays, versions are switched on and suspended.
    let next = r#"{"cors": [], "versioning": "enabled"}"#;
    let diff = storage
        .apply_rules(&StorageRules::from_json(next).unwrap(), false)
        .await
        .unwrap();
    assert_eq!(diff.changes.len(), 2, "{diff}");
    let now = storage.rules().await.unwrap();
    assert_eq!((now.lifecycle.unwrap().len(), now.cors.unwrap().len()), (3, 0));
    let suspended = StorageRules::from_json(r#"{"versioning": "suspended"}"#).unwrap();
    let diff = storage.apply_rules(&suspended, false).await.unwrap();
    assert_eq!(
        diff.to_string(),
        "versioning\n  ~ old versions: enabled -> suspended"
    );
    assert_eq!(
        storage.sweep(true).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[tokio::test]
async fn rules_are_as_persistent_as_anything() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::status(503, "ServiceUnavailable").times(2));
    storage.rules().await.unwrap();
    server.fail_next(Fault::status(500, "InternalError").on_method("PUT"));
    storage.apply_rules(&sample(), false).await.unwrap();
    assert_eq!(server.faults_pending(), 0);
    server.fail_next(Fault::status(403, "AccessDenied"));
    let error = storage.rules().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Denied && error.to_string().contains("of bucket"),
        "{error}"
    );
}
