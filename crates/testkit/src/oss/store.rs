//! What the server holds: buckets, objects, unfinished uploads. In memory, on disk as well when asked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::body::Content;
use super::disk::Disk;
use super::error::OssError;

/// How an object came to be; OSS says so in `x-oss-object-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OssObjectType {
    /// By one PutObject or CopyObject.
    Normal,
    /// By a multipart upload.
    Multipart,
    /// By AppendObject.
    Appendable,
}

impl OssObjectType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Multipart => "Multipart",
            Self::Appendable => "Appendable",
        }
    }
}

/// Everything about an object but its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) size: u64,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) crc64: u64,
    pub(crate) kind: OssObjectType,
    /// `content-type` and its kin and `x-oss-meta-*`, lower case, values as sent.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) last_modified: Timestamp,
    /// `default` means that the bucket decides.
    pub(crate) acl: String,
    /// Documents such as `tagging`, as they were put.
    pub(crate) documents: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) meta: Meta,
    pub(crate) chunks: Vec<Bytes>,
}

/// One part of an unfinished upload.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) content: Content,
    pub(crate) uploaded: Timestamp,
}

/// An unfinished multipart upload. Kept in memory only.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) acl: String,
    pub(crate) started: Timestamp,
    pub(crate) parts: BTreeMap<u32, Part>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BucketMeta {
    pub(crate) created: Timestamp,
    pub(crate) acl: String,
    /// `cors`, `lifecycle`, `versioning` …, as they were put.
    pub(crate) documents: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) meta: BucketMeta,
    pub(crate) objects: BTreeMap<String, Arc<Object>>,
    pub(crate) uploads: BTreeMap<String, Upload>,
}

impl Bucket {
    pub(crate) fn new(meta: BucketMeta) -> Self {
        Self {
            meta,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
        }
    }
}

/// All buckets.
pub(crate) type Buckets = BTreeMap<String, Bucket>;

/// The store. Reads lock for a moment; writes that must survive a restart go one after the other.
#[derive(Debug)]
pub(crate) struct Store {
    buckets: Mutex<Buckets>,
    disk: Option<Disk>,
    /// Keeps the order on disk the order in memory.
    writing: tokio::sync::Mutex<()>,
}

impl Store {
    pub(crate) fn new(buckets: Buckets, disk: Option<Disk>) -> Self {
        Self {
            buckets: Mutex::new(buckets),
            disk,
            writing: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks into a bucket.
    pub(crate) fn with_bucket<T>(
        &self,
        bucket: &str,
        look: impl FnOnce(&mut Bucket) -> Result<T, OssError>,
    ) -> Result<T, OssError> {
        let mut buckets = self.lock();
        look(
            buckets
                .get_mut(bucket)
                .ok_or_else(|| OssError::no_such_bucket(bucket))?,
        )
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<Arc<Object>, OssError> {
        self.with_bucket(bucket, |b| {
            b.objects
                .get(key)
                .cloned()
                .ok_or_else(|| OssError::no_such_key(key))
        })
    }

    /// Decides about a key and changes it, in one step: `change` sees what is there and says what shall be
    /// there (`None`: nothing).
    pub(crate) async fn change_object<T>(
        &self,
        bucket: &str,
        key: &str,
        change: impl FnOnce(&mut Bucket) -> Result<(Option<Arc<Object>>, T), OssError>,
    ) -> Result<T, OssError> {
        let Some(disk) = &self.disk else {
            return self.with_bucket(bucket, |b| {
                let (object, answer) = change(b)?;
                place(b, key, object);
                Ok(answer)
            });
        };
        let _turn = self.writing.lock().await;
        let (object, answer) = self.with_bucket(bucket, change)?;
        disk.put_object(bucket, key, object.clone()).await?;
        self.with_bucket(bucket, |b| {
            place(b, key, object);
            Ok(())
        })?;
        Ok(answer)
    }

    /// Changes a bucket's settings, or creates it.
    pub(crate) async fn change_bucket<T>(
        &self,
        bucket: &str,
        change: impl FnOnce(Option<&BucketMeta>) -> Result<(BucketMeta, T), OssError>,
    ) -> Result<T, OssError> {
        let _turn = self.writing.lock().await;
        let (meta, answer) = change(self.lock().get(bucket).map(|b| &b.meta))?;
        if let Some(disk) = &self.disk {
            disk.put_bucket(bucket, Some(meta.clone())).await?;
        }
        match self.lock().entry(bucket.to_owned()) {
            Entry::Occupied(mut there) => there.get_mut().meta = meta,
            Entry::Vacant(free) => {
                free.insert(Bucket::new(meta));
            }
        }
        Ok(answer)
    }

    pub(crate) async fn delete_bucket(&self, bucket: &str) -> Result<(), OssError> {
        let _turn = self.writing.lock().await;
        self.with_bucket(bucket, |b| {
            if b.objects.is_empty() && b.uploads.is_empty() {
                return Ok(());
            }
            Err(OssError::new(
                409,
                "BucketNotEmpty",
                "The bucket you tried to delete is not empty.",
            )
            .ec("0015-00000301")
            .detail("BucketName", bucket))
        })?;
        if let Some(disk) = &self.disk {
            disk.put_bucket(bucket, None).await?;
        }
        self.lock().remove(bucket);
        Ok(())
    }
}

fn place(bucket: &mut Bucket, key: &str, object: Option<Arc<Object>>) {
    match object {
        Some(object) => drop(bucket.objects.insert(key.to_owned(), object)),
        None => drop(bucket.objects.remove(key)),
    }
}
