//! The same program with cloud back ends, chosen by environment variables alone.

use crate::support::{LITERATURES, Setup, large_pdf, pdf};
use crate::walk::walk;
use reqwest::Method;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use zhuji_testkit::TestRedis;
use zhuji_testkit::oss::{Fault, OssServer, OssServerOptions};

async fn cloud(oss: &OssServer, redis: &TestRedis) -> Setup {
    Setup::new()
        .await
        .set("DEPLOYMENT_MODE", "cloud")
        .set("REDIS_URL", redis.url())
        .set("OSS_REGION", oss.region())
        .set("OSS_ENDPOINT", oss.endpoint())
        .set("OSS_BUCKET", oss.bucket())
        .set("OSS_ACCESS_KEY_ID", oss.access_key_id())
        .set("OSS_ACCESS_KEY_SECRET", oss.access_key_secret())
        .set("DRAIN_DELAY", "100ms")
}

/// How many keys Redis holds, in its own words.
async fn redis_keys(redis: &TestRedis) -> u64 {
    let mut socket = TcpStream::connect(("127.0.0.1", redis.port()))
        .await
        .expect("it runs");
    socket.write_all(b"DBSIZE\r\n").await.expect("it reads");
    let mut line = String::new();
    BufReader::new(socket)
        .read_line(&mut line)
        .await
        .expect("it answers");
    line.trim_start_matches(':').trim().parse().expect("a number")
}

fn stored_pdfs(oss: &OssServer) -> usize {
    let objects = oss.objects();
    objects
        .iter()
        .filter(|object| object.key.starts_with("asl/pdfs/"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_walk_on_oss_and_redis() {
    let oss = OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port");
    let redis = TestRedis::start().await;
    let setup = cloud(&oss, &redis).await;
    walk(&setup).await;
    let keys: Vec<String> = oss.objects().into_iter().map(|object| object.key).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(
        keys[0].starts_with("asl/pdfs/") && keys[1] == "asl/sweep-owner",
        "{keys:?}"
    );
    assert_eq!(oss.uploads_open(), 0);
    assert!(redis_keys(&redis).await > 0, "nothing was kept in Redis");
    assert!(
        !setup.uploads().exists(),
        "something was written to the local disk"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_fails_leaves_no_row_and_recovers() {
    let oss = OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port");
    // Ten minutes behind, as far as a clock may be: what is stored now is old at once.
    oss.set_clock_offset(jiff::SignedDuration::from_mins(-10));
    let redis = TestRedis::start().await;
    let setup = cloud(&oss, &redis).await;
    let service = setup.start().await;
    let id = service.one_record().await;
    for method in ["PUT", "POST"] {
        oss.fail_next(
            Fault::status(503, "ServiceUnavailable")
                .on_method(method)
                .times(1_000),
        );
    }
    let answer = service.upload(&id, "x.pdf", &pdf(1)).await;
    answer.is_problem(503, "storage");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    let record = service.json(&format!("{LITERATURES}/{id}")).await;
    assert_eq!(record["pdf_url"], serde_json::Value::Null);
    oss.clear_faults();
    assert_eq!(service.upload(&id, "x.pdf", &pdf(2)).await.status, 200);
    assert_eq!(service.extracted(&id).await["extraction"]["pages"], 2);
    // An object that cannot be deleted now does not keep its record alive; the sweep removes it later.
    oss.fail_next(
        Fault::status(503, "ServiceUnavailable")
            .on_method("DELETE")
            .times(1_000),
    );
    assert_eq!(
        service
            .call(Method::DELETE, &format!("{LITERATURES}/{id}"))
            .await
            .status,
        200
    );
    service
        .call(Method::GET, &format!("{LITERATURES}/{id}"))
        .await
        .is_problem(404, "no record");
    drop(service);
    oss.clear_faults();
    let setup = setup.set("ASL_SWEEP_AGE", "5m").set("ASL_SWEEP_INTERVAL", "1s");
    let _service = setup.start().await;
    let start = Instant::now();
    while stored_pdfs(&oss) > 0 {
        assert!(start.elapsed().as_secs() < 20, "{:?}", oss.objects());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_client_hangs_up_leaves_no_object() {
    let oss = OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port");
    let redis = TestRedis::start().await;
    let setup = cloud(&oss, &redis).await;
    let service = setup.start().await;
    let id = service.one_record().await;
    assert_eq!(service.upload(&id, "x.pdf", &pdf(1)).await.status, 200);
    service.extracted(&id).await;
    // The first try fails late: its repetition would be the hung-up request's.
    oss.fail_next(Fault::delay(Duration::from_secs(1)).on_method("DELETE"));
    oss.fail_next(Fault::status(503, "ServiceUnavailable").on_method("DELETE"));
    let request = service
        .client
        .delete(service.url(&format!("{LITERATURES}/{id}")))
        .timeout(Duration::from_millis(300));
    assert!(request.send().await.expect_err("it hangs up").is_timeout());
    let start = Instant::now();
    while stored_pdfs(&oss) > 0 {
        assert!(start.elapsed().as_secs() < 10, "{:?}", oss.objects());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_breaks_off_is_not_blamed_on_the_pdf() {
    let oss = OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port");
    let redis = TestRedis::start().await;
    let setup = cloud(&oss, &redis).await;
    let service = setup.start().await;
    let id = service.one_record().await;
    oss.fail_next(Fault::cut_download(0).on_method("GET").times(1_000));
    let uploaded = service.upload(&id, "x.pdf", &large_pdf(4 << 20)).await;
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    service.logged("its input could not be read to the end").await;
    let record = service.json(&format!("{LITERATURES}/{id}")).await;
    let state = record["extraction"]["state"].as_str().expect("a state");
    assert!(["pending", "running"].contains(&state), "{record}");
    oss.clear_faults();
    assert_eq!(service.extracted(&id).await["extraction"]["pages"], 1);
}
