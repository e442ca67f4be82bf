//! autossh compiled from its source, by the user, in a private folder.
//!
//! Nothing here has root's rights and nothing is installed: an archive goes in, the content of one
//! program comes out.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use askama::Template;

use super::source::ARCHIVE;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt as _, Output};
use crate::shell;

/// How long it may take; on an idle host it takes seconds.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

const DISK_FULL: &str = "No space left on device";

#[derive(Template)]
#[template(path = "build-autossh.sh", escape = "none")]
struct Script {
    folder: String,
    archive: &'static str,
    ssh: String,
}

/// The script that compiles in this folder an autossh that starts this ssh.
pub fn script(folder: &Path, ssh: &Path) -> String {
    let script = Script {
        folder: shell::word(&folder.to_string_lossy()).into_owned(),
        archive: ARCHIVE,
        ssh: shell::word(&ssh.to_string_lossy()).into_owned(),
    };
    script.to_string()
}

/// What the script does, for the plan.
pub fn commands(folder: &Path, ssh: &Path) -> Vec<String> {
    let script = script(folder, ssh);
    let lines = script.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// Compiles the archive, whose checksum was verified, and returns the program. The folder is one that
/// this user alone can write and from which programs can be run. What the build says goes to `log`.
pub fn compile(
    host: &dyn Host,
    folder: &Path,
    archive: &[u8],
    log: &Path,
) -> anyhow::Result<Vec<u8>> {
    let ssh = host.which("ssh").context("ssh is no longer installed")?;
    let script = script(folder, &ssh);
    build(host, folder, archive, &script, log).map_err(|error| name_full_disk(error, folder))?;
    let program = folder.join("autossh");
    host.read(&program)
        .with_context(|| format!("the build ended without {}", program.display()))
}

fn build(
    host: &dyn Host,
    folder: &Path,
    archive: &[u8],
    script: &str,
    log: &Path,
) -> anyhow::Result<()> {
    let write = |path: &Path, content: &[u8]| host.write(path, content, 0o600, Authority::User);
    write(&folder.join(ARCHIVE), archive)?;
    let file = folder.join("build.sh");
    write(&file, script.as_bytes())?;
    let run = Command::new("sh")
        .arg("-e")
        .path(&file)
        .env("LC_ALL", "C")
        .timeout(TIMEOUT);
    let result = host.expect(&run);
    let written = write(log, format!("{script}\n{}", said(&result)).as_bytes());
    match result {
        Err(error) if error.stops_the_run() => Err(error.into()),
        // On a full disk, nothing else may say that it is full.
        Err(error) => written.and(Err(failed(error, log))),
        Ok(_) => written,
    }
}

fn said(result: &Result<Output, CommandError>) -> String {
    match result {
        Ok(Output { stdout, stderr, .. }) => format!("{stdout}{stderr}"),
        Err(CommandError::Status {
            status,
            stdout,
            stderr,
            ..
        }) => format!("{stdout}{stderr}status {status}\n"),
        Err(error) => format!("{error}\n"),
    }
}

fn failed(cause: CommandError, log: &Path) -> anyhow::Error {
    let next = format!(
        "{} holds everything the build said. Once the reason is gone, or autossh is installed by hand, run the same \
         command again",
        log.display()
    );
    Failure::new("could not compile autossh", next)
        .because(cause)
        .into()
}

fn name_full_disk(error: anyhow::Error, folder: &Path) -> anyhow::Error {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let of_system = cause.downcast_ref::<io::Error>();
        of_system.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
            || cause.to_string().contains(DISK_FULL)
    };
    if !error.chain().any(is_full) {
        return error;
    }
    let next = format!(
        "free some space where {} is, then run the same command again",
        folder.display()
    );
    Failure::new("could not compile autossh: the disk is full", next)
        .because(error)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    const MAKE_STUBS: &str = r#"cd "$1"; for program in tar make configure; do printf %s "$0" >$program; chmod +x $program; done"#;
    /// Stands for each of these programs, and says how it was called.
    const STUB: &str = "#!/bin/sh\nprintf '%s\\n' \"${0##*/}\" \"$@\" >>\"$SAID\"\n";

    #[test]
    fn the_script_is_clean_posix_sh() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = script(Path::new("/home/ada/build"), Path::new("/usr/bin/ssh"));
        fs::write(&file, script).unwrap();
        for check in [["dash", "-n"].as_slice(), &["shellcheck", "--norc"]] {
            let checked = Command::new(check[0])
                .args(&check[1..])
                .arg(file.path())
                .output()
                .expect("install shellcheck and dash: apt-get install shellcheck dash");
            let said = String::from_utf8_lossy(&checked.stdout);
            assert!(checked.status.success(), "{check:?}: {said}");
        }
    }

    #[test]
    fn what_a_folder_or_ssh_is_called_is_never_run() {
        let place = tempfile::tempdir().unwrap();
        let folder = place
            .path()
            .join("ada's $(touch owned) `touch owned`;touch owned");
        fs::create_dir(&folder).unwrap();
        // Not written by this process: another test's child could hold them open, and they would not run.
        let made = Command::new("sh")
            .args(["-ec", MAKE_STUBS, STUB])
            .arg(&folder)
            .status();
        assert!(made.unwrap().success());
        let script = script(&folder, Path::new("/opt/$(touch owned) &/ssh"));
        let said = place.path().join("said");
        let ran = Command::new("sh")
            .args(["-ec", &script])
            .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
            .env("SAID", &said)
            .current_dir(place.path())
            .status()
            .unwrap();
        assert!(ran.success());
        let said = fs::read_to_string(said).unwrap();
        assert!(
            said.contains("\nac_cv_path_ssh=/opt/$(touch owned) &/ssh\n"),
            "{said}"
        );
        let left = |dir: &Path| fs::read_dir(dir).unwrap().count();
        assert_eq!((left(place.path()), left(&folder)), (2, 3));
    }
}
