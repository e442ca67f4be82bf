//! Creating once: a caller that got no answer asks again under the same key, and nothing is made twice.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::commands::CommandToken;
use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::inputs::Invalid;
use super::record::found;
use super::token::{TokenHash, TokenKind};
use crate::protocol::NewDataSource;
use crate::server::store::{Actor, NamedRequest, Record, RequestName, Writing};

/// How long a key is known.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How many keys of one caller are.
const MOST_OF_A_CALLER: u32 = 10_000;
/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 255;

/// The key as a caller sends it: a text in quotes, or the text alone.
///
/// # Errors
/// It says what is expected.
pub fn key(sent: &str) -> Result<String, Invalid> {
    let quoted = sent
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let key = quoted.unwrap_or(sent);
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(is_plain) {
        return Ok(key.to_owned());
    }
    let rule = format!(
        "must be 1 to {LONGEST_KEY} visible ASCII characters without quotes and backslashes, such as a UUID"
    );
    Err(Invalid::new("Idempotency-Key", rule))
}

#[derive(Debug, Default)]
pub struct UnderWay(Mutex<HashSet<RequestName>>);

impl UnderWay {
    fn begin(&self, name: &RequestName) -> Result<Begun<'_>> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.insert(name.clone()) {
            return Err(Error::RequestUnderWay);
        }
        Ok(Begun {
            all: self,
            name: name.clone(),
        })
    }
}

/// A request is under way for as long as this lives.
struct Begun<'a> {
    all: &'a UnderWay,
    name: RequestName,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut names = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.remove(&self.name);
    }
}

impl ControlPlane {
    /// Creates a data source as [`ControlPlane::create`] does, unless this caller has had that done under this name: then
    /// what was made is given once more, as it stands now, with its command while that can still be used.
    ///
    /// # Errors
    /// The name stands for another request, or for one that is still under way; a value is not valid, or the
    /// database failed.
    pub async fn create_once(
        &self,
        name: &RequestName,
        new: NewDataSource,
        actor: &Actor,
    ) -> Result<(Record, Option<CommandToken>)> {
        let _begun = self.under_way.begin(name)?;
        let request = serde_json::to_string(&new).map_err(|error| Error::internal(&error))?;
        let request = TokenHash::of(&request);
        let region = self.region_of_new(&new).await;
        let mut tx = self.store.write().await?;
        if let Some(former) = tx.named_request(name, KEPT).await? {
            return self.again(tx, &former, &request).await;
        }
        let created = self.create_in(&mut tx, new, region?, actor).await?;
        let id = created.0.id;
        tx.name_request(name, &request, id, KEPT, MOST_OF_A_CALLER)
            .await?;
        tx.commit().await?;
        self.done(id, actor, "created");
        Ok(created)
    }

    async fn again(
        &self,
        mut tx: Writing,
        former: &NamedRequest,
        request: &TokenHash,
    ) -> Result<(Record, Option<CommandToken>)> {
        if former.request != request.as_bytes() {
            return Err(Error::KeyOfAnotherRequest);
        }
        let record = found(tx.data_source(former.data_source).await?)?;
        // Nothing was written.
        drop(tx);
        let command = match record.tunnel_id().filter(|_| !record.is_leaving()) {
            Some(tunnel) => self.command(tunnel, TokenKind::Enrollment).await?,
            None => None,
        };
        let can_be_used = |command: &CommandToken| !command.used && !command.expired;
        Ok((record, command.filter(can_be_used)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_stand_in_quotes_and_is_short_and_plain() {
        for (sent, read) in [
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            ("8e03978e-40d5", "8e03978e-40d5"),
            ("order-7", "order-7"),
        ] {
            assert_eq!(key(sent).as_deref(), Ok(read));
        }
        assert!(key(&"k".repeat(LONGEST_KEY)).is_ok());
        for wrong in [
            "",
            "\"\"",
            "\"half",
            "a\\b",
            "a\tb",
            "a b",
            "schlüssel",
            &"k".repeat(256),
        ] {
            assert!(key(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
