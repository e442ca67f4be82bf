//! A file that one process holds at a time. The kernel lets go of it when the holder ends, however
//! that is, so there is no such thing as a lock left behind.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// How often a lock is tried that its former holder removes at that very moment.
const ATTEMPTS: u32 = 5;

/// What came of the attempt to take a lock.
pub enum LockAttempt {
    /// It is ours while this lives; nothing to hold where the host only pretends.
    Taken(Option<FileLock>),
    /// It is somebody else's, who left this line.
    HeldBy(String),
}

/// A lock that is held.
pub struct FileLock {
    file: File,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Only who holds it is of interest; the lock itself goes with the file's last handle.
        let _ = self.file.set_len(0);
    }
}

/// Tries to take the lock, and leaves a line that says who has it.
pub fn acquire(path: &Path, holder: &str) -> io::Result<LockAttempt> {
    for _ in 0..ATTEMPTS {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Ok(LockAttempt::HeldBy(holder.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_still_at(&file, path)? {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{holder}")?;
            return Ok(LockAttempt::Taken(Some(FileLock { file })));
        }
    }
    Err(io::Error::other("the lock's file is replaced all the time"))
}

/// Whether this is the file others will find: a run that is rolled back removes it.
fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_the_lock_is_told_and_whoever_comes_after_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // What a holder left that was killed.
        fs::write(&path, "process 1, long ago").unwrap();
        let first = acquire(&path, "process 2").unwrap();
        assert!(matches!(first, LockAttempt::Taken(Some(_))));
        match acquire(&path, "process 3").unwrap() {
            LockAttempt::HeldBy(holder) => assert_eq!(holder, "process 2"),
            LockAttempt::Taken(_) => panic!("two holders"),
        }
        drop(first);
        let third = acquire(&path, "process 3").unwrap();
        assert!(matches!(third, LockAttempt::Taken(Some(_))));
    }
}
