//! The server's secret key, and what is derived from it: tokens, and the key of saved passwords.
//!
//! A bastion that repeats its enrollment must get the same answer, token included, though only the
//! token's hash is stored. So the token is computed: an HMAC over what identifies the enrollment.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::token::{Token, TokenKind};
use crate::protocol::TunnelId;
use crate::server::whole_file;

const KEY_BYTES: usize = 32;

/// 32 random bytes, kept in a file of their own outside the database.
pub struct SecretKey(Hmac<Sha256>);

impl SecretKey {
    /// Reads the key from `path`; makes the file (0600) if it is absent.
    pub fn load_or_create(path: &Path) -> anyhow::Result<Self> {
        let bytes = match create(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path)?,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
        };
        SecretKey::from_bytes(&bytes)
    }

    /// Reads the key from `path`.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        SecretKey::from_bytes(&read(path)?)
    }

    /// What the installation with this key is called; it gives nothing of the key away.
    pub fn installation(&self) -> String {
        let mac = self.0.clone().chain_update(b"installation");
        URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..12])
    }

    /// What a node shows the others of it; it gives nothing of the key away.
    pub fn node_mark(&self) -> Vec<u8> {
        let mac = self.0.clone().chain_update(b"node-mark");
        mac.finalize().into_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8; KEY_BYTES]) -> anyhow::Result<Self> {
        Ok(SecretKey(Hmac::new_from_slice(bytes)?))
    }

    /// The token of the tunnel that was enrolled with this key and the enrollment token of this hash.
    pub fn tunnel_token(&self, tunnel: TunnelId, enrolled_with: &[u8], public_key: &str) -> Token {
        // All parts but the last have a fixed length, so no two inputs run together.
        let mac = self
            .0
            .clone()
            .chain_update(b"tunnel-token")
            .chain_update(tunnel.0.to_be_bytes())
            .chain_update(enrolled_with)
            .chain_update(public_key.as_bytes());
        Token::from_bytes(TokenKind::Tunnel, &mac.finalize().into_bytes().into())
    }

    /// The token of a command for a bastion, from the seed that is stored for it.
    pub fn command_token(&self, kind: TokenKind, seed: &[u8]) -> Token {
        let mac = self
            .0
            .clone()
            .chain_update(b"command-token")
            .chain_update(kind.into_str())
            .chain_update([0])
            .chain_update(seed);
        Token::from_bytes(kind, &mac.finalize().into_bytes().into())
    }

    /// The key that encrypts the saved passwords.
    pub fn password_key(&self) -> [u8; KEY_BYTES] {
        let mac = self.0.clone().chain_update(b"password-key");
        mac.finalize().into_bytes().into()
    }

    /// The key that encrypts the host keys of regions.
    pub fn host_keys_key(&self) -> [u8; KEY_BYTES] {
        let mac = self.0.clone().chain_update(b"host-keys-key");
        mac.finalize().into_bytes().into()
    }

    /// What a form must send back, for the browser that has this cookie.
    pub fn form_token(&self, cookie: &str) -> String {
        let mac = self.0.clone().chain_update(b"form").chain_update(cookie);
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Whether a form sent that back; compared in constant time.
    pub fn is_form_token(&self, cookie: &str, sent: &str) -> bool {
        let mac = self.0.clone().chain_update(b"form").chain_update(cookie);
        is_of(mac, sent)
    }

    /// What a browser of this number keeps, to show that it has signed in to this account.
    pub fn browser_mark(&self, number: &Token, account: &str) -> String {
        let mac = self.browser_mac(number.as_str(), account);
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Whether a browser shows that; compared in constant time.
    pub fn is_browser_mark(&self, number: &str, account: &str, shown: &str) -> bool {
        is_of(self.browser_mac(number, account), shown)
    }

    /// What a cursor of this list ends with.
    pub(super) fn cursor_signature(&self, list: &[u8], place: &[u8]) -> [u8; KEY_BYTES] {
        let purpose = self.0.clone().chain_update(b"cursor").chain_update(list);
        let mac = purpose.chain_update([0]).chain_update(place);
        mac.finalize().into_bytes().into()
    }

    fn browser_mac(&self, number: &str, account: &str) -> Hmac<Sha256> {
        let purpose = self.0.clone().chain_update(b"browser");
        purpose
            .chain_update(number)
            .chain_update([0])
            .chain_update(account)
    }
}

fn is_of(mac: Hmac<Sha256>, shown: &str) -> bool {
    let shown = URL_SAFE_NO_PAD.decode(shown);
    shown.is_ok_and(|shown| mac.verify_slice(&shown).is_ok())
}

/// Makes the file; fails with `AlreadyExists` rather than overwrite one.
fn create(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let bytes: [u8; KEY_BYTES] = rand::random();
    whole_file::create(path, &bytes)?;
    Ok(bytes)
}

fn read(path: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    let shown = path.display();
    let mode = fs::metadata(path)
        .with_context(|| format!("cannot read {shown}"))?
        .permissions()
        .mode();
    ensure!(
        mode & 0o077 == 0,
        "{shown} is readable by others (mode {:o}); run: chmod 600 {shown}",
        mode & 0o777
    );
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let Ok(bytes) = bytes.try_into() else {
        bail!("{shown} is damaged: it must hold {KEY_BYTES} bytes; restore it from a backup");
    };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_survives_a_restart_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let first = SecretKey::load_or_create(&path).unwrap();
        let again = SecretKey::load_or_create(&path).unwrap();
        assert_eq!(
            first.tunnel_token(TunnelId(1), &[7; 32], "ssh-rsa AAAA"),
            again.tunnel_token(TunnelId(1), &[7; 32], "ssh-rsa AAAA"),
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn each_part_of_an_enrollment_changes_the_token() {
        let key = SecretKey::from_bytes(&[1; KEY_BYTES]).unwrap();
        let token = key.tunnel_token(TunnelId(1), &[7; 32], "ssh-rsa AAAA");
        assert_ne!(
            token,
            key.tunnel_token(TunnelId(2), &[7; 32], "ssh-rsa AAAA")
        );
        assert_ne!(
            token,
            key.tunnel_token(TunnelId(1), &[8; 32], "ssh-rsa AAAA")
        );
        assert_ne!(
            token,
            key.tunnel_token(TunnelId(1), &[7; 32], "ssh-rsa AAAB")
        );
    }

    #[test]
    fn a_form_of_another_browser_is_not_taken() {
        let key = SecretKey::from_bytes(&[1; KEY_BYTES]).unwrap();
        let form = key.form_token("one");
        assert!(key.is_form_token("one", &form));
        assert!(!key.is_form_token("two", &form));
        assert!(!key.is_form_token("one", ""));
    }

    #[test]
    fn a_damaged_or_open_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        fs::write(&path, [0; KEY_BYTES]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            SecretKey::load_or_create(&path)
                .err()
                .unwrap()
                .to_string()
                .contains("chmod 600")
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"short").unwrap();
        assert!(
            SecretKey::load_or_create(&path)
                .err()
                .unwrap()
                .to_string()
                .contains("damaged")
        );
    }
}
