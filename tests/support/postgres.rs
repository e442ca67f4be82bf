//! The customer's database: a real PostgreSQL, run by a user that is not root.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::account::Account;
use super::database::PostgresDatabase;
use super::hosts::certificate;
use super::ports;
use super::process::{self, Running};
use super::shared::Shared;
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

/// Whoever is refused, and why: see [`RULES`] as well. And `keeper`, whom a database for a server is given to, and
/// `passerby`, who reads without a password.
const MAKE_REFUSALS: [&str; 8] = [
    "CREATE ROLE passerby LOGIN",
    "GRANT reader TO passerby",
    "CREATE ROLE keeper LOGIN PASSWORD 'sesame'",
    "CREATE ROLE guarded LOGIN PASSWORD 'open sesame'",
    "CREATE ROLE stranger LOGIN PASSWORD 'open sesame'",
    "CREATE ROLE crowded LOGIN PASSWORD 'open sesame' CONNECTION LIMIT 0",
    "CREATE DATABASE ledger",
    "REVOKE CONNECT ON DATABASE ledger FROM PUBLIC",
];

/// `guarded` must encrypt, `stranger` has no business here. Everybody else comes in with the right password,
/// from wherever the address it listens on can be reached.
const RULES: &str = "
local all all trust
local replication all trust
hostnossl all guarded all reject
host all stranger all reject
host shop passerby all trust
host all all all scram-sha-256
";

/// A running PostgreSQL with the database `shop`, its table `orders`, and a user who may read it.
pub struct Postgres {
    address: Ipv4Addr,
    port: u16,
    // The order of the fields is the order of the end: the process, then its folder.
    process: Running,
    workspace: Workspace,
}

impl Postgres {
    /// The one that the tests of this binary share, started for the first and stopped after the
    /// last of those that run at a time.
    pub fn shared() -> Arc<Postgres> {
        static SHARED: Shared<Postgres> = Shared::new();
        SHARED.get(Postgres::start)
    }

    /// Makes a cluster, starts it and fills it.
    pub fn start() -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST)
    }

    /// The same on another address of the machine on which the calling thread is.
    pub fn start_on(address: Ipv4Addr) -> Self {
        Self::start_with(address, |_| Vec::new())
    }

    /// One with TLS and a certificate of its own, for `db.example`.
    pub fn start_with_tls() -> Self {
        Self::start_with(Ipv4Addr::LOCALHOST, |cluster| cluster.tls())
    }

    fn start_with(address: Ipv4Addr, further: impl FnOnce(&Cluster) -> Vec<String>) -> Self {
        let workspace = Workspace::new();
        let cluster = Cluster::make(workspace.path());
        cluster.write_rules();
        let port = ports::free_port();
        let further = further(&cluster);
        let postgres = Postgres {
            address,
            port,
            process: cluster.start(address, port, &further),
            workspace,
        };
        postgres.wait_until_ready();
        postgres.fill();
        postgres
    }

    /// A new, empty database for a server's own data, in the PostgreSQL that the tests of this binary share.
    pub fn server_database() -> PostgresDatabase {
        let cluster = Postgres::shared();
        let superuser = cluster.superuser_of("postgres");
        PostgresDatabase::make(superuser, Some(cluster))
    }

    /// The same in this one, for a server that comes as a user without further rights, with a password.
    pub fn guarded_server_database(&self) -> PostgresDatabase {
        self.server_database_behind(&format!("127.0.0.1:{}", self.port))
    }

    /// The same for servers that reach it at this address, a load balancer's.
    pub fn server_database_behind(&self, address: &str) -> PostgresDatabase {
        let made = PostgresDatabase::make(self.superuser_of("postgres"), None);
        made.owned_by("keeper:sesame", address)
    }

    /// A standby on another machine, on which the calling thread must be. It follows this one until it is promoted.
    pub fn standby_on(&self, address: Ipv4Addr) -> Self {
        let workspace = Workspace::new();
        let cluster = Cluster::of(workspace.path());
        cluster.account.give(workspace.path());
        let copy = &mut cluster.program("pg_basebackup");
        copy.arg("--host").arg(self.workspace.path());
        copy.args(["--port", &self.port.to_string(), "--username=postgres"]);
        copy.arg("--pgdata").arg(cluster.data());
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        process::run(copy, workspace.path(), "pg_basebackup").expect_code(0);
        let standby = Postgres {
            address,
            port: self.port,
            process: cluster.start(address, self.port, &[]),
            workspace,
        };
        standby.wait_until_ready();
        standby
    }

    /// Makes a standby the one that is written to.
    pub fn promote(&self) {
        self.run("postgres", "SELECT pg_promote()");
    }

    /// Lets the superuser run a statement.
    #[track_caller]
    pub fn run(&self, database: &str, statement: &'static str) {
        self.superuser(database)
            .and_then(|mut client| client.execute(statement))
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Ends it as a crash does, with all its connections.
    pub fn crash(&self) {
        self.process.signal(Signal::QUIT);
        self.wait_for_end();
    }

    /// Starts it again after that. In recovery for ever, if it is to be a standby.
    pub fn start_again(&mut self, as_standby: bool) {
        let cluster = Cluster::of(self.workspace.path());
        if as_standby {
            std::fs::write(cluster.data().join("standby.signal"), "").expect("a file");
        }
        self.process = cluster.start(self.address, self.port, &[]);
        self.wait_until_ready();
    }

    /// All its processes stand still, and nobody notices but by waiting.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// They go on.
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        self.process.signal(signal);
        let server = self.process.pid();
        let children = format!("/proc/{server}/task/{server}/children");
        let children = std::fs::read_to_string(children).expect("its children");
        for child in children.split_whitespace() {
            let child = Pid::from_raw(child.parse().expect("a number")).expect("not zero");
            // It may have ended meanwhile.
            let _ = kill_process(child, signal);
        }
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
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

    /// The login of somebody who comes so often that proving a password each time would be most of what is done.
    pub fn login_without_password(&self) -> Login {
        Login {
            username: "passerby".into(),
            ..self.login()
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output()
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
                .unwrap_or_else(|error| panic!("{statements}: {error}"));
        };
        run("postgres", MAKE_READER);
        run("postgres", MAKE_DATABASE);
        run("shop", MAKE_TABLE);
        for statement in MAKE_REFUSALS {
            run("postgres", statement);
        }
    }

    /// The superuser comes in through the Unix socket, which only the owner of the folder reaches.
    fn superuser(&self, database: &str) -> Result<Client, sqlx::Error> {
        Client::connect_with(&self.superuser_of(database))
    }

    fn superuser_of(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.workspace.path())
            .port(self.port)
            .username("postgres")
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown ends every connection and, unlike KILL, gives back what the
        // cluster holds of shared memory.
        if self.process.is_running() {
            self.process.signal(Signal::QUIT);
            self.wait_for_end();
        }
    }
}

impl Postgres {
    fn wait_for_end(&self) {
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
    fn of(folder: &'a Path) -> Self {
        Cluster {
            folder,
            programs: programs(),
            account: Account::for_a_database(),
        }
    }

    fn make(folder: &'a Path) -> Self {
        let cluster = Cluster::of(folder);
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

    fn write_rules(&self) {
        std::fs::write(self.data().join("pg_hba.conf"), RULES).expect("pg_hba.conf");
    }

    fn tls(&self) -> Vec<String> {
        let certified = certificate::for_name("db.example", self.folder);
        self.account.give(&certified.key);
        let certificate = certified.certificate.display();
        let key = certified.key.display();
        vec![
            "ssl=on".to_owned(),
            format!("ssl_cert_file={certificate}"),
            format!("ssl_key_file={key}"),
        ]
    }

    fn start(&self, address: Ipv4Addr, port: u16, settings: &[String]) -> Running {
        let postgres = &mut self.program("postgres");
        postgres.arg("-D").arg(self.data());
        postgres.arg("-k").arg(self.folder);
        postgres.args(["-h", &address.to_string(), "-p", &port.to_string(), "-F"]);
        // Servers that keep their data in it have several connections each.
        postgres.args(["-c", "max_connections=300"]);
        for setting in settings {
            postgres.arg("-c").arg(setting);
        }
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
