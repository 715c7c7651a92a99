use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::Statement;

/// Prepared statements of one connection that are kept. A server-side statement costs some 10–100 KiB.
const KEPT: usize = 256;

/// The prepared statements of one connection, the least recently used given up first.
///
/// Kept by scope, because the same text means another table in another schema.
#[derive(Default)]
pub(crate) struct Statements {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By text, and then by scope: one text is looked up once, and few are used in several scopes.
    texts: HashMap<Box<str>, Vec<Entry>>,
    count: usize,
    clock: u64,
}

/// A prepared statement, and whether it changes the session.
pub(crate) type Kept = (Statement, bool);

struct Entry {
    scope: u32,
    kept: Kept,
    used: u64,
}

impl Statements {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, scope: u32, sql: &str) -> Option<Kept> {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let entries = inner.texts.get_mut(sql)?;
        let entry = entries.iter_mut().find(|entry| entry.scope == scope)?;
        entry.used = clock;
        Some(entry.kept.clone())
    }

    pub(crate) fn put(&self, scope: u32, sql: &str, kept: Kept) {
        let mut inner = self.lock();
        if inner.count >= KEPT {
            inner.give_up_oldest();
        }
        inner.clock += 1;
        let used = inner.clock;
        let entries = inner.texts.entry(sql.into()).or_default();
        let before = entries.len();
        entries.retain(|entry| entry.scope != scope);
        entries.push(Entry { scope, kept, used });
        inner.count += usize::from(inner.texts[sql].len() > before);
    }

    pub(crate) fn remove(&self, scope: u32, sql: &str) {
        self.lock().remove(scope, sql);
    }

    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut *self.lock());
        // Dropping a statement sends a message; not under the lock.
        drop(old);
    }
}

impl Inner {
    fn remove(&mut self, scope: u32, sql: &str) {
        let Some(entries) = self.texts.get_mut(sql) else {
            return;
        };
        let before = entries.len();
        entries.retain(|entry| entry.scope != scope);
        self.count -= before - entries.len();
        if entries.is_empty() {
            self.texts.remove(sql);
        }
    }

    fn give_up_oldest(&mut self) {
        let all = self
            .texts
            .iter()
            .flat_map(|(sql, entries)| entries.iter().map(move |entry| (entry.used, entry.scope, sql)));
        let oldest = all
            .min_by_key(|(used, ..)| *used)
            .map(|(_, scope, sql)| (scope, sql.clone()));
        if let Some((scope, sql)) = oldest {
            self.remove(scope, &sql);
        }
    }
}
