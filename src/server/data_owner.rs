//! Whose the data folder is. What another user made in it, root above all, the server could not read, and it
//! would not start any more. So commands are for the folder's owner, as PostgreSQL's are.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::unistd::{Uid, User};

use super::cli::DataDirArg;
use crate::shell;

/// A file that a command reads or writes: its shell opens it in the place of the folder's owner, who may not.
#[derive(Debug, Clone, Copy)]
pub enum Redirect<'a> {
    From(&'a Path),
    To(&'a Path),
}

/// Makes sure that the folder belongs to the user of this process, or says how to run the command.
pub fn check(folder: &Path, redirect: Option<Redirect>) -> anyhow::Result<()> {
    let owner = owner(folder)?;
    if owner == Uid::effective() {
        return Ok(());
    }
    let arguments = env::args().skip(1).collect();
    bail!(
        "{} belongs to {}, and this runs as {}: files that it made there would lock the server out. Nothing was \
         changed. Run it as that user: {}",
        folder.display(),
        name(owner),
        name(Uid::effective()),
        redirected(command_of(owner, folder, arguments), redirect)
    )
}

/// Makes sure that this process can read these files and look into these folders, as far as they are there:
/// somebody may have made them in the owner's place before that was refused, or copied them.
///
/// # Errors
/// It cannot; the message says what gives them back.
pub fn check_files(folder: &Path, paths: &[PathBuf]) -> anyhow::Result<()> {
    for path in paths {
        let read = if path.is_dir() {
            fs::read_dir(path).map(drop)
        } else {
            File::open(path).map(drop)
        };
        let denied = read.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if denied {
            bail!(
                "{} belongs to {}, and the server runs as {}, which may not read it. Give the folder back to that \
                 user: sudo chown -R {}: {}",
                path.display(),
                owner(path).map_or_else(|_| "somebody else".to_owned(), name),
                name(Uid::effective()),
                word(Uid::effective()),
                shell::word(&folder.display().to_string())
            );
        }
    }
    Ok(())
}

fn command_of(owner: Uid, folder: &Path, arguments: Vec<String>) -> String {
    let mut words = vec!["sudo".to_owned(), "-u".to_owned(), word(owner)];
    // sudo passes no variables on.
    let is_found = env::var_os(DataDirArg::VARIABLE).is_none() || DataDirArg::packaged() == folder;
    if !is_found {
        words.push("env".to_owned());
        words.push(format!("{}={}", DataDirArg::VARIABLE, folder.display()));
    }
    words.extend(env::args().next());
    words.extend(arguments);
    shell::join(words)
}

fn redirected(command: String, redirect: Option<Redirect>) -> String {
    let (sign, file) = match redirect {
        None => return command,
        Some(Redirect::From(file)) => ('<', file),
        Some(Redirect::To(file)) => ('>', file),
    };
    let file = file.display().to_string();
    let file = shell::word(&file);
    format!(
        "{} {sign}{file}",
        command.replacen(&format!(" {file}"), " -", 1)
    )
}

fn owner(path: &Path) -> anyhow::Result<Uid> {
    let metadata =
        fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(Uid::from_raw(metadata.uid()))
}

/// The user as a sentence names them.
fn name(user: Uid) -> String {
    match User::from_uid(user) {
        Ok(Some(user)) => user.name,
        _ => format!("user {user}"),
    }
}

/// The user as a command line names them; sudo knows numbers too.
fn word(user: Uid) -> String {
    match User::from_uid(user) {
        Ok(Some(user)) => user.name,
        _ => format!("#{user}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_user_and_the_folder_where_it_is_not_found_without() {
        let stranger = Uid::from_raw(4_000_000_000);
        let line = command_of(stranger, Path::new("/x y"), vec!["token".into()]);
        assert!(line.starts_with("sudo -u '#4000000000' "), "{line}");
        assert!(line.ends_with(" token"), "{line}");
    }

    #[test]
    fn a_file_that_the_owner_may_not_open_is_opened_by_the_shell() {
        let line =
            |redirect| redirected("sudo -u x p restore '/root/a b' --replace".into(), redirect);
        let file = Path::new("/root/a b");
        let restore = line(Some(Redirect::From(file)));
        assert_eq!(restore, "sudo -u x p restore - --replace <'/root/a b'");
        let backup = redirected(
            "sudo -u x p backup f".into(),
            Some(Redirect::To(Path::new("f"))),
        );
        assert_eq!(backup, "sudo -u x p backup - >f");
    }

    #[test]
    fn what_nobody_forbids_is_no_reason_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path(), None).unwrap();
        let paths = [folder.path().join("absent"), folder.path().to_owned()];
        check_files(folder.path(), &paths).unwrap();
    }
}
