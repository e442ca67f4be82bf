//! People who sign in with a browser: their accounts, sign-in links and sessions.

use std::time::Duration;

use super::tokens::TokenHash;
use super::{Result, Store, now};

/// How exactly it is known when a session was last used. Writing it at every request would make
/// every page view a write.
const SEEN_PRECISION: Duration = Duration::from_secs(60);

/// The number of an account.
#[derive(Clone, Copy, sqlx::Type)]
#[sqlx(transparent)]
pub struct OperatorId(i64);

/// An account.
#[derive(Clone)]
pub struct OperatorAccount {
    /// Its number.
    pub id: OperatorId,
    /// Its name.
    pub name: String,
    /// Argon2id in PHC form; absent for one who signs in by links alone.
    pub password_hash: Option<String>,
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Without a request.
    pub idle: Duration,
    /// In all.
    pub lifetime: Duration,
}

type Row = (OperatorId, String, Option<String>);

fn account((id, name, password_hash): Row) -> OperatorAccount {
    OperatorAccount {
        id,
        name,
        password_hash,
    }
}

impl Store {
    /// The account of this name.
    pub async fn operator(&self, name: &str) -> Result<Option<OperatorAccount>> {
        let row: Option<Row> =
            sqlx::query_as("SELECT id, name, password_hash FROM operators WHERE name = ?")
                .bind(name)
                .fetch_optional(&self.readers)
                .await?;
        Ok(row.map(account))
    }

    /// Whether nobody has an account.
    pub async fn has_no_operator(&self) -> Result<bool> {
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM operators)")
            .fetch_one(&self.readers)
            .await?;
        Ok(!any)
    }

    /// Keeps a sign-in link for the account of this name, which is made if it is absent. An earlier
    /// link of it stops working.
    pub async fn add_login_link(
        &self,
        name: &str,
        link: &TokenHash,
        lifetime: Duration,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO operators (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(name)
        .bind(now())
        .execute(&mut *tx.0)
        .await?;
        let id: OperatorId = sqlx::query_scalar("SELECT id FROM operators WHERE name = ?")
            .bind(name)
            .fetch_one(&mut *tx.0)
            .await?;
        sqlx::query("DELETE FROM login_links WHERE operator_id = ?")
            .bind(id)
            .execute(&mut *tx.0)
            .await?;
        sqlx::query("INSERT INTO login_links (hash, operator_id, expires_at) VALUES (?, ?, ?)")
            .bind(link.as_bytes())
            .bind(id)
            .bind(now() + milliseconds(lifetime))
            .execute(&mut *tx.0)
            .await?;
        tx.add_audit("server's command line", "sign-in link made", name)
            .await?;
        tx.commit().await
    }

    /// Whether a sign-in link works; it does once.
    pub async fn login_link_works(&self, link: &TokenHash) -> Result<bool> {
        let works = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM login_links WHERE hash = ? AND expires_at > ?)",
        )
        .bind(link.as_bytes())
        .bind(now())
        .fetch_one(&self.readers)
        .await?;
        Ok(works)
    }

    /// Uses a sign-in link up and returns whose it was; nothing if it does not work (any more).
    pub async fn use_login_link(&self, link: &TokenHash) -> Result<Option<OperatorAccount>> {
        let mut tx = self.write().await?;
        let id: Option<OperatorId> = sqlx::query_scalar(
            "DELETE FROM login_links WHERE hash = ? AND expires_at > ? RETURNING operator_id",
        )
        .bind(link.as_bytes())
        .bind(now())
        .fetch_optional(&mut *tx.0)
        .await?;
        let Some(id) = id else {
            return Ok(None);
        };
        let row: Row = sqlx::query_as("SELECT id, name, password_hash FROM operators WHERE id = ?")
            .bind(id)
            .fetch_one(&mut *tx.0)
            .await?;
        tx.commit().await?;
        Ok(Some(account(row)))
    }

    /// Gives an account a new password and ends its sessions, except for the one it was set in.
    pub async fn set_password(
        &self,
        operator: &OperatorAccount,
        password_hash: &str,
        session: &TokenHash,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE operators SET password_hash = ? WHERE id = ?")
            .bind(password_hash)
            .bind(operator.id)
            .execute(&mut *tx.0)
            .await?;
        sqlx::query("DELETE FROM browser_sessions WHERE operator_id = ? AND hash <> ?")
            .bind(operator.id)
            .bind(session.as_bytes())
            .execute(&mut *tx.0)
            .await?;
        tx.add_audit(&operator.name, "password set", &operator.name)
            .await?;
        tx.commit().await
    }

    /// Begins a session, and forgets those that are over. `how` is for the audit log.
    pub async fn begin_session(
        &self,
        session: &TokenHash,
        operator: &OperatorAccount,
        limits: SessionLimits,
        how: &str,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM browser_sessions WHERE created_at <= ? OR seen_at <= ?")
            .bind(now() - milliseconds(limits.lifetime))
            .bind(now() - milliseconds(limits.idle))
            .execute(&mut *tx.0)
            .await?;
        sqlx::query(
            "INSERT INTO browser_sessions (hash, operator_id, created_at, seen_at) VALUES (?1, ?2, ?3, ?3)",
        )
        .bind(session.as_bytes())
        .bind(operator.id)
        .bind(now())
        .execute(&mut *tx.0)
        .await?;
        tx.add_audit(&operator.name, "signed in", how).await?;
        tx.commit().await
    }

    /// Whose session this is, if it is not over.
    pub async fn session_operator(
        &self,
        session: &TokenHash,
        limits: SessionLimits,
    ) -> Result<Option<OperatorAccount>> {
        let row: Option<(OperatorId, String, Option<String>, i64)> = sqlx::query_as(
            "SELECT o.id, o.name, o.password_hash, s.seen_at
             FROM browser_sessions AS s JOIN operators AS o ON o.id = s.operator_id
             WHERE s.hash = ? AND s.created_at > ? AND s.seen_at > ?",
        )
        .bind(session.as_bytes())
        .bind(now() - milliseconds(limits.lifetime))
        .bind(now() - milliseconds(limits.idle))
        .fetch_optional(&self.readers)
        .await?;
        let Some((id, name, password_hash, seen_at)) = row else {
            return Ok(None);
        };
        let precision = SEEN_PRECISION.min(limits.idle / 2);
        if seen_at < now() - milliseconds(precision) {
            sqlx::query("UPDATE browser_sessions SET seen_at = ? WHERE hash = ?")
                .bind(now())
                .bind(session.as_bytes())
                .execute(&self.writer)
                .await?;
        }
        Ok(Some(account((id, name, password_hash))))
    }

    /// Ends a session.
    pub async fn end_session(&self, session: &TokenHash, operator: &str) -> Result<()> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM browser_sessions WHERE hash = ?")
            .bind(session.as_bytes())
            .execute(&mut *tx.0)
            .await?;
        tx.add_audit(operator, "signed out", "browser").await?;
        tx.commit().await
    }
}

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}
