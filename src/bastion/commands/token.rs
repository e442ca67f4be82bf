//! The one-time token that a command from the browser carries.

use std::path::Path;

use anyhow::{Context as _, ensure};
use sha2::{Digest, Sha256};

use super::questions;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Host};

/// A token has 43 characters and a short prefix; a file that is longer is something else.
const LONGEST_TOKEN: u64 = 512;

/// The token that was given, as an argument or in a file, which is removed once it is read.
///
/// # Errors
/// None was given, the file cannot be read, or what was given cannot be a token.
pub fn read(host: &dyn Host, token: Option<&str>, file: Option<&Path>) -> anyhow::Result<String> {
    let text = match (token, file) {
        (Some(token), _) => token.to_owned(),
        (None, Some(file)) => read_file(host, file)?,
        (None, None) => questions::token(host)?,
    };
    let token = text.trim();
    ensure!(
        !token.is_empty()
            && token
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
        Failure::usage(
            "this is not a token: it holds other characters than letters, digits, - and _",
            "copy the whole command from the browser again",
        )
    );
    host.log().hide(token);
    Ok(token.to_owned())
}

/// By what the receipt knows a token again, without holding it.
pub fn digest(token: &str) -> String {
    Sha256::digest(token.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn read_file(host: &dyn Host, file: &Path) -> anyhow::Result<String> {
    let text = host
        .read_at_most(file, LONGEST_TOKEN)
        .with_context(|| format!("cannot read the token file {}", file.display()))?;
    host.remove_file(file, Authority::User)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
