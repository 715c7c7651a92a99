//! What the mode and the environment change. Defaults only: every one of them gives way to a setting.

use zhuji_metrics::MetricsListen;

use crate::settings::{AppEnv, DeploymentMode};

/// A default that differs from the built-in one, and the reason that `config show` gives for it.
pub(crate) struct ModeDefault {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
    pub(crate) why: &'static str,
}

/// The defaults of this environment and mode.
pub(crate) fn defaults(env: AppEnv, mode: DeploymentMode) -> Vec<ModeDefault> {
    let mut defaults = Vec::new();
    let mut add = |name, value, why| defaults.push(ModeDefault { name, value, why });
    if env == AppEnv::Production {
        add("HOST", "0.0.0.0", "APP_ENV=production");
        add("METRICS_LISTEN", MetricsListen::PRODUCTION, "APP_ENV=production");
    } else {
        add("STORAGE_DURABILITY", "rename", "APP_ENV is not production");
    }
    if env == AppEnv::Production && mode == DeploymentMode::Cloud {
        // Elsewhere, a site of one's own can't reach it.
        add(
            "OSS_INTERNAL",
            "true",
            "APP_ENV=production, DEPLOYMENT_MODE=cloud",
        );
    }
    if matches!(mode, DeploymentMode::Cloud | DeploymentMode::Hybrid) {
        add("STORAGE_TYPE", "oss", "DEPLOYMENT_MODE is cloud or hybrid");
        add("DRAIN_DELAY", "5s", "DEPLOYMENT_MODE is cloud or hybrid");
    }
    if mode == DeploymentMode::Hybrid {
        add("STORAGE_OUTBOX_DIR", "auto", "DEPLOYMENT_MODE=hybrid");
    }
    if mode == DeploymentMode::Cloud {
        add("DB_MAX_INSTANCES", "10", "DEPLOYMENT_MODE=cloud");
    }
    defaults
}
