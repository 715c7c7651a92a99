//! `doctor`: every dependency tried once, each finding with its mend.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use zhuji_health::{Check, Outcome};

use super::config::print;
use crate::error::Error;
use crate::platform::{Platform, Shared, collect, runtime};

const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

struct Finding {
    subject: String,
    status: &'static str,
    evidence: String,
}

pub(crate) fn doctor(platform: &Platform, set: &[(String, String)], json: bool) -> Result<ExitCode, Error> {
    let mut settings = collect(platform, set)?;
    // A person waits for the answer: a dependency that is not there now is the finding.
    settings.service.startup_timeout = Duration::ZERO;
    let findings = runtime()?.block_on(async {
        let mut findings = vec![Finding {
            subject: "settings".to_owned(),
            status: "ok",
            evidence: "complete".to_owned(),
        }];
        match Shared::connect(&settings, settings.service.port).await {
            Err(error) => findings.push(Finding {
                subject: "dependencies".to_owned(),
                status: "error",
                evidence: error.to_string(),
            }),
            Ok(shared) => {
                for check in shared.health_checks() {
                    findings.push(try_once(&*check).await);
                }
            }
        }
        findings
    });
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
