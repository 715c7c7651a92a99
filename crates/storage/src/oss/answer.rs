//! What OSS's refusals mean.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::xml::{self, ErrorBody};
use crate::{Error, ErrorKind};

/// Everything of a refused request that is worth telling.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    /// The server's clock, if it complained about ours.
    pub(super) server_time: Option<Timestamp>,
    /// Whether it complained about keys that temporary ones become when they end.
    pub(super) stale_keys: bool,
}

const CHECK_ACCESS: &str =
    "check the RAM policy of the access key, OSS_BUCKET, OSS_REGION and the clock of this machine";

/// Turns a refusal into an error. The status always counts, even if the body is cut off or not from OSS at all.
pub(crate) fn refusal(
    operation: &'static str,
    subject: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Refusal {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // An answer to HEAD has no body; OSS puts the document into a header.
    let from_header = || STANDARD.decode(text("x-oss-err")?).ok();
    let parsed = if body.is_empty() {
        from_header().and_then(|body| xml::parse::<ErrorBody>(&body, "Error").ok())
    } else {
        xml::parse::<ErrorBody>(body, "Error").ok()
    };
    let from_oss = parsed.is_some() || text("x-oss-request-id").is_some();
    let ErrorBody {
        code,
        message,
        request_id,
        server_time,
        endpoint,
        ec,
    } = parsed.unwrap_or_default();

    let (kind, hint) = classify(status, &code);
    let why = match (from_oss, code.as_str()) {
        (false, _) => {
            let kind = text("content-type").unwrap_or("no content type");
            format!("the answer ({kind}) did not come from OSS; a proxy or gateway may be in between")
        }
        (true, "NoSuchKey") => "there is no such object".to_owned(),
        (true, _) if kind == ErrorKind::NotFound => "there is no such object".to_owned(),
        (true, "NoSuchBucket") => "there is no such bucket in this region".to_owned(),
        (true, _) if message.is_empty() => format!("OSS refused ({kind})"),
        (true, _) => message
            .chars()
            .take(300)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    };
    let request_id = if request_id.is_empty() {
        text("x-oss-request-id").map(str::to_owned)
    } else {
        Some(request_id)
    };
    // EC numbers may change: they are for people, nothing branches on them.
    let ec = ec.or_else(|| text("x-oss-ec").map(str::to_owned));
    tracing::debug!(
        operation,
        status = status.as_u16(),
        code,
        ec,
        request_id,
        endpoint,
        "OSS refused a request"
    );
    let skewed = kind == ErrorKind::ClockSkew;
    let server_time = skewed
        .then(|| {
            server_time
                .as_deref()
                .or_else(|| text("date"))
                .and_then(parse_time)
        })
        .flatten();
    let retryable = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout) || server_time.is_some();
    let code_told = (!code.is_empty()).then_some(code.clone());
    let mut error = Error::new(kind, operation, subject, why)
        .with_answer(status.as_u16(), code_told, request_id)
        .with_retryable(retryable)
        .with_retry_after(retry_after(headers));
    if let Some(hint) = hint {
        error = error.with_hint(hint);
    }
    Refusal {
        error,
        server_time,
        stale_keys: matches!(
            code.as_str(),
            "SecurityTokenExpired" | "InvalidSecurityToken" | "InvalidAccessKeyId"
        ),
    }
}

pub(crate) fn classify(status: StatusCode, code: &str) -> (ErrorKind, Option<&'static str>) {
    use ErrorKind as K;
    match code {
        "NoSuchKey" => (K::NotFound, None),
        "NoSuchBucket" => (K::Config, Some("check OSS_BUCKET and OSS_REGION")),
        "NoSuchUpload" => (K::UploadGone, Some("start the upload again")),
        "AccessDenied" => (K::Denied, Some(CHECK_ACCESS)),
        "InvalidAccessKeyId"
        | "SecurityTokenExpired"
        | "InvalidSecurityToken"
        | "SecurityTokenNotSupported" => (
            K::Credential,
            Some("check OSS_ACCESS_KEY_ID, and OSS_SECURITY_TOKEN of temporary keys"),
        ),
        "SignatureDoesNotMatch" => (
            K::Signature,
            Some("check OSS_ACCESS_KEY_SECRET; if it is right, a proxy may be changing the request"),
        ),
        "RequestTimeTooSkewed" => (K::ClockSkew, Some("set the clock of this machine")),
        "InvalidObjectName" => (K::InvalidKey, None),
        "EntityTooLarge" | "EntityTooSmall" | "InvalidPart" | "InvalidPartOrder" | "InvalidArgument" => {
            (K::InvalidInput, None)
        }
        "FileAlreadyExists" | "ObjectAlreadyExists" => (K::AlreadyExists, None),
        "PreconditionFailed" => (K::Changed, None),
        "InvalidRange" => (K::InvalidRange, None),
        "InvalidDigest" => (K::Integrity, None),
        "RequestTimeout" => (K::Timeout, None),
        _ => match status.as_u16() {
            404 => (K::NotFound, None),
            401 => (K::Credential, Some(CHECK_ACCESS)),
            403 => (K::Denied, Some(CHECK_ACCESS)),
            412 => (K::Changed, None),
            416 => (K::InvalidRange, None),
            408 => (K::Timeout, None),
            429 | 500 | 502 | 503 | 504 => (K::Unavailable, None),
            300..=399 => (
                K::Config,
                Some("check OSS_ENDPOINT: the address redirects elsewhere"),
            ),
            400..=499 => (K::InvalidInput, None),
            _ => (K::Unexpected, None),
        },
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    // What a throttled request was or should be delayed by, in milliseconds; else the header everybody knows.
    let wait = number("x-oss-qos-delay-time")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs));
    wait.map(|wait| wait.min(Duration::from_secs(30)))
}

fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| http_date(text))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(code: &str) -> Vec<u8> {
        format!("<Error><Code>{code}</Code><Message>m</Message><RequestId>5FE1</RequestId></Error>")
            .into_bytes()
    }

    fn kind(status: u16, body: &[u8]) -> (ErrorKind, bool) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = refusal("upload", "k", status, &HeaderMap::new(), body).error;
        (error.kind(), error.is_retryable())
    }

    #[test]
    fn codes_have_the_meaning_of_the_documentation() {
        for (status, code, expected, retryable) in [
            (404, "NoSuchKey", ErrorKind::NotFound, false),
            (404, "NoSuchBucket", ErrorKind::Config, false),
            (404, "NoSuchUpload", ErrorKind::UploadGone, false),
            (403, "AccessDenied", ErrorKind::Denied, false),
            (403, "InvalidAccessKeyId", ErrorKind::Credential, false),
            (403, "SecurityTokenExpired", ErrorKind::Credential, false),
            (403, "SignatureDoesNotMatch", ErrorKind::Signature, false),
            (400, "InvalidObjectName", ErrorKind::InvalidKey, false),
            (400, "EntityTooLarge", ErrorKind::InvalidInput, false),
            (400, "InvalidPartOrder", ErrorKind::InvalidInput, false),
            (409, "FileAlreadyExists", ErrorKind::AlreadyExists, false),
            (416, "InvalidRange", ErrorKind::InvalidRange, false),
            (500, "InternalError", ErrorKind::Unavailable, true),
            (503, "QpsLimitExceeded", ErrorKind::Unavailable, true),
            (429, "TooManyRequests", ErrorKind::Unavailable, true),
        ] {
            assert_eq!(kind(status, &xml(code)), (expected, retryable), "{code}");
        }
    }

    #[test]
    fn the_status_counts_when_the_body_is_no_help() {
        let html = b"<html><body><h1>502 Bad Gateway</h1></body></html>";
        assert_eq!(kind(502, html), (ErrorKind::Unavailable, true));
        assert_eq!(kind(403, b"<Error><Code>AccessDen"), (ErrorKind::Denied, false));
        assert_eq!(kind(404, b""), (ErrorKind::NotFound, false));
        assert_eq!(kind(301, b""), (ErrorKind::Config, false));
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "text/html".parse().unwrap());
        let error = refusal("upload", "k", StatusCode::BAD_GATEWAY, &headers, html).error;
        assert!(error.to_string().contains("did not come from OSS"), "{error}");
    }

    #[test]
    fn an_answer_to_head_keeps_code_and_request_id() {
        let mut headers = HeaderMap::new();
        headers.insert("x-oss-request-id", "5FE1".parse().unwrap());
        headers.insert("x-oss-err", STANDARD.encode(xml("NoSuchBucket")).parse().unwrap());
        let error = refusal("metadata", "k", StatusCode::NOT_FOUND, &headers, b"").error;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            (error.code(), error.request_id()),
            (Some("NoSuchBucket"), Some("5FE1"))
        );
    }

    #[test]
    fn a_skewed_clock_can_be_mended_when_the_server_tells_the_time() {
        let body = b"<Error><Code>RequestTimeTooSkewed</Code><ServerTime>2025-01-01T00:00:00.000Z</ServerTime></Error>";
        let refused = refusal("upload", "k", StatusCode::FORBIDDEN, &HeaderMap::new(), body);
        assert!(refused.server_time.is_some() && refused.error.is_retryable());
        let silent = refusal(
            "upload",
            "k",
            StatusCode::FORBIDDEN,
            &HeaderMap::new(),
            &xml("RequestTimeTooSkewed"),
        );
        assert!(silent.server_time.is_none() && !silent.error.is_retryable());
    }
}
