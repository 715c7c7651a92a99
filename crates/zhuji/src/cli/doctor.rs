//! `doctor`: every dependency tried once, each finding with its mend.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use zhuji_health::{Check, Outcome};

use super::config::print;
use crate::error::Error;
use crate::platform::{Platform, Settings, collect, runtime};

const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

struct Finding {
    subject: String,
    status: &'static str,
    evidence: String,
}

pub(crate) fn doctor(platform: &Platform, set: &[(String, String)], json: bool) -> Result<ExitCode, Error> {
    let findings = match collect(platform, set) {
        Err(error) => vec![Finding::error("settings", error.to_string())],
        Ok(mut settings) => {
            // A person waits for the answer: a dependency that is not there now is the finding.
            settings.service.startup_timeout = Duration::ZERO;
            runtime()?.block_on(look(platform, &settings))
        }
    };
    let well = findings.iter().all(|finding| finding.status != "error");
    if json {
        let rows: Vec<_> = findings
            .iter()
            .map(|f| json!({ "check": f.subject, "status": f.status, "evidence": f.evidence }))
            .collect();
        print(&json!(rows).to_string());
    } else {
        for finding in &findings {
            print(&format!(
                "{:<8}  {:<14}  {}",
                finding.status, finding.subject, finding.evidence
            ));
        }
    }
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every dependency by itself, so that one that is down hides no other. Migrates nothing.
async fn look(platform: &Platform, settings: &Settings) -> Vec<Finding> {
    let factories = &platform.factories;
    let database = factories
        .database(settings)
        .await
        .map(|db| db.map(|db| db.health_check()));
    let port = settings.service.port;
    let storage = factories
        .storage(settings, port)
        .await
        .map(|storage| storage.map(|s| s.health_check()));
    let cache = factories
        .cache(settings)
        .await
        .map(|cache| cache.map(|cache| cache.health_check()));
    let mut findings = vec![Finding::ok("settings", "complete")];
    for (subject, found) in [("database", database), ("storage", storage), ("cache", cache)] {
        findings.push(match found {
            Ok(Some(check)) => try_once(&*check).await,
            Ok(None) => Finding::ok(subject, "not needed by the chosen modules"),
            Err(error) => Finding::error(subject, error.to_string()),
        });
    }
    findings
}

impl Finding {
    fn ok(subject: &str, evidence: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            status: "ok",
            evidence: evidence.to_owned(),
        }
    }

    fn error(subject: &str, evidence: String) -> Self {
        Self {
            subject: subject.to_owned(),
            status: "error",
            evidence,
        }
    }
}

async fn try_once(check: &dyn Check) -> Finding {
    let (status, evidence) = match tokio::time::timeout(CHECK_TIMEOUT, check.run()).await {
        Ok(Outcome::Up) => ("ok", "reached".to_owned()),
        Ok(Outcome::Degraded(kind)) => ("warning", kind),
        Ok(Outcome::Down(kind)) => ("error", kind),
        Err(_) => ("error", format!("no answer within {} s", CHECK_TIMEOUT.as_secs())),
    };
    Finding {
        subject: check.name().to_owned(),
        status,
        evidence,
    }
}
