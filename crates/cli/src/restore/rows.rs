//! The rows back into a database: all of them in one transaction, or none.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::backup::database::{Database, quoted};
use crate::backup::manifest::{Home, Table};
use crate::backup::programs::complaint;
use crate::failure::Failure;

/// Schemas that hold something of somebody's; `public` only if there is something in it.
const SCHEMAS: &str = "\
    SELECT n.nspname::text FROM pg_catalog.pg_namespace n \
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND (n.nspname <> 'public' \
        OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid) \
        OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid) \
        OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.typnamespace = n.oid)) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
        WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e') \
    ORDER BY 1";

/// Everybody else who is connected to this database.
const OTHERS: &str = "\
    SELECT coalesce(nullif(application_name, ''), usename::text, 'somebody') FROM pg_catalog.pg_stat_activity \
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() \
    AND application_name NOT LIKE 'zhuji-cli%' ORDER BY 1";

/// Whose rows would be in the way.
pub(super) async fn schemas(database: &Database) -> Result<Vec<String>, Failure> {
    let rows = database.pool.query(SCHEMAS, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A service that runs would see half of everything, and hold the locks that are needed.
pub(super) async fn nobody_else(database: &Database) -> Result<(), Failure> {
    let rows = database.pool.query(OTHERS, &[]).await?;
    let others: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} others are connected to the database ({}): stop the service and everybody else first",
        others.len(),
        others.join(", ")
    )))
}

/// Replaces these schemas by what the dump holds.
pub(super) async fn restore(database: &Database, home: &Home, replaced: &[String]) -> Result<(), Failure> {
    let failed = |program: &str, error: std::io::Error| Failure::failed(format!("{program}: {error}"));
    let mut script = database.programs.offline("pg_restore");
    script
        .args(["--no-owner", "--no-acl", "--file=-"])
        .arg(home.dump());
    script.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut script = script.spawn().map_err(|error| failed("pg_restore", error))?;
    let mut psql = database.programs.command("psql", &database.url);
    psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]);
    psql.stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut psql = psql.spawn().map_err(|error| failed("psql", error))?;
    let (from, into) = (script.stdout.take(), psql.stdin.take());
    let (Some(mut from), Some(mut into)) = (from, into) else {
        return Err(Failure::failed("pg_restore and psql could not be joined"));
    };
    // The transaction is ended by a word and not by the end of the input: should this program or pg_restore break off, there
    // is no such word, and the database stays as it is.
    let sent = async {
        into.write_all(prelude(replaced).as_bytes()).await?;
        tokio::io::copy(&mut from, &mut into).await
    }
    .await;
    drop(from);
    let script = script
        .wait_with_output()
        .await
        .map_err(|error| failed("pg_restore", error))?;
    // An input that psql no longer takes is psql's story.
    let broken = (sent.is_ok() && !script.status.success()).then(|| complaint(&script.stderr));
    if sent.is_ok() && broken.is_none() {
        let _ = into.write_all(b"\nCOMMIT;\n").await;
        let _ = into.flush().await;
    }
    drop(into);
    let output = psql
        .wait_with_output()
        .await
        .map_err(|error| failed("psql", error))?;
    let why = match broken {
        Some(why) => Some(format!("pg_restore: {why}")),
        None => (!output.status.success()).then(|| format!("psql: {}", complaint(&output.stderr))),
    };
    if let Some(why) = why {
        return Err(Failure::failed(format!("{why}; the database is as it was")));
    }
    // The planner knows nothing of new tables. Without it the rows are all there, only slower.
    if let Err(error) = database.pool.batch_execute("ANALYZE").await {
        eprintln!("the statistics could not be brought up to date ({error}); run ANALYZE");
    }
    Ok(())
}

fn prelude(replaced: &[String]) -> String {
    let mut sql = "BEGIN; SET LOCAL lock_timeout = '10s'; SET client_min_messages = warning;".to_owned();
    for schema in replaced {
        sql.push_str(&format!(" DROP SCHEMA {} CASCADE;", quoted(schema)));
        if schema == "public" {
            // No dump makes it, and tables in it need it.
            sql.push_str(" CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC;");
        }
    }
    sql.push('\n');
    sql
}

/// One line for each table that is not what the backup wrote down.
pub(super) fn differences(kept: &[Table], found: &[Table]) -> Vec<String> {
    let name = |table: &Table| format!("{}.{}", table.schema, table.name);
    let same_table = |a: &Table, b: &Table| (&a.schema, &a.name) == (&b.schema, &b.name);
    let mut lines = Vec::new();
    for table in kept {
        match found.iter().find(|other| same_table(table, other)) {
            None => lines.push(format!("{}: the table is missing", name(table))),
            Some(other) if other.rows != table.rows => lines.push(format!(
                "{}: {} rows instead of {}",
                name(table),
                other.rows,
                table.rows
            )),
            Some(other) if other.digest != table.digest => {
                lines.push(format!("{}: as many rows, and not the same ones", name(table)));
            }
            Some(_) => {}
        }
    }
    let extra = found
        .iter()
        .filter(|table| !kept.iter().any(|other| same_table(table, other)));
    lines.extend(extra.map(|table| format!("{}: the backup has no such table", name(table))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named() {
        let table = |name: &str, rows, digest: &str| Table {
            schema: "asl".to_owned(),
            name: name.to_owned(),
            rows,
            digest: digest.to_owned(),
        };
        let kept = [table("a", 1, "7"), table("b", 2, "8"), table("c", 0, "0")];
        assert!(differences(&kept, &kept).is_empty());
        let found = [table("a", 1, "9"), table("b", 3, "8"), table("d", 0, "0")];
        assert_eq!(
            differences(&kept, &found),
            [
                "asl.a: as many rows, and not the same ones",
                "asl.b: 3 rows instead of 2",
                "asl.c: the table is missing",
                "asl.d: the backup has no such table",
            ]
        );
    }

    #[test]
    fn public_is_made_again_and_names_are_quoted() {
        let sql = prelude(&["as\"l".to_owned(), "public".to_owned()]);
        assert!(sql.contains("DROP SCHEMA \"as\"\"l\" CASCADE;"), "{sql}");
        assert!(
            sql.contains("DROP SCHEMA \"public\" CASCADE; CREATE SCHEMA public;"),
            "{sql}"
        );
    }
}
