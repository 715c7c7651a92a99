//! `REDIS_URL`, taken apart.

use std::fmt;
use std::path::PathBuf;

use ::redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use zhuji_config::Secret;

/// Where a server is and how to log in.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) place: Place,
    /// User, password, database and protocol version.
    pub(crate) login: RedisConnectionInfo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Place {
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

/// Host and port, or the socket's path: what errors and logs may show.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Reads the URL. The library's own error may quote parts of it, so none of that is kept.
///
/// # Errors
///
/// The reason, to be put after `REDIS_URL`.
pub(crate) fn read_url(url: &Secret) -> Result<Address, &'static str> {
    const FORM: &str =
        "is not of the form redis[s]://[user:password@]host[:port][/database][?protocol=resp3]";
    let (scheme, rest) = url.expose().split_once("://").ok_or(FORM)?;
    let tls = ["rediss", "valkeys"]
        .iter()
        .any(|name| scheme.eq_ignore_ascii_case(name));
    if tls && rest.contains('#') {
        return Err(
            "asks for TLS without a check (`#…`), which is not offered: name the authority of the \
                    server's certificate in REDIS_CA_FILE",
        );
    }
    // The library is built without TLS: it would install a cryptographic provider for the whole process. So it reads
    // the rest of the URL, and the connection is dialled here.
    let plain = if tls {
        format!("redis://{rest}")
    } else {
        url.expose().to_owned()
    };
    let info = plain.into_connection_info().map_err(|_| FORM)?;
    let place = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Place::Tcp {
            host: host.clone(),
            port: *port,
            tls,
        },
        ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
        _ => return Err(FORM),
    };
    Ok(Address {
        place,
        login: info.redis_settings().clone(),
    })
}

#[cfg(test)]
mod tests {
    use ::redis::ProtocolVersion;

    use super::*;

    #[test]
    fn every_part_of_the_url_is_read() {
        let read = |url: &str| read_url(&Secret::new(url)).expect(url);
        let full = read("RedisS://jobs:p%40ss@cache.internal:6390/7?protocol=resp3");
        let place = Place::Tcp {
            host: "cache.internal".into(),
            port: 6390,
            tls: true,
        };
        assert_eq!(full.place, place);
        assert_eq!(full.place.to_string(), "cache.internal:6390");
        assert_eq!(
            (full.login.username(), full.login.password()),
            (Some("jobs"), Some("p@ss"))
        );
        assert_eq!(
            (full.login.db(), full.login.protocol()),
            (7, ProtocolVersion::RESP3)
        );

        let short = read("valkeys://[::1]");
        assert!(short.place.is_tls());
        assert_eq!(short.place.to_string(), "[::1]:6379");
        assert_eq!(
            (short.login.db(), short.login.protocol()),
            (0, ProtocolVersion::RESP2)
        );
        assert!(!read("redis://h").place.is_tls());
        let socket = read("unix:///run/redis.sock?db=2");
        assert_eq!(
            (socket.place.to_string().as_str(), socket.login.db()),
            ("/run/redis.sock", 2)
        );
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for url in [
            "h:6379",
            "http://h",
            "rediss://",
            "redis://h/x",
            "rediss:///run/redis.sock",
            "rediss://h#insecure",
        ] {
            assert!(read_url(&Secret::new(url)).is_err(), "{url}");
        }
    }
}
