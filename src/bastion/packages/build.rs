//! autossh compiled from its source, by the user, in a private folder.
//!
//! Nothing here has root's rights and nothing is installed: an archive goes in, the content of one
//! program comes out.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::source::ARCHIVE;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt, Output};

/// How long each command of the build may take; together they take seconds on an idle host.
const BUILD_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Where the program will stand, as `configure` has to know it.
const INSTALL_PREFIX: &str = "/usr/local";

/// autossh needs neither library on any host that is supported. Linked with one that came with the
/// compiler's packages, it would not start any more once those are gone.
const NO_FURTHER_LIBRARIES: [&str; 2] = [
    "ac_cv_lib_nsl_gethostbyname=no",
    "ac_cv_lib_socket_connect=no",
];

const DISK_FULL: &str = "No space left on device";

/// How often a folder is emptied in which an interrupted compiler may still be writing.
const REMOVE_ATTEMPTS: u32 = 3;
const REMOVE_PAUSE: Duration = Duration::from_millis(500);

/// One build.
pub struct Build<'h> {
    host: &'h dyn Host,
    dir: PathBuf,
    log: PathBuf,
    said: String,
}

impl<'h> Build<'h> {
    /// A build in this folder, which the user alone can write and from which programs can be run.
    /// Everything its commands say goes to `log`.
    pub fn new(host: &'h dyn Host, dir: &Path, log: &Path) -> Self {
        Build {
            host,
            dir: dir.to_owned(),
            log: log.to_owned(),
            said: String::new(),
        }
    }

    /// Compiles the archive, whose checksum was verified, and returns the program.
    ///
    /// # Errors
    /// A command of the build fails; the error names it and the log.
    pub fn compile(mut self, archive: &[u8], ssh: &Path) -> anyhow::Result<Vec<u8>> {
        let file = self.dir.join(ARCHIVE);
        self.host
            .write(&file, archive, 0o600, Authority::User)
            .map_err(|error| self.failed_to_write(&file, error))?;
        let configure_log = self.dir.join("config.log");
        for (stage, command) in stages(&self.dir, ssh) {
            self.run(stage, &command, &configure_log)?;
        }
        let program = self.dir.join("autossh");
        self.host
            .read(&program)
            .with_context(|| format!("the build has ended without {}", program.display()))
    }

    fn run(&mut self, stage: &str, command: &Command, configure_log: &Path) -> anyhow::Result<()> {
        let result = self.host.run(command);
        self.note(command, &result);
        let failed = !matches!(&result, Ok(output) if output.success());
        if failed && let Ok(Some(details)) = self.host.read_if_present(configure_log) {
            let _ = write!(
                self.said,
                "\nconfig.log:\n{}",
                String::from_utf8_lossy(&details)
            );
        }
        let written = self.write_log();
        let output = match result {
            Err(error) if error.stops_the_run() => return Err(error.into()),
            Err(error) => return Err(self.failed(stage, error).into()),
            Ok(output) if output.success() => return written,
            Ok(output) => output,
        };
        let is_full = output.stderr.contains(DISK_FULL)
            || matches!(&written, Err(error) if is_disk_full(error));
        let cause = CommandError::Status {
            command: command.to_string(),
            status: output.status,
            stderr: output.stderr,
            stdout: output.stdout,
        };
        Err(if is_full {
            self.disk_full().because(cause).into()
        } else {
            self.failed(stage, cause).into()
        })
    }

    fn note(&mut self, command: &Command, result: &Result<Output, CommandError>) {
        let said = match result {
            Ok(output) => format!(
                "{}{}→ status {}\n",
                output.stdout, output.stderr, output.status
            ),
            Err(error) => format!("→ {error}\n"),
        };
        // Writing to a string does not fail.
        let _ = write!(self.said, "$ {command}\n{said}\n");
    }

    fn write_log(&self) -> anyhow::Result<()> {
        self.host
            .write(&self.log, self.said.as_bytes(), 0o600, Authority::User)
            .map_err(|error| self.failed_to_write(&self.log, error).into())
    }

    fn failed(&self, stage: &str, cause: CommandError) -> Failure {
        Failure::new(
            format!("autossh could not be compiled: {stage} failed"),
            format!(
                "{} holds everything the build said. Once the reason is gone, or autossh is installed by hand, run \
                 the same command again",
                self.log.display()
            ),
        )
        .because(cause)
    }

    fn disk_full(&self) -> Failure {
        Failure::new(
            "autossh could not be compiled: the disk is full",
            format!(
                "free some space where {} is, then run the same command again",
                self.dir.display()
            ),
        )
    }

    fn failed_to_write(&self, path: &Path, error: anyhow::Error) -> Failure {
        if is_disk_full(&error) {
            return self.disk_full().because(error);
        }
        Failure::new(
            format!("cannot write {}", path.display()),
            "look at its permissions, then run the same command again",
        )
        .because(error)
    }
}

/// The stages of a build in this folder, in their order, each with its command.
pub fn stages(dir: &Path, ssh: &Path) -> [(&'static str, Command); 3] {
    let unpack = Command::new("tar")
        .arg("-xzf")
        .path(&dir.join(ARCHIVE))
        .arg("-C")
        .path(dir)
        .args(["--strip-components=1", "--no-same-owner"]);
    // `--with-ssh` is ignored by this configure; the variable is not.
    let configure = Command::new("sh")
        .args(["-c", "cd \"$0\" && exec ./configure \"$@\""])
        .path(dir)
        .arg(format!("--prefix={INSTALL_PREFIX}"))
        .arg(format!("ac_cv_path_ssh={}", ssh.display()))
        .args(NO_FURTHER_LIBRARIES);
    let make = Command::new("make").arg("-C").path(dir);
    [("tar", unpack), ("configure", configure), ("make", make)]
        .map(|(stage, command)| (stage, command.env("LC_ALL", "C").timeout(BUILD_TIMEOUT)))
}

/// Whether the user may run a program from this folder: a file system can be mounted `noexec`, and a
/// policy such as fapolicyd's can forbid it.
///
/// # Errors
/// The folder cannot be written, or the run was interrupted.
pub fn check_can_execute(host: &dyn Host, dir: &Path) -> anyhow::Result<()> {
    let probe = dir.join("probe");
    host.write(&probe, b"#!/bin/sh\nexit 0\n", 0o700, Authority::User)?;
    let ran = match host.run(&Command::new(probe.to_string_lossy())) {
        Err(error) if error.stops_the_run() => return Err(error.into()),
        result => result.is_ok_and(|output| output.success()),
    };
    host.remove_file(&probe, Authority::User)?;
    ensure!(ran, "programs cannot be run from it (mounted noexec?)");
    Ok(())
}

/// Removes a build's folder with everything in it.
pub fn remove_folder(host: &dyn Host, dir: &Path) -> anyhow::Result<()> {
    let rm = Command::new("rm").arg("-rf").path(dir);
    for attempt in 1.. {
        match host.expect(&rm) {
            Ok(_) => break,
            Err(CommandError::Status { .. }) if attempt < REMOVE_ATTEMPTS => {
                host.sleep(REMOVE_PAUSE)?;
            }
            Err(error) => return Err(error).context("cannot remove the folder of the build"),
        }
    }
    Ok(())
}

/// Whether an error comes from a file system without space.
fn is_disk_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
            || cause.to_string().contains(DISK_FULL)
    })
}
