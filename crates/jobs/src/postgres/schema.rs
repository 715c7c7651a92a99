use zhuji_db_pool::Migration;

pub(super) const NAME: &str = "zhuji_jobs";

/// Applied migrations never change; what is wrong with one is put right in the next.
pub(super) const MIGRATIONS: &[Migration<'static>] = &[
    Migration {
        version: 1,
        name: "job",
        sql: include_str!("v1_job.sql"),
    },
    Migration {
        version: 2,
        name: "claims",
        sql: include_str!("v2_claims.sql"),
    },
    Migration {
        version: 3,
        name: "engine",
        sql: include_str!("v3_engine.sql"),
    },
    Migration {
        version: 4,
        name: "fleet",
        sql: include_str!("v4_fleet.sql"),
    },
    Migration {
        version: 5,
        name: "claim",
        sql: include_str!("v5_claim.sql"),
    },
];
