//! DeleteObject and DeleteMultipleObjects. Deleting what is not there succeeds.

use super::{Cx, document, url_encoding, written};
use crate::oss::body::Content;
use crate::oss::error::OssError;
use crate::oss::reply::Reply;
use crate::oss::request::check_key;
use crate::oss::xml::XmlWriter;

/// Keys in one request at most.
const MOST_KEYS: usize = 1000;

pub(super) async fn one(cx: &Cx<'_>) -> Result<Reply, OssError> {
    cx.store
        .change_object(cx.bucket()?, cx.key()?, |_| Ok((None, ())))
        .await?;
    Ok(Reply::new(204))
}

pub(super) async fn many(cx: &Cx<'_>, body: &Content) -> Result<Reply, OssError> {
    if cx.request.header("content-md5").is_none() {
        return Err(
            OssError::new(400, "MissingArgument", "Missing Some Required Arguments.")
                .ec("0016-00000606")
                .detail("ArgumentName", "Content-MD5"),
        );
    }
    let bucket = cx.bucket()?;
    let encoded = url_encoding(cx)?;
    let (_, root) = document(body)?;
    if root.name != "Delete" {
        return Err(OssError::malformed_xml("the root element must be Delete"));
    }
    let quiet = match root.child_text("Quiet").map(str::trim) {
        None | Some("false" | "") => false,
        Some("true") => true,
        Some(_) => return Err(OssError::malformed_xml("Quiet must be true or false")),
    };
    let mut keys = Vec::new();
    for object in root.children_named("Object") {
        let key = object
            .child_text("Key")
            .filter(|key| !key.is_empty())
            .ok_or_else(|| OssError::malformed_xml("an Object without a Key").ec("0016-00000613"))?;
        check_key(key)?;
        keys.push(key);
    }
    if keys.is_empty() || keys.len() > MOST_KEYS {
        return Err(OssError::malformed_xml(format!(
            "1 to {MOST_KEYS} objects are expected, {} given",
            keys.len()
        )));
    }
    cx.store.with_bucket(bucket, |_| Ok(()))?;
    for key in &keys {
        cx.store.change_object(bucket, key, |_| Ok((None, ()))).await?;
    }
    if quiet {
        return Ok(Reply::new(200));
    }
    let mut xml = XmlWriter::document();
    xml.open("DeleteResult");
    if encoded {
        xml.text("EncodingType", "url");
    }
    for key in keys {
        xml.open("Deleted");
        xml.text("Key", &written(key, encoded));
        xml.close("Deleted");
    }
    xml.close("DeleteResult");
    Ok(Reply::new(200).xml(xml))
}
