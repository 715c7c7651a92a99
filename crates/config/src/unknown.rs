use crate::{
    Field, Problem, ProblemKind, Schema, layer::Raw, loader::is_ours, redact, sources::Sources, suggest,
};

/// How many unknown variables are named one by one. A file full of them is the wrong file.
const NAMED: usize = 50;

/// Variables that begin like ours, or nearly have the name of one, and are everybody's.
const OTHERS: &[&str] = &["HTTP_PROXY", "CONFIG_SITE"];

/// The variables that are set, look like ours, and are not; besides those that `said` has named already.
pub(crate) fn find(sources: &Sources, schema: &Schema, said: &[Problem]) -> Vec<Problem> {
    let (mut problems, mut unnamed) = (Vec::new(), 0);
    let file_names: Vec<String> = schema.names().map(|name| format!("{name}_FILE")).collect();
    let unset: Vec<&str> = schema
        .fields()
        .filter(|field| !is_set(sources, field))
        .flat_map(|field| std::iter::once(field.spec.name).chain(field.spec.aliases.iter().copied()))
        .collect();
    for layer in &sources.layers {
        for (name, entry) in &layer.entries {
            let known = || schema.names().any(|known| known == name) || file_names.contains(name);
            if entry.raw.is_empty() || known() || is_service_link(name, &entry.raw) {
                continue;
            }
            let hint = if is_ours(layer.rank) || schema.has_prefix_of(name) {
                if !is_ours(layer.rank) && OTHERS.contains(&name.as_str()) {
                    continue;
                }
                if problems.len() >= NAMED {
                    unnamed += 1;
                    continue;
                }
                let candidates = schema
                    .names()
                    .map(|name: &str| name)
                    .chain(file_names.iter().map(String::as_str));
                match suggest::nearest(name, candidates) {
                    Some(nearest) => format!("Did you mean {nearest}?"),
                    None => "Remove it, or set CONFIG_UNKNOWN=warn to start in spite of it".to_owned(),
                }
            } else {
                let Some(meant) = meant(name, &unset).filter(|_| !is_said(name, said)) else {
                    continue;
                };
                if problems.len() >= NAMED {
                    unnamed += 1;
                    continue;
                }
                format!(
                    "Did you mean {meant}? If it is another program's, set CONFIG_UNKNOWN=warn to start in spite of it"
                )
            };
            problems.push(
                Problem::new(redact::name(name), ProblemKind::Unknown)
                    .with_source(layer.source(entry))
                    .with_hint(hint),
            );
        }
    }
    if unnamed > 0 {
        problems.push(Problem::new(format!("and {unnamed} more"), ProblemKind::Unknown));
    }
    problems
}

/// Whether the report of a missing variable names it.
fn is_said(name: &str, said: &[Problem]) -> bool {
    let start = format!("{} is set: ", redact::name(name));
    said.iter()
        .filter(|problem| problem.kind == ProblemKind::Missing)
        .filter_map(|problem| problem.hint.as_deref())
        .any(|hint| hint.starts_with(&start))
}

/// By any of its names, or as a file.
fn is_set(sources: &Sources, field: &Field) -> bool {
    std::iter::once(field.spec.name)
        .chain(field.spec.aliases.iter().copied())
        .any(|name| {
            let file = format!("{name}_FILE");
            let mut layers = sources.layers.iter();
            layers.any(|layer| layer.get(name).is_some() || layer.get(&file).is_some())
        })
}

/// Which of the variables that are not set this one was probably meant to be, judged by its name alone.
///
/// The environment is full of other programs' variables, so a resemblance must be close: one slip, two in a long name,
/// or an ending too many (`APP_ENVIRONMENT`). The first letter is the one that is rarely mistyped, and the one in which
/// `AWS_REGION` differs from `OSS_REGION`.
fn meant<'a>(name: &str, unset: &[&'a str]) -> Option<&'a str> {
    if !(6..=64).contains(&name.len()) || !name.is_ascii() || OTHERS.contains(&name) {
        return None;
    }
    let name = name.to_ascii_uppercase();
    let slips = if name.len() >= 10 { 2 } else { 1 };
    let slipped = unset
        .iter()
        .filter(|known| known.as_bytes().first() == name.as_bytes().first())
        .filter(|known| known.len().abs_diff(name.len()) <= slips)
        .map(|known| (suggest::distance(&name, known), *known))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance);
    let continued = || {
        unset.iter().copied().find(|known| {
            // A single word may well begin another word (`MODULES`, `MODULESHOME`).
            known.len() >= 7
                && known.contains('_')
                && name
                    .strip_prefix(known)
                    .is_some_and(|ending| ending.bytes().all(|b| b.is_ascii_alphabetic()))
        })
    };
    slipped.map(|(_, known)| known).or_else(continued)
}

/// Kubernetes sets `REDIS_SERVICE_HOST`, `REDIS_PORT_6379_TCP_ADDR` and others for every service called `redis`.
/// They are nobody's mistake.
fn is_service_link(name: &str, raw: &Raw) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    if name.ends_with("_PORT") {
        return matches!(raw, Raw::Text(text) if text.starts_with("tcp://") || text.starts_with("udp://"));
    }
    let Some((_, rest)) = name.rsplit_once("_PORT_") else {
        return false;
    };
    let mut parts = rest.split('_');
    parts
        .next()
        .is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
        && parts
            .next()
            .is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
}

#[cfg(test)]
mod tests {
    use crate::{Loader, Secret, Sources, load_from_pairs};

    /// The variables of a real service that have no prefix of their own, and some that have.
    #[derive(zhuji_config_macros::Config, Debug)]
    #[config(
        title = "Service",
        prefixes("HTTP_", "LOG_", "DB_", "DATABASE_", "REDIS_", "OSS_")
    )]
    #[allow(dead_code)]
    struct Service {
        #[config(env = "APP_ENV", alias = "NODE_ENV", default = "development")]
        env: String,
        #[config(env = "DEPLOYMENT_MODE", default = "standalone")]
        mode: String,
        #[config(env = "MODULES")]
        modules: Vec<String>,
        #[config(env = "ROLE")]
        role: Option<String>,
        #[config(env = "HOST")]
        host: Option<String>,
        #[config(env = "PORT")]
        port: Option<String>,
        #[config(env = "BASE_URL")]
        base_url: Option<String>,
        #[config(env = "ADMIN_TOKEN")]
        admin_token: Option<Secret>,
        #[config(env = "SHUTDOWN_TIMEOUT")]
        shutdown_timeout: Option<String>,
        #[config(env = "STARTUP_TIMEOUT")]
        startup_timeout: Option<String>,
        #[config(env = "DRAIN_DELAY")]
        drain_delay: Option<String>,
        #[config(env = "ALIBABA_CLOUD_ROLE_ARN")]
        role_arn: Option<String>,
        #[config(env = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN")]
        provider_arn: Option<String>,
        #[config(env = "ALIBABA_CLOUD_OIDC_TOKEN_FILE")]
        token_file: Option<String>,
        #[config(env = "HTTP_MAX_BODY")]
        max_body: Option<String>,
        #[config(env = "LOG_LEVEL")]
        log_level: Option<String>,
        #[config(env = "DB_POOL_SIZE")]
        pool_size: Option<String>,
        #[config(env = "DATABASE_URL")]
        database_url: Option<Secret>,
        #[config(env = "REDIS_URL")]
        redis_url: Option<Secret>,
        #[config(env = "OSS_REGION")]
        region: Option<String>,
        #[config(env = "OSS_BUCKET")]
        bucket: Option<String>,
        #[config(env = "OSS_ENDPOINT")]
        endpoint: Option<String>,
        #[config(env = "OSS_ACCESS_KEY_ID")]
        key: Option<String>,
        #[config(env = "STORAGE_TYPE")]
        storage: Option<String>,
        #[config(env = "CACHE_TYPE")]
        cache: Option<String>,
    }

    #[test]
    fn a_slip_in_a_name_without_a_prefix_is_noticed() {
        for (slip, meant) in [
            ("APP_ENVIRONMENT", "APP_ENV"),
            ("APP_ENVV", "APP_ENV"),
            ("app_env", "APP_ENV"),
            ("NODE_EVN", "NODE_ENV"),
            ("DEPLOYMENT_MOD", "DEPLOYMENT_MODE"),
            ("SHUTDOWN_TIMOUT", "SHUTDOWN_TIMEOUT"),
            ("SHUTDWN_TIMOUT", "SHUTDOWN_TIMEOUT"),
            ("DRAIN_DELY", "DRAIN_DELAY"),
            ("MODULE", "MODULES"),
            ("ADMIN_TOKE", "ADMIN_TOKEN"),
            ("BASE_URI", "BASE_URL"),
            ("ALIBABA_CLOUD_ROLE_AR", "ALIBABA_CLOUD_ROLE_ARN"),
            ("DATABSE_URL", "DATABASE_URL"),
            ("STORGE_TYPE", "STORAGE_TYPE"),
        ] {
            let report = load_from_pairs::<Service>([(slip, "x")]).expect_err(slip);
            assert_eq!(report.problems.len(), 1, "{report}");
            let text = report.to_string();
            assert!(
                text.contains(slip) && text.contains(&format!("Did you mean {meant}?")),
                "{text}"
            );

            // The variable itself is set: the other one must be somebody else's.
            let both = [(slip, "x"), (meant, "y"), ("CONFIG_UNKNOWN", "warn")];
            let mut loader = Loader::new(Sources::from_pairs(both));
            loader.load::<Service>();
            assert!(loader.report().warnings.is_empty(), "{slip}: {}", loader.report());

            let warned = [(slip, "x"), ("CONFIG_UNKNOWN", "warn")];
            let mut loader = Loader::new(Sources::from_pairs(warned));
            assert!(loader.load::<Service>().is_some());
            assert_eq!(
                loader.finish().expect("a warning only").warnings.len(),
                1,
                "{slip}"
            );
        }
        let by_file = [("ADMIN_TOKE", "x"), ("ADMIN_TOKEN_FILE", "/proc/self/comm")];
        load_from_pairs::<Service>(by_file).expect("the token is set, by a file");
    }

    #[test]
    fn other_programs_variables_are_nobodys_mistake() {
        let names = "
            PATH HOME HOSTNAME HOSTTYPE HOST_IP MACHTYPE OSTYPE USER USERNAME LOGNAME SHELL TERM COLORTERM TERM_PROGRAM
            LANG LANGUAGE LC_ALL LC_CTYPE TZ PWD OLDPWD SHLVL MAIL EDITOR VISUAL PAGER LESS LESSOPEN LS_COLORS TMPDIR
            DISPLAY XDG_RUNTIME_DIR XDG_SESSION_ID XDG_CONFIG_HOME XAUTHORITY SSH_AUTH_SOCK SSH_CONNECTION SSH_CLIENT
            SUDO_USER SUDO_COMMAND INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET SYSTEMD_EXEC_PID MAINPID LISTEN_FDS
            CREDENTIALS_DIRECTORY STATE_DIRECTORY RUNTIME_DIRECTORY CACHE_DIRECTORY LOGS_DIRECTORY
            CONFIGURATION_DIRECTORY HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy
            FTP_PROXY CONFIG_SITE CONFIG_SHELL SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE
            KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS KUBERNETES_PORT
            KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR MODULES_SERVICE_HOST OSS_SERVICE_HOST KUBECONFIG
            POD_NAME POD_NAMESPACE POD_IP NODE_NAME NODE_IP NAMESPACE CONTAINER container
            CI BUILD_ID BUILD_URL BUILD_NUMBER JOB_NAME JOB_URL JENKINS_URL NODE_LABELS WORKSPACE RUNNER_TEMP RUNNER_OS
            RUNNER_TOOL_CACHE GITHUB_ENV GITHUB_TOKEN GITHUB_PATH GITHUB_ACTION GITHUB_SHA GITHUB_REF GITHUB_JOB
            GITHUB_BASE_REF GITHUB_SERVER_URL GITHUB_API_URL GITLAB_CI CI_JOB_TOKEN CI_PROJECT_URL CI_ENVIRONMENT_NAME
            DEPLOY_ENV DEPLOY_URL DEPLOYMENT_ID RELEASE APP_NAME APP_ID APP_VERSION APP_HOME APP_USER APP_URL APP_DIR
            ENVIRONMENT ENV STAGE DEBUG VERBOSE NODE_VERSION NODE_OPTIONS NODE_PATH NODE_HOME NVM_DIR NPM_TOKEN
            NPM_CONFIG_CACHE YARN_VERSION PYTHONPATH PYTHON_VERSION VIRTUAL_ENV PIPENV_ACTIVE PIP_INDEX_URL JAVA_HOME
            JAVA_OPTS GOPATH GOROOT GOCACHE CARGO_HOME CARGO_MANIFEST_DIR CARGO_PKG_VERSION RUSTUP_HOME RUST_LOG
            RUST_BACKTRACE RUSTFLAGS RUSTC_WRAPPER NEXTEST NEXTEST_RUN_ID
            MODULESHOME MODULEPATH MODULES_CMD MODULESHOME_modshare LOADEDMODULES _LMFILES_ MANPATH LD_LIBRARY_PATH
            BASE_DIR BASE_PATH BASEURL_X BASH_ENV BASH_VERSION ROLES ROLE_ARN PORTS HOSTS HOSTALIASES
            AWS_REGION AWS_BUCKET AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ROLE_ARN AWS_ENDPOINT_URL GCS_BUCKET
            S3_BUCKET S3_ENDPOINT COS_BUCKET OS_REGION_NAME OS_AUTH_URL GOOGLE_APPLICATION_CREDENTIALS
            AZURE_CLIENT_ID ALIBABA_CLOUD_ACCESS_KEY_ID ALIBABA_CLOUD_ACCESS_KEY_SECRET ALIBABA_CLOUD_ROLE_SESSION_NAME
            ALIBABA_CLOUD_ECS_METADATA ALIBABA_CLOUD_REGION_ID ALIBABA_CLOUD_CREDENTIALS_URI
            PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB PG_POOL_SIZE
            MYSQL_DATABASE MONGO_URL AMQP_URL OTEL_SERVICE_NAME OTEL_EXPORTER_OTLP_ENDPOINT SENTRY_DSN DD_AGENT_HOST
            ADMIN_USER ADMIN_EMAIL ADMIN_PASSWORD STARTUP_SCRIPT DRAIN_NODE
        ";
        let pairs: Vec<_> = names.split_whitespace().map(|name| (name, "x")).collect();
        let mut loader = Loader::new(Sources::from_pairs(pairs));
        loader.load::<Service>();
        let report = loader.report();
        assert!(
            report.problems.is_empty() && report.warnings.is_empty(),
            "{report}"
        );
        assert!(loader.schema().find("MODULES").is_some());
    }

    #[test]
    fn the_command_line_and_our_own_file_hold_nothing_of_others() {
        let mut loader = Loader::new(Sources::empty().with_args([("HTTP_PROXY", "x")]));
        loader.load::<Service>();
        assert_eq!(loader.report().problems.len(), 1);
    }
}
