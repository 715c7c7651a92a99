//! Reading objects and what is known of them.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;

use super::{
    answer::http_date,
    client::{Client, Request},
    put::{etag, server_crc, unexpected},
    resume::{Version, resuming},
};
use crate::{
    ContentRange, Download, ErrorKind, GetOptions, Key, Metadata, Result, RetryPolicy, body::verified,
    content::decode_metadata_value,
};

pub(super) async fn open(
    client: &Arc<Client>,
    key: &Key,
    options: &GetOptions,
    retry: RetryPolicy,
) -> Result<Download> {
    let mut request = Request::new("download", Method::GET, key);
    if let Some(range) = options.range {
        // Without the second header OSS answers a range outside the object with all of it.
        request = request
            .header(header::RANGE, &range.to_header())?
            .header("x-oss-range-behavior", "standard")?;
    }
    if let Some(etag) = &options.if_match {
        request = request.header(header::IF_MATCH, &format!("\"{}\"", etag.trim_matches('"')))?;
    }
    let answer = client.send(&request).await?;
    let length = text(answer.headers(), header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    let Some(length) = length else {
        return Err(unexpected(&request, "the answer does not say how long it is"));
    };
    let part = match (options.range, answer.status()) {
        (None, _) => None,
        (Some(_), StatusCode::PARTIAL_CONTENT) => {
            let part = text(answer.headers(), header::CONTENT_RANGE).and_then(content_range);
            let part = part.filter(|part| part.end - part.start == length);
            Some(part.ok_or_else(|| unexpected(&request, "the answer does not say which part it is"))?)
        }
        (Some(range), _) => {
            range.resolve("download", key, length)?;
            let why = "the server sent the whole object instead of a part";
            return Err(request.error(ErrorKind::Unexpected, why));
        }
    };
    let metadata = metadata(answer.headers(), key, part.map_or(length, |part| part.total));
    let whole = ContentRange {
        start: 0,
        end: metadata.size,
        total: metadata.size,
    };
    let stream = resuming(
        Version {
            client: Arc::clone(client),
            key: key.clone(),
            etag: metadata.etag.clone(),
        },
        part.unwrap_or(whole),
        client.stream(answer, &request),
        retry,
    );
    let stream = match part {
        // The checksum of a part is that of the whole object: nothing to compare with.
        Some(part) => verified(stream, "download", key.to_string(), part.end - part.start, None),
        None => verified(stream, "download", key.to_string(), metadata.size, metadata.crc64),
    };
    Ok(Download::new(metadata, part, stream))
}

pub(super) async fn head(client: &Client, key: &Key, operation: &'static str) -> Result<Metadata> {
    let request = Request::new(operation, Method::HEAD, key);
    let answer = client.send(&request).await?;
    let length = text(answer.headers(), header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    let size =
        length.ok_or_else(|| unexpected(&request, "the answer does not say how long the object is"))?;
    Ok(metadata(answer.headers(), key, size))
}

fn metadata(headers: &HeaderMap, key: &str, size: u64) -> Metadata {
    let modified = text(headers, header::LAST_MODIFIED)
        .and_then(http_date)
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let mut metadata = Metadata::new(key, size, etag(headers), modified);
    metadata.crc64 = server_crc(headers);
    if let Some(content_type) = text(headers, header::CONTENT_TYPE) {
        content_type.clone_into(&mut metadata.content_type);
    }
    metadata.content_disposition = text(headers, header::CONTENT_DISPOSITION).map(str::to_owned);
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix("x-oss-meta-") {
            // Other clients may have sent raw UTF-8.
            let value = String::from_utf8_lossy(value.as_bytes());
            metadata
                .user
                .insert(name.to_owned(), decode_metadata_value(&value));
        }
    }
    metadata
}

pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes 0-9/100`.
pub(super) fn content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last, total) = (
        start.parse().ok()?,
        last.parse::<u64>().ok()?,
        total.parse().ok()?,
    );
    let end = last.checked_add(1)?;
    (start < end && end <= total).then_some(ContentRange { start, end, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_nonsense_is_not() {
        assert_eq!(
            content_range("bytes 0-9/100"),
            Some(ContentRange {
                start: 0,
                end: 10,
                total: 100
            })
        );
        for bad in [
            "bytes */100",
            "bytes 5-4/100",
            "bytes 0-100/100",
            "0-9/100",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
