//! What goes wrong below HTTP: the name, the connection, TLS, the wire.

use std::{error::Error as StdError, io};

use crate::{Error, ErrorKind};

const CHECK_ADDRESS: &str = "check OSS_ENDPOINT, OSS_INTERNAL and the network";

/// The error of a request that got no answer. Its text could hold the URL, which goes.
pub(super) fn transport(operation: &'static str, subject: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let (kind, why) = phase(&error);
    let connecting = error.is_connect();
    let told = Error::new(kind, operation, subject, why).with_source(error);
    if connecting {
        told.with_hint(CHECK_ADDRESS)
    } else {
        told
    }
}

fn phase(error: &reqwest::Error) -> (ErrorKind, &'static str) {
    if error.is_builder() {
        return (ErrorKind::InvalidInput, "the request can't be written");
    }
    if !error.is_connect() {
        return match error.is_timeout() {
            true => (ErrorKind::Timeout, "the connection timed out"),
            false if io_kind(error) == Some(io::ErrorKind::ConnectionReset) => {
                (ErrorKind::Unavailable, "the connection was reset")
            }
            false => (ErrorKind::Unavailable, "the connection broke"),
        };
    }
    if error.is_timeout() {
        return (ErrorKind::Timeout, "no connection within 5 s");
    }
    if is_tls(error) {
        return (
            ErrorKind::Unavailable,
            "the server's certificate or TLS was not accepted",
        );
    }
    match io_kind(error) {
        Some(io::ErrorKind::ConnectionRefused) => (ErrorKind::Unavailable, "the connection was refused"),
        _ if is_dns(error) => (ErrorKind::Unavailable, "the host name can't be resolved"),
        _ => (ErrorKind::Unavailable, "no connection"),
    }
}

/// The chain of causes, into the I/O errors too, which hide what they wrap.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map_or_else(|| cause.source(), |wrapped| Some(wrapped as _))
    })
}

/// The system's own word for it.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind)
        .last()
}

fn is_tls(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.is::<rustls::Error>())
}

/// The connector has no type for it, only a word.
fn is_dns(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.to_string().contains("dns error"))
}
