//! `migrate`: the modules' migrations, as a step of its own in a release.

use std::process::ExitCode;

use super::config::print;
use crate::error::Error;
use crate::platform::{Platform, Shared, collect, migrate as apply, runtime};

pub(crate) fn migrate(platform: &Platform, set: &[(String, String)]) -> Result<ExitCode, Error> {
    let settings = collect(platform, set)?;
    runtime()?.block_on(async {
        let shared = Shared::connect(&settings, settings.service.port).await?;
        let done = apply(&shared, &settings.modules).await?;
        if done.is_empty() {
            return Ok(print("No module has a database."));
        }
        for (module, applied) in done {
            print(&match applied {
                0 => format!("{module}: up to date"),
                1 => format!("{module}: 1 migration applied"),
                count => format!("{module}: {count} migrations applied"),
            });
        }
        Ok(ExitCode::SUCCESS)
    })
}
