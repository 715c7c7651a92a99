//! `zhuji storage verify`.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::json;
use zhuji_storage::{Entry, ErrorKind, Verified};

use super::cp::target;
use super::meter::Meter;
use super::{nothing_at, say, selected};
use crate::args::Verify;
use crate::failure::Failure;
use crate::location::{Access, Place};

enum Finding {
    Intact,
    /// No checksum was kept, and there was nothing else to compare with.
    Unknown,
    Bad(String),
}

pub(crate) async fn verify(args: &Verify) -> Result<ExitCode, Failure> {
    let place = args.at.locate(Access::Read)?.open().await?;
    let other = match &args.against {
        Some(other) => Some(other.locate(Access::Read)?.open().await?),
        None => None,
    };
    let entries = selected(&place, true).await?;
    if entries.is_empty() {
        return Err(nothing_at(&args.at, true));
    }
    let missing = match &other {
        Some(other) => missing(&place, other, &entries).await?,
        None => Vec::new(),
    };
    let meter = Arc::new(Meter::new(
        entries.len() as u64,
        entries.iter().map(|entry| entry.size).sum(),
    ));
    let findings = entries.iter().map(|entry| {
        let (place, other, meter) = (&place, other.as_ref(), &meter);
        async move {
            let finding = judge(place, other, entry).await;
            meter.bytes(entry.size);
            meter.object();
            (entry, finding)
        }
    });
    let (mut intact, mut unknown, mut bad) = (0_u64, 0_u64, 0_u64);
    let mut findings =
        pin!(futures_util::stream::iter(findings).buffer_unordered(usize::from(args.parallel)));
    while let Some((entry, finding)) = findings.next().await {
        let (state, why) = match finding {
            Finding::Intact => {
                intact += 1;
                continue;
            }
            Finding::Unknown => {
                unknown += 1;
                ("unknown", "no checksum was kept to compare with".to_owned())
            }
            Finding::Bad(why) => {
                bad += 1;
                ("bad", why)
            }
        };
        if args.json {
            say(&json!({ "key": entry.key, "state": state, "why": why }).to_string());
        } else if state == "bad" {
            meter.complain(&format!("{}: {why}", entry.key));
        }
    }
    meter.finish();
    for key in &missing {
        bad += 1;
        let why = "it is only in the place to compare with";
        if args.json {
            say(&json!({ "key": key, "state": "missing", "why": why }).to_string());
        } else {
            eprintln!("{key}: {why}");
        }
    }
    if args.json {
        say(&json!({ "intact": intact, "unknown": unknown, "bad": bad }).to_string());
    } else {
        say(&format!(
            "{intact} objects intact, {unknown} without a checksum, {bad} damaged, missing or different"
        ));
    }
    match bad {
        0 => Ok(ExitCode::SUCCESS),
        bad => Err(Failure::failed(format!(
            "{bad} objects are not what they should be; copy them again from a place that has them"
        ))),
    }
}

/// One unreadable object is a finding about it, not the end of the command.
async fn judge(place: &Place, other: Option<&Place>, entry: &Entry) -> Finding {
    let here = match place.storage.verify(&entry.key).await {
        Ok(Verified::Damaged { why }) => return Finding::Bad(why),
        Ok(here) => here,
        Err(error) => return Finding::Bad(error.to_string()),
    };
    let (known, crc64) = match here {
        Verified::Intact { crc64, .. } => (true, crc64),
        Verified::Unknown { crc64, .. } => (false, crc64),
        other => return Finding::Bad(format!("it could not be judged: {other:?}")),
    };
    let Some(other) = other else {
        return if known { Finding::Intact } else { Finding::Unknown };
    };
    let key = target(&place.key, &other.key, &entry.key, true);
    match other.storage.verify(&key).await {
        Ok(Verified::Intact { crc64: there, .. } | Verified::Unknown { crc64: there, .. })
            if there == crc64 =>
        {
            Finding::Intact
        }
        Ok(Verified::Damaged { why }) => Finding::Bad(format!("in the other place it is damaged: {why}")),
        Ok(_) => Finding::Bad("in the other place its bytes are different".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Finding::Bad("the other place does not have it".to_owned())
        }
        Err(error) => Finding::Bad(error.to_string()),
    }
}

/// Keys of the other place that this one lacks.
async fn missing(place: &Place, other: &Place, entries: &[Entry]) -> Result<Vec<String>, Failure> {
    let here: std::collections::HashSet<String> = entries
        .iter()
        .map(|entry| target(&place.key, &other.key, &entry.key, true))
        .collect();
    let there = selected(other, true).await?;
    Ok(there
        .into_iter()
        .map(|entry| entry.key)
        .filter(|key| !here.contains(key))
        .collect())
}
