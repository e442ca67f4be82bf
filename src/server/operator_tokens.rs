//! The `token` commands. They work on the database itself, so also while the server runs.

use anyhow::bail;
use serde_json::json;

use super::cli::{TokenAction, TokenArgs};
use super::data_dir::DataDir;
use super::domain::AccessError;
use super::domain::api_tokens::{self, NewToken, TokenState};
use super::store::{ListedApiToken, Store};

/// Carries out `token create`, `token list` or `token revoke`.
pub async fn run(arguments: TokenArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::open(&arguments.data.path())?;
    let store = arguments.data.open_store(&data_dir, false).await?;
    match arguments.action {
        TokenAction::Create {
            name,
            scope,
            expires,
        } => {
            let new = NewToken {
                name: &name,
                scope: scope.into(),
                lifetime: expires.0,
            };
            let made = api_tokens::create(&store, &new, None).await;
            if let Err(AccessError::NameTaken(name)) = &made {
                bail!(
                    "there is an API token named {name} already; choose another name, or revoke it first with: \
                     token revoke {name}"
                );
            }
            println!("{}", made?.as_str());
        }
        TokenAction::List { json } => list(&store, json).await?,
        TokenAction::Revoke { name } => {
            api_tokens::revoke(&store, &name, None).await?;
            println!("{name} is revoked");
        }
    }
    store.close().await;
    Ok(())
}

async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let tokens = store.api_tokens().await?;
    if as_json {
        let list: Vec<_> = tokens.iter().map(described).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for token in tokens {
        println!(
            "{:<24} {:<8} created {:.0} by {}  {}  {}  {}",
            token.name,
            token.scope.into_str(),
            token.created_at,
            token.made_by.as_deref().unwrap_or("(unknown)"),
            expiry(&token),
            match token.last_used_at {
                Some(at) => format!("last used {at:.0}"),
                None => "never used".to_owned(),
            },
            state(&token),
        );
    }
    Ok(())
}

fn expiry(token: &ListedApiToken) -> String {
    match token.expires_at {
        Some(at) => format!("expires {at:.0}"),
        None => "never expires".to_owned(),
    }
}

fn state(token: &ListedApiToken) -> String {
    match api_tokens::state(token) {
        TokenState::Works => "works".to_owned(),
        TokenState::Revoked(at) => format!("revoked {at:.0}"),
        TokenState::Expired => "expired".to_owned(),
        TokenState::OperatorDisabled => "operator disabled".to_owned(),
    }
}

fn described(token: &ListedApiToken) -> serde_json::Value {
    json!({
        "name": token.name,
        "scope": token.scope.into_str(),
        "state": match api_tokens::state(token) {
            TokenState::Works => "works",
            TokenState::Revoked(_) => "revoked",
            TokenState::Expired => "expired",
            TokenState::OperatorDisabled => "operator_disabled",
        },
        "made_by": token.made_by,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    })
}
