//! The checks of a module, on a module that keeps to the rules and on such as break one each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zhuji::axum::extract::{Path, State};
use zhuji::axum::routing::{get, post};
use zhuji::axum::{Json, Router};
use zhuji::db::Migration;
use zhuji::http::{HttpResult, Problem};
use zhuji::jobs::{Job, JobError, JobSet};
use zhuji::{BoxError, Context, Manifest, Module, Need, NoConfig};
use zhuji_testkit::module::ModuleService;

const MIGRATIONS: &[Migration<'static>] = &[Migration {
    version: 1,
    name: "notes",
    sql: "create table notes (id bigint generated always as identity primary key, length bigint)",
}];

/// Uses everything that a module is given, and nothing else.
struct Good {
    cx: Context<NoConfig>,
}

impl Module for Good {
    const MANIFEST: Manifest = Manifest::new("good")
        .needs(&[Need::Database, Need::Storage, Need::Cache, Need::Jobs])
        .migrations(MIGRATIONS);
    type Config = NoConfig;

    async fn init(cx: Context<NoConfig>) -> Result<Self, BoxError> {
        cx.spawn(std::future::pending());
        Ok(Self { cx })
    }

    fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/notes", post(create))
            .route("/notes/{id}", get(show))
            .with_state(self.clone())
    }

    fn jobs(self: &Arc<Self>, jobs: JobSet) -> JobSet {
        let good = self.clone();
        jobs.on(move |_, job: Measure| {
            let good = good.clone();
            async move { measure(&good.cx, job.id).await }
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Measure {
    id: i64,
}

impl Job for Measure {
    const KIND: &'static str = "measure";
}

async fn create(State(good): State<Arc<Good>>, Json(text): Json<String>) -> HttpResult<Json<i64>> {
    let create = async |tx: &mut zhuji::db::Transaction<'_>| {
        let id: i64 = tx
            .query_one("insert into notes default values returning id", &[])
            .await?
            .get(0);
        good.cx
            .storage()
            .upload(&format!("{id}.txt"), text.clone())
            .await?;
        good.cx.jobs().enqueue_in(tx, &Measure { id }).await?;
        Ok::<_, Problem>(id)
    };
    Ok(Json(good.cx.db().transaction(create).await?))
}

async fn measure(cx: &Context<NoConfig>, id: i64) -> Result<(), JobError> {
    let text = cx.storage().download(&format!("{id}.txt")).await?;
    let length = i64::try_from(text.len())?;
    cx.db()
        .execute("update notes set length = $2 where id = $1", &[&id, &length])
        .await?;
    Ok(())
}

async fn show(State(good): State<Arc<Good>>, Path(id): Path<i64>) -> HttpResult<Json<Option<i64>>> {
    let read = async || -> Result<Option<i64>, zhuji::db::Error> {
        Ok(good
            .cx
            .db()
            .query_one("select length from notes where id = $1", &[&id])
            .await?
            .get(0))
    };
    let length = good
        .cx
        .cache()
        .get_or_load(&id.to_string(), Duration::from_millis(50), read)
        .await;
    Ok(Json(length.map_err(|error| zhuji::db::Error::clone(&error))?))
}

async fn use_it(service: &ModuleService) {
    let created = service.post("/notes", r#""buy paint""#).await;
    assert_eq!(created.status, 200, "{created:?}");
    service
        .until(&format!("/notes/{}", created.text), |answer| answer.text == "9")
        .await;
}

mod good {
    use super::{Good, use_it};

    zhuji_testkit::assert_module!(Good, exercise = use_it);

    #[tokio::test]
    async fn a_test_of_ones_own_talks_to_the_same_service() {
        let service = module_checks::start().await;
        use_it(&service).await;
        assert_eq!(service.get("/notes/none").await.status, 400);
        let (status, log) = service.stop().await;
        assert!(status.success(), "{log:?}");
    }
}

/// A module that does something in `init` that it must not, and is otherwise empty.
macro_rules! bad_init {
    ($name:ident, needs = $needs:expr, migrations = $migrations:expr, |$cx:ident| $init:block) => {
        struct Bad;

        impl Module for Bad {
            const MANIFEST: Manifest =
                Manifest::new(stringify!($name)).needs($needs).migrations($migrations);
            type Config = NoConfig;

            async fn init($cx: Context<NoConfig>) -> Result<Self, BoxError> {
                let _ = &$cx;
                $init
                Ok(Self)
            }
        }

        zhuji_testkit::__module_service!(Bad);
    };
}

mod refuses_to_start {
    use super::*;

    bad_init!(refuses_to_start, needs = &[], migrations = &[], |cx| {
        Err("no licence")?;
    });

    #[test]
    #[should_panic(expected = "no licence")]
    fn is_caught() {
        zhuji_testkit::module::starts_and_is_healthy(&subject());
    }
}

mod logs_an_error {
    use super::*;

    bad_init!(logs_an_error, needs = &[], migrations = &[], |cx| {
        tracing::error!("all is lost");
    });

    #[test]
    #[should_panic(expected = "all is lost")]
    fn is_caught() {
        zhuji_testkit::module::starts_and_is_healthy(&subject());
    }
}

mod fails_to_migrate {
    use super::*;

    const BROKEN: &[Migration<'static>] = &[Migration {
        version: 1,
        name: "broken",
        sql: "create table notes (id bigint, id bigint)",
    }];
    bad_init!(
        fails_to_migrate,
        needs = &[Need::Database],
        migrations = BROKEN,
        |cx| {}
    );

    #[test]
    #[should_panic(expected = "`migrate` failed")]
    fn is_caught() {
        zhuji_testkit::module::starts_twice(&subject());
    }
}

mod changes_its_schema {
    use super::*;

    bad_init!(
        changes_its_schema,
        needs = &[Need::Database],
        migrations = &[],
        |cx| {
            cx.db().execute("create table late (id bigint)", &[]).await?;
        }
    );

    #[test]
    #[should_panic(expected = "made table changes_its_schema.late in the first start")]
    fn is_caught() {
        zhuji_testkit::module::starts_twice(&subject());
    }
}

mod leaks_a_table {
    use super::*;

    // What a module may do at run time is less: the database refuses it.
    const OUTSIDE: &[Migration<'static>] = &[Migration {
        version: 1,
        name: "outside",
        sql: "create table public.leak (id bigint)",
    }];
    bad_init!(
        leaks_a_table,
        needs = &[Need::Database],
        migrations = OUTSIDE,
        |cx| {}
    );

    #[test]
    #[should_panic(expected = "made table public.leak")]
    fn is_caught() {
        zhuji_testkit::module::touches_only_its_own(&subject());
    }
}

mod leaks_a_job {
    use super::*;

    bad_init!(
        leaks_a_job,
        needs = &[Need::Database, Need::Jobs],
        migrations = &[],
        |cx| {
            cx.jobs().enqueue(&Measure { id: 1 }).await?;
            cx.db()
                .execute("update zhuji_jobs.job set queue = 'other'", &[])
                .await?;
        }
    );

    #[test]
    #[should_panic(expected = "made a job measure in the queue other")]
    fn is_caught() {
        zhuji_testkit::module::touches_only_its_own(&subject());
    }
}

mod never_stops {
    use super::*;

    struct Bad;

    impl Module for Bad {
        const MANIFEST: Manifest = Manifest::new("never_stops");
        type Config = NoConfig;

        async fn init(_: Context<NoConfig>) -> Result<Self, BoxError> {
            Ok(Self)
        }

        async fn stop(self: Arc<Self>, _: Instant) {
            std::future::pending().await
        }
    }

    zhuji_testkit::__module_service!(Bad);

    #[test]
    #[should_panic(expected = "did not stop in time")]
    fn is_caught() {
        zhuji_testkit::module::stops_in_time(&subject());
    }
}

mod reads_the_environment {
    use super::*;

    bad_init!(reads_the_environment, needs = &[], migrations = &[], |cx| {
        let _ = std::env::var("NOTES_KEY");
    });

    #[test]
    #[should_panic(expected = "reads the variable NOTES_KEY")]
    fn is_caught() {
        zhuji_testkit::module::leaves_the_machine_alone(&subject());
    }
}

mod writes_a_file {
    use super::*;

    bad_init!(writes_a_file, needs = &[], migrations = &[], |cx| {
        // Gone again before anybody looks: it was written all the same.
        let path = std::env::temp_dir().join("notes.tmp");
        std::fs::write(&path, "x")?;
        std::fs::remove_file(&path)?;
    });

    #[test]
    #[should_panic(expected = "/notes.tmp")]
    fn is_caught() {
        zhuji_testkit::module::leaves_the_machine_alone(&subject());
    }
}

mod leaves_a_directory {
    use super::*;

    bad_init!(leaves_a_directory, needs = &[], migrations = &[], |cx| {
        tokio::fs::create_dir_all("cache/notes").await?;
    });

    #[test]
    #[should_panic(expected = "leaves cache in the working directory")]
    fn is_caught() {
        zhuji_testkit::module::leaves_the_machine_alone(&subject());
    }
}
