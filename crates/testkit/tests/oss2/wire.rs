//! Requests written by hand, so that they can be as wrong as they like.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zhuji_testkit::oss::OssServer;

/// An answer, as far as the tests look at it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }

    /// The text of an element in the document.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let from = text.find(&format!("<{name}>"))? + name.len() + 2;
        let to = text[from..].find(&format!("</{name}>"))? + from;
        Some(text[from..to].to_owned())
    }

    pub(crate) fn code(&self) -> String {
        self.element("Code").unwrap_or_default()
    }
}

/// Sends bytes and reads until the server closes.
pub(crate) async fn raw(server: &OssServer, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server.address())
        .await
        .expect("the server listens");
    stream.write_all(bytes).await.expect("the server reads");
    let mut all = Vec::new();
    // A connection that the server breaks gives what came until then.
    let _ = stream.read_to_end(&mut all).await;
    let split = all
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(all.len());
    let head = String::from_utf8_lossy(&all[..split]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head,
        body: all.get(split + 4..).unwrap_or_default().to_vec(),
    }
}

/// One request to `/demo/…`, signed with V4 unless told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// Percent-encoded, from the slash after the host on.
    pub(crate) path: String,
    /// Percent-encoded pairs.
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Replaces the `Authorization` header.
    pub(crate) authorization: Option<String>,
    /// Another key pair than the server's first.
    pub(crate) signer: Option<(String, String)>,
}

impl Call {
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
            authorization: None,
            signer: None,
        }
    }

    pub(crate) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn authorization(mut self, text: &str) -> Self {
        self.authorization = Some(text.to_owned());
        self
    }

    pub(crate) fn signed_as(mut self, id: &str, secret: &str) -> Self {
        self.signer = Some((id.to_owned(), secret.to_owned()));
        self
    }

    pub(crate) async fn send(self, server: &OssServer) -> Answer {
        let bytes = self.bytes(server);
        raw(server, &bytes).await
    }

    /// The request on the wire.
    pub(crate) fn bytes(mut self, server: &OssServer) -> Vec<u8> {
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        self.headers.push(("x-oss-date", stamp.clone()));
        self.headers
            .push(("x-oss-content-sha256", "UNSIGNED-PAYLOAD".to_owned()));
        let authorization = self
            .authorization
            .clone()
            .unwrap_or_else(|| self.sign(server, &stamp));
        let query: Vec<String> = self
            .query
            .iter()
            .map(|(n, v)| {
                if v.is_empty() {
                    (*n).to_owned()
                } else {
                    format!("{n}={v}")
                }
            })
            .collect();
        let target = if query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, query.join("&"))
        };
        let mut out = format!(
            "{} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: {authorization}\r\n",
            self.method,
            server.address()
        );
        let has = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("content-length") && !has("transfer-encoding") {
            out.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        [out.into_bytes(), self.body].concat()
    }

    /// Keys and values of these tests are given percent-encoded, so nothing is encoded here.
    fn sign(&self, server: &OssServer, stamp: &str) -> String {
        let mut query: Vec<String> = self
            .query
            .iter()
            .map(|(n, v)| {
                if v.is_empty() {
                    (*n).to_owned()
                } else {
                    format!("{n}={v}")
                }
            })
            .collect();
        query.sort();
        let mut signed: Vec<(String, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .filter(|(name, _)| name.starts_with("x-oss-") || name == "content-type" || name == "content-md5")
            .collect();
        signed.sort();
        let headers: String = signed
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n\nUNSIGNED-PAYLOAD",
            self.method,
            self.path,
            query.join("&")
        );
        let day = &stamp[..8];
        let scope = format!("{day}/{}/oss/aliyun_v4_request", server.region());
        let text = format!(
            "OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let (id, secret) = match &self.signer {
            Some((id, secret)) => (id.as_str(), secret.as_str()),
            None => (server.access_key_id(), server.access_key_secret()),
        };
        let mut key = format!("aliyun_v4{secret}").into_bytes();
        for part in [day, server.region(), "oss", "aliyun_v4_request", &text] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length is allowed");
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        format!(
            "OSS4-HMAC-SHA256 Credential={id}/{scope},Signature={}",
            hex::encode(key)
        )
    }
}
