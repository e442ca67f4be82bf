//! What the API and the pages show.

use super::scripts;
use crate::protocol::{
    DataSource, EnrolledBy, EnrollmentCommand, PROGRAM, RemovalCommand, TunnelServerAddress,
    TunnelStatus, TunnelSummary,
};
use crate::server::domain::address::PublicAddress;
use crate::server::domain::{CommandToken, ControlPlane, Error, host_keys, logins};
use crate::server::store::{Record, Registrant, TunnelRecord};

/// The user bastions log in as. The key decides; the name is the same for all.
const SSH_USER: &str = "tunnel";

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
            .and(tunnel.filter(|tunnel| !tunnel.by_hand))
            .map(|tunnel| format!("{} update-tunnel {}", PROGRAM, tunnel.id)),
        enrollment: None,
        created_at: record.created_at,
    }
}

/// The same, with which of the servers that share the tunnels have taken over the last change of its keys.
///
/// # Errors
/// The database failed.
pub async fn whole_data_source(
    control: &ControlPlane,
    record: &Record,
) -> Result<DataSource, Error> {
    let mut source = data_source(control, record);
    if let Some(tunnel) = &mut source.tunnel {
        let confirmations = control.key_confirmations(tunnel.id).await?;
        tunnel.key_confirmed_by = confirmations.confirmed_by;
        tunnel.key_pending_on = confirmations.pending_on;
    }
    Ok(source)
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
        enrolled_by: tunnel.registrant.as_ref().map(enrolled_by),
        set_up_by_hand: tunnel.by_hand,
        key_confirmed_by: Vec::new(),
        key_pending_on: Vec::new(),
    }
}

fn enrolled_by(registrant: &Registrant) -> EnrolledBy {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let key = registrant.public_key.as_deref();
    EnrolledBy {
        at: registrant.at,
        key_fingerprint: key.and_then(|key| host_keys::fingerprint(key).ok()),
        operator: registrant.operator.clone(),
        hostname: said(&registrant.hostname),
        os: said(&registrant.os),
        user: said(&registrant.user),
        address: registrant.address.clone(),
    }
}

/// Where the tunnel server is, and how to know it.
pub fn tunnel_server(control: &ControlPlane) -> TunnelServerAddress {
    TunnelServerAddress {
        host: control.public.ssh_host.clone(),
        port: control.public.ssh_port,
        user: SSH_USER.to_owned(),
        host_keys: control.tunnels.host_keys(),
    }
}
