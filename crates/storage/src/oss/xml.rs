//! The XML that OSS speaks. Unknown elements are ignored and missing ones are empty, because answers differ between versions
//! and stand-ins.

use percent_encoding::percent_decode_str;
use quick_xml::escape::escape;
use serde::{Deserialize, de::DeserializeOwned};

/// `<Error>`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ErrorBody {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) request_id: String,
    pub(super) server_time: Option<String>,
    pub(super) endpoint: Option<String>,
    #[serde(rename = "EC")]
    pub(super) ec: Option<String>,
    /// What the server signed, when it got another signature.
    pub(super) canonical_request: Option<String>,
}

/// `<ListBucketResult>` of ListObjectsV2.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ListBody {
    pub(super) is_truncated: bool,
    pub(super) encoding_type: Option<String>,
    pub(super) contents: Vec<ListedObject>,
    pub(super) common_prefixes: Vec<ListedPrefix>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ListedObject {
    pub(super) key: String,
    pub(super) last_modified: String,
    #[serde(rename = "ETag")]
    pub(super) etag: String,
    pub(super) size: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ListedPrefix {
    pub(super) prefix: String,
}

/// `<InitiateMultipartUploadResult>`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InitiateBody {
    pub(super) upload_id: String,
}

/// `<CompleteMultipartUploadResult>` and `<CopyObjectResult>`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct EtagBody {
    #[serde(rename = "ETag")]
    pub(super) etag: String,
}

/// `<ListPartsResult>`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PartsBody {
    pub(super) is_truncated: bool,
    pub(super) part: Vec<ListedPart>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ListedPart {
    pub(super) part_number: u32,
    #[serde(rename = "ETag")]
    pub(super) etag: String,
    pub(super) size: u64,
    #[serde(rename = "HashCrc64ecma")]
    pub(super) crc64: Option<u64>,
}

/// `<DeleteResult>`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct DeleteBody {
    pub(super) encoding_type: Option<String>,
    pub(super) deleted: Vec<DeletedKey>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct DeletedKey {
    pub(super) key: String,
}

/// Reads an answer whose root element is `root`.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], root: &str) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    if root_name(text) != Some(root) {
        return Err(format!("the answer is not a <{root}>"));
    }
    // A cut-off document may still hold a complete first half.
    if !text.trim_end().ends_with('>') || !text.contains(&format!("</{root}>")) {
        return Err(format!("the answer ends before </{root}>"));
    }
    quick_xml::de::from_str(text).map_err(|error| format!("the answer can't be read: {error}"))
}

fn root_name(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while rest.starts_with("<?") || rest.starts_with("<!") {
        rest = rest.split_once('>')?.1.trim_start();
    }
    let rest = rest.strip_prefix('<')?;
    rest.split(|c: char| c == '>' || c == '/' || c.is_whitespace())
        .next()
}

/// A key of an answer, decoded if `encoding-type=url` was honoured.
pub(super) fn decode_key(key: &str, encoding: Option<&str>) -> String {
    if encoding != Some("url") {
        return key.to_owned();
    }
    // OSS's encoder is the one of forms: it may write a space as `+`, and a plus sign never as itself.
    let spaces = key.replace('+', " ");
    percent_decode_str(&spaces).decode_utf8_lossy().into_owned()
}

pub(super) fn complete_body(parts: &[(u32, String)]) -> String {
    let mut text = String::from("<CompleteMultipartUpload>");
    for (number, etag) in parts {
        text.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>\"{}\"</ETag></Part>",
            escape(etag.as_str())
        ));
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

pub(super) fn delete_body<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("<Delete><Quiet>false</Quiet>");
    for key in keys {
        text.push_str(&format!("<Object><Key>{}</Key></Object>", escape(key)));
    }
    text.push_str("</Delete>");
    text
}

/// Whether XML 1.0 can carry every character.
pub(super) fn can_carry(key: &str) -> bool {
    !key.chars().any(|c| matches!(c, '\u{fffe}' | '\u{ffff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_with_and_without_the_rare_elements() {
        let full = br#"<?xml version="1.0" encoding="UTF-8"?>
            <Error><Code>NoSuchKey</Code><Message>gone</Message><RequestId>5F</RequestId><HostId>h</HostId>
            <Key>a &amp; b</Key><EC>0026-00000001</EC><RecommendDoc>https://x</RecommendDoc></Error>"#;
        let error: ErrorBody = parse(full, "Error").unwrap();
        assert_eq!(
            (error.code.as_str(), error.ec.as_deref()),
            ("NoSuchKey", Some("0026-00000001"))
        );
        let short: ErrorBody = parse(b"<Error><Code>X</Code></Error>", "Error").unwrap();
        assert_eq!(short.code, "X");
    }

    #[test]
    fn what_is_not_whole_or_not_ours_is_refused() {
        for bad in [
            &b""[..],
            b"<Error><Code>NoSuchKey</Co",
            b"<Error><Code>NoSuchKey</Code>",
            b"<html><body>502</body></html>",
            b"<Error></Error><",
            b"\xff\xfe",
            b"{}",
        ] {
            assert!(
                parse::<ErrorBody>(bad, "Error").is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn listed_keys_are_decoded() {
        let body =
            br#"<?xml version="1.0"?><ListBucketResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">
            <Name>b</Name><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
            <Contents><Key>a%2Fb%2B%E4%B8%AD+x%20y</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>
            <ETag>"AB"</ETag><Size>5</Size></Contents><CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes>
            </ListBucketResult>"#;
        let list: ListBody = parse(body, "ListBucketResult").unwrap();
        let encoding = list.encoding_type.as_deref();
        assert_eq!(decode_key(&list.contents[0].key, encoding), "a/b+中 x y");
        assert_eq!(decode_key(&list.common_prefixes[0].prefix, encoding), "d/");
        assert_eq!(decode_key("a%2F+b", None), "a%2F+b");
    }

    #[test]
    fn keys_are_escaped() {
        assert!(delete_body(["a<&>\"'b"].into_iter()).contains("a&lt;&amp;&gt;"));
    }
}
