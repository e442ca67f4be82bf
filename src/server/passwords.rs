//! Passwords: Argon2id with the parameters that OWASP names first (19 MiB, 2 passes, 1 lane).
//!
//! One thread hashes them, one after the other, in memory that is taken once: threads of a pool would
//! each keep what they have once had. Who finds the queue full is turned away before anything is
//! computed, so passwords take one processor at most and no request waits long for its turn.

use std::thread;

use anyhow::Context as _;
use argon2::password_hash::phc::{Output, ParamsString, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, PasswordHash, Version};
use tokio::sync::mpsc::{self, Permit};
use tokio::sync::oneshot;

/// The shortest password, in characters (NIST SP 800-63B-4 asks for 15 where it is the only factor;
/// 12 is this server's floor).
pub const SHORTEST: usize = 12;

/// The longest password, in characters.
pub const LONGEST: usize = 256;

/// How many may wait: half a second's work, or a second's of a slow machine.
const QUEUE: usize = 16;

/// What is said where the queue is full.
pub const BUSY: &str = "Too many people are signing in. Try again in a few seconds.";

/// What is verified where an account has no password or does not exist, so that both take as long.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA\
                       $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why no answer was found: the computation failed, which says nothing about the password.
#[derive(Debug, thiserror::Error)]
#[error("a password cannot be hashed")]
pub struct HashingFailed;

/// Work for the thread.
type Job = Box<dyn FnOnce(&mut Hasher) + Send>;

/// The thread's queue. The thread ends with it.
pub struct Passwords(mpsc::Sender<Job>);

impl Passwords {
    /// Starts the thread.
    pub fn start() -> anyhow::Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            let mut hasher = Hasher::default();
            while let Some(job) = jobs.blocking_recv() {
                job(&mut hasher);
            }
        };
        let thread = thread::Builder::new().name("passwords".to_owned());
        thread
            .spawn(work)
            .context("cannot start the passwords' thread")?;
        Ok(Passwords(queue))
    }

    /// A place in the queue, if there is one.
    pub fn place(&self) -> Option<Place<'_>> {
        self.0.try_reserve().ok().map(Place)
    }

    /// Returns when the thread has ended, which is a fault while the server runs.
    pub async fn ended(&self) {
        self.0.closed().await;
    }
}

/// A place in the queue.
pub struct Place<'a>(Permit<'a, Job>);

impl Place<'_> {
    /// Hashes a password for keeping.
    pub async fn hash(self, password: String) -> Result<String, HashingFailed> {
        let hash = move |hasher: &mut Hasher| hasher.hash(&password);
        self.ask(hash).await
    }

    /// Whether a password is the one of this hash; without a hash it is not.
    pub async fn verify(
        self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, HashingFailed> {
        let verify = move |hasher: &mut Hasher| {
            let right = hasher.verify(&password, hash.as_deref().unwrap_or(NOBODYS))?;
            Some(right && hash.is_some())
        };
        self.ask(verify).await
    }

    async fn ask<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Hasher) -> Option<T> + Send + 'static,
    ) -> Result<T, HashingFailed> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Box::new(move |hasher| {
            // Whoever has hung up does not wait for it any more.
            if !answer.is_closed() {
                let _ = answer.send(work(hasher));
            }
        }));
        answered.await.ok().flatten().ok_or(HashingFailed)
    }
}

/// What the thread works with.
#[derive(Default)]
struct Hasher {
    memory: Vec<Block>,
}

impl Hasher {
    fn hash(&mut self, password: &str) -> Option<String> {
        let salt: [u8; 16] = rand::random();
        let params = Params::default();
        let kept = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(self.compute(params, password, &salt)?),
        };
        Some(kept.to_string())
    }

    fn verify(&mut self, password: &str, kept: &str) -> Option<bool> {
        let kept = PasswordHash::new(kept).ok()?;
        let params = Params::try_from(&kept).ok()?;
        // Compared in constant time.
        Some(self.compute(params, password, &kept.salt?)? == kept.hash?)
    }

    fn compute(&mut self, params: Params, password: &str, salt: &[u8]) -> Option<Output> {
        let blocks = params.block_count();
        if self.memory.len() < blocks {
            self.memory.resize(blocks, Block::default());
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut hash = [0; Params::DEFAULT_OUTPUT_LEN];
        let memory = &mut self.memory[..blocks];
        argon2
            .hash_password_into_with_memory(password.as_bytes(), salt, &mut hash, memory)
            .ok()?;
        Output::new(&hash).ok()
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordVerifier as _;

    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_and_another_is_not() {
        let passwords = Passwords::start().unwrap();
        let place = || passwords.place().unwrap();
        let kept = place().hash("correct horse".to_owned()).await.unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        // By the library's own reckoning, too.
        assert!(
            Argon2::default()
                .verify_password(b"correct horse", &*kept)
                .is_ok()
        );
        for (password, hash, right) in [
            ("correct horse", Some(&kept), true),
            ("wrong", Some(&kept), false),
            ("correct horse", None, false),
            ("correct horse", Some(&kept), true),
        ] {
            let found = place().verify(password.to_owned(), hash.cloned()).await;
            assert_eq!(found.unwrap(), right, "{password}");
        }
        let damaged = place().verify("correct horse".to_owned(), Some("$x".to_owned()));
        assert!(damaged.await.is_err());
    }

    #[test]
    fn nobodys_password_takes_as_long_as_somebodys() {
        let nobodys = PasswordHash::new(NOBODYS).unwrap();
        assert_eq!(
            Params::try_from(&nobodys).unwrap().to_string(),
            Params::default().to_string()
        );
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_turned_away_and_comes_in_later() {
        let passwords = Passwords::start().unwrap();
        let mut waiting: Vec<_> = (0..QUEUE).map(|_| passwords.place().unwrap()).collect();
        assert!(passwords.place().is_none());
        drop(waiting.pop());
        assert!(passwords.place().is_some());
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_seen() {
        let passwords = Passwords::start().unwrap();
        let place = passwords.place().unwrap();
        let panics = place.ask::<()>(|_| panic!("a bug"));
        assert!(panics.await.is_err());
        passwords.ended().await;
        assert!(passwords.place().is_none());
    }
}
