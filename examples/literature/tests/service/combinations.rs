//! One binary, any combination of its modules: what is not mounted is not there, and what is mounted keeps to itself.

use crate::assistant::endpoint::Endpoint;
use crate::assistant::{self, CONVERSATIONS, DOCUMENTS};
use crate::support::{LITERATURES, Service, Setup, pdf};
use reqwest::Method;
use std::collections::BTreeSet;
use zhuji::cache::{CacheConfig, CacheFactory};
use zhuji::config::load_from_pairs;
use zhuji::db::{DbConfig, DbPool};
use zhuji::jobs::{JobId, JobsConfig, JobsFactory};
use zhuji::storage::{ErrorKind, StorageConfig, StorageFactory};
use zhuji_testkit::TestRedis;

const MODULES: [&str; 2] = ["asl", "aia"];

fn pool(setup: &Setup) -> DbPool {
    let url = setup.database.as_ref().expect("it has one").url();
    DbPool::new(&DbConfig::new(url)).expect("good settings")
}

async fn column(pool: &DbPool, sql: &str) -> BTreeSet<String> {
    let rows = pool.query(sql, &[]).await.expect("it can be asked");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Gives each mounted module something to do: a file, rows, a job, an entry in the cache.
async fn use_it(service: &Service, module: &str) {
    match module {
        "asl" => {
            let id = service.one_record().await;
            assert_eq!(
                service.upload(&id, "secret-of-asl.pdf", &pdf(1)).await.status,
                200
            );
            assert_eq!(service.extracted(&id).await["extraction"]["state"], "done");
        }
        _ => {
            let document = assistant::document(service, "secret-of-aia.txt", b"Known to aia alone.").await;
            assistant::conversation(service, &[document["id"].as_str().expect("an id")]).await;
            service.json("/api/v1/aia/usage").await;
        }
    }
}

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_mounted_is_there() {
    for chosen in ["asl", "aia", "asl,aia"] {
        let mounted: Vec<&str> = chosen.split(',').collect();
        let setup = Setup::new().await.set("MODULES", chosen);
        let service = setup.start().await;
        for module in &mounted {
            use_it(&service, module).await;
        }

        for (module, paths) in [
            ("asl", [LITERATURES, "/api/v1/asl/"]),
            ("aia", [CONVERSATIONS, DOCUMENTS]),
        ] {
            let answer = service.call(Method::GET, paths[0]).await;
            if mounted.contains(&module) {
                assert_eq!(answer.status, 200, "{chosen}: {answer:?}");
            } else {
                answer.is_problem(404, "nothing at this address");
                service.call(Method::GET, paths[1]).await.is_problem(404, "");
            }
        }
        let pool = pool(&setup);
        let schemas = "select nspname::text from pg_namespace where nspname in ('asl', 'aia')";
        assert_eq!(column(&pool, schemas).await, listed(mounted.clone()), "{chosen}");
        let roles = "select split_part(rolname, '/', 3) from pg_roles
                     where rolname like 'zhuji/' || current_database() || '/%'";
        assert_eq!(column(&pool, roles).await, listed(mounted.clone()), "{chosen}");
        let jobs = "select queue || '.' || kind from zhuji_jobs.job
                    union select queue || '.' || kind from zhuji_jobs.finished";
        let kinds = mounted.iter().map(|module| {
            if *module == "asl" {
                "asl.extract-pdf"
            } else {
                "aia.read-document"
            }
        });
        assert_eq!(column(&pool, jobs).await, listed(kinds), "{chosen}");
        let folders = std::fs::read_dir(setup.uploads()).expect("it is there");
        let folders: BTreeSet<String> = folders
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        assert_eq!(folders, listed(mounted.clone()), "{chosen}");
        let metrics = service
            .get("/metrics")
            .await
            .expect("an answer")
            .text()
            .await
            .expect("a body");
        for module in MODULES {
            let label = format!("zhuji_http_requests_total{{module=\"{module}\"");
            assert_eq!(
                metrics.contains(&label),
                mounted.contains(&module),
                "{chosen}: {label}\n{metrics}"
            );
            let queue = format!("queue=\"{module}\"");
            assert_eq!(
                metrics.contains(&queue),
                mounted.contains(&module),
                "{chosen}: {queue}\n{metrics}"
            );
        }
        assert!(service.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_switched_off_keeps_its_rows_and_its_variables() {
    let setup = Setup::new()
        .await
        .set("AIA_MODEL", "another")
        .set("MODULES", "aia,asl");
    let service = setup.start().await;
    use_it(&service, "aia").await;
    assert!(service.terminate().await.success());
    let setup = setup.set("MODULES", "asl");
    let service = setup.start().await;
    service.call(Method::GET, CONVERSATIONS).await.is_problem(404, "");
    assert!(service.terminate().await.success());
    let setup = setup.set("MODULES", "aia");
    let service = setup.start().await;
    assert_eq!(service.json(CONVERSATIONS).await["total"], 1);
    assert_eq!(service.json(DOCUMENTS).await["total"], 1);
}

/// What a module's code holds are handles like these, of the very database, store, cache and queue that the service uses.
#[tokio::test(flavor = "multi_thread")]
async fn neither_module_can_read_what_is_the_others() {
    let (endpoint, redis) = (Endpoint::start().await, TestRedis::start().await);
    let setup = assistant::setup(&endpoint).await.set("REDIS_URL", redis.url());
    let service = setup.start().await;
    for module in MODULES {
        use_it(&service, module).await;
    }
    let pool = pool(&setup);

    // The database: the module's role is not even allowed to look.
    for (module, own, other, strange) in [
        ("asl", "literatures", "aia.documents", "documents"),
        ("aia", "documents", "asl.literatures", "literatures"),
    ] {
        let db = pool.scoped(module);
        assert_eq!(
            db.query(&format!("select from {own}"), &[])
                .await
                .expect("its own")
                .len(),
            1
        );
        for (sql, code) in [
            (format!("select from {other}"), "42501"),
            (format!("delete from {other}"), "42501"),
            (format!("select from {strange}"), "42P01"),
            (format!("drop table {other}"), "42501"),
        ] {
            let error = db.execute(&sql, &[]).await.expect_err(&sql);
            let found = error.sql_state().map(|state| state.code().to_owned());
            assert_eq!(found.as_deref(), Some(code), "{module}: {sql}: {error}");
        }
    }

    // The store: every key is below the module's prefix, and none leads out of it.
    let dir = setup.uploads();
    let config = load_from_pairs::<StorageConfig>([
        ("STORAGE_LOCAL_DIR", dir.to_str().expect("plain letters")),
        ("BASE_URL", &service.url("")),
    ]);
    let storage = StorageFactory::new()
        .build(&config.expect("good settings"))
        .await
        .expect("a directory");
    let keys = |module: &str| {
        let all = storage.scoped(module);
        async move {
            let page: Vec<_> = futures_util::TryStreamExt::try_collect(all.list_all(""))
                .await
                .expect("it can be listed");
            page.into_iter()
                .map(|entry: zhuji::storage::Entry| entry.key)
                .collect::<Vec<String>>()
        }
    };
    for (module, other) in [("asl", "aia"), ("aia", "asl")] {
        let (own, others) = (keys(module).await, keys(other).await);
        let own_folder = if module == "asl" {
            ["pdfs/", "sweep-owner"]
        } else {
            ["documents/", "documents/"]
        };
        assert!(
            !own.is_empty()
                && own
                    .iter()
                    .all(|key| own_folder.iter().any(|folder| key.starts_with(folder))),
            "{own:?}"
        );
        for key in &others {
            let scoped = storage.scoped(module);
            for way in [key.clone(), format!("{other}/{key}")] {
                let error = scoped.download(&way).await.expect_err("it is not its own");
                assert_eq!(error.kind(), ErrorKind::NotFound, "{way}: {error}");
            }
            for way in [
                format!("../{other}/{key}"),
                format!("/{other}/{key}"),
                format!("documents/../../{other}/{key}"),
            ] {
                let error = scoped.download(&way).await.expect_err("it leads out");
                assert_eq!(error.kind(), ErrorKind::InvalidKey, "{way}: {error}");
            }
        }
    }

    // The cache.
    let config =
        load_from_pairs::<CacheConfig>([("CACHE_TYPE", "redis"), ("REDIS_URL", redis.url().as_str())]);
    let cache = CacheFactory::new()
        .build(&config.expect("good settings"))
        .await
        .expect("it runs");
    let (asl, aia) = (cache.scoped("asl"), cache.scoped("aia"));
    asl.set("shared name", &1, std::time::Duration::from_secs(60))
        .await
        .expect("it is up");
    assert_eq!(asl.get::<i32>("shared name").await.expect("it is up"), Some(1));
    for way in [
        "shared name",
        "asl:shared name",
        "../asl:shared name",
        ":asl:shared name",
    ] {
        assert_eq!(aia.get::<i32>(way).await.expect("it is up"), None, "{way}");
    }
    aia.clear().await.expect("it is up");
    assert_eq!(
        asl.get::<i32>("shared name").await.expect("it is up"),
        Some(1),
        "clearing one leaves the other"
    );

    // The queue.
    let config = load_from_pairs::<JobsConfig>([] as [(&str, &str); 0]).expect("good settings");
    let jobs = JobsFactory::new()
        .build(&config, Some(pool.clone()))
        .await
        .expect("it is migrated");
    for (module, other) in [("asl", "aia"), ("aia", "asl")] {
        let sql = format!("select id::text from zhuji_jobs.finished where queue = '{other}'");
        let ids = column(&pool, &sql).await;
        assert!(!ids.is_empty());
        let scoped = jobs.scoped(module);
        for id in ids {
            let id: JobId = id.parse().expect("an id");
            assert!(
                jobs.scoped(other)
                    .get(id)
                    .await
                    .expect("it can be asked")
                    .is_some()
            );
            assert!(
                scoped.get(id).await.expect("it can be asked").is_none(),
                "{module} sees a job of {other}"
            );
            assert!(scoped.admin().show(id).await.expect("it can be asked").is_none());
        }
        let counts = scoped.counts().await.expect("it can be asked");
        assert!(counts.iter().all(|counts| counts.queue == module), "{counts:?}");
    }
}
