//! Serving objects over HTTP, for the adapters whose URLs lead to this process. No framework: a request's head and a body
//! stream go in, an `http::Response` comes out.
//!
//! The rules are those of OSS, so that a page written against one works against the other: everything is private unless
//! its key is below a public prefix; a signed URL is good for one method, one key and one content type; ranges and
//! conditional requests work; a refusal says no more than it must.

mod body;
mod cors;
mod error;
mod range;
mod response;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method, Response, header, request::Parts};

pub use self::{body::ServeBody, error::ServeError};
use crate::{
    Body, BoxError, ByteRange, Download, Error, ErrorKind, GetOptions, Grant, Key, Metadata, PutOptions,
    Result, Storage, StorageAdapter, UrlSigner, guess_content_type,
};

/// Answers GET, HEAD and PUT requests for objects, and the OPTIONS of pages that the store's CORS rules allow. Cheap to
/// clone.
///
/// Mount it where the adapter's URLs lead (`/uploads/` below `BASE_URL`) and give it what follows, still
/// percent-encoded:
///
/// ```
/// # use bytes::Bytes;
/// # use zhuji_storage::{Error, Storage, serve::{ObjectServer, ServeBody}};
/// # async fn handle(server: &ObjectServer, request: http::Request<()>) -> http::Response<ServeBody> {
/// let (parts, ()) = request.into_parts();
/// let body = futures_util::stream::empty::<Result<Bytes, Error>>();
/// let key = parts.uri.path().strip_prefix("/uploads/").unwrap_or_default();
/// match server.serve(key, &parts, body).await {
///     Ok(response) => response,
///     Err(refusal) => refusal.into_response(),
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ObjectServer {
    adapter: Arc<dyn StorageAdapter>,
    signer: Arc<UrlSigner>,
    public_prefixes: Arc<[String]>,
    max_upload: u64,
}

impl ObjectServer {
    /// The largest upload unless `STORAGE_MAX_UPLOAD` or [`max_upload`](Self::max_upload) says otherwise: 5 GiB, as for one
    /// PUT to OSS.
    pub const DEFAULT_MAX_UPLOAD: u64 = 5 << 30;

    /// A server for all objects of the store behind this handle, whatever its scope.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the back end serves its objects itself, as OSS does: then there is nothing to mount.
    pub fn new(storage: &Storage) -> Result<Self> {
        let signer = storage.url_signer().ok_or_else(|| {
            let why = "this adapter's URLs lead to the back end itself";
            Error::new(ErrorKind::Unsupported, "serving", storage.adapter_name(), why)
        })?;
        Ok(Self {
            adapter: Arc::clone(storage.root()),
            signer,
            public_prefixes: storage.public_prefixes().into(),
            max_upload: storage.max_upload(),
        })
    }

    /// Refuses uploads of more bytes than this with 413.
    #[must_use]
    pub fn max_upload(mut self, bytes: u64) -> Self {
        self.max_upload = bytes;
        self
    }

    /// Answers one request. `raw_key` is the part of the path after the mount point, percent-encoded as it came; `body` is
    /// only read for an upload.
    ///
    /// # Errors
    /// A refusal with status, title, detail and headers; [`ServeError::into_response`] renders it as `application/problem+json`.
    pub async fn serve<S, E>(
        &self,
        raw_key: &str,
        parts: &Parts,
        body: S,
    ) -> Result<Response<ServeBody>, ServeError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let page = cors::find(&*self.adapter, parts).await;
        if parts.method == Method::OPTIONS {
            return cors::preflight(page.as_ref());
        }
        let mut answer = self.answer(raw_key, parts, body).await;
        if let Some(page) = &page {
            let headers = match &mut answer {
                Ok(response) => response.headers_mut(),
                Err(refusal) => refusal.headers_mut(),
            };
            cors::permit(page, headers);
        }
        answer
    }

    async fn answer<S, E>(
        &self,
        raw_key: &str,
        parts: &Parts,
        body: S,
    ) -> Result<Response<ServeBody>, ServeError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let key = percent_encoding::percent_decode_str(raw_key)
            .decode_utf8()
            .ok()
            .and_then(|text| Key::new(text).ok())
            .ok_or_else(ServeError::not_found)?;
        match parts.method {
            Method::GET | Method::HEAD => {
                let (grant, public) = self.admit(&key, parts)?;
                if parts.method == Method::GET {
                    return self.get(&key, parts, &grant, public).await;
                }
                let metadata = self.adapter.head(&key).await?;
                Ok(response::object(
                    &metadata,
                    None,
                    &grant,
                    public,
                    ServeBody::empty(),
                ))
            }
            Method::PUT => self.put(&key, parts, body).await,
            _ => Err(ServeError::method_not_allowed()),
        }
    }

    /// Whether this request may read the object, and whether everyone may.
    fn admit(&self, key: &Key, parts: &Parts) -> Result<(Grant, bool), ServeError> {
        let query = parts.uri.query().unwrap_or("");
        let public = self
            .public_prefixes
            .iter()
            .any(|prefix| key.starts_with(prefix.as_str()));
        // Response overrides need a signature even on a public object.
        if public && !query.contains("x-zhuji-signature=") {
            return Ok((Grant::default(), true));
        }
        let grant = self.signer.verify(parts.method.as_str(), key, query, None)?;
        Ok((grant, public))
    }

    async fn get(
        &self,
        key: &Key,
        parts: &Parts,
        grant: &Grant,
        public: bool,
    ) -> Result<Response<ServeBody>, ServeError> {
        let headers = &parts.headers;
        let mut range = text(headers, header::RANGE).and_then(range::parse);
        let conditional = headers.contains_key(header::IF_NONE_MATCH);
        if conditional || (range.is_some() && headers.contains_key(header::IF_RANGE)) {
            let metadata = self.adapter.head(key).await?;
            if conditional && none_match(headers, &metadata) {
                return Ok(response::not_modified(&metadata, public));
            }
            if text(headers, header::IF_RANGE).is_some_and(|tag| tag.trim_matches('"') != metadata.etag) {
                range = None;
            }
        }
        let opened = self.open(key, range).await;
        let download = match opened {
            Err(error) if error.kind() == ErrorKind::InvalidRange => {
                let size = self.adapter.head(key).await?.size;
                return Err(ServeError::range_not_satisfiable(size));
            }
            other => other?,
        };
        let (length, part) = (download.length(), download.range);
        let body = ServeBody::stream(download.stream, length);
        Ok(response::object(&download.metadata, part, grant, public, body))
    }

    async fn open(&self, key: &Key, range: Option<ByteRange>) -> Result<Download> {
        self.adapter
            .get(
                key,
                &GetOptions {
                    range,
                    if_match: None,
                },
            )
            .await
    }

    async fn put<S, E>(&self, key: &Key, parts: &Parts, body: S) -> Result<Response<ServeBody>, ServeError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let content_type = text(&parts.headers, header::CONTENT_TYPE);
        self.signer
            .verify("PUT", key, parts.uri.query().unwrap_or(""), content_type)?;
        let declared = text(&parts.headers, header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if declared.is_some_and(|length| length > self.max_upload) {
            return Err(ServeError::too_large(self.max_upload));
        }
        let content_type = content_type.unwrap_or_else(|| guess_content_type(key));
        let options = PutOptions::new().content_type(content_type);
        options.check(key)?;
        let exceeded = Arc::new(AtomicBool::new(false));
        let limited = limit(body, self.max_upload, Arc::clone(&exceeded));
        let body = match declared {
            Some(length) => Body::stream(limited).with_length(length),
            None => Body::stream(limited),
        };
        match self.adapter.put(key, body, &options).await {
            Ok(stored) => Ok(response::stored(&stored)),
            Err(_) if exceeded.load(Ordering::Relaxed) => Err(ServeError::too_large(self.max_upload)),
            Err(error) => Err(ServeError::from_storage(&error)),
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn none_match(headers: &HeaderMap, metadata: &Metadata) -> bool {
    let tags = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    tags.flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == metadata.etag)
}

fn limit<S, E>(
    body: S,
    max: u64,
    exceeded: Arc<AtomicBool>,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    let mut seen = 0_u64;
    body.map(move |chunk| {
        let chunk = chunk.map_err(Into::into)?;
        seen += chunk.len() as u64;
        if seen > max {
            exceeded.store(true, Ordering::Relaxed);
            return Err("the upload is larger than allowed".into());
        }
        Ok(chunk)
    })
}
