//! The host keys of a region in a node's own folder: a copy of what the database has, so that the node starts also while
//! that cannot be asked.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use jiff::Timestamp;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;

use super::{Generation, HostKey, KEYS, KeyFolder, flush, make_folder};
use crate::server::whole_file;

/// A file in the folder that says whose copy it is; without it, the keys are the folder's own.
const MARK: &str = "copy-of";

impl Generation {
    pub const ALL: [Generation; 3] = [Generation::Current, Generation::Next, Generation::Former];
}

impl HostKey {
    /// What its file is called, as each server of a region has one.
    pub fn file_name(&self) -> anyhow::Result<&'static str> {
        let algorithm = self.private.algorithm();
        let known = KEYS.iter().find(|(_, known)| *known == algorithm);
        let (name, _) =
            known.with_context(|| format!("no server has a key of the type {algorithm}"))?;
        Ok(name)
    }

    /// The private key as its file holds it.
    pub fn private_text(&self) -> anyhow::Result<String> {
        Ok(self.private.to_openssh(LineEnding::LF)?.to_string())
    }

    /// A key from what its file holds.
    pub fn parse(private_text: &str, since: Timestamp) -> anyhow::Result<Self> {
        let private = PrivateKey::from_openssh(private_text)?;
        Ok(HostKey { private, since })
    }
}

impl KeyFolder {
    /// Whose copy it is; nothing if the keys are its own, or there are none.
    pub fn copy_of(&self) -> anyhow::Result<Option<String>> {
        let path = self.0.join(MARK);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => {
                let read = read.with_context(|| format!("cannot read {}", path.display()))?;
                Ok(Some(read))
            }
        }
    }

    /// Says whose copy it is from now on.
    pub fn mark_copy(&self, of: &str) -> anyhow::Result<()> {
        make_folder(&self.0)?;
        replace(&self.0.join(MARK), of.as_bytes())
    }

    /// Puts these keys in the place of those of a generation.
    pub fn put(&self, generation: Generation, keys: &[HostKey]) -> anyhow::Result<()> {
        let place = self.place(generation);
        if !keys.is_empty() {
            make_folder(&self.0)?;
            make_folder(&place)?;
        }
        let mut names = Vec::new();
        for key in keys {
            let name = key.file_name()?;
            let path = place.join(name);
            replace(&path, key.private_text()?.as_bytes())?;
            // The time says since when a key has its place.
            let since = SystemTime::from(key.since);
            let set = File::open(&path).and_then(|file| file.set_modified(since));
            set.with_context(|| format!("cannot change {}", path.display()))?;
            names.push(name);
        }
        for (name, _) in KEYS {
            if names.contains(&name) {
                continue;
            }
            let path = place.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot delete {}", path.display()));
                }
                _ => {}
            }
        }
        if place.exists() {
            flush(&place)
        } else {
            Ok(())
        }
    }
}

fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    whole_file::replace(path, &[content])
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_another_folder_is_the_same_keys_with_the_same_times() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| KeyFolder::new(dir.path().join(name)));
        one.load_or_create().unwrap();
        let whole = |folder: &KeyFolder| {
            let all = Generation::ALL.into_iter();
            all.map(|generation| folder.load(generation).unwrap())
                .collect::<Vec<_>>()
        };
        let copy = || {
            for (generation, keys) in Generation::ALL.into_iter().zip(whole(&one)) {
                other.put(generation, &keys).unwrap();
            }
        };
        copy();
        assert_eq!(whole(&one), whole(&other));
        assert_eq!(other.copy_of().unwrap(), None);
        other.mark_copy("eu").unwrap();
        assert_eq!(other.copy_of().unwrap().as_deref(), Some("eu"));

        one.promote(&one.lock().unwrap()).unwrap();
        copy();
        assert_eq!(whole(&one), whole(&other));
        assert_eq!(other.load(Generation::Next).unwrap(), []);
    }
}
