//! The standard variables of OpenTelemetry, as far as they are about traces.

use percent_encoding::percent_decode_str;
use url::Url;
use zhuji_config::{Config, ConfigEnum, Problem, Reader, Secret};

/// Where the traces of this process go, and which of them.
///
/// The names and meanings are those of the OpenTelemetry specification. Nothing is sent without an endpoint, and by a
/// program that was built without the feature `otel`.
#[derive(Config, Clone, Debug)]
#[config(
    title = "Traces",
    prefixes("OTEL_EXPORTER_OTLP_", "OTEL_TRACES_", "OTEL_BSP_", "OTEL_SDK_"),
    check = OtelConfig::check,
    impl_default
)]
pub struct OtelConfig {
    /// The collector's address; traces go to `/v1/traces` below it. Without one nothing is sent.
    #[config(env = "OTEL_EXPORTER_OTLP_ENDPOINT", example = "http://127.0.0.1:4318")]
    pub endpoint: Option<Url>,
    /// The whole address for traces, where it is not below the common one.
    #[config(env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")]
    pub traces_endpoint: Option<Url>,
    /// Headers for the collector, which may hold its password: `name=value`, separated by commas, percent-encoded.
    #[config(env = "OTEL_EXPORTER_OTLP_HEADERS")]
    pub headers: Option<Secret>,
    /// How traces are sent: `http/protobuf` is the one way.
    #[config(env = "OTEL_EXPORTER_OTLP_PROTOCOL", default = "http/protobuf")]
    pub protocol: OtlpProtocol,
    /// Milliseconds that the collector has for one answer.
    #[config(env = "OTEL_EXPORTER_OTLP_TIMEOUT", default = "10000")]
    pub timeout_ms: u64,
    /// The service's name in traces.
    #[config(env = "OTEL_SERVICE_NAME", default_note = "the program's name")]
    pub service_name: Option<String>,
    /// More about this process: `name=value`, separated by commas, percent-encoded.
    #[config(env = "OTEL_RESOURCE_ATTRIBUTES", example = "deployment.region=cn-hangzhou")]
    pub resource_attributes: Option<String>,
    /// Which traces are sent: `always_on`, `always_off`, `traceidratio`, or one of these after `parentbased_`, which goes by
    /// the caller's decision first.
    #[config(env = "OTEL_TRACES_SAMPLER", default = "parentbased_always_on")]
    pub sampler: SamplerKind,
    /// The share of traces that a `traceidratio` sends, from 0 to 1.
    #[config(env = "OTEL_TRACES_SAMPLER_ARG", default_note = "1")]
    pub sampler_arg: Option<f64>,
    /// `otlp`, or `none` to send nothing.
    #[config(env = "OTEL_TRACES_EXPORTER", default = "otlp")]
    pub exporter: TracesExporter,
    /// Sends nothing, whatever else is set.
    #[config(env = "OTEL_SDK_DISABLED", default = "false")]
    pub disabled: bool,
    /// Spans that wait to be sent; what comes on top is dropped and counted.
    #[config(env = "OTEL_BSP_MAX_QUEUE_SIZE", default = "2048")]
    pub queue: u32,
    /// Spans in one message to the collector.
    #[config(env = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default = "512")]
    pub batch: u32,
    /// Milliseconds that a span waits for company, at most.
    #[config(env = "OTEL_BSP_SCHEDULE_DELAY", default = "5000")]
    pub delay_ms: u64,
}

/// How traces are sent.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protobuf over HTTP.
    #[config(name = "http/protobuf")]
    HttpProtobuf,
}

/// Where traces are sent.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracesExporter {
    /// To the endpoint.
    Otlp,
    /// Nowhere.
    None,
}

/// Which traces are sent.
#[derive(ConfigEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// All.
    #[config(name = "always_on")]
    AlwaysOn,
    /// None.
    #[config(name = "always_off")]
    AlwaysOff,
    /// A share of them, chosen by their ids, so that every service chooses the same ones.
    #[config(name = "traceidratio")]
    Ratio,
    /// What the caller sends, and all that begin here.
    #[config(name = "parentbased_always_on")]
    ParentOrOn,
    /// What the caller sends, and none that begin here.
    #[config(name = "parentbased_always_off")]
    ParentOrOff,
    /// What the caller sends, and a share of those that begin here.
    #[config(name = "parentbased_traceidratio")]
    ParentOrRatio,
}

impl OtelConfig {
    /// The address to send to, if anything is to be sent.
    pub fn target(&self) -> Option<Url> {
        if self.disabled || self.exporter == TracesExporter::None {
            return None;
        }
        self.traces_endpoint.clone().or_else(|| {
            let mut url = self.endpoint.clone()?;
            let below = format!("{}/v1/traces", url.path().trim_end_matches('/'));
            url.set_path(&below);
            Some(url)
        })
    }

    fn check(&self, reader: &mut Reader<'_>) {
        for (name, url) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &self.traces_endpoint),
        ] {
            let url = url.as_ref();
            if url.is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
                reader.problem(Problem::invalid(name, "it must be http or https"));
            }
            if url.is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
                let problem = Problem::invalid(name, "it holds a password, and addresses end up in logs");
                reader.problem(problem.with_hint("Give it as OTEL_EXPORTER_OTLP_HEADERS"));
            }
        }
        let headers = self.headers.as_ref().map(|headers| pairs(headers.expose()));
        let named = headers.is_none_or(|pairs| {
            pairs.is_some_and(|pairs| {
                pairs.iter().all(|(name, value)| {
                    http::HeaderName::from_bytes(name.as_bytes()).is_ok()
                        && http::HeaderValue::from_str(value).is_ok()
                })
            })
        });
        if !named {
            let why = "it must be header=value, separated by commas and percent-encoded";
            reader.problem(Problem::invalid("OTEL_EXPORTER_OTLP_HEADERS", why));
        }
        if self
            .resource_attributes
            .as_deref()
            .is_some_and(|text| pairs(text).is_none())
        {
            let why = "it must be name=value, separated by commas and percent-encoded";
            reader.problem(Problem::invalid("OTEL_RESOURCE_ATTRIBUTES", why));
        }
        if self
            .sampler_arg
            .is_some_and(|share| !(0.0..=1.0).contains(&share))
        {
            reader.problem(Problem::invalid(
                "OTEL_TRACES_SAMPLER_ARG",
                "it must be from 0 to 1",
            ));
        }
        for (name, number) in [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", self.timeout_ms),
            ("OTEL_BSP_SCHEDULE_DELAY", self.delay_ms),
            ("OTEL_BSP_MAX_QUEUE_SIZE", self.queue.into()),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", self.batch.into()),
        ] {
            if !(1..=3_600_000).contains(&number) {
                reader.problem(Problem::invalid(name, "it must be from 1 to 3600000"));
            }
        }
    }
}

/// `a=b,c=d` with percent-encoded values, as W3C baggage. `None` if it is something else.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            let decoded = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
            Some((decoded(name).filter(|name| !name.is_empty())?, decoded(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<OtelConfig, String> {
        zhuji_config::load_from_pairs(variables.iter().copied()).map_err(|report| report.to_string())
    }

    #[test]
    fn nothing_is_sent_without_an_endpoint_or_when_switched_off() {
        assert_eq!(read(&[]).unwrap().target(), None);
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/base/");
        let target = |more| read(&[endpoint, more]).unwrap().target().map(String::from);
        let below = Some("http://collector:4318/base/v1/traces".to_owned());
        assert_eq!(target(("OTEL_SERVICE_NAME", "x")), below);
        assert_eq!(target(("OTEL_SDK_DISABLED", "true")), None);
        assert_eq!(target(("OTEL_TRACES_EXPORTER", "none")), None);
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t.example/in");
        assert_eq!(target(whole).as_deref(), Some("https://t.example/in"));
    }

    #[test]
    fn headers_and_attributes_are_percent_decoded() {
        let expected = vec![
            ("authorization".to_owned(), "Basic a=b, c".to_owned()),
            ("x".into(), String::new()),
        ];
        assert_eq!(pairs("authorization=Basic%20a=b%2C%20c, x= ,"), Some(expected));
        for bad in ["a", "=b", "a=%ff"] {
            assert_eq!(pairs(bad), None, "{bad}");
        }
    }

    #[test]
    fn mistakes_are_named_and_no_header_is_shown() {
        let report = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hush-hush"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_EXPORTER_OTLP_ENDPIONT", "x"),
        ])
        .unwrap_err();
        for part in [
            "http or https",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_RESOURCE_ATTRIBUTES",
            "from 0 to 1",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "Did you mean OTEL_EXPORTER_OTLP_ENDPOINT?",
        ] {
            assert!(report.contains(part), "{part} is missing in {report}");
        }
        assert!(!report.contains("hush-hush"), "{report}");
        let report = read(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "always"),
        ])
        .unwrap_err();
        assert!(
            report.contains("http/protobuf") && report.contains("always_on"),
            "{report}"
        );
    }
}
