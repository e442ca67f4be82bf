//! The server's identity: its host keys, made at the first start, and the ones that are to follow them.
//!
//! The current keys lie in the folder itself, the next ones in `next`, those before in `former`. A key
//! changes its place by one rename; whoever dies between the renames of two keys leaves each of them in
//! one place, and the same command goes on from there.

mod copy;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

use crate::server::deaths;
use crate::server::file_mark::{Mark, mark};
use crate::server::scratch::Scratch;
use crate::server::whole_file;

/// The keys and their files. Hosts in FIPS mode accept no ed25519, so there is a second one.
const KEYS: [(&str, Algorithm); 2] = [
    ("ssh_host_ed25519_key", Algorithm::Ed25519),
    (
        "ssh_host_ecdsa_key",
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        },
    ),
];

/// Which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Generation {
    /// Those that the server shows.
    Current,
    /// Those that are announced, so that bastions know them when they become the current ones.
    Next,
    /// Those that were the current ones before.
    Former,
}

/// A key, and since when it has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    pub(super) private: PrivateKey,
    /// Since when.
    pub since: Timestamp,
}

/// The folder of the host keys.
#[derive(Debug, Clone)]
pub struct KeyFolder(PathBuf);

/// Held while a command changes the keys; released by the system when the process ends.
pub struct ChangeLock(
    #[allow(dead_code, reason = "the lock lasts as long as the file is open")] File,
);

/// By what a change of the files is seen.
pub type Marks = Vec<Option<Mark>>;

impl HostKey {
    /// The public key, `ssh-ed25519 AAAA…`.
    pub fn public(&self) -> anyhow::Result<String> {
        Ok(self.private.public_key().to_openssh()?)
    }
}

impl KeyFolder {
    /// The keys in this folder, which need not be there yet.
    pub fn new(dir: PathBuf) -> Self {
        KeyFolder(dir)
    }

    /// Where keys of this generation lie.
    pub fn place(&self, generation: Generation) -> PathBuf {
        match generation {
            Generation::Current => self.0.clone(),
            Generation::Next => self.0.join("next"),
            Generation::Former => self.0.join("former"),
        }
    }

    /// Reads the current keys; makes the folder (0700) and those (0600) that are absent. A server that
    /// shows a key for the first time makes the next ones, too: then nobody has to be told of them later.
    ///
    /// # Errors
    /// The folder or a file cannot be made or read, a file is not the key that it should be, or others than
    /// its owner may read it.
    pub fn load_or_create(&self) -> anyhow::Result<Vec<HostKey>> {
        make_folder(&self.0)?;
        let present = |file_name: &str| self.0.join(file_name).exists();
        let is_first = !KEYS.iter().any(|(file_name, _)| present(file_name));
        // A first start that was ended here has made them already.
        if is_first && self.present(Generation::Next).is_empty() {
            self.make_generation(Generation::Next)?;
        }
        for (file_name, algorithm) in KEYS {
            if !present(file_name) {
                create(&self.0, file_name, algorithm)?;
            }
        }
        self.load(Generation::Current)
    }

    /// Reads those keys of this generation that are there.
    pub fn load(&self, generation: Generation) -> anyhow::Result<Vec<HostKey>> {
        let place = self.place(generation);
        let files = KEYS
            .into_iter()
            .map(|(name, algorithm)| (place.join(name), algorithm));
        files
            .filter_map(|(path, algorithm)| match path.symlink_metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                _ => Some(load(&path, &algorithm, generation)),
            })
            .collect()
    }

    /// What the files are now.
    pub fn marks(&self) -> Marks {
        [Generation::Current, Generation::Next]
            .iter()
            .flat_map(|generation| {
                KEYS.iter()
                    .map(|(name, _)| mark(&self.place(*generation).join(name)))
            })
            .collect()
    }

    /// Makes sure that no other command changes the keys.
    pub fn lock(&self) -> anyhow::Result<ChangeLock> {
        let (path, folder) = (self.0.join("lock"), self.0.display());
        ensure!(
            !self.load(Generation::Current)?.is_empty(),
            "there are no host keys in {folder} yet: the first `serve` makes them, the next ones included"
        );
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(ChangeLock(file)),
            Err(TryLockError::WouldBlock) => bail!(
                "another `host-key` command changes the keys in {folder}; nothing was changed. Run this one again \
                 once it has ended"
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    pub fn make_next(&self, _: &ChangeLock) -> anyhow::Result<Vec<HostKey>> {
        ensure!(
            self.load(Generation::Next)?.is_empty(),
            "there is a next host key already; nothing was changed. `host-key list` shows who knows it, and \
             `host-key promote` makes it the current one"
        );
        self.make_generation(Generation::Next)?;
        self.load(Generation::Next)
    }

    /// Makes the next keys the current ones, and keeps those aside. It goes on where an earlier one has died.
    pub fn promote(&self, _: &ChangeLock) -> anyhow::Result<()> {
        let next = self.present(Generation::Next);
        ensure!(
            !next.is_empty(),
            "there is no next host key; make and announce one with `host-key next`, and promote it once the \
             bastions know it"
        );
        let former = self.place(Generation::Former);
        // One that is kept already and is still in its place is what an earlier one has died at.
        let is_in_place = |name: &&str| is_same(&former.join(name), &self.0.join(name));
        let begun = next.len() < KEYS.len();
        ensure!(
            begun || self.present(Generation::Former).iter().all(is_in_place),
            "the former host key is still kept; nothing was changed. If nobody needs it any more, delete it with \
             `host-key drop`, then run the same command again"
        );
        make_folder(&former)?;
        for name in next {
            let (from, to) = (self.place(Generation::Next).join(name), self.0.join(name));
            let kept = former.join(name);
            let moved = replace(&from, &to, &kept);
            moved.with_context(|| {
                format!("cannot put {} in place of {}", from.display(), to.display())
            })?;
        }
        // Nothing is in it any more; if it stays, it is taken for no key.
        let _ = fs::remove_dir(self.place(Generation::Next));
        flush(&self.0)
    }

    /// Deletes the former keys.
    pub fn drop_former(&self, _: &ChangeLock) -> anyhow::Result<()> {
        let place = self.place(Generation::Former);
        let names = self.present(Generation::Former);
        ensure!(
            !names.is_empty(),
            "no former host key is kept, so there is nothing to delete"
        );
        for name in names {
            let path = place.join(name);
            deaths::around_file(|| fs::remove_file(&path))
                .with_context(|| format!("cannot delete {}", path.display()))?;
        }
        let _ = fs::remove_dir(place);
        Ok(())
    }

    /// The names of this generation's files.
    fn present(&self, generation: Generation) -> Vec<&'static str> {
        let place = self.place(generation);
        let names = KEYS.into_iter().map(|(name, _)| name);
        names
            .filter(|name| place.join(name).symlink_metadata().is_ok())
            .collect()
    }

    /// All keys of a generation in one step.
    fn make_generation(&self, generation: Generation) -> anyhow::Result<()> {
        let place = self.place(generation);
        let cannot = || format!("cannot make the host keys in {}", place.display());
        let scratch = Scratch::new_in(&self.0, ".new-").with_context(cannot)?;
        let new = scratch.path().join("keys");
        make_folder(&new)?;
        for (file_name, algorithm) in KEYS {
            create(&new, file_name, algorithm)?;
        }
        // An empty folder may stand there, which this replaces.
        deaths::around_file(|| fs::rename(&new, &place)).with_context(cannot)?;
        flush(&self.0)
    }
}

/// Whether these are two names of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| path.symlink_metadata().map(|data| (data.dev(), data.ino()));
    matches!((file(one), file(other)), (Ok(one), Ok(other)) if one == other)
}

/// One file in the place of another, which is kept. There is one at its place at any moment.
fn replace(from: &Path, to: &Path, kept: &Path) -> std::io::Result<()> {
    match fs::remove_file(kept) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::hard_link(to, kept)?;
    // The time says since when a key has its place.
    for file in [kept, from] {
        File::open(file)?.set_modified(SystemTime::now())?;
    }
    deaths::around_file(|| fs::rename(from, to))
}

fn make_folder(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the host key folder {}", dir.display()))
}

/// Renames are on the disk when this returns.
fn flush(dir: &Path) -> anyhow::Result<()> {
    let flushed = File::open(dir).and_then(|dir| dir.sync_all());
    flushed.with_context(|| format!("cannot write {}", dir.display()))
}

/// Writes a new key under its name in one step, unless another process has just done so.
fn create(dir: &Path, file_name: &str, algorithm: Algorithm) -> anyhow::Result<()> {
    let path = dir.join(file_name);
    let write = || {
        let key = PrivateKey::random(&mut rand::rng(), algorithm)?;
        match whole_file::create(&path, key.to_openssh(LineEnding::LF)?.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            _ => anyhow::Ok(()),
        }
    };
    write().with_context(|| format!("cannot make the host key {}", path.display()))
}

fn load(path: &Path, algorithm: &Algorithm, generation: Generation) -> anyhow::Result<HostKey> {
    let shown = path.display();
    let cannot = || format!("cannot read the host key {shown}");
    let text = fs::read_to_string(path).with_context(cannot)?;
    let metadata = fs::metadata(path).with_context(cannot)?;
    let mode = metadata.permissions().mode();
    ensure!(
        mode & 0o077 == 0,
        "the host key {shown} may be read by others (mode {:o}): run chmod 600 on it, and consider it known to them",
        mode & 0o777
    );
    let remedy = match generation {
        Generation::Current => {
            "restore it from a backup, or remove it to get a new identity, which every bastion will refuse until \
             `holistics-tunnel update-tunnel` has run on it"
        }
        Generation::Next => {
            "remove the folder that it is in, and make another one with `host-key next`: it was never shown"
        }
        Generation::Former => "remove it: it is not used any more",
    };
    let private = PrivateKey::from_openssh(text)
        .with_context(|| format!("{shown} is not an OpenSSH private key; {remedy}"))?;
    ensure!(
        !private.is_encrypted(),
        "the host key {shown} has a passphrase, and nobody is there to enter it; {remedy}"
    );
    ensure!(
        private.algorithm() == *algorithm,
        "{shown} is a key of the type {}, and not {algorithm}; {remedy}",
        private.algorithm()
    );
    let since = metadata
        .modified()
        .map_err(anyhow::Error::from)
        .and_then(|at| Ok(Timestamp::try_from(at)?));
    Ok(HostKey {
        private,
        since: since.with_context(cannot)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_NAME: &str = KEYS[0].0;

    fn folder() -> (tempfile::TempDir, KeyFolder) {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(dir.path().join("new/keys"));
        (dir, keys)
    }

    fn loaded(keys: &KeyFolder, generation: Generation) -> Vec<String> {
        let keys = keys.load(generation).unwrap();
        keys.iter().map(|key| key.public().unwrap()).collect()
    }

    use Generation::{Current, Former, Next};

    #[test]
    fn keys_are_made_once_and_are_the_owners_alone() {
        let (_dir, keys) = folder();
        let first = keys.load_or_create().unwrap();
        assert_eq!(first, keys.load_or_create().unwrap());

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for generation in [Current, Next] {
            let place = keys.place(generation);
            assert_eq!(mode(&place), 0o700);
            assert_eq!(mode(&place.join(FILE_NAME)), 0o600);
        }
        assert_ne!(loaded(&keys, Current), loaded(&keys, Next));
    }

    #[test]
    fn an_installation_of_before_gets_no_next_key_unasked() {
        let (_dir, keys) = folder();
        keys.load_or_create().unwrap();
        fs::remove_dir_all(keys.place(Next)).unwrap();
        keys.load_or_create().unwrap();
        assert_eq!(loaded(&keys, Next), [""; 0]);
        let lock = keys.lock().unwrap();
        assert_eq!(keys.make_next(&lock).unwrap().len(), KEYS.len());
        let said = keys.make_next(&lock).unwrap_err().to_string();
        assert!(said.contains("there is a next host key already"), "{said}");
    }

    #[test]
    fn the_next_keys_become_the_current_ones_and_those_are_kept_until_they_are_dropped() {
        let (_dir, keys) = folder();
        keys.load_or_create().unwrap();
        let (current, next) = (loaded(&keys, Current), loaded(&keys, Next));
        let marks = keys.marks();
        let lock = keys.lock().unwrap();
        keys.promote(&lock).unwrap();
        assert_eq!(loaded(&keys, Current), next);
        assert_eq!(loaded(&keys, Former), current);
        assert_eq!(loaded(&keys, Next), [""; 0]);
        assert_ne!(keys.marks(), marks);

        let said = keys.promote(&lock).unwrap_err().to_string();
        assert!(said.contains("there is no next host key"), "{said}");
        keys.make_next(&lock).unwrap();
        let said = keys.promote(&lock).unwrap_err().to_string();
        assert!(said.contains("host-key drop"), "{said}");
        assert_eq!(loaded(&keys, Current), next);
        keys.drop_former(&lock).unwrap();
        assert!(keys.drop_former(&lock).is_err());
        keys.promote(&lock).unwrap();
        assert_eq!(loaded(&keys, Former), next);
    }

    #[test]
    fn a_promotion_that_died_between_keeping_a_key_and_replacing_it_is_finished_by_the_next_one() {
        let (_dir, keys) = folder();
        keys.load_or_create().unwrap();
        let (current, next) = (loaded(&keys, Current), loaded(&keys, Next));
        let former = keys.place(Former);
        make_folder(&former).unwrap();
        fs::hard_link(keys.0.join(FILE_NAME), former.join(FILE_NAME)).unwrap();
        keys.promote(&keys.lock().unwrap()).unwrap();
        assert_eq!(loaded(&keys, Current), next);
        assert_eq!(loaded(&keys, Former), current);
    }

    #[test]
    fn a_first_start_that_died_after_the_next_keys_goes_on_with_them() {
        let parent = tempfile::tempdir().unwrap();
        let folder = KeyFolder::new(parent.path().join("ssh"));
        folder.load_or_create().unwrap();
        let next = folder.load(Generation::Next).unwrap();
        for (name, _) in KEYS {
            fs::remove_file(folder.place(Generation::Current).join(name)).unwrap();
        }
        assert_eq!(folder.load_or_create().unwrap().len(), KEYS.len());
        assert_eq!(folder.load(Generation::Next).unwrap(), next);
    }

    #[test]
    fn a_promotion_that_died_between_two_keys_goes_on() {
        let (_dir, keys) = folder();
        keys.load_or_create().unwrap();
        let (current, next) = (loaded(&keys, Current), loaded(&keys, Next));
        make_folder(&keys.place(Former)).unwrap();
        let [from, to, kept] =
            [Next, Current, Former].map(|place| keys.place(place).join(FILE_NAME));
        replace(&from, &to, &kept).unwrap();
        assert_eq!(
            loaded(&keys, Current),
            [next[0].clone(), current[1].clone()]
        );
        assert_eq!(loaded(&keys, Next), [next[1].clone()]);
        // A start in between makes nothing new.
        keys.load_or_create().unwrap();

        keys.promote(&keys.lock().unwrap()).unwrap();
        assert_eq!(loaded(&keys, Current), next);
        assert_eq!(loaded(&keys, Former), current);
    }

    #[test]
    fn of_two_commands_at_once_the_second_changes_nothing() {
        let (_dir, keys) = folder();
        let said = keys.lock().err().unwrap().to_string();
        assert!(said.contains("no host keys"), "{said}");
        keys.load_or_create().unwrap();
        let held = keys.lock().unwrap();
        let said = keys.lock().err().unwrap().to_string();
        assert!(said.contains("another `host-key` command"), "{said}");
        drop(held);
        keys.lock().unwrap();
    }

    #[test]
    fn what_is_not_the_key_that_it_should_be_is_told_and_left_alone() {
        for generation in [Current, Next, Former] {
            for (text, sign) in [
                ("not a key".to_owned(), "is not an OpenSSH private key"),
                (other_key(None), "is a key of the type ecdsa-sha2-nistp256"),
                (other_key(Some("secret")), "has a passphrase"),
            ] {
                let (_dir, keys) = folder();
                keys.load_or_create().unwrap();
                make_folder(&keys.place(Former)).unwrap();
                let path = keys.place(generation).join(FILE_NAME);
                fs::write(&path, &text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                let said = keys.load(generation).unwrap_err().to_string();
                assert!(said.contains(sign), "{said}");
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
                let said = keys.load(generation).unwrap_err().to_string();
                assert!(said.contains("chmod 600"), "{said}");
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
                let said = keys.load(generation).unwrap_err().to_string();
                assert!(said.contains("cannot read the host key"), "{said}");
            }
        }
    }

    /// One of another type than the file is for, with this passphrase.
    fn other_key(passphrase: Option<&str>) -> String {
        let key = PrivateKey::random(&mut rand::rng(), KEYS[1].1.clone()).unwrap();
        let key = match passphrase {
            Some(passphrase) => key.encrypt(&mut rand::rng(), passphrase).unwrap(),
            None => key,
        };
        key.to_openssh(LineEnding::LF).unwrap().to_string()
    }
}
