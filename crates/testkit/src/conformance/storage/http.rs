//! Signed URLs, fetched as a browser would.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use zhuji_storage::{ErrorKind, PutOptions, SignMethod, SignOptions};

use super::{Case, kind};

async fn get(case: &Case, url: &str) -> Response {
    case.http.get(url).send().await.unwrap()
}

async fn signed(case: &Case, key: &str, options: SignOptions) -> String {
    case.storage.signed_url(key, options).await.unwrap().into_string()
}

pub(super) async fn signed_get(case: Case) {
    case.storage.upload("文献/a b+c.pdf", "content").await.unwrap();
    let url = case
        .storage
        .signed_url("文献/a b+c.pdf", SignOptions::get())
        .await
        .unwrap();
    assert_eq!(url.method, SignMethod::Get);
    assert!(url.headers.is_empty());
    let left = url.time_left();
    assert!(
        left > Duration::from_secs(3500) && left <= Duration::from_secs(3601),
        "{left:?}"
    );
    assert!(
        !format!("{url:?}").contains("ignature="),
        "Debug shows the signature"
    );
    let answer = get(&case, url.as_str()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/pdf");
    assert_eq!(answer.headers()["content-length"], "7");
    let etag = case.storage.metadata("文献/a b+c.pdf").await.unwrap().etag;
    assert_eq!(answer.headers()["etag"].to_str().unwrap().trim_matches('"'), etag);
    assert_eq!(answer.text().await.unwrap(), "content");
}

pub(super) async fn signed_name(case: Case) {
    case.storage.upload("1.pdf", "x").await.unwrap();
    let options = SignOptions::get()
        .download_name("心脏 病\".pdf")
        .response_content_type("application/x-test");
    let url = signed(&case, "1.pdf", options).await;
    let answer = get(&case, &url).await;
    assert_eq!(answer.status(), 200);
    let disposition = answer.headers()["content-disposition"].to_str().unwrap();
    assert!(
        disposition.starts_with("attachment; filename=\""),
        "{disposition}"
    );
    assert!(
        disposition.ends_with("filename*=UTF-8''%E5%BF%83%E8%84%8F%20%E7%97%85%22.pdf"),
        "{disposition}"
    );
    assert_eq!(answer.headers()["content-type"], "application/x-test");
    let inline = url.replace("attachment", "inline");
    assert_eq!(get(&case, &inline).await.status(), StatusCode::FORBIDDEN);
}

pub(super) async fn signed_range(case: Case) {
    case.storage.upload("r", "0123456789").await.unwrap();
    let url = signed(&case, "r", SignOptions::get()).await;
    let answer = case
        .http
        .get(&url)
        .header("range", "bytes=2-4")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.headers()["content-range"], "bytes 2-4/10");
    assert_eq!(answer.text().await.unwrap(), "234");
    let etag = get(&case, &url).await.headers()["etag"].clone();
    let cached = case
        .http
        .get(&url)
        .header("if-none-match", etag)
        .send()
        .await
        .unwrap();
    assert_eq!(cached.status(), StatusCode::NOT_MODIFIED);
}

pub(super) async fn signed_head(case: Case) {
    case.storage.upload("h.pdf", "0123").await.unwrap();
    let url = signed(
        &case,
        "h.pdf",
        SignOptions {
            method: SignMethod::Head,
            ..SignOptions::get()
        },
    )
    .await;
    let answer = case.http.head(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-length"], "4");
    assert_eq!(get(&case, &url).await.status(), StatusCode::FORBIDDEN);
}

pub(super) async fn expired(case: Case) {
    case.storage.upload("e", "x").await.unwrap();
    let url = signed(&case, "e", SignOptions::get().expires(Duration::from_secs(1))).await;
    let put = signed(
        &case,
        "p",
        SignOptions::put("text/plain").expires(Duration::from_secs(1)),
    )
    .await;
    assert_eq!(get(&case, &url).await.status(), 200, "it is valid at first");
    tokio::time::sleep(Duration::from_millis(3200)).await;
    assert_eq!(get(&case, &url).await.status(), StatusCode::FORBIDDEN);
    let answer = case
        .http
        .put(&put)
        .header("content-type", "text/plain")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(!case.storage.exists("p").await.unwrap());
}

pub(super) async fn tampered(case: Case) {
    for key in ["a.txt", "b.txt"] {
        case.storage.upload(key, "x").await.unwrap();
    }
    let url = signed(&case, "a.txt", SignOptions::get()).await;
    assert_eq!(get(&case, &url).await.status(), 200);
    let (address, query) = url.split_once('?').unwrap();
    let (name, value) = query
        .split('&')
        .find_map(|pair| pair.split_once("xpires="))
        .unwrap();
    let later = query.replace(
        &format!("{name}xpires={value}"),
        &format!("{name}xpires={}", value.parse::<u64>().unwrap() + 9),
    );
    let flip = |text: &str| {
        let at = text.rfind("ignature=").unwrap() + "ignature=".len();
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    };
    for (what, changed) in [
        ("another key", url.replace("a.txt", "b.txt")),
        ("a later end", format!("{address}?{later}")),
        ("another signature", flip(&url)),
        (
            "a parameter more",
            format!("{url}&response-content-type=text%2Fhtml"),
        ),
    ] {
        let status = get(&case, &changed).await.status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{what}: {changed}");
    }
    // Incomplete ones may also be called malformed.
    for incomplete in [
        format!("{address}?{}", query.split('&').next().unwrap()),
        url[..url.len() - 10].to_owned(),
    ] {
        let status = get(&case, &incomplete).await.status();
        assert!(
            [StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST].contains(&status),
            "{status}: {incomplete}"
        );
    }
}

pub(super) async fn wrong_method(case: Case) {
    case.storage.upload("a.txt", "x").await.unwrap();
    let url = signed(&case, "a.txt", SignOptions::get()).await;
    for answer in [
        case.http.put(&url).body("y").send().await,
        case.http.head(&url).send().await,
    ] {
        assert_eq!(answer.unwrap().status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(case.storage.download("a.txt").await.unwrap(), "x");
}

pub(super) async fn unsigned(case: Case) {
    case.storage.upload("a.txt", "x").await.unwrap();
    let url = case.storage.url("a.txt");
    assert_eq!(get(&case, &url).await.status(), StatusCode::FORBIDDEN);
    let put = case.http.put(&url).body("y").send().await.unwrap();
    assert_eq!(put.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        get(&case, &case.storage.url("missing")).await.status(),
        StatusCode::FORBIDDEN,
        "no oracle"
    );
}

/// Everyone may read what is below a public prefix, however it came there; nobody may write it, and nothing else is public.
pub(super) async fn public(case: Case) {
    let public = case.public.clone().expect("only run where there is one");
    public.upload("名 a+b.png", "bytes").await.unwrap();
    let long = super::noise(9 << 20, 77);
    let pieces: Vec<Result<_, std::io::Error>> =
        long.chunks(1 << 20).map(|c| Ok(long.slice_ref(c))).collect();
    public
        .upload_stream("long.png", futures_util::stream::iter(pieces), PutOptions::new())
        .await
        .unwrap();
    public.copy("名 a+b.png", "copy.png").await.unwrap();
    let url = public
        .signed_url("sent.png", SignOptions::put("image/png"))
        .await
        .unwrap();
    let mut request = case.http.put(url.as_str()).body("bytes");
    for (name, value) in &url.headers {
        request = request.header(name, value);
    }
    let status = request.send().await.unwrap().status();
    assert!(status.is_success(), "{status}");
    for key in ["名 a+b.png", "long.png", "copy.png", "sent.png"] {
        let answer = get(&case, &public.url(key)).await;
        assert_eq!(answer.status(), 200, "{key}");
        assert_eq!(answer.headers()["content-type"], "image/png", "{key}");
        let expected = if key == "long.png" {
            long.clone()
        } else {
            "bytes".into()
        };
        assert!(answer.bytes().await.unwrap() == expected, "{key}");
        let put = case.http.put(public.url(key)).body("y").send().await.unwrap();
        assert_eq!(put.status(), StatusCode::FORBIDDEN, "{key}");
        // A signature is good for what it says here too.
        let signed = public.signed_url(key, SignOptions::get()).await.unwrap();
        assert_eq!(get(&case, signed.as_str()).await.status(), 200, "{key}");
    }
    // Only at the beginning of the whole key.
    let prefix = public.prefix().trim_end_matches('/').to_owned();
    case.storage.upload("private.png", "x").await.unwrap();
    case.storage
        .upload(&format!("{prefix}/below.png"), "x")
        .await
        .unwrap();
    for key in ["private.png".to_owned(), format!("{prefix}/below.png")] {
        let status = get(&case, &case.storage.url(&key)).await.status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{key}");
    }
}

pub(super) async fn signed_put(case: Case) {
    let url = case
        .storage
        .signed_url("上传/a b.pdf", SignOptions::put("application/pdf"))
        .await
        .unwrap();
    assert_eq!(
        url.headers,
        [("content-type".to_owned(), "application/pdf".to_owned())]
    );
    let bytes = super::noise(3_000_000, 10);
    let mut request = case.http.put(url.as_str()).body(bytes.clone());
    for (name, value) in &url.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let etag = answer.headers()["etag"]
        .to_str()
        .unwrap()
        .trim_matches('"')
        .to_owned();
    assert!(
        case.storage.download("上传/a b.pdf").await.unwrap() == bytes,
        "other bytes came back"
    );
    let metadata = case.storage.metadata("上传/a b.pdf").await.unwrap();
    assert_eq!(
        (metadata.etag, metadata.content_type.as_str()),
        (etag, "application/pdf")
    );
}

pub(super) async fn signed_put_type(case: Case) {
    let url = signed(&case, "a.pdf", SignOptions::put("application/pdf")).await;
    for content_type in [Some("text/html"), None] {
        let mut request = case.http.put(&url).body("x");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let status = request.send().await.unwrap().status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{content_type:?}");
    }
    assert!(!case.storage.exists("a.pdf").await.unwrap());
}

pub(super) async fn signed_put_no_type(case: Case) {
    let options = SignOptions {
        method: SignMethod::Put,
        ..SignOptions::default()
    };
    let url = signed(&case, "a.bin", options).await;
    let status = case
        .http
        .put(&url)
        .header("content-type", "text/html")
        .body("x")
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        case.http
            .put(&url)
            .body("x")
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    assert_eq!(case.storage.download("a.bin").await.unwrap(), "x");
}

pub(super) async fn missing_object(case: Case) {
    let url = signed(&case, "no/such", SignOptions::get()).await;
    assert_eq!(get(&case, &url).await.status(), StatusCode::NOT_FOUND);
}

pub(super) async fn sign_options(case: Case) {
    for options in [
        SignOptions::get().expires(Duration::ZERO),
        SignOptions::get().expires(Duration::from_secs(7 * 24 * 3600 + 1)),
        SignOptions {
            content_type: Some("text/plain".to_owned()),
            ..SignOptions::get()
        },
        SignOptions::put("text/plain").download_name("x"),
        SignOptions::put("text/plain\r\nx: y"),
        SignOptions::get().download_name(""),
    ] {
        let refused = case.storage.signed_url("a", options.clone()).await;
        assert_eq!(kind(refused), ErrorKind::InvalidInput, "{options:?}");
    }
    case.storage
        .signed_url(
            "a",
            SignOptions::get().expires(Duration::from_secs(7 * 24 * 3600)),
        )
        .await
        .unwrap();
}
