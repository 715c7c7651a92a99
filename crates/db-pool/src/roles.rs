use sha2::{Digest, Sha256};
use tokio_postgres::{Client, SimpleQueryMessage};
use zhuji_config::ConfigEnum;

use crate::error::{Error, ErrorKind, Result};
use crate::lane::Lane;
use crate::scope::{HasRole, quote};
use crate::shared::Shared;

/// The longest name a role can have.
const LONGEST: usize = 63;
/// How often a grant is tried that collides with another instance's.
const TRIES: u32 = 5;

/// Whether every module acts as a role of its own, which sees no other module's tables.
#[derive(ConfigEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModuleRoles {
    /// Where the server's user may create roles, or finds them made; by search path alone elsewhere, which the log says.
    #[default]
    Auto,
    /// Migrations fail where it cannot be done.
    Required,
    /// By search path alone.
    Off,
}

/// The names of a database's roles.
///
/// Roles belong to the whole server, so the database is part of their names: otherwise the users of two databases could
/// act as one another's modules.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    mode: ModuleRoles,
    database: String,
}

impl Roles {
    pub(crate) fn new(mode: ModuleRoles, database: &str) -> Self {
        Self {
            mode,
            database: database.to_owned(),
        }
    }

    pub(crate) fn is_required(&self) -> bool {
        self.mode == ModuleRoles::Required
    }

    /// The role of a module's schema; `None` for the platform's own schemas, which all modules share.
    pub(crate) fn name_for(&self, schema: &str) -> Option<String> {
        let own = schema != "public" && !is_shared(schema);
        (own && self.mode != ModuleRoles::Off).then(|| fitting(format!("zhuji/{}/{schema}", self.database)))
    }

    /// The role that stands for all modules.
    fn everyone(&self) -> String {
        fitting(format!("zhuji/{}", self.database))
    }
}

/// Schemas of the platform (`zhuji_jobs`): every module may use what is in them.
fn is_shared(schema: &str) -> bool {
    schema.starts_with("zhuji_")
}

fn fitting(name: String) -> String {
    if name.len() <= LONGEST {
        return name;
    }
    let digest = hex::encode(&Sha256::digest(name.as_bytes())[..8]);
    let keep = (0..=LONGEST - 17).rev().find(|at| name.is_char_boundary(*at));
    format!("{}/{digest}", &name[..keep.unwrap_or(0)])
}

fn literal(text: &str) -> String {
    // With E, so that the meaning does not depend on standard_conforming_strings.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

impl Shared {
    /// Finds out whether the scope's role exists and this user may act as it. Once for each scope.
    pub(crate) async fn resolve_role(&self, lane: &Lane<'_>) -> Result<()> {
        let scope = lane.scope;
        let (Some(role), Some(schema)) = (&scope.role, &scope.schema) else {
            return Ok(());
        };
        // Both, because a role that is left over from a dropped schema would lock its module out.
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_roles r, pg_catalog.pg_namespace n WHERE r.rolname = {} AND n.nspname = {} \
             AND pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER') \
             AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')",
            literal(role),
            literal(schema)
        );
        let found = lane
            .guarded("look for the module's role", lane.client.simple_query(&sql))
            .await?;
        let there = found
            .iter()
            .any(|message| matches!(message, SimpleQueryMessage::Row(_)));
        if !there && self.roles.is_required() {
            let reason =
                format!("role {role:?} is missing, and DB_MODULE_ROLES=required: run the migrations");
            return Err(Error::new(
                ErrorKind::Config,
                "get a connection",
                &self.dialer.subject,
                reason,
            ));
        }
        // An unmigrated schema may get its role later, from another process; until then the question is asked again.
        if there || self.migrated(lane, schema).await? {
            let has = if there { HasRole::Yes } else { HasRole::No };
            scope.set_has_role(has, self.scopes.next());
        }
        Ok(())
    }

    async fn migrated(&self, lane: &Lane<'_>, schema: &str) -> Result<bool> {
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}",
            literal(schema)
        );
        let found = lane
            .guarded("look for the schema", lane.client.simple_query(&sql))
            .await?;
        Ok(found
            .iter()
            .any(|message| matches!(message, SimpleQueryMessage::Row(_))))
    }

    /// Gives a module's role what is in its schema and nothing else, on a migration's connection. Says whether there is
    /// such a role now.
    pub(crate) async fn grant_roles(&self, client: &Client, schema: &str, table: &str) -> Result<()> {
        let everyone = self.roles.everyone();
        let (grantee, module) = match self.roles.name_for(schema) {
            Some(role) => (role.clone(), Some(role)),
            None if is_shared(schema) && self.roles.mode != ModuleRoles::Off => (everyone.clone(), None),
            None => return Ok(()),
        };
        let mut tries = 1;
        let outcome = loop {
            match self
                .try_grant(
                    client,
                    schema,
                    table,
                    &grantee,
                    module.as_deref().map(|_| &*everyone),
                )
                .await
            {
                Err(error) if tries < TRIES && is_collision(&error) => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(5 + fastrand::u64(..50))).await;
                }
                outcome => break outcome,
            }
        };
        let has = match outcome {
            Ok(()) => HasRole::Yes,
            Err(error) if error.as_db_error().is_none() => {
                return Err(Error::statement("grant roles", &self.dialer.subject, error));
            }
            Err(error) => {
                let error = Error::statement("grant roles", format!("schema \"{schema}\""), error);
                if self.roles.is_required() {
                    let reason = format!(
                        "DB_MODULE_ROLES=required, but role {grantee:?} cannot be set up: {}; let the user create roles \
                         (CREATEROLE), or make the role and grant it to the user",
                        error.reason()
                    );
                    return Err(
                        Error::new(ErrorKind::Migration, "migrate", error.subject(), reason)
                            .after_quietly(error),
                    );
                }
                tracing::info!(
                    schema,
                    role = grantee,
                    reason = error.reason(),
                    "modules are kept apart by search path only: the database user may not set up roles (CREATEROLE)"
                );
                HasRole::No
            }
        };
        for scope in self.scopes.of_schema(schema) {
            scope.set_has_role(has, self.scopes.next());
        }
        Ok(())
    }

    async fn try_grant(
        &self,
        client: &Client,
        schema: &str,
        table: &str,
        role: &str,
        everyone: Option<&str>,
    ) -> std::result::Result<(), tokio_postgres::Error> {
        ensure_role(client, role).await?;
        let mut sql = String::from("BEGIN;");
        if let Some(everyone) = everyone {
            ensure_role(client, everyone).await?;
            let member = client
                .query_one(
                    "SELECT pg_catalog.pg_has_role($1::text, $2::text, 'MEMBER')",
                    &[&role, &everyone],
                )
                .await?;
            if !member.get::<_, bool>(0) {
                sql.push_str(&format!("GRANT {} TO {};", quote(everyone), quote(role)));
            }
        }
        let (schema, role) = (quote(schema), quote(role));
        sql.push_str(&format!(
            "GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};\
             GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role};\
             GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role};\
             REVOKE ALL ON {schema}.{table} FROM {role};\
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON TABLES TO {role};\
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON SEQUENCES TO {role};\
             COMMIT"
        ));
        let done = client.batch_execute(&sql).await;
        if done.is_err() {
            // The error to tell is the first one.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        done
    }
}

/// Makes the role if it is missing, and the user a member of it.
async fn ensure_role(client: &Client, role: &str) -> std::result::Result<(), tokio_postgres::Error> {
    let sql = "SELECT pg_catalog.pg_has_role(session_user, oid, 'MEMBER') FROM pg_catalog.pg_roles WHERE rolname = $1";
    let found = client.query_opt(sql, &[&role]).await?;
    let name = quote(role);
    if found.is_none() {
        client
            .batch_execute(&format!("CREATE ROLE {name} NOLOGIN"))
            .await?;
    }
    if !found.is_some_and(|row| row.get(0)) {
        client
            .batch_execute(&format!("GRANT {name} TO SESSION_USER"))
            .await?;
    }
    Ok(())
}

/// Another instance did the same at the same time.
fn is_collision(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| matches!(code.code(), "42710" | "23505" | "XX000" | "40P01" | "40001"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_between_databases_and_always_fit() {
        let roles = |database| Roles::new(ModuleRoles::Auto, database);
        assert_eq!(roles("app").name_for("asl").as_deref(), Some("zhuji/app/asl"));
        for schema in ["public", "zhuji_jobs"] {
            assert_eq!(roles("app").name_for(schema), None);
        }
        assert_eq!(Roles::new(ModuleRoles::Off, "app").name_for("asl"), None);
        let long = "文".repeat(21);
        let (one, two) = (roles(&long).name_for("a"), roles(&long).name_for("b"));
        assert!(one != two && one.is_some_and(|name| name.len() <= LONGEST));
    }
}
