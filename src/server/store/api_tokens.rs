//! Operators' API tokens: what each may do, until when, and when it was last used.

use std::time::Duration;

use super::{OperatorId, Result, Store, TokenHash, TokenKind, Writing, timestamp};

/// How exactly it is known when a token was last used. Writing it at every call would make every call a write.
const USED_PRECISION: Duration = Duration::from_secs(60);

/// What an API token may do. A higher one includes the lower.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::EnumString, strum::IntoStaticStr,
)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Scope {
    Read,
    /// Read and change.
    Operate,
}

/// An API token that was presented and is not revoked.
#[derive(Debug, Clone)]
pub struct ApiToken {
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// When it stops working; absent if it does not.
    pub expires_at: Option<jiff::Timestamp>,
    /// When it was last used, as far as that is written.
    pub last_used_at: Option<jiff::Timestamp>,
    /// Whether the operator who made it is disabled.
    pub operator_disabled: bool,
    /// What the database's clock shows.
    pub now: jiff::Timestamp,
}

/// An API token to keep.
#[derive(Debug)]
pub struct NewApiToken<'a> {
    pub name: &'a str,
    pub hash: TokenHash,
    /// What it may do.
    pub scope: Scope,
    /// When it stops working; absent if it does not.
    pub expires_at: Option<jiff::Timestamp>,
    /// Who made it, as it is shown.
    pub made_by: String,
    /// The operator with whom it ends; absent for one that was made at the command line.
    pub operator: Option<OperatorId>,
}

#[derive(Debug, Clone)]
pub struct ListedApiToken {
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// Who made it; absent if it was made before that was kept.
    pub made_by: Option<String>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it stops working; absent if it does not.
    pub expires_at: Option<jiff::Timestamp>,
    /// When it was last used; absent if it never was, or not since that is kept.
    pub last_used_at: Option<jiff::Timestamp>,
    /// When it was revoked; absent if it is not.
    pub revoked_at: Option<jiff::Timestamp>,
    /// Whether it has stopped working, by the database's clock.
    pub expired: bool,
    /// Whether the operator who made it is disabled.
    pub operator_disabled: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    scope: Option<String>,
    made_by: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
    expired: bool,
    operator_disabled: bool,
}

impl From<Row> for ListedApiToken {
    fn from(row: Row) -> Self {
        let scope = row.scope.and_then(|scope| scope.parse().ok());
        ListedApiToken {
            name: row.name,
            // A token without a known scope lets nobody in.
            scope: scope.unwrap_or(Scope::Read),
            made_by: row.made_by,
            created_at: timestamp(row.created_at),
            expires_at: row.expires_at.map(timestamp),
            last_used_at: row.last_used_at.map(timestamp),
            revoked_at: row.revoked_at.map(timestamp),
            expired: row.expired,
            operator_disabled: row.operator_disabled,
        }
    }
}

impl Store {
    /// The API tokens, revoked ones included, oldest first.
    pub async fn api_tokens(&self) -> Result<Vec<ListedApiToken>> {
        let rows: Vec<Row> = self.readers.sql(
            "SELECT t.name, t.scope, t.made_by, t.created_at, t.expires_at, t.last_used_at, t.revoked_at,
                 coalesce(t.expires_at <= now_ms(), FALSE) AS expired, o.disabled_at IS NOT NULL AS operator_disabled
             FROM tokens AS t LEFT JOIN operators AS o ON o.id = t.operator_id
             WHERE t.kind = 'operator' ORDER BY t.created_at, t.name",
        )
        .all()
        .await?;
        Ok(rows.into_iter().map(ListedApiToken::from).collect())
    }

    /// Writes down that a token is used now, unless that was written a moment ago.
    pub async fn note_api_token_used(&self, hash: &TokenHash, token: &ApiToken) -> Result<()> {
        let moment = jiff::SignedDuration::try_from(USED_PRECISION).unwrap_or_default();
        let since = token.last_used_at.map(|at| token.now.duration_since(at));
        if since.is_some_and(|since| since < moment) {
            return Ok(());
        }
        self.writer
            .sql("UPDATE tokens SET last_used_at = now_ms() WHERE hash = $1")
            .bind(hash.as_bytes())
            .execute()
            .await?;
        Ok(())
    }
}

impl Writing {
    /// Keeps a new API token; returns false if one of this name works. The name of one that is revoked or has
    /// expired may be used again.
    pub async fn add_api_token(&mut self, new: &NewApiToken<'_>) -> Result<bool> {
        self.sql(
            "UPDATE tokens SET revoked_at = expires_at
             WHERE kind = 'operator' AND name = $1 AND revoked_at IS NULL AND expires_at <= now_ms()",
        )
        .bind(new.name)
        .execute()
        .await?;
        let added = self.sql(
            "INSERT INTO tokens (hash, kind, name, scope, created_at, expires_at, made_by, operator_id)
             VALUES ($1, $2, $3, $4, now_ms(), $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(new.hash.as_bytes())
        .bind(TokenKind::Operator.into_str())
        .bind(new.name)
        .bind(new.scope.into_str())
        .bind(new.expires_at.map(jiff::Timestamp::as_millisecond))
        .bind(&new.made_by)
        .bind(new.operator)
        .execute()
        .await?;
        Ok(added > 0)
    }

    /// Revokes the API token of this name; it stops working at once. Returns false if there is none to revoke.
    pub async fn revoke_api_token(&mut self, name: &str) -> Result<bool> {
        let revoked = self.sql(
            "UPDATE tokens SET revoked_at = now_ms() WHERE kind = 'operator' AND name = $1 AND revoked_at IS NULL",
        )
        .bind(name)
        .execute()
        .await?;
        Ok(revoked > 0)
    }
}
