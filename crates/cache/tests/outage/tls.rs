//! TLS with a server that speaks nothing else, users of an access list, database numbers and both protocols.

use std::path::Path;

use zhuji_cache::{CacheConfig, CacheFactory, ErrorKind};
use zhuji_config::Secret;
use zhuji_testkit::TestRedis;

use crate::{admin, build, config, until};

fn trusting(url: impl Into<String>, authority: &Path) -> CacheConfig {
    CacheConfig {
        redis_ca_file: Some(authority.to_owned()),
        timeout: std::time::Duration::from_secs(5),
        connect_timeout: std::time::Duration::from_secs(5),
        ..config("redis", url)
    }
}

async fn refusal(config: &CacheConfig) -> String {
    let cache = build(config).await;
    let error = cache.set("k", &1, None).await.expect_err("no such connection");
    assert!(error.is_unavailable(), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_server_with_the_right_name_is_talked_to() {
    let redis = TestRedis::start_with_tls().await;
    let port = redis.port();
    let cache = build(&trusting(redis.url(), redis.authority())).await;
    cache.set("k", &7, None).await.expect("trusted");
    assert_eq!(cache.get::<u8>("k").await.expect("trusted"), Some(7));
    redis.restart().await;
    until("it is dialled again", async || {
        cache.set("k", &8, None).await.is_ok()
    })
    .await;

    let stranger = refusal(&trusting(redis.url(), redis.stranger())).await;
    assert!(
        stranger.contains("TLS handshake with localhost:") && stranger.contains("REDIS_CA_FILE"),
        "{stranger}"
    );
    // 127.0.0.1 is the same server, but not the name its certificate is for.
    let other_name = refusal(&trusting(format!("rediss://127.0.0.1:{port}"), redis.authority())).await;
    assert!(
        other_name.contains("TLS handshake") && other_name.contains("127.0.0.1"),
        "{other_name}"
    );
    let unencrypted = refusal(&config("redis", format!("redis://localhost:{port}"))).await;
    assert!(
        unencrypted.contains("ended the connection during the login"),
        "{unencrypted}"
    );
    let plain = TestRedis::start().await;
    let no_tls = format!("rediss://localhost:{}", plain.port());
    let no_tls = CacheConfig {
        connect_timeout: std::time::Duration::from_secs(1),
        ..trusting(no_tls, redis.authority())
    };
    let no_tls = refusal(&no_tls).await;
    assert!(no_tls.contains("does it speak TLS on this port?"), "{no_tls}");
}

/// The subscription takes the same way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidations_travel_over_tls() {
    let redis = TestRedis::start_with_tls().await;
    for protocol in ["resp2", "resp3"] {
        let url = format!("{}?protocol={protocol}", redis.url());
        let config = CacheConfig {
            kind: Some("tiered".to_owned()),
            local_ttl: std::time::Duration::from_secs(30),
            ..trusting(url, redis.authority())
        };
        let (one, two) = (build(&config).await, build(&config).await);
        for cache in [&one, &two] {
            until("it listens", async || cache.stats().adapter.flushes == 1).await;
        }
        one.set("k", &1, None).await.expect("up");
        assert_eq!(two.get::<u8>("k").await.expect("up"), Some(1));
        one.set("k", &2, None).await.expect("up");
        until("it is told", async || {
            two.get::<u8>("k").await.expect("up") == Some(2)
        })
        .await;
        assert!(two.stats().adapter.invalidations >= 1);
    }
}

#[tokio::test]
async fn unusable_authorities_are_refused_at_the_start() {
    let directory = std::env::temp_dir().join(format!("zhuji-cache-ca-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (empty, missing) = (directory.join("empty.pem"), directory.join("missing.pem"));
    std::fs::write(&empty, "not a certificate").expect("a file");
    for (path, reason) in [(&empty, "no certificate in it"), (&missing, "not a file")] {
        let error = CacheFactory::new()
            .build(&trusting("rediss://localhost", path))
            .await
            .expect_err("of no use");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error.to_string().contains("REDIS_CA_FILE") && error.to_string().contains(reason),
            "{error}"
        );
    }
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_databases_and_protocols() {
    let redis = TestRedis::start().await;
    let set_user = [
        "ACL",
        "SETUSER",
        "asl",
        "on",
        ">pass word",
        "~lit:*",
        "&lit:*",
        "+@all",
        "-@admin",
        "-@dangerous",
        "+info",
    ];
    let _: String = admin(&redis, &set_user);
    for protocol in ["resp2", "resp3"] {
        let url = format!(
            "redis://asl:pass%20word@127.0.0.1:{}/3?protocol={protocol}",
            redis.port()
        );
        let config = CacheConfig {
            key_prefix: Some("lit:".to_owned()),
            timeout: std::time::Duration::from_secs(5),
            ..config("tiered", url)
        };
        let cache = build(&config).await;
        until("the subscription is allowed", async || {
            cache.stats().adapter.flushes == 1
        })
        .await;
        let scope = cache.scoped("m");
        scope.set("k", &1, None).await.expect("its own keys");
        scope
            .set_many([("a", &1), ("b", &2)], None)
            .await
            .expect("its own keys");
        assert_eq!(scope.increment("n", 2, None).await.expect("its own keys") % 2, 0);
        let lock = scope
            .try_lock("l", std::time::Duration::from_secs(5))
            .await
            .expect("scripts are allowed");
        assert!(lock.expect("free").release().await.expect("scripts are allowed"));
        scope.clear().await.expect("its own keys");
        // The prefix keeps the user out of other services' keys, and the access list says so.
        let others = CacheConfig {
            key_prefix: None,
            ..config.clone()
        };
        let error = build(&others)
            .await
            .set("k", &1, None)
            .await
            .expect_err("not its own keys");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        let wrong = CacheConfig {
            redis_url: Some(Secret::new(format!(
                "redis://asl:wrong@127.0.0.1:{}/3",
                redis.port()
            ))),
            ..config
        };
        let error = build(&wrong)
            .await
            .set("k", &1, None)
            .await
            .expect_err("the wrong password");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
    }
    let keyspace: String = admin(&redis, &["INFO", "keyspace"]);
    assert!(
        keyspace.contains("db3:") && !keyspace.contains("db0:"),
        "{keyspace}"
    );
}
