use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

const BOUNDARY: &str = "----------------a-boundary-of-the-benchmark";
/// Files larger than this repeat themselves, so that eight of 256 MiB cost the load generator next to nothing.
const LARGEST_BLOCK: usize = 8 << 20;

/// A file to upload: it begins like a PDF, and its bytes are as random as those of a compressed one.
#[derive(Clone, Debug)]
pub(crate) struct Pdf {
    size: usize,
    block: Bytes,
}

impl Pdf {
    pub(crate) fn new(size: usize) -> Self {
        let mut block = vec![0; size.min(LARGEST_BLOCK)];
        fastrand::Rng::with_seed(7).fill(&mut block);
        let start = b"%PDF-1.7\n";
        let length = start.len().min(block.len());
        block[..length].copy_from_slice(&start[..length]);
        Self {
            size,
            block: block.into(),
        }
    }

    /// The request's head and the beginning of its body, up to where the file's bytes begin.
    pub(super) fn head(&self, path: &str) -> Vec<u8> {
        head(path, "benchmark.pdf", "application/pdf", self.size).into_bytes()
    }

    /// Writes a whole request; `head` comes from [`Self::head`].
    pub(super) async fn write(&self, head: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let end = end();
        let mut left = self.size;
        let mut before = head;
        loop {
            let length = left.min(self.block.len());
            left -= length;
            let after = if left == 0 { end.as_bytes() } else { b"" };
            to.write_all_buf(&mut before.chain(&self.block[..length]).chain(after))
                .await?;
            before = b"";
            if left == 0 {
                return to.flush().await;
            }
        }
    }
}

/// A whole request with one small file.
pub(crate) fn multipart(path: &str, file_name: &str, content: &[u8]) -> Vec<u8> {
    let mut request = head(path, file_name, "application/octet-stream", content.len()).into_bytes();
    request.extend_from_slice(content);
    request.extend_from_slice(end().as_bytes());
    request
}

fn head(path: &str, file_name: &str, content_type: &str, size: usize) -> String {
    let part = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\n\
         content-type: {content_type}\r\n\r\n"
    );
    let length = part.len() + size + end().len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\n\
         content-length: {length}\r\n\r\n{part}"
    )
}

fn end() -> String {
    format!("\r\n--{BOUNDARY}--\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(pdf: &Pdf) -> (usize, Vec<u8>) {
        let mut request = Vec::new();
        pdf.write(&pdf.head("/pdf/1"), &mut request)
            .await
            .expect("memory takes all");
        let start = request
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a head")
            + 4;
        let head = String::from_utf8(request[..start].to_vec()).expect("text");
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next());
        (
            length.expect("a length").parse().expect("a number"),
            request.split_off(start),
        )
    }

    #[tokio::test]
    async fn the_announced_length_is_the_one_that_is_sent() {
        for size in [64 << 10, LARGEST_BLOCK, LARGEST_BLOCK + 1, 3 * LARGEST_BLOCK - 7] {
            let (announced, body) = written(&Pdf::new(size)).await;
            assert_eq!(announced, body.len());
            assert!(body.ends_with(end().as_bytes()));
            let head = "\r\n\r\n%PDF-1.7\n";
            assert!(body.windows(head.len()).any(|window| window == head.as_bytes()));
        }
    }
}
