//! `zhuji deploy render`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/literature/deploy");

fn render(directory: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhuji"));
    command.args(["deploy", "render", "--mode", "cloud", "--from", "cloud.toml"]);
    command.args(more).current_dir(directory).env_clear();
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn nested(value: &Value) -> Value {
    serde_json::from_str(value.as_str().unwrap()).unwrap()
}

#[test]
fn the_manifest_in_the_repository_is_what_the_plan_says() {
    let checked = render(Path::new(DEPLOY), &["--check", "sae.json"]);
    assert!(checked.status.success(), "{}", said(&checked));
    let rendered = render(Path::new(DEPLOY), &[]).stdout;
    let kept = std::fs::read(Path::new(DEPLOY).join("sae.json")).unwrap();
    assert!(
        rendered == kept,
        "render it again: the files differ in their layout"
    );
}

/// The plan of the repository with one piece of text replaced.
fn changed(from: &str, to: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let plan = std::fs::read_to_string(Path::new(DEPLOY).join("cloud.toml")).unwrap();
    assert!(plan.contains(from), "{from}");
    std::fs::write(dir.path().join("cloud.toml"), plan.replace(from, to)).unwrap();
    std::fs::copy(Path::new(DEPLOY).join("sae.json"), dir.path().join("sae.json")).unwrap();
    dir
}

#[test]
fn probes_grace_and_limits_follow_the_settings() {
    let more = "[settings]\nPORT = \"8080\"\nSHUTDOWN_TIMEOUT = \"40s\"\nHTTP_MAX_CONNECTIONS = \"1000\"\nSTARTUP_TIMEOUT = \"60s\"";
    let dir = changed("[settings]", more);
    let output = render(dir.path(), &["--image", "r/n@sha256:47"]);
    assert!(output.status.success(), "{}", said(&output));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let deploy = &all["DeployApplication"];
    assert_eq!(deploy["ImageUrl"], "r/n@sha256:47");
    // 40 s of shutdown, 5 s of drain in cloud mode, 5 s to spare.
    assert_eq!(deploy["TerminationGracePeriodSeconds"], 50);
    let (live, ready) = (nested(&deploy["Liveness"]), nested(&deploy["Readiness"]));
    assert_eq!(live["tcpSocket"]["port"], 8080);
    assert_eq!(ready["httpGet"]["path"], "/health/ready");
    assert_eq!(nested(&deploy["StartupProbe"])["periodSeconds"], 40);
    let envs = nested(&deploy["Envs"]);
    let of = |name: &str| {
        envs.as_array()
            .unwrap()
            .iter()
            .find(|env| env["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(of("DATABASE_URL")["valueFrom"], "secretRef");
    assert!(of("DATABASE_URL")["value"].is_null());
    let metric = nested(&all["CreateApplicationScalingRule"]["ScalingRuleMetric"]);
    assert_eq!(of("DB_MAX_INSTANCES")["value"], metric["maxReplicas"].to_string());
    assert_eq!(metric["metrics"][1]["metricTargetAverageUtilization"], 700);
    let stale = render(dir.path(), &["--check", "sae.json"]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(
        said(&stale).contains("DeployApplication.Liveness"),
        "{}",
        said(&stale)
    );
    let arguments = render(dir.path(), &["--arguments", "deploy"]).stdout;
    let arguments = String::from_utf8(arguments).unwrap();
    assert!(arguments.contains("--Cpu\x001000\0") && arguments.contains("--EnablePrometheus\0true\0"));
}

#[test]
fn what_the_service_would_refuse_is_refused() {
    for (from, to, why) in [
        ("[settings]", "[settings]\nDB_POOL_SIZ = \"4\"", "DB_POOL_SIZE"),
        ("[settings]", "[settings]\nPORT = \"no\"", "PORT"),
        (
            "[settings]",
            "[settings]\nOSS_ACCESS_KEY_SECRET = \"x\"\nOSS_ACCESS_KEY_ID = \"x\"",
            "[secrets]",
        ),
        (
            "[settings]",
            "[settings]\nSTORAGE_TYPE = \"local\"",
            "STORAGE_TYPE=local",
        ),
        ("[settings]", "[settings]\nDRAIN_DELAY = \"30s\"", "DRAIN_DELAY"),
        (
            "[settings]",
            "[settings]\nAPP_ENV = \"test\"",
            "follows from the plan",
        ),
        ("OSS_BUCKET = \"aiclinical-prod\"", "", "OSS_BUCKET"),
        ("max_connections = 400", "max_connections = 20", "zhuji plan"),
        ("min_instances = 2", "min_instances = 0", "min_instances"),
        (
            "\"aiclinical/redis_url\"",
            "\"redis://:password@h\"",
            "secret id/key",
        ),
        ("oidc_role", "oidc_rolle", "oidc_rolle"),
    ] {
        let output = render(changed(from, to).path(), &[]);
        assert_eq!(output.status.code(), Some(2), "{to}: {}", said(&output));
        assert!(said(&output).contains(why), "{to}: {}", said(&output));
    }
}
