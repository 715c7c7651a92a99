//! What ships and keeps a service, as an operator types it: the real binary.
#![allow(clippy::unwrap_used)]

mod backup;
mod deploy;
