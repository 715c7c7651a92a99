//! The fault proxy does what it is told, and nothing else.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zhuji_testkit::oss::{OssServer, OssServerOptions};
use zhuji_testkit::{FaultProxy, Moment, ProxyFault, http_client};

const MIB: usize = 1024 * 1024;

/// A server with a public bucket, so that plain requests will do.
async fn start() -> (OssServer, FaultProxy) {
    let server = OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port");
    let acl = crate::wire::Call::new("PUT", "/demo/")
        .query("acl", "")
        .header("x-oss-acl", "public-read-write");
    assert_eq!(acl.send(&server).await.status, 200);
    let proxy = FaultProxy::start(server.address()).await.expect("a free port");
    (server, proxy)
}

fn body() -> Vec<u8> {
    (0..MIB).map(|at| (at % 251) as u8).collect()
}

async fn put(proxy: &FaultProxy, key: &str) -> reqwest::Result<u16> {
    let url = format!("{}/demo/{key}", proxy.url());
    Ok(http_client()
        .put(url)
        .body(body())
        .send()
        .await?
        .status()
        .as_u16())
}

async fn get(proxy: &FaultProxy, key: &str) -> reqwest::Result<Vec<u8>> {
    let url = format!("{}/demo/{key}", proxy.url());
    Ok(http_client()
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?
        .to_vec())
}

#[tokio::test]
async fn without_orders_everything_passes() {
    let (server, proxy) = start().await;
    assert_eq!(put(&proxy, "a").await.expect("passes"), 200);
    assert_eq!(get(&proxy, "a").await.expect("passes"), body());
    let client = http_client();
    let url = format!("{}/demo/a", proxy.url());
    let before = proxy.connections();
    for _ in 0..20 {
        // Answers without a body, with one, and refusals, over one connection.
        assert_eq!(client.head(&url).send().await.expect("passes").status(), 200);
        assert_eq!(
            client
                .get(format!("{url}x"))
                .send()
                .await
                .expect("passes")
                .status(),
            404
        );
        assert_eq!(
            client
                .get(&url)
                .send()
                .await
                .expect("passes")
                .bytes()
                .await
                .expect("whole")
                .len(),
            MIB
        );
        assert_eq!(
            client
                .delete(format!("{url}y"))
                .send()
                .await
                .expect("passes")
                .status(),
            204
        );
    }
    assert_eq!(proxy.connections() - before, 1);
    assert_eq!(proxy.exchanges(), 82);
    assert!(proxy.injected().is_empty());
    // A body in chunks.
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("one,"), Ok("two")]);
    let sent = client
        .put(&url)
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await;
    assert_eq!(sent.expect("passes").status(), 200);
    assert_eq!(server.object_bytes("a").as_deref(), Some(&b"one,two"[..]));
}

#[tokio::test]
async fn resets_and_closes_hit_where_they_are_told_to() {
    let (server, proxy) = start().await;
    for end in [ProxyFault::Reset, ProxyFault::Close] {
        for moment in Moment::ALL {
            let key = end(moment).to_string().replace(' ', "-");
            proxy.script([end(moment)]);
            let sent = put(&proxy, &key).await;
            // From the answer on the server has done it; what is left of an answer without a body is its head.
            let done = moment >= Moment::BeforeAnswer;
            assert!(sent.is_err(), "{:?} {key}", end(moment));
            let stored = server.object_bytes(&key).is_some();
            assert_eq!(stored, done, "{:?} {key}", end(moment));
            assert_eq!(put(&proxy, &key).await.expect("passes"), 200);
            proxy.script([end(moment)]);
            assert!(get(&proxy, &key).await.is_err(), "{:?} {key}", end(moment));
            assert_eq!(get(&proxy, &key).await.expect("passes"), body());
        }
    }
    assert_eq!(proxy.injected().values().sum::<u64>(), 24);
    assert_eq!(proxy.injected().get("reset RequestBody"), Some(&2));
}

#[tokio::test]
async fn answers_of_its_own_and_flipped_bits() {
    let (server, proxy) = start().await;
    proxy.script([429, 500, 502, 503, 504].map(ProxyFault::Answer));
    for status in [429, 500, 502, 503, 504] {
        assert_eq!(put(&proxy, "a").await.expect("an answer"), status);
    }
    assert!(server.objects().is_empty());
    assert_eq!(
        server.requests().len(),
        1,
        "nothing was passed on after the first request"
    );

    proxy.script([ProxyFault::CorruptRequest]);
    assert_eq!(put(&proxy, "a").await.expect("stored, wrongly"), 200);
    let differ = |one: &[u8], two: &[u8]| one.iter().zip(two).filter(|(a, b)| a != b).count();
    assert_eq!(differ(&server.object_bytes("a").expect("stored"), &body()), 1);
    put(&proxy, "a").await.expect("passes");
    proxy.script([ProxyFault::CorruptAnswer]);
    assert_eq!(differ(&get(&proxy, "a").await.expect("an answer"), &body()), 1);
}

#[tokio::test]
async fn slow_stalled_and_paused() {
    let (_server, proxy) = start().await;
    let wait = Duration::from_millis(300);
    put(&proxy, "a").await.expect("passes");
    let mut slow = vec![ProxyFault::Delay(wait), ProxyFault::Throttle(2 * MIB as u64)];
    slow.extend(Moment::ALL.map(|moment| ProxyFault::Stall(moment, wait)));
    for fault in slow {
        proxy.script([fault.clone()]);
        let began = Instant::now();
        assert_eq!(get(&proxy, "a").await.expect("late"), body(), "{fault}");
        assert!(began.elapsed() >= wait, "{fault} took {:?}", began.elapsed());
    }
    proxy.set_latency(wait);
    proxy.set_bandwidth(Some(4 * MIB as u64));
    let began = Instant::now();
    get(&proxy, "a").await.expect("late");
    assert!(began.elapsed() >= wait + Duration::from_millis(200));
    proxy.clear();
    proxy.pause();
    let paused = tokio::time::timeout(wait, get(&proxy, "a")).await;
    assert!(paused.is_err());
    proxy.resume().await;
    assert_eq!(get(&proxy, "a").await.expect("passes"), body());
}

#[tokio::test]
async fn refusals_silence_and_a_move() {
    let (_server, proxy) = start().await;
    put(&proxy, "a").await.expect("passes");
    proxy.refuse().await;
    assert!(get(&proxy, "a").await.expect_err("refused").is_connect());
    proxy.accept_again().await;
    get(&proxy, "a").await.expect("passes");

    proxy.blackhole().await;
    let knock = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(proxy.address())).await;
    assert!(knock.is_err(), "{knock:?}");
    proxy.resume().await;
    get(&proxy, "a").await.expect("passes");

    proxy.script([ProxyFault::Refuse(Duration::from_secs(60))]);
    get(&proxy, "a").await.expect_err("cut");
    assert!(get(&proxy, "a").await.expect_err("refused").is_connect());
    proxy.accept_again().await;

    let (other, _) = start().await;
    proxy.move_to(other.address());
    assert_eq!(
        get(&proxy, "a")
            .await
            .expect_err("not there")
            .status()
            .map(|s| s.as_u16()),
        Some(404)
    );
    assert_eq!(other.requests().len(), 2);
}

#[tokio::test]
async fn the_rate_is_a_rate_and_the_seed_decides() {
    let (_server, proxy) = start().await;
    let client = http_client();
    let mut seen = Vec::new();
    for _ in 0..2 {
        proxy.rate(7, 10, vec![ProxyFault::Answer(500), ProxyFault::Answer(503)]);
        let mut statuses = Vec::new();
        for _ in 0..300 {
            let answer = client
                .head(format!("{}/demo/none", proxy.url()))
                .send()
                .await
                .expect("an answer");
            statuses.push(answer.status().as_u16());
        }
        seen.push(statuses);
    }
    assert_eq!(seen[0], seen[1]);
    let hits = seen[0].iter().filter(|status| **status >= 500).count();
    assert!((15..=50).contains(&hits), "{hits} of 300");
    proxy.clear();
    assert_eq!(proxy.injected().values().sum::<u64>(), 2 * hits as u64);
}

/// An echo server, as anything that isn't HTTP.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn talk(socket: &mut TcpStream, bytes: usize) -> std::io::Result<usize> {
    socket.write_all(&vec![7; bytes]).await?;
    let mut back = vec![0; bytes];
    socket.read_exact(&mut back).await?;
    Ok(back.iter().filter(|byte| **byte == 7).count())
}

#[tokio::test]
async fn in_front_of_anything_else() {
    let proxy = FaultProxy::start_raw(echo().await).await.expect("a free port");
    let connect = async || TcpStream::connect(proxy.address()).await.expect("listens");
    let mut socket = connect().await;
    assert_eq!(talk(&mut socket, MIB).await.expect("passes"), MIB);
    // The end of one direction is passed on, and the other goes on.
    socket.shutdown().await.expect("open");
    assert_eq!(socket.read(&mut [0]).await.expect("an orderly end"), 0);

    for fault in [
        ProxyFault::Reset(Moment::BeforeRequest),
        ProxyFault::Reset(Moment::RequestBody),
        ProxyFault::Close(Moment::AnswerBody),
    ] {
        proxy.script([fault]);
        assert!(talk(&mut connect().await, 5000).await.is_err());
    }
    proxy.script([ProxyFault::CorruptAnswer]);
    assert_eq!(talk(&mut connect().await, 5000).await.expect("passes"), 4999);

    let mut open = connect().await;
    talk(&mut open, 10).await.expect("passes");
    proxy.pause();
    let silent = tokio::time::timeout(Duration::from_millis(300), talk(&mut open, 10)).await;
    assert!(silent.is_err());
    proxy.resume().await;
    let mut rest = [0; 10];
    open.read_exact(&mut rest).await.expect("what was held back");
    proxy.cut();
    assert!(talk(&mut open, 10).await.is_err());
    proxy.refuse().await;
    assert!(TcpStream::connect(proxy.address()).await.is_err());
    proxy.accept_again().await;
    talk(&mut connect().await, 10).await.expect("passes");
}
