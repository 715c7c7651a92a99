//! Temporary credentials: from every source, renewed in time, and never in anybody's way.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use zhuji_storage::{
    Credentials, CredentialsProvider, CredentialsSource, CredentialsUri, EcsRole, ErrorKind, OidcRole,
    OssAdapter, PutOptions, RefreshingCredentials, RetryPolicy, SignOptions, Storage, layers::RetryLayer,
};
use zhuji_testkit::{
    FakeSts, StsEndpoint, StsFault,
    oss::{Fault, OssServer, OssServerOptions},
};

use crate::{operations, support::oss_config};

const MIB: usize = 1024 * 1024;

async fn servers() -> (OssServer, FakeSts) {
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let sts = FakeSts::start(&server).await.unwrap();
    (server, sts)
}

/// A store with credentials of this source, which waits for nothing.
fn store(server: &OssServer, credentials: &Arc<RefreshingCredentials>) -> Storage {
    let config = oss_config(server, &server.endpoint(), &[]);
    let adapter = OssAdapter::with_credentials(&config, Arc::clone(credentials) as _).unwrap();
    Storage::new(RetryLayer::new(Arc::new(adapter), RetryPolicy::default()))
}

fn kept(source: impl CredentialsSource) -> Arc<RefreshingCredentials> {
    Arc::new(RefreshingCredentials::new(source))
}

fn token_file(sts: &FakeSts) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), sts.oidc_token() + "\n").unwrap();
    file
}

fn oidc(sts: &FakeSts, file: &tempfile::NamedTempFile) -> OidcRole {
    OidcRole::new(sts.role_arn(), sts.oidc_provider_arn(), file.path()).endpoint(&sts.url())
}

fn uri(sts: &FakeSts) -> CredentialsUri {
    CredentialsUri::new(&sts.credentials_uri())
}

async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !met().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_source_leads_to_oss() {
    let (server, sts) = servers().await;
    let file = token_file(&sts);
    let sources = [
        kept(oidc(&sts, &file)),
        kept(EcsRole::new(None).endpoint(&sts.url())),
        kept(EcsRole::new(Some(sts.role_name())).endpoint(&sts.url())),
        kept(uri(&sts)),
    ];
    for credentials in sources {
        let storage = store(&server, &credentials);
        storage.upload("a", "x").await.unwrap();
        assert_eq!(storage.download("a").await.unwrap(), "x", "{credentials:?}");
        let url = storage
            .signed_url("a", SignOptions::get().expires(Duration::from_secs(7000)))
            .await
            .unwrap();
        assert!(url.as_str().contains("x-oss-security-token="));
        let left = url.expires_at.as_second() - jiff::Timestamp::now().as_second();
        assert!(left <= 3600, "it ends with the credentials: {left} s");
        let fetched = zhuji_testkit::http_client()
            .get(url.as_str())
            .send()
            .await
            .unwrap();
        assert_eq!(fetched.status(), 200);
        for issued in sts.issued() {
            let shown = format!(
                "{credentials:?} {storage:?} {:?}",
                credentials.credentials().await.unwrap()
            );
            assert!(!shown.contains(&issued.access_key_secret) && !shown.contains(&issued.access_key_id));
        }
    }
    // Two questions in the hardened mode where the name is known, three where it isn't.
    let asked = |endpoint| sts.asked(endpoint);
    assert_eq!(
        [
            asked(StsEndpoint::MetadataToken),
            asked(StsEndpoint::MetadataRole),
            asked(StsEndpoint::MetadataCredentials)
        ],
        [2, 1, 2]
    );
    assert_eq!(
        (asked(StsEndpoint::AssumeRole), asked(StsEndpoint::CredentialsUri)),
        (1, 1)
    );
}

#[tokio::test]
async fn an_old_metadata_service_is_asked_without_a_token() {
    let (server, sts) = servers().await;
    sts.set_metadata_token_required(false);
    for fault in [
        StsFault::status(404, "NotFound"),
        StsFault::status(403, "Forbidden"),
        StsFault::drop_connection(),
    ] {
        sts.fail_next(fault.on(StsEndpoint::MetadataToken));
        let storage = store(&server, &kept(EcsRole::new(None).endpoint(&sts.url())));
        storage.upload("a", "x").await.unwrap();
    }
    // An instance without a role, and something else at that address.
    for (fault, endpoint) in [
        (StsFault::status(404, "NotFound"), StsEndpoint::MetadataRole),
        (StsFault::answer(""), StsEndpoint::MetadataRole),
        (
            StsFault::answer("<html><body>portal</body></html>"),
            StsEndpoint::MetadataRole,
        ),
        (
            StsFault::answer("{\"Code\":\"Failed\"}"),
            StsEndpoint::MetadataCredentials,
        ),
        (StsFault::answer("<html>"), StsEndpoint::MetadataCredentials),
    ] {
        sts.fail_next(fault.on(endpoint));
        let storage = store(&server, &kept(EcsRole::new(None).endpoint(&sts.url())));
        let error = storage.upload("a", "x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential, "{error}");
    }
}

#[tokio::test]
async fn refusals_name_the_cause_and_no_secret() {
    let (server, sts) = servers().await;
    let file = token_file(&sts);
    let old = sts.oidc_token();
    sts.rotate_oidc_token();
    let storage = store(&server, &kept(oidc(&sts, &file)));
    let error = storage.upload("a", "x").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Credential, Some(401)));
    assert_eq!(error.code(), Some("AuthenticationFail.OIDCToken.Expired"));
    assert!(
        error.request_id().is_some() && error.to_string().contains("trust policy"),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains(&old));
    // The platform has written the new one; nobody has to be restarted.
    std::fs::write(file.path(), sts.oidc_token()).unwrap();
    storage.upload("a", "x").await.unwrap();
    drop(file);
    let gone = store(
        &server,
        &kept(OidcRole::new("role", "provider", "/nowhere/token").endpoint(&sts.url())),
    );
    let error = gone.upload("a", "x").await.unwrap_err();
    assert!(
        error.to_string().contains("ALIBABA_CLOUD_OIDC_TOKEN_FILE"),
        "{error}"
    );
    // A service that is ill is another thing than one that refuses.
    sts.fail_next(StsFault::status(503, "ServiceUnavailable").times(9));
    let error = store(&server, &kept(uri(&sts)))
        .upload("a", "x")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let secret = CredentialsUri::new("http://127.0.0.1:9/?key=verysecret");
    let error = store(&server, &kept(secret)).upload("a", "x").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && !format!("{error} {error:?}").contains("verysecret"));
}

#[tokio::test]
async fn many_callers_ask_once_also_when_it_fails() {
    let (server, sts) = servers().await;
    sts.fail_next(StsFault::delay(Duration::from_millis(200)).on(StsEndpoint::CredentialsUri));
    let credentials = kept(uri(&sts));
    let all = join_all((0..50).map(|_| credentials.credentials())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(sts.asked(StsEndpoint::CredentialsUri), 1);
    drop(all);
    let credentials = kept(uri(&sts));
    sts.fail_next(StsFault::status(500, "InternalError").times(99));
    let all = join_all((0..50).map(|_| credentials.credentials())).await;
    assert!(all.iter().all(|found| {
        found
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Unavailable)
    }));
    assert_eq!(
        sts.asked(StsEndpoint::CredentialsUri),
        2,
        "one failure for everybody who waited"
    );
    sts.clear_faults();
    store(&server, &credentials).upload("a", "x").await.unwrap();
}

#[tokio::test]
async fn credentials_that_end_too_early_are_replaced_without_a_failure() {
    let (server, sts) = servers().await;
    // So short that OSS refuses them before they are due.
    sts.set_life(Duration::from_secs(1));
    let credentials = kept(uri(&sts));
    let first = credentials.credentials().await.unwrap();
    sts.set_life(Duration::from_secs(3600));
    drop(first);
    let slow = StsFault::delay(Duration::from_secs(2)).on(StsEndpoint::CredentialsUri);
    sts.fail_next(slow);
    let storage = store(&server, &credentials);
    // Then one request waits, and nothing fails.
    until("renewed", async || {
        storage.upload("a", "x").await.unwrap();
        sts.asked(StsEndpoint::CredentialsUri) == 2
    })
    .await;
    let issued = sts.issued();
    assert_eq!(issued.len(), 2);
}

/// A source whose answers live as long as it is told, and take their time.
#[derive(Debug)]
struct Slow {
    asked: Arc<std::sync::atomic::AtomicUsize>,
    fail_from: usize,
}

#[async_trait::async_trait]
impl CredentialsSource for Slow {
    async fn fetch(&self) -> zhuji_storage::Result<Credentials> {
        let number = self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if number >= 1 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if number >= self.fail_from {
            let why = "no credentials today";
            return Err(zhuji_storage::Error::new(
                ErrorKind::Unavailable,
                "asking",
                "test",
                why,
            ));
        }
        // Renewed when half of it is over.
        let life = if number == 0 { 10 } else { 3600 };
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(life);
        Ok(Credentials::new(&format!("id{number}"), "secret").with_token("token", Some(end)))
    }
}

#[tokio::test]
async fn the_old_ones_serve_while_new_ones_are_fetched_and_when_that_fails() {
    for fail_from in [1, 99] {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let credentials = kept(Slow {
            asked: Arc::clone(&asked),
            fail_from,
        });
        let first = credentials.credentials().await.unwrap();
        let mut slowest = Duration::ZERO;
        let mut seen_new = false;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(8) && !seen_new {
            let call = Instant::now();
            let now = credentials.credentials().await.unwrap();
            slowest = slowest.max(call.elapsed());
            seen_new = now.expires_at() != first.expires_at();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            slowest < Duration::from_millis(400),
            "somebody waited {slowest:?}"
        );
        let asked = asked.load(std::sync::atomic::Ordering::SeqCst);
        assert!(
            (2..=5).contains(&asked),
            "asked {asked} times: once, and again after a pause"
        );
        assert_eq!(seen_new, fail_from == 99);
    }
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_of_an_upload_costs_nothing() {
    let (server, sts) = servers().await;
    let credentials = kept(uri(&sts));
    let storage = store(&server, &credentials);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    std::fs::write(&path, crate::support::noise(40 * MIB)).unwrap();
    for from_file in [false, true] {
        server.clear_requests();
        let before = sts.issued().len();
        storage.exists("warm").await.unwrap();
        let current = sts.issued().last().unwrap().access_key_id.clone();
        server.fail_next(
            Fault::delay(Duration::from_millis(30))
                .on_operation("UploadPart")
                .times(99),
        );
        let expire = async {
            until("parts", async || {
                operations(&server)
                    .iter()
                    .filter(|name| *name == "UploadPart")
                    .count()
                    >= 2
            })
            .await;
            server.expire_credentials(&current);
        };
        let upload = async {
            if from_file {
                storage.upload_file("a", &path, ()).await.unwrap()
            } else {
                let chunks = (0..40).map(|index| io::Result::Ok(Bytes::from(vec![index as u8; MIB])));
                storage
                    .upload_stream("a", stream::iter(chunks), PutOptions::new())
                    .await
                    .unwrap()
            }
        };
        let (stored, ()) = tokio::join!(upload, expire);
        server.clear_faults();
        assert_eq!(stored.size, 40 * MIB as u64);
        assert_eq!(storage.metadata("a").await.unwrap().crc64, stored.crc64);
        assert_eq!(sts.issued().len(), before.max(1) + 1, "one renewal for all parts");
        let refused = server
            .requests()
            .into_iter()
            .filter(|request| request.status == 403)
            .count();
        assert!(
            (1..=4).contains(&refused),
            "{refused} refusals, one for each part on its way"
        );
        assert_eq!(server.uploads_open(), 0);
    }
}

#[tokio::test]
async fn refused_temporary_keys_are_renewed_once_for_every_kind_of_request() {
    let (server, sts) = servers().await;
    let credentials = kept(uri(&sts));
    let storage = store(&server, &credentials);
    let expire = || server.expire_credentials(&sts.issued().last().unwrap().access_key_id);
    storage.upload("a", "x").await.unwrap();
    expire();
    // Refused means that nothing was done: a write that may only create is repeated too.
    storage
        .upload_with("new", "x", PutOptions::new().create_only())
        .await
        .unwrap();
    expire();
    assert_eq!(storage.download("a").await.unwrap(), "x");
    expire();
    storage.metadata("a").await.unwrap();
    expire();
    storage.copy("a", "b").await.unwrap();
    expire();
    assert!(storage.delete_many(["b"]).await[0].is_ok());
    expire();
    storage.delete("a").await.unwrap();
    // OSS has more than one word for it.
    for code in [
        "SecurityTokenExpired",
        "InvalidAccessKeyId",
        "InvalidSecurityToken",
    ] {
        let before = sts.issued().len();
        server.fail_next(Fault::status(403, code));
        storage.upload("c", "x").await.unwrap();
        assert_eq!(sts.issued().len(), before + 1, "{code}");
        // New ones that are refused as well are a fault of another kind.
        server.fail_next(Fault::status(403, code).times(2));
        let error = storage.upload("c", "x").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Credential, false),
            "{code}: {error}"
        );
        server.clear_faults();
    }
}

#[test]
fn a_metadata_service_is_only_asked_for_by_name() {
    let variables = |more: &[(&'static str, &'static str)]| {
        let mut all = vec![
            ("STORAGE_TYPE", "oss"),
            ("OSS_REGION", "cn-hangzhou"),
            ("OSS_BUCKET", "demo"),
        ];
        all.extend_from_slice(more);
        all
    };
    let build = |more: &[(&'static str, &'static str)]| {
        let config = zhuji_config::load_from_pairs(variables(more)).map_err(|report| report.to_string())?;
        OssAdapter::new(&config).map_err(|error| error.to_string())
    };
    let refused = build(&[]).unwrap_err();
    assert!(
        refused.contains("OSS_ACCESS_KEY_ID") && refused.contains("ALIBABA_CLOUD_ECS_METADATA"),
        "{refused}"
    );
    build(&[("ALIBABA_CLOUD_ECS_METADATA", "auto")]).unwrap();
    build(&[("ALIBABA_CLOUD_ECS_METADATA", "my-role")]).unwrap();
    build(&[("ALIBABA_CLOUD_CREDENTIALS_URI", "http://127.0.0.1:9/")]).unwrap();
}
