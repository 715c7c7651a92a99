//! What goes to the cloud: the manifest, the policies, the bucket's rules, and the script that builds and pushes a release.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::running;
use crate::failure::{Failure, Result, on_path};
use crate::workspace::Workspace;
use crate::{oss, process, tools};

const DEPLOY: &str = "examples/literature/deploy";
const SCRIPTS: &str = "examples/literature/scripts";

const MODELS_SCRIPT: &str = "crates/xtask/src/rehearse/sae_models.py";

/// What people get wrong in a manifest.
const SLIPS: &[(&str, &str)] = &[
    ("EnablePrometheus", "EnablePrometeus"),
    ("\"Cpu\": 1000", "\"Cpu\": 1500"),
    ("\"Cpu\": 1000", "\"Cpu\": \"1000\""),
    ("tcpActiveConn", "QPS"),
    ("initialDelaySeconds", "initialDelay"),
    ("\"MinReadyInstances\": 1", "\"MinReadyInstances\": 0"),
    ("secretRef", "configMapRef"),
    ("\"Replicas\": 2", "\"Replicas\": 1"),
    ("stdout", "file"),
];

/// Everything that the service asks OSS for, and may therefore be allowed.
const ACTIONS: &[&str] = &[
    "oss:AbortMultipartUpload",
    "oss:DeleteObject",
    "oss:GetObject",
    "oss:ListMultipartUploads",
    "oss:ListObjects",
    "oss:ListParts",
    "oss:PutObject",
];

/// Stands in for docker: writes down what it was asked, and answers as a registry would that has v0.9.0 and no other.
const FAKE_DOCKER: &str = r#"#!/bin/sh
printf '%s\n' "$*" >> "$CALLS"
case "$1 $2" in
  "manifest inspect") case "$3" in *:v0.9.0) exit 0 ;; *) exit 1 ;; esac ;;
  "image inspect")
    echo "elsewhere.example/x/y@sha256:0000"
    echo "registry.test/space/store@sha256:4711" ;;
  push*) exit "${PUSH:-0}" ;;
esac
"#;

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    let granted = allowed_is_needed(&json(workspace, "ram-policy.json")?)?;
    only_one_subject(&json(workspace, "oidc-trust-policy.json")?)?;
    let compared = manifest(workspace)?;
    let rules = bucket_rules(workspace)?;
    let scripts = lint(workspace)?;
    let releases = release(workspace)?;
    println!(
        "NOT PROVED here: that Alibaba Cloud accepts manifest and policies, that SAE sets the variables of the role, and that the \
         registry takes a push; no account is at hand"
    );
    Ok(format!(
        "manifest as rendered and {compared} points as the vendor's models say, {granted} rights, {rules} rules of the \
         bucket, {scripts} scripts linted, {releases} releases against a fake docker"
    ))
}

/// The committed manifest is what the plan says now, and what the vendor's models know. Answers with how many points were
/// compared.
fn manifest(workspace: &Workspace) -> Result<String> {
    let deploy = workspace.root().join(DEPLOY);
    let mut render = Command::new(running::build(workspace, "zhuji-cli", "zhuji")?);
    render.args(["deploy", "render", "--mode", "cloud", "--from", "cloud.toml"]);
    render
        .args(["--check", "sae.json"])
        .env_clear()
        .current_dir(&deploy);
    process::run_quietly(&mut render)?;
    let models = tools::SAE_MODELS.ensure(workspace)?;
    let compare = |manifest: &Path| {
        let mut python = Command::new("python3");
        python.arg(workspace.root().join(MODELS_SCRIPT));
        process::run_quietly(python.arg(&models).arg(manifest))
    };
    let path = deploy.join("sae.json");
    let compared = compare(&path)?.stdout;
    // Whether it would see what people get wrong.
    let text = std::fs::read_to_string(&path).map_err(on_path(&path))?;
    let temporary = tempfile::tempdir()?;
    for (right, wrong) in SLIPS {
        let slipped = text.replace(right, wrong);
        let file = temporary.path().join("sae.json");
        std::fs::write(&file, &slipped)?;
        if slipped == text || compare(&file).is_ok() {
            return Err(format!("the vendor's models let `{wrong}` pass").into());
        }
    }
    Ok(String::from_utf8_lossy(&compared).trim().to_owned())
}

/// The bucket's lifecycle and CORS, read by the command that applies them, against an OSS server. Answers with how many
/// there are.
fn bucket_rules(workspace: &Workspace) -> Result<usize> {
    let rules = json(workspace, "storage-rules.json")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(oss::start(0, "aiclinical-prod", None))?;
    let applied = (|| {
        for expected in ["applied", "the store has these rules already"] {
            let mut apply = Command::new(running::build(workspace, "zhuji-cli", "zhuji")?);
            apply.args(["storage", "apply", "storage-rules.json", "oss://aiclinical-prod"]);
            apply.env_clear().current_dir(workspace.root().join(DEPLOY));
            apply
                .env("OSS_REGION", server.region())
                .env("OSS_ENDPOINT", server.endpoint());
            apply.env("OSS_ACCESS_KEY_ID", server.access_key_id());
            apply.env("OSS_ACCESS_KEY_SECRET", server.access_key_secret());
            let said = process::run_quietly(&mut apply)?.stdout;
            let said = String::from_utf8_lossy(&said).into_owned();
            if !said.contains(expected) {
                return Err(format!("zhuji storage apply: expected `{expected}`: {said}").into());
            }
        }
        Ok(())
    })();
    runtime.block_on(server.stop());
    let count = |name: &str| rules[name].as_array().map_or(0, Vec::len);
    applied.map(|()| count("lifecycle") + count("cors"))
}

pub(super) fn json(workspace: &Workspace, name: &str) -> Result<Value> {
    let path = workspace.root().join(DEPLOY).join(name);
    let text = std::fs::read_to_string(&path).map_err(on_path(&path))?;
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("{name}: {error}")))
}

pub(super) fn statements(policy: &Value) -> Result<&Vec<Value>> {
    if policy["Version"] != "1" {
        return Err("the version of a policy is \"1\"".into());
    }
    policy["Statement"]
        .as_array()
        .ok_or_else(|| "the policy has no statements".into())
}

/// The texts of a field that holds one or a list.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    }
}

/// No right that the service does not use, none missing, none on a whole account or bucket where a prefix will do.
fn allowed_is_needed(policy: &Value) -> Result<usize> {
    let mut granted: Vec<&str> = Vec::new();
    for statement in statements(policy)? {
        let actions = texts(&statement["Action"]);
        let resources = texts(&statement["Resource"]);
        if statement["Effect"] != "Allow" || resources.is_empty() {
            return Err("a statement that does not allow something on something".into());
        }
        if let Some(unused) = actions.iter().find(|action| !ACTIONS.contains(action)) {
            return Err(format!("the service never needs {unused}").into());
        }
        for resource in resources {
            let inside = resource
                .strip_prefix("acs:oss:*:*:")
                .ok_or_else(|| format!("{resource} is not a resource of OSS"))?;
            let (bucket, object) = inside.split_once('/').unwrap_or((inside, ""));
            if bucket.is_empty() || bucket.contains('*') || object == "*" {
                return Err(format!("{resource} is more than one bucket's prefix").into());
            }
            if object.is_empty() && actions.contains(&"oss:ListObjects") && statement["Condition"].is_null() {
                return Err(format!("{resource} may be listed from end to end").into());
            }
        }
        granted.extend(actions);
    }
    granted.sort_unstable();
    granted.dedup();
    if granted != ACTIONS {
        return Err(format!("the service also needs more than {granted:?}").into());
    }
    Ok(granted.len())
}

/// A role that any application of the account could assume would be everybody's.
fn only_one_subject(policy: &Value) -> Result<()> {
    for statement in statements(policy)? {
        let condition = &statement["Condition"]["StringEquals"];
        let asked = ["oidc:iss", "oidc:aud", "oidc:sub"];
        if let Some(missing) = asked.iter().find(|name| texts(&condition[**name]).len() != 1) {
            return Err(format!("the trust policy does not ask for one {missing}").into());
        }
        if texts(&statement["Principal"]["Federated"]).len() != 1 {
            return Err("the trust policy does not name one identity provider".into());
        }
    }
    Ok(())
}

fn lint(workspace: &Workspace) -> Result<usize> {
    let folder = workspace.root().join(SCRIPTS);
    let mut lint = Command::new(tools::SHELLCHECK.ensure(workspace)?);
    let mut count = 0;
    for file in std::fs::read_dir(&folder).map_err(on_path(&folder))? {
        lint.arg(file?.path());
        count += 1;
    }
    process::run_quietly(&mut lint)?;
    Ok(count)
}

/// The script in a checkout of its own, which is clean, with a docker that only writes down. Answers with how many
/// times it was tried.
fn release(workspace: &Workspace) -> Result<usize> {
    let temporary = tempfile::tempdir()?;
    let checkout = Checkout::make(workspace, temporary.path())?;

    let released = checkout.run(&["v1.0.0"], 0)?;
    let said = String::from_utf8_lossy(&released.stdout).into_owned();
    let digest = "digest: registry.test/space/store@sha256:4711";
    expect(
        released.status.success() && said.contains(digest),
        "a release prints its digest",
        &released,
    )?;
    let calls: Vec<String> = checkout.calls()?;
    let image = "registry.test/space/store:v1.0.0";
    let wanted = [
        format!("manifest inspect {image}"),
        "build --file examples/literature/Dockerfile --build-arg VERSION=v1.0.0".to_owned(),
        format!("tag space-store:v1.0.0 {image}"),
        format!("push {image}"),
        "image inspect".to_owned(),
    ];
    let in_order = calls.len() == wanted.len()
        && calls
            .iter()
            .zip(&wanted)
            .all(|(call, wanted)| call.starts_with(wanted));
    expect(
        in_order,
        "it checks, builds, tags, pushes and asks for the digest",
        &released,
    )?;
    expect(
        calls[1].contains("--build-arg BASE_REGISTRY=mirror.test/base --tag"),
        "arguments of the build arrive as several words",
        &released,
    )?;

    let refusals: [(&[&str], u8, &str); 4] = [
        (&[], 0, "Usage: ./build-and-push.sh <version>"),
        (&["latest"], 0, "is no version"),
        (&["v0.9.0"], 0, "exists already"),
        (&["v1.0.1"], 1, ""),
    ];
    for (arguments, push, why) in refusals {
        let refused = checkout.run(arguments, push)?;
        let named = String::from_utf8_lossy(&refused.stderr).contains(why);
        expect(
            !refused.status.success() && named,
            "it refuses and says why",
            &refused,
        )?;
        let pushed = checkout.calls()?.iter().any(|call| call.starts_with("push"));
        expect(
            pushed == arguments.contains(&"v1.0.1"),
            "nothing is pushed after a refusal",
            &refused,
        )?;
    }
    std::fs::write(temporary.path().join("checkout/new"), "")?;
    let refused = checkout.run(&["v1.0.2"], 0)?;
    let named = String::from_utf8_lossy(&refused.stderr).contains("not committed");
    expect(
        !refused.status.success() && named,
        "a checkout with changes is refused",
        &refused,
    )?;
    Ok(refusals.len() + 2)
}

fn expect(holds: bool, what: &str, output: &Output) -> Result<()> {
    if holds {
        return Ok(());
    }
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    Err(format!(
        "build-and-push.sh: expected that {what}; it said:\n{}",
        String::from_utf8_lossy(&said)
    )
    .into())
}

struct Checkout<'a> {
    home: &'a Path,
}

impl<'a> Checkout<'a> {
    fn make(workspace: &Workspace, home: &'a Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let scripts = home.join("checkout").join(SCRIPTS);
        std::fs::create_dir_all(&scripts)?;
        let script = workspace.root().join(SCRIPTS).join("build-and-push.sh");
        std::fs::copy(&script, scripts.join("build-and-push.sh")).map_err(on_path(&script))?;
        let docker = home.join("docker");
        std::fs::write(&docker, FAKE_DOCKER)?;
        std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755))?;
        let checkout = Self { home };
        for words in [
            "init --quiet",
            "add --all",
            "-c user.name=rehearsal -c user.email=rehearsal@localhost commit --quiet --message all",
        ] {
            let mut git = Command::new("git");
            process::run_quietly(git.args(words.split(' ')).current_dir(home.join("checkout")))?;
        }
        Ok(checkout)
    }

    /// With a docker whose push ends with this status.
    fn run(&self, arguments: &[&str], push: u8) -> Result<Output> {
        let calls = self.home.join("calls");
        std::fs::write(&calls, "")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let script = self.home.join("checkout").join(SCRIPTS).join("build-and-push.sh");
        let mut command = Command::new(script);
        command
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.home.display()))
            .env("CALLS", &calls)
            .env("REGISTRY", "registry.test")
            .env("NAMESPACE", "space")
            .env("REPOSITORY", "store")
            .env("BUILD_ARGS", "--build-arg BASE_REGISTRY=mirror.test/base")
            .env("PUSH", push.to_string());
        Ok(command.output()?)
    }

    fn calls(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(self.home.join("calls"))?;
        Ok(text.lines().map(ToOwned::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_that_allows_too_much_is_refused() {
        let with = |action: &str, resource: &str| {
            let statement = json!({"Effect": "Allow", "Action": [action], "Resource": [resource]});
            let refused = allowed_is_needed(&json!({"Version": "1", "Statement": [statement]}));
            refused.expect_err("too much").to_string()
        };
        assert!(with("oss:*", "acs:oss:*:*:b/asl/*").contains("never needs oss:*"));
        assert!(with("oss:PutBucketAcl", "acs:oss:*:*:b").contains("never needs"));
        for everything in ["acs:oss:*:*:*", "acs:oss:*:*:b/*"] {
            assert!(
                with("oss:GetObject", everything).contains("more than"),
                "{everything}"
            );
        }
        assert!(with("oss:ListObjects", "acs:oss:*:*:b").contains("end to end"));
        assert!(with("oss:GetObject", "acs:oss:*:*:b/asl/*").contains("also needs"));
    }

    #[test]
    fn a_role_is_for_one_application() {
        let mut policy = json!({"Version": "1", "Statement": [{
            "Principal": {"Federated": ["acs:ram::1:oidc-provider/p"]},
            "Condition": {"StringEquals": {"oidc:iss": "i", "oidc:aud": "a", "oidc:sub": "s"}}
        }]});
        only_one_subject(&policy).expect("one of each");
        policy["Statement"][0]["Condition"]["StringEquals"]["oidc:sub"] = json!(["s", "t"]);
        only_one_subject(&policy).expect_err("two applications");
    }
}
