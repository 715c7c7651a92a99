//! ListObjects, version 1 and version 2.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Cx, number, url_encoding, written};
use crate::oss::clock::iso_millis;
use crate::oss::error::OssError;
use crate::oss::reply::Reply;
use crate::oss::store::Object;
use crate::oss::xml::XmlWriter;

/// Most names in one page.
const MOST: usize = 1000;

/// One page: objects and rolled-up prefixes in one order.
struct Page {
    entries: Vec<Entry>,
    truncated: bool,
}

enum Entry {
    Object(String, Arc<Object>),
    Prefix(String),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Object(key, _) => key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

fn page(
    objects: &BTreeMap<String, Arc<Object>>,
    prefix: &str,
    delimiter: &str,
    after: &str,
    most: usize,
) -> Page {
    let mut page = Page {
        entries: Vec::new(),
        truncated: false,
    };
    let from = if after < prefix {
        Bound::Included(prefix)
    } else {
        Bound::Excluded(after)
    };
    // Everything under a rolled-up prefix is told by it, also when the last page ended with it.
    let mut told = (!delimiter.is_empty() && after.ends_with(delimiter)).then(|| after.to_owned());
    for (key, object) in objects.range::<str, _>((from, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(prefix) else {
            break;
        };
        if told.as_deref().is_some_and(|told| key.starts_with(told)) {
            continue;
        }
        if page.entries.len() == most {
            page.truncated = true;
            break;
        }
        match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => {
                let rolled = &key[..prefix.len() + at + delimiter.len()];
                told = Some(rolled.to_owned());
                page.entries.push(Entry::Prefix(rolled.to_owned()));
            }
            None => page.entries.push(Entry::Object(key.clone(), Arc::clone(object))),
        }
    }
    page
}

pub(super) fn v1(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let marker = cx.query("marker").unwrap_or_default();
    let listing = Listing::of(cx, marker)?;
    let mut xml = XmlWriter::document();
    xml.open("ListBucketResult");
    listing.open(cx, &mut xml)?;
    xml.text("Marker", &written(marker, listing.encoded));
    if let (true, Some(last)) = (listing.page.truncated, listing.page.entries.last()) {
        xml.text("NextMarker", &written(last.name(), listing.encoded));
    }
    listing.entries(&mut xml, true);
    xml.close("ListBucketResult");
    Ok(Reply::new(200).xml(xml))
}

pub(super) fn v2(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let start_after = cx.query("start-after").unwrap_or_default();
    let token = cx.query("continuation-token").filter(|token| !token.is_empty());
    let after = match token {
        Some(token) => read_token(token)?,
        None => start_after.to_owned(),
    };
    let listing = Listing::of(cx, &after)?;
    let owner = cx.query("fetch-owner") == Some("true");
    let mut xml = XmlWriter::document();
    xml.open("ListBucketResult");
    listing.open(cx, &mut xml)?;
    xml.text("StartAfter", &written(start_after, listing.encoded));
    if let Some(token) = token {
        xml.text("ContinuationToken", token);
    }
    if let (true, Some(last)) = (listing.page.truncated, listing.page.entries.last()) {
        xml.text("NextContinuationToken", &token_of(last.name()));
    }
    xml.text("KeyCount", &listing.page.entries.len().to_string());
    listing.entries(&mut xml, owner);
    xml.close("ListBucketResult");
    Ok(Reply::new(200).xml(xml))
}

/// Opaque, and made so that clients have to encode it: Base64 with its `+`, `/` and `=`.
fn token_of(name: &str) -> String {
    STANDARD.encode(format!(">{name}\u{3ff}\u{3f}"))
}

fn read_token(token: &str) -> Result<String, OssError> {
    STANDARD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| {
            text.strip_prefix('>')?
                .strip_suffix("\u{3ff}\u{3f}")
                .map(str::to_owned)
        })
        .ok_or_else(|| {
            OssError::invalid_argument("The continuation token is invalid.", "continuation-token", token)
        })
}

struct Listing {
    page: Page,
    encoded: bool,
    most: usize,
}

impl Listing {
    fn of(cx: &Cx<'_>, after: &str) -> Result<Self, OssError> {
        let encoded = url_encoding(cx)?;
        let most = number(cx, "max-keys", 100, 1..=MOST)?;
        let prefix = cx.query("prefix").unwrap_or_default();
        let delimiter = cx.query("delimiter").unwrap_or_default();
        for (name, value) in [("prefix", prefix), ("delimiter", delimiter), ("marker", after)] {
            if value.len() > 1023 {
                return Err(OssError::invalid_argument(
                    format!("The {name} is longer than 1023 bytes."),
                    name,
                    value,
                ));
            }
        }
        let page = cx.store.with_bucket(cx.bucket()?, |b| {
            Ok(page(&b.objects, prefix, delimiter, after, most))
        })?;
        Ok(Self { page, encoded, most })
    }

    fn open(&self, cx: &Cx<'_>, xml: &mut XmlWriter) -> Result<(), OssError> {
        xml.text("Name", cx.bucket()?);
        xml.text(
            "Prefix",
            &written(cx.query("prefix").unwrap_or_default(), self.encoded),
        );
        xml.text("MaxKeys", &self.most.to_string());
        xml.text(
            "Delimiter",
            &written(cx.query("delimiter").unwrap_or_default(), self.encoded),
        );
        if self.encoded {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", if self.page.truncated { "true" } else { "false" });
        Ok(())
    }

    fn entries(&self, xml: &mut XmlWriter, owner: bool) {
        for entry in &self.page.entries {
            let Entry::Object(key, object) = entry else {
                continue;
            };
            xml.open("Contents");
            xml.text("Key", &written(key, self.encoded));
            xml.text("LastModified", &iso_millis(object.meta.last_modified));
            xml.text("ETag", &format!("\"{}\"", object.meta.etag));
            xml.text("Type", object.meta.kind.as_str());
            xml.text("Size", &object.meta.size.to_string());
            xml.text(
                "StorageClass",
                object
                    .meta
                    .headers
                    .get("x-oss-storage-class")
                    .map_or("Standard", String::as_str),
            );
            if owner {
                super::bucket::owner(xml);
            }
            xml.close("Contents");
        }
        for entry in &self.page.entries {
            let Entry::Prefix(prefix) = entry else { continue };
            xml.open("CommonPrefixes");
            xml.text("Prefix", &written(prefix, self.encoded));
            xml.close("CommonPrefixes");
        }
    }
}
