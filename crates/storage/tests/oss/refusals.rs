//! Wrong keys, clocks, names and addresses.

use jiff::SignedDuration;
use zhuji_config::Secret;
use zhuji_storage::{
    Addressing, ErrorKind, ListOptions, OssClientKind, SignOptions, Storage, StorageConfig, StorageFactory,
};
use zhuji_testkit::oss::{Fault, HostStyle, OssCredentials, OssServer, OssServerOptions};

use crate::{connect, start, support::storage_config};

async fn with(server: &OssServer, name: &str, value: &str) -> Storage {
    connect(server, &server.endpoint(), &[(name, value)]).await
}

#[tokio::test]
async fn each_wrong_setting_has_its_own_error() {
    let (server, _) = start(&[]).await;
    for (name, value, kind) in [
        ("OSS_ACCESS_KEY_SECRET", "wrong", ErrorKind::Signature),
        ("OSS_ACCESS_KEY_ID", "LTAIunknown", ErrorKind::Credential),
        ("OSS_BUCKET", "no-such-bucket", ErrorKind::Config),
        ("OSS_SECURITY_TOKEN", "stale", ErrorKind::Credential),
    ] {
        let variables = [
            ("STORAGE_TYPE", "oss"),
            ("OSS_REGION", server.region()),
            ("OSS_BUCKET", server.bucket()),
            ("OSS_ACCESS_KEY_ID", server.access_key_id()),
            ("OSS_ACCESS_KEY_SECRET", server.access_key_secret()),
        ];
        let endpoint = server.endpoint();
        let mut variables: Vec<_> = variables
            .into_iter()
            .filter(|(known, _)| *known != name)
            .collect();
        variables.extend([("OSS_ENDPOINT", endpoint.as_str()), (name, value)]);
        let storage = StorageFactory::new()
            .build(&storage_config(&variables))
            .await
            .unwrap();
        for error in [
            storage.check().await.unwrap_err(),
            storage.upload("a", "x").await.unwrap_err(),
            storage.metadata("a").await.unwrap_err(),
            storage.delete("a").await.unwrap_err(),
            storage.list("", ListOptions::new()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert!(error.request_id().is_some(), "{name}: {error}");
            assert!(error.to_string().contains("; "), "says what to do: {error}");
        }
    }
}

#[tokio::test]
async fn a_wrong_region_is_refused() {
    let (server, _) = start(&[]).await;
    let mut config = crate::support::oss_config(&server, &server.endpoint(), &[]);
    config.oss.region = Some("cn-beijing".to_owned());
    let storage = StorageFactory::new().build(&config).await.unwrap();
    let error = storage.upload("a", "x").await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Signature | ErrorKind::Denied | ErrorKind::InvalidInput
        ),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_by_the_servers() {
    let (server, storage) = start(&[]).await;
    for hours in [5, -5, 0] {
        server.set_clock_offset(SignedDuration::from_hours(hours));
        server.clear_requests();
        storage.upload("a", "x").await.unwrap();
        assert_eq!(storage.download("a").await.unwrap(), "x");
        assert!(
            server.requests().len() <= 3,
            "one refusal, and the clock is known"
        );
        // Signed URLs are good by the server's clock too.
        let url = storage.signed_url("a", SignOptions::get()).await.unwrap();
        let answer = zhuji_testkit::http_client()
            .get(url.as_str())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{hours} h");
    }
}

#[tokio::test]
async fn temporary_keys() {
    let token = "CAIS+temporary/token==";
    let (server, _) = start(&[]).await;
    server.add_credentials(OssCredentials {
        access_key_id: "STS.temporary".to_owned(),
        access_key_secret: "temporarysecret".to_owned(),
        security_token: Some(token.to_owned()),
    });
    for version in ["v4", "v1"] {
        let mut config =
            crate::support::oss_config(&server, &server.endpoint(), &[("OSS_SIGNATURE_VERSION", version)]);
        config.oss.access_key_id = Some("STS.temporary".to_owned().into());
        config.oss.access_key_secret = Some("temporarysecret\n".to_owned().into());
        config.oss.security_token = Some(token.to_owned().into());
        let storage = StorageFactory::new().build(&config).await.unwrap();
        storage.upload("文 a", "x").await.unwrap();
        assert_eq!(storage.download("文 a").await.unwrap(), "x");
        let url = storage.signed_url("文 a", SignOptions::get()).await.unwrap();
        let answer = zhuji_testkit::http_client()
            .get(url.as_str())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{version}");
        let put = storage
            .signed_url("b", SignOptions::put("text/plain"))
            .await
            .unwrap();
        let request = zhuji_testkit::http_client()
            .put(put.as_str())
            .header("content-type", "text/plain");
        assert_eq!(request.body("x").send().await.unwrap().status(), 200, "{version}");
    }
    server.expire_credentials("STS.temporary");
    let mut config = crate::support::oss_config(&server, &server.endpoint(), &[]);
    config.oss.access_key_id = Some("STS.temporary".to_owned().into());
    config.oss.access_key_secret = Some("temporarysecret".to_owned().into());
    config.oss.security_token = Some(token.to_owned().into());
    let storage = StorageFactory::new().build(&config).await.unwrap();
    let error = storage.upload("a", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(!error.is_retryable(), "fixed keys don't get younger");
}

#[tokio::test]
async fn the_bucket_can_stand_in_the_host_name() {
    let (server, _) = start(&[]).await;
    let storage = connect(&server, &server.virtual_host_endpoint(), &[]).await;
    storage.upload("a b+c", "x").await.unwrap();
    assert_eq!(storage.download("a b+c").await.unwrap(), "x");
    assert_eq!(
        storage.list("", ListOptions::new()).await.unwrap().entries.len(),
        1
    );
    storage.copy("a b+c", "d").await.unwrap();
    assert!(
        storage
            .delete_many(["a b+c", "d"])
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.style == HostStyle::VirtualHost)
    );
}

#[tokio::test]
async fn a_custom_domain_signs_the_same_resource() {
    let (server, _) = start(&[]).await;
    let address = server.address();
    for version in ["v4", "v1"] {
        let storage = connect(
            &server,
            &server.endpoint(),
            &[
                ("STORAGE_PUBLIC_URL", "http://files.example.com:8080"),
                ("OSS_SIGNATURE_VERSION", version),
            ],
        )
        .await;
        storage.upload("文 a", "x").await.unwrap();
        assert_eq!(storage.url("文 a"), "http://files.example.com:8080/%E6%96%87%20a");
        let url = storage
            .signed_url("文 a", SignOptions::get())
            .await
            .unwrap()
            .into_string();
        // The browser resolves the domain to the server.
        let local = url.replace("files.example.com:8080", &address.to_string());
        let request = zhuji_testkit::http_client()
            .get(&local)
            .header("host", "files.example.com");
        let answer = request.send().await.unwrap();
        assert_eq!(
            answer.status(),
            200,
            "{version}: {}",
            answer.text().await.unwrap()
        );
    }
}

#[tokio::test]
async fn a_factory_that_is_told_nonsense_says_so() {
    // Settings that were put together in code, past the check of the configuration.
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let good = crate::support::oss_config(&server, &server.endpoint(), &[]);
    type Spoil = fn(&mut StorageConfig);
    let nonsense: [(Spoil, &str); 6] = [
        (|config| config.kind = "s3".to_owned(), "STORAGE_TYPE"),
        (
            |config| {
                config.kind = "memory".to_owned();
                config.signing_key = Some(Secret::new("two words"));
            },
            "STORAGE_SIGNING_KEY",
        ),
        (|config| config.public_prefixes = vec![String::new()], "key"),
        (
            |config| {
                config.oss.client = OssClientKind::Sdk;
                config.oss.security_token = Some(Secret::new("two words"));
            },
            // Refused as a whole, or for what it can't do.
            if cfg!(feature = "oss-sdk") {
                "OSS_SECURITY_TOKEN"
            } else {
                "OSS_CLIENT"
            },
        ),
        (
            |config| config.oss.addressing = Addressing::Virtual,
            "OSS_ENDPOINT",
        ),
        (
            |config| config.oss.security_token = Some(Secret::new("two words")),
            "OSS_ACCESS_KEY_ID",
        ),
    ];
    for (spoil, named) in nonsense {
        let mut config = good.clone();
        spoil(&mut config);
        let error = StorageFactory::new().build(&config).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Config | ErrorKind::InvalidKey),
            "{error}"
        );
        assert!(
            error.to_string().contains(named) && !error.to_string().contains("two words"),
            "{error}"
        );
    }
    // A name that a team has registered is known.
    let factory =
        StorageFactory::new().register("ours", |_| async { Ok(zhuji_storage::MemoryAdapter::new()) });
    let storage = factory
        .build(&storage_config(&[("STORAGE_TYPE", "ours")]))
        .await
        .unwrap();
    storage.upload("a", "x").await.unwrap();
    // And OSS works with a name before it, of a bucket that exists.
    with(&server, "STORAGE_CONCURRENCY", "3")
        .await
        .check()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bucket_that_blocks_public_access_is_told_with_the_remedy() {
    let (server, storage) = crate::start(&[("STORAGE_PUBLIC_PREFIXES", "avatars/")]).await;
    server.fail_next(Fault::status(403, "AccessDenied").times(2));
    let error = storage.upload("avatars/a.png", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("Block Public Access"), "{error}");
    let error = storage.upload("private.png", "x").await.unwrap_err();
    assert!(!error.to_string().contains("Block Public Access"), "{error}");
}
