//! What a data source's page says while its bastion is set up or is to be removed: the stages, and the
//! command that comes next.

use std::cmp::Ordering;

use super::super::error::PageError;
use super::super::layout::Timestamp;
use crate::protocol::{DataSourceState, TunnelId};
use crate::server::domain::CommandToken;
use crate::server::domain::token::TokenKind;
use crate::server::http::app::App;
use crate::server::http::scripts;
use crate::server::store::Record;

/// A stage of the setup.
pub struct Step {
    pub label: &'static str,
    pub hint: &'static str,
    /// `done`, `now` or `later`.
    pub progress: &'static str,
}

/// A command for the bastion.
pub struct Command {
    pub text: String,
    pub expires: Timestamp,
    pub expired: bool,
}

/// The stages of a setup, and how far it has come.
pub fn steps(state: DataSourceState, by_hand: bool) -> Vec<Step> {
    if by_hand {
        steps_by_hand(state)
    } else {
        steps_by_command(state)
    }
}

fn steps_by_hand(state: DataSourceState) -> Vec<Step> {
    let done = match state {
        DataSourceState::Enrolled => 1,
        DataSourceState::Connected => 2,
        _ => 3,
    };
    let steps = [
        ("Public key registered", ""),
        (
            "Tunnel up",
            "Waiting for ssh: open the tunnel on its machine, as the guide below says.",
        ),
        (
            "Saved",
            "Test the connection and save, and have ssh kept up on its machine.",
        ),
    ];
    numbered(&steps, done)
}

fn steps_by_command(state: DataSourceState) -> Vec<Step> {
    let done = match state {
        DataSourceState::Draft => 0,
        DataSourceState::Enrolled => 2,
        DataSourceState::Connected | DataSourceState::Saved => 3,
        _ => 4,
    };
    let last_hint = match state {
        DataSourceState::Saved => "The bastion is setting its service up.",
        _ => "Save here; the bastion then sets its service up by itself.",
    };
    let steps = [
        (
            "Command run on the bastion",
            "Waiting for the bastion: run the command below on it.",
        ),
        ("Key registered", ""),
        ("Tunnel up", "The bastion is opening its tunnel."),
        ("Saved and running as a service", last_hint),
    ];
    numbered(&steps, done)
}

fn numbered(steps: &[(&'static str, &'static str)], done: usize) -> Vec<Step> {
    let steps = steps.iter().enumerate();
    let step = |(number, (label, hint)): (usize, &(&'static str, &'static str))| Step {
        label,
        hint,
        progress: match number.cmp(&done) {
            Ordering::Less => "done",
            Ordering::Equal => "now",
            Ordering::Greater => "later",
        },
    };
    steps.map(step).collect()
}

/// Whether the setup command is what comes next. While the tunnel is up, somebody has run it, and
/// it waits.
pub fn awaits_command(state: DataSourceState, is_up: bool) -> bool {
    match state {
        DataSourceState::Draft | DataSourceState::Enrolled => true,
        DataSourceState::Saved => !is_up,
        _ => false,
    }
}

/// The command for the bastion, while it is what comes next.
pub async fn command(
    app: &App,
    record: &Record,
    state: DataSourceState,
) -> Result<Option<Command>, PageError> {
    let Some(tunnel) = record.tunnel_id() else {
        return Ok(None);
    };
    if record.is_by_hand() || !awaits_command(state, app.is_up(record)) {
        return Ok(None);
    }
    let token = command_token(app, tunnel, TokenKind::Enrollment).await?;
    Ok(token.map(|found| {
        shown(
            &found,
            scripts::bootstrap_command(&app.public, &found.token),
        )
    }))
}

/// The command that removes the tunnel from its bastion, while that is what comes next.
pub async fn removal(
    app: &App,
    record: &Record,
    state: DataSourceState,
) -> Result<Option<Command>, PageError> {
    let Some(tunnel) = record.tunnel_id() else {
        return Ok(None);
    };
    if state != DataSourceState::Removing {
        return Ok(None);
    }
    let token = command_token(app, tunnel, TokenKind::Removal).await?;
    Ok(token.map(|found| shown(&found, scripts::removal_command(&app.public, &found.token))))
}

async fn command_token(
    app: &App,
    tunnel: TunnelId,
    kind: TokenKind,
) -> Result<Option<CommandToken>, PageError> {
    let found = app.command(tunnel, kind).await?;
    Ok(found.filter(|token| !token.used))
}

fn shown(found: &CommandToken, text: String) -> Command {
    Command {
        text,
        expires: Timestamp(found.expires_at),
        expired: found.expired,
    }
}
