//! What dpkg knows of its packages: which are there, and which it could not finish.

use std::path::Path;

use anyhow::Context as _;

use super::failures::Trouble;
use crate::bastion::host::{Command, Host, HostExt as _, Output};
use crate::bastion::processes;

/// How many lines of a package's own script are told.
const SAID_LINES: usize = 4;
/// Where dpkg keeps what it has not yet entered in its list of packages.
const UPDATES: &str = "/var/lib/dpkg/updates";

/// A package that dpkg knows.
struct Package {
    name: String,
    /// dpkg-query(1), `db:Status-Abbrev`: the second letter, and whether the third says that something is wrong.
    state: char,
    needs_reinstallation: bool,
}

impl Package {
    fn read(line: &str) -> Option<Self> {
        let (status, name) = line.split_once('|')?;
        let mut letters = status.chars();
        Some(Package {
            name: name.trim().to_owned(),
            state: letters.nth(1)?,
            needs_reinstallation: letters.next() == Some('R'),
        })
    }

    /// Where packages of several architectures may stand beside each other, the name has its own.
    fn is_called(&self, name: &str) -> bool {
        let rest = self.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    /// Installed, if with work left that does not keep anybody from using it (triggers).
    fn is_installed(&self) -> bool {
        matches!(self.state, 'i' | 'W' | 't') && !self.needs_reinstallation
    }

    fn is_unfinished(&self) -> bool {
        self.needs_reinstallation || matches!(self.state, 'H' | 'U' | 'F')
    }
}

/// All packages that dpkg knows.
pub(super) struct Packages(Vec<Package>);

impl Packages {
    pub(super) fn query() -> Command {
        Command::new("dpkg-query")
            .args(["-W", "-f", "${db:Status-Abbrev}|${binary:Package}\\n"])
            // What it is asked for is to be known even if the run is interrupted now.
            .atomic()
    }

    pub(super) fn of(host: &dyn Host) -> anyhow::Result<Self> {
        let output = host
            .expect(&Self::query())
            .context("cannot list the packages")?;
        let packages = output.stdout.lines().filter_map(Package::read);
        Ok(Packages(packages.collect()))
    }

    pub(super) fn is_installed(&self, name: &str) -> bool {
        let mut packages = self.0.iter();
        packages.any(|package| package.is_called(name) && package.is_installed())
    }

    /// Whether anything of it is there: that it was only half installed, or only its configuration, counts.
    pub(super) fn has_anything_of(&self, name: &str) -> bool {
        self.has_any(name, |state| state != 'n')
    }

    /// The same where its configuration does not count.
    pub(super) fn has_programs_of(&self, name: &str) -> bool {
        self.has_any(name, |state| !matches!(state, 'n' | 'c'))
    }

    /// Whether only its configuration is there, as an earlier installation has left it.
    pub(super) fn has_configuration_of(&self, name: &str) -> bool {
        self.has_any(name, |state| state == 'c')
    }

    fn has_any(&self, name: &str, is_meant: fn(char) -> bool) -> bool {
        let mut packages = self.0.iter();
        packages.any(|package| package.is_called(name) && is_meant(package.state))
    }

    /// The packages that dpkg could not finish, and how that is repaired; `added` are those that setup adds.
    pub(super) fn unfinished(&self, added: &[String]) -> Option<Unfinished> {
        let all = || self.0.iter().filter(|package| package.is_unfinished());
        let is_ours = |package: &&Package| added.iter().any(|name| package.is_called(name));
        // What is only unpacked waits for others, unless there are none.
        let is_cause = |package: &&Package| package.state != 'U' || package.needs_reinstallation;
        let names = |packages: Vec<&Package>| -> Vec<String> {
            packages
                .iter()
                .map(|package| package.name.clone())
                .collect()
        };
        let ours = names(all().filter(is_ours).filter(is_cause).collect());
        if !ours.is_empty() {
            let next = format!(
                "run `sudo apt-get install {}` yourself to see it fail, and fix what it names",
                ours.join(" ")
            );
            return Some(Unfinished { names: ours, next });
        }
        let others = |is: &dyn Fn(&&Package) -> bool| {
            let others = all().filter(|package| !is_ours(package));
            names(others.filter(|package| is(package)).collect())
        };
        let half_there = others(&|package| package.needs_reinstallation);
        let failed = others(&is_cause);
        let waiting = others(&|_| true);
        let (names, repair) = if !half_there.is_empty() {
            let joined = half_there.join(" ");
            let repair = format!(
                "install {joined} once more (`sudo apt-get install --reinstall {joined}`), or, where no repository has \
                 it any more, remove it (`sudo dpkg --remove --force-remove-reinstreq {joined}`)"
            );
            (half_there, repair)
        } else if !failed.is_empty() {
            let joined = failed.join(", ");
            let repair = format!(
                "run `sudo dpkg --configure -a` to see why {joined} fails, and fix or remove it"
            );
            (failed, repair)
        } else if !waiting.is_empty() {
            (waiting, "run `sudo apt-get -f install`".to_owned())
        } else {
            return None;
        };
        Some(Unfinished {
            names,
            next: repair,
        })
    }
}

/// Packages that dpkg could not finish.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub names: Vec<String>,
    /// How that is repaired.
    pub next: String,
}

impl Unfinished {
    /// What is told of them; with what their own scripts said, as far as the output of apt shows it.
    pub(super) fn trouble(self, output: &Output) -> Trouble {
        let said = self.said(&format!("{}\n{}", output.stdout, output.stderr));
        let are = if self.names.len() == 1 { "is" } else { "are" };
        let names = self.names.join(", ");
        let what = match said.as_slice() {
            [] => format!("{names} {are} not fully installed"),
            _ => format!("{names} {are} not fully installed ({})", said.join("; ")),
        };
        Trouble {
            what,
            next: self.next,
        }
    }

    fn said(&self, output: &str) -> Vec<String> {
        let mut said = Vec::new();
        for name in &self.names {
            let begins = [
                format!("Setting up {name} ("),
                format!("Setting up {name}:"),
            ];
            let error = format!("dpkg: error processing package {name}");
            let lines = output.lines().map(str::trim);
            let script = lines
                .skip_while(|line| !begins.iter().any(|begin| line.starts_with(begin.as_str())))
                .skip(1)
                .take_while(|line| !line.starts_with(&error) && !line.starts_with("Setting up "))
                .filter(|line| !line.is_empty())
                .take(SAID_LINES);
            said.extend(script.map(str::to_owned));
        }
        said
    }
}

/// A dpkg that was ended in the middle of its work, after which apt refuses everything. While one is at
/// work, it looks the same.
pub(super) fn interrupted(host: &dyn Host) -> Option<Trouble> {
    let is_left = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let names = host.list(Path::new(UPDATES)).unwrap_or_default();
    let is_running = || {
        let processes = processes::all(host).unwrap_or_default();
        processes.iter().any(|process| process.runs("dpkg"))
    };
    if !names.iter().any(is_left) || is_running() {
        return None;
    }
    Some(Trouble {
        what: "dpkg was interrupted on this host, and apt installs nothing until that is finished"
            .to_owned(),
        next: "run `sudo dpkg --configure -a`".to_owned(),
    })
}

pub(super) fn list_diversions(programs: &[&str]) -> Command {
    Command::new("dpkg-divert")
        .env("LC_ALL", "C")
        .arg("--list")
        .args(programs.iter().map(|program| format!("/usr/bin/{program}")))
}

/// A program of these that the host's administrator has moved aside for good: a package brings it under the
/// other name.
pub(super) fn diverted(host: &dyn Host, programs: &[&str]) -> anyhow::Result<Option<Trouble>> {
    let output = host.run(&list_diversions(programs))?;
    let mut diversions = output.stdout.lines().filter_map(|line| {
        let (from, to) = line.strip_prefix("local diversion of ")?.split_once(" to ")?;
        Some(Trouble {
            what: format!("dpkg puts a package's {from} aside as {to} on this host (a local diversion)"),
            next: format!(
                "put a program in its place, or end the diversion (`sudo dpkg-divert --rename --remove {from}`)"
            ),
        })
    });
    Ok(diversions.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(lines: &str) -> Packages {
        Packages(lines.lines().filter_map(Package::read).collect())
    }

    #[test]
    fn what_is_there_is_told_apart_from_what_can_be_used() {
        let packages =
            packages("ii |autossh\niF |curl\nic |make\nit |libc6:amd64\nun |gcc\nhi |tar\n");
        for (name, is_installed, has_anything) in [
            ("autossh", true, true),
            ("curl", false, true),
            ("make", false, true),
            ("libc6", true, true),
            ("gcc", false, false),
            ("auto", false, false),
        ] {
            assert_eq!(packages.is_installed(name), is_installed, "{name}");
            assert_eq!(packages.has_anything_of(name), has_anything, "{name}");
        }
        assert_eq!(
            packages.unfinished(&["curl".to_owned()]).unwrap().names,
            ["curl"]
        );
    }

    #[test]
    fn the_package_that_stands_in_the_way_is_named_and_not_those_that_wait_for_it() {
        for (lines, names, next) in [
            ("iF |agent\niU |autossh\n", "agent", "dpkg --configure -a"),
            (
                "iF |agent\niF |autossh\n",
                "autossh",
                "apt-get install autossh",
            ),
            ("iU |agent\nii |autossh\n", "agent", "apt-get -f install"),
            (
                "iHR|agent\niF |other\n",
                "agent",
                "force-remove-reinstreq agent",
            ),
        ] {
            let unfinished = packages(lines).unfinished(&["autossh".to_owned()]).unwrap();
            assert_eq!(unfinished.names.join(", "), names, "{lines}");
            assert!(unfinished.next.contains(next), "{unfinished:?}");
        }
        assert_eq!(
            packages("ii |agent\niU |autossh\n").unfinished(&["autossh".to_owned()]),
            None
        );
    }

    #[test]
    fn what_a_package_s_own_script_said_is_found_in_dpkg_s_output() {
        let output = "Setting up libpsl5:amd64 (0.21) ...\nSetting up agent (1.0) ...\ncannot start\n\
                      dpkg: error processing package agent (--configure):\n installed agent package \
                      post-installation script subprocess returned error exit status 1\n";
        let unfinished = packages("iF |agent\n").unfinished(&[]).unwrap();
        assert_eq!(unfinished.said(output), ["cannot start"]);
    }
}
