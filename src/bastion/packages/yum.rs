//! dnf, microdnf and yum, on RHEL, its rebuilds, Fedora and Amazon Linux.
//!
//! One type serves all three: they differ in a few options and in their words. What an installation
//! added is read from the RPM database (`rpm`), which is the same under all of them.

use std::time::Duration;

use super::failures::{self, Signs, Trouble, line_with, says};
use super::{Need, PackageManager, Watcher, lock, rpm};
use crate::bastion::facts::Facts;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, Output};

/// How long an installation may take: on a fresh host the metadata of all repositories is fetched.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The exit status of dnf and yum when the lock is held: dnf(8), section EXIT CODES.
const LOCKED_STATUS: i32 = 200;

const LOCK_HELD: [&str; 4] = [
    "holding the yum lock",
    "already locked by",
    "transaction lock",
    "Waiting for process with pid",
];
/// A host that is not registered has no repositories, and so no package at all.
const UNKNOWN_PACKAGE: [&str; 6] = [
    "Unable to find a match",
    "No match for argument",
    "No package matches",
    "no enabled repositories",
    "no enabled repos",
    "system is not registered",
];
const UNREACHABLE: [&str; 11] = [
    "Failed to download metadata",
    "Failed to synchronize cache",
    "Could not resolve host",
    "Cannot download",
    "Cannot prepare internal mirrorlist",
    "Cannot find a valid baseurl",
    "Cannot retrieve metalink",
    "Could not retrieve mirrorlist",
    "No more mirrors to try",
    "Error downloading packages",
    "Curl error",
];
const DISK_FULL: [&str; 3] = [
    "Disk Requirements",
    "No space left on device",
    "more space needed",
];

/// Which of the three programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// Since RHEL 8 and Fedora 22.
    Dnf,
    /// On minimal images.
    Microdnf,
    /// Up to RHEL 7.
    Yum,
}

impl Program {
    /// The program that a receipt names.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        [Program::Dnf, Program::Microdnf, Program::Yum]
            .into_iter()
            .find(|program| program.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Program::Dnf => "dnf",
            Program::Microdnf => "microdnf",
            Program::Yum => "yum",
        }
    }

    /// The options of every call: ask nothing, wait for no lock (they would without end), add nothing that is only recommended.
    fn options(self) -> &'static [&'static str] {
        match self {
            Program::Dnf => &[
                "-y",
                "--setopt=exit_on_lock=True",
                "--setopt=install_weak_deps=False",
            ],
            Program::Microdnf => &["-y", "--setopt=install_weak_deps=0"],
            Program::Yum => &["-y", "--setopt=exit_on_lock=1"],
        }
    }

    /// The options that make a repository that cannot be reached no reason to stop. microdnf has none.
    fn tolerance(self) -> &'static [&'static str] {
        match self {
            Program::Dnf => &[
                "--setopt=skip_if_unavailable=True",
                "--setopt=*.skip_if_unavailable=True",
            ],
            Program::Microdnf => &[],
            Program::Yum => &["--setopt=*.skip_if_unavailable=1"],
        }
    }

    fn command(self, verb: &str, packages: &[String], more: &[&str]) -> Command {
        Command::new(self.name())
            .arg(verb)
            .args(self.options().iter().chain(more).copied())
            .args(packages)
            // Errors are told apart by their text.
            .env("LC_ALL", "C")
            .with_authority(Authority::Root)
            .timeout(INSTALL_TIMEOUT)
            .atomic()
            .downloads()
    }
}

/// dnf, microdnf or yum.
pub(super) struct Yum {
    program: Program,
    epel: Option<String>,
    has_old_nss: bool,
}

impl Yum {
    /// The package manager of this host.
    pub(super) fn new(program: Program, facts: &Facts) -> Self {
        Yum {
            program,
            epel: epel_release(&facts.id, &facts.version),
            has_old_nss: program == Program::Yum && major(&facts.version) < 8,
        }
    }

    /// One that only has to remove what it once added.
    pub(super) fn for_removal(program: Program) -> Self {
        Yum {
            program,
            epel: None,
            has_old_nss: false,
        }
    }

    /// Installs, with or without the repositories that cannot be reached.
    fn try_to_install(
        &self,
        host: &dyn Host,
        watcher: &mut dyn Watcher,
        packages: &[String],
    ) -> anyhow::Result<()> {
        let install = self.install_command(packages);
        let output = self.run_unlocked(host, watcher, &install)?;
        let unreached = line_with(&output, &UNREACHABLE);
        if let Some(said) = self.unknown_package(&output) {
            return Err(failures::unknown(self.name(), packages, said, unreached));
        }
        if output.success() {
            return Ok(());
        }
        let tolerance = self.program.tolerance();
        if unreached.is_none() || tolerance.is_empty() {
            return Err(failure(packages, &install, output).into());
        }
        let tolerant = self.program.command("install", packages, tolerance);
        let again = self.run_unlocked(host, watcher, &tolerant)?;
        if let Some(said) = self.unknown_package(&again) {
            return Err(failures::unknown(self.name(), packages, said, unreached));
        }
        if again.success() {
            return Ok(());
        }
        Err(failure(packages, &tolerant, again).into())
    }

    fn run_unlocked(
        &self,
        host: &dyn Host,
        watcher: &mut dyn Watcher,
        command: &Command,
    ) -> anyhow::Result<Output> {
        lock::run_unlocked(host, watcher, self.program.name(), command, is_locked)
    }

    /// What was said of a package that no repository has.
    fn unknown_package<'o>(&self, output: &'o Output) -> Option<&'o str> {
        if self.program != Program::Yum {
            return line_with(output, &UNKNOWN_PACKAGE).filter(|_| !output.success());
        }
        // yum installs the others and succeeds where one of several packages is unknown.
        let mut lines = output.stdout.lines().chain(output.stderr.lines());
        lines
            .find(|line| line.starts_with("No package ") && line.ends_with(" available."))
            .or_else(|| line_with(output, &UNKNOWN_PACKAGE))
    }
}

fn failure(packages: &[String], command: &Command, output: Output) -> Failure {
    let signs = Signs {
        locked: &[],
        disk_full: &DISK_FULL,
        unreachable: &UNREACHABLE,
    };
    failures::failed(Trouble::told_by(&output, &signs), packages, command, output)
}

impl PackageManager for Yum {
    fn name(&self) -> &'static str {
        self.program.name()
    }

    fn package(&self, need: Need) -> Option<&'static str> {
        Some(match need {
            Need::Curl => "curl",
            Need::Autossh => "autossh",
            Need::OpensshClient => "openssh-clients",
            Need::Compiler => "gcc",
            Need::Make => "make",
            Need::LibcHeaders => "glibc-devel",
            Need::Tar => "tar",
        })
    }

    fn install_command(&self, packages: &[String]) -> Command {
        self.program.command("install", packages, &[])
    }

    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<()> {
        let before = rpm::inventory(host)?;
        let asked: Vec<&str> = packages.iter().map(|asked| package_name(asked)).collect();
        watcher.record(
            asked
                .iter()
                .filter(|name| before.iter().all(|there| there.name != **name))
                .map(|name| (*name).to_owned())
                .collect(),
        )?;
        let result = self.try_to_install(host, watcher, packages);
        // After a failure too: it may have come half-way.
        match rpm::inventory(host) {
            Ok(after) => watcher.record(rpm::added(&before, &after, &asked))?,
            Err(error) if result.is_ok() => return Err(error),
            Err(_) => {}
        }
        result
    }

    fn remove(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()> {
        let ours: Vec<String> = rpm::inventory(host)?
            .into_iter()
            .filter(|there| packages.contains(&there.id) || packages.contains(&there.name))
            .map(|there| there.id)
            .collect();
        rpm::erase(host, &ours)
    }

    fn extra_repository(&self) -> Option<&str> {
        self.epel.as_deref()
    }

    /// RHEL 6 and 7 as they were released know neither today's TLS versions nor today's authorities.
    fn renew_trust(&self) -> Option<Command> {
        let packages = ["nss", "curl", "ca-certificates"].map(str::to_owned);
        self.has_old_nss
            .then(|| self.program.command("update", &packages, &[]))
    }
}

/// The name of a package that is asked for by name or by the address of its file.
fn package_name(asked: &str) -> &str {
    match asked.rsplit_once('/') {
        // epel-release-latest-9.noarch.rpm
        Some((_, file)) => file.split_once("-latest").map_or(file, |(name, _)| name),
        None => asked,
    }
}

fn is_locked(output: &Output) -> bool {
    output.status == LOCKED_STATUS || (!output.success() && says(output, &LOCK_HELD))
}

/// The package that enables EPEL, as the EPEL project documents it for each distribution.
fn epel_release(id: &str, version: &str) -> Option<String> {
    let major = major(version);
    match id {
        // Fedora has autossh itself, and Amazon Linux is not what EPEL is built for.
        "fedora" | "amzn" => None,
        _ if major == 0 => None,
        "rhel" => Some(format!(
            "https://dl.fedoraproject.org/pub/epel/epel-release-latest-{major}.noarch.rpm"
        )),
        "ol" => Some(format!("oracle-epel-release-el{major}")),
        _ => Some("epel-release".to_owned()),
    }
}

/// The first number of a version; 0 where there is none.
fn major(version: &str) -> u32 {
    let end = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::failure::{OneLine, advice_of};
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::packages::{Witness, is_unknown_package};

    const RPM: &str = "sudo rpm -qa";
    const DNF: &str = "sudo env LC_ALL=C dnf install";
    const YUM: &str = "sudo env LC_ALL=C yum install";
    const MICRODNF: &str = "sudo env LC_ALL=C microdnf install";
    const BEFORE: &str = "glibc x86_64 2.34-60.el9 1700000000\n";
    const METADATA: &str = "Error: Failed to download metadata for repo 'third': Cannot download repomd.xml: Cannot download repodata/repomd.xml: All mirrors were tried";

    fn on(program: Program) -> Yum {
        Yum::for_removal(program)
    }

    /// Installs autossh and curl; every record that was made, and how it ended.
    fn install(manager: &Yum, host: &ScriptedHost) -> (Vec<Vec<String>>, anyhow::Result<()>) {
        let packages = ["curl", "autossh"].map(str::to_owned);
        let mut witness = Witness::default();
        let result = manager.install(host, &packages, &mut witness);
        (witness.records, result)
    }

    #[test]
    fn what_one_transaction_added_is_recorded_and_nothing_else() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(DNF, 0, "Complete!", "");
        // glibc was upgraded in the same transaction, and somebody else installed vim meanwhile.
        let after = "glibc x86_64 2.34-100.el9 1800000000\n\
                     autossh x86_64 1.4g-16.el9 1800000000\n\
                     libfoo x86_64 1-1.el9 1800000000\n\
                     curl x86_64 7.76-1.el9 1800000000\n\
                     gpg-pubkey (none) 3228467c-613798eb 1799999998\n\
                     vim-enhanced x86_64 8.2-1.el9 1799999990\n";
        host.expect(RPM, 0, after, "");
        let (records, result) = install(&on(Program::Dnf), &host);
        result.unwrap();
        assert_eq!(records[0], ["curl", "autossh"], "the record before");
        assert_eq!(
            records[1],
            [
                "autossh.x86_64",
                "libfoo.x86_64",
                "curl.x86_64",
                "gpg-pubkey-3228467c-613798eb"
            ]
        );
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn what_was_there_before_is_never_recorded() {
        let host = ScriptedHost::new();
        let there = format!("{BEFORE}curl x86_64 7.76-1.el9 1700000000\n");
        host.expect(RPM, 0, &there, "");
        host.expect(DNF, 0, "Complete!", "");
        let after = format!("{there}autossh x86_64 1.4g-16.el9 1800000000\n");
        host.expect(RPM, 0, &after, "");
        let (records, result) = install(&on(Program::Dnf), &host);
        result.unwrap();
        assert_eq!(records, [["autossh"], ["autossh.x86_64"]]);
    }

    #[test]
    fn a_package_that_no_repository_has_is_told_as_each_program_tells_it() {
        let said = [
            (
                Program::Dnf,
                DNF,
                1,
                "No match for argument: autossh\nError: Unable to find a match: autossh",
            ),
            (
                Program::Microdnf,
                MICRODNF,
                1,
                "error: No package matches 'autossh'",
            ),
            (Program::Yum, YUM, 0, "No package autossh available."),
            (
                Program::Yum,
                YUM,
                1,
                "No package autossh available.\nError: Nothing to do",
            ),
            (
                Program::Dnf,
                DNF,
                1,
                "Error: There are no enabled repositories in \"/etc/yum.repos.d\".",
            ),
        ];
        for (program, command, status, words) in said {
            let host = ScriptedHost::new();
            host.expect(RPM, 0, BEFORE, "");
            host.expect(command, status, "", words);
            host.expect(RPM, 0, BEFORE, "");
            let (records, result) = install(&on(program), &host);
            let error = result.unwrap_err();
            assert!(is_unknown_package(&error), "{words}: {error:#}");
            assert_eq!(records.last().unwrap(), &Vec::<String>::new());
        }
    }

    #[test]
    fn what_yum_installed_although_one_package_is_unknown_is_recorded() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(
            YUM,
            0,
            "No package autossh available.\nInstalled:\n  curl",
            "",
        );
        host.expect(RPM, 0, &format!("{BEFORE}curl x86_64 7-1 1800000000\n"), "");
        let (records, result) = install(&on(Program::Yum), &host);
        assert!(is_unknown_package(&result.unwrap_err()));
        assert_eq!(records[1], ["curl.x86_64"]);
    }

    #[test]
    fn one_broken_repository_does_not_stop_it() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(DNF, 1, "", METADATA);
        host.expect(DNF, 0, "Complete!", "");
        host.expect(
            RPM,
            0,
            &format!("{BEFORE}autossh x86_64 1 1800000000\n"),
            "",
        );
        install(&on(Program::Dnf), &host).1.unwrap();
        assert!(
            host.ran()[2].contains("--setopt=*.skip_if_unavailable=True"),
            "{:?}",
            host.ran()
        );
    }

    #[test]
    fn mirrors_that_cannot_be_reached_are_named_where_a_package_is_missing() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(DNF, 1, "", METADATA);
        host.expect(DNF, 1, "", "Error: Unable to find a match: curl autossh");
        host.expect(RPM, 0, BEFORE, "");
        let error = install(&on(Program::Dnf), &host).1.unwrap_err();
        assert!(error.to_string().contains("repo 'third'"), "{error:#}");
        assert!(advice_of(&error).unwrap().contains("mirror"));
        assert!(is_unknown_package(&error));
    }

    #[test]
    fn a_download_that_fails_is_told_with_its_cause() {
        let words = "Error: Error downloading packages:\n  Curl error (6): Could not resolve host: mirror.example";
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(MICRODNF, 1, "", words);
        host.expect(RPM, 0, BEFORE, "");
        let error = install(&on(Program::Microdnf), &host).1.unwrap_err();
        assert!(OneLine(&error).to_string().contains("mirror.example"));
        assert!(advice_of(&error).unwrap().contains("mirror"));
        assert!(!is_unknown_package(&error));
    }

    #[test]
    fn a_lock_is_waited_for_within_bounds() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        for _ in 0..lock::ATTEMPTS {
            host.expect(DNF, LOCKED_STATUS, "", "metadata already locked by 6400");
        }
        host.expect(RPM, 0, BEFORE, "");
        let error = install(&on(Program::Dnf), &host).1.unwrap_err();
        assert!(
            error.to_string().contains("lock for more than 2 minutes"),
            "{error}"
        );
        assert!(host.is_finished());
    }

    #[test]
    fn a_lock_that_is_given_up_is_no_failure() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(
            YUM,
            LOCKED_STATUS,
            "Another app is currently holding the yum lock; exiting as configured by exit_on_lock",
            "",
        );
        host.expect(YUM, 0, "Complete!", "");
        host.expect(RPM, 0, BEFORE, "");
        install(&on(Program::Yum), &host).1.unwrap();
    }

    #[test]
    fn a_full_disk_is_named() {
        let words = "Error: Transaction test error:\n  installing package gcc needs 40MB more space needed on the / filesystem";
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(DNF, 1, "", words);
        host.expect(RPM, 0, BEFORE, "");
        let error = install(&on(Program::Dnf), &host).1.unwrap_err();
        assert!(error.to_string().contains("disk is full"), "{error}");
    }

    #[test]
    fn removal_is_left_to_rpm_which_takes_nothing_else_along() {
        let host = ScriptedHost::new();
        host.expect(
            RPM,
            0,
            &format!("{BEFORE}autossh x86_64 1.4g-16.el9 1800000000\n"),
            "",
        );
        host.expect("sudo env LC_ALL=C rpm -e autossh.x86_64", 0, "", "");
        let recorded = ["autossh.x86_64", "gone.noarch"].map(str::to_owned);
        on(Program::Dnf).remove(&host, &recorded).unwrap();
        assert_eq!(host.ran()[1], "sudo env LC_ALL=C rpm -e autossh.x86_64");
    }

    #[test]
    fn epel_is_enabled_as_each_distribution_has_it() {
        let epel = |id, version| epel_release(id, version);
        assert_eq!(epel("rocky", "9.4").as_deref(), Some("epel-release"));
        assert_eq!(
            epel("ol", "8.10").as_deref(),
            Some("oracle-epel-release-el8")
        );
        assert_eq!(
            epel("rhel", "9.4").as_deref(),
            Some("https://dl.fedoraproject.org/pub/epel/epel-release-latest-9.noarch.rpm")
        );
        assert_eq!(epel("fedora", "42"), None);
        assert_eq!(epel("amzn", "2023"), None);
        assert_eq!(epel("centos", ""), None);
        assert_eq!(package_name(&epel("rhel", "9.4").unwrap()), "epel-release");
    }

    #[test]
    fn only_hosts_as_old_as_rhel_7_have_their_trust_renewed() {
        let yum = |program, version: &str| Yum {
            has_old_nss: program == Program::Yum && major(version) < 8,
            ..on(program)
        };
        let update = yum(Program::Yum, "7.9").renew_trust().unwrap().to_string();
        assert!(update.ends_with("nss curl ca-certificates"), "{update}");
        assert!(yum(Program::Yum, "2018.03").renew_trust().is_none());
        assert!(yum(Program::Dnf, "9.4").renew_trust().is_none());
    }
}
