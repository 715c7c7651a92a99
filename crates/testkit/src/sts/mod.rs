//! Where temporary credentials come from: a token service, an instance metadata service and a credentials URI on one
//! port of this machine.
//!
//! What they hand out is accepted by the [`OssServer`](crate::oss::OssServer) they were started for, until it ends.

mod serve;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::oss::{OssCredentials, OssServer, ServerHandle, random};

/// One of the addresses that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StsEndpoint {
    /// `AssumeRoleWithOIDC`, at [`FakeSts::url`].
    AssumeRole,
    /// `PUT /latest/api/token` of the metadata service.
    MetadataToken,
    /// `GET /latest/meta-data/ram/security-credentials/`: the name of the role.
    MetadataRole,
    /// The same with the name of the role: its credentials.
    MetadataCredentials,
    /// [`FakeSts::credentials_uri`].
    CredentialsUri,
}

/// Something that goes wrong with the next request to any endpoint, or to one of them.
#[derive(Clone, Debug)]
pub struct StsFault {
    kind: FaultKind,
    endpoint: Option<StsEndpoint>,
    times: u32,
}

#[derive(Clone, Debug)]
enum FaultKind {
    Status(u16, String),
    Answer(String),
    Delay(Duration),
    Drop,
}

impl StsFault {
    fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            endpoint: None,
            times: 1,
        }
    }

    /// Refuses with this status and code.
    pub fn status(status: u16, code: impl Into<String>) -> Self {
        Self::new(FaultKind::Status(status, code.into()))
    }

    /// Answers 200 with this text, whatever was asked.
    pub fn answer(text: impl Into<String>) -> Self {
        Self::new(FaultKind::Answer(text.into()))
    }

    /// Waits before it answers properly.
    pub fn delay(by: Duration) -> Self {
        Self::new(FaultKind::Delay(by))
    }

    /// Closes the connection instead of answering.
    pub fn drop_connection() -> Self {
        Self::new(FaultKind::Drop)
    }

    /// How many requests it hits; once by default.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Only this endpoint.
    #[must_use]
    pub fn on(mut self, endpoint: StsEndpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

/// What the services know.
#[derive(Debug)]
struct State {
    life: Duration,
    oidc_token: String,
    /// Accepted once, replaced since.
    old_oidc_tokens: BTreeSet<String>,
    metadata_token_required: bool,
    metadata_tokens: BTreeSet<String>,
    nonces: BTreeSet<String>,
    asked: Vec<StsEndpoint>,
    issued: Vec<OssCredentials>,
    faults: Vec<StsFault>,
}

#[derive(Debug)]
struct Shared {
    server: ServerHandle,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New credentials that the OSS server accepts from now on, and when they end.
    fn issue(&self) -> (OssCredentials, Timestamp) {
        let mut state = self.lock();
        let credentials = OssCredentials {
            access_key_id: format!("STS.{}{}", random(20), state.issued.len()),
            access_key_secret: random(44),
            security_token: Some(format!("CAIS{}+/==", random(200))),
        };
        let life = SignedDuration::try_from(state.life).unwrap_or(SignedDuration::MAX);
        let end = self.server.now().saturating_add(life).unwrap_or(Timestamp::MAX);
        self.server.add_temporary_credentials(credentials.clone(), end);
        state.issued.push(credentials.clone());
        (credentials, end)
    }
}

/// The running services. They stop when this is dropped.
#[derive(Debug)]
pub struct FakeSts {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl FakeSts {
    const ROLE_NAME: &str = "zhuji-role";

    /// Starts the services for this server, on a free port of 127.0.0.1. Credentials live an hour.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(server: &OssServer) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: server.handle(),
            state: Mutex::new(State {
                life: Duration::from_secs(3600),
                oidc_token: format!("eyJ{}.{}.{}", random(20), random(60), random(40)),
                old_oidc_tokens: BTreeSet::new(),
                metadata_token_required: true,
                metadata_tokens: BTreeSet::new(),
                nonces: BTreeSet::new(),
                asked: Vec::new(),
                issued: Vec::new(),
                faults: Vec::new(),
            }),
        });
        let task = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Self {
            shared,
            address,
            task,
        })
    }

    /// `http://127.0.0.1:PORT`: the token service, and the base of the metadata service (in the cloud
    /// `http://100.100.100.200`).
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What to put into `ALIBABA_CLOUD_CREDENTIALS_URI`.
    pub fn credentials_uri(&self) -> String {
        format!("http://{}/credentials", self.address)
    }

    /// The role that may be assumed.
    pub fn role_arn(&self) -> &'static str {
        serve::ROLE_ARN
    }

    /// The identity provider whose tokens are accepted for it.
    pub fn oidc_provider_arn(&self) -> &'static str {
        serve::PROVIDER_ARN
    }

    /// The role of the instance.
    pub fn role_name(&self) -> &'static str {
        Self::ROLE_NAME
    }

    /// The only OIDC token that is accepted now.
    pub fn oidc_token(&self) -> String {
        self.shared.lock().oidc_token.clone()
    }

    /// Replaces the OIDC token, as the platform does: the old one has expired.
    pub fn rotate_oidc_token(&self) -> String {
        let mut state = self.shared.lock();
        let fresh = format!("eyJ{}.{}.{}", random(20), random(60), random(40));
        let old = std::mem::replace(&mut state.oidc_token, fresh.clone());
        state.old_oidc_tokens.insert(old);
        fresh
    }

    /// How long credentials live that are given out from now on.
    pub fn set_life(&self, life: Duration) {
        self.shared.lock().life = life;
    }

    /// Whether the metadata service insists on its token (the hardened mode); it does by default.
    pub fn set_metadata_token_required(&self, required: bool) {
        self.shared.lock().metadata_token_required = required;
    }

    /// Lets something go wrong with the next matching request.
    pub fn fail_next(&self, fault: StsFault) {
        self.shared.lock().faults.push(fault);
    }

    /// Takes back the faults that have not hit.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Requests so far to one endpoint, answered or not.
    pub fn asked(&self, endpoint: StsEndpoint) -> usize {
        self.shared
            .lock()
            .asked
            .iter()
            .filter(|asked| **asked == endpoint)
            .count()
    }

    /// What was given out, in order.
    pub fn issued(&self) -> Vec<OssCredentials> {
        self.shared.lock().issued.clone()
    }
}

impl Drop for FakeSts {
    fn drop(&mut self) {
        self.task.abort();
    }
}
