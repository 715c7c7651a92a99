//! Combinations of settings that lose data, can't work, or break what the mode promises. No section can see them alone.
//!
//! In production only; a developer may try them. Each is one problem in the report of all problems, with its reason and the
//! way out.

use zhuji_cache::CacheConfig;
use zhuji_config::{Loader, Problem};
use zhuji_db_pool::{DbConfig, Plan, Verdict, plan};
use zhuji_jobs::JobsConfig;
use zhuji_storage::StorageConfig;

use crate::settings::{DeploymentMode, LlmConfig, Role, ServiceConfig};

/// What is looked at.
pub(super) struct Examined<'a> {
    pub(super) service: &'a ServiceConfig,
    pub(super) storage: &'a StorageConfig,
    pub(super) jobs: &'a JobsConfig,
    /// If a chosen module stands on the database.
    pub(super) db: Option<&'a DbConfig>,
    /// `DB_MAX_INSTANCES`.
    pub(super) instances: u32,
    /// If a chosen module uses it.
    pub(super) cache: Option<&'a CacheConfig>,
    pub(super) llm: Option<&'a LlmConfig>,
}

/// Looks at everything; what is wrong goes to the loader.
pub(super) fn check(settings: &Examined<'_>, loader: &mut Loader) {
    if !settings.service.is_production() {
        return;
    }
    loader.require(
        "DEPLOYMENT_MODE",
        settings.service.mode.is_some(),
        "APP_ENV=production",
    );
    in_memory(settings, loader);
    on_disk(settings, loader);
    signed_urls(settings, loader);
    ways_out(settings, loader);
    many_instances(settings, loader);
}

fn refuse(loader: &mut Loader, name: &str, reason: impl Into<String>, mend: &str) {
    loader.problem(Problem::invalid(name, reason).with_hint(mend));
}

fn in_memory(settings: &Examined<'_>, loader: &mut Loader) {
    if settings.storage.kind == "memory" {
        let reason = "files in memory are lost at every restart";
        refuse(loader, "STORAGE_TYPE", reason, "Choose `local` or `oss`");
    }
    if settings.jobs.kind == "memory" {
        let reason = "jobs in memory are lost at every restart";
        refuse(loader, "JOBS_TYPE", reason, "Choose `postgres`");
    }
}

/// Files on disk: whose, and who sees them.
fn on_disk(settings: &Examined<'_>, loader: &mut Loader) {
    let Examined {
        storage, instances, ..
    } = settings;
    let cloud = settings.service.mode() == DeploymentMode::Cloud;
    let many = *instances > 1;
    if storage.kind == "local" && cloud {
        refuse(
            loader,
            "STORAGE_TYPE",
            "a container's disk goes with it, and no other instance sees it",
            "Choose `oss`, or another DEPLOYMENT_MODE",
        );
    } else if storage.kind == "local" && many && !storage.local_shared {
        refuse(
            loader,
            "STORAGE_TYPE",
            format!(
                "DB_MAX_INSTANCES is {instances}, and a file on the disk of one instance is missing in the others"
            ),
            "Set DB_MAX_INSTANCES=1, or put STORAGE_LOCAL_DIR on a NAS that all see and set STORAGE_LOCAL_SHARED=true, or \
             choose `oss`",
        );
    }
    let resident = storage.kind != "local" && !storage.resident_prefixes.is_empty();
    if resident && (many || cloud) && !storage.local_shared {
        refuse(
            loader,
            "STORAGE_RESIDENT_PREFIXES",
            match cloud {
                true => "a container's disk goes with it, and resident files lie on it".to_owned(),
                false => format!(
                    "DB_MAX_INSTANCES is {instances}, and a resident file on the disk of one instance is missing in the others"
                ),
            },
            "Put STORAGE_LOCAL_DIR on a NAS that all instances see and set STORAGE_LOCAL_SHARED=true, or run one instance on \
             a disk that stays",
        );
    }
    if storage.outbox().is_none() {
        return;
    }
    let mend = "Set STORAGE_OUTBOX_DIR=off, or run one instance with ROLE=all";
    if cloud {
        let reason = "a container's disk goes with it, and with it what waits in the outbox";
        refuse(loader, "STORAGE_OUTBOX_DIR", reason, "Set it to `off`");
    } else if many {
        let reason = format!(
            "DB_MAX_INSTANCES is {instances}, and what waits in the outbox of one instance is missing in the others"
        );
        refuse(loader, "STORAGE_OUTBOX_DIR", reason, mend);
    } else if settings.service.role != Role::All {
        let reason = "an outbox belongs to one process, and with ROLE=web or ROLE=worker there are two";
        refuse(loader, "STORAGE_OUTBOX_DIR", reason, mend);
    }
}

/// Signed URLs that lead to this service.
fn signed_urls(settings: &Examined<'_>, loader: &mut Loader) {
    let Examined { service, storage, .. } = settings;
    let resident = storage.kind != "local" && !storage.resident_prefixes.is_empty();
    let address = service.base_url.is_some();
    if storage.kind == "local" && service.mode() != DeploymentMode::Cloud {
        let because = "the signed URLs of STORAGE_TYPE=local lead to it";
        loader.require("BASE_URL", address || storage.public_url.is_some(), because);
    } else if resident {
        let because = "the signed URLs of STORAGE_RESIDENT_PREFIXES lead to it";
        loader.require("BASE_URL", address, because);
    } else if storage.outbox().is_some() {
        let because = "the signed URLs of what waits in STORAGE_OUTBOX_DIR lead to it";
        loader.require("BASE_URL", address, because);
    }
    if service.mode() == DeploymentMode::Private && (storage.kind == "local" || resident) {
        let because = "DEPLOYMENT_MODE=private in production signs its own URLs";
        loader.require("STORAGE_SIGNING_KEY", storage.signing_key.is_some(), because);
    }
}

/// Modes that promise to call nobody outside.
fn ways_out(settings: &Examined<'_>, loader: &mut Loader) {
    let mode = settings.service.mode();
    if !matches!(mode, DeploymentMode::Standalone | DeploymentMode::Private) {
        return;
    }
    let named = format!("DEPLOYMENT_MODE={}", mode.as_str());
    let oss = &settings.storage.oss;
    match (settings.storage.kind.as_str(), mode, &oss.endpoint) {
        ("oss", DeploymentMode::Standalone, _) => refuse(
            loader,
            "STORAGE_TYPE",
            "DEPLOYMENT_MODE=standalone calls nobody, and OSS is elsewhere",
            "Choose `local`, or another DEPLOYMENT_MODE",
        ),
        ("oss", _, None) => refuse(
            loader,
            "STORAGE_TYPE",
            "DEPLOYMENT_MODE=private has no way out, and the region's endpoint is on the internet",
            "Choose `local`, or set OSS_ENDPOINT to an OSS on site, or choose DEPLOYMENT_MODE=hybrid",
        ),
        ("oss", _, Some(_)) => loader.warning(
            Problem::invalid(
                "OSS_ENDPOINT",
                format!("{named} has no way out: this address has to be on site"),
            )
            .with_hint("Choose DEPLOYMENT_MODE=hybrid if it is not"),
        ),
        _ => {}
    }
    let asked = settings.llm.is_some_and(|llm| llm.api_key.is_some());
    if asked && !loader.is_set("LLM_BASE_URL") {
        refuse(
            loader,
            "LLM_BASE_URL",
            format!("{named} has no way out, LLM_API_KEY is set, and the default address is on the internet"),
            "Set it to an endpoint on site, or remove LLM_API_KEY",
        );
    }
}

fn many_instances(settings: &Examined<'_>, loader: &mut Loader) {
    let instances = settings.instances;
    if let Some(cache) = settings.cache
        && instances > 1
        && cache.effective_kind() == "memory"
    {
        let why = format!(
            "DB_MAX_INSTANCES is {instances}: each has a cache of its own, and what one removes the others keep"
        );
        loader.warning(Problem::invalid("CACHE_TYPE", why).with_hint("Set REDIS_URL"));
    }
    if let Some(db) = settings.db
        && let Some(max_connections) = db.max_connections
        && let Some((reason, mend)) = too_many_pools(db, &plan(&db.planner_input(max_connections)))
    {
        refuse(loader, "DB_MAX_CONNECTIONS", reason, &mend);
    }
}

/// Why a plan can't work, with its numbers, and what to do; `None` if it can, or if the operator or a pooler decides.
pub(super) fn too_many_pools(db: &DbConfig, plan: &Plan) -> Option<(String, String)> {
    if plan.verdict != Verdict::Impossible || db.pool_size.is_some() || db.pooled_url.is_some() {
        return None;
    }
    let input = &plan.input;
    let reason = format!(
        "the pool plan is IMPOSSIBLE: of {} connections {} are left for {} instances and {} more during a deployment, \
         fewer than two for each besides its listener",
        input.max_connections, plan.budget, input.instances, input.surge
    );
    Some((reason, format!("Ways out: {}", plan.advice.join("; or "))))
}

#[cfg(test)]
mod tests;
