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
