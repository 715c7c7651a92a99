use crate::filter::LogFilter;

/// How much is logged, and in which shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// How much is logged: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or a filter such as
    /// `info,asl=debug`. Env: `LOG_LEVEL`. Default: `info`.
    pub level: LogFilter,
    /// The shape of a line: `json`, `pretty`, or `auto`, which is `pretty` on a terminal and `json` elsewhere.
    /// Env: `LOG_FORMAT`. Default: `auto`.
    pub format: LogFormat,
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    /// One flat JSON object a line, for machines.
    Json,
    /// One short line for people, in colour on a terminal.
    Pretty,
}
