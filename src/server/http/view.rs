//! What the API and the pages show.

use super::scripts;
use crate::protocol::{
    DataSource, EnrollmentCommand, PROGRAM, RemovalCommand, TunnelStatus, TunnelSummary,
};
use crate::server::domain::address::PublicAddress;
use crate::server::domain::{CommandToken, ControlPlane, logins};
use crate::server::store::{Record, TunnelRecord};

/// The command that sets a tunnel up.
pub fn enrollment(public: &PublicAddress, command: &CommandToken) -> EnrollmentCommand {
    EnrollmentCommand {
        command: scripts::bootstrap_command(public, &command.token),
        token: command.token.as_str().to_owned(),
        expires_at: command.expires_at,
    }
}

/// The command that removes a tunnel.
pub fn removal(public: &PublicAddress, command: &CommandToken) -> RemovalCommand {
    RemovalCommand {
        command: scripts::removal_command(public, &command.token),
        token: command.token.as_str().to_owned(),
    }
}

/// A data source as an operator sees it.
pub fn data_source(control: &ControlPlane, record: &Record) -> DataSource {
    let tunnel = record.tunnel.as_ref();
    DataSource {
        id: record.id,
        display_name: record.display_name.clone(),
        database_type: record.database_type,
        connection: record.connection(),
        host: record.host.clone(),
        port: record.port,
        state: control.state(record),
        tunnel: tunnel.map(|tunnel| tunnel_summary(control, record, tunnel)),
        login: record.login.as_ref().map(logins::summary),
        update_command: record
            .pending()
            .and(tunnel)
            .map(|tunnel| format!("{} update-tunnel {}", PROGRAM, tunnel.id)),
        enrollment: None,
        created_at: record.created_at,
    }
}

fn tunnel_summary(control: &ControlPlane, record: &Record, tunnel: &TunnelRecord) -> TunnelSummary {
    let status = control.status(tunnel.id);
    TunnelSummary {
        id: tunnel.id,
        remote_port: tunnel.remote_port,
        server: control.public.ssh_server(),
        status,
        last_seen: match status {
            TunnelStatus::Up => Some(jiff::Timestamp::now()),
            TunnelStatus::Down => tunnel.last_seen,
        },
        applied: tunnel.applied.clone(),
        pending: record.pending(),
    }
}
