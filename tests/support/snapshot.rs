//! What is on disk, to be compared with what is there later.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Every file and folder below some folders: kind, mode and content.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    Link(PathBuf),
    Socket,
    File(Vec<u8>),
    Other,
}

impl Snapshot {
    /// Takes it, below all of these folders.
    pub fn of(folders: &[&Path]) -> Self {
        let mut entries = BTreeMap::new();
        for folder in folders {
            add(folder, &mut entries);
        }
        Snapshot { entries }
    }

    /// The same without this path and what lies below it.
    pub fn without(mut self, path: &Path) -> Self {
        self.entries.retain(|entry, _| !entry.starts_with(path));
        self
    }

    /// The paths of all that was there.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.entries.keys().cloned().collect()
    }

    /// How the later state differs from this one, a line for each path; empty if it does not.
    pub fn differences(&self, later: &Snapshot) -> String {
        let paths: std::collections::BTreeSet<_> =
            self.entries.keys().chain(later.entries.keys()).collect();
        paths
            .into_iter()
            .filter_map(|path| {
                let (before, after) = (self.entries.get(path), later.entries.get(path));
                let path = path.display();
                match (before, after) {
                    (Some(before), Some(after)) if before == after => None,
                    (Some(before), Some(after)) => {
                        Some(format!("changed: {path}: {before} -> {after}\n"))
                    }
                    (None, Some(after)) => Some(format!("new: {path}: {after}\n")),
                    (Some(before), None) => Some(format!("gone: {path}: {before}\n")),
                    (None, None) => None,
                }
            })
            .collect()
    }

    /// Asserts that nothing differs.
    #[track_caller]
    pub fn assert_same(&self, later: &Snapshot) {
        let differences = self.differences(later);
        assert!(
            differences.is_empty(),
            "the disk has changed:\n{differences}"
        );
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} ", self.mode & 0o7777)?;
        match &self.kind {
            Kind::Folder => write!(f, "folder"),
            Kind::Link(target) => write!(f, "link to {}", target.display()),
            Kind::Socket => write!(f, "socket"),
            Kind::Other => write!(f, "special file"),
            Kind::File(content) => {
                let text = String::from_utf8_lossy(content);
                let shown: String = text.chars().take(400).collect();
                write!(f, "file of {} bytes {shown:?}", content.len())
            }
        }
    }
}

fn add(path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    // A file that goes away while it is looked at is not there.
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        Kind::Folder
    } else if file_type.is_symlink() {
        Kind::Link(std::fs::read_link(path).unwrap_or_default())
    } else if file_type.is_socket() {
        Kind::Socket
    } else if file_type.is_file() {
        Kind::File(std::fs::read(path).unwrap_or_default())
    } else {
        Kind::Other
    };
    let mode = metadata.permissions().mode();
    entries.insert(path.to_owned(), Entry { mode, kind });
    if file_type.is_dir() {
        let children = std::fs::read_dir(path).into_iter().flatten().flatten();
        for child in children {
            add(&child.path(), entries);
        }
    }
}
