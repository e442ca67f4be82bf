//! A host's files: this host's, or those under another root.
//!
//! Under another root, links are followed inside that root: an absolute link of the other host
//! must not lead to this one's files.

use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};

use crate::bastion::host::{Host, Kind};

/// Nothing read here is longer on a healthy host, and a damaged one must not fill the memory.
const LONGEST_FILE: u64 = 64 * 1024;

/// As many links as Linux follows before it gives up.
const MOST_LINKS: usize = 40;

/// Where programs stand below another root.
const PROGRAM_DIRS: [&str; 8] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
    "opt/homebrew/bin",
    "snap/bin",
];

pub struct View<'a> {
    pub host: &'a dyn Host,
    root: &'a Path,
}

impl<'a> View<'a> {
    /// The files under `root`; `/` for this host's own.
    pub fn new(host: &'a dyn Host, root: &'a Path) -> Self {
        View { host, root }
    }

    /// Whether these are this host's own files, so that its commands tell about them.
    pub fn is_this_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether anything stands at a path, given without its leading slash.
    pub fn exists(&self, relative: &str) -> bool {
        self.locate(Path::new(relative)).is_some()
    }

    /// The beginning of a file; nothing if it is not there or cannot be read.
    pub fn read(&self, relative: &str) -> Option<Vec<u8>> {
        let path = self.root.join(self.locate(Path::new(relative))?);
        // A pipe in its place would be waited for.
        let is_file = self.host.stat(&path).ok()??.kind == Kind::File;
        is_file.then(|| self.host.read_at_most(&path, LONGEST_FILE).ok())?
    }

    /// Where a program is on that host, as that host would name it.
    pub fn which(&self, program: &str) -> Option<PathBuf> {
        if self.is_this_host() {
            return self.host.which(program);
        }
        PROGRAM_DIRS
            .iter()
            .map(|dir| Path::new(dir).join(program))
            .find(|path| self.locate(path).is_some())
            .map(|path| Path::new("/").join(path))
    }

    /// Where a path of that host leads once its links are followed, as that host would name it.
    pub fn resolve(&self, path: &Path) -> Option<PathBuf> {
        Some(Path::new("/").join(self.locate(path)?))
    }

    /// The place of an existing path below the root, with every link followed inside the root.
    fn locate(&self, path: &Path) -> Option<PathBuf> {
        let mut ahead: VecDeque<PathBuf> = parts(path);
        let mut place = PathBuf::new();
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            if part == Path::new("..") {
                place.pop();
                continue;
            }
            let next = place.join(part);
            let stat = self.host.stat(&self.root.join(&next)).ok()??;
            if stat.kind != Kind::Link {
                place = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            let target = self.host.read_link(&self.root.join(&next)).ok()?;
            if target.is_absolute() {
                place = PathBuf::new();
            }
            for part in parts(&target).into_iter().rev() {
                ahead.push_front(part);
            }
        }
        Some(place)
    }
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    path.components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| PathBuf::from(component.as_os_str()))
        .collect()
}
