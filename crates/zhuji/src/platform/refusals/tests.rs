//! Every refusal, with the variables that bring it about, its reason and its way out; and what is close to one and allowed.

use zhuji_config::Sources;

use crate::platform::settings::{loader_of, read};
use crate::{BoxError, Context, Manifest, Module, Need, NoConfig, Platform};

struct Everything;

impl Module for Everything {
    const MANIFEST: Manifest =
        Manifest::new("everything").needs(&[Need::Database, Need::Storage, Need::Cache, Need::Jobs]);
    type Config = NoConfig;

    async fn init(_: Context<NoConfig>) -> Result<Self, BoxError> {
        Ok(Self)
    }
}

/// Problems and warnings of these variables, besides a complete configuration of the mode in production.
fn report(mode: &str, variables: &str) -> (Vec<String>, Vec<String>) {
    let oss = "OSS_REGION=cn-hangzhou OSS_BUCKET=bucket OSS_ACCESS_KEY_ID=id OSS_ACCESS_KEY_SECRET=secret";
    let common = "APP_ENV=production DATABASE_URL=postgres://u@h/d BASE_URL=https://h.example \
                  STORAGE_SIGNING_KEY=0123456789abcdef0123456789abcdef";
    let mut set: Vec<(String, String)> = vec![("DEPLOYMENT_MODE".into(), mode.into())];
    for pair in [oss, common, variables]
        .iter()
        .flat_map(|text| text.split_whitespace())
    {
        let (name, value) = pair.split_once('=').expect("a pair");
        set.retain(|(known, _)| known != name);
        if !value.is_empty() {
            set.push((name.into(), value.into()));
        }
    }
    let platform = Platform::builder("test", "0").module::<Everything>();
    let mut loader = loader_of(&platform, Sources::from_pairs(set));
    read(&platform, &mut loader);
    let report = loader.report();
    let told = |problems: &[zhuji_config::Problem]| problems.iter().map(ToString::to_string).collect();
    (told(&report.problems), told(&report.warnings))
}

/// Mode, variables, the variable that is named, a part of the reason, a part of the way out.
const REFUSED: &[(&str, &str, &str, &str, &str)] = &[
    ("", "", "DEPLOYMENT_MODE", "APP_ENV=production", "Set"),
    (
        "private",
        "STORAGE_TYPE=memory",
        "STORAGE_TYPE",
        "lost at every restart",
        "Choose `local`",
    ),
    (
        "private",
        "JOBS_TYPE=memory",
        "JOBS_TYPE",
        "lost at every restart",
        "Choose `postgres`",
    ),
    (
        "cloud",
        "STORAGE_TYPE=local",
        "STORAGE_TYPE",
        "a container's disk goes with it",
        "Choose `oss`",
    ),
    (
        "private",
        "DB_MAX_INSTANCES=2",
        "STORAGE_TYPE",
        "DB_MAX_INSTANCES is 2, and a file on the disk of one instance",
        "STORAGE_LOCAL_SHARED=true",
    ),
    (
        "hybrid",
        "DB_MAX_INSTANCES=2 STORAGE_OUTBOX_DIR=off STORAGE_RESIDENT_PREFIXES=asl/",
        "STORAGE_RESIDENT_PREFIXES",
        "a resident file on the disk of one instance",
        "STORAGE_LOCAL_SHARED=true",
    ),
    (
        "cloud",
        "DB_MAX_INSTANCES=1 STORAGE_RESIDENT_PREFIXES=asl/",
        "STORAGE_RESIDENT_PREFIXES",
        "a container's disk goes with it",
        "NAS",
    ),
    (
        "hybrid",
        "DB_MAX_INSTANCES=2",
        "STORAGE_OUTBOX_DIR",
        "what waits in the outbox of one instance",
        "STORAGE_OUTBOX_DIR=off",
    ),
    (
        "hybrid",
        "DB_MAX_INSTANCES=2 STORAGE_LOCAL_SHARED=true",
        "STORAGE_OUTBOX_DIR",
        "what waits in the outbox of one instance",
        "STORAGE_OUTBOX_DIR=off",
    ),
    (
        "hybrid",
        "ROLE=web",
        "STORAGE_OUTBOX_DIR",
        "an outbox belongs to one process",
        "ROLE=all",
    ),
    (
        "hybrid",
        "ROLE=worker",
        "STORAGE_OUTBOX_DIR",
        "an outbox belongs to one process",
        "ROLE=all",
    ),
    (
        "cloud",
        "STORAGE_OUTBOX_DIR=auto",
        "STORAGE_OUTBOX_DIR",
        "a container's disk goes with it",
        "`off`",
    ),
    (
        "private",
        "STORAGE_OUTBOX_DIR=auto",
        "STORAGE_OUTBOX_DIR",
        "nothing has to be sent",
        "Leave it out",
    ),
    (
        "private",
        "BASE_URL=",
        "BASE_URL",
        "signed URLs of STORAGE_TYPE=local",
        "Set",
    ),
    (
        "hybrid",
        "BASE_URL= STORAGE_RESIDENT_PREFIXES=asl/",
        "BASE_URL",
        "signed URLs of STORAGE_RESIDENT_PREFIXES",
        "Set",
    ),
    (
        "hybrid",
        "BASE_URL=",
        "BASE_URL",
        "what waits in STORAGE_OUTBOX_DIR",
        "Set",
    ),
    (
        "private",
        "STORAGE_SIGNING_KEY=",
        "STORAGE_SIGNING_KEY",
        "signs its own URLs",
        "Set",
    ),
    (
        "private",
        "STORAGE_SIGNING_KEY= STORAGE_TYPE=oss OSS_ENDPOINT=oss.h.example STORAGE_RESIDENT_PREFIXES=asl/",
        "STORAGE_SIGNING_KEY",
        "signs its own URLs",
        "Set",
    ),
    (
        "standalone",
        "STORAGE_TYPE=oss",
        "STORAGE_TYPE",
        "standalone calls nobody",
        "Choose `local`",
    ),
    (
        "standalone",
        "STORAGE_TYPE=oss OSS_ENDPOINT=oss.h.example",
        "STORAGE_TYPE",
        "standalone calls nobody",
        "another DEPLOYMENT_MODE",
    ),
    (
        "private",
        "STORAGE_TYPE=oss",
        "STORAGE_TYPE",
        "private has no way out",
        "OSS_ENDPOINT",
    ),
    (
        "private",
        "LLM_API_KEY=k",
        "LLM_BASE_URL",
        "private has no way out",
        "remove LLM_API_KEY",
    ),
    (
        "standalone",
        "LLM_API_KEY=k",
        "LLM_BASE_URL",
        "standalone has no way out",
        "an endpoint on site",
    ),
    (
        "cloud",
        "DB_MAX_CONNECTIONS=50",
        "DB_MAX_CONNECTIONS",
        "IMPOSSIBLE: of 50 connections 26 are left for 10 instances and 10 more during a deployment",
        "max_connections of at least",
    ),
    (
        "private",
        "DB_MAX_CONNECTIONS=20",
        "DB_MAX_CONNECTIONS",
        "IMPOSSIBLE: of 20 connections",
        "DATABASE_POOLED_URL",
    ),
];

const WARNED: &[(&str, &str, &str)] = &[
    (
        "private",
        "STORAGE_TYPE=oss OSS_ENDPOINT=oss.h.example",
        "OSS_ENDPOINT: DEPLOYMENT_MODE=private has no way out",
    ),
    ("cloud", "", "CACHE_TYPE: DB_MAX_INSTANCES is 10"),
    (
        "private",
        "DB_MAX_INSTANCES=2 STORAGE_LOCAL_SHARED=true",
        "CACHE_TYPE: DB_MAX_INSTANCES is 2",
    ),
];

const ALLOWED: &[(&str, &str)] = &[
    ("standalone", ""),
    ("private", ""),
    (
        "private",
        "DB_MAX_INSTANCES=2 STORAGE_LOCAL_SHARED=true REDIS_URL=redis://h",
    ),
    ("private", "ROLE=web"),
    ("private", "LLM_API_KEY=k LLM_BASE_URL=http://llm.h.example"),
    ("private", "STORAGE_RESIDENT_PREFIXES=asl/"),
    ("hybrid", ""),
    ("hybrid", "STORAGE_TYPE=local"),
    (
        "hybrid",
        "STORAGE_RESIDENT_PREFIXES=asl/resident/ STORAGE_SIGNING_KEY=",
    ),
    ("hybrid", "STORAGE_OUTBOX_DIR=off ROLE=worker BASE_URL="),
    (
        "hybrid",
        "STORAGE_OUTBOX_DIR=off DB_MAX_INSTANCES=3 REDIS_URL=redis://h",
    ),
    ("cloud", "REDIS_URL=redis://h BASE_URL="),
    ("cloud", "REDIS_URL=redis://h DB_MAX_CONNECTIONS=400"),
    (
        "cloud",
        "REDIS_URL=redis://h DB_MAX_CONNECTIONS=50 DB_POOL_SIZE=2",
    ),
    (
        "cloud",
        "REDIS_URL=redis://h DB_MAX_CONNECTIONS=50 DATABASE_POOLED_URL=postgres://u@h:6432/d",
    ),
    (
        "cloud",
        "REDIS_URL=redis://h STORAGE_RESIDENT_PREFIXES=asl/ STORAGE_LOCAL_SHARED=true",
    ),
];

#[test]
fn each_combination_that_can_not_work_is_refused_once_with_reason_and_way_out() {
    for (mode, variables, name, reason, mend) in REFUSED {
        let (problems, _) = report(mode, variables);
        let found: Vec<_> = problems
            .iter()
            .filter(|problem| problem.contains(reason))
            .collect();
        assert!(
            found.len() == 1 && found[0].starts_with(name) && found[0].contains(mend),
            "{mode} {variables}: {problems:#?}"
        );
        // A mode that is missing leaves out more than one thing.
        assert!(
            problems.len() == 1 || mode.is_empty(),
            "{mode} {variables}: {problems:#?}"
        );
    }
}

#[test]
fn what_may_be_meant_is_a_warning() {
    for (mode, variables, warning) in WARNED {
        let (problems, warnings) = report(mode, variables);
        assert!(problems.is_empty(), "{mode} {variables}: {problems:#?}");
        assert!(
            warnings.iter().any(|text| text.starts_with(warning)),
            "{mode} {variables}: {warnings:#?}"
        );
    }
}

#[test]
fn what_works_is_neither() {
    for (mode, variables) in ALLOWED {
        let (problems, warnings) = report(mode, variables);
        assert!(
            problems.is_empty() && warnings.is_empty(),
            "{mode} {variables}: {problems:#?} {warnings:#?}"
        );
    }
}

#[test]
fn a_developer_may_try_everything() {
    for (mode, variables, ..) in REFUSED
        .iter()
        .filter(|(_, variables, ..)| !variables.contains("OUTBOX_DIR=auto"))
    {
        let (problems, _) = report(mode, &format!("{variables} APP_ENV=development"));
        assert!(problems.is_empty(), "{mode} {variables}: {problems:#?}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let variables =
        "STORAGE_TYPE=memory JOBS_TYPE=memory LLM_API_KEY=k DB_MAX_CONNECTIONS=20 DATABASE_URL= PORT=x";
    let (problems, _) = report("private", variables);
    for name in [
        "STORAGE_TYPE",
        "JOBS_TYPE",
        "LLM_BASE_URL",
        "DB_MAX_CONNECTIONS",
        "DATABASE_URL",
    ] {
        let found = problems.iter().any(|problem| problem.starts_with(name));
        // A service section that can't be read hides what depends on it, and says so itself.
        assert!(
            found || problems.iter().any(|problem| problem.starts_with("PORT")),
            "{name}: {problems:#?}"
        );
    }
}
