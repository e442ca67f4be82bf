//! The `login-link` command, and the link that the first start makes.

use std::fs;

use anyhow::Context;

use super::cli::LoginLinkArgs;
use super::data_dir::DataDir;
use super::domain::operators;
use super::domain::token::Token;
use super::sign_in_link::SignInLinkFile;
use super::store::Store;
use super::whole_file;

/// The account that the first start makes.
pub const FIRST_OPERATOR: &str = "admin";

/// Carries out `login-link`.
///
/// # Errors
/// It is not known what browsers call the server, the operator is disabled, or the database failed.
pub async fn run(arguments: LoginLinkArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::open(&arguments.data.path())?;
    let url = match &arguments.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => fs::read_to_string(data_dir.public_url()).with_context(|| {
            format!(
                "no server has run on {} yet; say what browsers call it with --public-url",
                data_dir.path().display()
            )
        })?,
    };
    let store = arguments.data.open_store(&data_dir, false).await?;
    println!("{}", login_link(&store, &url, &arguments.name).await?);
    SignInLinkFile::of(&data_dir).delete_if_over(&store).await;
    store.close().await;
    Ok(())
}

/// Makes a link that signs this operator in once.
pub async fn login_link(store: &Store, url: &str, name: &str) -> anyhow::Result<String> {
    let token = operators::login_link(store, name).await?;
    Ok(link(url, &token))
}

/// A link as somebody opens it.
pub fn link(url: &str, token: &Token) -> String {
    format!("{url}/login/{}", token.as_str())
}

/// Writes down what browsers call the server, for [`run`].
pub fn remember_public_url(data_dir: &DataDir, url: &str) -> anyhow::Result<()> {
    let path = data_dir.public_url();
    whole_file::replace(&path, &[url.as_bytes()])
        .with_context(|| format!("cannot write {}", path.display()))
}
