//! Nothing prints a secret.

use std::{error::Error as _, fmt::Write as _};

use zhuji_storage::{ErrorKind, SignOptions, StorageFactory};
use zhuji_testkit::oss::{Fault, OssServer, OssServerOptions};

use crate::support::oss_config;

fn everything(error: &zhuji_storage::Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, " {error} {error:?}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn neither_display_nor_debug_of_anything() {
    let options = OssServerOptions {
        access_key_id: "LTAIprivatekeyid00".to_owned(),
        access_key_secret: "privatesecretprivatesecret".to_owned(),
        security_token: Some("privatetokenprivatetoken".to_owned()),
        ..OssServerOptions::default()
    };
    let server = OssServer::start(options).await.unwrap();
    let more = [
        ("OSS_SECURITY_TOKEN", "privatetokenprivatetoken"),
        ("STORAGE_SIGNING_KEY", "privatesigningkey00"),
    ];
    let config = oss_config(&server, &server.endpoint(), &more);
    let storage = StorageFactory::new().build(&config).await.unwrap();
    storage.upload("a", "x").await.unwrap();
    let url = storage.signed_url("a", SignOptions::get()).await.unwrap();

    let mut printed = format!(
        "{config:?} {storage:?} {:?} {url:?} {url:#?}",
        storage.scoped("asl")
    );
    for fault in [
        Fault::status(403, "SignatureDoesNotMatch"),
        Fault::status(403, "SecurityTokenExpired"),
        Fault::status(400, "InvalidArgument"),
        Fault::lose_answer().times(4),
        Fault::cut_download(1).times(4),
    ] {
        server.fail_next(fault);
        if let Err(error) = storage.download("a").await {
            printed.push_str(&everything(&error));
        }
        server.clear_faults();
    }
    // The server repeats what was signed when a signature is wrong, the token included.
    let mut wrong = config.clone();
    wrong.oss.access_key_secret = Some("anothersecretanothersecret".to_owned().into());
    for version in [
        zhuji_storage::SignatureVersion::V4,
        zhuji_storage::SignatureVersion::V1,
    ] {
        wrong.oss.signature_version = version;
        let refused = StorageFactory::new().build(&wrong).await.unwrap();
        let error = refused.upload("a", "x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Signature);
        printed.push_str(&everything(&error));
    }
    let mut nowhere = config.clone();
    nowhere.oss.endpoint = Some("http://127.0.0.1:9".to_owned());
    let error = StorageFactory::new()
        .build(&nowhere)
        .await
        .unwrap()
        .upload("a", "x")
        .await
        .unwrap_err();
    printed.push_str(&everything(&error));

    for secret in [
        "LTAIprivatekeyid00",
        "privatesecret",
        "privatetoken",
        "privatesigningkey",
        "anothersecret",
        "x-oss-signature=",
        "Signature=",
    ] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
    assert!(
        url.as_str().contains("x-oss-signature="),
        "what is asked for is given"
    );
}
