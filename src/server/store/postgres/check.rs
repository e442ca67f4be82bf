//! Whether a PostgreSQL is what it must be, looked at before anything in it is changed: new enough, writable, ours, and
//! not behind a pooler that gives each transaction another session, since locks, LISTEN and prepared statements need one
//! of their own. And what to do where it is not, or cannot be connected to.

use anyhow::{Context, ensure};
use sqlx::{Connection as _, FromRow, PgConnection};

use super::{
    DatabaseUrl, LINES, MIGRATIONS, PING_TIMEOUT, READERS, Unavailable, WRITERS, bounded, connect,
};

/// The oldest version that is known to work, as `server_version_num` has it.
const OLDEST: i32 = 140_000;

/// What is asked of it. No words of its own are known to an older one, and none is kept prepared, which a pooler that
/// must be told from PostgreSQL itself cannot do.
const FACTS: &str = "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS is_standby,
    current_setting('default_transaction_read_only')::bool AS is_read_only,
    COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE) AS may_create,
    current_user::text AS role,
    to_regclass('_sqlx_migrations') IS NOT NULL AS has_schema,
    to_regclass('data_sources') IS NOT NULL AS is_ours,
    (SELECT string_agg(name, ', ') FROM (
        SELECT quote_ident(relname) AS name FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
            AND relnamespace = to_regnamespace(quote_ident(current_schema()))
            AND relname <> '_sqlx_migrations'
            -- What an extension brings, such as pg_stat_statements, is in nobody's way.
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
        ORDER BY 1 LIMIT 5) AS t) AS others,
    (SELECT string_agg(name, ', ') FROM (
        SELECT quote_ident(relname) AS name FROM pg_class WHERE relkind = 'r'
            AND relnamespace = to_regnamespace(quote_ident(current_schema())) AND NOT (
                has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
        ORDER BY 1 LIMIT 5) AS t) AS forbidden";

#[derive(Debug, Clone, FromRow)]
struct Facts {
    version: i32,
    is_standby: bool,
    is_read_only: bool,
    may_create: bool,
    role: String,
    has_schema: bool,
    is_ours: bool,
    others: Option<String>,
    forbidden: Option<String>,
}

impl Facts {
    /// Why it cannot be used, and what to do.
    fn judge(&self) -> anyhow::Result<()> {
        ensure!(
            self.version >= OLDEST,
            "it is PostgreSQL {}; at least {} is needed",
            self.version / 10_000,
            OLDEST / 10_000
        );
        ensure!(
            self.is_ours || self.others.is_none(),
            "there are tables of something else in it ({}); make a database for this server alone",
            self.others.as_deref().unwrap_or_default()
        );
        self.judge_state()
            .map_or(Ok(()), |why| Err(Unavailable(why).into()))
    }

    /// Why the right database cannot be used now.
    fn judge_state(&self) -> Option<String> {
        if self.is_standby {
            return Some("it is a standby, which is read-only; name the primary".to_owned());
        }
        if self.is_read_only {
            return Some(
                "it is read-only (default_transaction_read_only is on); turn that off for this database and user, or \
                 name another"
                    .to_owned(),
            );
        }
        let role = &self.role;
        if !self.may_create {
            return Some(format!(
                "its user {role} may not make tables in it; make {role} the database's owner: \
                 ALTER DATABASE … OWNER TO {role}"
            ));
        }
        let tables = self.forbidden.as_ref()?;
        Some(format!(
            "its user {role} may not read and write all that is in it ({tables}); log in as the user who made it, or \
             give this one those rights"
        ))
    }
}

/// Looks whether it is what it must be.
pub(super) async fn check(connection: &mut PgConnection, url: &DatabaseUrl) -> anyhow::Result<()> {
    let cannot = || format!("cannot use the database {url}");
    let facts: Facts = one(connection, FACTS).await.with_context(cannot)?;
    facts.judge().with_context(cannot)?;
    if facts.has_schema {
        let applied = "SELECT COALESCE(max(version), 0) AS version, count(*) AS applied FROM _sqlx_migrations";
        let (version, applied): (i64, i64) = one(connection, applied).await.with_context(cannot)?;
        judge_schema(version, applied > 0 && !facts.is_ours).with_context(cannot)?;
    }
    ensure!(
        !is_behind_pooler(connection, url).await?,
        "cannot use the database {url}: it is behind a pooler that gives each transaction another session; \
         connect to PostgreSQL itself, or let the pooler give each client one for itself (pgbouncer: \
         pool_mode = session)"
    );
    Ok(())
}

fn judge_schema(version: i64, is_another_s: bool) -> anyhow::Result<()> {
    ensure!(
        !is_another_s,
        "there is the schema of something else in it; make a database for this server alone"
    );
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
    let newest = newest.unwrap_or_default();
    if version <= newest {
        return Ok(());
    }
    // Tunnels are served until somebody has brought the newer version to this machine, too.
    let why = format!(
        "a newer version of this program has brought its schema to {version}, and this one knows up to {newest}; \
         use the newer version"
    );
    Err(Unavailable(why).into())
}

/// Whether two connections at a time are one session of the database, or one is several.
async fn is_behind_pooler(first: &mut PgConnection, url: &DatabaseUrl) -> anyhow::Result<bool> {
    const PROCESS: &str = "SELECT pg_backend_pid()";
    let cannot = || format!("cannot use the database {url}");
    let mut second = connect(url).await?;
    let (before,): (i32,) = one(first, PROCESS).await.with_context(cannot)?;
    let (beside,): (i32,) = one(&mut second, PROCESS).await.with_context(cannot)?;
    let (after,): (i32,) = one(first, PROCESS).await.with_context(cannot)?;
    let _ = tokio::time::timeout(PING_TIMEOUT, second.close()).await;
    Ok(before == beside || before != after)
}

async fn one<T>(connection: &mut PgConnection, query: &'static str) -> anyhow::Result<T>
where
    T: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    let row = bounded(sqlx::raw_sql(query).fetch_one(connection)).await?;
    Ok(T::from_row(&row)?)
}

/// Why a connection was not made, and what to do.
pub(super) fn why(error: &sqlx::Error, url: &DatabaseUrl) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    let said = match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        error => error.to_string(),
    };
    let needed = READERS + WRITERS + LINES;
    let remedy = match (code.as_deref(), error) {
        (Some("28P01" | "28000"), _) => {
            "look at its user and password, which belong into the variable HOLISTICS_TUNNEL_SERVER_DATABASE_URL or \
             into ~/.pgpass, and at its pg_hba.conf"
                .to_owned()
        }
        (Some("3D000"), _) => format!(
            "make it: createdb --owner={user} {database}",
            user = url.options.get_username(),
            database = url.options.get_database().unwrap_or(url.options.get_username())
        ),
        (Some("42501"), _) => "let its user connect: GRANT CONNECT ON DATABASE …".to_owned(),
        (Some("53300"), _) => format!(
            "each server needs up to {needed} connections: raise max_connections (or the user's CONNECTION LIMIT), or \
             end what else is connected"
        ),
        (Some("57P03"), _) => "try again in a moment".to_owned(),
        (Some("08P01"), _) if said.contains("startup parameter") => {
            "it is behind a pooler: connect to PostgreSQL itself, or set pool_mode = session and \
             ignore_startup_parameters = extra_float_digits in pgbouncer's configuration"
                .to_owned()
        }
        (None, sqlx::Error::Tls(_)) => {
            "look at sslmode and sslrootcert in the address, and at its certificate".to_owned()
        }
        (None, sqlx::Error::Io(_)) => "check whether its address is right and PostgreSQL runs there".to_owned(),
        _ => return said,
    };
    format!("{said}; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            version: 150_003,
            is_standby: false,
            is_read_only: false,
            may_create: true,
            role: "tunnels".to_owned(),
            has_schema: false,
            is_ours: false,
            others: None,
            forbidden: None,
        }
    }

    #[test]
    fn an_older_postgresql_than_is_known_to_work_is_refused_by_its_version() {
        good().judge().unwrap();
        let oldest = Facts {
            version: 140_000,
            ..good()
        };
        oldest.judge().unwrap();
        let older = Facts {
            version: 130_014,
            ..good()
        };
        let refused = older.judge().unwrap_err().to_string();
        assert_eq!(refused, "it is PostgreSQL 13; at least 14 is needed");
    }
}
