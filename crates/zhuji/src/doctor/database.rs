//! PostgreSQL: the way there, what it is, and whether it has room.

use std::time::Duration;

use jiff::Timestamp;
use zhuji_db_pool::{DbConfig, DbPool, Error, ErrorKind, Plan, Verdict};

use super::{Finding, Patient, absent, clock, remedies};

/// One for the questions, one in reserve.
const CONNECTIONS: u32 = 2;
const OLDEST: i32 = 15;
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(config) = patient.db.here() else {
        return absent("database", &patient.db);
    };
    let mut found = Vec::new();
    let mut direct = visitor(config);
    direct.pooled_url = None;
    if direct.url.is_some() {
        match DbPool::connect(&direct).await {
            Ok(pool) => {
                match direct_findings(patient, config, &pool).await {
                    Ok(more) => found.extend(more),
                    Err(error) => found.push(broken("database", "DATABASE_URL", &error)),
                }
                pool.drain(GOODBYE).await;
            }
            Err(error) => found.push(broken("database", "DATABASE_URL", &error)),
        }
    }
    if config.pooled_url.is_some() {
        found.push(pooled(&visitor(config)).await);
    }
    found
}

/// The same way as the service's, without being taken for one of its instances.
fn visitor(config: &DbConfig) -> DbConfig {
    let mut visitor = config.clone();
    visitor.application_name = "zhuji-doctor".to_owned();
    visitor.pool_size = Some(CONNECTIONS);
    visitor.adaptive = false;
    visitor.min_idle = 0;
    visitor.replica_url = None;
    visitor
}

/// What is wrong, in one line, and what to do about it.
fn broken(check: &'static str, variable: &str, error: &Error) -> Finding {
    let code = error
        .sql_state()
        .map(|code| code.code().to_owned())
        .unwrap_or_default();
    let evidence = format!("{}: {}", error.subject(), error.reason());
    let mend = match (error.kind(), code.as_str()) {
        (ErrorKind::TooManyConnections, _) => {
            let evidence = format!("{evidence}: every connection of the server is taken");
            return Finding::error(check, evidence, remedies::NO_CONNECTION_LEFT);
        }
        (ErrorKind::Unreachable, "57P03") => "wait: the server is starting or shutting down".to_owned(),
        (ErrorKind::Unreachable | ErrorKind::Disconnected | ErrorKind::Timeout, _) => {
            remedies::NO_ROAD_TO_DATABASE.replace("DATABASE_URL", variable)
        }
        (ErrorKind::Auth, "3D000") => {
            format!("create the database, or correct its name in {variable}")
        }
        (ErrorKind::Auth, "28000") => {
            "let pg_hba.conf (RDS: the allow-list) take this user from this machine".to_owned()
        }
        (ErrorKind::Auth, _) => format!("correct user and password in {variable}"),
        (ErrorKind::Tls, _) => format!("correct sslmode and sslrootcert in {variable}"),
        (_, "08P01") => format!(
            "{variable} leads to a pooler: put that address into DATABASE_POOLED_URL and the server's own (port 5432) \
             into DATABASE_URL"
        ),
        (ErrorKind::Config, _) => format!("correct {variable}"),
        _ => "look into the log of the server".to_owned(),
    };
    Finding::error(check, evidence, mend)
}

/// Everything about the server in one row.
const FACTS: &str = "\
SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
  coalesce((SELECT version || ' ' || cipher FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid() AND ssl), ''), \
  has_database_privilege(current_database(), 'CREATE'), has_database_privilege(current_database(), 'TEMP'), \
  role.rolsuper, role.rolcreaterole, role.rolconnlimit, role.rolname::text, current_database()::text, \
  current_setting('statement_timeout'), pg_catalog.pg_is_in_recovery(), \
  (SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = ANY($1)) \
FROM pg_catalog.pg_roles role WHERE rolname = current_user";

struct Facts {
    version: i32,
    version_text: String,
    tls: String,
    may_create: bool,
    may_temp: bool,
    is_superuser: bool,
    may_create_roles: bool,
    connection_limit: i32,
    role: String,
    database: String,
    statement_timeout: String,
    is_replica: bool,
    schemas_there: i64,
}

async fn direct_findings(
    patient: &Patient<'_>,
    config: &DbConfig,
    pool: &DbPool,
) -> Result<Vec<Finding>, Error> {
    let row = pool.query_one(FACTS, &[&patient.schemas]).await?;
    let facts = Facts {
        version: row.get::<_, i32>(0) / 10_000,
        version_text: row.get(1),
        tls: row.get(2),
        may_create: row.get(3),
        may_temp: row.get(4),
        is_superuser: row.get(5),
        may_create_roles: row.get(6),
        connection_limit: row.get(7),
        role: row.get(8),
        database: row.get(9),
        statement_timeout: row.get(10),
        is_replica: row.get(11),
        schemas_there: row.get(12),
    };
    let asked = Timestamp::now();
    let theirs: f64 = pool
        .query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[])
        .await?
        .get(0);
    let mut found = vec![
        Finding::ok(
            "database",
            format!(
                "PostgreSQL {} answers as {} in {}",
                facts.version_text, facts.role, facts.database
            ),
        ),
        clock::compare("clock.database", "the database", asked, theirs),
    ];
    if facts.version < OLDEST {
        let evidence = format!("PostgreSQL {}", facts.version_text);
        found.push(Finding::error(
            "database.version",
            evidence,
            "upgrade the server to PostgreSQL 15 or newer",
        ));
    }
    if facts.is_replica {
        let mend = "let DATABASE_URL lead to the primary, or add target_session_attrs=read-write to it";
        found.push(Finding::error(
            "database.role",
            "it is a replica, which takes no writes",
            mend,
        ));
    }
    found.push(encryption(patient, config, &facts));
    found.extend(rights(patient, &facts));
    // The pool sends it with every login; a pooler that is told to ignore such options hides it.
    if facts.statement_timeout == "0" {
        let evidence = "DATABASE_URL leads to a pooler that drops the session's settings";
        let mend =
            "put that address into DATABASE_POOLED_URL and the server's own (port 5432) into DATABASE_URL";
        found.push(Finding::error("database.way", evidence, mend));
    } else {
        found.push(Finding::ok("database.way", "direct, without a pooler"));
    }
    if let Some(plan) = pool.plan() {
        found.push(planned(&plan, config.pool_size, facts.connection_limit));
    }
    found.push(in_use(pool).await?);
    Ok(found)
}

fn encryption(patient: &Patient<'_>, config: &DbConfig, facts: &Facts) -> Finding {
    let check = "database.tls";
    let places = config.addresses();
    let place = places.first();
    let mode = place.map_or("prefer", |place| place.ssl_mode);
    let near = place.is_none_or(|place| {
        let loopback = place
            .host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
        place.is_socket || loopback || place.host == "localhost"
    });
    let mend =
        "use sslmode=verify-full with sslrootcert in DATABASE_URL (RDS: turn SSL on and download its CA)";
    match (facts.tls.as_str(), near) {
        ("", true) => Finding::ok(
            check,
            format!("not encrypted (sslmode={mode}), and on this machine"),
        ),
        ("", false) if patient.is_production() => {
            let evidence =
                format!("not encrypted (sslmode={mode}): passwords and rows can be read on the way");
            Finding::warning(check, evidence, mend)
        }
        ("", false) => Finding::info(check, format!("not encrypted (sslmode={mode})")),
        (tls, false) if patient.is_production() && !place.is_some_and(|place| place.is_verified) => {
            let evidence = format!("{tls}, and nobody checks whose certificate it is (sslmode={mode})");
            Finding::warning(check, evidence, mend)
        }
        (tls, _) => Finding::ok(check, format!("{tls} (sslmode={mode})")),
    }
}

fn rights(patient: &Patient<'_>, facts: &Facts) -> Vec<Finding> {
    let check = "database.rights";
    let (role, database) = (&facts.role, &facts.database);
    let mut found = Vec::new();
    let all_there = !patient.schemas.is_empty()
        && i64::try_from(patient.schemas.len()).is_ok_and(|needed| needed == facts.schemas_there);
    if !facts.may_create {
        let evidence = format!("{role} may not create schemas in {database}");
        found.push(match all_there {
            true => Finding::info(check, format!("{evidence}; those of the modules are there")),
            false => {
                let mend = format!("GRANT CREATE ON DATABASE \"{database}\" TO \"{role}\"");
                Finding::error(check, evidence, mend)
            }
        });
    }
    if !facts.may_temp {
        let mend = format!("GRANT TEMPORARY ON DATABASE \"{database}\" TO \"{role}\"");
        found.push(Finding::warning(
            check,
            format!("{role} may not make temporary tables"),
            mend,
        ));
    }
    if facts.is_superuser && patient.is_production() {
        let evidence = format!("{role} is a superuser, whom no module's wall holds");
        let mend = "use a role of the service's own: CREATE ROLE … LOGIN CREATEROLE";
        found.push(Finding::warning(check, evidence, mend));
    }
    if found.is_empty() {
        let roles = match facts.may_create_roles || facts.is_superuser {
            true => "and roles, so that every module has its own",
            false => "and no roles: modules share one (DB_MODULE_ROLES)",
        };
        found.push(Finding::ok(
            check,
            format!("{role} may connect and create schemas, temporary tables {roles}"),
        ));
    }
    found
}

fn planned(plan: &Plan, fixed: Option<u32>, connection_limit: i32) -> Finding {
    let check = "database.plan";
    let input = &plan.input;
    let fleet = format!(
        "{} for each of {} instances and {} more of a release, {} of {} for all",
        plan.size, input.instances, input.surge, plan.budget, input.max_connections
    );
    let advice = plan.advice.join("; or ");
    let peak = fixed.unwrap_or(plan.size).saturating_mul(input.instances);
    match (plan.verdict, fixed) {
        (Verdict::Ok, Some(fixed)) if fixed > plan.cap => Finding::warning(
            check,
            format!("DB_POOL_SIZE is {fixed}, and the server has room for {fleet}"),
            "remove DB_POOL_SIZE, or lower DB_MAX_INSTANCES",
        ),
        (Verdict::Ok, _) if u32::try_from(connection_limit).is_ok_and(|limit| limit < peak) => {
            Finding::warning(
                check,
                format!(
                    "the role may have {connection_limit} connections, and the instances together take {peak}"
                ),
                format!("ALTER ROLE … CONNECTION LIMIT {}", plan.connection_limit),
            )
        }
        (Verdict::Ok, Some(fixed)) => {
            Finding::ok(check, format!("OK: DB_POOL_SIZE={fixed}, room for {fleet}"))
        }
        (Verdict::Ok, None) => Finding::ok(check, format!("OK: {fleet}")),
        (Verdict::Tight, _) => Finding::warning(check, format!("TIGHT: {fleet}"), advice),
        (verdict, _) => Finding::error(check, format!("{verdict}: {fleet}"), advice),
    }
}

/// Who holds most of them.
const HOLDERS: &str = "\
SELECT coalesce(nullif(split_part(application_name, '/', 1), ''), usename::text, 'unknown'), count(*), \
  count(*) FILTER (WHERE state LIKE 'idle in transaction%') \
FROM pg_catalog.pg_stat_activity WHERE datname IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3";

async fn in_use(pool: &DbPool) -> Result<Finding, Error> {
    let check = "database.connections";
    let server = pool.server_connections().await?;
    let evidence = format!(
        "{} of {} in use ({:.0} %)",
        server.total,
        server.max,
        server.usage() * 100.0
    );
    if !server.is_high() {
        return Ok(Finding::ok(check, evidence));
    }
    let holders = pool.query(HOLDERS, &[]).await?;
    let holders: Vec<String> = holders
        .iter()
        .map(|row| {
            let (name, count, idle): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
            match idle {
                0 => format!("{name} {count}"),
                idle => format!("{name} {count} ({idle} idle in a transaction)"),
            }
        })
        .collect();
    let evidence = format!("{evidence}; most by {}", holders.join(", "));
    Ok(Finding::warning(check, evidence, remedies::NO_CONNECTION_LEFT))
}

async fn pooled(config: &DbConfig) -> Finding {
    let (check, variable) = ("database.pooled", "DATABASE_POOLED_URL");
    let asked = async {
        let pool = DbPool::connect(config).await?;
        let row = pool.query_one("SELECT current_database()::text", &[]).await;
        pool.drain(GOODBYE).await;
        row.map(|row| row.get::<_, String>(0))
    };
    match asked.await {
        Ok(database) => Finding::ok(check, format!("the pooler answers in {database}")),
        Err(error) => broken(check, variable, &error),
    }
}

#[cfg(test)]
mod tests {
    use zhuji_db_pool::{PlannerInput, plan};

    use super::super::Severity;
    use super::*;

    #[test]
    fn a_plan_that_does_not_work_is_told_with_numbers() {
        let of = |max, instances, fixed, limit| {
            let mut input = PlannerInput::new(max);
            (input.instances, input.surge) = (instances, instances);
            let found = planned(&plan(&input), fixed, limit);
            (found.severity, found.evidence)
        };
        let (severity, evidence) = of(400, 10, None, -1);
        assert_eq!(severity, Severity::Ok);
        assert!(evidence.contains("16 for each of 10 instances"), "{evidence}");
        assert_eq!(of(50, 20, None, -1).0, Severity::Error);
        let (severity, evidence) = of(400, 10, Some(40), -1);
        assert_eq!(severity, Severity::Warning);
        assert!(evidence.contains("DB_POOL_SIZE is 40"), "{evidence}");
        assert_eq!(of(400, 10, None, 100).0, Severity::Warning);
        assert_eq!(of(400, 10, None, 300).0, Severity::Ok);
    }
}
