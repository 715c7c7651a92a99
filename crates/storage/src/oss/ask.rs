//! Questions to the services that give out credentials.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde::Deserialize;

use super::{client::source_client, credentials::Credentials};
use crate::{Error, ErrorKind, Result};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A service, as errors name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// `assuming the role`.
    pub(super) operation: &'static str,
    /// `the token service`.
    pub(super) name: &'static str,
    /// What to look at when it refuses.
    pub(super) hint: &'static str,
}

/// Temporary keys, as every service writes them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Keys {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: Timestamp,
}

impl From<Keys> for Credentials {
    fn from(keys: Keys) -> Self {
        Self::new(&keys.access_key_id, &keys.access_key_secret)
            .with_token(&keys.security_token, Some(keys.expiration))
    }
}

/// What a service says when it refuses.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Refusal {
    code: Option<String>,
    request_id: Option<String>,
}

impl Service {
    pub(super) fn failed(&self, subject: &str, kind: ErrorKind, why: impl Into<String>) -> Error {
        Error::new(kind, self.operation, subject, why)
    }

    /// Asks once, on a connection of its own: there is a question an hour.
    pub(super) async fn ask(
        &self,
        subject: &str,
        url: &str,
        build: impl FnOnce(&reqwest::Client) -> RequestBuilder,
    ) -> Result<(StatusCode, Bytes)> {
        let tls = url.starts_with("https://");
        let client = tokio::task::spawn_blocking(move || source_client(tls)).await;
        let client = client.map_err(|error| {
            self.failed(subject, ErrorKind::Unexpected, "the question was interrupted")
                .with_source(error)
        })??;
        let unreachable = |what: &str, error: reqwest::Error| {
            let (kind, name) = (ErrorKind::Unavailable, self.name);
            self.failed(subject, kind, format!("{name} {what}"))
                .with_source(error.without_url())
        };
        let answer = build(&client)
            .timeout(TIMEOUT)
            .send()
            .await
            .map_err(|error| unreachable("can't be reached", error))?;
        let status = answer.status();
        let body = answer
            .bytes()
            .await
            .map_err(|error| unreachable("broke off", error))?;
        Ok((status, body))
    }

    /// The error for an answer without keys.
    pub(super) fn refused(&self, subject: &str, status: StatusCode, body: &[u8]) -> Error {
        let kind = match status.is_server_error() {
            true => ErrorKind::Unavailable,
            false => ErrorKind::Credential,
        };
        let Refusal { code, request_id } = serde_json::from_slice(body).unwrap_or_default();
        // Only a short word is a code: what else stands there could be anything.
        let word = |text: &String| {
            text.len() <= 80
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        };
        self.failed(subject, kind, format!("{} gave no credentials", self.name))
            .with_answer(status.as_u16(), code.filter(word), request_id.filter(word))
            .with_hint(self.hint)
    }

    /// The keys in an answer `{"Code":"Success","AccessKeyId":…}`.
    pub(super) fn keys(&self, subject: &str, (status, body): (StatusCode, Bytes)) -> Result<Credentials> {
        match serde_json::from_slice::<Keys>(&body) {
            Ok(keys) if status.is_success() => Ok(keys.into()),
            _ => Err(self.refused(subject, status, &body)),
        }
    }
}
