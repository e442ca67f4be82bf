//! The customer's database: a real PostgreSQL, run by a user that is not root.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::account::Account;
use super::ports;
use super::process::{self, Running};
use super::sql::{Client, Login};
use super::workspace::Workspace;

/// How many rows the table `orders` has; their `id` goes from 1 to this, their `amount` is 7 × `id`.
pub const ROWS: i64 = 1_000;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

const MAKE_READER: &str = "CREATE ROLE reader LOGIN PASSWORD 'open sesame'";
const MAKE_DATABASE: &str = "CREATE DATABASE shop";
/// `padding` gives the table some weight: it is about a megabyte.
const MAKE_TABLE: &str = "
    CREATE TABLE orders AS
        SELECT n AS id, n * 7 AS amount, repeat('x', 1000) AS padding
        FROM generate_series(1::bigint, 1000) AS n;
    GRANT SELECT ON orders TO reader;
";

/// A running PostgreSQL with the database `shop`, its table `orders`, and a user who may read it.
pub struct Postgres {
    port: u16,
    // The order of the fields is the order of the end: the process, then its folder.
    process: Running,
    workspace: Workspace,
}

impl Postgres {
    /// The one that the tests of this binary share, started for the first and stopped after the
    /// last of those that run at a time.
    pub fn shared() -> Arc<Postgres> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        // Where another test failed to start it, this one tries again.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let postgres = Arc::new(Postgres::start());
            *shared = Arc::downgrade(&postgres);
            postgres
        })
    }

    /// Makes a cluster, starts it and fills it.
    pub fn start() -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST)
    }

    /// The same on another address of the machine on which the calling thread is.
    pub fn start_on(address: Ipv4Addr) -> Self {
        let workspace = Workspace::new();
        let cluster = Cluster::make(workspace.path());
        cluster.admit_everybody();
        let port = ports::free_port();
        let postgres = Postgres {
            port,
            process: cluster.start(address, port),
            workspace,
        };
        postgres.wait_until_ready();
        postgres.fill();
        postgres
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The reader's login.
    pub fn login(&self) -> Login {
        Login {
            database: "shop".into(),
            username: "reader".into(),
            password: "open sesame".into(),
        }
    }

    fn wait_until_ready(&self) {
        self.process
            .wait_until("PostgreSQL to take connections", START_LIMIT, || {
                self.superuser("postgres").is_ok()
            });
    }

    fn fill(&self) {
        let run = |database, statements| {
            self.superuser(database)
                .and_then(|mut client| client.execute(statements))
                .unwrap_or_else(|error| panic!("{statements}: {error}"))
        };
        run("postgres", MAKE_READER);
        run("postgres", MAKE_DATABASE);
        run("shop", MAKE_TABLE);
    }

    /// The superuser comes in through the Unix socket, which only the owner of the folder reaches.
    fn superuser(&self, database: &str) -> Result<Client, sqlx::Error> {
        Client::connect_with(
            &PgConnectOptions::new_without_pgpass()
                .socket(self.workspace.path())
                .port(self.port)
                .username("postgres")
                .database(database)
                .ssl_mode(PgSslMode::Disable),
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown ends every connection and, unlike KILL, gives back what the
        // cluster holds of shared memory.
        self.process.signal(Signal::QUIT);
        let deadline = Instant::now() + STOP_LIMIT;
        while self.process.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A cluster's files and the account that runs it.
struct Cluster<'a> {
    folder: &'a Path,
    programs: PathBuf,
    account: Account,
}

impl<'a> Cluster<'a> {
    fn make(folder: &'a Path) -> Self {
        let cluster = Cluster {
            folder,
            programs: programs(),
            account: Account::for_a_database(),
        };
        cluster.account.give(folder);
        let init = &mut cluster.program("initdb");
        init.arg("--pgdata").arg(cluster.data());
        init.args([
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        init.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        process::run(init, folder, "initdb").expect_code(0);
        cluster
    }

    /// With the right password, from wherever the address it listens on can be reached.
    fn admit_everybody(&self) {
        let rules = self.data().join("pg_hba.conf");
        let mut rules = OpenOptions::new()
            .append(true)
            .open(rules)
            .expect("pg_hba.conf");
        writeln!(rules, "host all all all scram-sha-256").expect("a rule");
    }

    fn start(&self, address: Ipv4Addr, port: u16) -> Running {
        let postgres = &mut self.program("postgres");
        postgres.arg("-D").arg(self.data());
        postgres.arg("-k").arg(self.folder);
        postgres.args(["-h", &address.to_string(), "-p", &port.to_string(), "-F"]);
        Running::start(postgres, self.folder, "postgres")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir(self.folder);
        self.account.apply_to(&mut command);
        command
    }
}

/// The newest PostgreSQL's programs. Debian keeps them out of `PATH`.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|folder| folder.join("postgres").exists())
        .max()
        .expect("no PostgreSQL under /usr/lib/postgresql: apt-get install postgresql")
}
