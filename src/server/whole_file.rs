//! Files that have their old content or their new one, whatever ends the program meanwhile.
//!
//! The new content stands beside the file under one name until it is whole, so that what a killed program has left is
//! in nobody's way and goes with the next writing. Whoever writes one is the only one who does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::deaths;

/// Puts content in a file's place, for its owner alone, to be found after a loss of power as well.
#[track_caller]
pub fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let unfinished = write(path, parts)?;
    deaths::around_file(|| fs::rename(unfinished, path))?;
    flush(path)
}

/// Makes a file that is not there yet.
///
/// # Errors
/// It is there (`AlreadyExists`), or cannot be written.
#[track_caller]
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    replace(path, &[content])
}

fn write(path: &Path, parts: &[&[u8]]) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let unfinished = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let written = parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // A full disk has room for it again.
        let _ = fs::remove_file(&unfinished);
    }
    written.map(|()| unfinished)
}

/// A name is there after a loss of power only once its folder is written, too.
fn flush(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_a_killed_writing_has_left_goes_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        fs::write(dir.path().join(".secret.key.new"), "half").unwrap();
        create(&path, b"whole").unwrap();
        assert_eq!(
            create(&path, b"another").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        replace(&path, &[b"in ", b"parts"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"in parts");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
