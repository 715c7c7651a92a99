//! The rows: counted, hashed and dumped in one snapshot.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use zhuji_config::{Loader, Secret, Sources};
use zhuji_db_pool::{DbConfig, DbPool, ErrorKind, IsolationLevel, Session, Transaction, TransactionOptions};

use super::manifest::{self, Rows, Table, at};
use super::programs::{Programs, complaint};
use crate::failure::Failure;

/// One holds the snapshot, one looks.
const CONNECTIONS: u32 = 2;
/// Reading all rows of a large table takes as long as it takes.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// How long a dump waits for a table that a migration holds.
const LOCK_WAIT: &str = "60s";

/// Text of a row must not depend on where it is asked for.
const PLAIN_TEXT: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
                          SET LOCAL search_path = ''; SET LOCAL row_security = off; SET LOCAL TimeZone = 'UTC'; \
                          SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; \
                          SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL xmloption = 'content'";

/// Ordinary tables that are nobody's but the service's.
const TABLES: &str = "\
    SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 1, 2";

/// The table in which a schema's applied migrations are written down.
const MIGRATIONS: &str = "_zhuji_migrations";

/// The service's database, by its direct address, and the programs that fit its server.
pub(crate) struct Database {
    pub(crate) pool: DbPool,
    pub(crate) url: Secret,
    pub(crate) programs: Programs,
    server: String,
}

impl From<zhuji_db_pool::Error> for Failure {
    fn from(error: zhuji_db_pool::Error) -> Self {
        match error.kind() {
            ErrorKind::Config => Self::usage(error.to_string()),
            _ if error.is_unavailable() => Self::unavailable(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl Database {
    pub(crate) async fn open() -> Result<Self, Failure> {
        let (config, url) = settings()?;
        let pool = DbPool::connect(&config).await?;
        let row = pool
            .query_one(
                "SELECT current_setting('server_version'), current_setting('server_version_num')::int4",
                &[],
            )
            .await?;
        let (server, number): (String, i32) = (row.get(0), row.get(1));
        let programs = Programs::find(u32::try_from(number / 10_000).unwrap_or(0)).await?;
        Ok(Self {
            pool,
            url,
            programs,
            server: server.split_whitespace().next().unwrap_or_default().to_owned(),
        })
    }

    /// Writes the dump, and answers with what is in it.
    pub(super) async fn save(&self, dump: &Path) -> Result<Rows, Failure> {
        let mut session = self.pool.session().await?;
        let snapshot = snapshot(&mut session).await?;
        let id: String = snapshot
            .query_one("SELECT pg_catalog.pg_export_snapshot()", &[])
            .await?
            .get(0);
        let tables = tables(&snapshot).await?;
        let migrations = migrations(&snapshot, &tables).await?;
        self.dump(&id, dump).await?;
        snapshot.rollback().await?;
        let bytes = std::fs::metadata(dump).map_err(at(dump))?.len();
        Ok(Rows {
            server: self.server.clone(),
            pg_dump: self.programs.version.clone(),
            bytes,
            sha256: manifest::sha256(dump)?,
            migrations,
            tables,
        })
    }

    /// Owners and rights stay out: the roles of the modules belong to the server, another server has others, and the
    /// service grants them anew when it starts.
    async fn dump(&self, snapshot: &str, to: &Path) -> Result<(), Failure> {
        let mut command = self.programs.command("pg_dump", &self.url);
        command.args(["--format=custom", "--no-owner", "--no-acl"]);
        command.arg(format!("--lock-wait-timeout={LOCK_WAIT}"));
        command.arg(format!("--snapshot={snapshot}"));
        command.arg("--file").arg(to);
        let output = command
            .output()
            .await
            .map_err(|error| Failure::failed(format!("pg_dump could not be started: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::failed(format!("pg_dump: {}", complaint(&output.stderr))))
    }

    /// What is in the database now.
    pub(crate) async fn tables(&self) -> Result<Vec<Table>, Failure> {
        let mut session = self.pool.session().await?;
        let snapshot = snapshot(&mut session).await?;
        let tables = tables(&snapshot).await?;
        snapshot.rollback().await?;
        Ok(tables)
    }
}

async fn snapshot(session: &mut Session) -> Result<Transaction<'_>, Failure> {
    let options = TransactionOptions::default()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only();
    let mut transaction = session.transaction_with(options).await?;
    transaction.set_statement_timeout(LONG).await?;
    transaction.batch_execute(PLAIN_TEXT).await?;
    Ok(transaction)
}

/// Every table with the number of its rows and the sum of their hashes.
async fn tables(snapshot: &Transaction<'_>) -> Result<Vec<Table>, Failure> {
    let mut tables = Vec::new();
    for row in snapshot.query(TABLES, &[]).await? {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let sql = format!(
            "SELECT count(*), coalesce(sum(pg_catalog.hashtextextended(ROW(t.*)::text, 0)::numeric), 0)::text \
             FROM ONLY {}.{} AS t",
            quoted(&schema),
            quoted(&name)
        );
        let row = snapshot.query_one(&sql, &[]).await?;
        tables.push(Table {
            schema,
            name,
            rows: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0),
            digest: row.get(1),
        });
    }
    Ok(tables)
}

async fn migrations(snapshot: &Transaction<'_>, tables: &[Table]) -> Result<BTreeMap<String, i64>, Failure> {
    let mut newest = BTreeMap::new();
    for table in tables.iter().filter(|table| table.name == MIGRATIONS) {
        let sql = format!(
            "SELECT coalesce(max(version), 0) FROM {}.{MIGRATIONS}",
            quoted(&table.schema)
        );
        let version = snapshot.query_one(&sql, &[]).await?.get(0);
        newest.insert(table.schema.clone(), version);
    }
    Ok(newest)
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `DATABASE_URL` and what belongs to it, from where a service has them too.
fn settings() -> Result<(DbConfig, Secret), Failure> {
    let mut loader = Loader::new(Sources::discover(Vec::<(String, String)>::new()));
    let db = loader.load::<DbConfig>();
    let report = loader.report().without_strangers_of_files();
    let Some(mut db) = db.filter(|_| report.is_ok()) else {
        return Err(Failure::usage(format!("the database can't be opened\n{report}")));
    };
    let Some(url) = db.url.clone() else {
        return Err(Failure::usage(
            "DATABASE_URL is not set: name the database that belongs to the files, or add --no-database",
        ));
    };
    // Not one of the service's instances, and never through a pooler: a snapshot and a dump live in their sessions.
    db.application_name = "zhuji-cli".to_owned();
    db.pooled_url = None;
    db.replica_url = None;
    db.pool_size = Some(CONNECTIONS);
    db.adaptive = false;
    db.min_idle = 0;
    db.statement_timeout = LONG;
    db.slow_query = Duration::ZERO;
    Ok((db, url))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b C"), "\"a\"\"b C\"");
    }
}
