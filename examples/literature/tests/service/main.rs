//! The reference service as its users and operators meet it: the real binary, over HTTP.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod cloud;
mod interrupted;
mod operator;
mod outages;
mod refusals;
mod signals;
mod sweep;
mod walk;
