//! Tokens by their hashes: what a presented one is for, and the operators' own.

use sqlx::SqliteConnection;

use super::{Result, Store, StoreError, now, timestamp};
use crate::protocol::TunnelId;
use crate::server::domain::token::{TokenHash, TokenKind};

/// What is known of a presented token.
#[derive(Debug, Clone)]
pub enum StoredToken {
    /// An operator's API token that is not revoked.
    Operator {
        /// Its name.
        name: String,
    },
    /// A token bound to one tunnel.
    Tunnel {
        /// What it is for; never [`TokenKind::Operator`].
        kind: TokenKind,
        /// The tunnel.
        tunnel_id: TunnelId,
        /// When it stops working; absent if it does not.
        expires_at: Option<jiff::Timestamp>,
        /// Whether it has done its work.
        used: bool,
    },
}

/// An operator's API token in a list.
#[derive(Debug, Clone)]
pub struct OperatorToken {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it was revoked; absent while it works.
    pub revoked_at: Option<jiff::Timestamp>,
}

impl Store {
    /// What this token is; `None` if it is unknown or revoked.
    ///
    /// # Errors
    /// The database failed.
    pub async fn token(&self, hash: &TokenHash) -> Result<Option<StoredToken>> {
        type Row = (String, Option<String>, Option<TunnelId>, Option<i64>, bool);
        let row: Option<Row> = sqlx::query_as(
            "SELECT kind, name, tunnel_id, expires_at, used_at IS NOT NULL FROM tokens
             WHERE hash = ? AND revoked_at IS NULL",
        )
        .bind(hash.as_bytes())
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.and_then(|(kind, name, tunnel_id, expires_at, used)| {
            match (TokenKind::from_name(&kind)?, name, tunnel_id) {
                (TokenKind::Operator, Some(name), _) => Some(StoredToken::Operator { name }),
                (kind, _, Some(tunnel_id)) => Some(StoredToken::Tunnel {
                    kind,
                    tunnel_id,
                    expires_at: expires_at.map(timestamp),
                    used,
                }),
                _ => None,
            }
        }))
    }

    /// Keeps a new operator token. A revoked token's name may be used again.
    ///
    /// # Errors
    /// The name is taken, or the database failed.
    pub async fn add_operator_token(&self, name: &str, hash: &TokenHash) -> Result<()> {
        let added = sqlx::query(
            "INSERT INTO tokens (hash, kind, name, created_at) VALUES (?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(hash.as_bytes())
        .bind(TokenKind::Operator.as_str())
        .bind(name)
        .bind(now())
        .execute(&self.writer)
        .await?;
        match added.rows_affected() {
            0 => Err(StoreError::NameTaken),
            _ => Ok(()),
        }
    }

    /// The operators' tokens, revoked ones included, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn operator_tokens(&self) -> Result<Vec<OperatorToken>> {
        let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(
            "SELECT name, created_at, revoked_at FROM tokens WHERE kind = 'operator'
             ORDER BY created_at, name",
        )
        .fetch_all(&self.readers)
        .await?;
        let tokens = rows
            .into_iter()
            .map(|(name, created_at, revoked_at)| OperatorToken {
                name,
                created_at: timestamp(created_at),
                revoked_at: revoked_at.map(timestamp),
            });
        Ok(tokens.collect())
    }

    /// Revokes the operator token of this name; it stops working at once.
    ///
    /// # Errors
    /// No working token has this name, or the database failed.
    pub async fn revoke_operator_token(&self, name: &str) -> Result<()> {
        let revoked = sqlx::query(
            "UPDATE tokens SET revoked_at = ? WHERE kind = 'operator' AND name = ? AND revoked_at IS NULL",
        )
        .bind(now())
        .bind(name)
        .execute(&self.writer)
        .await?;
        match revoked.rows_affected() {
            0 => Err(StoreError::NotFound),
            _ => Ok(()),
        }
    }
}

/// Keeps a tunnel's token. One that is kept already stays as it is.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    kind: TokenKind,
    hash: &TokenHash,
    tunnel: TunnelId,
    expires_at: Option<jiff::Timestamp>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO tokens (hash, kind, tunnel_id, created_at, expires_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(hash.as_bytes())
    .bind(kind.as_str())
    .bind(tunnel)
    .bind(now())
    .bind(expires_at.map(jiff::Timestamp::as_millisecond))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a tunnel's tokens of one kind: a new command replaces the old one.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    kind: TokenKind,
    tunnel: TunnelId,
) -> Result<()> {
    sqlx::query("DELETE FROM tokens WHERE kind = ? AND tunnel_id = ?")
        .bind(kind.as_str())
        .bind(tunnel)
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks a tunnel's enrollment tokens as used up.
pub(super) async fn use_up_enrollment(
    connection: &mut SqliteConnection,
    tunnel: TunnelId,
) -> Result<()> {
    sqlx::query(
        "UPDATE tokens SET used_at = ? WHERE kind = 'enrollment' AND tunnel_id = ? AND used_at IS NULL",
    )
    .bind(now())
    .bind(tunnel)
    .execute(connection)
    .await?;
    Ok(())
}
