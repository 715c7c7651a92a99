//! Copies within the bucket: the bytes never come here.

use std::sync::Arc;

use http::Method;

use super::{
    client::{Client, Request},
    get,
    multipart::Upload,
    parts::PartSizes,
    put::unexpected,
    xml::{self, EtagBody},
};
use crate::{Error, ErrorKind, Key, Metadata, PutOptions, Result, RetryPolicy, encode};

/// OSS copies no more than this in one request.
pub(super) const AT_ONCE: u64 = 1 << 30;
/// Of a larger object.
const PART: u64 = 256 << 20;
const PARTS_IN_FLIGHT: usize = 4;

/// The copy has what the source has, but for its access control, which is that of its own key.
pub(super) async fn copy(
    client: &Arc<Client>,
    from: &Key,
    to: &Key,
    retry: RetryPolicy,
    at_once: u64,
) -> Result<Metadata> {
    let source = get::head(client, from, "copy").await?;
    if source.size <= at_once {
        let request = client.with_access(from_source(
            Request::new("copy", Method::PUT, to),
            client,
            &source,
        )?)?;
        let (_, body) = client.send_and_read(&request).await?;
        let _: EtagBody = xml::parse(&body, "CopyObjectResult").map_err(|why| unexpected(&request, why))?;
    } else {
        in_parts(client, &source, to, retry, at_once.min(PART)).await?;
    }
    let target = get::head(client, to, "copy").await?;
    let differs = source
        .crc64
        .zip(target.crc64)
        .is_some_and(|(from, to)| from != to);
    if target.size != source.size || differs {
        let why =
            "the copy is not what the source is; somebody wrote to one of them meanwhile, or it was damaged";
        return Err(Error::new(ErrorKind::Integrity, "copy", from.as_str(), why));
    }
    Ok(target)
}

async fn in_parts(
    client: &Arc<Client>,
    source: &Metadata,
    to: &Key,
    retry: RetryPolicy,
    part_size: u64,
) -> Result<()> {
    let mut options = PutOptions::new().content_type(&source.content_type);
    options
        .content_disposition
        .clone_from(&source.content_disposition);
    options.metadata.clone_from(&source.user);
    let sizes = PartSizes::of_length(source.size, part_size, to)?;
    let mut upload = Upload::start(Arc::clone(client), to, &options, retry).await?;
    let copied = async {
        let (mut number, mut start) = (1, 0);
        while start < source.size {
            let size = sizes.next(start).min(source.size - start);
            let request = from_source(upload.part_request(number), client, source)?.header(
                "x-oss-copy-source-range",
                &format!("bytes={start}-{}", start + size - 1),
            )?;
            upload.add_copied(number, request, size, PARTS_IN_FLIGHT).await?;
            (number, start) = (number + 1, start + size);
        }
        upload.complete_as(&options, source.size, source.crc64).await
    }
    .await;
    if copied.is_err() {
        upload.abort().await;
    }
    copied.map(drop)
}

/// Only of the version that was looked at: parts of two versions would be an object that never was.
fn from_source(request: Request, client: &Client, source: &Metadata) -> Result<Request> {
    let mut request = request
        .header(
            "x-oss-copy-source",
            &format!("/{}/{}", client.bucket(), encode::path(&source.key)),
        )?
        .header("x-oss-copy-source-if-match", &format!("\"{}\"", source.etag))?;
    // If something is missing or changed, it is the source.
    request.operation = "copy";
    request.subject = source.key.clone();
    request.moved_by_server = source.size;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use zhuji_config::Secret;
    use zhuji_testkit::oss::{Fault, OssServer, OssServerOptions};

    use super::*;
    use crate::{OssAdapter, Storage, StorageConfig};

    async fn adapter(server: &OssServer) -> OssAdapter {
        let mut config = StorageConfig::default();
        config.oss.region = Some("cn-hangzhou".to_owned());
        config.oss.bucket = Some(server.bucket().to_owned());
        config.oss.endpoint = Some(server.endpoint().parse().unwrap());
        config.oss.access_key_id = Some(Secret::new(server.access_key_id()));
        config.oss.access_key_secret = Some(Secret::new(server.access_key_secret()));
        OssAdapter::new(&config).unwrap()
    }

    #[tokio::test]
    async fn what_is_too_large_for_one_request_is_copied_in_parts() {
        let server = OssServer::start(OssServerOptions::default()).await.unwrap();
        let adapter = adapter(&server).await;
        let (client, retry) = (Arc::clone(&adapter.client), adapter.retry);
        let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let options = PutOptions::new()
            .content_type("text/x-long")
            .metadata("who", "\u{7b51}\u{57fa}");
        let storage = Storage::new(adapter);
        storage
            .upload_with("a b+c", content.clone(), options)
            .await
            .unwrap();
        let key = |key: &str| Key::new(key).unwrap();
        server.fail_next(Fault::status(500, "InternalError").on_operation("UploadPartCopy"));
        let copied = copy(&client, &key("a b+c"), &key("d"), retry, 300 * 1024)
            .await
            .unwrap();
        assert_eq!(
            (copied.size, copied.content_type.as_str()),
            (1_000_000, "text/x-long")
        );
        assert_eq!(copied.user["who"], "\u{7b51}\u{57fa}");
        assert!(server.object_bytes("d").unwrap() == content);
        let parts = |server: &OssServer| {
            let requests = server.requests();
            requests
                .iter()
                .filter(|r| r.operation == "UploadPartCopy")
                .count()
        };
        assert_eq!((parts(&server), server.uploads_open()), (5, 0));
        // One that can't be ended leaves nothing.
        server.fail_next(Fault::status(403, "AccessDenied").on_operation("CompleteMultipartUpload"));
        let refused = copy(&client, &key("a b+c"), &key("e"), retry, 300 * 1024)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied);
        assert_eq!((server.object_bytes("e"), server.uploads_open()), (None, 0));
        let missing = copy(&client, &key("no"), &key("e"), retry, 10).await.unwrap_err();
        assert_eq!((missing.kind(), missing.subject()), (ErrorKind::NotFound, "no"));
    }
}
