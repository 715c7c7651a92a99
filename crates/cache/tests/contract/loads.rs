//! `get_or_load` and `get_or_refresh`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use zhuji_cache::{Cache, CacheConfig, ErrorKind, LoadOptions, Ttl};

use crate::{Bench, Broken, MINUTE, Paper, bench, paper, until};

pub(crate) async fn one_load_for_many_callers(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                cache
                    .get_or_load("p", MINUTE, async || {
                        loads.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        Ok::<_, Broken>(paper())
                    })
                    .await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), paper());
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.get::<Paper>("p").await.unwrap(), Some(paper()));
    assert_eq!(cache.stats().loads, 1);
}

pub(crate) async fn a_load_error_reaches_all_and_stays_nowhere(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = Arc::new(AtomicU32::new(0));
    let load = |cache: Cache, loads: Arc<AtomicU32>| async move {
        cache
            .get_or_load::<Paper, _, _, _>("p", MINUTE, async || {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(Broken("the registry is down"))
            })
            .await
    };
    let tasks: Vec<_> = (0..50)
        .map(|_| tokio::spawn(load(cache.clone(), loads.clone())))
        .collect();
    for task in tasks {
        assert_eq!(
            task.await.unwrap().unwrap_err().to_string(),
            "the registry is down"
        );
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    let loaded: Paper = cache
        .get_or_load("p", MINUTE, async || Ok::<_, Broken>(paper()))
        .await
        .unwrap();
    assert_eq!(loaded, paper());
}

pub(crate) async fn a_lost_leader_strands_nobody(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loading = Arc::new(Notify::new());
    let leader = tokio::spawn({
        let (cache, loading) = (cache.clone(), loading.clone());
        async move {
            cache
                .get_or_load::<Paper, Broken, _, _>("p", MINUTE, async || {
                    loading.notify_one();
                    std::future::pending().await
                })
                .await
        }
    });
    loading.notified().await;
    let loads = Arc::new(AtomicU32::new(0));
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                cache
                    .get_or_load("p", MINUTE, async || {
                        loads.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, Broken>(paper())
                    })
                    .await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(loads.load(Ordering::SeqCst), 0, "the leader is still at it");
    leader.abort();
    for waiter in waiters {
        let value = tokio::time::timeout(Duration::from_secs(20), waiter)
            .await
            .expect("not stranded");
        assert_eq!(value.unwrap().unwrap(), paper());
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(leader.await.is_err());
}

pub(crate) async fn a_delete_during_a_load_wins(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let (loading, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = tokio::spawn({
        let (cache, loading, go_on) = (cache.clone(), loading.clone(), go_on.clone());
        async move {
            cache
                .get_or_load("p", MINUTE, async || {
                    loading.notify_one();
                    go_on.notified().await;
                    Ok::<_, Broken>("old".to_owned())
                })
                .await
        }
    });
    loading.notified().await;
    cache.delete("p").await.unwrap();
    let fresh: String = cache
        .get_or_load("p", MINUTE, async || Ok::<_, Broken>("new".to_owned()))
        .await
        .unwrap();
    assert_eq!(fresh, "new", "a load begun before the delete is not joined");
    go_on.notify_one();
    assert_eq!(slow.await.unwrap().unwrap(), "old");
    assert_eq!(cache.get::<String>("p").await.unwrap().as_deref(), Some("new"));
}

pub(crate) async fn callers_of_other_types_help_themselves(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let number = cache.get_or_load("x", MINUTE, async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, Broken>(7)
    });
    let text = cache.get_or_load("x", MINUTE, async || Ok::<_, Broken>("seven".to_owned()));
    let odd = cache.get_or_load("y", MINUTE, async || {
        Ok::<_, Broken>(std::collections::BTreeMap::from([(vec![1], 1)])) // JSON has no such keys
    });
    let (number, text, odd) = tokio::join!(number, text, odd);
    assert_eq!((number.unwrap(), text.unwrap()), (7, "seven".to_owned()));
    assert_eq!(odd.unwrap().len(), 1);
    let error = cache
        .set("y", &std::collections::BTreeMap::from([(vec![1], 1)]), None)
        .await;
    assert_eq!(error.expect_err("no JSON form").kind(), ErrorKind::Encode);
}

pub(crate) async fn nothing_can_be_cached_too(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = AtomicU32::new(0);
    for _ in 0..3 {
        let found: Option<Paper> = cache
            .get_or_load("absent", MINUTE, async || {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Broken>(None)
            })
            .await
            .unwrap();
        assert_eq!(found, None);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

pub(crate) async fn a_panic_of_the_loader_reaches_all_and_stays_nowhere(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                let load = async || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    panic!("the registry fell over")
                };
                cache.get_or_load::<Paper, Broken, _, _>("p", MINUTE, load).await
            })
        })
        .collect();
    for caller in callers {
        let panic = caller.await.expect_err("it panicked").into_panic();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap();
        assert!(text.contains("the registry fell over"), "{text}");
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    let loaded: Paper = cache
        .get_or_load("p", MINUTE, async || Ok::<_, Broken>(paper()))
        .await
        .unwrap();
    assert_eq!(loaded, paper());
}

pub(crate) async fn there_is_none_lives_for_its_own_time(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let options = LoadOptions::new(MINUTE).absent_ttl(Ttl::exact(Duration::from_millis(1000)));
    let loads = AtomicU32::new(0);
    let ask = async |key: &str, answer: Option<u8>| {
        let load = async || {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Broken>(answer)
        };
        cache.get_or_load(key, options.clone(), load).await.unwrap()
    };
    assert_eq!(
        (ask("absent", None).await, ask("present", Some(7)).await),
        (None, Some(7))
    );
    assert_eq!(
        (ask("absent", Some(1)).await, ask("present", None).await),
        (None, Some(7))
    );
    assert_eq!(loads.load(Ordering::SeqCst), 2);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(
        (ask("absent", Some(1)).await, ask("present", None).await),
        (Some(1), Some(7))
    );
    assert_eq!(loads.load(Ordering::SeqCst), 3);
    // Unless the call says otherwise, at most half a minute.
    cache
        .get_or_load("hour", MINUTE * 60, async || Ok::<_, Broken>(None::<u8>))
        .await
        .unwrap();
    assert!(cache.ttl("hour").await.unwrap().unwrap() <= Duration::from_secs(30));
}

pub(crate) async fn a_stale_value_is_served_while_a_new_one_is_loaded(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(Semaphore::new(1));
    let ask = async || {
        let (loads, gate) = (loads.clone(), gate.clone());
        let load = async move || {
            let n = loads.fetch_add(1, Ordering::SeqCst) + 1;
            gate.acquire().await.unwrap().forget();
            if n == 3 {
                Err(Broken("third time unlucky"))
            } else {
                Ok(n)
            }
        };
        cache
            .get_or_refresh("k", Duration::from_millis(700), MINUTE, load)
            .await
            .unwrap()
    };
    assert_eq!(ask().await, 1);
    assert_eq!(ask().await, 1);
    assert_eq!(loads.load(Ordering::SeqCst), 1, "fresh: nobody loads");
    tokio::time::sleep(Duration::from_millis(900)).await;
    for _ in 0..50 {
        assert_eq!(ask().await, 1, "the old value, at once");
    }
    until("one load begins in the background", async || {
        loads.load(Ordering::SeqCst) == 2
    })
    .await;
    gate.add_permits(100);
    until("the new value is there", async || ask().await == 2).await;
    // The third load fails: that costs nobody anything, and it is not tried again at every read.
    until("the third load", async || {
        assert_eq!(ask().await, 2);
        loads.load(Ordering::SeqCst) >= 3
    })
    .await;
    let since = Instant::now();
    for _ in 0..20 {
        assert!([2, 4].contains(&ask().await));
    }
    let allowed = 3 + since.elapsed().as_secs() as u32;
    assert!(loads.load(Ordering::SeqCst) <= allowed, "{loads:?}");
    until("the fourth load", async || ask().await >= 4).await;
    assert!(cache.stats().stale_hits >= 52, "{:?}", cache.stats());
    // Deleted is deleted, stale or not.
    cache.delete("k").await.unwrap();
    assert!(ask().await >= 5);
}

pub(crate) async fn a_delete_during_a_refresh_wins(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let short = Duration::from_millis(1);
    let first = cache.get_or_refresh("k", short, MINUTE, async || Ok::<_, Broken>("first".to_owned()));
    assert_eq!(first.await.unwrap(), "first");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (loading, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let load = {
        let (loading, go_on) = (loading.clone(), go_on.clone());
        async move || {
            loading.notify_one();
            go_on.notified().await;
            Ok::<_, Broken>("old".to_owned())
        }
    };
    assert_eq!(
        cache.get_or_refresh("k", short, MINUTE, load).await.unwrap(),
        "first"
    );
    loading.notified().await;
    assert!(cache.delete("k").await.unwrap());
    go_on.notify_one();
    let mut looks = 0;
    until("a while has passed", async || {
        assert_eq!(cache.get::<String>("k").await.unwrap(), None);
        looks += 1;
        looks > 20
    })
    .await;
}

pub(crate) async fn one_load_in_two_processes(kind: &str) {
    let Bench { cache, raw, .. } = &bench(kind).await;
    // As another process would: nothing in common with the first but the store.
    let other = Cache::new(raw.clone(), &CacheConfig::default());
    let loads = Arc::new(AtomicU32::new(0));
    let load = |cache: &Cache, key: &'static str, options: LoadOptions| {
        let (cache, loads) = (cache.clone(), loads.clone());
        tokio::spawn(async move {
            let load = async || {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok::<_, Broken>(7)
            };
            cache.get_or_load(key, options, load).await.unwrap()
        })
    };
    let options = LoadOptions::new(MINUTE).once_per_fleet();
    let callers: Vec<_> = (0..20)
        .flat_map(|_| [cache, &other].map(|cache| load(cache, "k", options.clone())))
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 7);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    // A process that died loading is waited for no longer than its lease.
    let abandoned = LoadOptions::new(MINUTE).lease(Duration::from_millis(400));
    let dead = load(cache, "dead", LoadOptions::new(MINUTE).lease(MINUTE));
    until("it loads", async || loads.load(Ordering::SeqCst) == 2).await;
    let start = Instant::now();
    let waiter = load(&other, "dead", abandoned);
    assert_eq!(waiter.await.unwrap(), 7);
    assert!(start.elapsed() < Duration::from_secs(20));
    dead.await.unwrap();
    // An error leaves no lease behind.
    for cache in [cache, &other] {
        let start = Instant::now();
        let failed = cache
            .get_or_load::<u8, _, _, _>("e", options.clone(), async || Err(Broken("no")))
            .await;
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "the lease of ten seconds was given back"
        );
    }
}
