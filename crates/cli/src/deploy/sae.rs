//! Alibaba Cloud SAE: the parameters of `DeployApplication` and `CreateApplicationScalingRule`, as its interface of
//! 2019-05-06 takes them. What is nested there is JSON inside a text.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::{Plan, Settings};

/// CPU at which another instance is started. Memory is no good signal: a Rust process gives little back.
const CPU_PERCENT: u32 = 70;
/// Part of HTTP_MAX_CONNECTIONS at which another instance is started.
const CONNECTIONS_PERCENT: u32 = 70;
/// Between the end of the service's own shutdown and the moment when SAE kills it.
const MARGIN: Duration = Duration::from_secs(5);
/// After so many failures in a row SAE acts; it can't be set.
const FAILURES: u64 = 3;

pub(super) fn render(plan: &Plan, settings: &Settings) -> Value {
    let application = &plan.application;
    let service = &settings.service;
    // DRAIN_DELAY is a part of SHUTDOWN_TIMEOUT; counted once more, because SIGTERM may come late on a busy machine.
    let grace = service.shutdown_timeout + service.drain_delay + MARGIN;
    json!({
        "DeployApplication": {
            "PackageType": "Image",
            "NewSaeVersion": application.edition,
            "ImageUrl": application.image,
            "Cpu": application.millicores,
            "Memory": application.megabytes,
            "Replicas": application.min_instances,
            // With 0 a release is an outage.
            "MinReadyInstances": 1,
            "MaxSurgeInstances": 1,
            "Envs": text(&environment(settings)),
            "OidcRoleName": application.oidc_role,
            "StartupProbe": text(&startup(service.port, service.startup_timeout)),
            // TCP, and never what readiness asks: a database that is away must not restart every instance.
            "Liveness": text(&json!({
                "tcpSocket": { "port": service.port },
                "initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 3,
            })),
            "Readiness": text(&json!({
                "httpGet": { "path": "/health/ready", "port": service.port, "scheme": "HTTP" },
                "initialDelaySeconds": 2, "periodSeconds": 5, "timeoutSeconds": 3,
            })),
            // No PreStop: the image has no shell, and the service drains by itself.
            "TerminationGracePeriodSeconds": grace.as_secs(),
            "SlsConfigs": text(&json!([{ "logType": "stdout", "logDir": "" }])),
            "EnablePrometheus": true,
            "Timezone": "Asia/Shanghai",
        },
        "CreateApplicationScalingRule": {
            "ScalingRuleName": format!("{}-load", rule_name(&application.name)),
            "ScalingRuleType": "metric",
            "ScalingRuleEnable": true,
            "MinReadyInstances": 1,
            "ScalingRuleMetric": text(&json!({
                "minReplicas": application.min_instances,
                "maxReplicas": application.max_instances,
                "metrics": [
                    { "metricType": "CPU", "metricTargetAverageUtilization": CPU_PERCENT },
                    {
                        "metricType": "tcpActiveConn",
                        "metricTargetAverageUtilization": settings.http.max_connections * CONNECTIONS_PERCENT / 100,
                    },
                ],
                "scaleUpRules": { "step": 2, "disabled": false, "stabilizationWindowSeconds": 0 },
                "scaleDownRules": { "step": 1, "disabled": false, "stabilizationWindowSeconds": 300 },
            })),
        },
    })
}

/// The other probes begin after this one, so it has to bear the longest start: dependencies that are late, and migrations.
fn startup(port: u16, longest: Duration) -> Value {
    let period = (2 * longest.as_secs()).div_ceil(FAILURES).max(5);
    json!({
        "httpGet": { "path": "/health/startup", "port": port, "scheme": "HTTP" },
        "initialDelaySeconds": 2, "periodSeconds": period, "timeoutSeconds": 3,
    })
}

fn environment(settings: &Settings) -> Value {
    let plain = settings
        .plain
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }));
    let secret = settings
        .secret
        .iter()
        .map(|(name, id, key)| json!({ "name": name, "valueFrom": "secretRef", "secretId": id, "key": key }));
    plain.chain(secret).collect()
}

/// SAE takes 32 characters and nothing but these.
fn rule_name(application: &str) -> String {
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    application
        .to_lowercase()
        .chars()
        .filter(allowed)
        .take(27)
        .collect()
}

fn text(value: &Value) -> Value {
    Value::String(sorted(value).to_string())
}

/// In one order of keys, whichever way a build keeps them.
pub(super) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            fields
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)))
                .collect()
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
