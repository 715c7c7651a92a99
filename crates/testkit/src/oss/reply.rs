//! An answer on its way out.

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use super::body::ReplyBody;
use super::error::OssError;
use super::xml::XmlWriter;

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: ReplyBody,
    /// The `Content-Length` of an answer to HEAD.
    pub(crate) length_of_head: Option<u64>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: Vec::new(),
            body: ReplyBody::new(Vec::new()),
            length_of_head: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_ref()),
        ) {
            self.headers.retain(|(n, _)| *n != name);
            self.headers.push((name, value));
        }
        self
    }

    /// The version that a write has made, in a bucket with versioning.
    pub(crate) fn version(self, id: Option<String>) -> Self {
        match id {
            Some(id) => self.header("x-oss-version-id", id),
            None => self,
        }
    }

    pub(crate) fn chunks(mut self, chunks: Vec<Bytes>) -> Self {
        self.body = ReplyBody::new(chunks);
        self
    }

    pub(crate) fn xml(self, xml: XmlWriter) -> Self {
        self.document(xml.finish())
    }

    pub(crate) fn document(self, text: String) -> Self {
        self.header("content-type", "application/xml")
            .chunks(vec![Bytes::from(text)])
    }

    /// The answer to a refused request. HEAD has no body, so the document goes into a header.
    pub(crate) fn refusal(error: &OssError, request_id: &str, host: &str, head: bool) -> Self {
        let document = error.to_xml(request_id, host);
        let mut reply = Self::new(error.status.as_u16());
        reply.headers.extend(error.headers.iter().cloned());
        if let Some(ec) = error.ec {
            reply = reply.header("x-oss-ec", ec);
        }
        if error.status == StatusCode::NOT_MODIFIED {
            return reply;
        }
        if head {
            let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, document);
            // A header has to stay readable for small parsers; OSS's own documents are short.
            return if encoded.len() <= 4096 {
                reply.header("x-oss-err", encoded)
            } else {
                reply
            };
        }
        reply.document(document)
    }
}
