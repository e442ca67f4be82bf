//! Passwords: Argon2id with the parameters that OWASP names first (19 MiB, 2 passes, 1 lane), on a
//! thread of its own, a few at a time.

use std::sync::{Arc, LazyLock};

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// The shortest password, in characters (NIST SP 800-63B-4 asks for 15 where it is the only factor;
/// 12 is this server's floor).
pub const SHORTEST: usize = 12;

/// The longest password, in characters.
pub const LONGEST: usize = 256;

/// What is verified where an account has no password or does not exist, so that both take as long.
static NOBODYS: LazyLock<String> =
    LazyLock::new(|| hash_now("nobody's password").unwrap_or_default());

/// Why no answer was found: the computation failed, which says nothing about the password.
#[derive(Debug, thiserror::Error)]
#[error("a password cannot be hashed")]
pub struct HashingFailed;

/// Hashes a password for keeping.
///
/// # Errors
/// The computation failed.
pub async fn hash(hashers: &Arc<Semaphore>, password: String) -> Result<String, HashingFailed> {
    aside(hashers, move || hash_now(&password)).await?
}

/// Whether a password is the one of this hash; without a hash it is not.
///
/// # Errors
/// The computation failed.
pub async fn verify(
    hashers: &Arc<Semaphore>,
    password: String,
    hash: Option<String>,
) -> Result<bool, HashingFailed> {
    aside(hashers, move || {
        let known = hash.as_deref().unwrap_or(&NOBODYS);
        let right = Argon2::default()
            .verify_password(password.as_bytes(), known)
            .is_ok();
        right && hash.is_some()
    })
    .await
}

async fn aside<T: Send + 'static>(
    hashers: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HashingFailed> {
    let permit = Arc::clone(hashers)
        .acquire_owned()
        .await
        .map_err(|_| HashingFailed)?;
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    })
    .await
    .map_err(|_| HashingFailed)
}

fn hash_now(password: &str) -> Result<String, HashingFailed> {
    let salt: [u8; 16] = rand::random();
    // Argon2::default is Argon2id, version 19, 19 MiB, 2 passes, 1 lane.
    Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|_| HashingFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_and_another_is_not() {
        let hashers = Arc::new(Semaphore::new(1));
        let kept = hash(&hashers, "correct horse".to_owned()).await.unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        let verify = |password: &str, hash| verify(&hashers, password.to_owned(), hash);
        assert!(verify("correct horse", Some(kept.clone())).await.unwrap());
        assert!(!verify("wrong", Some(kept)).await.unwrap());
        assert!(!verify("nobody's password", None).await.unwrap());
    }
}
