//! People who sign in with a browser: their accounts.

use super::{Result, Store, Writing, timestamp};

/// The number of an account. It is never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct OperatorId(i64);

#[derive(Clone)]
pub struct OperatorAccount {
    /// Its number.
    pub id: OperatorId,
    pub name: String,
    /// Argon2id in PHC form; absent for one who signs in by links alone.
    pub password_hash: Option<String>,
    /// Whether it is disabled: then it gets in nowhere.
    pub disabled: bool,
}

/// An account in a list.
#[derive(Debug, Clone)]
pub struct ListedOperator {
    pub name: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it last signed in; absent if it never did, or not since that is kept.
    pub signed_in_at: Option<jiff::Timestamp>,
    /// When it was disabled; absent if it is not.
    pub disabled_at: Option<jiff::Timestamp>,
    /// Whether it can sign in by password.
    pub has_password: bool,
    /// How many API tokens of its own are not revoked.
    pub api_tokens: i64,
}

pub(super) type Row = (OperatorId, String, Option<String>, bool);

pub(super) fn account((id, name, password_hash, disabled): Row) -> OperatorAccount {
    OperatorAccount {
        id,
        name,
        password_hash,
        disabled,
    }
}

impl Store {
    pub async fn operator(&self, name: &str) -> Result<Option<OperatorAccount>> {
        let row: Option<Row> = self.readers.sql(
            "SELECT id, name, password_hash, disabled_at IS NOT NULL FROM operators WHERE name = $1",
        )
        .bind(name)
        .optional()
        .await?;
        Ok(row.map(account))
    }

    /// All accounts, by name.
    pub async fn operators(&self) -> Result<Vec<ListedOperator>> {
        type Row = (String, i64, Option<i64>, Option<i64>, bool, i64);
        let rows: Vec<Row> = self.readers.sql(
            "SELECT name, created_at, signed_in_at, disabled_at, password_hash IS NOT NULL,
                 (SELECT count(*) FROM tokens WHERE operator_id = operators.id AND revoked_at IS NULL)
             FROM operators ORDER BY name",
        )
        .all()
        .await?;
        let listed = rows.into_iter().map(
            |(name, created_at, signed_in_at, disabled_at, has_password, api_tokens)| {
                ListedOperator {
                    name,
                    created_at: timestamp(created_at),
                    signed_in_at: signed_in_at.map(timestamp),
                    disabled_at: disabled_at.map(timestamp),
                    has_password,
                    api_tokens,
                }
            },
        );
        Ok(listed.collect())
    }

    /// Whether nobody has an account.
    pub async fn has_no_operator(&self) -> Result<bool> {
        let any: bool = self
            .readers
            .sql("SELECT EXISTS (SELECT 1 FROM operators)")
            .value()
            .await?;
        Ok(!any)
    }
}

impl Writing {
    /// The account of this name, as it stands in this transaction.
    pub async fn operator(&mut self, name: &str) -> Result<Option<OperatorAccount>> {
        let row: Option<Row> = self.sql(
            "SELECT id, name, password_hash, disabled_at IS NOT NULL FROM operators WHERE name = $1",
        )
        .bind(name)
        .optional()
        .await?;
        Ok(row.map(account))
    }

    /// Makes an account, which signs in by links alone until it sets a password.
    pub async fn add_operator(&mut self, name: &str) -> Result<OperatorId> {
        let id = self
            .sql("INSERT INTO operators (name, created_at) VALUES ($1, now_ms()) RETURNING id")
            .bind(name)
            .value()
            .await?;
        Ok(id)
    }

    /// Whether this account is still there and not disabled.
    pub async fn may_sign_in(&mut self, operator: OperatorId) -> Result<bool> {
        let may = self
            .sql("SELECT EXISTS (SELECT 1 FROM operators WHERE id = $1 AND disabled_at IS NULL)")
            .bind(operator)
            .value()
            .await?;
        Ok(may)
    }

    /// Whether somebody else than this one can sign in by password.
    pub async fn others_have_passwords(&mut self, operator: OperatorId) -> Result<bool> {
        let any = self
            .sql(
                "SELECT EXISTS (SELECT 1 FROM operators
             WHERE id <> $1 AND disabled_at IS NULL AND password_hash IS NOT NULL)",
            )
            .bind(operator)
            .value()
            .await?;
        Ok(any)
    }

    /// Disables an account: its sessions and links are gone, and its API tokens do not work meanwhile.
    pub async fn disable_operator(&mut self, operator: OperatorId) -> Result<()> {
        self.sign_out_everywhere(operator).await?;
        self.sql("UPDATE operators SET disabled_at = now_ms() WHERE id = $1")
            .bind(operator)
            .execute()
            .await?;
        Ok(())
    }

    /// Lets a disabled account in again, with the API tokens that it had.
    pub async fn enable_operator(&mut self, operator: OperatorId) -> Result<()> {
        self.sql("UPDATE operators SET disabled_at = NULL WHERE id = $1")
            .bind(operator)
            .execute()
            .await?;
        Ok(())
    }

    /// Removes an account with its sessions and links, and revokes its API tokens.
    pub async fn remove_operator(&mut self, operator: OperatorId) -> Result<()> {
        self.sign_out_everywhere(operator).await?;
        self.sql(
            "UPDATE tokens SET operator_id = NULL, revoked_at = coalesce(revoked_at, now_ms())
             WHERE operator_id = $1",
        )
        .bind(operator)
        .execute()
        .await?;
        self.sql("DELETE FROM operators WHERE id = $1")
            .bind(operator)
            .execute()
            .await?;
        Ok(())
    }
}
