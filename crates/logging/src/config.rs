use zhuji_config::{Config, ConfigEnum, ConfigValue};

use crate::filter::LogFilter;

/// How much is logged, and in which shape.
#[derive(Config, Clone, Debug, PartialEq, Eq)]
#[config(title = "Logging", prefixes("LOG_"), impl_default)]
pub struct LogConfig {
    /// How much is logged: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or a filter such as
    /// `info,asl=debug`.
    ///
    /// Env: `LOG_LEVEL`. Default: `info`.
    #[config(env = "LOG_LEVEL", default = "info", example = "info,asl=debug")]
    pub level: LogFilter,
    /// The shape of a line: `json`, `pretty`, or `auto`, which is `pretty` on a terminal and `json` elsewhere.
    ///
    /// Env: `LOG_FORMAT`. Default: `auto`.
    #[config(env = "LOG_FORMAT", default = "auto")]
    pub format: LogFormat,
}

/// The shape of a line.
#[derive(ConfigEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    /// One flat JSON object a line, for machines.
    Json,
    /// One short line for people, in colour on a terminal.
    Pretty,
}

impl ConfigValue for LogFilter {
    fn expected() -> String {
        "`off`, `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,asl=debug`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        LogFilter::parse(text).map_err(|error| error.why().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let read: LogConfig = zhuji_config::load_from_pairs::<LogConfig>([("", ""); 0]).unwrap();
        assert_eq!(read, LogConfig::default());
        assert_eq!((read.level.as_str(), read.format), ("info", LogFormat::Auto));
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let pairs = [
            ("LOG_LEVEL", "inof"),
            ("LOG_FORMAT", "jsn"),
            ("LOG_FROMAT", "json"),
        ];
        let report = zhuji_config::load_from_pairs::<LogConfig>(pairs)
            .unwrap_err()
            .to_string();
        for part in [
            "3 problems",
            "LOG_LEVEL",
            "no level",
            "`json`",
            "LOG_FROMAT",
            "Did you mean LOG_FORMAT?",
        ] {
            assert!(report.contains(part), "{part} is missing in {report}");
        }
    }
}
