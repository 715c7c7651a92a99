//! What a browser or an attacker sees of served objects, beyond what the conformance suite asks.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use zhuji_storage::{
    BoxError, PutOptions, SignOptions, Storage, StorageFactory,
    serve::{ObjectServer, ServeBody},
};

use crate::support::storage_config;

async fn public_avatars() -> (Storage, ObjectServer) {
    serving(&[("STORAGE_PUBLIC_PREFIXES", "avatars/,open")]).await
}

async fn serving(more: &[(&str, &str)]) -> (Storage, ObjectServer) {
    let mut variables = vec![("STORAGE_TYPE", "memory")];
    variables.extend_from_slice(more);
    let config = storage_config(&variables);
    let storage = StorageFactory::new().build(&config).await.unwrap();
    let server = ObjectServer::new(&storage).unwrap();
    (storage, server)
}

async fn ask(server: &ObjectServer, request: http::request::Builder) -> Response<ServeBody> {
    ask_with(server, request, stream::empty::<Result<Bytes, BoxError>>()).await
}

async fn ask_with(
    server: &ObjectServer,
    request: http::request::Builder,
    body: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Response<ServeBody> {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let key = parts.uri.path().strip_prefix("/uploads/").unwrap_or_default();
    match server.serve(key, &parts, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn text(response: Response<ServeBody>) -> String {
    let chunks: Vec<Bytes> = response.into_body().map(Result::unwrap).collect().await;
    String::from_utf8(chunks.concat()).unwrap()
}

fn get(path: &str) -> http::request::Builder {
    Request::get(path)
}

#[tokio::test]
async fn only_public_prefixes_are_public() {
    let (storage, server) = public_avatars().await;
    for key in ["avatars/1.png", "open-file", "private/1.png", "avatar"] {
        storage.upload(key, "x").await.unwrap();
    }
    for (path, status) in [
        ("/uploads/avatars/1.png", 200),
        ("/uploads/avatars/1.png?v=2", 200),
        ("/uploads/open-file", 200),
        ("/uploads/avatars/missing", 404),
        ("/uploads/private/1.png", 403),
        ("/uploads/private/missing", 403),
        ("/uploads/avatar", 403),
        ("/uploads/avatars/../private/1.png", 404),
        ("/uploads/avatars%2f..%2fprivate/1.png", 404),
        ("/uploads/avatars/%00", 404),
        ("/uploads/avatars/%ff", 404),
        ("/uploads/.zhuji/signing.key", 404),
        ("/uploads/", 404),
    ] {
        assert_eq!(ask(&server, get(path)).await.status().as_u16(), status, "{path}");
    }
    let head = ask(&server, Request::head("/uploads/avatars/1.png")).await;
    assert_eq!(
        (
            head.status().as_u16(),
            head.headers()["content-length"].to_str().unwrap()
        ),
        (200, "1")
    );
    // A public object can be read by all and written by none.
    assert_eq!(
        ask(&server, Request::put("/uploads/avatars/1.png"))
            .await
            .status(),
        StatusCode::FORBIDDEN
    );
    // Nor can a link dress it up without a signature.
    let dressed = ask(
        &server,
        get("/uploads/avatars/1.png?response-content-type=text/html"),
    )
    .await;
    assert_eq!(dressed.headers()["content-type"], "image/png");
}

#[tokio::test]
async fn refusals_are_problem_documents() {
    let (_, server) = public_avatars().await;
    let response = ask(&server, get("/uploads/private")).await;
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        (&problem["status"], &problem["title"]),
        (&403.into(), &"Forbidden".into())
    );
    let response = ask(&server, Request::delete("/uploads/avatars/1.png")).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["allow"], "GET, HEAD, PUT, OPTIONS");
}

#[tokio::test]
async fn an_object_can_not_act_as_a_page_of_the_service() {
    let (storage, server) = public_avatars().await;
    for (key, content_type, sandboxed) in [
        ("avatars/a.html", "text/html", true),
        ("avatars/a.svg", "image/svg+xml", true),
        ("avatars/a.pdf", "application/pdf", false),
        ("avatars/a.png", "image/png", false),
    ] {
        storage.upload(key, "<script>alert(1)</script>").await.unwrap();
        let response = ask(&server, get(&format!("/uploads/{key}"))).await;
        let headers = response.headers();
        assert_eq!(headers["content-type"], content_type);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(
            headers.contains_key("content-security-policy"),
            sandboxed,
            "{key}"
        );
    }
}

#[tokio::test]
async fn ranges_and_conditions() {
    let (storage, server) = public_avatars().await;
    let etag = storage.upload("avatars/r", "0123456789").await.unwrap().etag;
    let with = |name: &str, value: &str| get("/uploads/avatars/r").header(name, value);
    for (range, status, content) in [
        ("bytes=0-3", 206, "0123"),
        ("bytes=-3", 206, "789"),
        ("bytes=8-", 206, "89"),
        ("bytes=0-3,5-6", 200, "0123456789"),
        ("items=0-3", 200, "0123456789"),
        ("bytes=3-1", 200, "0123456789"),
    ] {
        let response = ask(&server, with("range", range)).await;
        assert_eq!(response.status().as_u16(), status, "{range}");
        assert_eq!(text(response).await, content, "{range}");
    }
    let response = ask(&server, with("range", "bytes=10-")).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(response.headers()["content-range"], "bytes */10");
    for (tag, status) in [
        (format!("\"{etag}\""), 304),
        (format!("\"x\", W/\"{etag}\""), 304),
        ("*".into(), 304),
        ("\"x\"".into(), 200),
    ] {
        assert_eq!(
            ask(&server, with("if-none-match", &tag)).await.status().as_u16(),
            status,
            "{tag}"
        );
    }
    for (tag, status) in [(format!("\"{etag}\""), 206), ("\"x\"".into(), 200)] {
        let response = ask(&server, with("range", "bytes=0-3").header("if-range", &tag)).await;
        assert_eq!(response.status().as_u16(), status, "{tag}");
    }
}

#[tokio::test]
async fn uploads_have_a_limit_and_leave_nothing_when_they_break() {
    let (storage, server) = serving(&[("STORAGE_MAX_UPLOAD", "10")]).await;
    let signed = async |key: &str| {
        let url = storage
            .signed_url(key, SignOptions::put("text/plain"))
            .await
            .unwrap();
        let path = url
            .as_str()
            .strip_prefix("http://localhost:3001")
            .unwrap()
            .to_owned();
        Request::put(path).header("content-type", "text/plain")
    };
    let chunks = |texts: &'static [&'static str]| {
        stream::iter(
            texts
                .iter()
                .map(|text| Ok::<_, BoxError>(Bytes::from_static(text.as_bytes()))),
        )
    };
    // Declared, and found out on the way.
    let declared = signed("a").await.header("content-length", "11");
    assert_eq!(
        ask(&server, declared).await.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let response = ask_with(&server, signed("a").await, chunks(&["01234", "56789", "x"])).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // Cut off.
    let cut = chunks(&["0123"]).chain(stream::iter([Err("connection reset".into())]));
    assert_eq!(
        ask_with(&server, signed("a").await, cut).await.status(),
        StatusCode::BAD_REQUEST
    );
    let short = signed("a").await.header("content-length", "9");
    assert_eq!(
        ask_with(&server, short, chunks(&["0123"])).await.status(),
        StatusCode::BAD_REQUEST
    );
    assert!(!storage.exists("a").await.unwrap());
    let whole = signed("a").await.header("content-length", "10");
    let response = ask_with(&server, whole, chunks(&["01234", "56789"])).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(storage.metadata("a").await.unwrap().content_type, "text/plain");
}

#[tokio::test]
async fn a_scoped_handle_gives_urls_that_the_server_understands() {
    let (storage, server) = public_avatars().await;
    let asl = storage.scoped("asl");
    asl.upload_with("a.pdf", "x", PutOptions::new().download_name("文.pdf"))
        .await
        .unwrap();
    let url = asl.signed_url("a.pdf", SignOptions::get()).await.unwrap();
    let path = url.as_str().strip_prefix("http://localhost:3001").unwrap();
    assert!(path.starts_with("/uploads/asl/a.pdf?"));
    let response = ask(&server, get(path)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
}

#[tokio::test]
async fn a_store_that_serves_itself_needs_no_server() {
    let config = storage_config(&[
        ("STORAGE_TYPE", "oss"),
        ("OSS_REGION", "cn-hangzhou"),
        ("OSS_BUCKET", "demo"),
        ("OSS_ACCESS_KEY_ID", "id"),
        ("OSS_ACCESS_KEY_SECRET", "secret"),
        ("OSS_ENDPOINT", "http://127.0.0.1:1"),
    ]);
    let storage = StorageFactory::new().build(&config).await.unwrap();
    assert!(ObjectServer::new(&storage).is_err());
}
