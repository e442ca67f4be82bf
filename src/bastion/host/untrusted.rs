//! Files that another user can put anything in the place of: a link that leads elsewhere, a pipe that
//! nobody writes to, or more bytes than fit.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileEnd {
    /// Its last bytes.
    pub content: Vec<u8>,
    /// How many bytes the whole file has.
    pub length: u64,
}

/// Reads at most so many bytes from the end of a file below `home`. No link below `home` is followed, and
/// what is no regular file, or is another file's second name, is not read.
pub fn read_end(home: &Path, file: &Path, bytes: u64) -> io::Result<FileEnd> {
    let below = file
        .strip_prefix(home)
        .map_err(|_| io::Error::other("it is not in the home folder"))?;
    let mut opened = open(home, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut parts = below.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(io::Error::other("its path leads out of the home folder"));
        };
        // Without waiting for whoever would write into a pipe.
        let mut flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        flags.set(OFlag::O_DIRECTORY, parts.peek().is_some());
        opened = openat(&opened, name, flags, Mode::empty())?;
    }
    let mut file = File::from(opened);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::other("it is not a regular file with one name"));
    }
    let length = metadata.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut content = Vec::new();
    file.take(bytes).read_to_end(&mut content)?;
    Ok(FileEnd { content, length })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_end_of_a_file_is_read_and_how_long_it_is() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("logs/tunnel.log");
        fs::create_dir(home.path().join("logs")).unwrap();
        fs::write(&file, "0123456789").unwrap();
        let end = |bytes| read_end(home.path(), &file, bytes).unwrap();
        assert_eq!(end(4).content, b"6789");
        assert_eq!(end(4).length, 10);
        assert_eq!(end(4096).content, b"0123456789");
    }

    #[test]
    fn what_a_user_puts_in_the_place_of_a_file_is_not_read_and_not_waited_for() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = elsewhere.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        let path = |name: &str| home.path().join(name);
        symlink(&secret, path("link")).unwrap();
        symlink(elsewhere.path(), path("folder")).unwrap();
        fs::hard_link(&secret, path("second-name")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        fs::create_dir(path("is-a-folder")).unwrap();
        for name in [
            "link",
            "folder/secret",
            "second-name",
            "pipe",
            "is-a-folder",
            "../secret",
        ] {
            assert!(read_end(home.path(), &path(name), 100).is_err(), "{name}");
        }
        assert!(read_end(home.path(), &secret, 100).is_err());
        let missing = read_end(home.path(), &path("missing"), 100);
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
