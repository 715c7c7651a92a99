//! Connection strings: `postgres://user:password@host:port/database?parameter=value`, read by ourselves.
//!
//! The driver's parser knows neither `sslmode=verify-full` nor `sslrootcert`, and its errors may quote what they do
//! not understand, which is how half a password ends up in a log. Nothing in here repeats a piece of the string.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslNegotiation, TargetSessionAttrs};

use crate::tls::SslMode;

/// Everything a connection string says.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) hosts: Vec<Host>,
    pub(crate) hostaddrs: Vec<IpAddr>,
    pub(crate) ports: Vec<u16>,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: String,
    pub(crate) ssl: Ssl,
    pub(crate) application_name: Option<String>,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) tcp_user_timeout: Duration,
    pub(crate) keepalives: bool,
    pub(crate) keepalives_idle: Duration,
    pub(crate) keepalives_interval: Duration,
    pub(crate) keepalives_count: u32,
    pub(crate) session: TargetSessionAttrs,
    pub(crate) load_balance: LoadBalanceHosts,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) negotiation: SslNegotiation,
}

/// The TLS part of a connection string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ssl {
    pub(crate) mode: SslMode,
    pub(crate) roots: Roots,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nothing was said.
    #[default]
    Unset,
    /// `sslrootcert=system`
    System,
    File(PathBuf),
}

impl Target {
    /// The database and where it is, for messages: no user, no password.
    pub(crate) fn subject(&self) -> String {
        let mut places = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let port = self
                .ports
                .get(index)
                .or(self.ports.first())
                .copied()
                .unwrap_or(5432);
            places.push(match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => path.join(format!(".s.PGSQL.{port}")).display().to_string(),
            });
        }
        format!("database \"{}\" at {}", self.database, places.join(","))
    }

    /// Reads a connection string.
    ///
    /// # Errors
    /// One sentence about what is wrong, which never contains a piece of the string.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or("it has to begin with postgres:// or postgresql://")?;
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("it contains a space or a control character: percent-encode it".to_owned());
        }
        if rest.contains('#') {
            return Err("it contains a `#`: write `%23`".to_owned());
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        if path.contains('/') || path.contains('@') {
            return Err(
                "it has a `/` or `@` in the database name or an unescaped `/` in the password: \
                 percent-encode it (`/` is %2F, `@` is %40)"
                    .to_owned(),
            );
        }
        let (credentials, places) = match authority.rsplit_once('@') {
            Some((credentials, places)) => (credentials, places),
            None => ("", authority),
        };
        if credentials.contains('@') {
            return Err("the user or password contains an `@`: write `%40`".to_owned());
        }
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        let mut target = Self {
            hosts: Vec::new(),
            hostaddrs: Vec::new(),
            ports: Vec::new(),
            user: decode(user, "user")?,
            password: password
                .map(|password| decode(password, "password"))
                .transpose()?,
            database: decode(path, "database name")?,
            ssl: Ssl::default(),
            application_name: None,
            options: None,
            connect_timeout: None,
            tcp_user_timeout: Duration::from_secs(10),
            keepalives: true,
            keepalives_idle: Duration::from_secs(30),
            keepalives_interval: Duration::from_secs(10),
            keepalives_count: 3,
            session: TargetSessionAttrs::Any,
            load_balance: LoadBalanceHosts::Disable,
            channel_binding: ChannelBinding::Prefer,
            negotiation: SslNegotiation::Postgres,
        };
        target.places(places)?;
        let mut mode = None;
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair
                .split_once('=')
                .ok_or("a parameter after the `?` has no value")?;
            let value = decode(value, "parameter")?;
            target.parameter(name, &value, &mut mode)?;
        }
        target.finish(mode)
    }

    fn places(&mut self, places: &str) -> Result<(), String> {
        if places.is_empty() {
            return Ok(());
        }
        for place in places.split(',') {
            let (host, port) = if let Some(rest) = place.strip_prefix('[') {
                let (host, after) = rest.split_once(']').ok_or("an IPv6 address lacks its `]`")?;
                (
                    host,
                    after
                        .strip_prefix(':')
                        .or(after.is_empty().then_some(""))
                        .ok_or("text follows a `]`")?,
                )
            } else {
                place.rsplit_once(':').unwrap_or((place, ""))
            };
            if host.contains(':') && !place.starts_with('[') {
                return Err(
                    "a host contains a `:`: write an IPv6 address in brackets, and percent-encode \
                     the password"
                        .to_owned(),
                );
            }
            self.add_host(&decode(host, "host")?)?;
            self.ports
                .push(if port.is_empty() { 5432 } else { self::port(port)? });
        }
        Ok(())
    }

    fn add_host(&mut self, host: &str) -> Result<(), String> {
        if host.is_empty() {
            return Err("a host is empty".to_owned());
        }
        self.hosts.push(if host.starts_with('/') {
            Host::Unix(PathBuf::from(host))
        } else {
            let plain = host
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'));
            if !plain {
                return Err(
                    "a host has a character that no host name has: is there an unescaped `/`, `?`, \
                     `#`, `@` or `:` in the password?"
                        .to_owned(),
                );
            }
            Host::Tcp(host.to_owned())
        });
        Ok(())
    }

    fn parameter(&mut self, name: &str, value: &str, mode: &mut Option<SslMode>) -> Result<(), String> {
        let seconds = || whole(name, value).map(|n| Duration::from_secs(u64::from(n)));
        match name {
            "user" => self.user = value.to_owned(),
            "password" => self.password = Some(value.to_owned()),
            "dbname" => self.database = value.to_owned(),
            "host" => {
                self.hosts.clear();
                value.split(',').try_for_each(|host| self.add_host(host))?;
            }
            "hostaddr" => {
                for address in value.split(',') {
                    self.hostaddrs
                        .push(address.parse().map_err(|_| "hostaddr is not an IP address")?);
                }
            }
            "port" => self.ports = value.split(',').map(port).collect::<Result<_, _>>()?,
            "sslmode" => *mode = Some(SslMode::parse(value).ok_or_else(|| one_of(name, SslMode::NAMES))?),
            "sslrootcert" if value == "system" => self.ssl.roots = Roots::System,
            "sslrootcert" => self.ssl.roots = Roots::File(PathBuf::from(value)),
            "sslcert" => self.ssl.certificate = Some(PathBuf::from(value)),
            "sslkey" => self.ssl.key = Some(PathBuf::from(value)),
            "sslnegotiation" => {
                self.negotiation = match value {
                    "postgres" => SslNegotiation::Postgres,
                    "direct" => SslNegotiation::Direct,
                    _ => return Err(one_of(name, &["postgres", "direct"])),
                }
            }
            "channel_binding" => {
                self.channel_binding = match value {
                    "disable" => ChannelBinding::Disable,
                    "prefer" => ChannelBinding::Prefer,
                    "require" => ChannelBinding::Require,
                    _ => return Err(one_of(name, &["disable", "prefer", "require"])),
                }
            }
            "target_session_attrs" => {
                self.session = match value {
                    "any" => TargetSessionAttrs::Any,
                    "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
                    "read-only" | "standby" => TargetSessionAttrs::ReadOnly,
                    _ => {
                        return Err(one_of(
                            name,
                            &["any", "read-write", "read-only", "primary", "standby"],
                        ));
                    }
                }
            }
            "load_balance_hosts" => {
                self.load_balance = match value {
                    "disable" => LoadBalanceHosts::Disable,
                    "random" => LoadBalanceHosts::Random,
                    _ => return Err(one_of(name, &["disable", "random"])),
                }
            }
            "application_name" => self.application_name = Some(value.to_owned()),
            "fallback_application_name" => {
                self.application_name.get_or_insert_with(|| value.to_owned());
            }
            "options" => self.options = Some(value.to_owned()),
            // Zero means "no limit" there, and nothing here waits without a limit: the default stays.
            "connect_timeout" => self.connect_timeout = Some(seconds()?).filter(|timeout| !timeout.is_zero()),
            "keepalives" => self.keepalives = whole(name, value)? != 0,
            "keepalives_idle" => self.keepalives_idle = seconds()?,
            "keepalives_interval" => self.keepalives_interval = seconds()?,
            "keepalives_count" => self.keepalives_count = whole(name, value)?,
            "tcp_user_timeout" => {
                self.tcp_user_timeout = Duration::from_millis(u64::from(whole(name, value)?));
            }
            "client_encoding" if value.eq_ignore_ascii_case("utf8") || value == "auto" => {}
            "client_encoding" => return Err("client_encoding can only be UTF8".to_owned()),
            "gssencmode" if value == "require" => {
                return Err("gssencmode=require: GSSAPI is not supported".to_owned());
            }
            // Of no consequence to this client.
            "gssencmode" | "krbsrvname" | "gsslib" | "sslcompression" | "sslsni" => {}
            "connection_limit" => return Err(foreign(name, "DB_POOL_SIZE")),
            "pool_timeout" => return Err(foreign(name, "DB_ACQUIRE_TIMEOUT")),
            "pgbouncer" => return Err(foreign(name, "DATABASE_POOLED_URL")),
            "statement_timeout" => return Err(foreign(name, "DB_STATEMENT_TIMEOUT")),
            "schema" | "search_path" | "currentSchema" => {
                return Err(format!(
                    "`{name}` is not a parameter here: every module has its own schema"
                ));
            }
            _ => {
                return Err(
                    "it has a parameter that PostgreSQL does not know (the ones that matter: sslmode, \
                     sslrootcert, application_name, connect_timeout, target_session_attrs, options), \
                     or an unescaped `?` or `&` in the password"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    fn finish(mut self, mode: Option<SslMode>) -> Result<Self, String> {
        if self.hosts.is_empty() && self.hostaddrs.is_empty() {
            return Err("it names no host".to_owned());
        }
        if self.hosts.is_empty() {
            self.hosts = self
                .hostaddrs
                .iter()
                .map(|address| Host::Tcp(address.to_string()))
                .collect();
        }
        if !self.hostaddrs.is_empty() && self.hostaddrs.len() != self.hosts.len() {
            return Err("it names another number of hosts than of hostaddr addresses".to_owned());
        }
        if self.ports.len() > 1 && self.ports.len() != self.hosts.len() {
            return Err("it names another number of ports than of hosts".to_owned());
        }
        if self.user.is_empty() {
            return Err("it names no user".to_owned());
        }
        if self.database.is_empty() {
            self.database.clone_from(&self.user);
        }
        for (what, text) in [("user", &self.user), ("database name", &self.database)] {
            if text.len() > 63 || text.contains('\0') {
                return Err(format!("the {what} is longer than 63 bytes or contains NUL"));
            }
        }
        if self
            .password
            .as_ref()
            .is_some_and(|password| password.contains('\0'))
        {
            return Err("the password contains NUL".to_owned());
        }
        self.ssl.mode = match (mode, &self.ssl.roots) {
            (None | Some(SslMode::VerifyFull), Roots::System) => SslMode::VerifyFull,
            (Some(_), Roots::System) => {
                return Err(
                    "sslrootcert=system trusts every public authority, so it needs sslmode=verify-full"
                        .to_owned(),
                );
            }
            (Some(SslMode::VerifyCa), Roots::Unset) => {
                return Err("sslmode=verify-ca needs sslrootcert=/path/of/the/authority.pem".to_owned());
            }
            (mode, _) => mode.unwrap_or_default(),
        };
        if self.ssl.certificate.is_some() != self.ssl.key.is_some() {
            return Err("sslcert and sslkey belong together".to_owned());
        }
        if self.negotiation == SslNegotiation::Direct && !self.ssl.mode.is_strict() {
            return Err("sslnegotiation=direct needs sslmode=require or stricter".to_owned());
        }
        Ok(self)
    }
}

fn decode(text: &str, what: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let broken = bytes.iter().enumerate().any(|(index, byte)| {
        let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        *byte == b'%' && !(hex(index + 1) && hex(index + 2))
    });
    if broken {
        return Err(format!(
            "the {what} has a `%` that is not followed by two hexadecimal digits: write `%25`"
        ));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(format!("the {what} is not UTF-8 after percent-decoding")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    // The text is not repeated: with an unescaped `/` in it, this is half the password.
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
        "the port is not a number from 1 to 65535: is there an unescaped `/`, `?`, `#`, `@` or `:` in the \
         password? Percent-encode it"
            .to_owned()
    })
}

fn whole(name: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{name} is not a whole number"))
}

fn one_of(name: &str, names: &[&str]) -> String {
    format!("{name} has to be one of {}", names.join(", "))
}

fn foreign(name: &str, variable: &str) -> String {
    format!("`{name}` is not a PostgreSQL parameter: remove it and set {variable}")
}
