//! `doctor`: what the service stands on, tried once.

use std::process::ExitCode;

use super::config::print;
use crate::doctor::{Arguments, of_service};
use crate::error::Error;
use crate::platform::{Platform, runtime};

pub(crate) fn doctor(
    platform: &Platform,
    set: &[(String, String)],
    arguments: &Arguments,
) -> Result<ExitCode, Error> {
    let runtime = runtime()?;
    let diagnosis = runtime.block_on(of_service(platform, set, arguments));
    // A name server that does not answer holds a thread for half a minute.
    runtime.shutdown_background();
    print(&match arguments.json {
        true => diagnosis.to_json(),
        false => diagnosis.to_string(),
    });
    Ok(ExitCode::from(diagnosis.exit_code(arguments.strict)))
}
