//! Who we are to OSS.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use zhuji_config::Secret;

use super::{credentials_uri::CredentialsUri, ecs::EcsRole, oidc::OidcRole, refresh::RefreshingCredentials};
use crate::{Error, ErrorKind, OssConfig, Result};

/// An access key, with the token and the end of life of a temporary one. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Credentials {
    id: Secret,
    secret: Secret,
    token: Option<Secret>,
    expires_at: Option<Timestamp>,
}

impl Credentials {
    /// A key pair; white space around it, as copying from a console leaves it, is cut off.
    pub fn new(access_key_id: &str, access_key_secret: &str) -> Self {
        Self {
            id: Secret::new(access_key_id.trim()),
            secret: Secret::new(access_key_secret.trim()),
            token: None,
            expires_at: None,
        }
    }

    /// Adds the token of temporary keys, and when they expire if that is known.
    #[must_use]
    pub fn with_token(mut self, token: &str, expires_at: Option<Timestamp>) -> Self {
        self.token = Some(Secret::new(token.trim()));
        self.expires_at = expires_at;
        self
    }

    /// When these stop working, if that is known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    pub(super) fn id(&self) -> &str {
        self.id.expose()
    }

    pub(super) fn secret(&self) -> &str {
        self.secret.expose()
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(Secret::expose)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Where credentials come from. Asked before every request, so the answer has to come from memory unless they are about to
/// expire; many callers may ask at once.
#[async_trait]
pub trait CredentialsProvider: fmt::Debug + Send + Sync + 'static {
    /// Credentials that are good now.
    async fn credentials(&self) -> Result<Arc<Credentials>>;

    /// The server said that these have expired. Returns whether asking again may give others.
    fn invalidate(&self, _rejected: &Credentials) -> bool {
        false
    }
}

/// Credentials that never change.
#[derive(Debug)]
pub struct StaticCredentials(Arc<Credentials>);

impl StaticCredentials {
    /// Always these.
    pub fn new(credentials: Credentials) -> Self {
        Self(Arc::new(credentials))
    }
}

#[async_trait]
impl CredentialsProvider for StaticCredentials {
    async fn credentials(&self) -> Result<Arc<Credentials>> {
        Ok(Arc::clone(&self.0))
    }
}

/// The first there is of: access keys, the OIDC role, the role of the ECS instance, the credentials URI. Nothing is asked for
/// that the settings don't name: no program on a laptop looks for a metadata service.
pub(super) fn from_config(config: &OssConfig, region: &str) -> Result<Arc<dyn CredentialsProvider>> {
    let refuse = |variable: &str, why: &str| {
        Error::new(ErrorKind::Config, "configuration", variable, why).with_hint(
            "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or ALIBABA_CLOUD_ROLE_ARN, \
             ALIBABA_CLOUD_OIDC_PROVIDER_ARN and ALIBABA_CLOUD_OIDC_TOKEN_FILE, or ALIBABA_CLOUD_ECS_METADATA",
        )
    };
    match (&config.access_key_id, &config.access_key_secret) {
        (Some(id), Some(secret)) => {
            let mut credentials = Credentials::new(id.expose(), secret.expose());
            if let Some(token) = &config.security_token {
                credentials = credentials.with_token(token.expose(), None);
            }
            // A header can't carry anything else; a stray character from a copied secret must not end in a puzzle.
            let parts = [
                Some(credentials.id()),
                Some(credentials.secret()),
                credentials.token(),
            ];
            if parts
                .into_iter()
                .flatten()
                .any(|part| !part.bytes().all(|b| b.is_ascii_graphic()))
            {
                return Err(refuse(
                    "OSS_ACCESS_KEY_ID",
                    "an access key contains blanks or characters other than ASCII",
                ));
            }
            Ok(Arc::new(StaticCredentials::new(credentials)))
        }
        (Some(_), None) => Err(refuse(
            "OSS_ACCESS_KEY_SECRET",
            "there is an access key id and no secret",
        )),
        (None, Some(_)) => Err(refuse(
            "OSS_ACCESS_KEY_ID",
            "there is an access key secret and no id",
        )),
        (None, None) => match temporary(config, region) {
            Some((name, credentials)) => {
                tracing::info!(source = name, "OSS is used with temporary credentials");
                Ok(Arc::new(credentials))
            }
            None => Err(refuse("OSS_ACCESS_KEY_ID", "there are no credentials for OSS")),
        },
    }
}

fn temporary(config: &OssConfig, region: &str) -> Option<(&'static str, RefreshingCredentials)> {
    if let (Some(role), Some(provider), Some(file)) = (
        &config.role_arn,
        &config.oidc_provider_arn,
        &config.oidc_token_file,
    ) {
        let internal = if config.internal { "-vpc" } else { "" };
        let endpoint = format!("https://sts{internal}.{region}.aliyuncs.com/");
        let role = OidcRole::new(role, provider, file).endpoint(&endpoint);
        return Some(("OIDC role", RefreshingCredentials::new(role)));
    }
    if let Some(role) = &config.ecs_metadata {
        let role = EcsRole::new(Some(role.as_str()).filter(|role| *role != "auto"));
        return Some(("ECS role", RefreshingCredentials::new(role)));
    }
    let uri = CredentialsUri::new(config.credentials_uri.as_ref()?.expose());
    Some(("credentials URI", RefreshingCredentials::new(uri)))
}
