//! The databases behind the tunnels of these journeys.

use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::sql::Login;

/// Two databases of a kind, so that a tunnel can be led from the one to the other.
pub struct Databases {
    /// The name of the kind in the form.
    pub kind: &'static str,
    /// What the server calls itself.
    pub maker: &'static str,
    /// Where the first one listens on loopback.
    pub port: u16,
    /// Where the other one does.
    pub other_port: u16,
    /// The login that both know.
    pub login: Login,
    _running: Running,
}

/// They run until this is dropped.
enum Running {
    Postgres { _both: [Postgres; 2] },
    MariaDb { _both: [MariaDb; 2] },
}

impl Databases {
    /// Two PostgreSQLs.
    pub fn postgresql() -> Self {
        let both = [Postgres::start(), Postgres::start()];
        Databases {
            kind: "postgresql",
            maker: "PostgreSQL",
            port: both[0].port(),
            other_port: both[1].port(),
            login: both[0].login(),
            _running: Running::Postgres { _both: both },
        }
    }

    /// Two MariaDBs.
    pub fn mariadb() -> Self {
        let both = [MariaDb::start(), MariaDb::start()];
        Databases {
            kind: "mariadb",
            maker: "MariaDB",
            port: both[0].port(),
            other_port: both[1].port(),
            login: both[0].login(),
            _running: Running::MariaDb { _both: both },
        }
    }
}
