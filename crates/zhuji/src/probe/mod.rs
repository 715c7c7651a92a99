//! Looking at what the service stands on, from outside the handles: for `doctor`, and for figures that no library counts.

mod certificate;
mod http;
mod space;

pub(crate) use certificate::{TlsEndpoint, endpoints};
pub(crate) use http::{client, failure};
pub(crate) use space::Space;
