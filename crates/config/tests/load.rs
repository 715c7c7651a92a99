//! Sections, sources and their order, checks, reports, templates.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

use std::{fs, path::PathBuf, time::Duration};

use tempfile::TempDir;
use zhuji_config::{
    ByteSize, Config, ConfigEnum, Loader, Problem, ProblemKind, Reader, Report, Schema, Secret, SecretUrl,
    Source, Sources, TemplateFormat, load, load_from_pairs, template,
};

#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum AppEnv {
    Development,
    Production,
    Test,
}

#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum SignatureVersion {
    #[config(name = "v4", alias = "4")]
    Version4,
    #[config(name = "v1")]
    Version1,
}

/// Where the files of the modules are.
#[derive(Config, Clone, Debug, PartialEq)]
#[config(title = "Storage", prefixes("STORAGE_", "OSS_"), check = StorageConfig::check, impl_default)]
struct StorageConfig {
    /// Which adapter holds the files: `local`, `oss`, `memory`,
    /// or a registered name.
    #[config(
        env = "STORAGE_TYPE",
        default = "local",
        default_note = "`oss` in `cloud` and `hybrid`"
    )]
    kind: String,
    /// Root of the local adapter.
    #[config(env = "STORAGE_LOCAL_DIR", default = "./uploads")]
    local_dir: PathBuf,
    /// HMAC key of local signed URLs.
    #[config(env = "STORAGE_SIGNING_KEY")]
    signing_key: Option<Secret>,
    /// Keys readable without a signature.
    #[config(env = "STORAGE_PUBLIC_PREFIXES", example = "avatars/")]
    public_prefixes: Vec<String>,
    /// Objects in flight.
    #[config(env = "STORAGE_CONCURRENCY", default = 10)]
    concurrency: usize,
    #[config(nested)]
    oss: OssConfig,
}

impl StorageConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        if self.kind == "oss" {
            reader.require("OSS_BUCKET", self.oss.bucket.is_some(), "STORAGE_TYPE=oss");
        }
    }
}

#[derive(Config, Clone, Debug, PartialEq)]
#[config(impl_default)]
struct OssConfig {
    #[config(env = "OSS_BUCKET")]
    bucket: Option<String>,
    #[config(env = "OSS_SIGNATURE_VERSION", default = "v4")]
    signature: SignatureVersion,
    #[config(env = "OSS_ENDPOINT")]
    endpoint: Option<SecretUrl>,
    #[config(env = "OSS_ACCESS_KEY_SECRET")]
    access_key_secret: Option<Secret>,
}

#[derive(Config, Clone, Debug, PartialEq)]
#[config(title = "Service", prefixes("APP_"))]
struct AppConfig {
    #[config(env = "APP_ENV", alias = "NODE_ENV", default = "development")]
    env: AppEnv,
    #[config(env = "PORT", default = 3001)]
    port: u16,
    #[config(env = "APP_DRAIN_DELAY", default = "0s")]
    drain_delay: Duration,
    #[config(env = "APP_MAX_BODY", default = "10MiB")]
    max_body: ByteSize,
    #[config(env = "APP_TITLE", default = "Zhuji")]
    title: String,
}

#[derive(Config, Clone, Debug)]
#[config(title = "Database", prefixes("DATABASE_", "DB_"))]
struct DbConfig {
    /// Direct PostgreSQL URL.
    #[config(env = "DATABASE_URL")]
    url: Secret,
    #[config(env = "DB_POOL_SIZE")]
    _pool_size: Option<u32>,
}

fn lines(report: &Report) -> Vec<String> {
    report.problems.iter().map(ToString::to_string).collect()
}

fn app(sources: Sources) -> Result<AppConfig, Report> {
    load(sources)
}

#[test]
fn defaults_are_the_documented_ones() {
    let config: StorageConfig = load_from_pairs([("", ""); 0]).unwrap();
    assert_eq!(config, StorageConfig::default());
    assert_eq!(config.concurrency, 10);
    assert_eq!(config.oss.signature, SignatureVersion::Version4);
    let app: AppConfig = load_from_pairs([("", ""); 0]).unwrap();
    assert_eq!(app.env, AppEnv::Development);
    assert_eq!(app.drain_delay, Duration::ZERO);
    assert_eq!(app.max_body, ByteSize::mib(10));
}

#[test]
fn enums_have_names() {
    assert_eq!(AppEnv::NAMES, ["development", "production", "test"]);
    assert_eq!(AppEnv::Test.as_str(), "test");
    assert_eq!(SignatureVersion::NAMES, ["v4", "v1"]);
    for (text, version) in [
        ("V4", SignatureVersion::Version4),
        ("4", SignatureVersion::Version4),
    ] {
        let config: OssConfig = load_from_pairs([("OSS_SIGNATURE_VERSION", text)]).unwrap();
        assert_eq!(config.signature, version);
    }
}

#[test]
fn texts_stay_texts() {
    for text in ["007", "true", "1e3", "[abc]", " x "] {
        assert_eq!(
            app(Sources::from_pairs([("APP_TITLE", text)])).unwrap().title,
            text
        );
    }
}

#[test]
fn every_problem_is_in_one_report() {
    let sources = Sources::from_pairs([
        ("APP_ENV", "prodution"),
        ("PORT", "99999"),
        ("APP_DRAIN_DELAY", "5"),
        ("APP_MAX_BODY", "10M"),
        ("DB_POOL_SIZE", "many"),
        ("DB_POL_SIZE", "3"),
        ("STORAGE_FLUX_CAPACITOR", "on"),
        ("DATABSE_URL", "postgres://u:hunter2@h/db"),
        ("UNRELATED", "yes"),
    ]);
    let report = load::<(AppConfig, DbConfig, StorageConfig)>(sources).unwrap_err();
    assert_eq!(
        lines(&report),
        [
            "APP_ENV (environment) is not valid; expected `development`, `production` or `test`; found `prodution`. \
             Did you mean `production`?",
            "PORT (environment) is not valid; expected a whole number from 0 to 65535; found `99999`.",
            "APP_DRAIN_DELAY (environment): it has no unit: write `5s` for seconds or `5ms` for milliseconds; \
             expected a duration such as `250ms`, `3s` or `1h30m`; found `5`.",
            "APP_MAX_BODY (environment): write `MiB` (1,024) or `MB` (1,000) instead of a bare `M`; expected a size \
             such as `64KiB`, `10MB` or `5GiB`; found `10M`.",
            "DATABASE_URL is required and not set; expected a secret text. DATABSE_URL is set: did you mean \
             DATABASE_URL?",
            "DB_POOL_SIZE (environment) is not valid; expected a whole number from 0 to 4294967295; found `many`.",
            "DB_POL_SIZE (environment) is not a variable of this program. Did you mean DB_POOL_SIZE?",
            "STORAGE_FLUX_CAPACITOR (environment) is not a variable of this program. Remove it, or set \
             CONFIG_UNKNOWN=warn to start in spite of it.",
        ]
    );
    assert!(
        report
            .to_string()
            .starts_with("the configuration has 8 problems:\n  1. APP_ENV")
    );
    assert_eq!(format!("{report:?}"), report.to_string());
}

#[test]
fn unknown_variables_can_be_warnings() {
    let pairs = [("CONFIG_UNKNOWN", "warn"), ("APP_TITEL", "x")];
    let mut loader = Loader::new(Sources::from_pairs(pairs));
    loader.load::<AppConfig>();
    let loaded = loader.finish().unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].variable, "APP_TITEL");

    let report = load_from_pairs::<AppConfig>([("CONFIG_UNKNOWN", "wran"), ("APP_TITEL", "x")]).unwrap_err();
    assert_eq!(report.problems.len(), 2, "{report}");
    assert!(report.to_string().contains("Did you mean `warn`?"));
}

#[test]
fn a_described_section_is_known_and_not_read() {
    let mut loader = Loader::new(Sources::from_pairs([("DB_POOL_SIZE", "many")]));
    loader.describe::<DbConfig>();
    loader.finish().unwrap();
}

#[test]
fn what_kubernetes_sets_is_nobodys_mistake() {
    load_from_pairs::<StorageConfig>([
        ("OSS_SERVICE_HOST", "10.0.0.1"),
        ("OSS_SERVICE_PORT", "9100"),
        ("OSS_SERVICE_PORT_HTTP", "9100"),
        ("OSS_PORT", "tcp://10.0.0.1:9100"),
        ("OSS_PORT_9100_TCP", "tcp://10.0.0.1:9100"),
        ("OSS_PORT_9100_TCP_ADDR", "10.0.0.1"),
    ])
    .unwrap();
    assert!(load_from_pairs::<StorageConfig>([("OSS_PORT", "9100")]).is_err());
}

#[test]
fn an_empty_value_is_not_set() {
    let config = load_from_pairs::<AppConfig>([("PORT", ""), ("APP_TITEL", "")]).unwrap();
    assert_eq!(config.port, 3001);
    let report = load_from_pairs::<DbConfig>([("DATABASE_URL", "")]).unwrap_err();
    assert!(
        report
            .to_string()
            .contains("DATABASE_URL is required and empty, which counts as not set"),
        "{report}"
    );

    let sources =
        Sources::from_pairs([("PORT", "")]).with_defaults([("PORT", "80", "DEPLOYMENT_MODE=cloud")]);
    assert_eq!(app(sources).unwrap().port, 80);
}

#[test]
fn aliases() {
    assert_eq!(
        load_from_pairs::<AppConfig>([("NODE_ENV", "test")]).unwrap().env,
        AppEnv::Test
    );
    assert_eq!(
        load_from_pairs::<AppConfig>([("NODE_ENV", "test"), ("APP_ENV", "test")])
            .unwrap()
            .env,
        AppEnv::Test
    );
    let report = load_from_pairs::<AppConfig>([("NODE_ENV", "test"), ("APP_ENV", "production")]).unwrap_err();
    assert_eq!(report.problems[0].kind, ProblemKind::Conflict);
    assert_eq!(
        lines(&report),
        ["APP_ENV (environment): it is also set as NODE_ENV, to something else. Unset NODE_ENV."]
    );
}

/// A directory with the files a program finds.
struct Site(TempDir);

impl Site {
    fn new(files: &[(&str, &str)]) -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            fs::write(site.0.path().join(name), text).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn sources(&self, pairs: &[(&str, &str)], args: &[(&str, &str)]) -> Sources {
        Sources::from_pairs(pairs.iter().copied())
            .with_args(args.iter().copied())
            .with_files_in(self.0.path())
    }
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let site = Site::new(&[
        ("zhuji.toml", "PORT = 2\n[app]\ntitle = 'toml'\n"),
        (".env", "PORT=3\n"),
        ("port", "4\n"),
    ]);
    let defaults = [
        ("PORT", "1", "DEPLOYMENT_MODE=cloud"),
        ("APP_DRAIN_DELAY", "5s", "DEPLOYMENT_MODE=cloud"),
    ];
    let port_file = site.path("port");
    let by_file = [("PORT_FILE", port_file.as_str())];
    let read = |site: &Site, pairs: &[(&str, &str)], args: &[(&str, &str)]| {
        let mut loader = Loader::new(site.sources(pairs, args).with_defaults(defaults));
        let app = loader.load::<AppConfig>();
        let source = loader.source_of("PORT").unwrap().to_string();
        let (app, _) = loader.finish_with(app).unwrap();
        (app.port, source)
    };
    assert_eq!(
        read(&site, &[("PORT", "5")], &[("PORT", "6")]),
        (6, "command line".to_owned())
    );
    assert_eq!(read(&site, &[("PORT", "5")], &[]), (5, "environment".to_owned()));
    assert_eq!(read(&site, &by_file, &[]), (4, format!("PORT_FILE={port_file}")));
    assert_eq!(read(&site, &[], &[]), (3, format!("{}:1", site.path(".env"))));
    fs::remove_file(site.path(".env")).unwrap();
    assert_eq!(
        read(&site, &[], &[]),
        (2, format!("{}:1", site.path("zhuji.toml")))
    );
    fs::write(site.path("zhuji.toml"), "").unwrap();
    assert_eq!(
        read(&site, &[], &[]),
        (1, "default, DEPLOYMENT_MODE=cloud".to_owned())
    );
    assert_eq!(app(Sources::empty()).unwrap().port, 3001);
    assert_eq!(
        app(site.sources(&[], &[]).with_defaults(defaults))
            .unwrap()
            .drain_delay,
        Duration::from_secs(5)
    );
}

#[test]
fn dotenv_is_for_development() {
    let site = Site::new(&[(".env", "APP_ENV=development\nPORT=3\n")]);
    assert_eq!(app(site.sources(&[], &[])).unwrap().port, 3);
    assert_eq!(
        app(site.sources(&[("APP_ENV", "production")], &[])).unwrap().port,
        3001
    );
    assert_eq!(
        app(site.sources(&[("NODE_ENV", "test")], &[])).unwrap().port,
        3001
    );
    let env = site.path("env");
    fs::write(&env, "production\n").unwrap();
    assert_eq!(
        app(site.sources(&[("APP_ENV_FILE", &env)], &[])).unwrap().port,
        3001
    );

    let site = Site::new(&[(".env", "APP_ENV=production\n")]);
    let report = app(site.sources(&[], &[])).unwrap_err();
    assert!(
        report
            .to_string()
            .contains("so it can't be set in this one. Set it in the environment."),
        "{report}"
    );
}

#[test]
fn a_file_that_is_asked_for_must_exist() {
    let site = Site::new(&[("other.toml", "PORT = 9\n")]);
    assert_eq!(
        app(site.sources(&[("CONFIG_FILE", &site.path("other.toml"))], &[]))
            .unwrap()
            .port,
        9
    );
    let report = app(site.sources(&[("CONFIG_FILE", &site.path("missing.toml"))], &[])).unwrap_err();
    assert_eq!(report.problems[0].kind, ProblemKind::Unreadable);
    assert!(
        report
            .to_string()
            .contains("missing.toml can't be read: No such file"),
        "{report}"
    );
    let report = app(site.sources(&[("PORT_FILE", &site.path("missing"))], &[])).unwrap_err();
    assert!(
        lines(&report)[0].starts_with("PORT_FILE (environment) can't be read: "),
        "{report}"
    );
    assert!(
        lines(&report)[0].contains("It must name a file that holds the value of PORT"),
        "{report}"
    );
}

#[test]
fn a_value_and_its_file() {
    let site = Site::new(&[("url", "postgres://u:hunter2@h/db\r\n"), ("empty", "\n")]);
    let (url, empty) = (site.path("url"), site.path("empty"));
    let read = |pairs: &[(&str, &str)], args: &[(&str, &str)]| {
        load::<DbConfig>(site.sources(pairs, args)).map(|config| config.url.expose().to_owned())
    };
    assert_eq!(
        read(&[("DATABASE_URL_FILE", &url)], &[]).unwrap(),
        "postgres://u:hunter2@h/db"
    );
    assert_eq!(
        read(&[("DATABASE_URL_FILE", &url)], &[("DATABASE_URL", "x")]).unwrap(),
        "x"
    );
    assert_eq!(
        read(&[("DATABASE_URL_FILE", &url), ("DATABASE_URL", "")], &[]).unwrap(),
        "postgres://u:hunter2@h/db"
    );

    let both = read(&[("DATABASE_URL_FILE", &url), ("DATABASE_URL", "hunter2")], &[]).unwrap_err();
    assert_eq!(
        lines(&both),
        [
            "DATABASE_URL: both DATABASE_URL (environment) and DATABASE_URL_FILE (environment) are set. Unset one of them."
        ]
    );
    assert_eq!(
        read(&[("DATABASE_URL", "x")], &[("DATABASE_URL_FILE", &url)])
            .unwrap_err()
            .problems
            .len(),
        1
    );
    let report = read(&[("DATABASE_URL_FILE", &empty)], &[]).unwrap_err();
    assert!(report.to_string().contains("the file is empty"), "{report}");
    let report = read(&[("DATABASE_URL_FIL", &url)], &[]).unwrap_err();
    assert!(
        report.to_string().contains("Did you mean DATABASE_URL_FILE?"),
        "{report}"
    );
}

#[test]
fn a_toml_file() {
    let site = Site::new(&[(
        "zhuji.toml",
        "APP_TITLE = 1.10\nport = 8080\n[storage]\ntype = 'memory'\npublic-prefixes = ['a,b/', 'c/']\nlocl_dir = 'x'\n",
    )]);
    let report = load::<(AppConfig, StorageConfig)>(site.sources(&[], &[])).unwrap_err();
    let path = site.path("zhuji.toml");
    assert_eq!(
        lines(&report),
        [format!(
            "STORAGE_LOCL_DIR ({path}:6) is not a variable of this program. Did you mean STORAGE_LOCAL_DIR?"
        )]
    );
    let text = fs::read_to_string(&path).unwrap().replace("locl", "local");
    fs::write(&path, text).unwrap();
    let (app, storage) = load::<(AppConfig, StorageConfig)>(site.sources(&[], &[])).unwrap();
    assert_eq!((app.title.as_str(), app.port), ("1.10", 8080));
    assert_eq!(storage.kind, "memory");
    assert_eq!(storage.public_prefixes, ["a,b/", "c/"]);

    fs::write(
        &path,
        "APP_TITLE = 007\nPORT = ['1']\nUNHEARD_OF = 1\nDATABASE_URL = {}\nCONFIG_FILE = 'x'\n",
    )
    .unwrap();
    let report = app_and_problems(&site);
    assert_eq!(report.len(), 4, "{report:#?}");
    assert!(
        report[0].starts_with(&format!("{path}:1: ")) && report[0].contains("in quotes"),
        "{report:#?}"
    );
    assert!(report[1].starts_with("CONFIG_FILE"), "{report:#?}");
    assert!(
        report[2].contains("it is an array, where one value belongs"),
        "{report:#?}"
    );
    assert!(report[3].starts_with("UNHEARD_OF"), "{report:#?}");
}

fn app_and_problems(site: &Site) -> Vec<String> {
    lines(&app(site.sources(&[], &[])).unwrap_err())
}

#[test]
fn a_broken_line_is_one_problem() {
    let site = Site::new(&[(".env", "DATABASE_URL='hunter2\n")]);
    let report = load::<DbConfig>(site.sources(&[], &[])).unwrap_err();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert_eq!(report.problems[0].kind, ProblemKind::Malformed);
    assert!(!report.to_string().contains("hunter2"));
}

#[test]
fn rules_between_variables() {
    let report = load_from_pairs::<StorageConfig>([("STORAGE_TYPE", "oss")]).unwrap_err();
    assert_eq!(
        lines(&report),
        [
            "OSS_BUCKET is required because STORAGE_TYPE=oss; expected a text. Set OSS_BUCKET or OSS_BUCKET_FILE."
        ]
    );
    load_from_pairs::<StorageConfig>([("STORAGE_TYPE", "oss"), ("OSS_BUCKET", "b")]).unwrap();

    let mut loader = Loader::new(Sources::from_pairs([("PORT", "80"), ("DB_POOL_SIZE", "bad")]));
    let app = loader.load::<AppConfig>().unwrap();
    assert!(loader.load::<DbConfig>().is_none());
    assert!(loader.is_set("PORT") && !loader.is_set("APP_TITLE"));
    assert_eq!(loader.source_of("APP_TITLE"), Some(&Source::Default));
    if app.port < 1024 {
        loader.problem(Problem::invalid("PORT", "ports below 1024 need a privilege").with_found("80"));
    }
    // What is bad is reported as bad, not as missing too.
    loader.require("DB_POOL_SIZE", false, "PORT=80");
    let report = loader.finish().unwrap_err();
    assert_eq!(report.problems.len(), 3, "{report}");
    assert!(
        report
            .to_string()
            .contains("PORT: ports below 1024 need a privilege; found `80`."),
        "{report}"
    );
}

#[test]
fn a_shared_variable_is_read_twice_and_told_once() {
    #[derive(Config, Debug)]
    #[config(prefixes("LOG_"))]
    struct LogConfig {
        #[config(env = "APP_ENV", alias = "NODE_ENV", default = "development")]
        env: AppEnv,
    }
    let mut loader = Loader::new(Sources::from_pairs([("APP_ENV", "x")]));
    loader.load::<(AppConfig, LogConfig)>();
    assert_eq!(
        loader
            .settings()
            .iter()
            .filter(|setting| setting.name == "APP_ENV")
            .count(),
        1
    );
    assert_eq!(loader.finish().unwrap_err().problems.len(), 1);
    assert_eq!(
        load_from_pairs::<LogConfig>([("NODE_ENV", "test")]).unwrap().env,
        AppEnv::Test
    );
}

mod facade {
    pub(crate) use zhuji_config as config;
}

#[test]
fn the_derives_work_through_a_facade() {
    #[derive(facade::config::ConfigEnum, Debug, PartialEq)]
    #[config(crate = crate::facade::config)]
    enum Mode {
        HalfWay,
    }
    #[derive(facade::config::Config, Debug)]
    #[config(crate = crate::facade::config, impl_default)]
    struct Section {
        #[config(env = "MODE", default = "half-way")]
        r#mode: Mode,
    }
    assert_eq!(
        load_from_pairs::<Section>([("MODE", "HALF-WAY")]).unwrap().mode,
        Section::default().mode
    );
}

#[test]
fn a_variable_is_as_secret_as_its_most_careful_section() {
    #[derive(Config, Debug)]
    struct Careless {
        #[config(env = "DATABASE_URL")]
        _url: u16,
    }
    for careless_first in [true, false] {
        let mut loader = Loader::new(Sources::from_pairs([("DATABASE_URL", "hunter2")]));
        if careless_first {
            loader.load::<Careless>();
            loader.load::<DbConfig>();
        } else {
            loader.load::<DbConfig>();
            loader.load::<Careless>();
        }
        assert_eq!(
            loader.settings().get("DATABASE_URL").unwrap().value.as_deref(),
            Some("***")
        );
        let report = loader.finish().unwrap_err();
        assert!(!report.to_string().contains("hunter2"), "{report}");
    }
}

#[test]
fn show_says_value_and_source() {
    let pairs = [
        ("PORT", ""),
        ("APP_TITLE", "say \"hi\"\n"),
        ("DATABASE_URL", "postgres://u:hunter2@h/db"),
        ("OSS_ENDPOINT", "https://u:hunter2@h/p?signature=hunter2"),
    ];
    let mut loader = Loader::new(Sources::from_pairs(pairs));
    loader.load::<(AppConfig, DbConfig, StorageConfig)>();
    let settings = loader.settings();
    let text = settings.to_string();
    assert!(
        !text.contains("hunter2") && !settings.to_json().contains("hunter2"),
        "{text}"
    );
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("PORT"), "PORT 3001 default (set but empty)");
    assert_eq!(row("DATABASE_URL"), "DATABASE_URL *** environment");
    assert_eq!(
        row("OSS_ENDPOINT"),
        "OSS_ENDPOINT https://***@h/p?*** environment"
    );
    assert_eq!(row("OSS_BUCKET"), "OSS_BUCKET - not set");
    assert_eq!(row("CONFIG_UNKNOWN"), "CONFIG_UNKNOWN error default");
    assert!(settings.to_json().contains(
        r#"{"name":"APP_TITLE","value":"say \"hi\"\\n","secret":false,"source":"environment","note":null}"#
    ));
    assert_eq!(
        settings.get("DATABASE_URL").unwrap().value.as_deref(),
        Some("***")
    );
}

#[test]
fn templates_are_complete_and_load() {
    let loader = {
        let mut loader = Loader::new(Sources::empty());
        loader.describe::<(AppConfig, DbConfig, StorageConfig)>();
        loader
    };
    let env = template(loader.schema(), TemplateFormat::Env);
    assert!(env.contains(
        "# ==== Storage ====\n# Where the files of the modules are.\n\n# Which adapter holds the files: `local`, `oss`, \
         `memory`,\n# or a registered name.\n# Expected: a text. Default: local; `oss` in `cloud` and `hybrid`.\n\
         #STORAGE_TYPE=local\n"
    ), "{env}");
    assert!(
        env.contains(
            "\n# Direct PostgreSQL URL.\n# Required, secret. Expected: a secret text.\nDATABASE_URL=\n"
        ),
        "{env}"
    );
    assert!(env.contains("\n#STORAGE_PUBLIC_PREFIXES=avatars/\n"), "{env}");
    assert!(env.contains("Also understood as: NODE_ENV."), "{env}");
    assert!(env.ends_with("#CONFIG_UNKNOWN=error\n"), "{env}");
    let toml = template(loader.schema(), TemplateFormat::Toml);
    assert!(toml.contains("\n#STORAGE_TYPE = \"local\"\n"), "{toml}");
    assert_eq!("toml".parse(), Ok(TemplateFormat::Toml));

    // Filled in, with every example turned on, both are files the loader takes.
    for (name, text) in [(".env", env), ("zhuji.toml", toml)] {
        let text: String = text
            .replace("DATABASE_URL=\n", "DATABASE_URL=x\n")
            .replace("DATABASE_URL = \"\"", "DATABASE_URL = 'x'")
            .lines()
            .filter(|line| !line.contains("CONFIG_FILE"))
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let site = Site::new(&[(name, &text)]);
        let (app, _, storage) = load::<(AppConfig, DbConfig, StorageConfig)>(site.sources(&[], &[])).unwrap();
        assert_eq!(app, load_from_pairs([("", ""); 0]).unwrap());
        assert_eq!(storage.public_prefixes, ["avatars/"]);
    }
}

#[test]
fn a_schema_needs_no_environment() {
    let schema = Schema::of::<(DbConfig, StorageConfig)>();
    let url = schema.find("DATABASE_URL").unwrap();
    assert!(url.required && url.secret);
    let kind = schema.find("STORAGE_TYPE").unwrap();
    assert!(!kind.required && !kind.secret);
    assert_eq!(
        schema
            .sections()
            .iter()
            .map(|section| section.spec.title)
            .collect::<Vec<_>>(),
        ["Database", "Storage", "Oss"]
    );
}

#[test]
fn a_default_that_does_not_parse_is_the_programs_mistake() {
    #[derive(Config, Debug)]
    struct Wrong {
        #[config(env = "WRONG_TIMEOUT", default = "soon")]
        _timeout: Duration,
    }
    let report = load_from_pairs::<Wrong>([("", ""); 0]).unwrap_err();
    assert_eq!(report.problems[0].kind, ProblemKind::BadDefault);
    assert!(
        report.to_string().contains("a mistake in the program"),
        "{report}"
    );
}
