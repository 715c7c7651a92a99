//! What callers can ask for.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeFrom, RangeFull, RangeInclusive},
    time::Duration,
};

use crate::{Error, ErrorKind, Metadata, Result, content};

/// How an object is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// MIME type; by default guessed from the key's extension.
    pub content_type: Option<String>,
    /// `Content-Disposition` of downloads, printable ASCII; see [`attachment`](crate::attachment).
    pub content_disposition: Option<String>,
    /// The caller's own names (a-z, 0-9, `-`) and values (any text), 2 KiB in all.
    pub metadata: BTreeMap<String, String>,
    /// Fail with [`ErrorKind::AlreadyExists`] instead of replacing an object. Race-free on every adapter.
    pub create_only: bool,
}

impl PutOptions {
    /// Default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the MIME type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Downloads are saved under this file name, which may be in any language.
    #[must_use]
    pub fn download_name(mut self, name: &str) -> Self {
        self.content_disposition = Some(content::attachment(name));
        self
    }

    /// Adds one metadata value.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Never replace an existing object.
    #[must_use]
    pub fn create_only(mut self) -> Self {
        self.create_only = true;
        self
    }

    /// The options that would store the same metadata again.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            content_type: Some(metadata.content_type.clone()),
            content_disposition: metadata.content_disposition.clone(),
            metadata: metadata.user.clone(),
            create_only: false,
        }
    }

    pub(crate) fn check(&self, key: &str) -> Result<()> {
        if let Some(content_type) = &self.content_type {
            content::check_header_value("upload", key, "the content type", content_type)?;
        }
        if let Some(disposition) = &self.content_disposition {
            content::check_header_value("upload", key, "the content disposition", disposition)?;
        }
        content::check_user_metadata("upload", key, &self.metadata)
    }
}

/// Which bytes of an object are wanted. Positions count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From `start` up to, but not including, `end`; an `end` past the object is cut.
    Bounded {
        /// First byte.
        start: u64,
        /// One after the last byte.
        end: u64,
    },
    /// From this byte to the end.
    From(u64),
    /// The last so many bytes; more than there are means all.
    Last(u64),
}

impl ByteRange {
    /// The range within an object of `size` bytes, as `start..end`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`] if it holds no byte of the object.
    pub fn resolve(self, operation: &'static str, key: &str, size: u64) -> Result<Range<u64>> {
        let (start, end) = match self {
            Self::Bounded { start, end } => (start, end.min(size)),
            Self::From(start) => (start, size),
            Self::Last(count) => (size.saturating_sub(count), size),
        };
        if start < end {
            Ok(start..end)
        } else {
            let why = format!("the range holds none of the object's {size} bytes");
            Err(Error::new(ErrorKind::InvalidRange, operation, key, why))
        }
    }

    /// The value of an HTTP `Range` header.
    pub fn to_header(self) -> String {
        match self {
            Self::Bounded { start, end } => format!("bytes={start}-{}", end.saturating_sub(1)),
            Self::From(start) => format!("bytes={start}-"),
            Self::Last(count) => format!("bytes=-{count}"),
        }
    }

    pub(crate) fn check(self, key: &str) -> Result<()> {
        let empty = match self {
            Self::Bounded { start, end } => start >= end,
            Self::From(_) => false,
            Self::Last(count) => count == 0,
        };
        if empty {
            return Err(Error::new(
                ErrorKind::InvalidRange,
                "download",
                key,
                "the range is empty",
            ));
        }
        Ok(())
    }
}

/// How an object is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Only these bytes.
    pub range: Option<ByteRange>,
    /// Fail with [`ErrorKind::Changed`] unless the object still has this ETag.
    pub if_match: Option<String>,
}

impl GetOptions {
    /// The whole object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these bytes.
    #[must_use]
    pub fn range(mut self, range: ByteRange) -> Self {
        self.range = Some(range);
        self
    }

    /// Only if the object still has this ETag.
    #[must_use]
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.if_match = Some(etag.into());
        self
    }
}

impl From<ByteRange> for GetOptions {
    fn from(range: ByteRange) -> Self {
        Self::new().range(range)
    }
}

impl From<Range<u64>> for GetOptions {
    fn from(range: Range<u64>) -> Self {
        ByteRange::Bounded {
            start: range.start,
            end: range.end,
        }
        .into()
    }
}

impl From<RangeInclusive<u64>> for GetOptions {
    fn from(range: RangeInclusive<u64>) -> Self {
        ByteRange::Bounded {
            start: *range.start(),
            end: range.end().saturating_add(1),
        }
        .into()
    }
}

impl From<RangeFrom<u64>> for GetOptions {
    fn from(range: RangeFrom<u64>) -> Self {
        ByteRange::From(range.start).into()
    }
}

impl From<RangeFull> for GetOptions {
    fn from(_: RangeFull) -> Self {
        Self::new()
    }
}

impl From<()> for GetOptions {
    fn from((): ()) -> Self {
        Self::new()
    }
}

/// Which page of a listing is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// Start after this key (in byte order), or after the [`next`](crate::ListPage::next) of the page before.
    pub after: Option<String>,
    /// At most so many entries and folders together, 1 to 1,000. Default: 1,000.
    pub limit: usize,
    /// `Some('/')` lists one level: deeper keys are folded into [`folders`](crate::ListPage::folders). `/` is the
    /// only delimiter that every adapter understands.
    pub delimiter: Option<char>,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            after: None,
            limit: MAX_PAGE,
            delimiter: None,
        }
    }
}

/// Most entries a listing returns at once.
pub const MAX_PAGE: usize = 1000;

impl ListOptions {
    /// The first page of all keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continue after this key or position.
    #[must_use]
    pub fn after(mut self, after: impl Into<String>) -> Self {
        self.after = Some(after.into());
        self
    }

    /// At most so many entries.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// One level only.
    #[must_use]
    pub fn one_level(mut self) -> Self {
        self.delimiter = Some('/');
        self
    }

    pub(crate) fn check(&self, prefix: &str) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidInput, "list", prefix, why));
        if self.limit == 0 || self.limit > MAX_PAGE {
            return refuse("the limit is not between 1 and 1000");
        }
        if self.delimiter.is_some_and(|c| c != '/') {
            return refuse("`/` is the only delimiter that every adapter understands");
        }
        if self
            .after
            .as_ref()
            .is_some_and(|after| after.len() > crate::key::MAX_KEY_BYTES + 4)
        {
            return refuse("`after` is longer than a key can be");
        }
        Ok(())
    }
}

/// What a signed URL allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SignMethod {
    /// Download.
    #[default]
    Get,
    /// Ask for the metadata.
    Head,
    /// Upload (replace).
    Put,
}

impl SignMethod {
    /// The HTTP method.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
        }
    }
}

/// How a URL is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOptions {
    /// What it allows. Default: download.
    pub method: SignMethod,
    /// How long it is valid, 1 second to 7 days. Default: 1 hour.
    pub expires: Duration,
    /// For an upload: the `Content-Type` that the client must send; without it, the client must send none.
    pub content_type: Option<String>,
    /// For a download: save under this file name, in any language.
    pub download_name: Option<String>,
    /// For a download: answer with this content type instead of the stored one.
    pub response_content_type: Option<String>,
}

impl Default for SignOptions {
    fn default() -> Self {
        Self {
            method: SignMethod::Get,
            expires: Duration::from_secs(3600),
            content_type: None,
            download_name: None,
            response_content_type: None,
        }
    }
}

impl SignOptions {
    /// A download, valid for one hour.
    pub fn get() -> Self {
        Self::default()
    }

    /// An upload, valid for one hour, of a body with this content type.
    pub fn put(content_type: impl Into<String>) -> Self {
        Self {
            method: SignMethod::Put,
            content_type: Some(content_type.into()),
            ..Self::default()
        }
    }

    /// Valid this long.
    #[must_use]
    pub fn expires(mut self, expires: Duration) -> Self {
        self.expires = expires;
        self
    }

    /// Downloads are saved under this name.
    #[must_use]
    pub fn download_name(mut self, name: impl Into<String>) -> Self {
        self.download_name = Some(name.into());
        self
    }

    /// Downloads carry this content type.
    #[must_use]
    pub fn response_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.response_content_type = Some(content_type.into());
        self
    }

    /// The `Content-Disposition` that [`download_name`](Self::download_name) asks for.
    pub fn response_disposition(&self) -> Option<String> {
        self.download_name.as_deref().map(content::attachment)
    }

    pub(crate) fn check(&self, key: &str) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidInput, "sign url", key, why));
        if self.expires < Duration::from_secs(1) || self.expires > Duration::from_secs(7 * 24 * 3600) {
            return refuse("the time to live is not between 1 second and 7 days");
        }
        let put = self.method == SignMethod::Put;
        if self.content_type.is_some() && !put {
            return refuse("a content type can only be bound to an upload; use `response_content_type`");
        }
        if put && (self.download_name.is_some() || self.response_content_type.is_some()) {
            return refuse("an upload has no download name and no response content type");
        }
        for content_type in [&self.content_type, &self.response_content_type]
            .into_iter()
            .flatten()
        {
            content::check_header_value("sign url", key, "the content type", content_type)?;
        }
        if self
            .download_name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > 255)
        {
            return refuse("the download name is not 1 to 255 bytes long");
        }
        Ok(())
    }
}
