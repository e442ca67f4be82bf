//! Files that are a map.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{ScriptedHost, UID};
use crate::bastion::host::files::unfinished;
use crate::bastion::host::{Authority, FileEnd, FileSystem, Files, Kind, LockAttempt, Stat};

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Entry {
    File { content: Vec<u8>, mode: u32 },
    Directory { mode: u32 },
}

/// All files as they were at one moment, to be compared with another.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Entry>);

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (path, entry) in &self.0 {
            match entry {
                Entry::Directory { mode } => writeln!(f, "{mode:o} {}/", path.display())?,
                Entry::File { content, mode } => {
                    let content = String::from_utf8_lossy(content);
                    writeln!(f, "{mode:o} {}: {content:?}", path.display())?;
                }
            }
        }
        Ok(())
    }
}

impl ScriptedHost {
    /// No socket works in this folder, nor below it.
    pub fn refuse_sockets_in(&self, dir: &str) {
        self.without_sockets.borrow_mut().push(dir.into());
    }

    /// A folder that is there from the beginning.
    pub(super) fn put_dir(&self, dir: &Path) {
        let mut entries = self.entries.borrow_mut();
        entries.insert(dir.to_owned(), Entry::Directory { mode: 0o755 });
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.entries.borrow().clone())
    }

    pub fn paths(&self) -> Vec<String> {
        let entries = self.entries.borrow();
        entries
            .iter()
            .map(|(path, entry)| match entry {
                Entry::File { mode, .. } => format!("{mode:o} {}", path.display()),
                Entry::Directory { mode } => format!("{mode:o} {}/", path.display()),
            })
            .collect()
    }

    /// What was changed as root while that lock was not held.
    pub fn changed_unlocked(&self) -> Vec<PathBuf> {
        self.unlocked.borrow().clone()
    }

    fn note_unlocked(&self, path: &Path, authority: Authority) {
        if authority == Authority::Root && !self.lock.get() {
            self.unlocked.borrow_mut().push(path.to_owned());
        }
    }

    /// Whose a path is: a home's user's, or root's.
    fn owner(&self, path: &Path) -> u32 {
        if path.starts_with("/home") { UID } else { 0 }
    }

    fn change(&self, path: &Path, entry: Option<Entry>) -> anyhow::Result<()> {
        let succeeds = self.begin_effect();
        let mut entries = self.entries.borrow_mut();
        let unfinished = unfinished(path);
        match entry {
            Some(entry @ Entry::File { .. }) if self.is_torn() => {
                entries.insert(unfinished, entry);
            }
            _ if !succeeds => {}
            Some(Entry::Directory { mode }) => {
                entries.insert(path.to_owned(), Entry::Directory { mode });
            }
            Some(entry) => {
                entries.remove(&unfinished);
                entries.insert(path.to_owned(), entry);
            }
            None => {
                entries.remove(&unfinished);
                entries.remove(path);
            }
        }
        anyhow::ensure!(succeeds, "{}: no space left", path.display());
        Ok(())
    }

    fn parent_exists(&self, path: &Path) -> bool {
        path.parent().is_some_and(|parent| {
            matches!(
                self.entries.borrow().get(parent),
                Some(Entry::Directory { .. })
            )
        })
    }
}

impl Files for ScriptedHost {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.entries.borrow().get(path) {
            Some(Entry::File { content, .. }) => Ok(content.clone()),
            Some(Entry::Directory { .. }) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        Ok(self.entries.borrow().get(path).map(|entry| match entry {
            Entry::File { mode, .. } => Stat {
                kind: Kind::File,
                mode: *mode,
                uid: self.owner(path),
                modified: jiff::Timestamp::UNIX_EPOCH,
            },
            Entry::Directory { mode } => Stat {
                kind: Kind::Directory,
                mode: *mode,
                uid: self.owner(path),
                modified: jiff::Timestamp::UNIX_EPOCH,
            },
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.entries.borrow().contains_key(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entries = self.entries.borrow();
        let inside = entries.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn read_at_most(&self, path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = self.read(path)?;
        content.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(content)
    }

    fn read_end(&self, _: &Path, file: &Path, bytes: u64) -> io::Result<FileEnd> {
        let content = self.read(file)?;
        let length = content.len() as u64;
        let skipped = content
            .len()
            .saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(FileEnd {
            content: content[skipped..].to_vec(),
            length,
        })
    }

    fn read_link(&self, _: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn write(
        &self,
        path: &Path,
        content: &[u8],
        mode: u32,
        authority: Authority,
    ) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        anyhow::ensure!(self.parent_exists(path), "no folder for {}", path.display());
        let content = content.to_vec();
        self.change(path, Some(Entry::File { content, mode }))
    }

    fn create_dir(&self, path: &Path, mode: u32, authority: Authority) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        anyhow::ensure!(self.parent_exists(path), "no folder for {}", path.display());
        self.change(path, Some(Entry::Directory { mode }))
    }

    fn remove_file(&self, path: &Path, authority: Authority) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        self.change(path, None)
    }

    fn remove_dir(&self, path: &Path, authority: Authority) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        let is_empty = self.list(path).map_or(true, |names| names.is_empty());
        anyhow::ensure!(is_empty, "{} is not empty", path.display());
        self.change(path, None)
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(FileSystem {
            is_read_only: false,
            has_room_for_root: true,
            has_room: true,
        })
    }

    fn is_writable(&self, dir: &Path) -> bool {
        dir.starts_with(&self.user.home)
    }

    fn try_socket(&self, dir: &Path) -> anyhow::Result<()> {
        let cannot_hold = self.without_sockets.borrow();
        anyhow::ensure!(
            !cannot_hold.iter().any(|without| dir.starts_with(without)),
            "it holds no sockets"
        );
        Ok(())
    }

    fn lock(&self, _: &Path, _: &str) -> io::Result<LockAttempt> {
        Ok(LockAttempt::Taken(None))
    }
}
