use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::error::{Error, ErrorKind, Result};

/// Which events are logged: a level, or a list such as `info,asl=debug,hyper=trace`.
///
/// Everything not named follows the bare level, `info` when there is none: a new module's lines are there without
/// anybody listing it. Known chatterboxes (HTTP, TLS and database drivers) are held at `warn` until they are named.
#[derive(Clone, PartialEq, Eq)]
pub struct LogFilter {
    text: String,
    base: LevelFilter,
}

/// Crates whose `info` is of interest to their authors only.
const CHATTY: &[&str] = &[
    "calamine",
    "deadpool",
    "deadpool_postgres",
    "h2",
    "hyper",
    "hyper_util",
    "lopdf",
    "mio",
    "moka",
    "opentelemetry",
    "opentelemetry_sdk",
    "pdf_extract",
    "redis",
    "reqwest",
    "rustls",
    "tokio_postgres",
    "tower",
    "tower_http",
    "want",
];

/// The reasons do not repeat the text: in a report of settings that is the report's business.
const NO_LEVEL: &str = "it has a bare word that is no level; write off, error, warn, info, debug or trace, and for one \
    crate or module `asl=debug`";
const BAD_LEVEL: &str = "it gives a crate or module something that is no level; write off, error, warn, info, debug or \
    trace, as in `asl=debug`, without spaces around the `=`";
const BAD_TARGET: &str = "it has a level for something that is no crate or module; write `asl=debug`";

impl LogFilter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Filter`] for an unknown level, and for a bare word that is no level: `inof` would otherwise
    /// silently mean "everything of a crate called inof, and nothing else".
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |why: &str| {
            Error::new(
                ErrorKind::Filter,
                "reading a log filter",
                format!("`{text}`"),
                why,
            )
        };
        let mut base = None;
        // Directives on spans may contain commas of their own; the parser below knows their grammar.
        let plain = !text.contains('[');
        let parts: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        for part in parts.iter().filter(|_| plain) {
            let Some((target, level)) = part.split_once('=') else {
                let level = level(part).ok_or_else(|| fail(NO_LEVEL))?;
                base = Some(level);
                continue;
            };
            if level.trim() != level || target.trim() != target || self::level(level).is_none() {
                return Err(fail(BAD_LEVEL));
            }
            if !target
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-' | b'.'))
                || target.is_empty()
            {
                return Err(fail(BAD_TARGET));
            }
        }
        let filter = Self {
            text: if plain {
                parts.join(",")
            } else {
                text.trim().to_owned()
            },
            base: base.unwrap_or(LevelFilter::INFO),
        };
        EnvFilter::builder().parse(filter.effective()).map_err(|error| {
            fail("it does not parse; write for example `info,asl=debug`").caused_by(error)
        })?;
        Ok(filter)
    }

    /// The filter as it was written, spaces left out.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// With the base level and the chatterboxes in front; what comes later wins.
    fn effective(&self) -> String {
        let mut out = self.base.to_string();
        // Holding a crate at `warn` must not make it louder than the rest.
        let quiet = self.base.min(LevelFilter::WARN);
        for target in CHATTY {
            out.push_str(&format!(",{target}={quiet}"));
        }
        if !self.text.is_empty() {
            out.push(',');
            out.push_str(&self.text);
        }
        out
    }

    pub(crate) fn to_env_filter(&self) -> EnvFilter {
        // `parse` has parsed exactly this text, and `Default` is a constant that a test parses.
        EnvFilter::builder().parse_lossy(self.effective())
    }
}

fn level(text: &str) -> Option<LevelFilter> {
    let named = text.bytes().all(|b| b.is_ascii_alphabetic()) && !text.is_empty();
    named.then(|| text.parse().ok()).flatten()
}

impl Default for LogFilter {
    fn default() -> Self {
        Self {
            text: "info".into(),
            base: LevelFilter::INFO,
        }
    }
}

impl FromStr for LogFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_filters_parse() {
        for text in [
            "",
            "info",
            "INFO",
            "off",
            "info,asl=debug",
            " warn , asl::pdf=trace",
            "asl[request]=debug",
        ] {
            assert!(LogFilter::parse(text).is_ok(), "{text}");
        }
        assert!(
            EnvFilter::builder()
                .parse(LogFilter::default().effective())
                .is_ok()
        );
    }

    #[test]
    fn bad_filters_say_what_to_write() {
        for (text, hint) in [
            ("inof", "a bare word that is no level"),
            ("info,asl=debg", "failed on `info,asl=debg`"),
            ("asl=", "something that is no level"),
            ("=debug", "no crate or module"),
            ("asl = debug", "something that is no level"),
            ("3", "bare word"),
            ("asl[", "does not parse"),
        ] {
            let error = LogFilter::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Filter);
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn chatty_crates_are_held_but_never_made_louder() {
        assert!(
            LogFilter::parse("debug")
                .unwrap()
                .effective()
                .contains(",hyper=warn")
        );
        assert!(
            LogFilter::parse("error")
                .unwrap()
                .effective()
                .contains(",hyper=error")
        );
        assert!(
            LogFilter::parse("off")
                .unwrap()
                .effective()
                .contains(",hyper=off")
        );
        assert!(
            LogFilter::parse("asl=debug")
                .unwrap()
                .effective()
                .starts_with("info,")
        );
    }
}
