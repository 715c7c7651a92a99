use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use zhuji_config::{Config, ConfigValue};

/// Where the metrics are served.
#[derive(Config, Clone, Debug, PartialEq, Eq)]
#[config(title = "Metrics", prefixes("METRICS_"), impl_default)]
pub struct MetricsConfig {
    /// Where `GET /metrics` is answered: `same` (the service's own port), `off`, or an address of its own such as
    /// `0.0.0.0:9464`, which keeps it away from the public. Env: `METRICS_LISTEN`. Default: `same`; `0.0.0.0:9464` in
    /// production.
    #[config(env = "METRICS_LISTEN", default = "same", example = "0.0.0.0:9464")]
    pub listen: MetricsListen,
}

/// Where `GET /metrics` is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsListen {
    /// On the service's own port.
    #[default]
    Same,
    /// Nowhere.
    Off,
    /// On a port of its own.
    Address(SocketAddr),
}

impl MetricsListen {
    /// What production listens on unless told otherwise.
    pub const PRODUCTION: &'static str = "0.0.0.0:9464";
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("same"),
            Self::Off => f.write_str("off"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

const EXPECTED: &str = "`same`, `off`, or an address with a port such as `0.0.0.0:9464`";

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ConfigValue>::parse(text).map_err(|_| format!("expected {EXPECTED}"))
    }
}

impl ConfigValue for MetricsListen {
    fn expected() -> String {
        EXPECTED.to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("same") {
            return Ok(Self::Same);
        }
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        // What is expected says it all.
        text.parse().map(Self::Address).map_err(|_| String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_reads_what_it_writes() {
        for text in [
            "same",
            "off",
            "0.0.0.0:9464",
            "[::1]:9464",
            MetricsListen::PRODUCTION,
        ] {
            assert_eq!(text.parse::<MetricsListen>().unwrap().to_string(), text);
        }
        for bad in ["", "9464", ":9464", "localhost:9464", "on", "1.2.3.4"] {
            assert!(
                bad.parse::<MetricsListen>().unwrap_err().contains("`same`"),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_default_is_the_documented_one() {
        let read = zhuji_config::load_from_pairs::<MetricsConfig>([("", ""); 0]).unwrap();
        assert_eq!(read, MetricsConfig::default());
        assert_eq!(read.listen, MetricsListen::Same);
        let report =
            zhuji_config::load_from_pairs::<MetricsConfig>([("METRICS_LISTEN", "9464")]).unwrap_err();
        assert!(report.to_string().contains("`0.0.0.0:9464`"), "{report}");
    }
}
