//! Temporary credentials for the RAM role of an ECS instance, from its metadata service.

use std::fmt;

use async_trait::async_trait;

use super::{ask::Service, credentials::Credentials, refresh::CredentialsSource};
use crate::{ErrorKind, Result, encode};

const SERVICE: Service = Service {
    operation: "asking for the instance's role",
    name: "the metadata service",
    hint: "check that a RAM role is attached to the ECS instance, and ALIBABA_CLOUD_ECS_METADATA",
};
const ADDRESS: &str = "http://100.100.100.200";
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";
/// The longest life the service gives a token; each is used for one renewal.
const TOKEN_LIFE: &str = "300";

/// The RAM role of the ECS instance that this process runs on. Wrap it in
/// [`RefreshingCredentials`](crate::RefreshingCredentials).
///
/// The service is asked in its hardened mode, by a token, and without one where it knows none.
pub struct EcsRole {
    role: Option<String>,
    base: String,
}

impl EcsRole {
    /// The role of this name; `None` asks the service which role the instance has.
    pub fn new(role: Option<&str>) -> Self {
        Self {
            role: role.map(str::to_owned),
            base: ADDRESS.to_owned(),
        }
    }

    /// Asks another service, such as `http://127.0.0.1:9000`.
    #[must_use]
    pub fn endpoint(mut self, base: &str) -> Self {
        base.trim_end_matches('/').clone_into(&mut self.base);
        self
    }

    fn subject(&self) -> &str {
        self.role.as_deref().unwrap_or("this instance")
    }

    /// A token for the following questions. Without one they are asked as in the old days.
    async fn token(&self) -> Option<String> {
        let url = format!("{}/latest/api/token", self.base);
        let asked = SERVICE.ask(self.subject(), &url, |http| {
            let life = "x-aliyun-ecs-metadata-token-ttl-seconds";
            http.put(&url)
                .header(life, TOKEN_LIFE)
                .header("content-length", "0")
        });
        match asked.await {
            Ok((status, body)) if status.is_success() => String::from_utf8(body.to_vec()).ok(),
            Ok((status, _)) => {
                tracing::debug!(%status, "the metadata service gives no tokens");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "the metadata service gave no token");
                None
            }
        }
    }
}

#[async_trait]
impl CredentialsSource for EcsRole {
    async fn fetch(&self) -> Result<Credentials> {
        let token = self.token().await;
        let get = async |path: &str| {
            let url = format!("{}{ROLES}{}", self.base, encode::path(path));
            let answer = SERVICE.ask(self.subject(), &url, |http| match &token {
                Some(token) => http.get(&url).header(TOKEN_HEADER, token.trim()),
                None => http.get(&url),
            });
            answer.await
        };
        let role = match &self.role {
            Some(role) => role.clone(),
            None => {
                let (status, body) = get("").await?;
                let name = String::from_utf8_lossy(&body);
                let name = name.lines().next().unwrap_or_default().trim();
                if !status.is_success() || name.is_empty() {
                    return Err(SERVICE.refused(self.subject(), status, &body));
                }
                if name.len() > 64 || name.contains(|c: char| c.is_control() || "<>{}".contains(c)) {
                    let why = "the metadata service answered with something that is no role";
                    return Err(SERVICE.failed(self.subject(), ErrorKind::Credential, why));
                }
                name.to_owned()
            }
        };
        SERVICE.keys(&role, get(&role).await?)
    }
}

impl fmt::Debug for EcsRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcsRole")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
