use zhuji_config::Secret;
use zhuji_db_pool::{DbConfig, DbPool, ErrorKind, Migration, ModuleRoles};
use zhuji_testkit::{TestDatabase, TestPostgres};

const ITEMS: &[Migration<'_>] = &[Migration {
    version: 1,
    name: "items",
    sql: "CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL)",
}];

const MORE: &[Migration<'_>] = &[
    ITEMS[0],
    Migration {
        version: 2,
        name: "more",
        sql: "CREATE TABLE more (id int4)",
    },
];

/// A server of its own, because roles belong to all databases of a server, and a user with these rights.
async fn server(rights: &str) -> (TestDatabase, DbConfig) {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let name = database.name();
    database
        .execute(&format!(
            "CREATE ROLE app LOGIN {rights}; GRANT ALL ON DATABASE {name} TO app"
        ))
        .await;
    let config = DbConfig {
        pool_size: Some(2),
        ..DbConfig::new(database.url().replace("zhuji:", "app:"))
    };
    (database, config)
}

fn code(error: &zhuji_db_pool::Error) -> Option<&str> {
    error.sql_state().map(|code| code.code())
}

async fn modules_are_apart(pool: &DbPool) {
    let (asl, bbs) = (pool.scoped("asl"), pool.scoped("bbs"));
    let insert = "INSERT INTO items (title) VALUES ($1)";
    asl.execute(insert, &[&"lead"])
        .await
        .expect("the test server answers");
    for sql in [
        "SELECT * FROM asl.items",
        "DELETE FROM asl.items",
        "CREATE TABLE asl.x ()",
        "DROP TABLE asl.items",
    ] {
        let error = bbs.execute(sql, &[]).await.expect_err("it is refused");
        assert_eq!(code(&error), Some("42501"), "{sql}: {error}");
        let error = bbs
            .transaction(async |tx| tx.execute(sql, &[]).await)
            .await
            .expect_err("it is refused");
        assert_eq!(code(&error), Some("42501"), "{sql}: {error}");
    }
    // Not even its own list of migrations.
    let error = asl
        .query("SELECT * FROM _zhuji_migrations", &[])
        .await
        .expect_err("it is refused");
    assert_eq!(code(&error), Some("42501"), "{error}");
    assert_eq!(
        asl.query("SELECT * FROM items", &[])
            .await
            .expect("the test server answers")
            .len(),
        1
    );
    // Whoever is not scoped is the service itself.
    assert_eq!(
        pool.query("SELECT * FROM asl.items", &[])
            .await
            .expect("the test server answers")
            .len(),
        1
    );
}

#[tokio::test]
async fn a_module_cannot_read_another_ones_table_by_its_full_name() {
    let (database, config) = server("CREATEROLE").await;
    let pool = DbPool::connect(&config).await.unwrap();
    // Used before there are roles: the first schema was entered without one.
    let early = pool.scoped("asl");
    early.query("SELECT 1", &[]).await.unwrap();
    pool.migrate("asl", ITEMS).await.unwrap();
    pool.migrate("bbs", ITEMS).await.unwrap();
    modules_are_apart(&pool).await;
    let row = early
        .query_one("SELECT current_user::text, session_user::text", &[])
        .await
        .unwrap();
    let role: String = row.get(0);
    assert_eq!(
        (role.as_str(), row.get(1)),
        (&*format!("zhuji/{}/asl", database.name()), "app")
    );

    // The next release adds a table, on another instance; this one sees it at once.
    let other = DbPool::connect(&config).await.unwrap();
    other.migrate("asl", MORE).await.unwrap();
    early.execute("INSERT INTO more VALUES (1)", &[]).await.unwrap();
    // An instance that never migrates finds the roles by itself.
    let error = DbPool::connect(&config)
        .await
        .unwrap()
        .scoped("bbs")
        .query("SELECT * FROM asl.more", &[])
        .await;
    assert_eq!(code(&error.unwrap_err()), Some("42501"));
}

#[tokio::test]
async fn it_holds_through_a_pooler_too() {
    let (database, mut config) = server("CREATEROLE").await;
    let url = database.url().replace("zhuji:", "app:");
    config.pooled_url = Some(Secret::new(format!("{url}?application_name=pooled")));
    let pool = DbPool::connect(&config).await.unwrap();
    pool.migrate("asl", ITEMS).await.unwrap();
    pool.migrate("bbs", ITEMS).await.unwrap();
    modules_are_apart(&pool).await;
    let row = pool.query_one("SELECT current_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "app", "nothing stays in the session");
}

#[tokio::test]
async fn what_belongs_to_the_platform_is_shared_by_all_modules() {
    let (_database, config) = server("CREATEROLE").await;
    let pool = DbPool::connect(&config).await.unwrap();
    pool.migrate("asl", ITEMS).await.unwrap();
    pool.migrate("zhuji_queue", ITEMS).await.unwrap();
    pool.scoped("asl")
        .transaction(async |tx| {
            tx.execute("INSERT INTO items (title) VALUES ('mine')", &[])
                .await?;
            tx.execute("INSERT INTO zhuji_queue.items (title) VALUES ('ours')", &[])
                .await
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn without_the_right_to_create_roles_the_search_path_alone_separates() {
    let (_database, config) = server("").await;
    let pool = DbPool::connect(&config).await.unwrap();
    pool.migrate("asl", ITEMS).await.unwrap();
    pool.migrate("bbs", ITEMS).await.unwrap();
    assert_eq!(
        pool.scoped("bbs")
            .query("SELECT * FROM asl.items", &[])
            .await
            .unwrap()
            .len(),
        0
    );
    let required = DbConfig {
        module_roles: ModuleRoles::Required,
        ..config.clone()
    };
    let pool = DbPool::connect(&required).await.unwrap();
    let error = pool.migrate("asl", ITEMS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration);
    assert!(error.to_string().contains("CREATEROLE"), "{error}");
    assert_eq!(
        pool.scoped("asl").get().await.unwrap_err().kind(),
        ErrorKind::Config
    );
}

#[tokio::test]
async fn roles_can_be_left_out() {
    let (_database, config) = server("CREATEROLE").await;
    let off = DbConfig {
        module_roles: ModuleRoles::Off,
        ..config
    };
    let pool = DbPool::connect(&off).await.unwrap();
    pool.migrate("asl", ITEMS).await.unwrap();
    let row = pool
        .scoped("asl")
        .query_one("SELECT current_user::text", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "app");
    let roles = pool
        .query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'zhuji/%'", &[])
        .await
        .unwrap();
    assert!(roles.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_instances_and_modules_may_set_up_their_roles_at_once() {
    let (_database, config) = server("CREATEROLE").await;
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let config = config.clone();
            tokio::spawn(async move {
                let pool = DbPool::connect(&config).await?;
                let modules = ["asl", "bbs", "ccs", "zhuji_jobs"].map(|schema| pool.migrate(schema, ITEMS));
                futures_util::future::try_join_all(modules).await.map(drop)
            })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    let pool = DbPool::connect(&config).await.unwrap();
    modules_are_apart(&pool).await;
}
