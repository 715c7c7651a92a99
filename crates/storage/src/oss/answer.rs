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
        canonical_request,
    } = parsed.unwrap_or_default();

    let (kind, hint) = classify(status, &code);
    let why = match (from_oss, code.as_str()) {
        (false, _) => {
            let kind = text("content-type").unwrap_or("no content type");
            format!("the answer ({kind}) did not come from OSS; a proxy or gateway may be in between")
        }
        (true, "NoSuchKey") => "there is no such object".to_owned(),
        (true, _) if kind == ErrorKind::NotFound => "there is no such object".to_owned(),
        (true, "CallbackFailed") => {
            "the object is stored, but the callback to the application failed".to_owned()
        }
        (true, "NoSuchBucket") => "there is no such bucket in this region".to_owned(),
        (true, _) if message.is_empty() => format!("OSS refused ({kind})"),
        (true, _) => message
            .chars()
            .take(300)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    };
    let header = |name: &str| text(name).map(str::to_owned);
    let request_id = Some(request_id).filter(|id| is_word(id));
    let request_id = request_id
        .or_else(|| header("x-oss-request-id"))
        .filter(|id| is_word(id));
    // EC numbers may change: they are for people, nothing branches on them.
    let ec = ec.or_else(|| header("x-oss-ec")).filter(|ec| is_word(ec));
    tracing::debug!(
        operation,
        status = status.as_u16(),
        code,
        ec = ec.as_deref(),
        request_id = request_id.as_deref(),
        endpoint,
        "OSS refused a request"
    );
    if let Some(signed) = canonical_request {
        tracing::debug!(
            signed = without_token(&signed),
            "OSS computed another signature of this"
        );
    }
    let skewed = kind == ErrorKind::ClockSkew;
    let server_time = skewed
        .then(|| {
            server_time
                .as_deref()
                .or_else(|| text("date"))
                .and_then(parse_time)
        })
        .flatten();
    let retryable = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
    let code_told = Some(&code).filter(|code| is_word(code)).cloned();
    let mut error = Error::new(kind, operation, subject, why)
        .with_answer(status.as_u16(), code_told, request_id)
        .with_ec(ec)
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

/// Whether this can be a code or an id. What else stands there could be anything, and could go into a terminal.
fn is_word(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

/// The server repeats the whole request, the token of temporary keys included.
fn without_token(signed: &str) -> String {
    let hide = |line: &str| match line.split_once("security-token") {
        Some((before, _)) => format!("{before}security-token***"),
        None => line.to_owned(),
    };
    signed.lines().map(hide).collect::<Vec<_>>().join("\n")
}

pub(crate) fn classify(status: StatusCode, code: &str) -> (ErrorKind, Option<&'static str>) {
    use ErrorKind as K;
    match code {
        "NoSuchKey" => (K::NotFound, None),
        "CallbackFailed" => (
            K::Unexpected,
            Some("do not upload it again; look at the application's callback"),
        ),
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
            // The document got lost. The only condition that we ever put on a write is that nothing is there.
            409 if code.is_empty() => (K::AlreadyExists, None),
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
mod tests;
