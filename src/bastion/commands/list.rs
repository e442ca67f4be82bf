//! `list`: the tunnels of this host, from the receipt alone.

use serde_json::json;

use super::tunnels;
use crate::bastion::cli::List;
use crate::bastion::failure::Exit;
use crate::bastion::host::Host;
use crate::bastion::receipt::{Scope, TunnelRecord};
use crate::bastion::steps::StepName;
use crate::bastion::ui;
use crate::protocol::TunnelId;

pub(super) fn run(host: &dyn Host, command: &List) -> anyhow::Result<Exit> {
    let installed = tunnels::installed(host)?;
    let rows: Vec<serde_json::Value> = installed
        .iter()
        .flat_map(|(receipt, _)| {
            receipt.tunnels.iter().map(|(id, tunnel)| {
                row(
                    *id,
                    tunnel,
                    receipt.is_done(Scope::Tunnel(*id), StepName::ServiceTunnel),
                )
            })
        })
        .collect();
    if command.json {
        ui::print(&serde_json::to_string_pretty(&json!({ "tunnels": rows }))?);
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        ui::print("No tunnels.");
        return Ok(Exit::Done);
    }
    ui::print(&format!(
        "{:>6}  {:<24} {:<28} {:<32} {}",
        "ID", "NAME", "DATABASE", "REACHED THROUGH", "SETUP"
    ));
    for (id, tunnel) in installed.iter().flat_map(|(receipt, _)| &receipt.tunnels) {
        let through = tunnel.enrolled.as_ref().map_or_else(
            || "-".to_owned(),
            |enrolled| format!("{} port {}", enrolled.server.host, enrolled.remote_port),
        );
        let setup = installed.as_ref().is_some_and(|(receipt, _)| {
            receipt.is_done(Scope::Tunnel(*id), StepName::ServiceTunnel)
        });
        ui::print(&format!(
            "{id:>6}  {:<24} {:<28} {through:<32} {}",
            tunnel.display_name,
            format!("{}:{}", tunnel.target_host, tunnel.target_port),
            if setup { "complete" } else { "begun" }
        ));
    }
    Ok(Exit::Done)
}

fn row(id: TunnelId, tunnel: &TunnelRecord, complete: bool) -> serde_json::Value {
    let enrolled = tunnel.enrolled.as_ref();
    json!({
        "id": id,
        "data_source_id": tunnel.data_source_id,
        "display_name": tunnel.display_name,
        "host": tunnel.target_host,
        "port": tunnel.target_port,
        "control_plane": tunnel.control_plane,
        "remote_port": enrolled.map(|enrolled| enrolled.remote_port),
        "server": enrolled.map(|enrolled| format!("{}:{}", enrolled.server.host, enrolled.server.port)),
        "setup_complete": complete,
    })
}
