//! Operators' accounts: who may disable and remove whom, and what ends with an account.
//!
//! Every operator may do everything, so what keeps a way in is this: nobody disables or removes himself by page.
//! Whoever did the last one is there afterwards; that he still is, is looked at in the same transaction, so that of
//! two who remove each other at the same moment one stays. The command line may do all of it, since whoever can run
//! it can always make another link.

use std::time::Duration;

use super::access::AccessError;
use super::control_plane::ControlPlane;
use super::token::{Token, TokenHash};
use crate::server::store::{Actor, OperatorAccount, Store, StoreError, Writing};

/// How long a sign-in link works.
const LINK_TTL: Duration = Duration::from_secs(24 * 3600);

/// What may be done with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorChange {
    /// It gets in nowhere until it is enabled.
    Disable,
    /// It gets in again.
    Enable,
    /// It is no more.
    Remove,
}

impl OperatorChange {
    fn audited(self) -> &'static str {
        match self {
            OperatorChange::Disable => "operator disabled",
            OperatorChange::Enable => "operator enabled",
            OperatorChange::Remove => "operator removed",
        }
    }
}

/// As whom somebody asks: an operator at a page, or nobody at the command line.
pub(super) fn actor(by: Option<&OperatorAccount>) -> Actor {
    by.map_or(Actor::CommandLine, |by| Actor::Operator(by.name.clone()))
}

/// Makes sure that whoever asks still may, in the transaction of what he asks for.
pub(super) async fn ensure_asker(
    tx: &mut Writing,
    by: Option<&OperatorAccount>,
) -> Result<(), AccessError> {
    match by {
        Some(by) if !tx.may_sign_in(by.id).await? => Err(AccessError::AskerGone),
        _ => Ok(()),
    }
}

/// Makes a link that signs this operator in once; makes the account too, if there is none.
pub async fn login_link(store: &Store, name: &str) -> Result<Token, AccessError> {
    let token = Token::login_link();
    let_in_by(store, name, &token).await?;
    Ok(token)
}

/// The same with a link that somebody has already.
pub async fn let_in_by(store: &Store, name: &str, token: &Token) -> Result<(), AccessError> {
    let mut tx = store.write().await?;
    let id = match tx.operator(name).await? {
        Some(account) if account.disabled => {
            return Err(AccessError::Disabled(name.to_owned()));
        }
        Some(account) => account.id,
        None => {
            let id = tx.add_operator(name).await?;
            tx.add_audit(&Actor::CommandLine, "operator made", name)
                .await?;
            id
        }
    };
    tx.put_login_link(id, &token.hash(), LINK_TTL).await?;
    tx.add_audit(&Actor::CommandLine, "sign-in link made", name)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Disables, enables or removes an account. What is so already stays so.
///
/// # Errors
/// There is no such account, whoever asks may not, or the database failed.
pub async fn change(
    store: &Store,
    name: &str,
    change: OperatorChange,
    by: Option<&OperatorAccount>,
) -> Result<(), AccessError> {
    let mut tx = store.write().await?;
    ensure_asker(&mut tx, by).await?;
    let account = tx.operator(name).await?;
    let account = account.ok_or_else(|| AccessError::NoSuchOperator(name.to_owned()))?;
    if let Some(by) = by
        && change != OperatorChange::Enable
    {
        ensure_way_in(&mut tx, &account, by).await?;
    }
    match change {
        OperatorChange::Disable if account.disabled => return Ok(()),
        OperatorChange::Enable if !account.disabled => return Ok(()),
        OperatorChange::Disable => tx.disable_operator(account.id).await?,
        OperatorChange::Enable => tx.enable_operator(account.id).await?,
        OperatorChange::Remove => tx.remove_operator(account.id).await?,
    }
    tx.add_audit(&actor(by), change.audited(), name).await?;
    tx.commit().await?;
    tracing::info!(operator = name, by = %actor(by), "{}", change.audited());
    Ok(())
}

/// Somebody can sign in without this account.
async fn ensure_way_in(
    tx: &mut Writing,
    account: &OperatorAccount,
    by: &OperatorAccount,
) -> Result<(), AccessError> {
    if account.id == by.id {
        return Err(AccessError::Yourself);
    }
    let signs_in_by_password = account.password_hash.is_some() && !account.disabled;
    if signs_in_by_password && !tx.others_have_passwords(account.id).await? {
        return Err(AccessError::LastWithPassword(account.name.clone()));
    }
    Ok(())
}

impl ControlPlane {
    /// [`change`] for an operator at a page. Open streams end with it.
    pub async fn change_operator(
        &self,
        name: &str,
        what: OperatorChange,
        by: &OperatorAccount,
    ) -> Result<(), AccessError> {
        change(&self.store, name, what, Some(by)).await?;
        self.changes.announce_access_change();
        Ok(())
    }

    /// Ends a session, and its open streams.
    pub async fn end_session(
        &self,
        session: &TokenHash,
        operator: &OperatorAccount,
    ) -> Result<(), StoreError> {
        self.store.end_session(session, &operator.name).await?;
        self.changes.announce_access_change();
        Ok(())
    }

    /// Gives an account a new password and ends its sessions, except for the one it was set in.
    pub async fn set_password(
        &self,
        operator: &OperatorAccount,
        password_hash: &str,
        session: &TokenHash,
    ) -> Result<(), StoreError> {
        self.store
            .set_password(operator, password_hash, session)
            .await?;
        self.changes.announce_access_change();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::domain::api_tokens::{self, NewToken};
    use crate::server::store::{Scope, TestStore};

    async fn store_with(names: &[&str]) -> (Store, Vec<OperatorAccount>, TestStore) {
        let kept = TestStore::new().await;
        let store = kept.store.clone();
        let mut accounts = Vec::new();
        for name in names {
            login_link(&store, name).await.unwrap();
            accounts.push(store.operator(name).await.unwrap().unwrap());
        }
        (store, accounts, kept)
    }

    #[tokio::test]
    async fn of_two_operators_who_remove_each_other_at_the_same_moment_one_stays() {
        use OperatorChange::Remove;
        let (store, accounts, _kept) = store_with(&["ann", "bob"]).await;
        let (ann, bob) = (&accounts[0], &accounts[1]);
        // Both have passed the gate of the pages.
        let (one, other) = tokio::join!(
            change(&store, "bob", Remove, Some(ann)),
            change(&store, "ann", Remove, Some(bob)),
        );
        let refused = match (one, other) {
            (Ok(()), Err(refused)) | (Err(refused), Ok(())) => refused,
            outcomes => panic!("{outcomes:?}"),
        };
        assert!(matches!(refused, AccessError::AskerGone), "{refused}");
        assert_eq!(store.operators().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn whoever_was_removed_meanwhile_makes_no_token_and_begins_no_session() {
        let (store, accounts, _kept) = store_with(&["ann", "bob"]).await;
        let bob = &accounts[1];
        change(&store, "bob", OperatorChange::Remove, None)
            .await
            .unwrap();
        let new = NewToken {
            name: "ci",
            scope: Scope::Operate,
            lifetime: None,
        };
        let refused = api_tokens::create(&store, &new, Some(bob)).await;
        assert!(matches!(refused, Err(AccessError::AskerGone)));
        assert!(store.api_tokens().await.unwrap().is_empty());
        let session = Token::session().hash();
        let begun = store.begin_session(&session, bob, "by link").await;
        assert!(!begun.unwrap());
    }
}
