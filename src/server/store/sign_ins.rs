//! How operators get in: sign-in links, sessions and passwords.

use std::time::Duration;

use super::operators::{OperatorAccount, OperatorId, Row, account};
use super::tokens::TokenHash;
use super::{Actor, Result, Store, Writing, milliseconds};

/// How exactly it is known when a session was last used. Writing it at every request would make
/// every page view a write.
const SEEN_PRECISION: Duration = Duration::from_secs(60);

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Without a request.
    pub idle: Duration,
    pub lifetime: Duration,
}

impl Store {
    /// Whether a sign-in link works; it does once.
    pub async fn login_link_works(&self, link: &TokenHash) -> Result<bool> {
        let works = self
            .readers
            .sql("SELECT EXISTS (SELECT 1 FROM login_links WHERE hash = $1 AND expires_at > now_ms())")
            .bind(link.as_bytes())
            .value()
            .await?;
        Ok(works)
    }

    /// Uses a sign-in link up and returns whose it was; nothing if it does not work (any more).
    pub async fn use_login_link(&self, link: &TokenHash) -> Result<Option<OperatorAccount>> {
        let mut tx = self.write().await?;
        let id: Option<OperatorId> = tx
            .sql(
                "DELETE FROM login_links WHERE hash = $1 AND expires_at > now_ms() RETURNING operator_id",
            )
            .bind(link.as_bytes())
            .optional_value()
            .await?;
        let Some(id) = id else {
            return Ok(None);
        };
        let row: Row = tx.sql(
            "SELECT id, name, password_hash, disabled_at IS NOT NULL FROM operators WHERE id = $1",
        )
        .bind(id)
        .one()
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
        tx.sql("UPDATE operators SET password_hash = $1 WHERE id = $2")
            .bind(password_hash)
            .bind(operator.id)
            .execute()
            .await?;
        tx.sql("DELETE FROM browser_sessions WHERE operator_id = $1 AND hash <> $2")
            .bind(operator.id)
            .bind(session.as_bytes())
            .execute()
            .await?;
        let actor = Actor::Operator(operator.name.clone());
        tx.add_audit(&actor, "password set", &operator.name).await?;
        tx.commit().await
    }

    /// Begins a session. `how` is for the audit log. Returns false, and begins none, if the account has been disabled or
    /// removed since it was looked up.
    pub async fn begin_session(
        &self,
        session: &TokenHash,
        operator: &OperatorAccount,
        how: &str,
    ) -> Result<bool> {
        let mut tx = self.write().await?;
        if !tx.may_sign_in(operator.id).await? {
            return Ok(false);
        }
        tx.sql(
            "INSERT INTO browser_sessions (hash, operator_id, created_at, seen_at)
             VALUES ($1, $2, now_ms(), now_ms())",
        )
        .bind(session.as_bytes())
        .bind(operator.id)
        .execute()
        .await?;
        tx.sql("UPDATE operators SET signed_in_at = now_ms() WHERE id = $1")
            .bind(operator.id)
            .execute()
            .await?;
        let actor = Actor::Operator(operator.name.clone());
        tx.add_audit(&actor, "signed in", how).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Forgets the sessions that are over. Returns how many.
    pub async fn forget_sessions_that_are_over(&self, limits: SessionLimits) -> Result<u64> {
        let mut tx = self.write().await?;
        let forgotten = tx
            .sql("DELETE FROM browser_sessions WHERE created_at <= now_ms() - $1 OR seen_at <= now_ms() - $2")
            .bind(milliseconds(limits.lifetime))
            .bind(milliseconds(limits.idle))
            .execute()
            .await?;
        tx.commit().await?;
        Ok(forgotten)
    }

    /// Whose session this is, if it is not over.
    pub async fn session_operator(
        &self,
        session: &TokenHash,
        limits: SessionLimits,
    ) -> Result<Option<OperatorAccount>> {
        let row: Option<(OperatorId, String, Option<String>, bool)> = self
            .readers
            .sql(
                "SELECT o.id, o.name, o.password_hash, s.seen_at < now_ms() - $4
             FROM browser_sessions AS s JOIN operators AS o ON o.id = s.operator_id
             WHERE s.hash = $1 AND s.created_at > now_ms() - $2 AND s.seen_at > now_ms() - $3
                 AND o.disabled_at IS NULL",
            )
            .bind(session.as_bytes())
            .bind(milliseconds(limits.lifetime))
            .bind(milliseconds(limits.idle))
            .bind(milliseconds(SEEN_PRECISION.min(limits.idle / 2)))
            .optional()
            .await?;
        let Some((id, name, password_hash, is_to_be_noted)) = row else {
            return Ok(None);
        };
        if is_to_be_noted {
            let noted = self
                .writer
                .sql("UPDATE browser_sessions SET seen_at = now_ms() WHERE hash = $1")
                .bind(session.as_bytes())
                .execute()
                .await;
            // What is only read is answered also while nothing can be written.
            if let Err(error) = noted {
                tracing::warn!(?error, "cannot write when a browser's session was used");
            }
        }
        Ok(Some(account((id, name, password_hash, false))))
    }

    pub async fn end_session(&self, session: &TokenHash, operator: &str) -> Result<()> {
        let mut tx = self.write().await?;
        tx.sql("DELETE FROM browser_sessions WHERE hash = $1")
            .bind(session.as_bytes())
            .execute()
            .await?;
        let actor = Actor::Operator(operator.to_owned());
        tx.add_audit(&actor, "signed out", "browser").await?;
        tx.commit().await
    }
}

impl Writing {
    /// Keeps a sign-in link for an account. An earlier link of it stops working.
    pub async fn put_login_link(
        &mut self,
        operator: OperatorId,
        link: &TokenHash,
        lifetime: Duration,
    ) -> Result<()> {
        self.sql("DELETE FROM login_links WHERE operator_id = $1")
            .bind(operator)
            .execute()
            .await?;
        self.sql("INSERT INTO login_links (hash, operator_id, expires_at) VALUES ($1, $2, now_ms() + $3)")
            .bind(link.as_bytes())
            .bind(operator)
            .bind(milliseconds(lifetime))
            .execute()
            .await?;
        Ok(())
    }

    /// Ends all sessions of an account, and takes its links away.
    pub(super) async fn sign_out_everywhere(&mut self, operator: OperatorId) -> Result<()> {
        self.sql("DELETE FROM browser_sessions WHERE operator_id = $1")
            .bind(operator)
            .execute()
            .await?;
        self.sql("DELETE FROM login_links WHERE operator_id = $1")
            .bind(operator)
            .execute()
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::TestStore;

    #[tokio::test]
    async fn whose_session_is_over_is_said_by_the_clock_of_the_database_that_nodes_share() {
        let Some(kept) = TestStore::on_postgres_ahead(400).await else {
            return;
        };
        let (store, hour) = (&kept.store, Duration::from_secs(3600));
        let limits = SessionLimits {
            idle: hour,
            lifetime: hour,
        };
        let mut tx = store.write().await.unwrap();
        let id = tx.add_operator("ann").await.unwrap();
        let link = TokenHash::of("a link");
        tx.put_login_link(id, &link, hour).await.unwrap();
        tx.commit().await.unwrap();
        assert!(store.login_link_works(&link).await.unwrap());
        let ann = store.use_login_link(&link).await.unwrap().unwrap();
        let session = TokenHash::of("a session");
        store.begin_session(&session, &ann, "link").await.unwrap();
        let forgotten = store.forget_sessions_that_are_over(limits).await;
        assert_eq!(forgotten.unwrap(), 0);
        let found = store.session_operator(&session, limits).await.unwrap();
        assert!(found.is_some());
        // As a node's own clock shows it.
        let now = jiff::Timestamp::now().as_millisecond();
        kept.execute(&format!("UPDATE browser_sessions SET seen_at = {now}"))
            .await;
        let found = store.session_operator(&session, limits).await.unwrap();
        assert!(found.is_none());
    }

    #[tokio::test]
    async fn who_is_signed_in_goes_on_reading_while_nothing_can_be_written() {
        let kept = TestStore::new().await;
        let store = &kept.store;
        let limits = SessionLimits {
            idle: Duration::from_secs(3600),
            lifetime: Duration::from_secs(7200),
        };
        let mut tx = store.write().await.unwrap();
        tx.add_operator("ann").await.unwrap();
        tx.commit().await.unwrap();
        let ann = store.operator("ann").await.unwrap().unwrap();
        let session = TokenHash::of("a session");
        store.begin_session(&session, &ann, "link").await.unwrap();
        // Long enough ago for its use to be written down.
        kept.execute("UPDATE browser_sessions SET seen_at = seen_at - 120000")
            .await;
        kept.refuse_writing().await;
        let found = store.session_operator(&session, limits).await.unwrap();
        assert_eq!(found.map(|operator| operator.name).as_deref(), Some("ann"));
    }
}
