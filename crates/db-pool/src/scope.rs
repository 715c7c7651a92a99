use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The schema a handle works in, with which role, and whether it may write.
#[derive(Debug)]
pub(crate) struct Scope {
    id: AtomicU32,
    pub(crate) schema: Option<String>,
    pub(crate) read_only: bool,
    /// The module's role on the server; `None` where no role is asked for.
    pub(crate) role: Option<String>,
    knows: AtomicU8,
    path: String,
    /// Why the name cannot be used. Told at the first use, so that scoping itself cannot fail.
    pub(crate) invalid: Option<&'static str>,
}

/// Whether the server has the scope's role and lets us act as it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HasRole {
    Unknown = 0,
    No = 1,
    Yes = 2,
}

impl Scope {
    pub(crate) const SERVER_DEFAULT: u32 = 0;

    pub(crate) fn server_default() -> Arc<Self> {
        Arc::new(Self {
            id: AtomicU32::new(Self::SERVER_DEFAULT),
            schema: None,
            read_only: false,
            role: None,
            knows: AtomicU8::new(HasRole::No as u8),
            path: String::new(),
            invalid: None,
        })
    }

    pub(crate) fn of(id: u32, schema: Option<&str>, role: Option<String>, read_only: bool) -> Arc<Self> {
        let knows = match role {
            Some(_) => HasRole::Unknown,
            None => HasRole::No,
        };
        Arc::new(Self {
            id: AtomicU32::new(id),
            read_only,
            role,
            knows: AtomicU8::new(knows as u8),
            // `public` stays visible because that is where extensions put their functions and operators.
            path: schema.map_or_else(String::new, |schema| format!("{}, public", quote(schema))),
            invalid: schema.and_then(|schema| check(schema).err()),
            schema: schema.map(str::to_owned),
        })
    }

    /// Unique within the pool; [`Scope::SERVER_DEFAULT`] for a handle that is not scoped. Changes when the role does.
    pub(crate) fn id(&self) -> u32 {
        self.id.load(Ordering::Acquire)
    }

    pub(crate) fn has_role(&self) -> HasRole {
        match self.knows.load(Ordering::Acquire) {
            0 => HasRole::Unknown,
            1 => HasRole::No,
            _ => HasRole::Yes,
        }
    }

    /// `next` makes sessions that serve the scope as it was so far enter it anew.
    pub(crate) fn set_has_role(&self, has: HasRole, next: u32) {
        if self.role.is_some() && self.knows.swap(has as u8, Ordering::AcqRel) != has as u8 {
            self.id.store(next, Ordering::Release);
        }
    }

    fn acting_role(&self) -> Option<&str> {
        self.role.as_deref().filter(|_| self.has_role() == HasRole::Yes)
    }

    /// What makes a session serve this scope.
    pub(crate) fn set(&self) -> String {
        let mut sql = match self.path.as_str() {
            "" => "RESET search_path".to_owned(),
            path => format!("SET search_path TO {path}"),
        };
        sql.push_str(match self.read_only {
            true => ";SET default_transaction_read_only TO on",
            false => ";RESET default_transaction_read_only",
        });
        match self.acting_role() {
            Some(role) => sql.push_str(&format!(";SET ROLE {}", quote(role))),
            None => sql.push_str(";RESET ROLE"),
        }
        sql
    }

    /// The same for one transaction; empty when there is nothing to set.
    pub(crate) fn set_local(&self) -> String {
        let mut sql = String::new();
        if self.read_only {
            sql.push_str("SET TRANSACTION READ ONLY;");
        }
        if !self.path.is_empty() {
            sql.push_str(&format!("SET LOCAL search_path TO {};", self.path));
        }
        if let Some(role) = self.acting_role() {
            sql.push_str(&format!("SET LOCAL ROLE {};", quote(role)));
        }
        sql
    }

    /// Whether a transaction has to be told anything.
    pub(crate) fn is_default(&self) -> bool {
        self.path.is_empty() && !self.read_only
    }
}

/// Whether `schema` can name a module's schema.
pub(crate) fn check(schema: &str) -> Result<(), &'static str> {
    if schema.is_empty() {
        return Err("a schema name cannot be empty");
    }
    if schema.len() > 63 {
        return Err("a schema name has at most 63 bytes");
    }
    if schema.contains('\0') {
        return Err("a schema name cannot contain NUL");
    }
    if schema.starts_with("pg_") {
        return Err("names that begin with pg_ belong to PostgreSQL");
    }
    Ok(())
}

/// An SQL identifier, quoted.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_one_identifier() {
        let scope = Scope::of(1, Some("a\"; DROP SCHEMA public; --"), None, false);
        assert!(
            scope
                .set()
                .starts_with("SET search_path TO \"a\"\"; DROP SCHEMA public; --\", public;"),
            "{}",
            scope.set()
        );
    }

    #[test]
    fn names_nobody_can_have_are_known() {
        for name in ["", "pg_toast", "a\0b", &"x".repeat(64)] {
            assert!(
                Scope::of(1, Some(name), None, false).invalid.is_some(),
                "{name:?}"
            );
        }
        assert!(Scope::of(1, Some("文献"), None, false).invalid.is_none());
    }

    #[test]
    fn a_role_counts_once_it_is_known_and_makes_sessions_enter_anew() {
        let scope = Scope::of(1, Some("asl"), Some("zhuji/db/asl".to_owned()), false);
        assert!(!scope.set_local().contains("ROLE"));
        scope.set_has_role(HasRole::Yes, 9);
        assert!(scope.set_local().ends_with("SET LOCAL ROLE \"zhuji/db/asl\";"));
        assert_eq!(scope.id(), 9);
        scope.set_has_role(HasRole::Yes, 10);
        assert_eq!(scope.id(), 9);
    }
}
