//! What the platform itself measures.

use zhuji_metrics::{Metric, describe};

/// Gives the platform's metrics their help texts.
pub(crate) fn describe_all() {
    describe(&[
        Metric::histogram(
            "zhuji_http_request_seconds",
            "Time from a request's head to its answer's head",
        ),
        Metric::counter("zhuji_http_requests_total", "Requests answered"),
        Metric::gauge("zhuji_http_connections", "Open HTTP connections"),
        Metric::gauge("zhuji_health_status", "1 up, 0.5 degraded, 0 down"),
        Metric::histogram("zhuji_health_check_seconds", "Time that a health check took"),
        Metric::gauge(
            "zhuji_event_loop_lag_seconds",
            "How late the event loop's timers are",
        ),
        Metric::gauge(
            "zhuji_disk_free_bytes",
            "Room left on a disk that the service writes to",
        ),
        Metric::gauge("zhuji_disk_size_bytes", "Size of that disk"),
        Metric::gauge(
            "zhuji_certificate_expiry_timestamp_seconds",
            "When the certificate of an address of the settings ends, in seconds since 1970",
        ),
        Metric::counter("zhuji_panics_total", "Panics caught"),
        Metric::counter(
            "zhuji_log_lost_lines_total",
            "Log lines that could not be written",
        ),
        Metric::counter(
            "zhuji_admin_wrong_tokens_total",
            "Wrong admin tokens; while there are too many, none is looked at",
        ),
        #[cfg(feature = "otel")]
        Metric::counter(
            "zhuji_otel_exported_spans_total",
            "Spans that the collector has taken",
        ),
        #[cfg(feature = "otel")]
        Metric::counter(
            "zhuji_otel_dropped_spans_total",
            "Spans that did not reach the collector, by reason",
        ),
    ]);
}
