//! `zhuji backup` and `zhuji restore` as an operator types them: real PostgreSQL, real directories, and an OSS server that
//! checks signatures.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt as _;
use serde_json::Value;
use zhuji_db_pool::{DbConfig, DbPool, Migration};
use zhuji_storage::{LocalAdapter, LocalOptions, PutOptions, Storage};
use zhuji_testkit::oss::{OssServer, OssServerOptions};
use zhuji_testkit::{TestDatabase, free_port};

const PASSWORD: &str = "MustNotBeShown";

/// What a command said, and its exit code.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    fn failed(self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(why), "{}", self.err);
    }
}

/// A site: a database, a store, and where backups go.
struct Site {
    dir: tempfile::TempDir,
    database: TestDatabase,
    pool: DbPool,
    variables: Vec<(String, String)>,
}

impl Site {
    /// Nothing has run here yet.
    async fn empty() -> Self {
        let database = TestDatabase::new().await;
        let dir = tempfile::tempdir().unwrap();
        // Named like the command's own, so that a restore does not take this test for a service.
        let pool = connected(&database, "zhuji-cli-test").await;
        let files = dir.path().join("uploads").display().to_string();
        let variables = [
            ("DATABASE_URL", database.url()),
            ("STORAGE_TYPE", "local".to_owned()),
            ("STORAGE_LOCAL_DIR", files),
            // What is not ours stays out of the way, as in a service's environment.
            ("LLM_API_KEY", PASSWORD.to_owned()),
            ("PATH", std::env::var("PATH").unwrap()),
        ];
        Self {
            dir,
            database,
            pool,
            variables: variables.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        }
    }

    /// Rows of awkward types in two schemas, one with a role of its own, and files with metadata.
    async fn lived_in() -> Self {
        let site = Self::empty().await;
        let sql = "create table papers (id bigint primary key, title text, bytes bytea, at timestamptz, \
                   score double precision, about jsonb, plain json); \
                   create table \"Odd \"\"name\" (t text); create index on papers (title)";
        let migrations = [Migration {
            version: 3,
            name: "papers",
            sql,
        }];
        site.pool.migrate("asl", &migrations).await.unwrap();
        site.database
            .execute(
                "insert into asl.papers select n, 'paper ' || n || E'\\n\\\\.', decode(md5(n::text), 'hex'), \
                 timestamptz '2025-11-16 10:30:00+08' + n * interval '1 minute', n / 3.0, \
                 jsonb_build_object('n', n), '{ \"a\":  1 }' from generate_series(1, 2000) n; \
                 insert into asl.\"Odd \"\"name\" values (null), (''), ('x'); \
                 create table public.notes (id serial primary key, text text); \
                 insert into public.notes (text) values ('one'), ('two')",
            )
            .await;
        let store = site.store().await;
        for n in 0..40 {
            let key = format!("asl/pdfs/{n:02}.pdf");
            store.upload(&key, vec![n; 1000 * usize::from(n)]).await.unwrap();
        }
        let options = PutOptions::new()
            .content_type("application/x-special")
            .download_name("a b.txt")
            .metadata("owner", "alice");
        store
            .upload_with("avatars/special", "special", options)
            .await
            .unwrap();
        site
    }

    async fn store(&self) -> Storage {
        local(&self.dir.path().join("uploads")).await
    }

    /// Nobody but the command is connected then.
    async fn run(&self, arguments: &[&str]) -> Said {
        zhuji(self.dir.path(), &self.variables, arguments).await
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The database as text: every row of every table, and what indexes there are.
    async fn rows(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (table, order) in [
            ("asl.papers", "id"),
            ("asl.\"Odd \"\"name\"", "t"),
            ("asl._zhuji_migrations", "version"),
            ("public.notes", "id"),
        ] {
            let sql = format!("select row(t.*)::text from {table} t order by {order}");
            for row in self.pool.query(&sql, &[]).await.unwrap() {
                lines.push(format!("{table} {}", row.get::<_, String>(0)));
            }
        }
        let sql = "select indexdef from pg_indexes where schemaname in ('asl', 'public') order by 1";
        let indexes = self.pool.query(sql, &[]).await.unwrap();
        lines.extend(indexes.iter().map(|row| row.get::<_, String>(0)));
        lines
    }
}

async fn connected(database: &TestDatabase, name: &str) -> DbPool {
    let pairs = [
        ("DATABASE_URL", database.url()),
        ("DB_APPLICATION_NAME", name.to_owned()),
    ];
    let config: DbConfig = zhuji_config::load_from_pairs(pairs).unwrap();
    DbPool::connect(&config).await.unwrap()
}

async fn local(root: &Path) -> Storage {
    Storage::new(LocalAdapter::open(root, LocalOptions::default()).await.unwrap())
}

/// Every object with what is known of it.
async fn objects(store: &Storage) -> BTreeMap<String, (Vec<u8>, String, Option<String>, String)> {
    let mut found = BTreeMap::new();
    let entries: Vec<_> = store.list_all("").try_collect().await.unwrap();
    for entry in entries {
        let bytes = store.download(&entry.key).await.unwrap().to_vec();
        let metadata = store.metadata(&entry.key).await.unwrap();
        let user = format!("{:?}", metadata.user);
        found.insert(
            entry.key,
            (bytes, metadata.content_type, metadata.content_disposition, user),
        );
    }
    found
}

/// Runs `zhuji` in a directory with these variables and no others.
async fn zhuji(dir: &Path, variables: &[(String, String)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhuji"));
    command.args(arguments).current_dir(dir).env_clear();
    command.envs(variables.iter().cloned());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    let all = format!("{}{}", said.out, said.err);
    assert!(!all.contains(PASSWORD), "{all}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_comes_back_to_the_row_and_the_byte() {
    let site = Site::lived_in().await;
    let (rows, files) = (site.rows().await, objects(&site.store().await).await);
    let said: Value =
        serde_json::from_str(&site.run(&["backup", "--to", "kept", "--json"]).await.ok()).unwrap();
    assert_eq!(said["manifest"]["files"]["count"], 41);
    assert_eq!(said["manifest"]["database"]["migrations"]["asl"], 3);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &site.dir.path().join("kept").metadata().unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o700, "nobody else may look");
    let verified = site.run(&["backup", "verify", "kept"]).await.ok();
    assert!(verified.contains("2006 rows in 4 tables"), "{verified}");

    // Another site, where nothing is.
    let new = Site::empty().await;
    let kept = site.dir.path().join("kept").display().to_string();
    let service = connected(&new.database, "literature").await;
    new.run(&["restore", "--from", &kept])
        .await
        .failed(1, "literature/");
    drop(service);
    // The server notices a moment later that the connection has gone.
    let others = "select from pg_stat_activity where datname = current_database() and application_name like 'literature%'";
    while !new.pool.query(others, &[]).await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    new.run(&["restore", "--from", &kept, "--verify"]).await.ok();
    assert_eq!(new.rows().await, rows);
    assert_eq!(objects(&new.store().await).await, files);
    // The next release's migrations find what they left.
    new.pool.migrate("asl", &[]).await.unwrap();

    // A release later: other rows, another table, other files.
    new.database
        .execute(
            "create table asl.newer (id int); delete from asl.papers where id > 5; \
             update asl.papers set title = 'damaged' where id = 1; create schema later; create table later.x (id int)",
        )
        .await;
    let store = new.store().await;
    store.upload("asl/pdfs/03.pdf", "other").await.unwrap();
    store.upload("asl/pdfs/newer.pdf", "newer").await.unwrap();
    store.delete("asl/pdfs/07.pdf").await.unwrap();
    let before = objects(&store).await;
    new.run(&["restore", "--from", &kept]).await.failed(2, "--force");
    assert_eq!(objects(&store).await, before, "a refusal changes nothing");
    new.run(&["restore", "--from", &kept, "--force", "--json"])
        .await
        .ok();
    assert_eq!(new.rows().await, rows);
    assert_eq!(objects(&store).await, files);
    let gone = "select to_regclass('asl.newer') is null and to_regnamespace('later') is null";
    assert!(new.pool.query_one(gone, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_moves_from_disk_to_oss() {
    let site = Site::lived_in().await;
    let (rows, files) = (site.rows().await, objects(&site.store().await).await);
    site.run(&["backup", "--to", "kept.tar"]).await.ok();
    site.run(&["backup", "verify", "kept.tar"]).await.ok();
    let left: Vec<_> = std::fs::read_dir(site.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    site.run(&["backup", "--to", "kept.tar"])
        .await
        .failed(2, "there is one already");

    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let mut new = Site::empty().await;
    for (name, value) in [
        ("STORAGE_TYPE", "oss"),
        ("OSS_REGION", server.region()),
        ("OSS_BUCKET", server.bucket()),
        ("OSS_ENDPOINT", &server.endpoint()),
        ("OSS_ACCESS_KEY_ID", server.access_key_id()),
        ("OSS_ACCESS_KEY_SECRET", server.access_key_secret()),
    ] {
        new.set(name, value);
    }
    let kept = site.dir.path().join("kept.tar").display().to_string();
    new.run(&["restore", "--from", &kept, "--verify"]).await.ok();
    assert_eq!(new.rows().await, rows);
    let arrived: BTreeMap<String, usize> = server
        .objects()
        .into_iter()
        .map(|object| {
            (
                object.key.clone(),
                server.object_bytes(&object.key).unwrap().len(),
            )
        })
        .collect();
    let sent: BTreeMap<String, usize> = files
        .iter()
        .map(|(key, file)| (key.clone(), file.0.len()))
        .collect();
    assert_eq!(arrived, sent);
    for (key, file) in &files {
        assert_eq!(server.object_bytes(key).unwrap(), file.0, "{key}");
    }
    // And out of OSS again.
    let said = new.run(&["backup", "--to", "back", "--json"]).await.ok();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["manifest"]["files"]["count"], 41);
    let list = std::fs::read_to_string(new.dir.path().join("back/objects.jsonl")).unwrap();
    let special = list
        .lines()
        .find(|line| line.contains("avatars/special"))
        .unwrap();
    assert!(
        special.contains("application/x-special") && special.contains("alice"),
        "{special}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kept_row_has_its_file_while_people_work() {
    let site = Site::lived_in().await;
    site.database
        .execute("create table asl.stored (key text primary key)")
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let (pool, store, stopped) = (site.pool.clone(), site.store().await, Arc::clone(&stop));
    // As the service does it: the file first, then the row.
    let people = tokio::spawn(async move {
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            let key = format!("asl/pdfs/live/{n:06}");
            store.upload(&key, key.clone()).await.unwrap();
            pool.execute("insert into asl.stored values ($1)", &[&key])
                .await
                .unwrap();
            n += 1;
        }
        n
    });
    while site
        .pool
        .query("select from asl.stored", &[])
        .await
        .unwrap()
        .is_empty()
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    site.run(&["backup", "--to", "kept"]).await.ok();
    stop.store(true, Ordering::Relaxed);
    let written: i32 = people.await.unwrap();
    let kept = site.dir.path().join("kept").display().to_string();
    let new = Site::empty().await;
    new.run(&["restore", "--from", &kept]).await.ok();
    let store = new.store().await;
    let rows = new.pool.query("select key from asl.stored", &[]).await.unwrap();
    assert!(!rows.is_empty() && rows.len() <= usize::try_from(written).unwrap());
    for row in rows {
        let key: String = row.get(0);
        assert_eq!(store.download(&key).await.unwrap(), key.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_never_restored() {
    let site = Site::lived_in().await;
    let new = Site::empty().await;
    site.run(&["backup", "--to", "kept"]).await.ok();
    let kept = site.dir.path().join("kept");
    let from = kept.display().to_string();

    let file = kept.join("files/asl/pdfs/09.pdf");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![1; good.len()]).unwrap();
    site.run(&["backup", "verify", "kept"])
        .await
        .failed(1, "asl/pdfs/09.pdf");
    new.run(&["restore", "--from", &from])
        .await
        .failed(1, "asl/pdfs/09.pdf");
    // Copied back by hand, without its attributes: the list knows enough.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &good).unwrap();
    site.run(&["backup", "verify", "kept"]).await.ok();

    let dump = kept.join("database.dump");
    let whole = std::fs::read(&dump).unwrap();
    std::fs::write(&dump, &whole[..whole.len() / 2]).unwrap();
    site.run(&["backup", "verify", "kept"])
        .await
        .failed(1, "database.dump");
    new.run(&["restore", "--from", &from, "--force"])
        .await
        .failed(1, "nothing was changed");
    // A dump that is cut and has the right checksum all the same: one transaction, so nothing of it stays.
    let manifest = kept.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let sum = Command::new("sha256sum").arg(&dump).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    json["database"]["sha256"] = sum.split_whitespace().next().unwrap().into();
    std::fs::write(&manifest, json.to_string()).unwrap();
    new.run(&["restore", "--from", &from, "--force"])
        .await
        .failed(1, "the database is as it was");
    let there = "select to_regclass('asl.papers') is null and to_regclass('public.notes') is null";
    assert!(new.pool.query_one(there, &[]).await.unwrap().get::<_, bool>(0));
    std::fs::remove_file(&manifest).unwrap();
    site.run(&["backup", "verify", "kept"])
        .await
        .failed(1, "interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_before_anything_is_written() {
    let mut site = Site::empty().await;
    let uploads = site.dir.path().join("uploads");
    // A directory that is mistyped must not become an empty backup.
    site.run(&["backup", "--to", "kept"])
        .await
        .failed(1, "no such directory");
    assert!(!uploads.exists() && !site.dir.path().join("kept").exists());
    local(&uploads).await.upload("a", "a").await.unwrap();
    site.run(&["backup"]).await.failed(2, "--to");
    site.run(&["backup", "--to", "."])
        .await
        .failed(2, "it is not empty");
    site.run(&["restore", "--from", "none"])
        .await
        .failed(1, "no backup is here");

    let url = site.database.url();
    site.set("PG_BIN", "/nowhere");
    site.run(&["backup", "--to", "kept"])
        .await
        .failed(1, "set PG_BIN");
    site.set("PG_BIN", "");
    let away = format!("postgres://u:{PASSWORD}@127.0.0.1:{}/d", free_port());
    site.set("DATABASE_URL", &away);
    site.set("DB_ACQUIRE_TIMEOUT", "200ms");
    site.run(&["backup", "--to", "kept"]).await.failed(69, "database");
    site.set("DATABASE_URL", "");
    site.run(&["backup", "--to", "kept"])
        .await
        .failed(2, "--no-database");
    site.run(&["backup", "--to", "kept", "--no-database"]).await.ok();
    site.set("DATABASE_URL", &url);
    site.run(&["backup", "--to", "rows", "--no-files"]).await.ok();
    assert!(!site.dir.path().join("rows/files").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_hybrid_site_are_kept() {
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let put = async |root: &Path, key: &str, text: &'static str| {
        local(root).await.upload(key, text).await.unwrap();
    };
    put(&dir.path().join("seed"), "asl/pdfs/1.pdf", "shared").await;
    put(&data, "asl/resident/1.csv", "resident").await;
    // What a service is given: the kind of its store comes from the mode.
    let variables: Vec<(String, String)> = [
        ("DEPLOYMENT_MODE", "hybrid"),
        ("STORAGE_LOCAL_DIR", data.to_str().unwrap()),
        ("STORAGE_RESIDENT_PREFIXES", "asl/resident/"),
        ("OSS_REGION", server.region()),
        ("OSS_BUCKET", server.bucket()),
        ("OSS_ENDPOINT", &server.endpoint()),
        ("OSS_ACCESS_KEY_ID", server.access_key_id()),
        ("OSS_ACCESS_KEY_SECRET", server.access_key_secret()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let run = async |arguments: &[&str]| zhuji(dir.path(), &variables, arguments).await;
    let bucket = format!("oss://{}", server.bucket());
    run(&["storage", "cp", "-r", "local:seed", &bucket]).await.ok();

    let backup = ["backup", "--no-database", "--to", "kept", "--json"];
    let said: Value = serde_json::from_str(&run(&backup).await.ok()).unwrap();
    assert_eq!(said["manifest"]["files"]["count"], 2, "{said}");
    run(&["storage", "rm", "-r", &format!("{bucket}/asl")]).await.ok();
    std::fs::remove_dir_all(&data).unwrap();
    let restore = ["restore", "--no-database", "--from", "kept", "--verify"];
    run(&restore).await.ok();
    assert_eq!(server.object_bytes("asl/pdfs/1.pdf").unwrap(), "shared");
    assert_eq!(
        std::fs::read(data.join("asl/resident/1.csv")).unwrap(),
        b"resident"
    );
    assert!(!data.join("asl/pdfs").exists());

    // What the service has acknowledged and not sent yet is neither left out nor carried out over a restore.
    let queue = data.join(".zhuji/outbox/queue");
    std::fs::create_dir_all(&queue).unwrap();
    std::fs::write(queue.join("00000000000000000001"), "{}").unwrap();
    for command in [&["backup", "--no-database", "--to", "another"][..], &restore] {
        run(command).await.failed(1, "wait in the outbox");
    }
    assert!(!dir.path().join("another").exists());
}
