//! What a page shows of a tunnel that a person sets up by hand: its values, each to be copied, and a guide for
//! each system.

use super::super::error::PageError;
use super::super::layout::InlineCode;
use crate::manual::{self, Part, System, Values};
use crate::server::domain::ControlPlane;
use crate::server::http::by_hand;
use crate::server::http::problem::ApiError;
use crate::server::store::Record;
use crate::ssh_line::remote_forward;

/// The values and the guides.
pub struct Manual {
    pub values: Vec<Value>,
    pub guides: Vec<Guide>,
}

/// A value that somebody types, or copies, elsewhere.
pub struct Value {
    pub label: &'static str,
    /// The element's.
    pub id: &'static str,
    pub text: String,
}

/// A guide, or a part of one, for a system.
pub struct Guide {
    /// What the ids of its elements begin with.
    pub id: String,
    pub name: &'static str,
    /// Whether this is the system that the machine says it has.
    pub is_own: bool,
    pub parts: Vec<Shown>,
}

/// A part of a guide.
pub enum Shown {
    Step { number: String, text: InlineCode },
    Text(InlineCode),
    Typed(String),
}

/// What follows ssh's `-R`, before a change of host or port and after it.
pub struct LineToChange {
    pub before: String,
    pub after: String,
}

/// What there is to show of a data source that has a tunnel.
pub fn manual(control: &ControlPlane, record: &Record) -> Result<Option<Manual>, PageError> {
    let Some(values) = by_hand::values(control, record) else {
        return Ok(None);
    };
    Ok(Some(Manual {
        guides: guides(record, &values, manual::render)?,
        values: rows(&values),
    }))
}

/// What is to be removed from the machine.
pub fn removal(control: &ControlPlane, record: &Record) -> Result<Vec<Guide>, PageError> {
    match by_hand::values(control, record).filter(|_| record.is_by_hand()) {
        Some(values) => guides(record, &values, manual::render_removal),
        None => Ok(Vec::new()),
    }
}

/// The line to change after host or port have changed.
pub fn line_to_change(record: &Record) -> Option<LineToChange> {
    let tunnel = record.tunnel.as_ref().filter(|tunnel| tunnel.by_hand)?;
    let (before, after) = (tunnel.applied.as_ref()?, record.pending()?);
    let port = tunnel.remote_port?.to_string();
    let line = |host: &str, target: u16| remote_forward(&port, host, &target.to_string());
    Some(LineToChange {
        before: line(&before.host, before.port),
        after: line(&after.host, after.port),
    })
}

type Renderer = fn(System, &Values) -> Result<String, askama::Error>;

fn guides(record: &Record, values: &Values, render: Renderer) -> Result<Vec<Guide>, PageError> {
    let own = own_system(record);
    let guide = |system: System| {
        let text = render(system, values).map_err(|error| ApiError::internal(&error))?;
        Ok(Guide {
            id: format!("guide-{}", system.word()),
            name: system.name(),
            is_own: own == Some(system),
            parts: manual::parts(&text).into_iter().map(shown).collect(),
        })
    };
    System::ALL.into_iter().map(guide).collect()
}

/// The system of the machine that registered its own key, as the guides have it say.
fn own_system(record: &Record) -> Option<System> {
    let registrant = record.tunnel.as_ref()?.registrant.as_ref()?;
    match registrant.os.as_deref()? {
        "Linux" => Some(System::Linux),
        "Darwin" => Some(System::Macos),
        "Windows" => Some(System::Windows),
        _ => None,
    }
}

fn shown(part: Part) -> Shown {
    match part {
        Part::Step(text) => match text.split_once(' ') {
            Some((number, text)) => Shown::Step {
                number: number.to_owned(),
                text: InlineCode(text.to_owned()),
            },
            None => Shown::Text(InlineCode(text)),
        },
        Part::Text(text) => Shown::Text(InlineCode(text)),
        Part::Typed(text) => Shown::Typed(text),
    }
}

fn rows(values: &Values) -> Vec<Value> {
    let row = |label, id, text: &str| Value {
        label,
        id,
        text: text.to_owned(),
    };
    vec![
        row("Tunnel server", "value-host", &values.server_host),
        row("SSH port", "value-port", &values.server_port),
        row("User", "value-user", &values.server_user),
        row("Remote port", "value-remote-port", &values.remote_port),
        row("Database host", "value-target-host", &values.target_host),
        row("Database port", "value-target-port", &values.target_port),
        row(
            "Host keys, as lines of known_hosts",
            "value-known-hosts",
            &values.known_hosts_lines().join("\n"),
        ),
        row(
            "Their fingerprints",
            "value-fingerprints",
            &values.fingerprints().join("\n"),
        ),
    ]
}
