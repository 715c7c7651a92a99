use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Pdf;

/// No answer comes so late that it would count.
const DEADLINE: Duration = Duration::from_secs(120);

/// One kept-alive connection with one request in flight.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer with its whole body, valid until the next request.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends a request that is complete as it stands.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    /// Uploads a file as `multipart/form-data`.
    pub(crate) async fn upload(&mut self, path: &str, pdf: &Pdf) -> anyhow::Result<Answer<'_>> {
        let head = pdf.head(path);
        let written = tokio::time::timeout(DEADLINE, pdf.write(&head, &mut self.stream)).await?;
        match (written, self.answer().await) {
            (Ok(()), answer) => answer,
            // A server that refuses stops reading; what it says is worth more than the broken pipe.
            (Err(_), Ok(answer)) => Ok(answer),
            (Err(error), Err(_)) => Err(error.into()),
        }
    }

    async fn answer(&mut self) -> anyhow::Result<Answer<'_>> {
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        while self.buffer.len() < head.body_start + head.body_length {
            self.read().await?;
        }
        let body = &self.buffer[head.body_start..head.body_start + head.body_length];
        Ok(Answer {
            status: head.status,
            body,
        })
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed in place of an answer");
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    body_start: usize,
    body_length: usize,
}

impl Head {
    /// Nothing while it is not complete.
    fn parse(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[..end]).context("the answer's head is not text")?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .context("the answer is not HTTP/1.1")?;
        let mut body_length = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                body_length = Some(value.trim().parse().context("content-length is not a number")?);
            }
        }
        // Both services know the length of all they answer here.
        let body_length = body_length.context("the answer has no content-length")?;
        Ok(Some(Self {
            status,
            body_start: end + 4,
            body_length,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\nok";
        for cut in 0..whole.len() - 2 {
            assert_eq!(Head::parse(&whole[..cut]).expect("it is HTTP"), None);
        }
        let head = Head::parse(whole).expect("it is HTTP").expect("it is complete");
        assert_eq!(
            head,
            Head {
                status: 200,
                body_start: whole.len() - 2,
                body_length: 2
            }
        );
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
        assert!(Head::parse(b"SSH-2.0-x\r\n\r\n").is_err());
    }
}
