//! `status`: whether the tunnels are up.
//!
//! Up means that the tunnel's own session holds its port on the tunnel server. A running process on
//! this host is shown too, and is not enough.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::json;

use super::{others, tunnels};
use crate::bastion::cli::Status;
use crate::bastion::control_plane::{ApiError, Given, is_gone};
use crate::bastion::copies::{self, Sign};
use crate::bastion::failure::{Exit, OneLine, is_interruption};
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Receipt;
use crate::bastion::service::{self, InstalledTunnel, ServiceManager, ServiceState};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::{self, Live};
use crate::protocol::TunnelStatus;

/// Between two looks of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

#[derive(Serialize, PartialEq, Eq)]
struct Row {
    #[serde(serialize_with = "number_alone")]
    id: TunnelName,
    /// Whose it is, where it is another user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Whether it is up, as far as that could be told.
    up: Option<bool>,
    state: State,
    service: ServiceState,
    control_plane: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn number_alone<S: Serializer>(tunnel: &TunnelName, serializer: S) -> Result<S::Ok, S::Error> {
    tunnel.number().serialize(serializer)
}

/// How a tunnel stands.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum State {
    Up,
    Down,
    /// Up, and another machine holds it.
    Elsewhere,
    /// The control plane could not be asked.
    Unknown,
}

impl State {
    /// As a person reads it: what is wrong stands out.
    fn shown(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "DOWN",
            State::Elsewhere => "ELSEWHERE",
            State::Unknown => "unknown",
        }
    }
}

pub(super) fn run(host: &dyn Host, command: &Status) -> anyhow::Result<Exit> {
    if command.watch {
        return watch(host, command);
    }
    let rows = look(host, command)?;
    if command.json {
        let document = json!({ "up": are_up(&rows), "tunnels": rows });
        ui::print(&serde_json::to_string_pretty(&document)?);
    } else {
        for line in lines(&rows) {
            ui::print(&line);
        }
    }
    Ok(exit(&rows))
}

/// Looks again and again, until the run is interrupted. The exit status is that of the last look.
fn watch(host: &dyn Host, command: &Status) -> anyhow::Result<Exit> {
    let is_dumb = host.env("TERM").is_some_and(|term| term == "dumb");
    let mut live = Live::new(!command.json && !is_dumb);
    let mut last: Option<Vec<Row>> = None;
    loop {
        let rows = match look(host, command) {
            Ok(rows) => rows,
            // Ctrl-C is how a watch ends.
            Err(error) if is_interruption(&error) => break,
            Err(error) => return Err(error),
        };
        let at = host.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let written = if live.is_in_place() {
            let mut shown = lines(&rows);
            shown.push(format!("{at}, Ctrl-C ends"));
            live.show(&shown)
        } else {
            changes(command.json, &at, last.as_deref(), &rows)
                .iter()
                .try_for_each(|change| ui::try_print(change))
        };
        last = Some(rows);
        if written.is_err() || host.sleep(WATCH_PAUSE).is_err() {
            break;
        }
    }
    Ok(last.map_or(Exit::Interrupted, |rows| exit(&rows)))
}

/// What a watch prints where it cannot write over what it has shown.
fn changes(as_json: bool, at: &str, former: Option<&[Row]>, rows: &[Row]) -> Vec<String> {
    if former == Some(rows) {
        return Vec::new();
    }
    if as_json {
        let change = json!({ "at": at, "up": are_up(rows), "tunnels": rows });
        return vec![change.to_string()];
    }
    let former = former.map(lines).unwrap_or_default();
    lines(rows)
        .into_iter()
        .filter(|line| !former.contains(line))
        .map(|line| format!("{at}  {line}"))
        .collect()
}

/// The state of every tunnel that was asked about.
fn look(host: &dyn Host, command: &Status) -> anyhow::Result<Vec<Row>> {
    let installed = tunnels::installed(host)?;
    let receipt = installed.as_ref().map(|(receipt, _)| receipt);
    let others = others::tunnels(host, receipt)?;
    let meant = tunnels::meant_of_all(host, receipt, others, &command.which)?;
    let given = Given::read(host, command.authority.file())?;
    let mut rows = Vec::new();
    for other in &meant.others {
        rows.push(of_another(host, other)?);
    }
    if let Some((receipt, layout)) = &installed {
        for id in meant.own {
            rows.push(row(host, &given, receipt, layout, id)?);
        }
    }
    Ok(rows)
}

fn row(
    host: &dyn Host,
    given: &Given,
    receipt: &Receipt,
    layout: &Layout,
    id: TunnelName,
) -> anyhow::Result<Row> {
    let tunnel = tunnels::find(receipt, id)?;
    let (service, failure) = match receipt.init {
        Some(init) => service_of(host, service::manager(init)?.as_ref(), layout, id)?,
        None => (ServiceState::Unknown, None),
    };
    let (state, control_plane) = match tunnel.client(host, given)? {
        None => (State::Down, "not enrolled".to_owned()),
        Some(client) => match client.tunnel(host, id) {
            Ok(answer) if answer.status == TunnelStatus::Up => {
                let state = if copies::is_held_elsewhere(host, layout, receipt, id)? {
                    State::Elsewhere
                } else {
                    State::Up
                };
                (state, "up".to_owned())
            }
            Ok(_) => (State::Down, "down".to_owned()),
            Err(error) if is_gone(&error) => (State::Down, "removed".to_owned()),
            Err(ApiError::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(error) => (State::Unknown, OneLine(&error.into()).to_string()),
        },
    };
    let sign = match (copies::original(host, receipt), state) {
        (Some(original), _) => Some(Sign::CopyOf(original)),
        (None, State::Elsewhere) => Some(Sign::HeldElsewhere),
        (None, _) => None,
    };
    Ok(Row {
        id,
        user: None,
        up: match state {
            State::Up => Some(true),
            State::Down | State::Elsewhere => Some(false),
            State::Unknown => None,
        },
        state,
        service,
        control_plane,
        note: sign.as_ref().map(ToString::to_string).or(failure),
    })
}

/// How the service stands, and why it could not start the tunnel where it knows.
fn service_of(
    host: &dyn Host,
    manager: &dyn ServiceManager,
    layout: &Layout,
    id: TunnelName,
) -> anyhow::Result<(ServiceState, Option<String>)> {
    let state = manager.status(host, layout, id)?;
    let failure = match state {
        ServiceState::Running => None,
        _ => manager.start_failure(host, layout, id)?,
    };
    let told = failure.map(|failure| format!("{}. Next: {}", failure.what, failure.next));
    Ok((state, told))
}

/// A tunnel of another user: root sees whether it runs; whether it is up, its owner's token would tell.
fn of_another(host: &dyn Host, tunnel: &InstalledTunnel) -> anyhow::Result<Row> {
    let (manager, layout) = (others::manager(host)?, others::layout(host));
    let (service, failure) = service_of(host, manager.as_ref(), &layout, tunnel.name)?;
    let is_running = service == ServiceState::Running;
    Ok(Row {
        id: tunnel.name,
        user: Some(tunnel.user.clone()),
        up: (!is_running).then_some(false),
        state: if is_running {
            State::Unknown
        } else {
            State::Down
        },
        service,
        control_plane: "not asked".to_owned(),
        note: Some(failure.unwrap_or_else(|| {
            format!(
                "{:?} is owned by {1}: run status as {1} to know whether it is up",
                tunnel.name, tunnel.user
            )
        })),
    })
}

fn lines(rows: &[Row]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["No tunnels.".to_owned()];
    }
    rows.iter()
        .map(|row| {
            let service = format!("{:?}", row.service).to_lowercase();
            let note = row.note.as_ref();
            let note = note.map_or_else(String::new, |note| format!("; {note}"));
            format!(
                "tunnel {}: {} (service: {service}; tunnel server: {}){note}",
                row.id,
                row.state.shown(),
                row.control_plane
            )
        })
        .collect()
}

fn are_up(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.state == State::Up)
}

/// Not knowing is no failure of the tunnels.
fn exit(rows: &[Row]) -> Exit {
    let is_down = |row: &Row| matches!(row.state, State::Down | State::Elsewhere);
    if are_up(rows) {
        Exit::Done
    } else if rows.iter().any(is_down) {
        Exit::Failed
    } else {
        Exit::CannotTell
    }
}
