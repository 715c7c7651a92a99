//! Prometheus exposition for the metrics facade.
