//! Temporary credentials for a RAM role, in exchange for the OIDC token that the platform (SAE, ACK) mounts into the
//! container. `AssumeRoleWithOIDC` needs no signature: the token is the proof.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::credentials::{Credentials, CredentialsProvider};
use crate::{Error, ErrorKind, OssConfig, Result, encode};

/// Credentials are renewed this long before they end.
const EARLY: SignedDuration = SignedDuration::from_mins(5);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Assumes a role; the answer is kept until shortly before it expires. Many callers cause one request.
pub(super) struct OidcRole {
    http: reqwest::Client,
    url: String,
    role_arn: String,
    provider_arn: String,
    token_file: PathBuf,
    current: Mutex<Option<Arc<Credentials>>>,
    /// Set when the server has refused the current ones.
    stale: std::sync::atomic::AtomicBool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    credentials: Option<AnswerCredentials>,
    code: Option<String>,
    request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerCredentials {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: Timestamp,
}

impl OidcRole {
    pub(super) fn from_config(config: &OssConfig, http: reqwest::Client) -> Option<Self> {
        let region = super::endpoint::region(config.region.as_deref()?).ok()?;
        let internal = if config.internal { "-vpc" } else { "" };
        Some(Self {
            http,
            url: format!("https://sts{internal}.{region}.aliyuncs.com/"),
            role_arn: config.role_arn.clone()?,
            provider_arn: config.oidc_provider_arn.clone()?,
            token_file: config.oidc_token_file.clone()?,
            current: Mutex::new(None),
            stale: std::sync::atomic::AtomicBool::new(false),
        })
    }

    fn failed(&self, kind: ErrorKind, why: impl Into<String>) -> Error {
        Error::new(kind, "assuming the role", self.role_arn.as_str(), why)
    }

    async fn fetch(&self) -> Result<Credentials> {
        // Read again every time: the platform replaces the token.
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map_err(|error| {
                self.failed(ErrorKind::Credential, "the OIDC token file can't be read")
                    .with_hint("check ALIBABA_CLOUD_OIDC_TOKEN_FILE")
                    .with_source(error)
            })?;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let nonce = uuid::Uuid::new_v4().to_string();
        let form = [
            ("Action", "AssumeRoleWithOIDC"),
            ("Version", "2015-04-01"),
            ("Format", "JSON"),
            ("Timestamp", &now),
            ("SignatureNonce", &nonce),
            ("RoleArn", &self.role_arn),
            ("OIDCProviderArn", &self.provider_arn),
            ("OIDCToken", token.trim()),
            ("RoleSessionName", "zhuji"),
        ];
        let form: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", encode::value(value)))
            .collect();
        let answer = self
            .http
            .post(&self.url)
            .header("content-type", "application/x-www-form-urlencoded")
            .timeout(TIMEOUT)
            .body(form.join("&"))
            .send()
            .await
            .map_err(|error| {
                self.failed(ErrorKind::Unavailable, "the token service can't be reached")
                    .with_source(error.without_url())
            })?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| {
            self.failed(ErrorKind::Unavailable, "the token service broke off")
                .with_source(error.without_url())
        })?;
        let unreadable = || {
            let kind = if status.is_server_error() {
                ErrorKind::Unavailable
            } else {
                ErrorKind::Credential
            };
            self.failed(
                kind,
                format!("the token service answered {status} without an explanation"),
            )
        };
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        match answer.credentials {
            Some(found) if status.is_success() => {
                Ok(Credentials::new(&found.access_key_id, &found.access_key_secret)
                    .with_token(&found.security_token, Some(found.expiration)))
            }
            _ => {
                let kind = if status.is_server_error() {
                    ErrorKind::Unavailable
                } else {
                    ErrorKind::Credential
                };
                Err(self
                    .failed(kind, "the token service refused")
                    .with_answer(status.as_u16(), answer.code, answer.request_id)
                    .with_hint("check the role's trust policy and the OIDC provider"))
            }
        }
    }
}

#[async_trait]
impl CredentialsProvider for OidcRole {
    async fn credentials(&self) -> Result<Arc<Credentials>> {
        use std::sync::atomic::Ordering;
        let mut current = self.current.lock().await;
        let stale = self.stale.load(Ordering::Relaxed);
        let now = Timestamp::now();
        if let Some(known) = &*current {
            let end = known.expires_at().unwrap_or(Timestamp::MAX);
            if !stale && now.duration_until(end) > EARLY {
                return Ok(Arc::clone(known));
            }
        }
        match self.fetch().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *current = Some(Arc::clone(&fresh));
                self.stale.store(false, Ordering::Relaxed);
                Ok(fresh)
            }
            // Those we have are still good: a hiccup of the token service costs nothing.
            Err(error) => match &*current {
                Some(known) if !stale && known.expires_at().is_some_and(|end| end > now) => {
                    tracing::warn!(%error, "the credentials could not be renewed; going on with the old ones");
                    Ok(Arc::clone(known))
                }
                _ => Err(error),
            },
        }
    }

    fn invalidate(&self, rejected: &Credentials) -> bool {
        // Not if another caller has renewed them meanwhile; either way a new attempt is worth it.
        if let Ok(current) = self.current.try_lock()
            && current.as_ref().is_some_and(|known| known.id() == rejected.id())
        {
            self.stale.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        true
    }
}

impl fmt::Debug for OidcRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcRole")
            .field("role_arn", &self.role_arn)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::join_all;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::oss::{client::http_client, endpoint::endpoints};

    /// A token service: answers like the real one, as long as the token is `good`, with keys of so many seconds.
    async fn token_service(seconds: i64) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 16 * 1024];
                let mut length = socket.read(&mut request).await.unwrap();
                if !String::from_utf8_lossy(&request[..length]).contains("RoleSessionName=") {
                    length += socket.read(&mut request[length..]).await.unwrap();
                }
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let number = count.fetch_add(1, Ordering::SeqCst);
                assert!(
                    request.contains("Action=AssumeRoleWithOIDC") && request.contains("RoleArn=acs%3Aram")
                );
                let (status, body) = if request.contains("OIDCToken=good") {
                    let end = Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap();
                    let keys = serde_json::json!({
                        "AccessKeyId": format!("STS.{number}"), "AccessKeySecret": "s", "SecurityToken": "t",
                        "Expiration": end.to_string(),
                    });
                    (
                        "200 OK",
                        serde_json::json!({ "RequestId": "R", "Credentials": keys }),
                    )
                } else {
                    let code = "AuthenticationFail.OIDCToken.Expired";
                    (
                        "400 Bad Request",
                        serde_json::json!({ "RequestId": "R1", "Code": code, "Message": "m" }),
                    )
                };
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                socket.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    fn role(url: String, token_file: PathBuf) -> OidcRole {
        let config = OssConfig {
            endpoint: Some(url.clone()),
            ..OssConfig::default()
        };
        let (traffic, _) = endpoints(&config, None, "cn-hangzhou", "demo").unwrap();
        OidcRole {
            http: http_client(&traffic, false).unwrap(),
            url,
            role_arn: "acs:ram::1:role/x".to_owned(),
            provider_arn: "acs:ram::1:oidc-provider/y".to_owned(),
            token_file,
            current: Mutex::new(None),
            stale: std::sync::atomic::AtomicBool::new(false),
        }
    }

    #[tokio::test]
    async fn many_callers_cause_one_request() {
        let (url, asked) = token_service(3600).await;
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "good\n").unwrap();
        let role = role(url, token.path().to_owned());
        let all = join_all((0..20).map(|_| role.credentials())).await;
        assert!(all.iter().all(|found| found.as_ref().unwrap().id() == "STS.0"));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // Refused by OSS: the next caller gets new ones.
        assert!(role.invalidate(all[0].as_ref().unwrap()));
        assert_eq!(role.credentials().await.unwrap().id(), "STS.1");
    }

    #[tokio::test]
    async fn old_ones_serve_while_the_service_refuses_and_the_token_is_read_again() {
        let (url, asked) = token_service(60).await;
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "good").unwrap();
        let role = role(url, token.path().to_owned());
        assert_eq!(role.credentials().await.unwrap().id(), "STS.0");
        std::fs::write(token.path(), "verysecretexpiredtoken").unwrap();
        // Less than five minutes are left, so it asks, is refused, and goes on with what it has.
        assert_eq!(role.credentials().await.unwrap().id(), "STS.0");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        std::fs::write(token.path(), "good").unwrap();
        assert_eq!(role.credentials().await.unwrap().id(), "STS.2");
    }

    #[tokio::test]
    async fn refusals_are_told_without_the_token() {
        let (url, _) = token_service(3600).await;
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "verysecretexpiredtoken").unwrap();
        let role = role(url, token.path().to_owned());
        let error = role.credentials().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.request_id()),
            (ErrorKind::Credential, Some("R1"))
        );
        assert!(!format!("{error} {error:?} {role:?}").contains("verysecret"));
        drop(token);
        let error = role.credentials().await.unwrap_err();
        assert!(
            error.to_string().contains("ALIBABA_CLOUD_OIDC_TOKEN_FILE"),
            "{error}"
        );
    }
}
