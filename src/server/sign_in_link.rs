//! The file with the first sign-in link. Where the first start has no terminal, what it prints ends in a log,
//! which others may read and which is kept: there the link goes into a file for the server's own user alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::data_dir::DataDir;
use super::domain::token::TokenHash;
use super::store::Store;
use super::whole_file;

/// The file, which may be absent.
#[derive(Debug, Clone)]
pub struct SignInLinkFile(PathBuf);

impl SignInLinkFile {
    /// That of this folder.
    pub fn of(data_dir: &DataDir) -> Self {
        SignInLinkFile(data_dir.sign_in_link())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a link into it.
    pub fn write(&self, link: &str) -> anyhow::Result<()> {
        whole_file::replace(&self.0, &[link.as_bytes(), b"\n"])
            .with_context(|| format!("cannot write {}", self.0.display()))
    }

    /// Deletes it if its link does not work any more: used, replaced by another, or too old. What fails is
    /// logged: the link is worth nothing then.
    pub async fn delete_if_over(&self, store: &Store) {
        let link = match fs::read_to_string(&self.0) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!("cannot read {}: {error}", self.0.display());
                return;
            }
        };
        let token = link.trim().rsplit('/').next().unwrap_or_default();
        match store.login_link_works(&TokenHash::of(token)).await {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = fs::remove_file(&self.0) {
                    tracing::warn!("cannot delete {}: {error}", self.0.display());
                }
            }
            Err(error) => tracing::warn!(?error, "cannot see whether a sign-in link works"),
        }
    }
}
