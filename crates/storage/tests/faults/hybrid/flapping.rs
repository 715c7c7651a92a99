//! A link that comes and goes, under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use zhuji_storage::{ErrorKind, PutOptions, Storage};
use zhuji_testkit::{Moment, ProxyFault};

use super::Site;
use crate::{full, support::noise};

const KEYS: usize = 8;

/// Writes, overwrites and deletes one key, and reads it after each step; answers what it should hold at the end.
async fn work(storage: Storage, key: String, rounds: usize) -> Option<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(key.len() as u64 * 7 + u64::from(key.as_bytes()[1]));
    let mut holds: Option<Vec<u8>> = None;
    for round in 0..rounds {
        let bytes = noise(500 + round * 37 % 3000);
        let options = PutOptions::new().metadata("round", round.to_string());
        match random.u8(0..4) {
            0 => {
                storage.delete(&key).await.unwrap();
                holds = None;
            }
            1 => {
                let pieces: Vec<_> = bytes
                    .chunks(100)
                    .map(|piece| Ok::<_, std::io::Error>(piece.to_vec().into()))
                    .collect();
                let stream = futures_util::stream::iter(pieces).boxed();
                storage.upload_stream(&key, stream, options).await.unwrap();
                holds = Some(bytes);
            }
            _ => {
                storage.upload_with(&key, bytes.clone(), options).await.unwrap();
                holds = Some(bytes);
            }
        }
        match (storage.download(&key).await, &holds) {
            (Ok(found), Some(expected)) => assert!(found == *expected, "{key}, round {round}"),
            (Err(error), None) if error.kind() == ErrorKind::NotFound => {}
            // Where nothing waits, a link that is down can't be read over.
            (Err(error), _) if error.is_retryable() => {}
            (found, _) => panic!(
                "{key}, round {round}: {found:?}, expected something: {}",
                holds.is_some()
            ),
        }
    }
    holds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_comes_and_goes_costs_nothing() {
    let rounds = if full() { 1250 } else { 25 };
    println!(
        "{} operations ({} with ZHUJI_TEST_FULL=1)",
        rounds * KEYS,
        1250 * KEYS
    );
    let site = Site::new().await;
    let storage = site.open().await;
    let faults = Moment::ALL
        .into_iter()
        .map(ProxyFault::Reset)
        .chain([ProxyFault::Answer(503)]);
    site.proxy.rate(11, 12, faults.collect());
    let over = Arc::new(AtomicBool::new(false));
    let workers = async {
        let work = (0..KEYS).map(|n| tokio::spawn(work(storage.clone(), format!("k{n}"), rounds)));
        let held = join_all(work).await;
        over.store(true, Ordering::Relaxed);
        held
    };
    let link = async {
        let (mut cuts, mut random) = (0_u64, fastrand::Rng::with_seed(5));
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(random.u64(50..600))).await;
            site.proxy.refuse().await;
            tokio::time::sleep(Duration::from_millis(random.u64(50..600))).await;
            site.proxy.accept_again().await;
            cuts += 1;
        }
        cuts
    };
    let (held, cuts) = tokio::join!(workers, link);
    site.proxy.clear();
    let (waiting, began) = (site.waiting(), std::time::Instant::now());
    site.all_carried_out().await;
    println!(
        "{waiting} operations still waited, carried out in {:?}",
        began.elapsed()
    );
    let there = site.there().await;
    for (n, holds) in held.into_iter().enumerate() {
        match holds.unwrap() {
            Some(bytes) => assert!(there.download(&format!("k{n}")).await.unwrap() == bytes, "k{n}"),
            None => assert!(!there.exists(&format!("k{n}")).await.unwrap(), "k{n}"),
        }
    }
    println!(
        "the link was cut {cuts} times, besides {:?}",
        site.proxy.injected()
    );
}
