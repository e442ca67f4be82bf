//! Whether a folder can hold a control socket.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::Context as _;

/// Makes a socket in this folder as ssh does, and connects to it.
///
/// ssh binds a temporary name and links the final one to it. There are file systems without sockets, some
/// without links, and some that take a link for another file: a socket there reaches nobody.
pub fn try_in(dir: &Path) -> anyhow::Result<()> {
    let trial = tempfile::Builder::new()
        .prefix(".h_autossh-")
        .tempdir_in(dir)
        .context("no file can be made in it")?;
    let (bound, linked) = (trial.path().join("0"), trial.path().join("1"));
    let _listener = UnixListener::bind(&bound).context("it holds no sockets")?;
    fs::hard_link(&bound, &linked).context("its file system has no hard links to sockets")?;
    fs::remove_file(&bound).context("nothing can be removed from it")?;
    UnixStream::connect(&linked).context("a socket in it reaches nobody")?;
    trial.close().context("nothing can be removed from it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        try_in(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        try_in(&folder.path().join("missing")).unwrap_err();
        // It has folders and nothing else.
        if Path::new("/sys/fs/cgroup").is_dir() {
            try_in(Path::new("/proc")).unwrap_err();
        }
    }
}
