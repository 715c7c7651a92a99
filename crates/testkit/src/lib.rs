//! Throw-away servers, an OSS server that checks signatures, and conformance suites.
