//! `zhuji doctor`: what a service stands on, examined without the service's program.

use std::process::ExitCode;

use clap::Args;
use zhuji::doctor::{Arguments, examine};

use crate::failure::Failure;
use crate::storage::say;

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    arguments: Arguments,
}

pub(crate) async fn run(doctor: &Doctor) -> Result<ExitCode, Failure> {
    let arguments = &doctor.arguments;
    let diagnosis = examine(arguments).await;
    match arguments.json {
        true => say(&diagnosis.to_json()),
        false => diagnosis.to_string().lines().for_each(say),
    }
    Ok(ExitCode::from(diagnosis.exit_code(arguments.strict)))
}
