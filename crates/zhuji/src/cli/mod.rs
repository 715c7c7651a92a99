//! The command line that every service has.

mod args;
mod config;
mod doctor;
mod healthcheck;
mod migrate;
mod modules;

pub(crate) use args::{Args, Command, ConfigCommand, TemplateFormat};
pub(crate) use config::{config, template};
pub(crate) use doctor::doctor;
pub(crate) use healthcheck::healthcheck;
pub(crate) use migrate::migrate;
pub(crate) use modules::modules;
