//! Several keys in one call.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::adapter::NewEntry;
use crate::cache::Cache;
use crate::codec;
use crate::error::Result;
use crate::ttl::Ttl;

impl Cache {
    /// The values under `keys`, in their order; `None` where there is none of this type. One round trip for up to 500
    /// keys, and as many at once as there are chunks of 500. What lies in this process is not asked for.
    ///
    /// # Errors
    ///
    /// If the store can't be asked, or a key is empty or longer than 64 KiB.
    pub async fn get_many<T: DeserializeOwned>(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Option<T>>> {
        let mut full = Vec::with_capacity(keys.len());
        for key in keys {
            full.push(self.full_key("get_many", key.as_ref(), true).await?);
        }
        if full.is_empty() {
            return Ok(Vec::new());
        }
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        let stored = self.counted(self.inner.adapter.get_many(&full).await)?;
        let decoded = full.iter().zip(stored);
        Ok(decoded
            .map(|(key, stored)| self.judge_json(key, stored))
            .collect())
    }

    /// Stores all entries, each with a time to live spread on its own. All are checked before the first is sent: if one
    /// can't be stored, none is. Up to 500 are stored in one transaction: another instance's
    /// [`get_many`](Self::get_many) sees all of them or none (except in what it holds in memory, see
    /// [`TieredAdapter`](crate::TieredAdapter)).
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_many<'v, K, T>(
        &self,
        entries: impl IntoIterator<Item = (K, &'v T)>,
        ttl: impl Into<Ttl>,
    ) -> Result<()>
    where
        K: AsRef<str>,
        T: Serialize + ?Sized + 'v,
    {
        let ttl = ttl.into();
        let mut encoded = Vec::new();
        for (key, value) in entries {
            let key = key.as_ref();
            let ttl = self.resolve(ttl, "set_many", key)?;
            encoded.push((
                key.to_owned(),
                codec::encode_json("set_many", key, value, None)?,
                ttl,
            ));
        }
        let mut entries = Vec::with_capacity(encoded.len());
        for (key, value, ttl) in encoded {
            let key = self.full_key("set_many", &key, false).await?;
            entries.push(NewEntry { key, value, ttl });
        }
        if entries.is_empty() {
            return Ok(());
        }
        for entry in &entries {
            self.inner.flights.supersede(&entry.key);
        }
        self.counted(self.inner.adapter.set_many(&entries).await)
    }
}
