//! One request: which endpoint it is for, whether it is right, what it gets.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{FakeSts, FaultKind, Shared, StsEndpoint};
use crate::oss::{OssCredentials, random};

pub(super) const ROLE_ARN: &str = "acs:ram::1234567890123456:role/zhuji-role";
pub(super) const PROVIDER_ARN: &str = "acs:ram::1234567890123456:oidc-provider/zhuji-idp";
const METADATA_ROLE: &str = "/latest/meta-data/ram/security-credentials/";
const LARGEST_BODY: usize = 128 * 1024;

/// A status and a body.
type Answer = (u16, String);

/// Tells hyper to drop the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed here by a fault")]
struct Closed;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| serve(Arc::clone(&shared), request));
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection to the token service ended");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    let body = http_body_util::Limited::new(body, LARGEST_BODY);
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let (status, text) = answer(&shared, &parts, &body).await?;
    let kind = if text.starts_with('{') {
        "application/json"
    } else {
        "text/plain"
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    Ok(response)
}

async fn answer(shared: &Shared, parts: &http::request::Parts, body: &[u8]) -> Result<Answer, Closed> {
    let path = parts.uri.path();
    let endpoint = match (&parts.method, path) {
        (&Method::POST | &Method::GET, "/" | "") => StsEndpoint::AssumeRole,
        (&Method::PUT, "/latest/api/token") => StsEndpoint::MetadataToken,
        (&Method::GET, "/credentials") => StsEndpoint::CredentialsUri,
        (&Method::GET, path) if path == METADATA_ROLE || format!("{path}/") == METADATA_ROLE => {
            StsEndpoint::MetadataRole
        }
        (&Method::GET, path) if path.starts_with(METADATA_ROLE) => StsEndpoint::MetadataCredentials,
        _ => return Ok((404, "not found".to_owned())),
    };
    match fault(shared, endpoint) {
        None => {}
        Some(FaultKind::Delay(by)) => tokio::time::sleep(by).await,
        Some(FaultKind::Drop) => return Err(Closed),
        Some(FaultKind::Answer(text)) => return Ok((200, text)),
        Some(FaultKind::Status(status, code)) => return Ok(refusal(status, &code, "Ordered by the test.")),
    }
    Ok(match endpoint {
        StsEndpoint::AssumeRole => assume_role(shared, parts, body).unwrap_or_else(|refusal| refusal),
        StsEndpoint::CredentialsUri => {
            let (credentials, end) = shared.issue();
            let mut document = document(&credentials, end);
            document["Code"] = json!("Success");
            (200, document.to_string())
        }
        _ => metadata(shared, endpoint, path, &parts.headers),
    })
}

fn fault(shared: &Shared, endpoint: StsEndpoint) -> Option<FaultKind> {
    let mut state = shared.lock();
    state.asked.push(endpoint);
    let hit = state
        .faults
        .iter_mut()
        .find(|fault| fault.times > 0 && fault.endpoint.is_none_or(|only| only == endpoint))?;
    hit.times -= 1;
    Some(hit.kind.clone())
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let request_id = format!("{:032X}", fastrand::u128(..));
    let document =
        json!({ "RequestId": request_id, "HostId": "sts.local", "Code": code, "Message": message });
    (status, document.to_string())
}

fn document(credentials: &OssCredentials, end: Timestamp) -> Value {
    json!({
        "AccessKeyId": credentials.access_key_id,
        "AccessKeySecret": credentials.access_key_secret,
        "SecurityToken": credentials.security_token,
        "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    })
}

/// Parameters of the query and of a form, decoded.
fn parameters(parts: &http::request::Parts, body: &[u8]) -> BTreeMap<String, String> {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    url::form_urlencoded::parse(query)
        .chain(url::form_urlencoded::parse(body))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

fn assume_role(shared: &Shared, parts: &http::request::Parts, body: &[u8]) -> Result<Answer, Answer> {
    let given = parameters(parts, body);
    let need = |name: &str| {
        given
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| refusal(400, &format!("Missing{name}"), &format!("{name} is mandatory.")))
    };
    let must_be = |name: &str, wanted: &str, code: &str| match need(name)? {
        found if found == wanted => Ok(()),
        _ => Err(refusal(400, code, &format!("{name} must be {wanted}."))),
    };
    must_be("Action", "AssumeRoleWithOIDC", "InvalidAction.NotFound")?;
    must_be("Version", "2015-04-01", "InvalidVersion")?;
    must_be("Format", "JSON", "InvalidParameter.Format")?;
    let time = need("Timestamp")?;
    let now = shared.server.now();
    let near = |at: Timestamp| now.duration_since(at).abs() <= SignedDuration::from_mins(15);
    if !time.parse().is_ok_and(near) {
        let message = "Specified time stamp or date value is expired.";
        return Err(refusal(400, "InvalidTimeStamp.Expired", message));
    }
    let nonce = need("SignatureNonce")?.to_owned();
    let session = need("RoleSessionName")?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".@-_".contains(&b);
    if !(2..=64).contains(&session.len()) || !session.bytes().all(allowed) {
        return Err(refusal(
            400,
            "InvalidParameter.RoleSessionName",
            "The session name is invalid.",
        ));
    }
    if let Some(seconds) = given.get("DurationSeconds") {
        let good = seconds
            .parse::<u64>()
            .is_ok_and(|seconds| (900..=43_200).contains(&seconds));
        if !good {
            return Err(refusal(
                400,
                "InvalidParameter.DurationSeconds",
                "900 to 43200 seconds are allowed.",
            ));
        }
    }
    if need("RoleArn")? != ROLE_ARN {
        return Err(refusal(404, "EntityNotExist.Role", "The role does not exist."));
    }
    if need("OIDCProviderArn")? != PROVIDER_ARN {
        let message = "No such OIDC Provider registered.";
        return Err(refusal(401, "AuthenticationFail.NoPermission", message));
    }
    let token = need("OIDCToken")?;
    {
        let mut state = shared.lock();
        if state.old_oidc_tokens.contains(token) {
            let message = "This JsonWebToken is expired.";
            return Err(refusal(401, "AuthenticationFail.OIDCToken.Expired", message));
        }
        if token != state.oidc_token {
            let message = "The Jwt content is invalid that cannot be recognized.";
            return Err(refusal(401, "AuthenticationFail.OIDCToken.Invalid", message));
        }
        if !state.nonces.insert(nonce) {
            return Err(refusal(
                400,
                "SignatureNonceUsed",
                "Specified signature nonce was used already.",
            ));
        }
    }
    let (credentials, end) = shared.issue();
    let answer = json!({
        "RequestId": format!("{:032X}", fastrand::u128(..)),
        "OIDCTokenInfo": { "Subject": "zhuji", "Issuer": "https://idp.local", "ClientIds": "zhuji" },
        "AssumedRoleUser": { "Arn": format!("{ROLE_ARN}/{session}"), "AssumedRoleId": format!("300000000000000000:{session}") },
        "Credentials": document(&credentials, end),
    });
    Ok((200, answer.to_string()))
}

fn metadata(shared: &Shared, endpoint: StsEndpoint, path: &str, headers: &HeaderMap) -> Answer {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if endpoint == StsEndpoint::MetadataToken {
        let seconds =
            header("x-aliyun-ecs-metadata-token-ttl-seconds").and_then(|text| text.parse::<u32>().ok());
        if !seconds.is_some_and(|seconds| (1..=21_600).contains(&seconds)) {
            return (400, "the life of the token must be 1 to 21600 seconds".to_owned());
        }
        let token = format!("{}==", random(54));
        shared.lock().metadata_tokens.insert(token.clone());
        return (200, token);
    }
    {
        let state = shared.lock();
        let known = header("x-aliyun-ecs-metadata-token").map(|token| state.metadata_tokens.contains(token));
        if known == Some(false) || (known.is_none() && state.metadata_token_required) {
            return (403, "forbidden".to_owned());
        }
    }
    if endpoint == StsEndpoint::MetadataRole {
        return (200, FakeSts::ROLE_NAME.to_owned());
    }
    if path.strip_prefix(METADATA_ROLE) != Some(FakeSts::ROLE_NAME) {
        return (404, "not found".to_owned());
    }
    let (credentials, end) = shared.issue();
    let mut document = document(&credentials, end);
    document["LastUpdated"] = json!(shared.server.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    document["Code"] = json!("Success");
    (200, document.to_string())
}
