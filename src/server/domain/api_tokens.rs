//! Operators' API tokens: what each may do, and when it stops.

use std::time::Duration;

use jiff::Timestamp;

use super::access::AccessError;
use super::control_plane::ControlPlane;
use super::operators::{actor, ensure_asker};
use super::token::Token;
use crate::server::store::{ApiToken, ListedApiToken, NewApiToken, OperatorAccount, Scope, Store};

/// How long a token lasts where nobody says how long.
pub const USUAL_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// A token that is to be made.
pub struct NewToken<'a> {
    pub name: &'a str,
    /// What it may do.
    pub scope: Scope,
    /// How long it lasts; absent for one that does not expire.
    pub lifetime: Option<Duration>,
}

/// Makes an API token. It ends with the operator who made it, if it was one.
///
/// # Errors
/// The name is taken, whoever asks may not, or the database failed.
pub async fn create(
    store: &Store,
    new: &NewToken<'_>,
    by: Option<&OperatorAccount>,
) -> Result<Token, AccessError> {
    let token = Token::operator();
    let mut tx = store.write().await?;
    ensure_asker(&mut tx, by).await?;
    let now = tx.clock().await?;
    let expires_at = new.lifetime.map(|lifetime| expiry(now, lifetime));
    let expires_at = expires_at.transpose()?;
    let is_new = tx
        .add_api_token(&NewApiToken {
            name: new.name,
            hash: token.hash(),
            scope: new.scope,
            expires_at,
            made_by: actor(by).to_string(),
            operator: by.map(|by| by.id),
        })
        .await?;
    if !is_new {
        return Err(AccessError::NameTaken(new.name.to_owned()));
    }
    let expires = match expires_at {
        Some(at) => format!("expires {}", at.strftime("%Y-%m-%d")),
        None => "never expires".to_owned(),
    };
    let subject = format!("{} ({}, {expires})", new.name, new.scope.into_str());
    tx.add_audit(&actor(by), "API token made", &subject).await?;
    tx.commit().await?;
    Ok(token)
}

fn expiry(now: Timestamp, lifetime: Duration) -> Result<Timestamp, AccessError> {
    now.checked_add(lifetime).map_err(|_| AccessError::TooLong)
}

/// Revokes the API token of this name.
///
/// # Errors
/// None is left to revoke, whoever asks may not, or the database failed.
pub async fn revoke(
    store: &Store,
    name: &str,
    by: Option<&OperatorAccount>,
) -> Result<(), AccessError> {
    let mut tx = store.write().await?;
    ensure_asker(&mut tx, by).await?;
    if !tx.revoke_api_token(name).await? {
        return Err(AccessError::NoSuchToken(name.to_owned()));
    }
    tx.add_audit(&actor(by), "API token revoked", name).await?;
    tx.commit().await?;
    Ok(())
}

impl ControlPlane {
    /// [`revoke`] for an operator at a page. Open streams end with it.
    pub async fn revoke_api_token(
        &self,
        name: &str,
        by: &OperatorAccount,
    ) -> Result<(), AccessError> {
        revoke(&self.store, name, Some(by)).await?;
        self.changes.announce_access_change();
        Ok(())
    }
}

/// Why a token that is known, and not revoked, lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Its time is over.
    #[error(
        "this API token has expired, at {0:.0}. Make another on the page \"API tokens\", or with: token create"
    )]
    Expired(Timestamp),
    #[error("the operator who made this API token is disabled. Use the token of another one.")]
    OperatorDisabled,
}

/// Lets a token in that works now.
pub fn ensure_works(token: &ApiToken) -> Result<(), TokenRefusal> {
    match token.expires_at {
        Some(at) if at <= token.now => Err(TokenRefusal::Expired(at)),
        _ if token.operator_disabled => Err(TokenRefusal::OperatorDisabled),
        _ => Ok(()),
    }
}

/// Whether a token works, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Works,
    /// It was revoked then.
    Revoked(Timestamp),
    /// Its time is over.
    Expired,
    OperatorDisabled,
}

/// Where a token stands.
pub fn state(token: &ListedApiToken) -> TokenState {
    match token.revoked_at {
        Some(at) => TokenState::Revoked(at),
        None if token.expired => TokenState::Expired,
        _ if token.operator_disabled => TokenState::OperatorDisabled,
        _ => TokenState::Works,
    }
}
