//! `list`: the tunnels of this host, from the receipt alone.

use serde_json::json;

use super::{others, tunnels};
use crate::bastion::cli::List;
use crate::bastion::failure::Exit;
use crate::bastion::host::Host;
use crate::bastion::receipt::TunnelRecord;
use crate::bastion::service::InstalledTunnel;
use crate::bastion::ssh::command_line::bracketed;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui;

pub(super) fn run(host: &dyn Host, command: &List) -> anyhow::Result<Exit> {
    let installed = tunnels::installed(host)?;
    let rows: Vec<serde_json::Value> = installed
        .iter()
        .flat_map(|(receipt, _)| {
            let tunnels = receipt.tunnels.iter();
            tunnels.map(|(id, tunnel)| row(*id, tunnel, receipt.is_set_up(*id)))
        })
        .collect();
    let others = others::tunnels(host, installed.as_ref().map(|(receipt, _)| receipt))?;
    if command.json {
        let rows: Vec<_> = rows
            .into_iter()
            .chain(others.iter().map(of_another))
            .collect();
        ui::print(&serde_json::to_string_pretty(&json!({ "tunnels": rows }))?);
        return Ok(Exit::Done);
    }
    for other in &others {
        ui::print(&format!(
            "{} of {} ({:?}): {}, reached through {} port {}",
            other.name,
            other.user,
            other.name,
            other.target(),
            other.server,
            other.remote_port
        ));
    }
    if rows.is_empty() {
        if others.is_empty() {
            ui::print("No tunnels.");
        }
        return Ok(Exit::Done);
    }
    let lines = installed
        .iter()
        .flat_map(|(receipt, _)| &receipt.tunnels)
        .zip(&rows)
        .map(|((id, tunnel), row)| cells(*id, tunnel, row["setup_complete"] == true));
    let header = ["ID", "NAME", "DATABASE", "REACHED THROUGH", "SETUP"].map(str::to_owned);
    print_table(&std::iter::once(header).chain(lines).collect::<Vec<_>>());
    Ok(Exit::Done)
}

/// A tunnel of another user, as far as root's files tell.
fn of_another(tunnel: &InstalledTunnel) -> serde_json::Value {
    json!({
        "id": tunnel.name.number(),
        "name": tunnel.name,
        "user": tunnel.user,
        "target": tunnel.target(),
        "server": tunnel.server,
        "remote_port": tunnel.remote_port,
    })
}

fn row(id: TunnelName, tunnel: &TunnelRecord, complete: bool) -> serde_json::Value {
    let enrolled = tunnel.enrolled.as_ref();
    json!({
        "id": id.number(),
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

fn cells(id: TunnelName, tunnel: &TunnelRecord, complete: bool) -> [String; 5] {
    let through = tunnel.enrolled.as_ref().map_or_else(
        || "-".to_owned(),
        |enrolled| format!("{} port {}", enrolled.server.host, enrolled.remote_port),
    );
    [
        id.to_string(),
        tunnel.display_name.clone(),
        format!("{}:{}", bracketed(&tunnel.target_host), tunnel.target_port),
        through,
        if complete { "complete" } else { "begun" }.to_owned(),
    ]
}

/// Every column is as wide as its widest cell, so that a line is no longer than it has to be.
fn print_table(lines: &[[String; 5]]) {
    let width = |column: usize| {
        lines
            .iter()
            .map(|cells| console::measure_text_width(&cells[column]))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    for cells in lines {
        let padded: Vec<_> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| console::pad_str(cell, *width, console::Alignment::Left, None))
            .collect();
        ui::print(padded.join("  ").trim_end());
    }
}
