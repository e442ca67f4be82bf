//! The bastion's binaries: where they are, for which machines, and their SHA-256.
//!
//! A target that has no file here is not offered; nothing is ever fetched from elsewhere.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// The program's file name, in a target's folder and on the bastion.
const PROGRAM: &str = "holistics-tunnel";

/// A kind of machine, as Rust and as `uname` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// Rust's name, the `{target}` of `/download/{target}/holistics-tunnel`.
    pub target: &'static str,
    /// The shell pattern for `$(uname -s)-$(uname -m)`.
    pub uname: &'static str,
}

/// Every platform a binary is built for. Linux binaries are named for glibc, whatever they link.
pub const PLATFORMS: [Platform; 4] = [
    Platform {
        target: "x86_64-unknown-linux-gnu",
        uname: "Linux-x86_64 | Linux-amd64",
    },
    Platform {
        target: "aarch64-unknown-linux-gnu",
        uname: "Linux-aarch64 | Linux-arm64",
    },
    Platform {
        target: "x86_64-apple-darwin",
        uname: "Darwin-x86_64",
    },
    Platform {
        target: "aarch64-apple-darwin",
        uname: "Darwin-arm64",
    },
];

/// A binary that can be downloaded.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Where it runs.
    pub platform: Platform,
    /// The SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
}

/// The binaries this server hands out.
#[derive(Debug)]
pub struct Downloads {
    dist_dir: Option<PathBuf>,
    hashes: Mutex<HashMap<PathBuf, Hashed>>,
}

#[derive(Debug, Clone)]
struct Hashed {
    version: FileVersion,
    sha256: String,
}

/// What tells a replaced file from the one that was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileVersion {
    bytes: u64,
    modified: SystemTime,
}

impl Downloads {
    /// Hands out what is under `dist_dir`, or else the binary beside this program.
    pub fn new(dist_dir: Option<PathBuf>) -> Self {
        Downloads {
            dist_dir,
            hashes: Mutex::default(),
        }
    }

    /// The file for this target, if there is one.
    pub fn file(&self, target: &str) -> Option<PathBuf> {
        let platform = PLATFORMS
            .into_iter()
            .find(|platform| platform.target == target)?;
        let path = match &self.dist_dir {
            Some(folder) => folder.join(platform.target).join(PROGRAM),
            None if platform.is_own() => std::env::current_exe().ok()?.with_file_name(PROGRAM),
            None => return None,
        };
        path.is_file().then_some(path)
    }

    /// What can be downloaded now. It reads whole files: keep it off the async threads.
    pub fn offers(&self) -> io::Result<Vec<Offer>> {
        let mut offers = Vec::new();
        for platform in PLATFORMS {
            if let Some(path) = self.file(platform.target) {
                let sha256 = self.sha256(&path)?;
                offers.push(Offer { platform, sha256 });
            }
        }
        Ok(offers)
    }

    fn sha256(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let version = FileVersion {
            bytes: metadata.len(),
            modified: metadata.modified()?,
        };
        if let Some(known) = self.known(path, &version) {
            return Ok(known);
        }
        let sha256 = hash(&mut file)?;
        let hashed = Hashed {
            version,
            sha256: sha256.clone(),
        };
        self.hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), hashed);
        Ok(sha256)
    }

    fn known(&self, path: &Path, version: &FileVersion) -> Option<String> {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes
            .get(path)
            .filter(|hashed| hashed.version == *version)
            .map(|hashed| hashed.sha256.clone())
    }
}

impl Platform {
    /// Whether this very program was built for it.
    fn is_own(self) -> bool {
        let system = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        self.target.starts_with(std::env::consts::ARCH) && self.target.contains(system)
    }
}

/// The SHA-256 of what is left to read, in lower-case hexadecimal.
fn hash(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hasher.update(&chunk[..read]),
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn exactly_one_platform_is_this_programs_own() {
        let own = PLATFORMS.into_iter().filter(|platform| platform.is_own());
        assert_eq!(own.count(), 1);
    }

    #[test]
    fn what_lies_in_the_folder_is_offered_with_its_hash_and_hashed_anew_when_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("aarch64-unknown-linux-gnu");
        fs::create_dir(&target).unwrap();
        fs::write(target.join(PROGRAM), "abc").unwrap();
        let downloads = Downloads::new(Some(folder.path().to_owned()));
        let offers = downloads.offers().unwrap();
        assert_eq!(offers.len(), 1);
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            offers[0].sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        fs::write(target.join(PROGRAM), "abcd").unwrap();
        assert_ne!(downloads.offers().unwrap()[0].sha256, offers[0].sha256);
    }

    #[test]
    fn only_known_targets_name_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(PROGRAM), "abc").unwrap();
        let downloads = Downloads::new(Some(folder.path().join("x86_64-unknown-linux-gnu")));
        assert_eq!(downloads.file(".."), None);
        assert_eq!(downloads.file("x86_64-unknown-linux-gnu"), None);
    }
}
