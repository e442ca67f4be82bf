//! The `token` commands. They work on the database itself, so also while the server runs.

use anyhow::bail;

use super::cli::{TokenAction, TokenArgs};
use super::data_dir::DataDir;
use super::domain::operators;
use super::domain::token::Token;
use super::store::Store;

/// Carries out `token create`, `token list` or `token revoke`.
///
/// # Errors
/// The name is taken or unknown, or the database failed.
pub async fn run(arguments: TokenArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::open_or_create(&arguments.data.data_dir)?;
    let store = Store::open(&data_dir.database()?).await?;
    match arguments.action {
        TokenAction::Create { name } => println!("{}", create(&store, &name).await?.as_str()),
        TokenAction::List => list(&store).await?,
        TokenAction::Revoke { name } => revoke(&store, &name).await?,
    }
    store.close().await;
    Ok(())
}

/// Makes an operator's token and keeps its hash.
///
/// # Errors
/// The name is taken, or the database failed.
pub async fn create(store: &Store, name: &str) -> anyhow::Result<Token> {
    match operators::create_api_token(store, name).await? {
        Some(token) => Ok(token),
        None => bail!(
            "there is a token named {name:?} already; choose another name, or revoke it first with: token revoke {name}"
        ),
    }
}

async fn list(store: &Store) -> anyhow::Result<()> {
    for token in store.operator_tokens().await? {
        let state = match token.revoked_at {
            Some(at) => format!("revoked {at:.0}"),
            None => "works".to_owned(),
        };
        println!(
            "{:<24} created {:.0}  {state}",
            token.name, token.created_at
        );
    }
    Ok(())
}

async fn revoke(store: &Store, name: &str) -> anyhow::Result<()> {
    if !store.revoke_operator_token(name).await? {
        bail!("no working token is named {name:?}; see: token list");
    }
    println!("{name} is revoked");
    Ok(())
}
