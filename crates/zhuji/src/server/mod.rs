//! The HTTP server: an accept loop of our own, because a graceful stop needs a hard end (see `listener`).

mod admin;
mod body;
mod context;
mod listener;
mod operator;
mod respond;
mod stall;
mod uploads;

pub(crate) use admin::{AdminToken, Administered, admin};
pub use context::{RequestContext, current_request};
pub(crate) use context::{current_request_id, job_origin};
pub(crate) use listener::{Listener, listen};
pub(crate) use respond::{App, Endpoints, Routine, tag_module};
pub(crate) use uploads::uploads;

#[cfg(test)]
mod tests;
