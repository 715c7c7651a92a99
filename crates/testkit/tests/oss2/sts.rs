//! The token service, the metadata service and the credentials URI.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use zhuji_testkit::oss::{OssServer, OssServerOptions};
use zhuji_testkit::{FakeSts, StsEndpoint, StsFault, http_client};

use crate::wire::Call;

async fn start() -> (OssServer, FakeSts) {
    let server = OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port");
    let sts = FakeSts::start(&server).await.expect("a free port");
    (server, sts)
}

/// The parameters of a proper request, with some of them replaced.
fn form(sts: &FakeSts, replaced: &[(&str, &str)]) -> String {
    let (now, nonce) = (Timestamp::now().to_string(), fastrand::u128(..).to_string());
    let token = sts.oidc_token();
    let mut form = vec![
        ("Action", "AssumeRoleWithOIDC"),
        ("Version", "2015-04-01"),
        ("Format", "JSON"),
        ("Timestamp", &now),
        ("SignatureNonce", &nonce),
        ("RoleArn", sts.role_arn()),
        ("OIDCProviderArn", sts.oidc_provider_arn()),
        ("OIDCToken", &token),
        ("RoleSessionName", "test"),
    ];
    for (name, value) in replaced {
        form.retain(|(n, _)| n != name);
        form.push((name, value));
    }
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}

async fn ask(sts: &FakeSts, form: String) -> (u16, Value) {
    let request = http_client()
        .post(sts.url())
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(form).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (
        status,
        serde_json::from_slice(&answer.bytes().await.expect("whole")).expect("JSON"),
    )
}

/// Whether the OSS server takes these credentials; the code of its refusal otherwise.
async fn accepted(server: &OssServer, credentials: &Value) -> Result<(), String> {
    let text = |name: &str| credentials[name].as_str().expect(name).to_owned();
    let answer = Call::new("PUT", "/demo/a")
        .header("x-oss-security-token", &text("SecurityToken"))
        .signed_as(&text("AccessKeyId"), &text("AccessKeySecret"))
        .send(server)
        .await;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(answer.code())
    }
}

#[tokio::test]
async fn a_role_is_assumed_for_a_while() {
    let (server, sts) = start().await;
    let (status, answer) = ask(&sts, form(&sts, &[])).await;
    assert_eq!(status, 200, "{answer}");
    let credentials = &answer["Credentials"];
    accepted(&server, credentials).await.expect("accepted");
    let query = http_client().get(format!("{}/?{}", sts.url(), form(&sts, &[])));
    assert_eq!(query.send().await.expect("an answer").status(), 200);

    // Both clocks move together: the cloud has one.
    server.set_clock_offset(SignedDuration::from_hours(2));
    assert_eq!(
        accepted(&server, credentials).await.expect_err("skewed"),
        "RequestTimeTooSkewed"
    );
    server.set_clock_offset(SignedDuration::ZERO);

    sts.set_life(Duration::from_millis(1));
    let (_, answer) = ask(&sts, form(&sts, &[])).await;
    let began = Instant::now();
    while accepted(&server, &answer["Credentials"]).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "never expires");
    }
    let refusal = accepted(&server, &answer["Credentials"]).await;
    assert_eq!(refusal.expect_err("expired"), "SecurityTokenExpired");
    accepted(&server, credentials)
        .await
        .expect("the first ones are good for an hour");
    assert_eq!((sts.asked(StsEndpoint::AssumeRole), sts.issued().len()), (3, 3));
}

#[tokio::test]
async fn what_the_token_service_refuses() {
    let (_server, sts) = start().await;
    let old = sts.oidc_token();
    sts.rotate_oidc_token();
    for (name, value, status, code) in [
        ("Action", "AssumeRole", 400, "InvalidAction.NotFound"),
        ("Version", "2014-01-01", 400, "InvalidVersion"),
        (
            "Timestamp",
            "2020-01-01T00:00:00Z",
            400,
            "InvalidTimeStamp.Expired",
        ),
        ("Timestamp", "", 400, "MissingTimestamp"),
        ("RoleArn", "acs:ram::1:role/other", 404, "EntityNotExist.Role"),
        (
            "OIDCProviderArn",
            "acs:ram::1:oidc-provider/other",
            401,
            "AuthenticationFail.NoPermission",
        ),
        (
            "OIDCToken",
            "eyJnonsense",
            401,
            "AuthenticationFail.OIDCToken.Invalid",
        ),
        (
            "OIDCToken",
            old.as_str(),
            401,
            "AuthenticationFail.OIDCToken.Expired",
        ),
        (
            "RoleSessionName",
            "not allowed",
            400,
            "InvalidParameter.RoleSessionName",
        ),
        ("DurationSeconds", "60", 400, "InvalidParameter.DurationSeconds"),
    ] {
        let (found, answer) = ask(&sts, form(&sts, &[(name, value)])).await;
        assert_eq!(
            (found, answer["Code"].as_str()),
            (status, Some(code)),
            "{name}={value}"
        );
        assert!(answer["RequestId"].is_string());
    }
    let twice = form(&sts, &[]);
    assert_eq!(ask(&sts, twice.clone()).await.0, 200);
    assert_eq!(ask(&sts, twice).await.1["Code"], "SignatureNonceUsed");
    assert_eq!(sts.issued().len(), 1);
}

#[tokio::test]
async fn an_instance_has_a_role_and_a_uri_has_credentials() {
    let (server, sts) = start().await;
    let client = http_client();
    let base = format!("{}/latest/meta-data/ram/security-credentials/", sts.url());
    assert_eq!(
        client.get(&base).send().await.expect("an answer").status(),
        403,
        "no token"
    );
    let token = client.put(format!("{}/latest/api/token", sts.url()));
    assert_eq!(
        token
            .try_clone()
            .expect("no body")
            .send()
            .await
            .expect("an answer")
            .status(),
        400
    );
    let token = token
        .header("X-aliyun-ecs-metadata-token-ttl-seconds", "21600")
        .send()
        .await;
    let token = token.expect("an answer").text().await.expect("whole");
    let get = |path: &str| {
        client
            .get(format!("{base}{path}"))
            .header("X-aliyun-ecs-metadata-token", &token)
            .send()
    };
    let role = get("").await.expect("an answer").text().await.expect("whole");
    assert_eq!(role, sts.role_name());
    assert_eq!(get("other").await.expect("an answer").status(), 404);
    let found = get(&role).await.expect("an answer").bytes().await.expect("whole");
    let found: Value = serde_json::from_slice(&found).expect("JSON");
    assert_eq!(found["Code"], "Success");
    accepted(&server, &found).await.expect("accepted");
    sts.set_metadata_token_required(false);
    assert_eq!(client.get(&base).send().await.expect("an answer").status(), 200);

    let found = client.get(sts.credentials_uri()).send().await.expect("an answer");
    let found: Value = serde_json::from_slice(&found.bytes().await.expect("whole")).expect("JSON");
    accepted(&server, &found).await.expect("accepted");
    let asked = [
        StsEndpoint::MetadataToken,
        StsEndpoint::MetadataRole,
        StsEndpoint::CredentialsUri,
    ];
    assert_eq!(asked.map(|endpoint| sts.asked(endpoint)), [2, 3, 1]);
}

#[tokio::test]
async fn it_fails_as_ordered() {
    let (_server, sts) = start().await;
    sts.fail_next(
        StsFault::status(503, "ServiceUnavailable")
            .times(2)
            .on(StsEndpoint::AssumeRole),
    );
    sts.fail_next(StsFault::answer("<html>").on(StsEndpoint::CredentialsUri));
    let uri = http_client()
        .get(sts.credentials_uri())
        .send()
        .await
        .expect("an answer");
    assert_eq!(uri.text().await.expect("whole"), "<html>");
    for _ in 0..2 {
        assert_eq!(ask(&sts, form(&sts, &[])).await.0, 503);
    }
    assert_eq!(ask(&sts, form(&sts, &[])).await.0, 200);
    sts.fail_next(StsFault::drop_connection());
    http_client()
        .get(sts.credentials_uri())
        .send()
        .await
        .expect_err("closed");
    sts.fail_next(StsFault::delay(Duration::from_millis(200)));
    let began = Instant::now();
    ask(&sts, form(&sts, &[])).await;
    assert!(began.elapsed() >= Duration::from_millis(200));
}
