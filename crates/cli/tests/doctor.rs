//! `zhuji doctor` as an operator types it: the real binary, real servers, and what goes wrong with them.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::Value;
use zhuji_testkit::oss::{Fault, OssServer, OssServerOptions};
use zhuji_testkit::{TestPgBouncer, TestPostgres, TestRedis, free_port};

const PASSWORD: &str = "MustNotBeShown";

struct Said {
    code: i32,
    json: Value,
}

impl Said {
    /// The one finding of a check, as `severity: evidence -> mend`.
    #[track_caller]
    fn of(&self, check: &str) -> String {
        let findings = self.json["findings"].as_array().unwrap();
        let of_it: Vec<String> = findings
            .iter()
            .filter(|finding| finding["check"] == check)
            .map(|finding| {
                let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
                format!("{}: {} -> {}", text("severity"), text("evidence"), text("mend"))
            })
            .collect();
        assert_eq!(of_it.len(), 1, "{check} in {:#}", self.json);
        of_it[0].clone()
    }

    #[track_caller]
    fn assert(&self, check: &str, words: &[&str]) {
        let found = self.of(check);
        for word in words {
            assert!(found.contains(word), "{word:?} is not in {found:?}");
        }
    }
}

/// Runs it with these variables and no others. Everything it says fits on lines, and no secret is in it.
async fn doctor(variables: &[(&str, &str)], arguments: &[&str]) -> Said {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhuji"));
    command.args(["doctor", "--json"]).args(arguments);
    command
        .current_dir(dir.path())
        .env_clear()
        .envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    drop(dir);
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(!format!("{out}{err}").contains(PASSWORD), "{out}{err}");
    for (name, secret) in variables.iter().filter(|(name, _)| name.contains("SECRET")) {
        assert!(!out.contains(secret), "{name} is shown: {out}");
    }
    Said {
        code: output.status.code().unwrap(),
        json: serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")),
    }
}

/// The guide's first case.
#[tokio::test(flavor = "multi_thread")]
async fn connection_refused_is_told_in_one_line() {
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{}/app", free_port());
    let said = doctor(&[("DATABASE_URL", &url)], &["--only", "database"]).await;
    assert_eq!(said.code, 2);
    assert_eq!(said.json["findings"].as_array().unwrap().len(), 1);
    said.assert(
        "database",
        &[
            "error: database \"app\" at 127.0.0.1:",
            "refused",
            "allow-list",
            "VPC segment",
        ],
    );
}

/// As behind a security group: packets get lost, and nobody says no.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_told_in_time() {
    // Takes connections, and never says a word.
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{port}/app?sslmode=disable");
    let redis = format!("redis://:{PASSWORD}@127.0.0.1:{port}");
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("REDIS_URL", &redis),
        ("STORAGE_TYPE", "oss"),
        ("OSS_REGION", "cn-hangzhou"),
        ("OSS_BUCKET", "demo"),
        ("OSS_ENDPOINT", &endpoint),
        ("OSS_ACCESS_KEY_ID", "id"),
        ("OSS_ACCESS_KEY_SECRET", PASSWORD),
        ("LLM_API_KEY", PASSWORD),
        ("LLM_BASE_URL", &endpoint),
    ];
    let started = Instant::now();
    let said = doctor(&variables, &["--timeout", "3s"]).await;
    // All at once, and not one after the other: alone, the four would take twelve seconds and more.
    assert!(
        started.elapsed() < Duration::from_secs(11),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(said.code, 2);
    for check in ["database", "storage", "redis", "llm"] {
        said.assert(check, &["error: ", " -> "]);
    }
    drop(socket);
}

/// The guide's second case.
#[tokio::test(flavor = "multi_thread")]
async fn every_403_of_oss_is_told_apart() {
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let endpoint = server.endpoint();
    let (id, secret) = (
        server.access_key_id().to_owned(),
        server.access_key_secret().to_owned(),
    );
    let with = |id: &str, secret: &str| {
        [
            ("STORAGE_TYPE", "oss".to_owned()),
            ("OSS_REGION", server.region().to_owned()),
            ("OSS_BUCKET", server.bucket().to_owned()),
            ("OSS_ENDPOINT", endpoint.clone()),
            ("OSS_ACCESS_KEY_ID", id.to_owned()),
            ("OSS_ACCESS_KEY_SECRET", secret.to_owned()),
        ]
    };
    let ask = async |variables: [(&str, String); 6]| {
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        doctor(&variables, &["--only", "clock,storage", "--module", "asl"]).await
    };

    let well = ask(with(&id, &secret)).await;
    assert_eq!(well.code, 0, "{:#}", well.json);
    well.assert("storage", &["ok: oss: wrote, read, signed and deleted"]);
    well.assert("storage.url", &["ok: ", "fetched"]);
    well.assert(
        "storage.lifecycle",
        &["warning: ", "temp/", "unfinished", "zhuji storage apply"],
    );
    well.assert("clock.oss", &["ok: "]);
    let stored: Vec<String> = server
        .requests()
        .iter()
        .map(|request| request.key.clone())
        .collect();
    assert!(
        stored.iter().any(|key| key.starts_with("asl/zhuji-doctor/")),
        "{stored:?}"
    );
    assert!(server.objects().is_empty(), "{:?}", server.objects());

    server.fail_next(Fault::status(403, "AccessDenied").on_operation("PutObject"));
    let denied = ask(with(&id, &secret)).await;
    assert_eq!(denied.code, 2);
    denied.assert(
        "storage",
        &["error: could not write", "403 AccessDenied", "RAM policy"],
    );

    ask(with("LTAIunknown", &secret))
        .await
        .assert("storage", &["403 InvalidAccessKeyId", "OSS_ACCESS_KEY_ID"]);
    ask(with(&id, "another-secret"))
        .await
        .assert("storage", &["403 SignatureDoesNotMatch", "OSS_ACCESS_KEY_SECRET"]);

    server.set_clock_offset(SignedDuration::from_mins(20));
    let skewed = ask(with(&id, &secret)).await;
    assert_eq!(skewed.code, 2);
    skewed.assert("clock.oss", &["error: this machine is 1", "s behind OSS", "NTP"]);
}

/// The guide's third case.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_connection_left_is_told_in_one_line() {
    let postgres = TestPostgres::options().max_connections(20).start().await;
    let database = postgres.database().await;
    database
        .execute(&format!(
            "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'; GRANT CREATE ON DATABASE {} TO app",
            database.name()
        ))
        .await;
    let url = format!(
        "postgres://app:{PASSWORD}@127.0.0.1:{}/{}",
        postgres.port(),
        database.name()
    );
    let variables = [("DATABASE_URL", url.as_str())];
    let ask = async || doctor(&variables, &["--only", "database"]).await;

    let well = ask().await;
    well.assert("database", &["ok: PostgreSQL", "answers as app"]);
    well.assert("database.rights", &["ok: app may connect and create schemas"]);
    well.assert("database.way", &["ok: direct"]);
    well.assert("clock.database", &["ok: "]);
    // Twenty connections, of which the plan leaves hardly any.
    well.assert(
        "database.plan",
        &["error: IMPOSSIBLE", "max_connections of at least"],
    );

    // Somebody who leaks: all but one of the seventeen that are not reserved, then that as well.
    let mut leaked = Vec::new();
    let leak = async |leaked: &mut Vec<_>| {
        let (client, connection) = zhuji_db_pool::tokio_postgres::connect(
            &format!("{url}?application_name=leaky"),
            zhuji_db_pool::tokio_postgres::NoTls,
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        client.batch_execute("BEGIN").await.unwrap();
        leaked.push(client);
    };
    for _ in 0..16 {
        leak(&mut leaked).await;
    }
    let nearly = ask().await;
    nearly.assert(
        "database.connections",
        &[
            "warning: ",
            "17 of 20 in use (85 %)",
            "leaky 16 (16 idle in a transaction)",
        ],
    );
    leak(&mut leaked).await;
    let full = ask().await;
    assert_eq!(full.code, 2);
    assert_eq!(
        full.json["findings"].as_array().unwrap().len(),
        1,
        "{:#}",
        full.json
    );
    full.assert(
        "database",
        &[
            "SQLSTATE 53300",
            "every connection of the server is taken",
            "DB_POOL_SIZE",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_says_why() {
    let postgres = TestPostgres::options().scram().tls().start().await;
    let database = postgres.database().await;
    database
        .execute(&format!("CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'"))
        .await;
    let url = |user: &str, password: &str, rest: &str| {
        format!(
            "postgres://{user}:{password}@localhost:{}/{rest}",
            postgres.port()
        )
    };
    let name = database.name();
    let ask = async |url: String| {
        doctor(
            &[
                ("DATABASE_URL", url.as_str()),
                ("APP_ENV", "production"),
                ("DEPLOYMENT_MODE", "private"),
            ],
            &["--only", "database,tls"],
        )
        .await
    };
    ask(url("weak", "wrong", name))
        .await
        .assert("database", &["28P01", "user and password in DATABASE_URL"]);
    ask(url("weak", PASSWORD, "nothing_there"))
        .await
        .assert("database", &["3D000", "create the database"]);
    let strange = format!(
        "{name}?sslmode=verify-full&sslrootcert={}",
        postgres.wrong_ca_file().display()
    );
    ask(url("weak", PASSWORD, &strange))
        .await
        .assert("database", &["sslrootcert in DATABASE_URL"]);
    let good = format!(
        "{name}?sslmode=verify-full&sslrootcert={}",
        postgres.ca_file().display()
    );
    let said = ask(url("weak", PASSWORD, &good)).await;
    said.assert("database.tls", &["ok: TLSv1", "sslmode=verify-full"]);
    said.assert(
        "database.rights",
        &["error: weak may not create schemas", "GRANT CREATE ON DATABASE"],
    );
    // The test's certificate is good for 30 days, of which one has begun once its first second is over.
    let mut said = said;
    while said.of("tls").contains("good for 30 days") {
        tokio::time::sleep(Duration::from_millis(200)).await;
        said = ask(url("weak", PASSWORD, &good)).await;
    }
    said.assert(
        "tls",
        &[
            "warning: the certificate of DATABASE_URL (localhost:",
            "ends in 29 days",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_told_from_a_server() {
    if !TestPgBouncer::is_installed() {
        println!("SKIPPED: PgBouncer is not installed");
        return;
    }
    let postgres = TestPostgres::start().await;
    let database = postgres.database().await;
    let bouncer = TestPgBouncer::start(&database, 5).await;
    let (direct, pooled) = (database.url(), bouncer.url());
    let said = doctor(
        &[("DATABASE_URL", &direct), ("DATABASE_POOLED_URL", &pooled)],
        &["--only", "database"],
    )
    .await;
    said.assert("database.pooled", &["ok: the pooler answers"]);
    said.assert("database.way", &["ok: direct"]);
    let wrong = doctor(&[("DATABASE_URL", &pooled)], &["--only", "database"]).await;
    assert_eq!(wrong.code, 2);
    let found = format!("{:#}", wrong.json);
    assert!(
        found.contains("leads to a pooler") && found.contains("DATABASE_POOLED_URL"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_and_files_of_this_machine() {
    let redis = TestRedis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files").display().to_string();
    let url = redis.url();
    let variables = [
        ("REDIS_URL", url.as_str()),
        ("STORAGE_LOCAL_DIR", &files),
        ("MODULES", ""),
    ];
    let said = doctor(&variables, &[]).await;
    said.assert("redis", &["ok: version ", "answers in"]);
    said.assert("storage", &["ok: local: wrote, read, signed and deleted"]);
    said.assert("storage.url", &["info: a signed address was not fetched"]);
    said.assert("database", &["ok: nothing asks for it"]);
    said.assert("llm", &["ok: not used"]);
    said.assert("config", &["ok: complete"]);
    assert!(said.json["errors"] == 0 && said.code == 0, "{:#}", said.json);
    let left = std::fs::read_dir(&files)
        .unwrap()
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() != ".zhuji"));
    assert_eq!(left.count(), 0, "the probe is gone, and so is its directory");

    redis.stop_hard().await;
    let gone = doctor(&variables, &["--only", "redis"]).await;
    assert_eq!(gone.code, 2);
    gone.assert("redis", &["error: ", "REDIS_URL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_hide_no_other_finding() {
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{}/app", free_port());
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("STORAGE_TYPE", "locl"),
        ("PORT", "70000"),
        ("DB_POOL_SIZ", "5"),
        ("LLM_API_KEY", PASSWORD),
        ("LLM_BASE_URL", "http://no-such-host.invalid/v1"),
    ];
    let said = doctor(&variables, &["--timeout", "5s"]).await;
    assert_eq!(said.code, 2);
    let config: Vec<&Value> = said.json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["check"] == "config")
        .collect();
    assert_eq!(config.len(), 3, "{config:#?}");
    said.assert("database", &["refused"]);
    said.assert("dns", &["no-such-host.invalid of LLM_BASE_URL can't be resolved"]);
    said.assert("llm", &["no-such-host.invalid can't be reached"]);

    let output = Command::new(env!("CARGO_BIN_EXE_zhuji"))
        .args(["doctor", "--only", "nothing"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
