//! Where the connection strings lead, for tools that look at the way and not at the database.

use tokio_postgres::config::Host;

use crate::config::DbConfig;
use crate::tls::SslMode;
use crate::url::{Roots, Target};

/// One place that a connection string names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DbAddress {
    /// The variable that names it, such as `DATABASE_URL`.
    pub variable: &'static str,
    /// A name, an IP address, or the directory of a unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it is a unix socket.
    pub is_socket: bool,
    /// `sslmode` in libpq's words.
    pub ssl_mode: &'static str,
    /// Whether the server has to show a certificate of a trusted authority.
    pub is_verified: bool,
}

impl DbConfig {
    /// Where `DATABASE_URL`, `DATABASE_POOLED_URL` and `DATABASE_REPLICA_URL` lead, each place once. Resolves nothing; a
    /// string that can't be read names no place.
    pub fn addresses(&self) -> Vec<DbAddress> {
        let mut found: Vec<DbAddress> = Vec::new();
        for (variable, url) in [
            ("DATABASE_URL", &self.url),
            ("DATABASE_POOLED_URL", &self.pooled_url),
            ("DATABASE_REPLICA_URL", &self.replica_url),
        ] {
            let target = url.as_ref().and_then(|url| Target::parse(url.expose()).ok());
            for address in target.iter().flat_map(|target| of(variable, target)) {
                let known = |other: &DbAddress| other.host == address.host && other.port == address.port;
                if !found.iter().any(known) {
                    found.push(address);
                }
            }
        }
        found
    }
}

fn of(variable: &'static str, target: &Target) -> Vec<DbAddress> {
    let mode = target.ssl.mode;
    let is_verified = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull)
        || (mode == SslMode::Require && matches!(target.ssl.roots, Roots::File(_)));
    let places = target.hosts.iter().enumerate().map(|(index, host)| {
        let port = target.ports.get(index).or(target.ports.first());
        let (host, is_socket) = match (host, target.hostaddrs.get(index)) {
            (_, Some(address)) => (address.to_string(), false),
            (Host::Tcp(name), None) => (name.clone(), false),
            (Host::Unix(path), None) => (path.display().to_string(), true),
        };
        DbAddress {
            variable,
            host,
            port: port.copied().unwrap_or(5432),
            is_socket,
            ssl_mode: SslMode::NAMES[mode as usize],
            is_verified,
        }
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_named_once_and_no_password_ever() {
        let mut config =
            DbConfig::new("postgres://u:hunter2@a:1,b:2/d?sslmode=verify-full&sslrootcert=system");
        config.pooled_url = Some("postgres://u:hunter2@a:6432/d?sslmode=disable".into());
        config.replica_url = Some("postgres://u@b:2/d".into());
        let places = config.addresses();
        let told: Vec<_> = places
            .iter()
            .map(|a| (a.variable, a.host.as_str(), a.port, a.ssl_mode))
            .collect();
        let expected = [
            ("DATABASE_URL", "a", 1, "verify-full"),
            ("DATABASE_URL", "b", 2, "verify-full"),
            ("DATABASE_POOLED_URL", "a", 6432, "disable"),
        ];
        assert_eq!(told, expected);
        assert!(places[0].is_verified && !places[2].is_verified);
        assert!(!format!("{places:?}").contains("hunter2"));
        assert!(DbConfig::new("mysql://x").addresses().is_empty());
    }
}
