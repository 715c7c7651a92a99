//! Answers that are no refusals.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::ServeBody;
use crate::{ContentRange, Grant, Metadata, Stored};

pub(super) fn object(
    metadata: &Metadata,
    part: Option<ContentRange>,
    grant: &Grant,
    public: bool,
    body: ServeBody,
) -> Response<ServeBody> {
    let length = part.map_or(metadata.size, |part| part.end - part.start);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    validators(headers, metadata, public);
    let content_type = grant
        .response_content_type
        .as_ref()
        .unwrap_or(&metadata.content_type);
    set(headers, header::CONTENT_TYPE, content_type);
    if runs_scripts(content_type) {
        // The object comes from the service's own origin: a page in it must not act as the user who looks at it.
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox"),
        );
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(disposition) = grant
        .response_disposition
        .as_ref()
        .or(metadata.content_disposition.as_ref())
    {
        set(headers, header::CONTENT_DISPOSITION, disposition);
    }
    if let Some(ContentRange { start, end, total }) = part {
        set(
            headers,
            header::CONTENT_RANGE,
            &format!("bytes {start}-{}/{total}", end - 1),
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

pub(super) fn not_modified(metadata: &Metadata, public: bool) -> Response<ServeBody> {
    let mut response = Response::new(ServeBody::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    validators(response.headers_mut(), metadata, public);
    response
}

pub(super) fn stored(stored: &Stored) -> Response<ServeBody> {
    let mut response = Response::new(ServeBody::empty());
    set(
        response.headers_mut(),
        header::ETAG,
        &format!("\"{}\"", stored.etag),
    );
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    response
}

fn validators(headers: &mut HeaderMap, metadata: &Metadata, public: bool) {
    set(headers, header::ETAG, &format!("\"{}\"", metadata.etag));
    let modified = metadata
        .last_modified
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    set(headers, header::LAST_MODIFIED, &modified);
    let caching = if public {
        "public, no-cache"
    } else {
        "private, no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
}

/// Types that a browser runs as a document of our origin.
fn runs_scripts(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    essence == "text/html"
        || essence == "text/xml"
        || essence == "application/xml"
        || essence.ends_with("+xml")
        || essence.starts_with("multipart/")
}

/// A value that a header can't carry is left out; stored values have been checked when they came in.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_our_origin_are_recognised() {
        for active in [
            "text/html",
            "TEXT/HTML; charset=utf-8",
            "image/svg+xml",
            "application/xhtml+xml",
            " text/html ;x",
        ] {
            assert!(runs_scripts(active), "{active}");
        }
        for passive in [
            "application/pdf",
            "image/png",
            "text/plain",
            "application/octet-stream",
        ] {
            assert!(!runs_scripts(passive), "{passive}");
        }
    }
}
