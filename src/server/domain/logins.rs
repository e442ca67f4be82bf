//! Saved logins: what a stored password may be used for, and when it must be entered again.
//!
//! Whoever may edit a data source must not get at its password by that: it goes only to the host,
//! port and user that it was given for, and with no weaker TLS. The name of the database may change,
//! since that stays with the same server.

use super::crypto::{self, Purpose, SealingFailed};
use super::secret::SecretKey;
use crate::protocol::{ConnectionTest, DataSourceId, LoginSummary, TlsMode};
use crate::server::store::{self, Record, Store, StoredLogin};

/// Why the saved password is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordNeeded {
    /// The user is another one.
    #[error("the password is saved for another user: enter this user's")]
    OtherUser,
    /// Host or port have changed.
    #[error(
        "host or port have changed since the password was saved: enter it again for the new ones"
    )]
    OtherAddress,
    /// TLS would be weaker.
    #[error(
        "the password was saved for a stricter TLS mode: enter it again to have it sent with this one"
    )]
    WeakerTls,
    /// The server's secret key is another one than when it was saved.
    #[error(
        "the saved password cannot be read, since the server's key file secret.key is not the one that it was \
         saved with: enter the password again, or restore that file from a backup"
    )]
    Unreadable,
}

/// The mode that a login asks for: its own, the saved one's, or encryption where it is offered.
pub fn tls_mode(record: &Record, login: &ConnectionTest) -> TlsMode {
    let saved = record.login.as_ref().map(|saved| saved.tls);
    login.tls.or(saved).unwrap_or(TlsMode::Prefer)
}

/// The login with its password: the one that was sent, or else the saved one.
///
/// # Errors
/// The saved password is for something else.
pub fn completed(
    secret: &SecretKey,
    record: &Record,
    mut login: ConnectionTest,
) -> Result<ConnectionTest, PasswordNeeded> {
    let tls = tls_mode(record, &login);
    login.tls = Some(tls);
    if login.password.is_empty() {
        login.password = saved_password(secret, record, &login.username, tls)?;
    }
    Ok(login)
}

/// Empty if no password is saved: there are databases that ask for none.
fn saved_password(
    secret: &SecretKey,
    record: &Record,
    username: &str,
    tls: TlsMode,
) -> Result<String, PasswordNeeded> {
    let Some(saved) = &record.login else {
        return Ok(String::new());
    };
    let Some(sealed) = &saved.password else {
        return Ok(String::new());
    };
    if saved.username != username {
        return Err(PasswordNeeded::OtherUser);
    }
    if saved.address != record.address() {
        return Err(PasswordNeeded::OtherAddress);
    }
    if tls < saved.tls {
        return Err(PasswordNeeded::WeakerTls);
    }
    crypto::open(secret, purpose(record.id, saved), sealed).ok_or_else(|| {
        tracing::error!("a saved password cannot be decrypted with this secret key");
        PasswordNeeded::Unreadable
    })
}

/// How many passwords are looked at in one go.
const AT_ONCE: u32 = 1_000;

/// How many saved passwords this key does not open.
pub async fn unreadable(secret: &SecretKey, store: &Store) -> store::Result<usize> {
    let mut unreadable = 0;
    let mut last = DataSourceId(0);
    loop {
        let logins = store.saved_passwords(last, AT_ONCE).await?;
        let Some((id, _)) = logins.last() else {
            return Ok(unreadable);
        };
        last = *id;
        let is_unreadable = |(id, saved): &&(DataSourceId, StoredLogin)| {
            matches!(&saved.password, Some(sealed)
                if crypto::open(secret, purpose(*id, saved), sealed).is_none())
        };
        unreadable += logins.iter().filter(is_unreadable).count();
    }
}

/// What is stored of a complete login.
pub fn to_store(
    secret: &SecretKey,
    record: &Record,
    login: ConnectionTest,
) -> Result<StoredLogin, SealingFailed> {
    let mut stored = StoredLogin {
        tls: tls_mode(record, &login),
        database: login.database,
        username: login.username,
        address: record.address(),
        password: None,
    };
    if !login.password.is_empty() {
        let sealed = crypto::seal(secret, purpose(record.id, &stored), &login.password)?;
        stored.password = Some(sealed);
    }
    Ok(stored)
}

fn purpose(data_source: DataSourceId, login: &StoredLogin) -> Purpose<'_> {
    Purpose {
        data_source,
        address: &login.address,
        username: &login.username,
        tls: login.tls,
    }
}

/// The login as an operator sees it.
pub fn summary(login: &StoredLogin) -> LoginSummary {
    LoginSummary {
        database: login.database.clone(),
        username: login.username.clone(),
        tls: login.tls,
        has_password: login.password.is_some(),
    }
}
