//! The files: one probe object, written, read, signed and deleted; and what the store does by itself.

use std::time::Instant;

use http::StatusCode;
use zhuji_storage::{
    CorsRule, Durability, Error, ErrorKind, LifecycleRule, SignOptions, Storage, StorageConfig,
};

use super::{Finding, Patient, Severity, absent, remedies};
use crate::probe::{client, failure};

const CHECK: &str = "storage";
const PROBE: &[u8] = b"A probe of `doctor`. If it is still here, it may be deleted.";

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(config) = patient.storage.here() else {
        return absent(CHECK, &patient.storage);
    };
    let storage = match patient
        .factories
        .storage
        .build(&config.clone().without_outbox())
        .await
    {
        Ok(storage) => storage,
        Err(error) => return vec![broken(&error, "open", config)],
    };
    let area = match patient.prefix.as_str() {
        "" => storage.clone(),
        prefix => storage.scoped(prefix),
    };
    let mut found = probe(&area, config).await;
    if config.kind == "local" {
        found.extend(of_directory(config, patient).await);
    }
    // A store that can't be used has nothing to say about its rules.
    let usable = found.iter().all(|finding| finding.severity != Severity::Error);
    if config.kind == "oss" && usable {
        found.extend(rules(&storage, patient).await);
    }
    found
}

async fn probe(storage: &Storage, config: &StorageConfig) -> Vec<Finding> {
    let key = format!("zhuji-doctor/{}.txt", uuid::Uuid::new_v4());
    let started = Instant::now();
    if let Err(error) = storage.upload(&key, PROBE).await {
        return vec![broken(&error, "write", config)];
    }
    let mut found = Vec::new();
    match storage.download(&key).await {
        Ok(bytes) if bytes == PROBE => {}
        Ok(_) => {
            let mend = "look for a proxy or cache between the service and the store";
            found.push(Finding::error(
                CHECK,
                "it gives back other bytes than were stored",
                mend,
            ));
        }
        Err(error) => found.push(broken(&error, "read", config)),
    }
    found.push(signed(storage, &key, config).await);
    // In any case: nothing is to stay behind.
    if let Err(error) = storage.delete(&key).await {
        found.push(broken(&error, "delete", config));
    }
    if !found.iter().any(|finding| finding.check == CHECK) {
        let (adapter, took) = (storage.adapter_name(), started.elapsed().as_millis());
        let evidence = format!("{adapter}: wrote, read, signed and deleted a probe object in {took} ms");
        found.insert(0, Finding::ok(CHECK, evidence));
    }
    found
}

/// What is wrong, in one line, and what to do about it.
fn broken(error: &Error, step: &str, config: &StorageConfig) -> Finding {
    let oss = config.kind == "oss";
    let answer = match (error.status(), error.code()) {
        (Some(status), Some(code)) => format!(" ({status} {code})"),
        (Some(status), None) => format!(" ({status})"),
        _ => String::new(),
    };
    let request = error
        .request_id()
        .map(|id| format!(", request {id}"))
        .unwrap_or_default();
    let cause = std::error::Error::source(error)
        .filter(|_| !oss)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let evidence = format!(
        "could not {step} {:?}: {}{answer}{request}{cause}",
        error.subject(),
        error.why()
    );
    let mend = match error.kind() {
        ErrorKind::Denied if oss => {
            "let the RAM policy of the key (or the bucket's policy) allow this on the service's prefix, as \
             deploy/ram-policy.json does"
        }
        ErrorKind::Credential => {
            "correct OSS_ACCESS_KEY_ID (it is unknown or disabled), or the role that gives temporary keys"
        }
        ErrorKind::Signature => {
            "correct OSS_ACCESS_KEY_SECRET: it is not the secret of this OSS_ACCESS_KEY_ID"
        }
        ErrorKind::ClockSkew => "set the clock of this machine and keep it with NTP",
        ErrorKind::Config if oss => "correct OSS_BUCKET, OSS_REGION and OSS_ENDPOINT",
        ErrorKind::Unavailable | ErrorKind::Timeout if oss => remedies::NO_ROAD_TO_OSS,
        ErrorKind::NoSpace => "give the volume more room, or delete what is not needed",
        ErrorKind::ReadOnly | ErrorKind::Denied => {
            "mount the volume for writing, and give STORAGE_LOCAL_DIR to the service's user"
        }
        _ if oss => "look it up by the request id in OSS's console",
        _ => "correct STORAGE_LOCAL_DIR: it has to be a directory that the service's user may write",
    };
    Finding::error(CHECK, evidence, mend)
}

/// Fetches the signed address as a browser would.
async fn signed(storage: &Storage, key: &str, config: &StorageConfig) -> Finding {
    let check = "storage.url";
    let signed = match storage.signed_url(key, SignOptions::get()).await {
        Ok(signed) => signed,
        Err(error) => return broken(&error, "sign an address of", config),
    };
    // Of the signed address only where it leads: the rest is a key to the object.
    let place = url::Url::parse(signed.as_str())
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_else(|_| "an address that is none".to_owned());
    let asked = async {
        let answer = client()?
            .get(signed.as_str())
            .send()
            .await
            .map_err(|error| failure(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| failure(&error))?;
        Ok::<_, String>((status, body))
    };
    let own = config.kind != "oss";
    match asked.await {
        Ok((StatusCode::OK, body)) if body == PROBE => {
            Finding::ok(check, format!("a signed address was fetched from {place}"))
        }
        Ok((status, _)) if own => Finding::warning(
            check,
            format!("{place} answers {} to a signed address", status.as_u16()),
            "let BASE_URL (or STORAGE_PUBLIC_URL) lead to this service, with the same files and STORAGE_SIGNING_KEY",
        ),
        Ok((status, _)) => Finding::error(
            check,
            format!("{place} answers {} to a signed address", status.as_u16()),
            "let STORAGE_PUBLIC_URL lead to this bucket, and the CDN pass the query on",
        ),
        Err(why) if own => Finding::info(
            check,
            format!("a signed address was not fetched: nothing of this service answers at {place} ({why})"),
        ),
        Err(why) => Finding::warning(
            check,
            format!("{place} can't be reached from here: {why}"),
            "check that the public address leads to the bucket; browsers need it, the service does not",
        ),
    }
}

async fn of_directory(config: &StorageConfig, patient: &Patient<'_>) -> Vec<Finding> {
    let mut found = vec![match config.durability {
        Durability::Fsync => Finding::ok("storage.durability", "fsync: safe when the power fails"),
        Durability::Rename if patient.is_production() => Finding::warning(
            "storage.durability",
            "rename: the last seconds may be lost when the power fails",
            "set STORAGE_DURABILITY=fsync",
        ),
        Durability::Rename => Finding::info(
            "storage.durability",
            "rename: the last seconds may be lost when the power fails",
        ),
    }];
    let (root, prefix) = (config.local_dir.clone(), patient.prefix.clone());
    let apart = tokio::task::spawn_blocking(move || other_file_system(&root, &prefix)).await;
    if let Ok(Some(path)) = apart {
        found.push(Finding::error(
            "storage.filesystem",
            format!("{path} is on another file system than its store: a finished file can't be moved there"),
            "mount one volume at STORAGE_LOCAL_DIR, not at a directory inside it",
        ));
    }
    found
}

/// A directory of the store that another volume is mounted at.
fn other_file_system(root: &std::path::Path, prefix: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let home = std::fs::metadata(root).ok()?.dev();
    [prefix, zhuji_storage::RESERVED_SEGMENT]
        .iter()
        .map(|name| root.join(name))
        .find(|path| std::fs::metadata(path).is_ok_and(|there| there.dev() != home))
        .map(|path| path.display().to_string())
}

async fn rules(storage: &Storage, patient: &Patient<'_>) -> Vec<Finding> {
    let mend =
        "run `zhuji storage apply` with the service's storage-rules.json, as somebody who owns the bucket";
    let rules = match storage.rules().await {
        Ok(rules) => rules,
        Err(error) if error.kind() == ErrorKind::Denied => {
            let evidence = "lifecycle and CORS can't be seen with this key, which is as it should be; look with \
                            `zhuji storage apply --dry-run` as the bucket's owner";
            return vec![Finding::info("storage.rules", evidence)];
        }
        Err(error) => {
            return vec![Finding::info(
                "storage.rules",
                format!("lifecycle and CORS can't be read: {}", error.why()),
            )];
        }
    };
    let missing = missing_rules(rules.lifecycle.as_deref().unwrap_or_default());
    let mut found = vec![match missing.as_slice() {
        [] => Finding::ok(
            "storage.lifecycle",
            "temp/ expires, unfinished uploads are removed",
        ),
        missing => Finding::warning("storage.lifecycle", missing.join("; "), mend),
    }];
    let origin = patient
        .service
        .as_ref()
        .and_then(|service| service.base_url.as_ref())
        .map(|url| url.origin().ascii_serialization());
    let cors = rules.cors.unwrap_or_default();
    found.push(match origin {
        None => Finding::info(
            "storage.cors",
            format!("{} rules; BASE_URL is not set", cors.len()),
        ),
        Some(origin) if allows(&cors, &origin) => {
            Finding::ok("storage.cors", format!("pages of {origin} may use the bucket"))
        }
        Some(origin) => {
            let evidence = format!("no rule lets pages of {origin} upload to or read from the bucket");
            Finding::warning("storage.cors", evidence, mend)
        }
    });
    found
}

fn missing_rules(rules: &[LifecycleRule]) -> Vec<&'static str> {
    let any = |fits: &dyn Fn(&LifecycleRule) -> bool| rules.iter().any(|rule| rule.enabled && fits(rule));
    let mut missing = Vec::new();
    if !any(&|rule| rule.prefix.trim_end_matches('/').ends_with("temp") && rule.expire_after_days.is_some()) {
        missing.push("nothing lets temp/ expire");
    }
    if !any(&|rule| rule.abort_unfinished_uploads_after_days.is_some()) {
        missing.push("nothing removes unfinished uploads, which cost as much as finished ones");
    }
    missing
}

fn allows(rules: &[CorsRule], origin: &str) -> bool {
    rules
        .iter()
        .flat_map(|rule| &rule.origins)
        .any(|allowed| match allowed.split_once('*') {
            Some((start, end)) => origin.starts_with(start) && origin.ends_with(end),
            None => allowed == origin,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_in_the_rules_is_named() {
        assert_eq!(missing_rules(&[]).len(), 2);
        let mut temp = LifecycleRule::new("temp/");
        temp.expire_after_days = Some(1);
        let mut unfinished = LifecycleRule::new("");
        unfinished.abort_unfinished_uploads_after_days = Some(3);
        assert_eq!(
            missing_rules(std::slice::from_ref(&unfinished)),
            ["nothing lets temp/ expire"]
        );
        assert!(missing_rules(&[temp.clone(), unfinished.clone()]).is_empty());
        temp.enabled = false;
        assert_eq!(missing_rules(&[temp, unfinished]).len(), 1);
    }
}
