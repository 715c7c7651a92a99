//! From the settings of a service to its queues.

use zhuji_config::{Loader, Sources};
use zhuji_db_pool::{DbConfig, DbPool, ErrorKind};
use zhuji_jobs::{JobsAdmin, JobsConfig};

use crate::failure::Failure;

/// One for the command, one in reserve.
const CONNECTIONS: u32 = 2;

pub(super) async fn admin() -> Result<JobsAdmin, Failure> {
    let config = settings()?;
    let pool = DbPool::connect(&config)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Config => Failure::usage(error.to_string()),
            _ => Failure::unavailable(error.to_string()),
        })?;
    Ok(JobsAdmin::open(pool).await?)
}

/// `DATABASE_URL` and what belongs to it, from where a service has them too.
fn settings() -> Result<DbConfig, Failure> {
    let mut loader = Loader::new(Sources::discover(Vec::<(String, String)>::new()));
    let (db, jobs) = (loader.load::<DbConfig>(), loader.load::<JobsConfig>());
    if let Some(db) = &db {
        loader.require("DATABASE_URL", db.url.is_some(), "the jobs are kept there");
    }
    let report = loader.report().without_strangers_of_files();
    let (Some(mut db), Some(jobs)) = (db.filter(|_| report.is_ok()), jobs) else {
        return Err(Failure::usage(format!("the queues can't be opened\n{report}")));
    };
    if jobs.kind != "postgres" {
        return Err(Failure::usage(format!(
            "JOBS_TYPE={} keeps its jobs inside the service: look at /admin/jobs there",
            jobs.kind
        )));
    }
    // Not one of the service's instances: the fleet's budget is not for this, and it ends soon.
    db.application_name = "zhuji-cli".to_owned();
    db.pool_size = Some(CONNECTIONS);
    db.adaptive = false;
    db.min_idle = 0;
    db.replica_url = None;
    Ok(db)
}
