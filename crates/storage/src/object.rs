//! What operations answer.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

use crate::{ByteStream, SignMethod};

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The key, as the handle that was asked sees it (without the prefix of a scoped handle).
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Opaque version of the content, without quotes. Stable until the object is replaced.
    pub etag: String,
    /// CRC-64/XZ of the content, if the back end keeps it.
    pub crc64: Option<u64>,
    /// MIME type.
    pub content_type: String,
    /// `Content-Disposition` that was stored with the object.
    pub content_disposition: Option<String>,
    /// When it was stored.
    pub last_modified: Timestamp,
    /// The caller's own names and values.
    pub user: BTreeMap<String, String>,
}

impl Metadata {
    /// Metadata with the fields that every adapter knows; the others are set afterwards.
    pub fn new(key: impl Into<String>, size: u64, etag: impl Into<String>, last_modified: Timestamp) -> Self {
        let key = key.into();
        Self {
            content_type: crate::guess_content_type(&key).to_owned(),
            key,
            size,
            etag: etag.into(),
            crc64: None,
            content_disposition: None,
            last_modified,
            user: BTreeMap::new(),
        }
    }
}

/// An object that has been stored: the back end has acknowledged it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The key, as the handle sees it.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Opaque version of the content, without quotes.
    pub etag: String,
    /// CRC-64/XZ of the content.
    pub crc64: Option<u64>,
    /// The address without a signature; readable by everyone only under a public prefix.
    pub url: String,
}

impl Stored {
    /// An acknowledgement.
    pub fn new(
        key: impl Into<String>,
        size: u64,
        etag: impl Into<String>,
        crc64: Option<u64>,
        url: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            size,
            etag: etag.into(),
            crc64,
            url: url.into(),
        }
    }
}

/// The bytes a download carries, when only a part was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte.
    pub start: u64,
    /// One after the last byte.
    pub end: u64,
    /// Size of the whole object.
    pub total: u64,
}

/// An object on its way to the caller.
///
/// Length (and, where the back end keeps one, CRC-64) of a whole object are compared at the end of the stream: a
/// truncated or damaged object ends in an [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) error.
#[derive(Debug)]
#[non_exhaustive]
pub struct Download {
    /// What is known of the whole object.
    pub metadata: Metadata,
    /// The part in this download; `None` means all.
    pub range: Option<ContentRange>,
    /// The bytes.
    pub stream: ByteStream,
}

impl Download {
    /// A download.
    pub fn new(metadata: Metadata, range: Option<ContentRange>, stream: ByteStream) -> Self {
        Self {
            metadata,
            range,
            stream,
        }
    }

    /// How many bytes the stream will yield.
    pub fn length(&self) -> u64 {
        self.range
            .map_or(self.metadata.size, |range| range.end - range.start)
    }
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key, as the handle sees it.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Opaque version of the content, without quotes.
    pub etag: String,
    /// When it was stored.
    pub last_modified: Timestamp,
}

impl Entry {
    /// An entry.
    pub fn new(key: impl Into<String>, size: u64, etag: impl Into<String>, last_modified: Timestamp) -> Self {
        Self {
            key: key.into(),
            size,
            etag: etag.into(),
            last_modified,
        }
    }
}

/// One page of a listing, in byte order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects.
    pub entries: Vec<Entry>,
    /// With a delimiter: the folders of this level, each ending in `/`.
    pub folders: Vec<String>,
    /// Give this as [`after`](crate::ListOptions::after) to get the next page; `None` on the last page.
    pub next: Option<String>,
}

/// The position after a folder: behind every key in it, before every other.
pub(crate) fn after_folder(folder: &str) -> String {
    format!("{folder}\u{10FFFF}")
}

/// A URL that lets whoever holds it do one thing until it expires. `Debug` hides the query.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedUrl {
    url: String,
    /// The method it is good for.
    pub method: SignMethod,
    /// Headers that the client must send exactly so.
    pub headers: Vec<(String, String)>,
    /// When it stops working.
    pub expires_at: Timestamp,
}

impl SignedUrl {
    /// A signed URL.
    pub fn new(
        url: impl Into<String>,
        method: SignMethod,
        headers: Vec<(String, String)>,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            url: url.into(),
            method,
            headers,
            expires_at,
        }
    }

    /// The URL. It is a bearer secret until it expires: don't log it.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The URL as a string.
    pub fn into_string(self) -> String {
        self.url
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, _query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        f.debug_struct("SignedUrl")
            .field("method", &self.method)
            .field("url", &format_args!("{address}?***"))
            .field("headers", &self.headers)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}
