//! The platform's own settings.

use std::time::Duration;

use zhuji_config::{ByteSize, Config, ConfigEnum, Problem, Reader, Secret, Url};

/// What kind of environment this is. Stricter checks and safer defaults in `production`.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppEnv {
    /// A developer's machine.
    Development,
    /// Real users and real data.
    Production,
    /// An automated test.
    Test,
}

/// Where the service runs. Changes defaults and the checks at the start, nothing else.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentMode {
    /// One machine, no cloud.
    Standalone,
    /// A site's own servers, with no way out.
    Private,
    /// Database on site, shared files in the cloud.
    Hybrid,
    /// Everything managed by the cloud.
    Cloud,
}

impl DeploymentMode {
    /// What this mode sets unless a setting says otherwise: variable and value.
    pub fn defaults(self, env: AppEnv) -> Vec<(&'static str, &'static str)> {
        let defaults = crate::platform::defaults(env, self);
        defaults
            .into_iter()
            .map(|default| (default.name, default.value))
            .collect()
    }
}

/// Which part of the work this process does.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Requests and jobs.
    All,
    /// Requests only.
    Web,
    /// Jobs only; the probes and metrics still answer.
    Worker,
}

/// Which product modules run.
#[derive(Config, Clone, Debug)]
#[config(title = "Modules")]
pub(crate) struct SelectionConfig {
    /// The product modules to run, separated by commas.
    #[config(env = "MODULES", default_note = "all that are compiled in")]
    pub(crate) modules: Vec<String>,
}

/// The service itself.
#[derive(Config, Clone, Debug)]
#[config(title = "Service", check = ServiceConfig::check)]
pub struct ServiceConfig {
    /// What kind of environment this is: `development`, `production` or `test`.
    #[config(env = "APP_ENV", alias = "NODE_ENV", default = "development")]
    pub env: AppEnv,
    /// Where the service runs: `standalone`, `private`, `hybrid` or `cloud`. Required in production.
    #[config(env = "DEPLOYMENT_MODE", default_note = "`standalone`; none in production")]
    pub mode: Option<DeploymentMode>,
    /// Which part of the work this process does: `all`, `web` or `worker`.
    #[config(env = "ROLE", default = "all")]
    pub role: Role,
    /// The address to listen on.
    #[config(env = "HOST", default = "127.0.0.1", default_note = "`0.0.0.0` in production")]
    pub host: String,
    /// The port to listen on; 0 takes a free one.
    #[config(env = "PORT", default = "3001")]
    pub port: u16,
    /// The address that users reach the service under.
    #[config(env = "BASE_URL", default_note = "http://localhost:$PORT")]
    pub base_url: Option<Url>,
    /// The operator's token: for health details, the log level and the pages under `/admin`. Without it those are off.
    #[config(env = "ADMIN_TOKEN")]
    pub admin_token: Option<Secret>,
    /// How long to keep accepting after SIGTERM, so that the load balancer notices.
    #[config(
        env = "DRAIN_DELAY",
        default = "0s",
        default_note = "`5s` in cloud and hybrid mode"
    )]
    pub drain_delay: Duration,
    /// The whole time a shutdown may take.
    #[config(env = "SHUTDOWN_TIMEOUT", default = "25s")]
    pub shutdown_timeout: Duration,
    /// How long the start may wait for a dependency that is not up yet.
    #[config(env = "STARTUP_TIMEOUT", default = "30s")]
    pub startup_timeout: Duration,
}

impl ServiceConfig {
    /// The mode in force.
    pub fn mode(&self) -> DeploymentMode {
        self.mode.unwrap_or(DeploymentMode::Standalone)
    }

    fn check(&self, reader: &mut Reader<'_>) {
        if self.shutdown_timeout < Duration::from_secs(1) {
            reader.problem(Problem::invalid(
                "SHUTDOWN_TIMEOUT",
                "nothing can end in less than 1s",
            ));
        }
        if self.drain_delay >= self.shutdown_timeout {
            reader.problem(Problem::invalid(
                "DRAIN_DELAY",
                "it must be shorter than SHUTDOWN_TIMEOUT, of which it is a part",
            ));
        }
        at_most(
            &[
                ("SHUTDOWN_TIMEOUT", self.shutdown_timeout),
                ("STARTUP_TIMEOUT", self.startup_timeout),
            ],
            reader,
        );
    }

    /// Whether this is production.
    pub fn is_production(&self) -> bool {
        self.env == AppEnv::Production
    }
}

/// Limits of the HTTP server.
#[derive(Config, Clone, Debug)]
#[config(title = "HTTP server", prefixes("HTTP_"), check = HttpConfig::check, impl_default)]
pub struct HttpConfig {
    /// How long a client may take to send a request's headers.
    #[config(env = "HTTP_HEADER_TIMEOUT", default = "10s")]
    pub header_timeout: Duration,
    /// How long a request's body may bring nothing.
    #[config(env = "HTTP_BODY_IDLE_TIMEOUT", default = "30s")]
    pub body_idle_timeout: Duration,
    /// How long a client may take nothing of an answer.
    #[config(env = "HTTP_STALL_TIMEOUT", default = "60s")]
    pub stall_timeout: Duration,
    /// Connections open at once; more wait to be accepted.
    #[config(env = "HTTP_MAX_CONNECTIONS", default = "4096")]
    pub max_connections: u32,
    /// The largest body of a request that is read into memory. Streamed files have limits of their own.
    #[config(env = "HTTP_MAX_BODY", default = "2MiB")]
    pub max_body: ByteSize,
}

impl HttpConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        let limits = [
            ("HTTP_HEADER_TIMEOUT", self.header_timeout),
            ("HTTP_BODY_IDLE_TIMEOUT", self.body_idle_timeout),
            ("HTTP_STALL_TIMEOUT", self.stall_timeout),
        ];
        for (name, limit) in limits {
            if limit.is_zero() {
                reader.problem(Problem::invalid(name, "0 would end every connection at once"));
            }
        }
        at_most(&limits, reader);
        if self.max_connections == 0 {
            reader.problem(Problem::invalid(
                "HTTP_MAX_CONNECTIONS",
                "with 0 connections nobody is served",
            ));
        }
    }
}

/// A limit beyond a day is a slip, and far beyond it is more than a clock can add.
fn at_most(limits: &[(&str, Duration)], reader: &mut Reader<'_>) {
    for (name, limit) in limits {
        if *limit > Duration::from_secs(86_400) {
            reader.problem(Problem::invalid(name, "it must be a day at most"));
        }
    }
}

/// The language model that modules may call.
#[derive(Config, Clone, Debug)]
#[config(title = "Language model", prefixes("LLM_"), check = LlmConfig::check)]
pub struct LlmConfig {
    /// The API key.
    #[config(env = "LLM_API_KEY")]
    pub api_key: Option<Secret>,
    /// An OpenAI-compatible endpoint, `http` or `https`, with its version (`/v1`) or without.
    #[config(env = "LLM_BASE_URL", default = "https://api.deepseek.com")]
    pub base_url: Url,
}

impl LlmConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        if !["http", "https"].contains(&self.base_url.scheme()) {
            reader.problem(Problem::invalid(
                "LLM_BASE_URL",
                "it is neither http:// nor https://",
            ));
        }
    }
}

/// For a module without settings.
pub type NoConfig = ();
