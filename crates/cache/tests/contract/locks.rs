//! Locks: best effort, but no worse than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zhuji_cache::ErrorKind;

use crate::{Bench, MINUTE, bench};

pub(crate) async fn one_holder_at_a_time(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let asl = cache.scoped("asl");
    let ttl = Duration::from_secs(5);
    let one = asl.try_lock("import", ttl).await.unwrap().expect("free");
    assert!(asl.try_lock("import", ttl).await.unwrap().is_none());
    assert!(
        cache.try_lock("import", ttl).await.unwrap().is_some(),
        "another scope's lock is another lock"
    );
    let error = asl
        .lock("import", ttl, Duration::from_millis(200))
        .await
        .expect_err("held");
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(!one.is_lost());
    let first = one.fence();
    assert!(one.release().await.unwrap());
    let two = asl.try_lock("import", ttl).await.unwrap().expect("given back");
    assert!(two.fence() > first, "{} > {first}", two.fence());
    let second = two.fence();
    let waiter = tokio::spawn({
        let asl = asl.clone();
        async move { asl.lock("import", ttl, MINUTE).await }
    });
    drop(two);
    let three = waiter.await.unwrap().unwrap();
    assert!(three.fence() > second, "dropping gives it back, too");
    asl.set("import", &1, MINUTE).await.unwrap();
    assert_eq!(
        asl.get::<u8>("import").await.unwrap(),
        Some(1),
        "a lock is not in the way of a value"
    );
    let error = cache
        .try_lock("x", Duration::from_millis(1))
        .await
        .expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

pub(crate) async fn a_held_lock_is_extended_and_an_abandoned_one_ends(kind: &str) {
    let Bench { cache, raw, .. } = &bench(kind).await;
    let ttl = Duration::from_millis(1500);
    let lock = cache.try_lock("l", ttl).await.unwrap().expect("free");
    let start = Instant::now();
    while start.elapsed() < ttl * 2 {
        assert!(cache.try_lock("l", ttl).await.unwrap().is_none(), "extended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!lock.is_lost());
    assert!(lock.release().await.unwrap());
    // A process that is gone extends nothing and gives nothing back.
    assert!(
        raw.lock("~lock:l", "of a dead process", Duration::from_millis(500))
            .await
            .unwrap()
            .is_some()
    );
    let lock = cache.lock("l", ttl, MINUTE).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(500));
    // Nobody but the holder can extend it or give it back.
    assert!(!raw.unlock("~lock:l", "of a dead process").await.unwrap());
    assert!(
        !raw.extend_lock("~lock:l", "of a dead process", ttl)
            .await
            .unwrap()
    );
    drop(lock);
}

pub(crate) async fn fifty_take_turns(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let (inside, last) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (cache, inside, last) = (cache.clone(), inside.clone(), last.clone());
            tokio::spawn(async move {
                let lock = cache.lock("turn", Duration::from_secs(20), MINUTE).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                tokio::task::yield_now().await;
                assert!(last.swap(lock.fence(), Ordering::SeqCst) < lock.fence(), "rising");
                inside.fetch_sub(1, Ordering::SeqCst);
                lock.release().await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
