//! Who did what, for people who ask later. No secret stands here.
//!
//! The log is bounded, and nobody's entries push out another's: each kind of actor has its own room, and each
//! bastion and API token its share of that. So whoever holds one bastion or one token can hide what he did
//! behind more of the same, and never what an operator did.

use std::time::Duration;

use strum::VariantArray as _;

use super::lists::{Part, push_part};
use super::{Actor, ActorKind, Result, Store, Writing, milliseconds, timestamp};

/// After how many entries the room of each kind is looked at. Its oldest entry is found by counting through an
/// index, which is not worth doing at every entry.
const LOOK_EVERY: i64 = 64;

/// How many entries that are too old are forgotten in one transaction: others wait for that.
const FORGOTTEN_AT_ONCE: u32 = 5_000;

/// How many entries stay.
struct Room {
    /// Of each source, if it has a share of its own.
    each: Option<i64>,
    /// Of the kind in all.
    all: i64,
}

fn room(kind: ActorKind) -> Room {
    let (each, all) = match kind {
        ActorKind::Operator => (None, 100_000),
        ActorKind::CommandLine => (None, 20_000),
        ActorKind::ApiToken => (Some(5_000), 50_000),
        ActorKind::Bastion => (Some(500), 20_000),
        ActorKind::Server => (None, 2_000),
        ActorKind::Stranger => (None, 2_000),
    };
    Room { each, all }
}

/// One thing that was done.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Its number; later ones are higher.
    pub id: i64,
    /// When.
    pub at: jiff::Timestamp,
    /// By whom, as it is shown.
    pub actor: String,
    /// Of which kind that is; absent for one that this version does not know.
    pub kind: Option<ActorKind>,
    pub action: String,
    pub subject: String,
}

impl Store {
    /// Writes down what changes nothing else in the database.
    pub async fn audit(&self, actor: &Actor, action: &str, subject: &str) -> Result<()> {
        let mut tx = self.write().await?;
        tx.add_audit(actor, action, subject).await?;
        tx.commit().await
    }

    /// At most `limit` entries; of this kind of actors alone, if one is given.
    pub async fn audit_log(
        &self,
        kind: Option<ActorKind>,
        part: Part,
        limit: u32,
    ) -> Result<Vec<AuditEntry>> {
        type Row = (i64, i64, String, String, String, String);
        let mut query = self
            .readers
            .sql("SELECT id, at, actor, source_kind, action, subject FROM audit_log WHERE TRUE");
        if let Some(kind) = kind {
            query.push(" AND source_kind = ").push_bind(kind.into_str());
        }
        push_part(&mut query, "id", part, limit);
        let rows: Vec<Row> = query.all().await?;
        let entries = rows
            .into_iter()
            .map(|(id, at, actor, kind, action, subject)| AuditEntry {
                id,
                at: timestamp(at),
                actor,
                kind: kind.parse().ok(),
                action,
                subject,
            });
        Ok(entries.collect())
    }

    /// Forgets the entries that are older than this, part by part, in turn with whoever else writes. Returns how many.
    pub async fn forget_audit_older_than(&self, age: Duration) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let mut tx = self.write().await?;
            let part = tx
                .sql(
                    "DELETE FROM audit_log WHERE id IN (
                         SELECT id FROM audit_log WHERE at < now_ms() - $1 ORDER BY id LIMIT $2)",
                )
                .bind(milliseconds(age))
                .bind(i64::from(FORGOTTEN_AT_ONCE))
                .execute()
                .await?;
            tx.commit().await?;
            forgotten += part;
            if part < u64::from(FORGOTTEN_AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }
}

impl Writing {
    /// Writes an entry in the transaction of the change itself.
    pub async fn add_audit(&mut self, actor: &Actor, action: &str, subject: &str) -> Result<()> {
        let (kind, source) = (actor.kind(), actor.source());
        let id: i64 = self
            .sql(
                "INSERT INTO audit_log (at, actor, action, subject, source_kind, source)
             VALUES (now_ms(), $1, $2, $3, $4, $5) RETURNING id",
            )
            .bind(actor.to_string())
            .bind(action)
            .bind(subject)
            .bind(kind.into_str())
            .bind(&source)
            .value()
            .await?;
        if let Some(share) = room(kind).each {
            self.keep_newest_of_source(kind, &source, share).await?;
        }
        if id % LOOK_EVERY == 0 {
            for &kind in ActorKind::VARIANTS {
                self.keep_newest_of_kind(kind, room(kind).all).await?;
            }
        }
        Ok(())
    }

    async fn keep_newest_of_source(
        &mut self,
        kind: ActorKind,
        source: &str,
        kept: i64,
    ) -> Result<()> {
        self.sql(
            "DELETE FROM audit_log WHERE source_kind = $1 AND source = $2 AND id <= (
                 SELECT id FROM audit_log WHERE source_kind = $1 AND source = $2
                 ORDER BY id DESC LIMIT 1 OFFSET $3
             )",
        )
        .bind(kind.into_str())
        .bind(source)
        .bind(kept)
        .execute()
        .await?;
        Ok(())
    }

    async fn keep_newest_of_kind(&mut self, kind: ActorKind, kept: i64) -> Result<()> {
        self.sql(
            "DELETE FROM audit_log WHERE source_kind = $1 AND id <= (
                 SELECT id FROM audit_log WHERE source_kind = $1
                 ORDER BY id DESC LIMIT 1 OFFSET $2
             )",
        )
        .bind(kind.into_str())
        .bind(kept)
        .execute()
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::SqlitePool;

    use super::*;
    use crate::protocol::TunnelId;
    use crate::server::store::TestStore;

    struct Log(TestStore);

    impl Log {
        async fn new() -> Self {
            Log(TestStore::new().await)
        }

        /// So many entries of this kind, by so many sources in turn.
        async fn fill(&self, kind: ActorKind, entries: i64, sources: i64) {
            self.0
                .execute(&format!(
                    "INSERT INTO audit_log (at, actor, action, subject, source_kind, source)
                     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {entries})
                     SELECT i, 'filled', 'done', CAST(i AS TEXT), '{}', CAST(i % {sources} AS TEXT) FROM n",
                    kind.into_str()
                ))
                .await;
        }

        async fn number(&self, kind: ActorKind) -> i64 {
            let kind = kind.into_str();
            let query = format!("SELECT count(*) FROM audit_log WHERE source_kind = '{kind}'");
            self.0.number(&query).await
        }

        async fn write(&self, actor: &Actor, entries: usize) {
            for _ in 0..entries {
                self.0.store.audit(actor, "done", "it").await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_bastion_pushes_out_its_own_entries_alone() {
        let log = Log::new().await;
        log.write(&Actor::Operator("ann".to_owned()), 1).await;
        log.write(&Actor::Bastion(TunnelId(8)), 1).await;
        log.write(&Actor::Bastion(TunnelId(7)), 520).await;
        assert_eq!(log.number(ActorKind::Operator).await, 1);
        assert_eq!(log.number(ActorKind::Bastion).await, 500 + 1);
    }

    #[tokio::test]
    async fn a_program_that_runs_wild_pushes_out_no_operator_and_no_other_program() {
        let log = Log::new().await;
        log.write(&Actor::Operator("ci".to_owned()), 1).await;
        log.write(&Actor::ApiToken("deploy".to_owned()), 1).await;
        log.fill(ActorKind::ApiToken, 6_000, 1).await;
        log.0
            .execute("UPDATE audit_log SET source = 'ci' WHERE source = '0'")
            .await;
        log.write(&Actor::ApiToken("ci".to_owned()), 1).await;
        assert_eq!(log.number(ActorKind::ApiToken).await, 5_000 + 1);
        assert_eq!(log.number(ActorKind::Operator).await, 1);
    }

    #[tokio::test]
    async fn however_many_bastions_and_strangers_there_are_they_have_their_own_room() {
        let log = Log::new().await;
        log.write(&Actor::Operator("ann".to_owned()), 1).await;
        log.write(&Actor::CommandLine, 1).await;
        log.fill(ActorKind::Bastion, 30_000, 10_000).await;
        log.fill(ActorKind::Stranger, 5_000, 1).await;
        log.write(&Actor::Bastion(TunnelId(1)), 64).await;
        assert!(log.number(ActorKind::Bastion).await <= 20_000 + 64);
        assert!(log.number(ActorKind::Stranger).await <= 2_000 + 64);
        assert_eq!(log.number(ActorKind::Operator).await, 1);
        assert_eq!(log.number(ActorKind::CommandLine).await, 1);
    }

    #[tokio::test]
    async fn what_is_older_than_it_may_be_is_forgotten_whoever_did_it() {
        let log = Log::new().await;
        log.fill(ActorKind::Operator, 10, 1).await;
        log.write(&Actor::Operator("ann".to_owned()), 1).await;
        let minute = Duration::from_secs(60);
        let forgotten = log.0.store.forget_audit_older_than(minute).await;
        assert_eq!(forgotten.unwrap(), 10);
        assert_eq!(log.number(ActorKind::Operator).await, 1);
    }

    #[tokio::test]
    async fn what_is_too_old_is_said_by_the_clock_of_the_database_that_nodes_share() {
        let Some(kept) = TestStore::on_postgres_ahead(400).await else {
            return;
        };
        let (log, year) = (Log(kept), Duration::from_secs(365 * 24 * 3600));
        log.write(&Actor::Operator("ann".to_owned()), 2).await;
        assert_eq!(log.0.store.forget_audit_older_than(year).await.unwrap(), 0);
        // As a node's own clock shows it.
        let now = jiff::Timestamp::now().as_millisecond();
        log.0
            .execute(&format!("UPDATE audit_log SET at = {now} WHERE id = 1"))
            .await;
        assert_eq!(log.0.store.forget_audit_older_than(year).await.unwrap(), 1);
    }

    /// What an entry costs must not grow with the log: as SQLite plans it.
    #[tokio::test]
    async fn an_entry_is_written_without_looking_through_the_log() {
        let log = Log(TestStore::on_sqlite().await);
        for statement in [
            "DELETE FROM audit_log WHERE source_kind = 'bastion' AND source = '7' AND id <= (
                 SELECT id FROM audit_log WHERE source_kind = 'bastion' AND source = '7'
                 ORDER BY id DESC LIMIT 1 OFFSET 500)",
            "DELETE FROM audit_log WHERE source_kind = 'bastion' AND id <= (
                 SELECT id FROM audit_log WHERE source_kind = 'bastion'
                 ORDER BY id DESC LIMIT 1 OFFSET 20000)",
        ] {
            let plan = log
                .0
                .store
                .readers
                .sql(format!("EXPLAIN QUERY PLAN {statement}"));
            let plan: Vec<(i64, i64, i64, String)> = plan.all().await.unwrap();
            assert!(plan.len() >= 2, "{plan:?}");
            for (_, _, _, step) in &plan {
                assert!(!step.starts_with("SCAN"), "{step} in {statement}");
                assert!(!step.contains("TEMP B-TREE"), "{step} in {statement}");
            }
        }
    }

    /// An installation of before this was kept: with SQLite.
    #[tokio::test]
    async fn old_entries_and_tokens_are_taken_over_as_what_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let before = dir.path().join("migrations");
        std::fs::create_dir(&before).unwrap();
        let all = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/server/store/migrations/sqlite"
        );
        for file in std::fs::read_dir(all).unwrap() {
            let file = file.unwrap();
            if *file.file_name() < *"0050" {
                std::fs::copy(file.path(), before.join(file.file_name())).unwrap();
            }
        }
        let file = dir.path().join("db");
        let url = format!("sqlite:{}?mode=rwc", file.display());
        let raw = SqlitePool::connect(&url).await.unwrap();
        let migrations = sqlx::migrate::Migrator::new(before).await.unwrap();
        migrations.run(&raw).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO operators (name, created_at) VALUES ('ann', 0), ('both', 0);
             INSERT INTO tokens (hash, kind, name, created_at) VALUES
                 (x'01', 'operator', 'ci', 0), (x'02', 'operator', 'both', 0);
             INSERT INTO data_sources (id, display_name, database_type, host, port, created_at)
                 VALUES (5, 'Sales', 'postgresql', 'db', 5432, 0);
             INSERT INTO tunnels (id, data_source_id) VALUES (7, 5);
             INSERT INTO audit_log (at, actor, action, subject) VALUES
                 (0, 'ann', 'signed in', 'by link'), (0, 'both', 'created', 'data source 5'),
                 (0, 'ci', 'created', 'data source 5'), (0, 'bastion', 'enrolled', 'data source 5'),
                 (0, 'server''s command line', 'sign-in link made', 'ann'),
                 (0, 'host-key command', 'host key made', ''), (0, 'command line', 'restored', '')",
        )
        .execute(&raw)
        .await
        .unwrap();
        raw.close().await;

        let store = Store::open(&file).await.unwrap();
        let raw = SqlitePool::connect(&url).await.unwrap();
        let sources: Vec<(String, String)> =
            sqlx::query_as("SELECT source_kind, source FROM audit_log ORDER BY id")
                .fetch_all(&raw)
                .await
                .unwrap();
        let expected = [
            ("operator", "ann"),
            ("operator", "both"),
            ("api_token", "ci"),
            ("bastion", "7"),
            ("command_line", ""),
            ("command_line", ""),
            ("command_line", ""),
        ];
        assert_eq!(
            sources,
            expected.map(|(kind, source)| (kind.to_owned(), source.to_owned()))
        );
        let tokens = store.api_tokens().await.unwrap();
        assert_eq!(tokens.len(), 2);
        for token in tokens {
            assert_eq!(token.scope, crate::server::store::Scope::Operate);
            assert_eq!((token.expires_at, token.made_by), (None, None));
        }
    }
}
