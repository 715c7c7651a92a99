//! Temporary credentials for a RAM role, in exchange for the OIDC token that the platform (SAE, ACK) mounts into the
//! container. `AssumeRoleWithOIDC` needs no signature: the token is the proof.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    ask::{Keys, Service},
    credentials::Credentials,
    refresh::CredentialsSource,
};
use crate::{ErrorKind, Result, encode};

const SERVICE: Service = Service {
    operation: "assuming the role",
    name: "the token service",
    hint: "check the role's trust policy and the OIDC provider",
};

/// A RAM role that is assumed by an OIDC token. Wrap it in [`RefreshingCredentials`](crate::RefreshingCredentials). The
/// token's file is read anew every time: the platform replaces it.
pub struct OidcRole {
    endpoint: String,
    role_arn: String,
    provider_arn: String,
    token_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    credentials: Keys,
}

impl OidcRole {
    /// The role, the identity provider that vouches for us, and where the token is.
    pub fn new(role_arn: &str, provider_arn: &str, token_file: impl AsRef<Path>) -> Self {
        Self {
            endpoint: "https://sts.aliyuncs.com/".to_owned(),
            role_arn: role_arn.to_owned(),
            provider_arn: provider_arn.to_owned(),
            token_file: token_file.as_ref().to_owned(),
        }
    }

    /// Asks another token service, such as that of a region. Default: `https://sts.aliyuncs.com/`.
    #[must_use]
    pub fn endpoint(mut self, url: &str) -> Self {
        url.clone_into(&mut self.endpoint);
        self
    }
}

#[async_trait]
impl CredentialsSource for OidcRole {
    async fn fetch(&self) -> Result<Credentials> {
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map_err(|error| {
                let why = "the OIDC token file can't be read";
                SERVICE
                    .failed(&self.role_arn, ErrorKind::Credential, why)
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
        let asked = SERVICE.ask(&self.role_arn, &self.endpoint, |http| {
            http.post(&self.endpoint)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.join("&"))
        });
        let (status, body) = asked.await?;
        match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) if status.is_success() => Ok(answer.credentials.into()),
            _ => Err(SERVICE.refused(&self.role_arn, status, &body)),
        }
    }
}

impl fmt::Debug for OidcRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcRole")
            .field("role_arn", &self.role_arn)
            .finish_non_exhaustive()
    }
}
