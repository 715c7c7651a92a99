use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::conn::Conn;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::DbPool;
use crate::scope::{self, quote};

/// How long to wait for another instance that is migrating the same schema.
const LOCK_WAIT: Duration = Duration::from_secs(120);
/// How long one statement waits for a table that others use, before it gives way to them.
const TABLE_LOCK_WAIT: &str = "30s";
/// Where a schema's applied migrations are written down.
const TABLE: &str = "_zhuji_migrations";

/// One step in the life of a schema.
///
/// Once applied anywhere, `sql` must not change any more: write the next migration instead. Each runs in a transaction
/// of its own, so it must not contain `BEGIN`, `COMMIT` or what cannot run in one (`CREATE INDEX CONCURRENTLY`).
#[derive(Clone, Copy, Debug)]
pub struct Migration<'a> {
    /// Ascending, from 1; gaps are allowed.
    pub version: i64,
    /// For people: `create literatures`.
    pub name: &'a str,
    /// One or more statements. Unqualified names are in the module's schema.
    pub sql: &'a str,
}

/// What [`DbPool::migrate`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// Versions applied now, in order.
    pub applied: Vec<i64>,
    /// How many were applied before.
    pub already: usize,
    /// Versions in the database that this program does not know: a newer release has been here. They are left alone.
    pub ahead: Vec<i64>,
}

struct Applied {
    name: String,
    checksum: String,
}

impl DbPool {
    /// Brings `schema` up to date: creates it if it is missing and applies, in order, the migrations that were not
    /// applied yet. Does nothing when all were.
    ///
    /// Safe to call from many instances at once: one works, the others wait (at most two minutes) and then find it
    /// done. Uses a connection of its own on `DATABASE_URL`, never the pooler, without a statement deadline. When it
    /// is cancelled or the process dies, the migration under way is rolled back.
    ///
    /// # Errors
    /// [`ErrorKind::Migration`]: an applied migration was changed or removed, a new one was put before applied ones,
    /// or a statement failed (with its line); [`ErrorKind::Config`] for versions that do not ascend; and those of
    /// connecting.
    pub async fn migrate(&self, schema: &str, migrations: &[Migration<'_>]) -> Result<Migrated> {
        let subject = format!("schema \"{schema}\"");
        scope::check(schema).map_err(|reason| Error::new(ErrorKind::Config, "migrate", &subject, reason))?;
        check_order(&subject, migrations)?;
        let run = Run {
            pool: self,
            schema,
            subject,
        };
        let conn = run.connect().await?;
        run.lock(&conn).await?;
        let mut result = run.apply(&conn, migrations).await;
        if result.is_ok()
            && let Err(error) = self.shared.grant_roles(&conn.client, schema, TABLE).await
        {
            result = Err(error.doing("migrate"));
        }
        // Closing the connection gives the lock back as well; this does it before the call returns.
        let _ = conn
            .client
            .batch_execute("SELECT pg_catalog.pg_advisory_unlock_all()")
            .await;
        result
    }
}

fn check_order(subject: &str, migrations: &[Migration<'_>]) -> Result<()> {
    let mut last = 0;
    for migration in migrations {
        if migration.version <= last {
            let reason = format!(
                "migration {} \"{}\" follows {last}: versions have to ascend from 1",
                migration.version, migration.name
            );
            return Err(Error::new(ErrorKind::Config, "migrate", subject, reason));
        }
        last = migration.version;
    }
    Ok(())
}

/// The same text has the same checksum on every system's line endings.
fn checksum(sql: &str) -> String {
    hex::encode(Sha256::digest(sql.replace("\r\n", "\n").as_bytes()))
}

struct Run<'a> {
    pool: &'a DbPool,
    schema: &'a str,
    subject: String,
}

impl Run<'_> {
    async fn connect(&self) -> Result<Conn> {
        let dialer = self.pool.shared.direct("migrate")?;
        let deadline = Instant::now() + self.pool.shared.limits.acquire_timeout;
        let conn = loop {
            match dialer.dial("migrate", None).await {
                Ok(conn) => break conn,
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50 + fastrand::u64(..200))).await;
                }
                Err(error) => return Err(error.doing("connect to migrate")),
            }
        };
        let settings = format!("SET statement_timeout = 0; SET lock_timeout = '{TABLE_LOCK_WAIT}'");
        self.batch(&conn, &settings).await?;
        Ok(conn)
    }

    async fn batch(&self, conn: &Conn, sql: &str) -> Result<()> {
        conn.client
            .batch_execute(sql)
            .await
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: tokio_postgres::Error) -> Error {
        Error::statement("migrate", &self.subject, error)
    }

    fn refused(&self, reason: String) -> Error {
        Error::new(ErrorKind::Migration, "migrate", &self.subject, reason)
    }

    /// The number of this schema's lock. Advisory locks are per database, so the database is not part of it.
    fn lock_key(&self) -> i64 {
        let digest = Sha256::digest(format!("zhuji migrations {}", self.schema).as_bytes());
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(key)
    }

    async fn lock(&self, conn: &Conn) -> Result<()> {
        let key = self.lock_key();
        let deadline = Instant::now() + LOCK_WAIT;
        let mut told = false;
        loop {
            let row = conn
                .client
                .query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&key])
                .await
                .map_err(|error| self.failed(error))?;
            if row.get(0) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let reason = format!("another process has been migrating it for more than {LOCK_WAIT:?}");
                return Err(Error::new(
                    ErrorKind::LockNotAvailable,
                    "migrate",
                    &self.subject,
                    reason,
                ));
            }
            if !told {
                told = true;
                tracing::info!(
                    schema = self.schema,
                    "another instance is migrating; waiting for it"
                );
            }
            tokio::time::sleep(Duration::from_millis(30 + fastrand::u64(..70))).await;
        }
    }

    async fn apply(&self, conn: &Conn, migrations: &[Migration<'_>]) -> Result<Migrated> {
        self.prepare(conn).await?;
        let mut applied = self.applied(conn).await?;
        let newest_applied = applied.keys().next_back().copied().unwrap_or(0);
        let mut done = Migrated::default();
        for migration in migrations {
            match applied.remove(&migration.version) {
                Some(before) => {
                    if before.checksum != checksum(migration.sql) {
                        return Err(self.refused(format!(
                            "migration {} \"{}\" was changed after it had been applied (as \"{}\"): restore its \
                             text and write a new migration",
                            migration.version, migration.name, before.name
                        )));
                    }
                    done.already += 1;
                }
                None if migration.version < newest_applied => {
                    return Err(self.refused(format!(
                        "migration {} \"{}\" was put before migration {newest_applied}, which is applied: give it \
                         a higher version",
                        migration.version, migration.name
                    )));
                }
                None => {}
            }
        }
        let newest_known = migrations.last().map_or(0, |migration| migration.version);
        if let Some((version, gone)) = applied.iter().find(|(version, _)| **version < newest_known) {
            return Err(self.refused(format!(
                "migration {version} \"{}\" is applied and missing from the program: restore it",
                gone.name
            )));
        }
        done.ahead = applied.into_keys().collect();
        if !done.ahead.is_empty() {
            tracing::warn!(
                schema = self.schema,
                versions = ?done.ahead,
                "a newer release has migrated this schema; this one leaves it as it is"
            );
            return Ok(done);
        }
        for migration in migrations
            .iter()
            .filter(|migration| migration.version > newest_applied)
        {
            self.apply_one(conn, migration).await?;
            done.applied.push(migration.version);
        }
        Ok(done)
    }

    /// Creates the schema and its table of migrations.
    async fn prepare(&self, conn: &Conn) -> Result<()> {
        let exists = conn
            .client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)",
                &[&self.schema],
            )
            .await
            .map_err(|error| self.failed(error))?;
        let schema = quote(self.schema);
        if !exists.get::<_, bool>(0) {
            // Asked first, because IF NOT EXISTS needs the right to create even where nothing is to be created.
            self.batch(conn, &format!("CREATE SCHEMA {schema}")).await?;
        }
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {schema}.{TABLE} (
                version bigint PRIMARY KEY,
                name text NOT NULL,
                checksum text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now(),
                took_ms bigint NOT NULL
            )"
        );
        self.batch(conn, &create).await
    }

    async fn applied(&self, conn: &Conn) -> Result<BTreeMap<i64, Applied>> {
        let sql = format!(
            "SELECT version, name, checksum FROM {}.{TABLE}",
            quote(self.schema)
        );
        let rows = conn
            .client
            .query(&sql, &[])
            .await
            .map_err(|error| self.failed(error))?;
        let entry = |row: &tokio_postgres::Row| {
            (
                row.get(0),
                Applied {
                    name: row.get(1),
                    checksum: row.get(2),
                },
            )
        };
        Ok(rows.iter().map(entry).collect())
    }

    async fn apply_one(&self, conn: &Conn, migration: &Migration<'_>) -> Result<()> {
        let started = Instant::now();
        let schema = quote(self.schema);
        self.batch(
            conn,
            &format!("BEGIN; SET LOCAL search_path TO {schema}, public; SAVEPOINT zhuji_migration"),
        )
        .await?;
        if let Err(error) = conn.client.batch_execute(migration.sql).await {
            let _ = conn.client.batch_execute("ROLLBACK").await;
            return Err(self.statement_failed(migration, self.failed(error)));
        }
        // Gone, if the migration ended the transaction it was put into.
        if conn
            .client
            .batch_execute("RELEASE SAVEPOINT zhuji_migration")
            .await
            .is_err()
        {
            let _ = conn.client.batch_execute("ROLLBACK").await;
            return Err(self.refused(format!(
                "migration {} \"{}\" ends its transaction (COMMIT or ROLLBACK): remove that; what it did so far may \
                 have stayed",
                migration.version, migration.name
            )));
        }
        let took = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let insert = format!(
            "INSERT INTO {schema}.{TABLE} (version, name, checksum, took_ms) VALUES ($1, $2, $3, $4)"
        );
        let sum = checksum(migration.sql);
        conn.client
            .execute(&insert, &[&migration.version, &migration.name, &sum, &took])
            .await
            .map_err(|error| self.failed(error))?;
        self.batch(conn, "COMMIT").await?;
        tracing::info!(
            schema = self.schema,
            version = migration.version,
            name = migration.name,
            took_ms = took,
            "migration applied"
        );
        Ok(())
    }

    fn statement_failed(&self, migration: &Migration<'_>, error: Error) -> Error {
        if error.spoils_connection() {
            return error;
        }
        let place = match error.offset(migration.sql) {
            Some(offset) => {
                let before = &migration.sql[..offset];
                let line = before.matches('\n').count() + 1;
                let start = before.rfind('\n').map_or(0, |at| at + 1);
                let text = migration.sql[start..].lines().next().unwrap_or_default().trim();
                let text: String = text.chars().take(120).collect();
                format!(" at line {line} (`{text}`)")
            }
            None => String::new(),
        };
        let hint = match error.sql_state().map(|code| code.code()) {
            Some("25001") => ": it cannot run in a transaction, as every migration does",
            Some("55P03") => ": the table was in use; it will be tried again at the next start",
            _ => "",
        };
        let reason = format!(
            "migration {} \"{}\" failed{place}: {}{hint}; it was rolled back",
            migration.version,
            migration.name,
            error.reason()
        );
        Error::new(ErrorKind::Migration, "migrate", &self.subject, reason).after_quietly(error)
    }
}
