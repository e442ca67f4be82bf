//! What the commands for bastions are derived from, so that a page can show them again.

use super::data_sources::{present, staying};
use super::tokens;
use super::{Result, Store, StoreError, audit, timestamp};
use crate::protocol::{DataSourceId, DataSourceState, TunnelId};
use crate::server::domain::secret::SecretKey;
use crate::server::domain::token::{Token, TokenHash, TokenKind};

/// The token of a command that was generated.
#[derive(Debug)]
pub struct CommandToken {
    /// The token itself.
    pub token: Token,
    /// When it stops working.
    pub expires_at: jiff::Timestamp,
    /// Whether it has done its work.
    pub used: bool,
}

/// A new token for a command: what is stored of it, and what it is derived from.
#[derive(Debug)]
pub struct NewCommandToken {
    /// The token itself.
    pub token: Token,
    /// What it is derived from, together with the secret key.
    pub seed: [u8; 32],
}

impl NewCommandToken {
    /// A new one of this kind.
    pub fn generate(secret: &SecretKey, kind: TokenKind) -> Self {
        let seed: [u8; 32] = rand::random();
        NewCommandToken {
            token: secret.command_token(kind, &seed),
            seed,
        }
    }
}

impl Store {
    /// Keeps what a command's token is derived from. Without it, the command works and cannot be
    /// shown again.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep_seed(&self, token: &NewCommandToken) -> Result<()> {
        sqlx::query("UPDATE tokens SET seed = ? WHERE hash = ?")
            .bind(token.seed.as_slice())
            .bind(token.token.hash().as_bytes())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// The newest command of this kind for a tunnel, if it can be shown.
    ///
    /// # Errors
    /// The database failed.
    pub async fn command_token(
        &self,
        tunnel: TunnelId,
        kind: TokenKind,
        secret: &SecretKey,
    ) -> Result<Option<CommandToken>> {
        let row: Option<(Vec<u8>, Vec<u8>, i64, bool)> = sqlx::query_as(
            "SELECT hash, seed, expires_at, used_at IS NOT NULL FROM tokens
             WHERE kind = ? AND tunnel_id = ? AND seed IS NOT NULL AND expires_at IS NOT NULL
             ORDER BY created_at DESC LIMIT 1",
        )
        .bind(kind.as_str())
        .bind(tunnel)
        .fetch_optional(&self.readers)
        .await?;
        let Some((hash, seed, expires_at, used)) = row else {
            return Ok(None);
        };
        let token = secret.command_token(kind, &seed);
        // Another secret key than the one it was made with gives another token, which opens nothing.
        Ok((token.hash().as_bytes() == hash).then(|| CommandToken {
            token,
            expires_at: timestamp(expires_at),
            used,
        }))
    }

    /// Replaces a data source's enrollment command.
    ///
    /// # Errors
    /// Its service is installed, it has no tunnel, it is being removed or gone, or the database failed.
    pub async fn replace_enrollment(
        &self,
        id: DataSourceId,
        enrollment: &TokenHash,
        expires_at: jiff::Timestamp,
        actor: &str,
    ) -> Result<()> {
        let record = staying(present(self.data_source(id).await?)?)?;
        let state = record.state(false);
        if state == DataSourceState::Down {
            return Err(StoreError::WrongState(state));
        }
        let tunnel = record.tunnel_id().ok_or(StoreError::NoTunnel)?;
        let mut tx = self.write().await?;
        tokens::forget(&mut tx, TokenKind::Enrollment, tunnel).await?;
        let expires_at = Some(expires_at);
        tokens::add(
            &mut tx,
            TokenKind::Enrollment,
            enrollment,
            tunnel,
            expires_at,
        )
        .await?;
        let subject = format!("data source {id}");
        audit::record(&mut tx, actor, "setup command replaced", &subject).await?;
        tx.commit().await?;
        Ok(())
    }
}
