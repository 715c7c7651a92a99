//! `migrate`: the modules' migrations, as a step of its own in a release.

use std::process::ExitCode;

use super::config::print;
use crate::error::Error;
use crate::platform::{Platform, collect, migrate as apply, runtime};

pub(crate) fn migrate(platform: &Platform, set: &[(String, String)]) -> Result<ExitCode, Error> {
    let settings = collect(platform, set)?;
    runtime()?.block_on(async {
        let db = platform.factories.database(&settings).await?;
        // The queue keeps its own schema up to date when it is built.
        platform.factories.jobs(&settings, db.as_ref()).await?;
        let done = apply(db.as_ref(), &settings.modules).await?;
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
