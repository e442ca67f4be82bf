//! Who did what, for people who ask later. No secret stands here.

use super::{Result, Store, Writing, now, timestamp};

/// Entries kept.
const KEPT: i64 = 20_000;

/// One thing that was done.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// When.
    pub at: jiff::Timestamp,
    /// By whom: an operator, an API token, a bastion.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
}

impl Store {
    /// Writes down what changes nothing else in the database.
    pub async fn audit(&self, actor: &str, action: &str, subject: &str) -> Result<()> {
        let mut tx = self.write().await?;
        tx.add_audit(actor, action, subject).await?;
        tx.commit().await
    }

    /// The newest entries, newest first.
    pub async fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
            "SELECT at, actor, action, subject FROM audit_log ORDER BY id DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let entries = rows
            .into_iter()
            .map(|(at, actor, action, subject)| AuditEntry {
                at: timestamp(at),
                actor,
                action,
                subject,
            });
        Ok(entries.collect())
    }
}

impl Writing {
    /// Writes an entry in the transaction of the change itself.
    pub async fn add_audit(&mut self, actor: &str, action: &str, subject: &str) -> Result<()> {
        sqlx::query("INSERT INTO audit_log (at, actor, action, subject) VALUES (?, ?, ?, ?)")
            .bind(now())
            .bind(actor)
            .bind(action)
            .bind(subject)
            .execute(&mut *self.0)
            .await?;
        sqlx::query("DELETE FROM audit_log WHERE id <= (SELECT max(id) FROM audit_log) - ?")
            .bind(KEPT)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}
