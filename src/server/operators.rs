//! The `operator` commands. They work on the database itself, so also while the server runs.

use serde_json::json;

use super::cli::{OperatorAction, OperatorArgs};
use super::data_dir::DataDir;
use super::domain::operators::{self, OperatorChange};
use super::store::{ListedOperator, Store};

/// Carries out `operator list`, `disable`, `enable` or `remove`.
pub async fn run(arguments: OperatorArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::open(&arguments.data.path())?;
    let store = arguments.data.open_store(&data_dir, false).await?;
    let done = match arguments.action {
        OperatorAction::List { json } => list(&store, json).await,
        OperatorAction::Disable { name } => {
            let words = "is disabled and signed out everywhere; their API tokens do not work";
            change(&store, &name, OperatorChange::Disable, words).await
        }
        OperatorAction::Enable { name } => {
            let words = "can sign in again; their API tokens work again";
            change(&store, &name, OperatorChange::Enable, words).await
        }
        OperatorAction::Remove { name } => {
            let words = "is removed and signed out everywhere; their API tokens are revoked";
            change(&store, &name, OperatorChange::Remove, words).await
        }
    };
    store.close().await;
    done
}

async fn change(
    store: &Store,
    name: &str,
    change: OperatorChange,
    words: &str,
) -> anyhow::Result<()> {
    operators::change(store, name, change, None).await?;
    println!("{name} {words}");
    let left = store.operators().await?;
    if !left.iter().any(|operator| operator.disabled_at.is_none()) {
        println!(
            "No operator can sign in now. To let one in: holistics-tunnel-server login-link --name NAME"
        );
    }
    Ok(())
}

async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let operators = store.operators().await?;
    if as_json {
        let list: Vec<_> = operators.iter().map(described).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for operator in operators {
        let state = match operator.disabled_at {
            Some(at) => format!("disabled {at:.0}"),
            None => "enabled".to_owned(),
        };
        let signed_in = match operator.signed_in_at {
            Some(at) => format!("last signed in {at:.0}"),
            None => "never signed in".to_owned(),
        };
        let signs_in_by = if operator.has_password {
            "password"
        } else {
            "links alone"
        };
        println!(
            "{:<24} {state}  {signed_in}  by {signs_in_by}  API tokens: {}",
            operator.name, operator.api_tokens
        );
    }
    Ok(())
}

fn described(operator: &ListedOperator) -> serde_json::Value {
    json!({
        "name": operator.name,
        "enabled": operator.disabled_at.is_none(),
        "disabled_at": operator.disabled_at,
        "created_at": operator.created_at,
        "last_signed_in_at": operator.signed_in_at,
        "has_password": operator.has_password,
        "api_tokens": operator.api_tokens,
    })
}
