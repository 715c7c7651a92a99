//! `healthcheck`: one request to the service on this machine, without an HTTP client's weight.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use crate::platform::{Platform, loader};
use crate::settings::ServiceConfig;

const TIMEOUT: Duration = Duration::from_secs(3);

/// 0 if the endpoint answers 200, 1 otherwise; says why on standard error. Needs to know host and port, and asks for
/// no other setting.
pub(crate) fn healthcheck(platform: &Platform, set: &[(String, String)], path: &str) -> ExitCode {
    let Some(config) = loader(platform, set).load::<ServiceConfig>() else {
        eprintln!("HOST or PORT can't be read; `config check` says why");
        return ExitCode::FAILURE;
    };
    match ask(&config, path) {
        Ok(200) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("{path} answers {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{path} on port {} can't be asked: {error}", config.port);
            ExitCode::FAILURE
        }
    }
}

fn ask(config: &ServiceConfig, path: &str) -> std::io::Result<u16> {
    if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(std::io::Error::other("a path starts with `/` and has no spaces"));
    }
    let mut stream = TcpStream::connect_timeout(&own_address(config)?, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut status_line = String::new();
    BufReader::new(stream).read_line(&mut status_line)?;
    status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}

/// Where to ask: a service that listens on all addresses is asked on loopback.
fn own_address(config: &ServiceConfig) -> std::io::Result<SocketAddr> {
    let host = match config.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    (host, config.port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| std::io::Error::other(format!("HOST `{host}` has no address")))
}
