//! Temporary credentials from an address that the platform names.

use std::fmt;

use async_trait::async_trait;
use zhuji_config::Secret;

use super::{ask::Service, credentials::Credentials, refresh::CredentialsSource};
use crate::Result;

const SERVICE: Service = Service {
    operation: "asking the credentials URI",
    name: "the service at the credentials URI",
    hint: "check ALIBABA_CLOUD_CREDENTIALS_URI",
};
const SUBJECT: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";

/// What answers a GET with `{"Code":"Success","AccessKeyId":…,"AccessKeySecret":…,"SecurityToken":…,"Expiration":…}`. Wrap it
/// in [`RefreshingCredentials`](crate::RefreshingCredentials). The address may hold a secret; it is never shown.
pub struct CredentialsUri(Secret);

impl CredentialsUri {
    /// Asks this address.
    pub fn new(uri: &str) -> Self {
        Self(Secret::new(uri.trim()))
    }
}

#[async_trait]
impl CredentialsSource for CredentialsUri {
    async fn fetch(&self) -> Result<Credentials> {
        let uri = self.0.expose();
        let answer = SERVICE.ask(SUBJECT, uri, |http| http.get(uri)).await?;
        SERVICE.keys(SUBJECT, answer)
    }
}

impl fmt::Debug for CredentialsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsUri")
    }
}
