//! The server's own database, beside the server: to make one in PostgreSQL, to look into it, and to have in a moment
//! what would take a day to come together.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};

/// The variable by which a run of tests has the servers keep their data in PostgreSQL: the address of a superuser
/// there. `scripts/on-postgres` sets it.
const OF_THIS_RUN: &str = "HOLISTICS_TUNNEL_TEST_DATABASE";

/// The variable by which the server's program is told of its database.
pub const VARIABLE: &str = "HOLISTICS_TUNNEL_SERVER_DATABASE_URL";

/// A database of its own in a PostgreSQL. It is dropped with its last holder.
#[derive(Clone)]
pub struct PostgresDatabase {
    url: String,
    made: Arc<Made>,
}

struct Made {
    name: String,
    superuser: PgConnectOptions,
    /// What runs it, if that is the tests' own.
    _cluster: Option<Arc<dyn Any + Send + Sync>>,
}

impl PostgresDatabase {
    /// A new one, if this run of tests keeps its data in PostgreSQL.
    pub fn of_this_run() -> Option<Self> {
        let url = std::env::var(OF_THIS_RUN).ok()?;
        let superuser = url.parse().expect("the address of a PostgreSQL");
        Some(Self::make(superuser, None))
    }

    /// A new one, made by this superuser.
    pub fn make(superuser: PgConnectOptions, cluster: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.expect("after 1970").as_nanos();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{now}_{number}", std::process::id());
        as_superuser(superuser.clone(), format!("CREATE DATABASE {name}"));
        let socket = superuser.get_socket().expect("a folder of its socket");
        let folder = socket
            .to_str()
            .expect("a path in UTF-8")
            .replace('/', "%2F");
        let (user, port) = (superuser.get_username(), superuser.get_port());
        PostgresDatabase {
            url: format!("postgres://{user}@{folder}:{port}/{name}"),
            made: Arc::new(Made {
                name,
                superuser,
                _cluster: cluster,
            }),
        }
    }

    /// The same as its owner has it, who is this user and comes by this address and port.
    pub fn owned_by(&self, login: &str, address: &str) -> Self {
        let name = self.name();
        let (user, _) = login.split_once(':').unwrap_or((login, ""));
        as_superuser(
            self.made.superuser.clone(),
            format!("ALTER DATABASE {name} OWNER TO {user}"),
        );
        PostgresDatabase {
            url: format!("postgres://{login}@{address}/{name}"),
            made: Arc::clone(&self.made),
        }
    }

    /// As `--database-url` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.made.name
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let superuser = self.superuser.clone();
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        block_on(async move {
            // Where its PostgreSQL has ended, it goes with that.
            if let Ok(mut connection) = superuser.connect().await {
                let _ = sqlx::raw_sql(AssertSqlSafe(drop))
                    .execute(&mut connection)
                    .await;
            }
        });
    }
}

fn as_superuser(superuser: PgConnectOptions, statement: String) {
    block_on(async move {
        let mut connection = superuser.connect().await.expect("PostgreSQL");
        let run = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection);
        run.await.expect("the statement runs");
    });
}

/// Where a server keeps its data.
#[derive(Clone)]
pub enum ServerDatabase {
    /// The file in its data folder.
    File(PathBuf),
    /// PostgreSQL.
    Postgres(PostgresDatabase),
}

enum Connected {
    File(SqliteConnection),
    Postgres(PgConnection),
}

impl ServerDatabase {
    /// Whether it is the folder's file.
    pub fn is_file(&self) -> bool {
        matches!(self, ServerDatabase::File(_))
    }

    async fn connect(&self) -> Connected {
        match self {
            ServerDatabase::File(file) => {
                let options = SqliteConnectOptions::new().filename(file);
                Connected::File(options.connect().await.expect("the server's database"))
            }
            ServerDatabase::Postgres(database) => {
                let connected = PgConnection::connect(database.url()).await;
                Connected::Postgres(connected.expect("the server's database"))
            }
        }
    }

    /// Runs statements that both engines know, beside bytes as SQLite has them: `x'00'`, `zeroblob(36)`. Returns how
    /// many rows they changed.
    #[track_caller]
    pub fn execute(&self, statements: &str) -> u64 {
        let statements = AssertSqlSafe(if self.is_file() {
            statements.to_owned()
        } else {
            statements
                .replace(" x'", " '\\x")
                .replace("(x'", "('\\x")
                .replace("zeroblob(36)", "decode(repeat('00', 36), 'hex')")
        });
        block_on(async {
            let statements = sqlx::raw_sql(statements);
            match self.connect().await {
                Connected::File(mut file) => {
                    let run = statements.execute(&mut file).await;
                    run.map(|done| done.rows_affected())
                }
                Connected::Postgres(mut postgres) => {
                    let run = statements.execute(&mut postgres).await;
                    run.map(|done| done.rows_affected())
                }
            }
            .expect("the statements run")
        })
    }

    /// Makes it, in an empty database, as a former version did, whose last change of the schema this was.
    pub fn make_as_of(&self, version: i64) {
        let kind = if self.is_file() { "sqlite" } else { "postgres" };
        let changes = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/store/migrations");
        block_on(async {
            let changes = Migrator::new(changes.join(kind))
                .await
                .expect("the changes");
            let made = match self.connect().await {
                Connected::File(mut file) => {
                    changes.run_direct(Some(version), &mut file, false).await
                }
                Connected::Postgres(mut postgres) => {
                    changes
                        .run_direct(Some(version), &mut postgres, false)
                        .await
                }
            };
            made.expect("a schema");
        });
    }

    /// The first column of every row, as text.
    #[track_caller]
    pub fn texts(&self, query: &str) -> Vec<String> {
        let query = AssertSqlSafe(query.to_owned());
        block_on(async {
            match self.connect().await {
                Connected::File(mut file) => sqlx::query_scalar(query).fetch_all(&mut file).await,
                Connected::Postgres(mut postgres) => {
                    sqlx::query_scalar(query).fetch_all(&mut postgres).await
                }
            }
            .expect("the query runs")
        })
    }

    /// The one number that a query asks for.
    #[track_caller]
    pub fn number(&self, query: &str) -> i64 {
        let texts = self.texts(&format!("SELECT CAST(({query}) AS TEXT)"));
        texts[0].parse().expect("a number")
    }

    /// Keeps everybody else from writing until the work is done.
    pub fn held(&self, work: impl FnOnce() + Send) {
        block_on(async {
            match self.connect().await {
                Connected::File(mut file) => {
                    let begun = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut file).await;
                    begun.expect("the lock");
                    work();
                    file.close().await.expect("its end");
                }
                Connected::Postgres(mut postgres) => {
                    // Not the lock that whoever writes takes: writers hold that, and wait.
                    let lock =
                        "BEGIN; LOCK TABLE data_sources, tunnels, tokens, events IN EXCLUSIVE MODE";
                    let begun = sqlx::raw_sql(lock).execute(&mut postgres).await;
                    begun.expect("the lock");
                    work();
                    postgres.close().await.expect("its end");
                }
            }
        });
    }

    /// From now on, nothing like this can be done to the rows of a table, as on a full disk: `INSERT`, `UPDATE OF …`,
    /// to those of which the condition is true.
    pub fn refuse(&self, what: &str, table: &str, condition: &str) {
        let name = format!("full_{}_{table}", &what[..6]);
        let begin = format!(
            "CREATE TRIGGER {name} BEFORE {what} ON {table} FOR EACH ROW WHEN ({condition})"
        );
        self.execute(&match self {
            ServerDatabase::File(_) => {
                format!("{begin} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
            }
            ServerDatabase::Postgres(_) => format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN RAISE EXCEPTION 'no space left on device'; END $$;
                 {begin} EXECUTE FUNCTION refuse()"
            ),
        });
    }
}

/// Not in this thread, which may be one of a runtime.
fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(work)
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
