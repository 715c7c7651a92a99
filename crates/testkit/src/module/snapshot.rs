//! What lies in the database, the object store, the cache and the queue.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio_postgres::NoTls;

use super::world::World;

/// One thing, and whose it is: the schema, the first part of a key, the queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thing {
    pub(super) owner: String,
    pub(super) what: String,
}

/// Everything that has a structure: what a migration makes, and a route must not.
const STRUCTURE: &str = "
    with own as (select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')
    select nspname, 'schema ' || nspname from own
    union all
    select nspname, case relkind when 'r' then 'table' when 'p' then 'table' when 'v' then 'view'
        when 'm' then 'materialized view' when 'S' then 'sequence' when 'i' then 'index' else 'relation' end
        || ' ' || nspname || '.' || relname
    from pg_class join own on own.oid = relnamespace
    union all
    select nspname, 'column ' || nspname || '.' || relname || '.' || attname || ' ' || format_type(atttypid, atttypmod)
        || case when attnotnull then ' not null' else '' end
    from pg_attribute join pg_class on pg_class.oid = attrelid join own on own.oid = relnamespace
    where attnum > 0 and not attisdropped and relkind in ('r', 'p', 'v', 'm')
    union all
    select nspname, 'function ' || nspname || '.' || proname || '(' || pg_get_function_identity_arguments(pg_proc.oid) || ')'
    from pg_proc join own on own.oid = pronamespace
    union all
    select nspname, 'type ' || nspname || '.' || typname from pg_type join own on own.oid = typnamespace
    where typtype in ('e', 'd', 'r')
    union all
    select nspname, 'trigger ' || nspname || '.' || relname || '.' || tgname
    from pg_trigger join pg_class on pg_class.oid = tgrelid join own on own.oid = relnamespace where not tgisinternal
    union all
    select nspname, 'extension ' || extname || ' in ' || nspname from pg_extension join own on own.oid = extnamespace";

/// Whose jobs there are or were.
const QUEUES: &str = "
    select distinct queue, 'a job ' || kind || ' in the queue ' || queue from zhuji_jobs.job
    union
    select distinct queue, 'a job ' || kind || ' in the queue ' || queue from zhuji_jobs.finished";

/// The tables, functions and so on of every schema.
pub(super) async fn structure(world: &World) -> BTreeSet<Thing> {
    query(world, STRUCTURE)
        .await
        .unwrap_or_else(|error| panic!("the catalogue can't be read: {error}"))
}

/// The jobs of every queue. None where there is no queue.
pub(super) async fn jobs(world: &World) -> BTreeSet<Thing> {
    query(world, QUEUES).await.unwrap_or_default()
}

/// How many jobs are due or running.
pub(super) async fn jobs_left(world: &World) -> usize {
    let sql = "select state::text, id::text from zhuji_jobs.job where state in ('ready', 'running')";
    query(world, sql).await.unwrap_or_default().len()
}

async fn query(world: &World, sql: &str) -> Result<BTreeSet<Thing>, tokio_postgres::Error> {
    let Some(database) = &world.database else {
        return Ok(BTreeSet::new());
    };
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await?;
    let driver = tokio::spawn(connection);
    let rows = client.query(sql, &[]).await;
    drop(client);
    // It ends because its client is gone.
    let _ = driver.await;
    let thing = |row: tokio_postgres::Row| Thing {
        owner: row.get(0),
        what: row.get(1),
    };
    Ok(rows?.into_iter().map(thing).collect())
}

/// The objects of the bucket; their owner is the first folder.
pub(super) fn objects(world: &World) -> BTreeSet<Thing> {
    let objects = world.oss.objects().into_iter().map(|object| Thing {
        owner: first_part(&object.key, '/'),
        what: format!("the object {}", object.key),
    });
    objects.collect()
}

/// The keys of the cache; their owner is what stands before the first colon.
pub(super) async fn cached(world: &World) -> BTreeSet<Thing> {
    let Some(port) = world.redis.as_ref().map(crate::TestRedis::port) else {
        return BTreeSet::new();
    };
    let keys = tokio::task::spawn_blocking(move || keys(port)).await;
    let keys = keys.expect("nothing panics there").expect("Redis answers");
    keys.into_iter()
        // The bookkeeping of the cache as a whole.
        .filter(|key| !key.starts_with('~'))
        .map(|key| Thing {
            owner: first_part(&key, ':'),
            what: format!("the cache entry {key}"),
        })
        .collect()
}

fn first_part(key: &str, end: char) -> String {
    key.split_once(end).map_or("", |(first, _)| first).to_owned()
}

/// `KEYS *`, in Redis's own protocol.
fn keys(port: u16) -> std::io::Result<Vec<String>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    socket.write_all(b"KEYS *\r\n")?;
    let mut answer = BufReader::new(socket);
    let count = length(&mut answer)?;
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        // The key, and the end of its line.
        let mut key = vec![0; length(&mut answer)? + 2];
        answer.read_exact(&mut key)?;
        keys.push(String::from_utf8_lossy(&key[..key.len() - 2]).into_owned());
    }
    Ok(keys)
}

/// The number in `*3` or `$5`.
fn length(answer: &mut impl BufRead) -> std::io::Result<usize> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let number = line.trim_end().get(1..).and_then(|number| number.parse().ok());
    number.ok_or_else(|| std::io::Error::other(format!("not a length: {line:?}")))
}
