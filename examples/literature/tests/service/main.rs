//! The reference service as its users and operators meet it: the real binary, over HTTP.

#[path = "../support/mod.rs"]
mod support;

mod assistant;
mod bad_input;
mod cloud;
mod combinations;
mod interrupted;
#[path = "../modes/mod.rs"]
mod modes;
mod operator;
mod outages;
mod refusals;
mod signals;
mod sweep;
mod traces;
mod walk;
