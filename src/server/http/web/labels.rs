//! The words for states, kinds and events.

use crate::protocol::{ConnectionKind, DataSourceState, DatabaseType};

/// A state in words, and how it is coloured.
pub struct StateLabel {
    /// The words.
    pub text: &'static str,
    /// `good`, `bad`, `waiting` or `quiet`.
    pub tone: &'static str,
}

/// A state in words.
pub fn state(connection: ConnectionKind, state: DataSourceState) -> StateLabel {
    let (text, tone) = match state {
        DataSourceState::Draft if connection == ConnectionKind::Direct => {
            ("Not saved yet", "waiting")
        }
        DataSourceState::Saved if connection == ConnectionKind::Direct => ("Saved", "good"),
        DataSourceState::Draft => ("Waiting for the bastion", "waiting"),
        DataSourceState::Enrolled => ("Waiting for the tunnel", "waiting"),
        DataSourceState::Connected => ("Tunnel up, not saved", "waiting"),
        DataSourceState::Saved => ("Saved, service being set up", "waiting"),
        DataSourceState::Active => ("Up", "good"),
        DataSourceState::Down => ("Down", "bad"),
        DataSourceState::Removing => ("Being removed", "quiet"),
        DataSourceState::Removed => ("Removed", "quiet"),
    };
    StateLabel { text, tone }
}

/// What a state is called in a list of all, where tunnels and direct connections stand side by side.
pub fn listed_state(listed: DataSourceState) -> &'static str {
    match listed {
        DataSourceState::Draft => "Not set up yet",
        DataSourceState::Saved => "Saved",
        other => state(ConnectionKind::ReverseTunnel, other).text,
    }
}

/// A database's name as its maker writes it.
pub fn database(database_type: DatabaseType) -> &'static str {
    match database_type {
        DatabaseType::Postgresql => "PostgreSQL",
        DatabaseType::Redshift => "Amazon Redshift",
        DatabaseType::Mysql => "MySQL",
        DatabaseType::Mariadb => "MariaDB",
        DatabaseType::Sqlserver => "Microsoft SQL Server",
        DatabaseType::Clickhouse => "ClickHouse (HTTP)",
        DatabaseType::Other => "Another database",
    }
}

/// The port on which such a database listens by itself.
pub fn usual_port(database_type: DatabaseType) -> Option<u16> {
    match database_type {
        DatabaseType::Postgresql => Some(5432),
        DatabaseType::Redshift => Some(5439),
        DatabaseType::Mysql | DatabaseType::Mariadb => Some(3306),
        DatabaseType::Sqlserver => Some(1433),
        DatabaseType::Clickhouse => Some(8123),
        DatabaseType::Other => None,
    }
}

/// An event in words; `kind` is its name in the history.
pub fn event(kind: &str) -> &str {
    match kind {
        "created" => "Created",
        "changed" => "Changed",
        "enrolled" => "The bastion registered its key",
        "key_registered" => "The public key was registered by hand",
        "key_replaced" => "Another public key was registered by hand",
        "target_confirmed" => "The tunnel points to the new host and port",
        "connected" => "The bastion reported its tunnel",
        "saved" => "Saved",
        "service_installed" => "The service runs the tunnel",
        "service_uninstalled" => "The service no longer runs the tunnel",
        "moved" => "The tunnel has moved to the other region",
        "up" => "The tunnel came up",
        "down" => "The tunnel went down",
        "taken_over" => "A new session took over from a silent one",
        "refused_held" => {
            "A second session was refused: another machine with the same key holds the tunnel"
        }
        "removal_requested" => "Removal asked for",
        "removed" => "Removed",
        "login_saved" => "Login saved",
        "login_forgotten" => "Saved login erased",
        "key_announced" => "The bastion announced a new key",
        "key_changed" => "The new key took over",
        other => other,
    }
}

/// A test's stage in words.
pub fn stage(name: &str) -> &str {
    match name {
        "tunnel" => "Tunnel",
        "dns" => "Address",
        "tcp" => "Connection to the database",
        "tls" => "TLS",
        "login" => "Login",
        "query" => "Query",
        other => other,
    }
}
