//! Passwords at rest, and the host keys that several servers share: encrypted with keys that are derived from the
//! secret key's file, so that the database alone gives none away.
//!
//! What is sealed is a nonce of 96 random bits and AES-256-GCM's output. What it was given for
//! (of a password data source, host, port, user, TLS mode) is authenticated with it: whoever can write to the
//! database, and has no key, cannot have it sent elsewhere.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::secret::SecretKey;
use crate::protocol::{DataSourceId, DatabaseAddress, TlsMode};
use crate::server::store::SealedPassword;

/// What a password is given for. It opens for nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// Whose login it is.
    pub data_source: DataSourceId,
    pub address: &'a DatabaseAddress,
    /// The user.
    pub username: &'a str,
    /// How TLS is treated.
    pub tls: TlsMode,
}

impl Purpose<'_> {
    /// Neither hosts nor user names may hold control characters, so no two purposes run together.
    fn authenticated(self) -> Aad<Vec<u8>> {
        let Purpose {
            data_source,
            address: DatabaseAddress { host, port },
            username,
            tls,
        } = self;
        let tls = tls.into_str();
        let text = format!("logins.password\0{data_source}\0{host}\0{port}\0{username}\0{tls}");
        Aad::from(text.into_bytes())
    }
}

/// The key failed to encrypt; ring says no more.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be encrypted")]
pub struct SealingFailed;

/// Encrypts a password for one purpose.
pub fn seal(
    secret: &SecretKey,
    purpose: Purpose<'_>,
    password: &str,
) -> Result<SealedPassword, SealingFailed> {
    let key = key(&secret.password_key());
    seal_text(key, purpose.authenticated(), password)
        .map(SealedPassword)
        .map_err(|_| SealingFailed)
}

/// Decrypts a password; nothing if the key or the purpose is another one, or the bytes were changed.
pub fn open(secret: &SecretKey, purpose: Purpose<'_>, sealed: &SealedPassword) -> Option<String> {
    let key = key(&secret.password_key());
    open_text(key, purpose.authenticated(), &sealed.0)
}

/// Encrypts a private host key, for its region and its file.
pub fn seal_host_key(
    secret: &SecretKey,
    region: &str,
    file_name: &str,
    text: &str,
) -> anyhow::Result<Vec<u8>> {
    let key = key(&secret.host_keys_key());
    let sealed = seal_text(key, host_key_s(region, file_name), text);
    sealed.map_err(|_| anyhow::anyhow!("the host key cannot be encrypted"))
}

/// Decrypts a private host key; nothing if the secret key, the region or the file is another one, or the bytes were
/// changed.
pub fn open_host_key(
    secret: &SecretKey,
    region: &str,
    file_name: &str,
    sealed: &[u8],
) -> Option<String> {
    let key = key(&secret.host_keys_key());
    open_text(key, host_key_s(region, file_name), sealed)
}

/// Neither has control characters in it.
fn host_key_s(region: &str, file_name: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("region_host_keys\0{region}\0{file_name}").into_bytes())
}

type Key = Result<LessSafeKey, ring::error::Unspecified>;

fn key(bytes: &[u8]) -> Key {
    // "Less safe" is ring's name for a key whose caller chooses the nonces: here, at random.
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new)
}

fn seal_text(
    key: Key,
    authenticated: Aad<Vec<u8>>,
    text: &str,
) -> Result<Vec<u8>, ring::error::Unspecified> {
    let nonce: [u8; NONCE_LEN] = rand::random();
    let mut text = text.as_bytes().to_vec();
    key?.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        authenticated,
        &mut text,
    )?;
    let mut sealed = nonce.to_vec();
    sealed.append(&mut text);
    Ok(sealed)
}

fn open_text(key: Key, authenticated: Aad<Vec<u8>>, sealed: &[u8]) -> Option<String> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let opened = key
        .ok()?
        .open_in_place(nonce, authenticated, &mut text)
        .ok()?;
    String::from_utf8(opened.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> SecretKey {
        let folder = tempfile::tempdir().unwrap();
        SecretKey::load_or_create(&folder.path().join("secret.key")).unwrap()
    }

    fn address(host: &str, port: u16) -> DatabaseAddress {
        DatabaseAddress {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn a_password_opens_for_its_own_purpose_and_no_other() {
        let secret = secret();
        let (here, elsewhere, other_port) =
            (address("db", 1), address("evil", 1), address("db", 2));
        let purpose = Purpose {
            data_source: DataSourceId(7),
            address: &here,
            username: "reader",
            tls: TlsMode::Require,
        };
        let sealed = seal(&secret, purpose, "open sesame").unwrap();
        assert_eq!(
            open(&secret, purpose, &sealed).as_deref(),
            Some("open sesame")
        );
        for other in [
            Purpose {
                data_source: DataSourceId(8),
                ..purpose
            },
            Purpose {
                address: &elsewhere,
                ..purpose
            },
            Purpose {
                address: &other_port,
                ..purpose
            },
            Purpose {
                username: "admin",
                ..purpose
            },
            Purpose {
                tls: TlsMode::Disable,
                ..purpose
            },
        ] {
            assert_eq!(open(&secret, other, &sealed), None, "{other:?}");
        }
    }

    #[test]
    fn another_key_or_changed_bytes_open_nothing() {
        let here = address("db", 1);
        let purpose = Purpose {
            data_source: DataSourceId(7),
            address: &here,
            username: "reader",
            tls: TlsMode::Prefer,
        };
        let ours = secret();
        let sealed = seal(&ours, purpose, "open sesame").unwrap();
        assert_eq!(open(&secret(), purpose, &sealed), None);
        for changed in 0..sealed.0.len() {
            let mut bytes = sealed.0.clone();
            bytes[changed] ^= 1;
            let changed = SealedPassword(bytes);
            assert_eq!(open(&ours, purpose, &changed), None);
        }
        for short in [0, 1, NONCE_LEN, NONCE_LEN + 15] {
            let cut = SealedPassword(sealed.0[..short].to_vec());
            assert_eq!(open(&ours, purpose, &cut), None);
        }
    }

    #[test]
    fn a_host_key_opens_for_its_own_region_and_file_and_with_the_same_secret() {
        let secret = secret();
        let sealed = seal_host_key(&secret, "eu", "ecdsa", "private").unwrap();
        let opened = |region, file| open_host_key(&secret, region, file, &sealed);
        assert_eq!(opened("eu", "ecdsa").as_deref(), Some("private"));
        assert_eq!(opened("us", "ecdsa"), None);
        assert_eq!(opened("eu", "ed25519"), None);
        assert_eq!(open_host_key(&self::secret(), "eu", "ecdsa", &sealed), None);
    }

    #[test]
    fn the_same_password_is_never_stored_alike() {
        let here = address("db", 1);
        let purpose = Purpose {
            data_source: DataSourceId(7),
            address: &here,
            username: "reader",
            tls: TlsMode::Prefer,
        };
        let secret = secret();
        let sealed = || seal(&secret, purpose, "open sesame").unwrap();
        assert_ne!(sealed(), sealed());
    }
}
