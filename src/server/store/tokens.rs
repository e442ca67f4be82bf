//! Tokens by their hashes: what a presented one is for.

use super::{ApiToken, Result, Store, Writing, timestamp};
use crate::protocol::TunnelId;

/// What a kept token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum TokenKind {
    /// Enrolls one bastion for one tunnel; expires.
    Enrollment,
    /// A tunnel's own calls after enrollment.
    Tunnel,
    /// Reads and removes one tunnel; expires.
    Removal,
    /// An operator's API token.
    Operator,
}

/// A hash under which a token, a link or a session is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash as it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A tunnel's token to keep.
#[derive(Debug)]
pub struct NewToken {
    /// What it is for; never [`TokenKind::Operator`].
    pub kind: TokenKind,
    pub hash: TokenHash,
    pub tunnel: TunnelId,
    /// When it stops working; absent if it does not.
    pub expires_at: Option<jiff::Timestamp>,
    /// From what it can be derived again, for those that are shown again.
    pub seed: Option<[u8; 32]>,
}

/// A token that can be shown again.
#[derive(Debug)]
pub struct CommandRow {
    pub hash: Vec<u8>,
    /// From what it is derived.
    pub seed: Vec<u8>,
    /// When it stops working.
    pub expires_at: jiff::Timestamp,
    /// Whether it has done its work.
    pub used: bool,
    /// Whether it has stopped working, by the database's clock.
    pub expired: bool,
}

/// What is known of a presented token.
#[derive(Debug, Clone)]
pub enum StoredToken {
    /// An operator's API token that is not revoked.
    Operator(ApiToken),
    /// A token bound to one tunnel.
    Tunnel {
        /// What it is for; never [`TokenKind::Operator`].
        kind: TokenKind,
        tunnel_id: TunnelId,
        /// When it stops working; absent if it does not.
        expires_at: Option<jiff::Timestamp>,
        /// Whether it has done its work.
        used: bool,
        /// What the database's clock shows.
        now: jiff::Timestamp,
    },
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    kind: String,
    name: Option<String>,
    tunnel_id: Option<TunnelId>,
    expires_at: Option<i64>,
    used: bool,
    scope: Option<String>,
    last_used_at: Option<i64>,
    operator_disabled: bool,
    now: i64,
}

impl TokenRow {
    fn read(self) -> Option<StoredToken> {
        let kind = self.kind.parse().ok()?;
        let (expires_at, now) = (self.expires_at.map(timestamp), timestamp(self.now));
        match (kind, self.name, self.tunnel_id) {
            (TokenKind::Operator, Some(name), _) => Some(StoredToken::Operator(ApiToken {
                name,
                scope: self.scope?.parse().ok()?,
                expires_at,
                last_used_at: self.last_used_at.map(timestamp),
                operator_disabled: self.operator_disabled,
                now,
            })),
            (kind, _, Some(tunnel_id)) => Some(StoredToken::Tunnel {
                kind,
                tunnel_id,
                expires_at,
                used: self.used,
                now,
            }),
            _ => None,
        }
    }
}

impl Store {
    /// What this token is; `None` if it is unknown or revoked.
    pub async fn token(&self, hash: &TokenHash) -> Result<Option<StoredToken>> {
        let row: Option<TokenRow> = self.readers.sql(
            "SELECT t.kind, t.name, t.tunnel_id, t.expires_at, t.used_at IS NOT NULL AS used, t.scope,
                 t.last_used_at, o.disabled_at IS NOT NULL AS operator_disabled, now_ms() AS now
             FROM tokens AS t LEFT JOIN operators AS o ON o.id = t.operator_id
             WHERE t.hash = $1 AND t.revoked_at IS NULL",
        )
        .bind(hash.as_bytes())
        .optional()
        .await?;
        Ok(row.and_then(TokenRow::read))
    }

    /// The newest token of this kind for a tunnel, if it can be shown again.
    pub async fn command(&self, tunnel: TunnelId, kind: TokenKind) -> Result<Option<CommandRow>> {
        type Row = (Vec<u8>, Vec<u8>, i64, bool, bool);
        let row: Option<Row> = self
            .readers
            .sql(
                "SELECT hash, seed, expires_at, used_at IS NOT NULL, expires_at <= now_ms() FROM tokens
             WHERE kind = $1 AND tunnel_id = $2 AND seed IS NOT NULL AND expires_at IS NOT NULL
             ORDER BY created_at DESC LIMIT 1",
            )
            .bind(kind.into_str())
            .bind(tunnel)
            .optional()
            .await?;
        Ok(
            row.map(|(hash, seed, expires_at, used, expired)| CommandRow {
                hash,
                seed,
                expires_at: timestamp(expires_at),
                used,
                expired,
            }),
        )
    }
}

impl Writing {
    /// Keeps a tunnel's token. One that is kept already stays as it is.
    pub async fn add_token(&mut self, new: &NewToken) -> Result<()> {
        self.sql(
            "INSERT INTO tokens (hash, kind, tunnel_id, created_at, expires_at, seed)
             VALUES ($1, $2, $3, now_ms(), $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(new.hash.as_bytes())
        .bind(new.kind.into_str())
        .bind(new.tunnel)
        .bind(new.expires_at.map(jiff::Timestamp::as_millisecond))
        .bind(new.seed.as_ref().map(|seed| seed.as_slice()))
        .execute()
        .await?;
        Ok(())
    }

    /// Keeps a token for a command in place of the one before, which stops working.
    pub async fn replace_token(&mut self, new: &NewToken) -> Result<()> {
        self.sql("DELETE FROM tokens WHERE kind = $1 AND tunnel_id = $2")
            .bind(new.kind.into_str())
            .bind(new.tunnel)
            .execute()
            .await?;
        self.add_token(new).await
    }

    /// Marks a tunnel's enrollment tokens as used up.
    pub async fn use_up_enrollment(&mut self, tunnel: TunnelId) -> Result<()> {
        self.sql(
            "UPDATE tokens SET used_at = now_ms() WHERE kind = 'enrollment' AND tunnel_id = $1 AND used_at IS NULL",
        )
        .bind(tunnel)
        .execute()
        .await?;
        Ok(())
    }
}
