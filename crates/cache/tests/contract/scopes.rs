//! Namespaces.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{Bench, Broken, MINUTE, bench};

pub(crate) async fn namespaces_do_not_meet(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let scopes = ["asl", "as", "asl:", "%3A", "asl%3A", "~lock", "~gen", ""];
    for (n, scope) in scopes.iter().enumerate() {
        cache.scoped(scope).set("k", &n, MINUTE).await.unwrap();
    }
    for (n, scope) in scopes.iter().enumerate() {
        assert_eq!(
            cache.scoped(scope).get::<usize>("k").await.unwrap(),
            Some(n),
            "{scope:?}"
        );
    }
    let nested = cache.scoped("asl").scoped("pdf");
    nested.set("k", &"nested", MINUTE).await.unwrap();
    assert_eq!(cache.scoped("asl").get::<usize>("k").await.unwrap(), Some(0));
    cache.scoped("asl").delete("k").await.unwrap();
    assert_eq!(
        nested.get::<String>("k").await.unwrap().as_deref(),
        Some("nested")
    );
}

pub(crate) async fn a_namespace_is_dropped_in_one_step(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let (asl, pdf, other) = (
        cache.scoped("asl"),
        cache.scoped("asl").scoped("pdf"),
        cache.scoped("other"),
    );
    for scope in [cache, &asl, &pdf, &other] {
        scope.set("k", &1, MINUTE).await.unwrap();
        scope.increment("n", 5, MINUTE).await.unwrap();
        assert_eq!(scope.get::<u8>("k").await.unwrap(), Some(1));
    }
    let lock = asl.try_lock("l", MINUTE).await.unwrap().expect("free");
    let (loading, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = tokio::spawn({
        let (asl, loading, go_on) = (asl.clone(), loading.clone(), go_on.clone());
        async move {
            asl.get_or_load("slow", MINUTE, async || {
                loading.notify_one();
                go_on.notified().await;
                Ok::<_, Broken>("from before".to_owned())
            })
            .await
        }
    });
    loading.notified().await;
    asl.clear().await.unwrap();
    for (scope, gone) in [
        (cache, false),
        (&asl, true),
        (&pdf, true),
        (&other, false),
        (&cache.scoped("asl"), true),
    ] {
        assert_eq!(scope.get::<u8>("k").await.unwrap().is_none(), gone, "{scope:?}");
        assert_eq!(
            scope.get_shared::<u8>("k").await.unwrap().is_none(),
            gone,
            "{scope:?}"
        );
        assert_eq!(
            scope.increment("n", 0, MINUTE).await.unwrap(),
            if gone { 0 } else { 5 },
            "{scope:?}"
        );
        assert_eq!(scope.exists("k").await.unwrap(), !gone);
    }
    let fresh = asl
        .get_or_load("slow", MINUTE, async || Ok::<_, Broken>("from after".to_owned()))
        .await;
    assert_eq!(fresh.unwrap(), "from after", "a load begun before is not joined");
    go_on.notify_one();
    assert_eq!(slow.await.unwrap().unwrap(), "from before");
    assert_eq!(
        asl.get::<String>("slow").await.unwrap().as_deref(),
        Some("from after")
    );
    assert!(
        asl.try_lock("l", MINUTE).await.unwrap().is_none(),
        "locks are not dropped"
    );
    lock.release().await.unwrap();
    asl.set("k", &2, MINUTE).await.unwrap();
    assert_eq!(asl.get::<u8>("k").await.unwrap(), Some(2));
    cache.clear().await.unwrap();
    for scope in [cache, &asl, &pdf, &other] {
        assert_eq!(scope.get::<u8>("k").await.unwrap(), None, "{scope:?}");
    }
}
