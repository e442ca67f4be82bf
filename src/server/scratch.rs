//! A folder in which a command puts something together, gone with it. It may hold secret keys: what a killed command
//! has left is taken away by the next one of its kind, and what one that runs has made is not.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

/// A file in it, locked as long as its command runs.
const LOCK: &str = "lock";

/// The folder.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one in this folder, whose name begins so, after those that nobody has any more are gone.
    pub fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let is_one = entry.file_name().to_string_lossy().starts_with(prefix);
            if is_one && entry.file_type()?.is_dir() && is_left(&entry.path()) {
                // What cannot be taken away is in nobody's way.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        // Where nothing can be locked, nobody takes it for left either.
        let _ = lock.try_lock();
        Ok(Scratch {
            folder,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether nobody has this folder any more. One without a lock was made by a version that had none.
fn is_left(folder: &Path) -> bool {
    match File::options().write(true).open(folder.join(LOCK)) {
        Ok(lock) => !matches!(
            lock.try_lock(),
            Err(TryLockError::WouldBlock | TryLockError::Error(_))
        ),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_has_left_is_taken_away_and_what_one_has_that_runs_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Scratch::new_in(dir.path(), ".backup-").unwrap();
        let left = dir.path().join(".backup-left");
        for folder in [&left, &dir.path().join("somebody's")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("lock"), "").unwrap();
        }
        let next = Scratch::new_in(dir.path(), ".backup-").unwrap();
        assert!(runs.path().exists() && next.path().exists() && !left.exists());
        drop((runs, next));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
