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
    scopes: HashMap<u32, HashMap<Box<str>, Entry>>,
    count: usize,
    clock: u64,
}

struct Entry {
    statement: Statement,
    used: u64,
}

impl Statements {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, scope: u32, sql: &str) -> Option<Statement> {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let entry = inner.scopes.get_mut(&scope)?.get_mut(sql)?;
        entry.used = clock;
        Some(entry.statement.clone())
    }

    pub(crate) fn put(&self, scope: u32, sql: &str, statement: Statement) {
        let mut inner = self.lock();
        if inner.count >= KEPT {
            inner.give_up_oldest();
        }
        inner.clock += 1;
        let used = inner.clock;
        let entry = Entry { statement, used };
        if inner
            .scopes
            .entry(scope)
            .or_default()
            .insert(sql.into(), entry)
            .is_none()
        {
            inner.count += 1;
        }
    }

    pub(crate) fn remove(&self, scope: u32, sql: &str) {
        let mut inner = self.lock();
        if inner
            .scopes
            .get_mut(&scope)
            .and_then(|scope| scope.remove(sql))
            .is_some()
        {
            inner.count -= 1;
        }
    }

    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut *self.lock());
        // Dropping a statement sends a message; not under the lock.
        drop(old);
    }
}

impl Inner {
    fn give_up_oldest(&mut self) {
        let oldest = self
            .scopes
            .iter()
            .flat_map(|(scope, statements)| {
                statements
                    .iter()
                    .map(move |(sql, entry)| (entry.used, *scope, sql))
            })
            .min_by_key(|(used, ..)| *used)
            .map(|(_, scope, sql)| (scope, sql.clone()));
        if let Some((scope, sql)) = oldest
            && self
                .scopes
                .get_mut(&scope)
                .and_then(|statements| statements.remove(&sql))
                .is_some()
        {
            self.count -= 1;
        }
    }
}
