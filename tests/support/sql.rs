//! Queries through a port, as the vendor's BI tool makes them.

use std::thread::JoinHandle;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use tokio::runtime::Runtime;

/// Who logs in, and to which database.
#[derive(Debug, Clone)]
pub struct Login {
    /// The database's name.
    pub database: String,
    /// The user.
    pub username: String,
    /// The password, checked with SCRAM.
    pub password: String,
}

/// A connection to PostgreSQL on a port of loopback.
pub struct Client {
    runtime: Runtime,
    connection: PgConnection,
}

impl Client {
    /// Connects and logs in.
    pub fn connect(port: u16, login: &Login) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(&login.username)
            .password(&login.password)
            .database(&login.database)
            .ssl_mode(PgSslMode::Disable);
        Self::connect_with(&options)
    }

    /// The same with everything said by the caller.
    pub fn connect_with(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let connection = runtime.block_on(options.connect())?;
        Ok(Client {
            runtime,
            connection,
        })
    }

    /// Runs statements that answer nothing.
    pub fn execute(&mut self, statements: &'static str) -> Result<(), sqlx::Error> {
        let run = sqlx::raw_sql(statements).execute(&mut self.connection);
        self.runtime.block_on(run).map(drop)
    }

    /// The only column of the only row, which must be `bigint`.
    pub fn number(&mut self, query: &'static str) -> Result<i64, sqlx::Error> {
        let number = sqlx::query_scalar(query).fetch_one(&mut self.connection);
        self.runtime.block_on(number)
    }

    /// Starts a query and leaves it to run in a thread of its own.
    pub fn hold(mut self, query: &'static str) -> HeldQuery {
        HeldQuery {
            thread: std::thread::spawn(move || self.number(query)),
        }
    }
}

/// A query that is running.
pub struct HeldQuery {
    thread: JoinHandle<Result<i64, sqlx::Error>>,
}

impl HeldQuery {
    /// Whether it is still running.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits for its answer. The query itself says how long that takes.
    pub fn answer(self) -> Result<i64, sqlx::Error> {
        self.thread.join().expect("the thread of the query")
    }
}

/// A query that runs until it is released, however long that takes.
pub struct LockedQuery {
    holder: Client,
    query: HeldQuery,
}

impl LockedQuery {
    /// What it answers.
    pub const ANSWER: i64 = 4711;

    /// Starts it through one connection, and keeps it waiting for a lock of another.
    pub fn begin(mut holder: Client, through: Client) -> Self {
        holder
            .execute("SELECT pg_advisory_lock(1)")
            .expect("a lock");
        let query = through.hold(
            "WITH released AS MATERIALIZED (SELECT pg_advisory_lock(1)) SELECT 4711::bigint FROM released",
        );
        LockedQuery { holder, query }
    }

    /// Whether it is still running.
    pub fn is_running(&self) -> bool {
        self.query.is_running()
    }

    /// Releases it and takes its answer.
    pub fn answer(mut self) -> Result<i64, sqlx::Error> {
        self.holder.execute("SELECT pg_advisory_unlock(1)")?;
        self.query.answer()
    }
}
