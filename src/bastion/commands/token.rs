//! The one-time token that a command from the browser carries.

use std::path::Path;

use anyhow::{Context as _, ensure};
use sha2::{Digest, Sha256};

use super::questions;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Host};

/// A token has 43 characters and a short prefix; a file that is longer is something else.
const LONGEST_TOKEN: u64 = 512;
/// Given as the file, it means standard input, by which the scripts from the browser hand the token over.
const STANDARD_INPUT: &str = "-";

/// The token that was given, as an argument or in a file; [`remove_file`] then takes the file away.
pub fn read(host: &dyn Host, token: Option<&str>, file: Option<&Path>) -> anyhow::Result<String> {
    let text = match (token, file) {
        (Some(token), _) => token.to_owned(),
        (None, Some(file)) if file == Path::new(STANDARD_INPUT) => read_standard_input(host)?,
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
            "this is not a token: tokens contain only letters, digits, - and _",
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

fn read_standard_input(host: &dyn Host) -> anyhow::Result<String> {
    let text = host
        .read_at_most(Path::new("/dev/stdin"), LONGEST_TOKEN)
        .context("cannot read the token from standard input")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn read_file(host: &dyn Host, file: &Path) -> anyhow::Result<String> {
    let text = host
        .read_at_most(file, LONGEST_TOKEN)
        .with_context(|| format!("cannot read the token file {}", file.display()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Takes away the file in which the token was given.
pub fn remove_file(host: &dyn Host, file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(file) if file != Path::new(STANDARD_INPUT) => {
            Ok(host.remove_file(file, Authority::User)?)
        }
        Some(_) | None => Ok(()),
    }
}
