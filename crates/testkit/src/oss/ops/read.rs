//! Reading objects: GetObject, HeadObject, GetObjectMeta.

use std::sync::Arc;

use jiff::Timestamp;

use super::Cx;
use crate::oss::body::slice;
use crate::oss::clock::{http_date, parse_http_date};
use crate::oss::error::OssError;
use crate::oss::reply::Reply;
use crate::oss::store::{Meta, Object};

/// Query parameters that replace an answer's header.
const OVERRIDES: &[(&str, &str)] = &[
    ("response-content-type", "content-type"),
    ("response-content-language", "content-language"),
    ("response-expires", "expires"),
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
];

pub(super) fn get(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let object = find(cx)?;
    let size = object.meta.size;
    let mut reply = described(Reply::new(200), &object.meta);
    for (parameter, header) in OVERRIDES {
        if let Some(value) = cx.query(parameter) {
            if cx.anonymous {
                return Err(OssError::new(
                    400,
                    "InvalidRequest",
                    "Response-* parameters are not allowed in anonymous requests.",
                ));
            }
            reply = reply.header(header, value);
        }
    }
    let Some(range) = cx.request.header("range") else {
        return Ok(reply.chunks(object.chunks.clone()));
    };
    let standard = cx.request.header("x-oss-range-behavior") == Some("standard");
    match parse_range(range, size, standard) {
        Range::Whole => Ok(reply.chunks(object.chunks.clone())),
        Range::Part(start, end) => {
            reply.status = http::StatusCode::PARTIAL_CONTENT;
            Ok(reply
                .header("content-range", format!("bytes {start}-{}/{size}", end - 1))
                .chunks(slice(&object.chunks, start, end)))
        }
        Range::Unsatisfiable => {
            Err(
                OssError::new(416, "InvalidRange", "The requested range cannot be satisfied")
                    .detail("RangeRequested", range)
                    .detail("ActualObjectSize", size.to_string())
                    .header("content-range", format!("bytes */{size}")),
            )
        }
    }
}

pub(super) fn head(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let object = find(cx)?;
    let mut reply = described(Reply::new(200), &object.meta);
    reply.length_of_head = Some(object.meta.size);
    Ok(reply)
}

pub(super) fn brief(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let object = find(cx)?;
    let mut reply = Reply::new(200)
        .header("etag", format!("\"{}\"", object.meta.etag))
        .header("last-modified", http_date(object.meta.last_modified))
        .header("x-oss-hash-crc64ecma", object.meta.crc64.to_string());
    reply.length_of_head = Some(object.meta.size);
    Ok(reply)
}

fn find(cx: &Cx<'_>) -> Result<Arc<Object>, OssError> {
    let object = cx.store.object(cx.bucket()?, cx.key()?)?;
    check_conditions(cx, &object.meta, "")?;
    Ok(object)
}

fn described(mut reply: Reply, meta: &Meta) -> Reply {
    for (name, value) in &meta.headers {
        reply = reply.header(name, value);
    }
    if !meta.headers.contains_key("x-oss-storage-class") {
        reply = reply.header("x-oss-storage-class", "Standard");
    }
    reply
        .header("etag", format!("\"{}\"", meta.etag))
        .header("last-modified", http_date(meta.last_modified))
        .header("x-oss-object-type", meta.kind.as_str())
        .header("x-oss-hash-crc64ecma", meta.crc64.to_string())
        .header("accept-ranges", "bytes")
}

/// `If-Match` and its kin; `prefix` is `x-oss-copy-source-` when a copy's source is judged.
pub(super) fn check_conditions(cx: &Cx<'_>, meta: &Meta, prefix: &str) -> Result<(), OssError> {
    let header = |name: &str| cx.request.header(&format!("{prefix}{name}"));
    let time = |name: &str| header(name).and_then(parse_http_date);
    let names = |list: &str| {
        list.split(',')
            .map(|tag| tag.trim().trim_matches('"'))
            .any(|tag| tag == "*" || tag.eq_ignore_ascii_case(&meta.etag))
    };
    // HTTP dates have no fractions.
    let modified = Timestamp::from_second(meta.last_modified.as_second()).unwrap_or(meta.last_modified);
    let failed = |name: &str| {
        OssError::new(
            412,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
        )
        .detail("Condition", format!("{prefix}{name}"))
    };
    let unchanged = || {
        OssError::new(304, "NotModified", "The object has not been modified.")
            .header("etag", format!("\"{}\"", meta.etag))
            .header("last-modified", http_date(meta.last_modified))
    };
    if header("if-match").is_some_and(|list| !names(list)) {
        return Err(failed("if-match"));
    }
    if time("if-unmodified-since").is_some_and(|at| modified > at) {
        return Err(failed("if-unmodified-since"));
    }
    match header("if-none-match") {
        Some(list) if names(list) => return Err(unchanged()),
        Some(_) => return Ok(()),
        None => {}
    }
    if time("if-modified-since").is_some_and(|at| modified <= at) {
        return Err(unchanged());
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// From the first byte to the one after the last.
    Part(u64, u64),
    Unsatisfiable,
}

/// OSS passes over a range that does not lie within the object and sends the whole; `standard` asks for what
/// HTTP says instead. Of several ranges only the first counts.
fn parse_range(text: &str, size: u64, standard: bool) -> Range {
    let Some(spec) = text.strip_prefix("bytes=") else {
        return Range::Whole;
    };
    let first = spec.split(',').next().unwrap_or_default().trim();
    let Some((from, to)) = first.split_once('-') else {
        return Range::Whole;
    };
    let outside = if standard {
        Range::Unsatisfiable
    } else {
        Range::Whole
    };
    match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(start), _) if to.is_empty() => {
            if start < size {
                Range::Part(start, size)
            } else {
                outside
            }
        }
        (Ok(start), Ok(last)) if start <= last => {
            if last < size {
                Range::Part(start, last + 1)
            } else if standard && start < size {
                Range::Part(start, size)
            } else {
                outside
            }
        }
        (Err(_), Ok(length)) if from.is_empty() => {
            if length == 0 || size == 0 {
                outside
            } else if length <= size {
                Range::Part(size - length, size)
            } else if standard {
                Range::Part(0, size)
            } else {
                outside
            }
        }
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_documented_for_a_thousand_bytes() {
        for (text, lenient, standard) in [
            ("bytes=0-499", Range::Part(0, 500), Range::Part(0, 500)),
            ("bytes=500-999", Range::Part(500, 1000), Range::Part(500, 1000)),
            ("bytes=-500", Range::Part(500, 1000), Range::Part(500, 1000)),
            ("bytes=500-", Range::Part(500, 1000), Range::Part(500, 1000)),
            ("bytes=0-", Range::Part(0, 1000), Range::Part(0, 1000)),
            ("bytes=0-499,500-999", Range::Part(0, 500), Range::Part(0, 500)),
            ("byte=0-499", Range::Whole, Range::Whole),
            ("bytes=9-1", Range::Whole, Range::Whole),
            ("bytes=0-1000", Range::Whole, Range::Part(0, 1000)),
            ("bytes=1000-2000", Range::Whole, Range::Unsatisfiable),
            ("bytes=1000-", Range::Whole, Range::Unsatisfiable),
            ("bytes=-2000", Range::Whole, Range::Part(0, 1000)),
            ("bytes=-0", Range::Whole, Range::Unsatisfiable),
            ("bytes=a-b", Range::Whole, Range::Whole),
        ] {
            assert_eq!(parse_range(text, 1000, false), lenient, "{text}");
            assert_eq!(parse_range(text, 1000, true), standard, "{text} standard");
        }
        assert_eq!(parse_range("bytes=0-0", 0, true), Range::Unsatisfiable);
    }
}
