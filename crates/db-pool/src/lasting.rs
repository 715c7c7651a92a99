//! What a statement leaves behind in the session when it and its transaction have ended: a setting, a lock, a
//! subscription, a temporary table, an open transaction.

use crate::slow::shape;

/// Functions that take a lock until the session ends.
const LOCKS: [&str; 4] = [
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
];

/// Whether one of these statements changes the session. Comments and literals are passed over, so a name within them
/// changes nothing; what a function of the database's own does cannot be seen from here.
pub(crate) fn changes_session(sql: &str) -> bool {
    shape(sql).to_ascii_lowercase().split(';').any(statement)
}

fn statement(text: &str) -> bool {
    let words = words(text);
    let begins = |with: &[&str]| words.starts_with(with);
    match words.first() {
        // Those three end with the transaction; outside of one they do nothing.
        Some(&"set") => {
            !(begins(&["set", "local"]) || begins(&["set", "transaction"]) || begins(&["set", "constraints"]))
        }
        Some(
            &("reset" | "begin" | "start" | "listen" | "unlisten" | "prepare" | "deallocate" | "load"
            | "discard" | "do"),
        ) => true,
        Some(&"declare") => has(&words, &["with", "hold"]),
        Some(_) => makes_temporary(&words) || calls(text),
        None => false,
    }
}

/// `CREATE … TEMP`, `SELECT … INTO TEMP`, and whatever is put into the temporary schema.
fn makes_temporary(words: &[&str]) -> bool {
    if has(words, &["on", "commit", "drop"]) {
        return false;
    }
    let named = |after: &[&str]| {
        let scarce = ["or", "replace", "local", "global"];
        let word = after.iter().find(|word| !scarce.contains(word));
        matches!(word, Some(&("temp" | "temporary")))
    };
    match words {
        ["create", rest @ ..] => named(rest) || rest.contains(&"pg_temp"),
        ["select" | "with", rest @ ..] => {
            let into = rest.iter().position(|word| *word == "into");
            into.is_some_and(|at| named(&rest[at + 1..]))
        }
        _ => false,
    }
}

fn calls(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('(') {
        let before = rest[..at].trim_end();
        rest = &rest[at + 1..];
        let name = before.rsplit(|c: char| !is_part(c)).next().unwrap_or_default();
        if LOCKS.contains(&name) || (name == "set_config" && last_argument(rest) != "true") {
            return true;
        }
    }
    false
}

/// The last argument of a call whose opening parenthesis `rest` follows.
fn last_argument(rest: &str) -> &str {
    let (mut depth, mut start) = (0, 0);
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return rest[start..at].trim(),
            ')' => depth -= 1,
            ',' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    rest[start..].trim()
}

fn has(words: &[&str], run: &[&str]) -> bool {
    words.windows(run.len()).any(|window| window == run)
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !is_part(c))
        .filter(|word| !word.is_empty())
        .collect()
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

#[cfg(test)]
mod tests {
    use super::changes_session;

    #[test]
    fn statements_that_outlive_themselves_are_known() {
        for sql in [
            "SET x = 1",
            "  begin",
            "LISTEN c",
            "-- a note\nSET x = 1",
            "/* a /* nested */ note */ reset all",
            "Create Temp Table t()",
            "CREATE LOCAL TEMPORARY TABLE t()",
            "create or replace temp view v as select 1",
            "CREATE TABLE pg_temp.t (a int)",
            "SELECT 1 AS a INTO TEMP t",
            "select pg_advisory_lock(1)",
            "SELECT a, pg_try_advisory_lock ($1) FROM t",
            "SELECT pg_catalog.pg_advisory_lock_shared($1, $2)",
            "WITH x AS (SELECT 1) SELECT pg_try_advisory_lock_shared(1) FROM x",
            "SELECT set_config('search_path', 'x, y', false)",
            "SELECT set_config($1, $2, $3)",
            "SELECT pg_catalog.set_config('a.b', coalesce('x', 'y'), FALSE)",
            "SELECT 1; SET x = 1",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$",
        ] {
            assert!(changes_session(sql), "{sql}");
        }
    }

    #[test]
    fn statements_that_leave_nothing_are_let_through() {
        for sql in [
            "SELECT 1",
            "settle",
            "UPDATE t SET a = 1",
            "select setval('s', 1)",
            "",
            "SET LOCAL statement_timeout = 5",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)",
            "SELECT pg_advisory_xact_lock(1)",
            "SELECT 'pg_advisory_lock(1)', 'set_config(a, b, false)'",
            "SELECT 1 -- SET x = 1",
            "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
            "CREATE TABLE temperature (temp int)",
            "INSERT INTO temp_readings SELECT 1",
            "INSERT INTO readings (temp) VALUES (1)",
            "DECLARE c CURSOR FOR SELECT 1",
            "SAVEPOINT zhuji",
        ] {
            assert!(!changes_session(sql), "{sql}");
        }
    }
}
