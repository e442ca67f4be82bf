//! autossh where no package brought it: compiled from its source.
//!
//! The user compiles; root only puts the one program in place. What was installed to compile with
//! goes again once it has done its work: a bastion has no use for a compiler.

pub mod folder;
pub mod installed;

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::{Outcome, Step, StepName, packages as packages_step};
use crate::bastion::change::{Change, UndoReason};

use crate::bastion::failure::{Failure, is_interruption};
use crate::bastion::host::{Authority, Command, Host, HostExt};
use crate::bastion::layout::Layout;
use crate::bastion::packages::build::{self, Build};
use crate::bastion::packages::source::{self, Source, VERSION};
use crate::bastion::packages::{BUILD_NEEDS, Need, PackageManager};
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;
use crate::bastion::ui::Event;

/// The step.
pub struct Autossh {
    /// The paths.
    pub layout: Layout,
    /// The host's package manager, which may have a package after all.
    pub manager: Option<Box<dyn PackageManager>>,
    /// Where the source comes from.
    pub source: Source,
}

impl Step for Autossh {
    fn name(&self) -> StepName {
        StepName::Autossh
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        match self.manager {
            Some(_) => format!(
                "Or else, where no repository has autossh: compile autossh {VERSION} from its source"
            ),
            None => format!("Compile autossh {VERSION} from its source"),
        }
    }

    fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        if let Some(manager) = &self.manager {
            let tools = packages_step::names(manager.as_ref(), &BUILD_NEEDS);
            if !tools.is_empty() {
                commands.push(format!(
                    "{} (what is missing of it)",
                    manager.install_command(&tools)
                ));
            }
        }
        commands.push(source::fetch_line(&self.source));
        let dir = self.layout.build_dir();
        commands.extend(
            build::stages(&dir, Path::new("/usr/bin/ssh"))
                .iter()
                .map(|(_, command)| command.to_string()),
        );
        commands.push(format!(
            "install -m 0755 {} {}",
            dir.join("autossh").display(),
            self.layout.compiled_autossh().display()
        ));
        commands
    }

    fn needs_root(&self) -> bool {
        let by_manager = self
            .manager
            .as_ref()
            .is_some_and(|manager| manager.install_command(&[]).authority == Authority::Root);
        by_manager || self.layout.system_authority() == Authority::Root
    }

    fn prove(&self, host: &dyn Host) -> anyhow::Result<()> {
        self.source.check(host)?;
        if self.manager.is_none() && installed::find(host, &self.layout).is_none() {
            check_tools(&missing_tools(host))?;
        }
        Ok(())
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let host = work.host();
        if let Some(path) = installed::find(host, &self.layout) {
            let version = version(host, &path)?;
            return Ok(Outcome::AlreadyPresent(format!(
                "{} ({version})",
                path.display()
            )));
        }
        let dir = folder::make(work, &self.layout)?;
        work.run
            .ui
            .progress(&format!("fetching the source of autossh {VERSION}"));
        let archive = self.source.fetch(host, &|done, total| {
            work.run.ui.show(&Event::Download {
                what: &format!("autossh {VERSION}"),
                bytes: done,
                total,
            });
        })?;
        self.install_tools(work)?;
        work.run
            .ui
            .progress(&format!("compiling autossh {VERSION}"));
        let program = self.compile(work, &dir, &archive)?;
        self.install(work, &program)?;
        remove_tools(work)?;
        build::remove_folder(host, &dir)?;
        work.forget(StepName::Autossh, &folder::change(&dir))?;
        // Only now is it certain that it does not rely on anything that was removed.
        let path = self.layout.compiled_autossh();
        let version = version(host, &path)?;
        Ok(Outcome::Changed(format!(
            "{version}, compiled: {}",
            path.display()
        )))
    }
}

impl Autossh {
    fn install_tools(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let host = work.host();
        let missing = missing_tools(host);
        if missing.is_empty() {
            return Ok(());
        }
        let Some(manager) = &self.manager else {
            return check_tools(&missing);
        };
        let tools = packages_step::names(manager.as_ref(), &missing);
        if tools.len() < missing.len() {
            return check_tools(&missing);
        }
        work.run.ui.progress(&format!(
            "installing {} to compile autossh",
            tools.join(", ")
        ));
        packages_step::install(work, manager.as_ref(), &tools).context(
            "no repository has autossh, and what it is compiled with cannot be installed",
        )?;
        check_tools(&missing_tools(host))
    }

    fn compile(
        &self,
        work: &mut StepContext,
        dir: &Path,
        archive: &[u8],
    ) -> anyhow::Result<Vec<u8>> {
        let host = work.host();
        let ssh = host.which("ssh").context("ssh is no longer installed")?;
        let log = Change::FileCreated {
            path: self.layout.build_log(),
            authority: Authority::User,
        };
        work.record(log.clone())?;
        let result = Build::new(host, dir, &self.layout.build_log()).compile(archive, &ssh);
        if let Err(error) = &result
            && !is_interruption(error)
        {
            // What explains the failure outlives the rollback. A receipt that cannot be written now is
            // written by the rollback; on a full disk, that comes after space was made.
            let _ = work.forget(StepName::Autossh, &log);
        }
        result
    }

    fn install(&self, work: &mut StepContext, program: &[u8]) -> anyhow::Result<()> {
        let authority = self.layout.system_authority();
        for dir in ["usr", "usr/local", "usr/local/bin"] {
            work.create_dir(&self.layout.system(dir), 0o755, authority)?;
        }
        work.write_file(&self.layout.compiled_autossh(), program, 0o755, authority)?;
        Ok(())
    }
}

/// Runs it: the proof that it can be used.
fn version(host: &dyn Host, autossh: &Path) -> anyhow::Result<String> {
    let output = host
        .expect(&Command::new(autossh.to_string_lossy()).arg("-V"))
        .with_context(|| {
            Failure::new(
                format!("{} is there and does not run", autossh.display()),
                "remove it, or install another autossh; then run the same command again",
            )
        })?;
    Ok(output.stdout.trim().to_owned())
}

fn missing_tools(host: &dyn Host) -> Vec<Need> {
    BUILD_NEEDS
        .into_iter()
        .filter(|need| !need.is_met(host))
        .collect()
}

fn check_tools(missing: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&str> = missing.iter().map(|need| need.name()).collect();
    let missing = missing.join(", ");
    ensure!(
        missing.is_empty(),
        Failure::new(
            format!(
                "autossh is not installed and cannot be compiled here: {missing} cannot be found"
            ),
            "install autossh by hand, or what is missing (on macOS: `xcode-select --install`), then run the same command again",
        )
    );
    Ok(())
}

/// Removes what was installed to compile with, also by an earlier run that died.
fn remove_tools(work: &mut StepContext) -> anyhow::Result<()> {
    let recorded = work.run.changes_of(Scope::Host, StepName::Autossh);
    for change in recorded {
        if !matches!(change, Change::PackagesInstalled { .. }) {
            continue;
        }
        work.run
            .ui
            .progress("removing what was installed to compile with");
        match change.undo(work.run, Scope::Host, UndoReason::Rollback) {
            Ok(()) => work.forget(StepName::Autossh, &change)?,
            Err(error) if is_interruption(&error) => return Err(error),
            // autossh is there all the same.
            Err(error) => work.run.ui.note(&format!(
                "What was installed to compile with stays: {error:#}"
            )),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::failure::{OneLine, advice_of};
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::run::Run;
    use crate::bastion::ui::Ui;

    const ARCHIVE: &[u8] = include_bytes!("../../../../tests/data/autossh-1.4g.tgz");
    const CARRIED_IN: &str = "/home/ada/autossh.tgz";
    const BUILD: &str = "/home/ada/.holistics/build";
    const PROBE: &str = "/home/ada/.holistics/build/probe";
    const RPM: &str = "sudo rpm -qa";
    const INSTALL: &str = "sudo env LC_ALL=C dnf install";
    const THERE: &str = "glibc x86_64 2.34 1\n";

    /// A host with the archive, the folders of setup and everything that is always there.
    fn host() -> ScriptedHost {
        let host = ScriptedHost::new();
        for dir in [
            "/var",
            "/var/tmp",
            "/usr",
            "/home/ada/.holistics",
            "/home/ada/.holistics/logs",
        ] {
            host.create_dir(Path::new(dir), 0o755, Authority::User)
                .unwrap();
        }
        host.write(Path::new(CARRIED_IN), ARCHIVE, 0o600, Authority::User)
            .unwrap();
        for program in ["ssh", "tar", "make"] {
            host.install(program);
        }
        host
    }

    fn step(host: &ScriptedHost) -> Autossh {
        Autossh {
            layout: Layout::new(host, Path::new("/")),
            manager: Some(crate::bastion::packages::by_name("dnf").unwrap()),
            source: Source::File(CARRIED_IN.into()),
        }
    }

    fn apply(host: &ScriptedHost, then: impl FnOnce(anyhow::Result<Outcome>, &mut Run)) {
        let ui = Ui::new(false, true, true);
        let step = step(host);
        let layout = Layout::new(host, std::path::Path::new("/"));
        let mut run = Run::begin(host, &ui, layout, None).unwrap();
        let result = step.apply(&mut run.context(Scope::Host, StepName::Autossh));
        then(result, &mut run);
        assert!(host.is_finished());
    }

    /// The compiler is installed, and everything is ready to compile.
    fn compiler_comes(host: &ScriptedHost) -> String {
        host.expect(PROBE, 0, "", "");
        host.expect(RPM, 0, THERE, "");
        host.expect(INSTALL, 0, "", "");
        host.doing(|host| {
            host.install("gcc");
            host.create_dir(Path::new("/usr/include"), 0o755, Authority::Root)
                .unwrap();
            host.write(
                Path::new("/usr/include/stdio.h"),
                b"",
                0o644,
                Authority::Root,
            )
            .unwrap();
        });
        let after = format!("{THERE}gcc x86_64 11 2\nglibc-devel x86_64 2.34 2\ncpp x86_64 11 2\n");
        host.expect(RPM, 0, &after, "");
        host.expect("LC_ALL=C tar -xzf", 0, "", "");
        after
    }

    fn rm_build(host: &ScriptedHost) {
        host.expect(&format!("rm -rf {BUILD}"), 0, "", "");
        host.doing(|host| {
            let dir = Path::new(BUILD);
            for name in host.list(dir).unwrap() {
                host.remove_file(&dir.join(name), Authority::User).unwrap();
            }
            host.remove_dir(dir, Authority::User).unwrap();
        });
    }

    fn erase_compiler(host: &ScriptedHost, after: &str) {
        host.expect(RPM, 0, after, "");
        host.expect(
            "sudo env LC_ALL=C rpm -e gcc.x86_64 glibc-devel.x86_64 cpp.x86_64",
            0,
            "",
            "",
        );
    }

    #[test]
    fn the_compiler_comes_and_goes_and_the_program_stays() {
        let host = host();
        let after = compiler_comes(&host);
        host.expect("LC_ALL=C sh -c", 0, "configured", "");
        host.expect("LC_ALL=C make -C", 0, "made", "");
        host.doing(|host| {
            let program = Path::new(BUILD).join("autossh");
            host.write(&program, b"program", 0o755, Authority::User)
                .unwrap();
        });
        erase_compiler(&host, &after);
        rm_build(&host);
        host.expect("/usr/local/bin/autossh -V", 0, "autossh 1.4g\n", "");
        apply(&host, |result, run| {
            let said = "autossh 1.4g, compiled: /usr/local/bin/autossh";
            assert_eq!(result.unwrap(), Outcome::Changed(said.into()));
            let program = Path::new("/usr/local/bin/autossh");
            assert_eq!(host.read(program).unwrap(), b"program");
            let left: Vec<&Change> = run.receipt.steps[0].changes.iter().collect();
            assert!(
                !left
                    .iter()
                    .any(|change| matches!(change, Change::PackagesInstalled { .. })),
                "{left:?}"
            );
            run.undo_made(None).unwrap();
            assert!(!host.exists(program));
            assert!(!host.exists(Path::new("/usr/local")));
            assert!(!host.exists(&run.layout.build_log()));
        });
    }

    #[test]
    fn a_build_that_fails_is_undone_but_for_its_log() {
        let host = host();
        let before = host.paths();
        let after = compiler_comes(&host);
        host.expect(
            "LC_ALL=C sh -c",
            77,
            "checking",
            "configure: error: no acceptable C compiler",
        );
        apply(&host, |result, run| {
            let error = result.unwrap_err();
            assert!(
                error.to_string().contains("could not be compiled"),
                "{error}"
            );
            assert!(advice_of(&error).unwrap().contains("autossh-build.log"));
            erase_compiler(&host, &after);
            rm_build(&host);
            run.undo_made(None).unwrap();
            let log = run.layout.build_log();
            let said = String::from_utf8(host.read(&log).unwrap()).unwrap();
            assert!(said.contains("no acceptable C compiler"), "{said}");
            host.remove_file(&log, Authority::User).unwrap();
        });
        let ours = |path: &String| !path.contains(".holistics/") && !path.contains("/usr/include");
        let now: Vec<String> = host.paths().into_iter().filter(ours).collect();
        assert_eq!(now, before.into_iter().filter(ours).collect::<Vec<_>>());
    }

    #[test]
    fn a_compiler_that_cannot_be_had_is_told_with_the_reason() {
        let host = host();
        host.expect(PROBE, 0, "", "");
        host.expect(RPM, 0, THERE, "");
        host.expect(
            INSTALL,
            1,
            "",
            "Error: Unable to find a match: gcc glibc-devel",
        );
        host.expect(RPM, 0, THERE, "");
        apply(&host, |result, run| {
            let error = result.unwrap_err();
            let said = OneLine(&error).to_string();
            assert!(said.contains("no repository has autossh"), "{said}");
            assert!(said.contains("Unable to find a match: gcc"), "{said}");
            rm_build(&host);
            run.undo_made(None).unwrap();
        });
    }

    #[test]
    fn a_host_that_lets_no_program_run_is_told_before_a_compiler_is_installed() {
        let host = host();
        host.expect(PROBE, 126, "", "Permission denied");
        rm_build(&host);
        host.expect(
            "/var/tmp/holistics-build-0/probe",
            126,
            "",
            "Permission denied",
        );
        host.expect("rm -rf /var/tmp/holistics-build-0", 0, "", "");
        apply(&host, |result, _| {
            let said = OneLine(&result.unwrap_err()).to_string();
            assert!(said.contains("noexec"), "{said}");
        });
    }
}
