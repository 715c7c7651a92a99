//! OSS's own refusals: status, code, message, `EC`, and the extra elements that some codes carry.

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use super::xml::XmlWriter;

/// One refusal, before it is bound to a request (which adds `RequestId` and `HostId`).
#[derive(Debug, Clone)]
pub(crate) struct OssError {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    /// The documented error code page, where one is known. OSS itself leaves it out of some answers, so
    /// clients must not need it.
    pub(crate) ec: Option<&'static str>,
    /// Extra elements such as `StringToSign`, in the order they are written.
    pub(crate) details: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl OssError {
    pub(crate) fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: code.into(),
            message: message.into(),
            ec: None,
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn ec(mut self, ec: &'static str) -> Self {
        self.ec = Some(ec);
        self
    }

    pub(crate) fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    pub(crate) fn invalid_argument(message: impl Into<String>, name: &str, value: &str) -> Self {
        Self::new(400, "InvalidArgument", message)
            .detail("ArgumentName", name)
            .detail("ArgumentValue", value)
    }

    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(403, "AccessDenied", message)
    }

    pub(crate) fn no_such_bucket(bucket: &str) -> Self {
        Self::new(404, "NoSuchBucket", "The specified bucket does not exist.")
            .ec("0015-00000101")
            .detail("BucketName", bucket)
    }

    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::new(404, "NoSuchKey", "The specified key does not exist.")
            .ec("0026-00000001")
            .detail("Key", key)
    }

    pub(crate) fn no_such_upload(upload_id: &str) -> Self {
        Self::new(
            404,
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
             aborted or completed.",
        )
        .ec("0042-00000311")
        .detail("UploadId", upload_id)
    }

    pub(crate) fn malformed_xml(why: impl std::fmt::Display) -> Self {
        Self::new(
            400,
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema.",
        )
        .detail("ErrorDetail", why.to_string())
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            501,
            "NotImplemented",
            "A header or a query you provided implies functionality that is not implemented.",
        )
        .detail("Header", what)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// The body as OSS writes it.
    pub(crate) fn to_xml(&self, request_id: &str, host: &str) -> String {
        let mut xml = XmlWriter::document();
        xml.open("Error");
        xml.text("Code", &self.code);
        xml.text("Message", &self.message);
        xml.text("RequestId", request_id);
        xml.text("HostId", host);
        for (name, value) in &self.details {
            xml.text(name, value);
        }
        if let Some(ec) = self.ec {
            xml.text("EC", ec);
            xml.text(
                "RecommendDoc",
                &format!("https://api.aliyun.com/troubleshoot?q={ec}"),
            );
        }
        xml.close("Error");
        xml.finish()
    }
}
