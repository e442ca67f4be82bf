//! The tokens of the commands for bastions. What they are derived from is kept, so that a page can show a
//! command again.

use std::time::Duration;

use super::control_plane::{ControlPlane, expiry};
use super::error::Result;
use super::token::{Token, TokenKind};
use crate::protocol::TunnelId;
use crate::server::store::{NewToken, Writing};

/// The token of a command that was generated.
#[derive(Debug)]
pub struct CommandToken {
    pub token: Token,
    /// When it stops working.
    pub expires_at: jiff::Timestamp,
    /// Whether it has done its work.
    pub used: bool,
    /// Whether it has stopped working, by the database's clock.
    pub expired: bool,
}

/// A token that is to be kept for a command.
pub(super) struct NewCommand {
    kind: TokenKind,
    token: Token,
    seed: [u8; 32],
    expires_at: jiff::Timestamp,
}

impl NewCommand {
    /// What is kept of it.
    pub fn to_keep(&self, tunnel: TunnelId) -> NewToken {
        NewToken {
            kind: self.kind,
            hash: self.token.hash(),
            tunnel,
            expires_at: Some(self.expires_at),
            seed: Some(self.seed),
        }
    }
}

impl From<NewCommand> for CommandToken {
    fn from(new: NewCommand) -> Self {
        CommandToken {
            token: new.token,
            expires_at: new.expires_at,
            used: false,
            expired: false,
        }
    }
}

impl ControlPlane {
    /// One that is kept in this transaction.
    pub(super) async fn new_command(
        &self,
        tx: &mut Writing,
        kind: TokenKind,
        ttl: Duration,
    ) -> Result<NewCommand> {
        let seed: [u8; 32] = rand::random();
        Ok(NewCommand {
            kind,
            token: self.secret.command_token(kind, &seed),
            seed,
            expires_at: expiry(tx.clock().await?, ttl)?,
        })
    }

    /// The newest command of this kind for a tunnel, if it can be shown.
    pub async fn command(&self, tunnel: TunnelId, kind: TokenKind) -> Result<Option<CommandToken>> {
        let Some(row) = self.store.command(tunnel, kind).await? else {
            return Ok(None);
        };
        let token = self.secret.command_token(kind, &row.seed);
        // Another secret key than the one it was made with gives another token, which opens nothing.
        let opens = token.hash().as_bytes() == row.hash;
        Ok(opens.then_some(CommandToken {
            token,
            expires_at: row.expires_at,
            used: row.used,
            expired: row.expired,
        }))
    }
}
