//! Files on the real host, written so that a cut of power leaves the old content or the new one.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::statvfs::FsFlags;

use super::{Authority, Command, FileSystem, Kind, Stat};
use crate::bastion::failure::Failure;

/// Where a file's new content stands until it is whole: beside it, under one name, so that what a killed
/// run has left there is in nobody's way.
pub fn unfinished(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.new", name_of(path)))
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The folder of a user's own from which root takes the content of files. Its name can be told before, so
/// that the commands can be shown.
pub fn staging(user: &str) -> PathBuf {
    std::env::temp_dir().join(format!("h_autossh-{user}"))
}

/// Where the content of a file stands for root to take.
pub fn staged(staging: &Path, path: &Path) -> PathBuf {
    staging.join(name_of(path))
}

/// The commands by which root copies a staged file beside its place, and renames it there.
pub fn put_in_place(staged: &Path, path: &Path, mode: u32) -> [Command; 2] {
    let beside = unfinished(path);
    let install = Command::new("install")
        .args(["-o", "root", "-g", "0", "-m", &format!("{mode:o}")])
        .path(staged)
        .path(&beside);
    let rename = Command::new("mv").arg("-f").path(&beside).path(path);
    [install, rename].map(|command| command.with_authority(Authority::Root))
}

/// The command by which root makes a folder.
pub fn mkdir(path: &Path, mode: u32) -> Command {
    Command::new("mkdir")
        .args(["-m", &format!("{mode:o}")])
        .path(path)
        .with_authority(Authority::Root)
}

/// The command by which root removes a file, with what a killed run has left of new content for it.
pub fn rm(path: &Path) -> Command {
    let rm = Command::new("rm").arg("-f").path(path);
    rm.path(&unfinished(path)).with_authority(Authority::Root)
}

/// The command by which root removes an empty folder.
pub fn rmdir(path: &Path) -> Command {
    let rmdir = Command::new("rmdir").path(path);
    rmdir.with_authority(Authority::Root)
}

/// Makes the folder for staged files. In a folder that everybody can write, somebody else may have been
/// first.
pub fn make_staging(staging: &Path) -> anyhow::Result<Staging> {
    match create_dir(staging, 0o700) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("cannot make {}", staging.display()))?,
    }
    let is_ours = stat(staging)?.is_some_and(|stat| {
        stat.kind == Kind::Directory
            && stat.uid == nix::unistd::geteuid().as_raw()
            && stat.mode & 0o077 == 0
    });
    anyhow::ensure!(
        is_ours,
        Failure::new(
            format!(
                "{} exists, and is not a folder that belongs to this user alone",
                staging.display()
            ),
            "remove it, then run the same command again; or set TMPDIR to another folder",
        )
    );
    Ok(Staging(staging.to_owned()))
}

/// Goes with all that is in it.
pub struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left holds no secret, and the next run uses it again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes through a temporary file beside `path`, flushed to the disk and renamed.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let dir = path.parent().context("a file needs a folder")?;
    let unfinished = unfinished(path);
    let cannot_write = || format!("cannot write in {}", dir.display());
    ignore_absent(fs::remove_file(&unfinished)).with_context(cannot_write)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(unfinished.file_name().context("a file needs a name")?)
        .rand_bytes(0)
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .with_context(cannot_write)?;
    temporary.write_all(content)?;
    // Set while only the owner could have opened it, and regardless of the umask.
    temporary
        .as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    temporary
        .persist(path)
        .with_context(|| format!("cannot put {} in place", path.display()))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all())?;
    Ok(())
}

/// Removes a file, with what a killed run has left of new content for it. None being there is no error.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    for file in [unfinished(path).as_path(), path] {
        ignore_absent(fs::remove_file(file))
            .with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// Makes one folder with these permissions, regardless of the umask.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What stands at a path, links not followed.
pub fn stat(path: &Path) -> io::Result<Option<Stat>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let file_type = metadata.file_type();
    let kind = if file_type.is_symlink() {
        Kind::Link
    } else if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_file() {
        Kind::File
    } else {
        Kind::Other
    };
    Ok(Some(Stat {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        modified: jiff::Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?,
    }))
}

/// What is left of the file system on which a path is.
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    /// Some small files, and room to write each of them anew before the former goes.
    const BYTES: u64 = 256 * 1024;
    const FILES: u64 = 16;
    let stat = nix::sys::statvfs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    // Some do not count: everything is zero then.
    let has = |free: u64, all: u64, needed: u64| all == 0 || free >= needed;
    let all = bytes(stat.blocks());
    Ok(FileSystem {
        is_read_only: stat.flags().contains(FsFlags::ST_RDONLY),
        has_room_for_root: has(bytes(stat.blocks_free()), all, BYTES)
            && has(stat.files_free(), stat.files(), FILES),
        has_room: has(bytes(stat.blocks_available()), all, BYTES)
            && has(stat.files_available(), stat.files(), FILES),
    })
}

/// Turns "is not there" into success.
pub fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_absent(&error) => Ok(()),
        other => other,
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_folder_that_others_can_write_or_have_made_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("h_autossh-1000");
        create_dir(&place, 0o777).unwrap();
        assert!(make_staging(&place).is_err());
        fs::remove_dir(&place).unwrap();
        std::os::unix::fs::symlink(folder.path(), &place).unwrap();
        assert!(make_staging(&place).is_err());
        assert!(folder.path().exists(), "what the link leads to");
        fs::remove_file(&place).unwrap();

        // What a killed run has left is this user's own.
        std::mem::forget(make_staging(&place).unwrap());
        drop(make_staging(&place).unwrap());
        assert!(!place.exists());
    }

    #[test]
    fn what_a_killed_write_has_left_is_in_nobody_s_way_and_goes_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("receipt.json");
        let left = unfinished(&file);
        fs::write(&left, "half").unwrap();
        write_atomically(&file, b"whole", 0o600).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"whole");
        assert!(!left.exists());

        fs::write(&left, "half").unwrap();
        remove(&file).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        remove(&file).unwrap();
    }
}
