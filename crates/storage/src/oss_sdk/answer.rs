//! What the SDK's errors mean: it has one kind, a text.

use aliyun_oss_rust_sdk::error::OssError;
use http::{HeaderMap, StatusCode};

use crate::{
    Error, ErrorKind,
    oss::answer::{classify, refusal},
};

pub(super) fn error(operation: &'static str, subject: &str, error: OssError) -> Error {
    match error {
        OssError::Err(text) => match status_and_body(&text) {
            Some((status, body)) => refused(operation, subject, status, body),
            None => {
                let why = "the SDK can't write the request";
                Error::new(ErrorKind::InvalidInput, operation, subject, why).with_source(text)
            }
        },
        OssError::RequestError(error) => {
            // Its text could hold the URL, which goes.
            let error = error.without_url();
            let (kind, why) = if error.is_builder() {
                (ErrorKind::InvalidInput, "the request can't be written")
            } else if error.is_timeout() {
                (ErrorKind::Timeout, "the connection timed out")
            } else if error.is_connect() {
                (ErrorKind::Unavailable, "no connection")
            } else {
                (ErrorKind::Unavailable, "the connection broke")
            };
            Error::new(kind, operation, subject, why).with_source(error)
        }
        other => {
            let why = "the SDK failed";
            Error::new(ErrorKind::Unexpected, operation, subject, why).with_source(other)
        }
    }
}

/// `get object status: 404 Not Found error: <?xml …`, whatever the operation.
fn status_and_body(text: &str) -> Option<(StatusCode, &str)> {
    let rest = text.strip_prefix("get object status: ")?;
    let status = rest.get(..3)?.parse().ok()?;
    let body = rest.split_once("error: ").map_or("", |(_, body)| body);
    Some((status, body))
}

fn refused(operation: &'static str, subject: &str, status: StatusCode, body: &str) -> Error {
    if body.is_empty() {
        // An answer to HEAD: the SDK keeps none of its headers.
        let (kind, hint) = classify(status, "");
        let why = match kind {
            ErrorKind::NotFound => "there is no such object, or no such bucket",
            _ => "OSS refused, and the SDK keeps no reason of an answer without a body",
        };
        let error = Error::new(kind, operation, subject, why).with_answer(status.as_u16(), None, None);
        return match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        };
    }
    let refused = refusal(operation, subject, status, &HeaderMap::new(), body.as_bytes()).error;
    // The SDK asks nobody but the clock of this machine: another attempt fails alike.
    let skewed = refused.kind() == ErrorKind::ClockSkew;
    let retryable = refused.is_retryable() && !skewed;
    refused.with_retryable(retryable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Error {
        error("download", "k", OssError::Err(text.to_owned()))
    }

    #[test]
    fn its_text_is_read_for_what_it_is_worth() {
        let missing = of(
            "get object status: 404 Not Found error: <Error><Code>NoSuchKey</Code>\
                          <RequestId>5FE1</RequestId></Error>",
        );
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert_eq!(
            (missing.status(), missing.request_id()),
            (Some(404), Some("5FE1"))
        );
        let no_bucket =
            of("get object status: 404 Not Found error: <Error><Code>NoSuchBucket</Code></Error>");
        assert_eq!(no_bucket.kind(), ErrorKind::Config);
        let head = of("get object status: 403 Forbidden error: ");
        assert_eq!((head.kind(), head.is_retryable()), (ErrorKind::Denied, false));
        let busy = of("get object status: 503 Service Unavailable error: ");
        assert_eq!((busy.kind(), busy.is_retryable()), (ErrorKind::Unavailable, true));
        let skew = of(
            "get object status: 403 Forbidden error: <Error><Code>RequestTimeTooSkewed</Code>\
                       <ServerTime>2025-01-01T00:00:00.000Z</ServerTime></Error>",
        );
        assert_eq!((skew.kind(), skew.is_retryable()), (ErrorKind::ClockSkew, false));
        assert_eq!(of("build request error: x").kind(), ErrorKind::InvalidInput);
    }
}
