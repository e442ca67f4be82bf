//! What the API and the pages show.

use super::scripts;
use crate::protocol::{
    DataSource, EnrolledBy, EnrollmentCommand, NextRegion, PROGRAM, RemovalCommand, TunnelPlace,
    TunnelServerAddress, TunnelStatus, TunnelSummary,
};
use crate::server::domain::address::PublicAddress;
use crate::server::domain::regions::ssh_servers;
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
        update_command: tunnel
            .filter(|_| record.is_to_be_updated())
            .map(|tunnel| format!("{} update-tunnel {}", PROGRAM, tunnel.id)),
        enrollment: None,
        created_at: record.created_at,
    }
}

/// The same, with which of the servers that share the tunnels have taken over the last change of its keys.
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
        region: tunnel.region.clone(),
        remote_port: tunnel.remote_port,
        server: ssh_servers_of(control, &tunnel.region),
        status,
        last_seen: match status {
            TunnelStatus::Up => Some(jiff::Timestamp::now()),
            TunnelStatus::Down => tunnel.last_seen,
        },
        applied: tunnel.applied.clone(),
        pending: record.pending(),
        moving_to: record.next_place().map(|next| NextRegion {
            region: next.region.clone(),
            remote_port: next.port,
            server: ssh_servers_of(control, &next.region),
        }),
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

/// Where the tunnel servers of a region are, and how to know them.
pub fn tunnel_server(control: &ControlPlane, region: &str) -> TunnelServerAddress {
    let known = control.regions.find(region);
    let mut hosts = known
        .iter()
        .flat_map(|region| region.ssh_hosts.iter().cloned());
    TunnelServerAddress {
        host: hosts.next().unwrap_or_default(),
        other_host: hosts.next(),
        port: known.as_ref().map_or(0, |region| region.ssh_port),
        user: SSH_USER.to_owned(),
        host_keys: control.host_keys_of(region),
    }
}

/// Where a tunnel is to end: where it is to move, or else where it is. None before somebody has enrolled for it.
pub fn wanted_place(control: &ControlPlane, tunnel: &TunnelRecord) -> Option<TunnelPlace> {
    let (region, remote_port) = match &tunnel.next {
        Some(next) => (&next.region, next.port),
        None => (&tunnel.region, tunnel.remote_port?),
    };
    Some(TunnelPlace {
        region: region.clone(),
        remote_port,
        server: tunnel_server(control, region),
    })
}

fn ssh_servers_of(control: &ControlPlane, region: &str) -> String {
    let known = control.regions.find(region);
    known.as_ref().map(ssh_servers).unwrap_or_default()
}
