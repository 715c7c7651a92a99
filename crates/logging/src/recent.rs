//! What went wrong last, kept in memory for whoever looks at the running process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tracing::Level;

use crate::fields::Value;
use crate::layer::Entry;

/// So many are kept.
const KEPT: usize = 50;
/// Bytes of one text.
const LONGEST: usize = 500;

/// Something that went wrong. Its texts are redacted like the lines of the log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecentError {
    /// When.
    pub time: Timestamp,
    /// `error`, or the status of an answer: `503`.
    pub kind: String,
    /// The event's message with its error, or the request that was answered so.
    pub message: String,
    /// The module it happened in.
    pub module: Option<String>,
    /// The request it belongs to.
    pub request_id: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Recent(Arc<Mutex<VecDeque<RecentError>>>);

impl Recent {
    /// Keeps the event if it is an error, or tells of an answer of 500 and above.
    pub(crate) fn note(&self, entry: &Entry<'_>) {
        let answered = match entry.event.get("status") {
            Some(Value::Uint(status @ 500..)) => Some(*status),
            _ => None,
        };
        if entry.level != Level::ERROR && answered.is_none() {
            return;
        }
        let own = |name: &str| entry.event.get(name).map(ToString::to_string);
        let anywhere = |name: &str| {
            let spans = entry.spans.iter().find_map(|span| span.get(name));
            own(name).or_else(|| spans.map(ToString::to_string))
        };
        let mut message = entry.event.message.as_deref().unwrap_or_default().to_owned();
        if let (Some(method), Some(path)) = (own("method"), own("path")) {
            message = format!("{method} {path}");
        }
        if let Some(error) = own("error") {
            message = format!("{message}: {error}");
        }
        let error = RecentError {
            time: entry.time,
            kind: match answered {
                Some(status) if entry.level != Level::ERROR => status.to_string(),
                _ => entry.level_name().to_owned(),
            },
            message: shortened(message),
            module: anywhere("module"),
            request_id: anywhere("request_id"),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A request that has told its error is not told a second time: the answer only completes it.
        let told = |known: &&mut RecentError| {
            answered.is_some() && known.kind == "error" && known.request_id == error.request_id
        };
        if error.request_id.is_some()
            && let Some(known) = kept.iter_mut().find(told)
        {
            known.kind = error.kind;
            known.message = shortened(format!("{}: {}", error.message, known.message));
            return;
        }
        kept.truncate(KEPT - 1);
        kept.push_front(error);
    }

    pub(crate) fn list(&self) -> Vec<RecentError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogConfig, ServiceInfo, subscriber_with_writer};

    #[test]
    fn errors_and_failed_answers_are_kept_without_secrets_and_nothing_else() {
        let (subscriber, handle) =
            subscriber_with_writer(&LogConfig::default(), ServiceInfo::new("s", "1"), std::io::sink);
        tracing::subscriber::with_default(subscriber, || {
            let request = tracing::info_span!("request", module = "asl", request_id = "r-1").entered();
            tracing::info!(method = "GET", path = "/a", status = 200, "request");
            tracing::warn!("only a warning");
            tracing::error!(error = "dialling postgres://app:hush@db/asl", "request failed");
            tracing::warn!(method = "GET", path = "/b", status = 503_u16, "request");
            drop(request);
            tracing::warn!(method = "PUT", path = "/c", status = 500_u16, "request");
        });
        let kept = handle.recent_errors();
        let shown: Vec<_> = kept
            .iter()
            .map(|e| (e.kind.as_str(), e.message.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("500", "PUT /c"),
                (
                    "503",
                    "GET /b: request failed: dialling postgres://app:***@db/asl"
                ),
            ]
        );
        assert_eq!(kept[1].module.as_deref(), Some("asl"));
        assert_eq!(kept[1].request_id.as_deref(), Some("r-1"));
    }

    #[test]
    fn only_the_last_are_kept_and_none_is_long() {
        let (subscriber, handle) =
            subscriber_with_writer(&LogConfig::default(), ServiceInfo::new("s", "1"), std::io::sink);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..KEPT + 7 {
                tracing::error!("{number} {}", "题".repeat(LONGEST));
            }
        });
        let kept = handle.recent_errors();
        assert_eq!(kept.len(), KEPT);
        assert!(kept[0].message.starts_with("56 ") && kept[0].message.len() <= LONGEST);
    }
}
