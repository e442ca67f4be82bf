//! The customer's other database: a real MariaDB, run by a user that is not root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::account::Account;
use super::hosts::certificate;
use super::ports;
use super::process::{self, Running};
use super::sql::Login;
use super::workspace::Workspace;

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What it says when it takes connections; the statements of [`FILL`] are done by then.
const READY: &str = "ready for connections";

/// A statement on each line, which is how `--init-file` wants them.
const FILL: &str = "\
CREATE DATABASE shop;
USE shop;
CREATE TABLE orders AS SELECT seq AS id, seq * 7 AS amount FROM seq_1_to_1000;
CREATE DATABASE ledger;
CREATE USER reader IDENTIFIED BY 'open sesame';
GRANT SELECT ON shop.* TO reader;
CREATE USER admin IDENTIFIED BY 'open sesame';
GRANT ALL ON *.* TO admin;
";

/// A running MariaDB with the database `shop`, its table `orders` (a thousand rows), and the user
/// `reader` who may read it. `admin` may do everything; `ledger` is a database that `reader` may not use.
pub struct MariaDb {
    port: u16,
    // The order of the fields is the order of the end: the process, then its folder.
    process: Running,
    _workspace: Workspace,
}

impl MariaDb {
    /// Makes one without TLS, starts it and fills it.
    pub fn start() -> Self {
        Self::start_with(|_, _| Vec::new())
    }

    /// The same with TLS and a certificate of its own, for `db.example`.
    pub fn start_with_tls() -> Self {
        Self::start_with(|folder, account| {
            let certified = certificate::for_name("db.example", folder);
            account.give(&certified.key);
            vec![
                format!("--ssl-cert={}", certified.certificate.display()),
                format!("--ssl-key={}", certified.key.display()),
            ]
        })
    }

    fn start_with(further: impl FnOnce(&Path, &Account) -> Vec<String>) -> Self {
        let workspace = Workspace::new();
        let account = Account::for_a_database();
        let folder = workspace.path();
        account.give(folder);
        make_data(folder, &account);
        let port = ports::free_port();
        let further = further(folder, &account);
        let process = start(folder, &account, port, &further);
        process.wait_until("MariaDB to take connections", START_LIMIT, || {
            process.output().contains(READY)
        });
        MariaDb {
            port,
            process,
            _workspace: workspace,
        }
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

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.process.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_LIMIT;
        while self.process.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn make_data(folder: &Path, account: &Account) {
    let mut install = program("mariadb-install-db", folder, account);
    install.arg("--no-defaults").arg(data_argument(folder));
    install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
    process::run(&mut install, folder, "mariadb-install-db").expect_code(0);
}

fn start(folder: &Path, account: &Account, port: u16, further: &[String]) -> Running {
    let fill = folder.join("fill.sql");
    std::fs::write(&fill, FILL).expect("the statements");
    let in_folder = |option, name| format!("--{option}={}", folder.join(name).display());
    let mut server = program("mariadbd", folder, account);
    server.arg("--no-defaults").arg(data_argument(folder));
    server.args([
        in_folder("socket", "mariadb.sock"),
        in_folder("pid-file", "mariadb.pid"),
        in_folder("init-file", "fill.sql"),
        format!("--port={port}"),
    ]);
    server.args(["--bind-address=127.0.0.1", "--skip-name-resolve"]);
    server.args(further);
    Running::start(&mut server, folder, "mariadbd")
}

fn data_argument(folder: &Path) -> String {
    format!("--datadir={}", folder.join("data").display())
}

/// One of MariaDB's programs, which Debian keeps partly out of an ordinary user's `PATH`.
fn program(name: &str, folder: &Path, account: &Account) -> Command {
    let found = ["/usr/sbin", "/usr/bin"]
        .iter()
        .map(|programs| PathBuf::from(programs).join(name))
        .find(|program| program.exists())
        .unwrap_or_else(|| {
            panic!("no {name}: apt-get install mariadb-server-core mariadb-client-core")
        });
    let mut command = Command::new(found);
    command
        .env_clear()
        .env("PATH", super::bastion::PATH)
        .env("LC_ALL", "C")
        // One that starts clears the tables of others out of a folder that it shares with them.
        .env("TMPDIR", folder)
        .current_dir(folder);
    account.apply_to(&mut command);
    command
}
