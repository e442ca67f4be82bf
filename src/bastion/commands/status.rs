//! `status`: whether the tunnels are up.
//!
//! Up means that the tunnel's own session holds its port on the tunnel server. A running process on
//! this host is shown too, and is not enough.

use serde::Serialize;
use serde_json::json;

use super::tunnels;
use crate::bastion::cli::Status;
use crate::bastion::control_plane::{ControlPlane, is_gone};
use crate::bastion::failure::{Exit, OneLine};
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, TunnelRecord};
use crate::bastion::service::{self, ServiceState};
use crate::bastion::ui;
use crate::protocol::{TunnelId, TunnelStatus};

#[derive(Serialize)]
struct Row {
    id: TunnelId,
    up: bool,
    service: ServiceState,
    control_plane: String,
}

pub(super) fn run(host: &dyn Host, command: &Status) -> anyhow::Result<Exit> {
    let installed = tunnels::installed(host)?;
    let Some((receipt, layout)) = &installed else {
        return match command.id {
            Some(id) => Err(tunnels::unknown(None, id).into()),
            None => Ok(show(&[], command.json)?),
        };
    };
    let asked: Vec<(TunnelId, &TunnelRecord)> = match command.id {
        Some(id) => vec![(id, tunnels::find(receipt, id)?)],
        None => receipt
            .tunnels
            .iter()
            .map(|(id, tunnel)| (*id, tunnel))
            .collect(),
    };
    let rows = asked
        .into_iter()
        .map(|(id, tunnel)| row(host, command, receipt, layout, id, tunnel))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(show(&rows, command.json)?)
}

fn row(
    host: &dyn Host,
    command: &Status,
    receipt: &Receipt,
    layout: &Layout,
    id: TunnelId,
    tunnel: &TunnelRecord,
) -> anyhow::Result<Row> {
    let service = match receipt.init {
        Some(init) => service::manager(init)?.status(host, layout, id)?,
        None => ServiceState::Unknown,
    };
    let (up, control_plane) = match &tunnel.enrolled {
        None => (false, "not enrolled".to_owned()),
        Some(enrolled) => {
            let client = ControlPlane::new(
                &tunnel.control_plane,
                &enrolled.tunnel_token,
                command.ca_cert.as_deref(),
            )?;
            match client.tunnel(host, id) {
                Ok(answer) if answer.status == TunnelStatus::Up => (true, "up".to_owned()),
                Ok(_) => (false, "down".to_owned()),
                Err(error) if is_gone(&error) => (false, "removed".to_owned()),
                Err(error) => (false, OneLine(&error.into()).to_string()),
            }
        }
    };
    Ok(Row {
        id,
        up,
        service,
        control_plane,
    })
}

fn show(rows: &[Row], as_json: bool) -> serde_json::Result<Exit> {
    let all_up = rows.iter().all(|row| row.up);
    if as_json {
        ui::print(&serde_json::to_string_pretty(
            &json!({ "up": all_up, "tunnels": rows }),
        )?);
    } else if rows.is_empty() {
        ui::print("No tunnels.");
    } else {
        for row in rows {
            let service = format!("{:?}", row.service).to_lowercase();
            ui::print(&format!(
                "tunnel {}: {} (service: {service}; tunnel server: {})",
                row.id,
                if row.up { "up" } else { "DOWN" },
                row.control_plane
            ));
        }
    }
    Ok(if all_up { Exit::Done } else { Exit::Failed })
}
