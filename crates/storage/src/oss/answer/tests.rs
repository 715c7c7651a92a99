//! The meaning of OSS's refusals, line by line.

use super::*;

fn xml(code: &str) -> Vec<u8> {
    format!("<Error><Code>{code}</Code><Message>m</Message><RequestId>5FE1</RequestId></Error>").into_bytes()
}

fn told(status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
    let status = StatusCode::from_u16(status).unwrap();
    refusal("upload", "k", status, headers, body).error
}

fn kind(status: u16, body: &[u8]) -> (ErrorKind, bool) {
    let error = told(status, &HeaderMap::new(), body);
    (error.kind(), error.is_retryable())
}

/// One line for each line of OSS's documentation that a client has to know: status, code, what it is to us, whether a
/// repetition may help, and a word of the advice.
#[test]
fn codes_have_the_meaning_of_the_documentation() {
    use ErrorKind as K;
    for (status, code, expected, retryable, advice) in [
        (404, "NoSuchKey", K::NotFound, false, ""),
        (404, "NoSuchBucket", K::Config, false, "OSS_BUCKET"),
        (404, "NoSuchUpload", K::UploadGone, false, "again"),
        (403, "AccessDenied", K::Denied, false, "RAM policy"),
        (
            403,
            "InvalidAccessKeyId",
            K::Credential,
            false,
            "OSS_ACCESS_KEY_ID",
        ),
        (
            403,
            "SecurityTokenExpired",
            K::Credential,
            false,
            "OSS_SECURITY_TOKEN",
        ),
        (
            403,
            "InvalidSecurityToken",
            K::Credential,
            false,
            "OSS_SECURITY_TOKEN",
        ),
        (
            403,
            "SignatureDoesNotMatch",
            K::Signature,
            false,
            "OSS_ACCESS_KEY_SECRET",
        ),
        (403, "RequestTimeTooSkewed", K::ClockSkew, false, "clock"),
        (400, "InvalidObjectName", K::InvalidKey, false, ""),
        (400, "EntityTooLarge", K::InvalidInput, false, ""),
        (400, "EntityTooSmall", K::InvalidInput, false, ""),
        (400, "InvalidPart", K::InvalidInput, false, ""),
        (400, "InvalidPartOrder", K::InvalidInput, false, ""),
        (400, "InvalidArgument", K::InvalidInput, false, ""),
        (400, "InvalidDigest", K::Integrity, false, ""),
        (400, "RequestTimeout", K::Timeout, true, ""),
        (409, "FileAlreadyExists", K::AlreadyExists, false, ""),
        (409, "ObjectAlreadyExists", K::AlreadyExists, false, ""),
        (412, "PreconditionFailed", K::Changed, false, ""),
        (416, "InvalidRange", K::InvalidRange, false, ""),
        (
            203,
            "CallbackFailed",
            K::Unexpected,
            false,
            "do not upload it again",
        ),
        (500, "InternalError", K::Unavailable, true, ""),
        (502, "BadGateway", K::Unavailable, true, ""),
        (503, "ServiceUnavailable", K::Unavailable, true, ""),
        (503, "QpsLimitExceeded", K::Unavailable, true, ""),
        (503, "DownloadTrafficRateLimitExceeded", K::Unavailable, true, ""),
        (504, "GatewayTimeout", K::Unavailable, true, ""),
        (429, "TooManyRequests", K::Unavailable, true, ""),
        (403, "SomethingNew", K::Denied, false, "clock of this machine"),
    ] {
        assert_eq!(kind(status, &xml(code)), (expected, retryable), "{code}");
        let text = told(status, &HeaderMap::new(), &xml(code)).to_string();
        for part in [code, "5FE1", &status.to_string(), advice] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains('\n'), "one line: {text}");
    }
}

#[test]
fn request_id_and_number_come_from_the_document_or_the_headers() {
    let mut headers = HeaderMap::new();
    headers.insert("x-oss-request-id", "AAAA".parse().unwrap());
    headers.insert("x-oss-ec", "0026-00000001".parse().unwrap());
    // Without a document, with one that lacks the number, and with all of it.
    for (body, id, ec) in [
        (&b""[..], "AAAA", "0026-00000001"),
        (&xml("NoSuchKey"), "5FE1", "0026-00000001"),
        (
            b"<Error><Code>NoSuchKey</Code><RequestId>BBBB</RequestId><EC>0001-00000002</EC></Error>",
            "BBBB",
            "0001-00000002",
        ),
    ] {
        let error = told(404, &headers, body);
        assert_eq!((error.request_id(), error.ec()), (Some(id), Some(ec)));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.contains(&format!("EC {ec}, request id {id}")), "{text}");
    }
    // Nothing of the number is needed.
    let error = told(
        403,
        &HeaderMap::new(),
        b"<Error><Code>AccessDenied</Code></Error>",
    );
    assert_eq!((error.code(), error.ec()), (Some("AccessDenied"), None));
}

#[test]
fn what_is_no_word_is_not_told() {
    let mut headers = HeaderMap::new();
    headers.insert("x-oss-request-id", "a b".parse().unwrap());
    let body = b"<Error><Code>Bad\x1b[31m</Code><Message>two\nlines\x1b[0m</Message><EC>1 2</EC></Error>";
    let error = told(400, &headers, body);
    assert_eq!((error.code(), error.request_id(), error.ec()), (None, None, None));
    assert!(!error.to_string().chars().any(char::is_control), "{error}");
}

#[test]
fn the_token_in_what_the_server_signed_is_hidden() {
    let signed = "GET\n/b/k\nx-oss-security-token=CAIS%2B\nx-oss-date:1\nx-oss-security-token:CAIS+\n\nUNSIGNED-PAYLOAD";
    let shown = without_token(signed);
    assert!(
        !shown.contains("CAIS") && shown.contains("x-oss-date:1"),
        "{shown}"
    );
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
    let body =
        b"<Error><Code>RequestTimeTooSkewed</Code><ServerTime>2025-01-01T00:00:00.000Z</ServerTime></Error>";
    let refused = refusal("upload", "k", StatusCode::FORBIDDEN, &HeaderMap::new(), body);
    assert!(refused.server_time.is_some());
    // Once it has been mended, more attempts are no use.
    assert!(!refused.error.is_retryable());
    let silent = refusal(
        "upload",
        "k",
        StatusCode::FORBIDDEN,
        &HeaderMap::new(),
        &xml("RequestTimeTooSkewed"),
    );
    assert!(silent.server_time.is_none());
}
