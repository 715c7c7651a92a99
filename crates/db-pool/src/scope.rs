use std::sync::Arc;

/// The schema a handle works in.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Unique within the pool; [`Scope::SERVER_DEFAULT`] for a handle that is not scoped.
    pub(crate) id: u32,
    pub(crate) schema: Option<String>,
    /// What makes a session serve this scope.
    pub(crate) set: String,
    /// The same for one transaction; empty when there is nothing to set.
    pub(crate) set_local: String,
    /// Why the name cannot be used. Told at the first use, so that scoping itself cannot fail.
    pub(crate) invalid: Option<&'static str>,
}

impl Scope {
    pub(crate) const SERVER_DEFAULT: u32 = 0;

    pub(crate) fn server_default() -> Arc<Self> {
        Arc::new(Self {
            id: Self::SERVER_DEFAULT,
            schema: None,
            set: "RESET search_path".to_owned(),
            set_local: String::new(),
            invalid: None,
        })
    }

    pub(crate) fn of(id: u32, schema: &str) -> Arc<Self> {
        // `public` stays visible because that is where extensions put their functions and operators.
        let path = format!("search_path TO {}, public", quote(schema));
        Arc::new(Self {
            id,
            schema: Some(schema.to_owned()),
            set: format!("SET {path}"),
            set_local: format!("SET LOCAL {path}"),
            invalid: check(schema).err(),
        })
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
        let scope = Scope::of(1, "a\"; DROP SCHEMA public; --");
        assert_eq!(
            scope.set,
            "SET search_path TO \"a\"\"; DROP SCHEMA public; --\", public"
        );
    }

    #[test]
    fn names_nobody_can_have_are_known() {
        for name in ["", "pg_toast", "a\0b", &"x".repeat(64)] {
            assert!(Scope::of(1, name).invalid.is_some(), "{name:?}");
        }
        assert!(Scope::of(1, "文献").invalid.is_none());
    }
}
