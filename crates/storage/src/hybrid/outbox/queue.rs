//! What waits, on disk and in memory.
//!
//! On disk everything is an object of a local store, written whole and synced: the bytes of an upload with their type and
//! metadata below `data/`, and one record for each operation below `queue/`, under its number. A record is written after its
//! data and removed before it, so data without a record is waste of a process that died, and a record without data is none
//! of ours. What the store refused for good moves from `queue/` to `failed/`.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use metrics::gauge;
use serde::{Deserialize, Serialize};

use super::room::Space;
use crate::{
    Entry, Error, ErrorKind, Key, ListOptions, ListPage, Metadata, PutOptions, Result, StorageAdapter,
    listing::PageBuilder,
};

const QUEUE: &str = "queue/";
const FAILED: &str = "failed/";
const DATA: &str = "data/";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Operation {
    Upload,
    Delete,
}

/// One operation that has been acknowledged and not yet carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) operation: Operation,
    key: String,
    /// Of an upload: where its bytes are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) create_only: bool,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    etag: String,
    at: Timestamp,
    /// Why the store refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Record {
    pub(super) fn upload(key: &Key, data: &Key, create_only: bool, size: u64, etag: &str) -> Self {
        Self {
            operation: Operation::Upload,
            key: key.to_string(),
            data: data.to_string(),
            create_only,
            size,
            etag: etag.to_owned(),
            at: Timestamp::now(),
            refused: None,
        }
    }

    pub(super) fn delete(key: &Key) -> Self {
        Self {
            operation: Operation::Delete,
            key: key.to_string(),
            data: String::new(),
            create_only: false,
            size: 0,
            etag: String::new(),
            at: Timestamp::now(),
            refused: None,
        }
    }

    pub(super) fn key(&self) -> Result<Key> {
        Key::new(&self.key)
    }

    pub(super) fn data(&self) -> Result<Key> {
        Key::new(&self.data)
    }

    /// What is known of an object that waits, from what is known of its bytes.
    pub(super) fn metadata(&self, mut data: Metadata) -> Metadata {
        self.key.clone_into(&mut data.key);
        data.last_modified = self.at;
        data
    }

    fn entry(&self) -> Entry {
        Entry::new(self.key.as_str(), self.size, self.etag.as_str(), self.at)
    }
}

/// A place for the bytes of one upload.
pub(super) fn new_data() -> Result<Key> {
    Key::new(format!("{DATA}{}", uuid::Uuid::new_v4().simple()))
}

fn numbered(folder: &str, number: u64) -> Result<Key> {
    Key::new(format!("{folder}{number:020}"))
}

/// The operations that wait, in order.
#[derive(Debug)]
pub(super) struct Queue {
    spool: Arc<dyn StorageAdapter>,
    pub(super) space: Arc<Space>,
    index: Mutex<Index>,
    /// The number of the next record. Held while one is written: what is acknowledged first is carried out first.
    next: tokio::sync::Mutex<u64>,
}

#[derive(Debug, Default)]
struct Index {
    waiting: BTreeMap<u64, Arc<Record>>,
    /// The last of each key's operations.
    latest: BTreeMap<Key, u64>,
    bytes: u64,
    failed: u64,
}

impl Index {
    fn insert(&mut self, number: u64, key: Key, record: Record) {
        self.bytes += record.size;
        self.latest.insert(key, number);
        self.waiting.insert(number, Arc::new(record));
    }

    fn remove(&mut self, number: u64) {
        let Some(record) = self.waiting.remove(&number) else {
            return;
        };
        self.bytes -= record.size;
        if self.latest.get(record.key.as_str()) == Some(&number) {
            self.latest.remove(record.key.as_str());
        }
    }
}

impl Queue {
    /// Reads what an earlier process left.
    pub(super) async fn load(spool: Arc<dyn StorageAdapter>, most: u64) -> Result<Self> {
        let mut index = Index::default();
        let (mut next, mut used, mut unreadable) = (0, 0, 0);
        let mut known = HashSet::new();
        for folder in [QUEUE, FAILED] {
            for name in names(&*spool, folder).await? {
                let number = name[folder.len()..].parse::<u64>();
                next = next.max(number.as_ref().map_or(0, |number| number + 1));
                match (number, read(&*spool, &name).await) {
                    (Ok(number), Ok((key, record))) => {
                        used += record.size;
                        known.insert(record.data.clone());
                        match folder {
                            QUEUE => index.insert(number, key, record),
                            _ => index.failed += 1,
                        }
                    }
                    (_, read) => {
                        let error = read.err().map(|error| error.to_string());
                        tracing::error!(
                            record = name,
                            error,
                            "a record of the outbox can't be read and stays where it is"
                        );
                        (unreadable, index.failed) = (unreadable + 1, index.failed + 1);
                    }
                }
            }
        }
        // Unless a record can't be read: its bytes would look like waste.
        if unreadable == 0 {
            for name in names(&*spool, DATA).await? {
                if !known.contains(&name) {
                    spool.delete(&Key::new(&name)?).await?;
                }
            }
        }
        if !index.waiting.is_empty() {
            tracing::info!(
                objects = index.waiting.len(),
                bytes = index.bytes,
                "the outbox goes on where it was"
            );
        }
        Ok(Self {
            spool,
            space: Space::new(most, used),
            index: Mutex::new(index),
            next: tokio::sync::Mutex::new(next),
        })
    }

    // Every change of it is complete before the next call that could panic.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last operation that waits for this key, and its number.
    pub(super) fn latest(&self, key: &Key) -> Option<(u64, Arc<Record>)> {
        let index = self.index();
        let number = *index.latest.get(key)?;
        Some((number, Arc::clone(index.waiting.get(&number)?)))
    }

    /// What is to be carried out next.
    pub(super) fn head(&self) -> Option<(u64, Arc<Record>)> {
        let index = self.index();
        index
            .waiting
            .first_key_value()
            .map(|(number, record)| (*number, Arc::clone(record)))
    }

    /// Adds an operation behind all others; when this returns, it is on the disk.
    pub(super) async fn append(&self, key: &Key, record: Record) -> Result<()> {
        let mut next = self.next.lock().await;
        if record.create_only {
            self.check_absent(key)?;
        }
        let number = *next;
        // Used up also by a write that fails: it may be there all the same.
        *next += 1;
        self.write(QUEUE, number, &record).await?;
        self.index().insert(number, key.clone(), record);
        drop(next);
        self.measure();
        Ok(())
    }

    /// Refuses to create what already waits to be there.
    pub(super) fn check_absent(&self, key: &Key) -> Result<()> {
        match self.latest(key) {
            Some((_, record)) if record.operation == Operation::Upload => {
                let why = "the object exists, in the outbox";
                Err(Error::new(ErrorKind::AlreadyExists, "upload", key.as_str(), why))
            }
            _ => Ok(()),
        }
    }

    async fn write(&self, folder: &str, number: u64, record: &Record) -> Result<()> {
        let key = numbered(folder, number)?;
        let text = serde_json::to_vec(record).map_err(|error| {
            Error::new(
                ErrorKind::Unexpected,
                "upload",
                key.as_str(),
                "the record can't be written",
            )
            .with_source(error)
        })?;
        let options = PutOptions::new().content_type("application/json");
        self.spool.put(&key, text.into(), &options).await.map(drop)
    }

    /// Removes an operation that has been carried out.
    pub(super) async fn done(&self, number: u64, record: &Record) -> Result<()> {
        self.spool.delete(&numbered(QUEUE, number)?).await?;
        self.index().remove(number);
        self.measure();
        if record.operation == Operation::Upload {
            // Whoever reads it now goes on reading; whoever comes later asks the store.
            self.spool.delete(&record.data()?).await?;
            self.space.free(record.size);
        }
        Ok(())
    }

    /// Keeps an operation aside that the store refused for good.
    pub(super) async fn set_aside(&self, number: u64, record: &Record, why: &str) -> Result<()> {
        let refused = Record {
            refused: Some(why.to_owned()),
            ..record.clone()
        };
        self.write(FAILED, number, &refused).await?;
        self.spool.delete(&numbered(QUEUE, number)?).await?;
        {
            let mut index = self.index();
            index.remove(number);
            index.failed += 1;
        }
        self.measure();
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index().waiting.is_empty()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.index().failed > 0
    }

    /// What a listing has to take over from here: the keys that wait, and a page of those that wait to be uploaded. `None` if
    /// there are none.
    pub(super) fn page(&self, prefix: &str, options: &ListOptions) -> Option<(HashSet<Key>, ListPage)> {
        let index = self.index();
        let mut keys = HashSet::new();
        let mut page = PageBuilder::new(prefix, options);
        let mut full = false;
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for (key, number) in index.latest.range::<str, _>(from) {
            if !key.starts_with(prefix) {
                break;
            }
            keys.insert(key.clone());
            let Some(record) = index.waiting.get(number) else {
                continue;
            };
            if record.operation == Operation::Upload && !full {
                full = !page.offer(key, || record.entry());
            }
        }
        (!keys.is_empty()).then(|| (keys, page.finish()))
    }

    pub(super) fn measure(&self) {
        let index = self.index();
        let oldest = index.waiting.first_key_value().map_or(0.0, |(_, record)| {
            Timestamp::now().duration_since(record.at).as_secs_f64().max(0.0)
        });
        gauge!("zhuji_storage_outbox_objects").set(index.waiting.len() as f64);
        gauge!("zhuji_storage_outbox_bytes").set(index.bytes as f64);
        gauge!("zhuji_storage_outbox_oldest_seconds").set(oldest);
        gauge!("zhuji_storage_outbox_failed").set(index.failed as f64);
    }
}

async fn names(spool: &dyn StorageAdapter, folder: &str) -> Result<Vec<String>> {
    let (mut names, mut options) = (Vec::new(), ListOptions::default());
    loop {
        let page = spool.list(folder, &options).await?;
        names.extend(page.entries.into_iter().map(|entry| entry.key));
        match page.next {
            Some(next) => options.after = Some(next),
            None => return Ok(names),
        }
    }
}

async fn read(spool: &dyn StorageAdapter, name: &str) -> Result<(Key, Record)> {
    let record = spool.get(&Key::new(name)?, &Default::default()).await?;
    let text = record.stream.into_bytes().await?;
    let record: Record = serde_json::from_slice(&text).map_err(|error| {
        Error::new(
            ErrorKind::Integrity,
            "opening",
            name,
            "the record can't be understood",
        )
        .with_source(error)
    })?;
    Ok((record.key()?, record))
}
