//! A store for a test, and its database beside it: SQLite, or PostgreSQL where this run of tests keeps its data there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool, SqlitePool};
use tempfile::TempDir;

use super::sql::Pool;
use super::{DatabaseUrl, Store};

/// The address of a superuser of PostgreSQL, in which each store gets a database. `scripts/on-postgres` sets it, and
/// whatever is left there goes with it.
const OF_THIS_RUN: &str = "HOLISTICS_TUNNEL_TEST_DATABASE";

pub(crate) struct TestStore {
    pub(crate) store: Store,
    /// Beside the store, for what it does not do.
    raw: Pool,
    _dir: TempDir,
}

impl TestStore {
    /// An empty one.
    pub(crate) async fn new() -> Self {
        match std::env::var(OF_THIS_RUN) {
            Ok(superuser) => TestStore::made_by(&superuser).await,
            Err(_) => TestStore::on_sqlite().await,
        }
    }

    /// One with data sources 1, 2, … whose tunnels have the same numbers.
    pub(crate) async fn with_tunnels(tunnels: i64) -> Self {
        let kept = TestStore::new().await;
        kept.execute(&format!(
            "INSERT INTO data_sources (display_name, database_type, host, port, created_at)
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {tunnels})
             SELECT 'Sales', 'postgresql', 'db', 5432, 0 FROM n;
             INSERT INTO tunnels (data_source_id) SELECT id FROM data_sources"
        ))
        .await;
        kept
    }

    /// An empty one for tests of what only PostgreSQL keeps; none where this run of tests has no PostgreSQL.
    pub(crate) async fn on_postgres() -> Option<Self> {
        let superuser = std::env::var(OF_THIS_RUN).ok()?;
        Some(TestStore::made_by(&superuser).await)
    }

    /// The same with a database whose clock is ahead of this machine's by so many days.
    pub(crate) async fn on_postgres_ahead(days: u32) -> Option<Self> {
        let kept = TestStore::on_postgres().await?;
        kept.execute(&format!(
            "CREATE FUNCTION statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
                 AS 'SELECT pg_catalog.statement_timestamp() + make_interval(days => {days})';
             DO $$ BEGIN
                 EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database());
             END $$"
        ))
        .await;
        Some(kept)
    }

    async fn made_by(superuser: &str) -> Self {
        let url = new_database(superuser).await;
        let database: DatabaseUrl = url.parse().unwrap();
        let store = Store::connect(&database).await.unwrap();
        let raw = Pool::Postgres(PgPool::connect_lazy(&url).unwrap());
        TestStore::of(store, raw, tempfile::tempdir().unwrap())
    }

    /// An empty one in a file, for tests that are about SQLite.
    pub(crate) async fn on_sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file: PathBuf = dir.path().join("db");
        let store = Store::open(&file).await.unwrap();
        let url = format!("sqlite:{}", file.display());
        let raw = Pool::Sqlite(SqlitePool::connect(&url).await.unwrap());
        TestStore::of(store, raw, dir)
    }

    fn of(store: Store, raw: Pool, dir: TempDir) -> Self {
        TestStore {
            store,
            raw,
            _dir: dir,
        }
    }

    /// Runs statements that both engines know.
    pub(crate) async fn execute(&self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match &self.raw {
            Pool::Sqlite(raw) => drop(statements.execute(raw).await.unwrap()),
            Pool::Postgres(raw) => drop(statements.execute(raw).await.unwrap()),
        }
    }

    /// The one number that a query asks for.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        let query = format!("SELECT CAST(({query}) AS BIGINT)");
        self.raw.sql(query).value().await.unwrap()
    }

    /// From now on, nothing can be added to this table, as on a full disk.
    pub(crate) async fn fill_up(&self, table: &str) {
        let statements = match self.raw {
            Pool::Sqlite(_) => format!(
                "CREATE TRIGGER full_{table} BEFORE INSERT ON {table}
                 BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            ),
            Pool::Postgres(_) => format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
                 CREATE TRIGGER full_{table} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
            ),
        };
        self.execute(&statements).await;
    }

    /// There is room again.
    pub(crate) async fn make_room(&self, table: &str) {
        let statement = match self.raw {
            Pool::Sqlite(_) => format!("DROP TRIGGER full_{table}"),
            Pool::Postgres(_) => format!("DROP TRIGGER full_{table} ON {table}"),
        };
        self.execute(&statement).await;
    }

    /// From now on, the store itself writes nothing.
    pub(crate) async fn refuse_writing(&self) {
        match self.store.writer.pool() {
            Pool::Sqlite(writer) => {
                let set = sqlx::query("PRAGMA query_only = 1");
                set.execute(writer).await.unwrap();
            }
            Pool::Postgres(writer) => {
                let mut all = Vec::new();
                for _ in 0..writer.options().get_max_connections() {
                    let mut connection = writer.acquire().await.unwrap();
                    let set = sqlx::query("SET default_transaction_read_only = on");
                    set.execute(&mut *connection).await.unwrap();
                    all.push(connection);
                }
            }
        }
    }
}

/// Makes a database, and says where it is.
async fn new_database(superuser: &str) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let now = jiff::Timestamp::now().as_nanosecond();
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("unit_{}_{now}_{number}", std::process::id());
    let options: PgConnectOptions = superuser.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let make = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(make).execute(&mut connection).await.unwrap();
    let (server, _) = superuser.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}
