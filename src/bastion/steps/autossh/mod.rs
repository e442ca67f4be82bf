//! autossh where no package brought it: compiled from its source.
//!
//! The user compiles; root only puts the one program in place. What was installed to compile with
//! is removed once it has done its work: a bastion has no use for a compiler.

pub mod build;
pub mod folder;
pub mod installed;
pub mod source;

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::packages::install;
use super::{Outcome, PlannedCommand, Proofs, Step, StepName};
use crate::bastion::change::{Change, UndoReason};
use crate::bastion::failure::{Failure, is_interruption};
use crate::bastion::host::{Authority, Effect, Host, HostExt};
use crate::bastion::layout::Layout;
use crate::bastion::packages::{BUILD_NEEDS, Need, PackageManager};
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;
use crate::bastion::ui::Event;
use source::{Source, VERSION};

pub struct Autossh {
    pub layout: Layout,
    /// The host's package manager, which may have a package after all.
    pub manager: Option<Box<dyn PackageManager>>,
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
            Some(_) => {
                format!("If no repository has autossh: compile autossh {VERSION} from its source")
            }
            None => format!("Compile autossh {VERSION} from its source"),
        }
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        let mut commands = Vec::new();
        if let Some(manager) = &self.manager {
            let tools = manager.packages(&BUILD_NEEDS);
            if !tools.is_empty() {
                let install = manager.install_command(&tools);
                let install = PlannedCommand::from(install);
                commands.push(install.only("only what is missing"));
            }
        }
        commands.push(source::fetch_line(&self.source).into());
        let folder = self.layout.build_dir();
        let build = build::commands(&folder, Path::new("/usr/bin/ssh"));
        commands.extend(build.into_iter().map(PlannedCommand::from));
        let install = PlannedCommand::from(Effect::Write {
            path: self.layout.compiled_autossh(),
            mode: 0o755,
            authority: self.layout.system_authority(),
        });
        commands.push(match self.manager {
            Some(_) => install.only("if no repository has it"),
            None => install,
        });
        commands
    }

    fn needs_root(&self) -> bool {
        let manager = self.manager.as_deref();
        manager.is_some_and(PackageManager::needs_root)
            || self.layout.system_authority() == Authority::Root
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        self.source.check(host)?;
        proofs.could_not_see(
            "whether autossh can be compiled",
            "it is tried only where no repository has it",
        );
        if self.manager.is_none() && installed::find(host, &self.layout).is_none() {
            check_tools(&missing_tools(host))?;
        }
        Ok(())
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let host = work.host();
        if let Some(path) = installed::find(host, &self.layout) {
            let version = version(host, &path)?;
            let path = path.display();
            return Ok(Outcome::AlreadyPresent(format!("{path} ({version})")));
        }
        let folder = folder::make(work, &self.layout)?;
        let archive = self.fetch(work)?;
        self.install_tools(work)?;
        let program = self.compile(work, &folder, &archive)?;
        self.install(work, &program)?;
        remove_tools(work)?;
        folder::remove(host, &folder)?;
        work.forget(StepName::Autossh, &folder::change(&folder))?;
        // Only now is it certain that it does not rely on anything that was removed.
        let path = self.layout.compiled_autossh();
        let version = version(host, &path)?;
        let path = path.display();
        Ok(Outcome::Changed(format!("{version}, compiled: {path}")))
    }
}

impl Autossh {
    fn fetch(&self, work: &StepContext) -> anyhow::Result<Vec<u8>> {
        let (ui, what) = (work.run.ui, &format!("autossh {VERSION}"));
        ui.progress(&format!("fetching the {what} source"));
        self.source.fetch(work.host(), &|bytes, total| {
            ui.show(&Event::Download { what, bytes, total });
        })
    }

    fn install_tools(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let missing = missing_tools(work.host());
        if missing.is_empty() {
            return Ok(());
        }
        let Some(manager) = &self.manager else {
            return check_tools(&missing);
        };
        let tools = manager.packages(&missing);
        if tools.len() < missing.len() {
            return check_tools(&missing);
        }
        let doing = format!("installing {} to compile autossh", tools.join(", "));
        work.run.ui.progress(&doing);
        install(work, manager.as_ref(), &tools).context(
            "no repository has autossh, and the tools to compile it cannot be installed",
        )?;
        check_tools(&missing_tools(work.host()))
    }

    fn compile(
        &self,
        work: &mut StepContext,
        folder: &Path,
        archive: &[u8],
    ) -> anyhow::Result<Vec<u8>> {
        let host = work.host();
        work.run
            .ui
            .progress(&format!("compiling autossh {VERSION}"));
        let path = self.layout.build_log();
        let log = Change::FileCreated {
            path: path.clone(),
            authority: Authority::User,
        };
        work.record(log.clone())?;
        let result = build::compile(host, folder, archive, &path);
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
        .expect(&installed::version(&autossh.to_string_lossy()))
        .with_context(|| {
            Failure::new(
                format!("{} is installed but does not run", autossh.display()),
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
    ensure!(
        missing.is_empty(),
        Failure::new(
            format!(
                "autossh is not installed and cannot be compiled here: missing {}",
                missing.join(", ")
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
        work.run.ui.progress("removing the build tools");
        match change.undo(work.run, Scope::Host, UndoReason::Rollback) {
            Ok(()) => work.forget(StepName::Autossh, &change)?,
            Err(error) if is_interruption(&error) => return Err(error),
            // autossh is there all the same.
            Err(error) => work
                .run
                .ui
                .note(&format!("The build tools stay installed: {error:#}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::control_plane::Given;
    use crate::bastion::failure::{OneLine, advice_of};
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::packages::by_name;
    use crate::bastion::packages::test_support::answers;
    use crate::bastion::run::Run;
    use crate::bastion::ui::Ui;

    const ARCHIVE: &[u8] = include_bytes!("../../../../tests/data/autossh-1.4g.tgz");
    const CARRIED_IN: &str = "/home/ada/autossh.tgz";
    const BUILD: &str = "/home/ada/.holistics/build";
    const PROBE: &str = "/home/ada/.holistics/build/probe";
    const COMPILE: &str = "LC_ALL=C sh -e /home/ada/.holistics/build/build.sh";
    const RPM: &str = "sudo rpm -qa";
    const INSTALL: &str = "sudo env LC_ALL=C dnf install";
    const ERASE: &str = "sudo env LC_ALL=C rpm -e gcc.x86_64 glibc-devel.x86_64 cpp.x86_64";
    const BEFORE: &str = "glibc x86_64 2.34 1\n";
    const WITH_COMPILER: &str =
        "glibc x86_64 2.34 1\ngcc x86_64 11 2\nglibc-devel x86_64 2.34 2\ncpp x86_64 11 2\n";

    fn make_dirs(host: &ScriptedHost, dirs: &[&str]) {
        for dir in dirs {
            host.create_dir(Path::new(dir), 0o755, Authority::User)
                .unwrap();
        }
    }

    fn write(host: &ScriptedHost, path: &str, content: &[u8]) {
        host.write(Path::new(path), content, 0o600, Authority::User)
            .unwrap();
    }

    /// A host with the archive, the folders of setup and everything that is always there.
    fn host() -> ScriptedHost {
        let host = ScriptedHost::new();
        make_dirs(&host, &["/var", "/var/tmp", "/usr", "/usr/include"]);
        make_dirs(
            &host,
            &["/home/ada/.holistics", "/home/ada/.holistics/logs"],
        );
        write(&host, CARRIED_IN, ARCHIVE);
        for program in ["ssh", "tar", "make"] {
            host.install(program);
        }
        host
    }

    fn apply(host: &ScriptedHost, then: impl FnOnce(anyhow::Result<Outcome>, &mut Run)) {
        let ui = Ui::new(false, true, true);
        let layout = Layout::new(host, Path::new("/"));
        let step = Autossh {
            layout: layout.clone(),
            manager: Some(by_name("dnf").unwrap()),
            source: Source::File(CARRIED_IN.into()),
        };
        let mut run = Run::begin(host, &ui, layout, Given::default()).unwrap();
        let result = step.apply(&mut run.context(Scope::Host, StepName::Autossh));
        then(result, &mut run);
        assert!(host.is_finished());
    }

    /// The compiler is installed, and everything is ready to compile.
    fn compiler_comes(host: &ScriptedHost) {
        let commands = [
            (PROBE, 0, "", ""),
            (RPM, 0, BEFORE, ""),
            (INSTALL, 0, "", ""),
        ];
        answers(host, &commands);
        host.doing(|host| {
            host.install("gcc");
            write(host, "/usr/include/stdio.h", b"");
        });
        host.expect(RPM, 0, WITH_COMPILER, "");
    }

    fn compiler_goes(host: &ScriptedHost) {
        answers(host, &[(RPM, 0, WITH_COMPILER, ""), (ERASE, 0, "", "")]);
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

    #[test]
    fn the_compiler_comes_and_goes_and_the_program_stays() {
        let host = host();
        compiler_comes(&host);
        host.expect(COMPILE, 0, "made", "");
        host.doing(|host| write(host, "/home/ada/.holistics/build/autossh", b"program"));
        compiler_goes(&host);
        rm_build(&host);
        host.expect("/usr/local/bin/autossh -M 0 -V", 0, "autossh 1.4g\n", "");
        apply(&host, |result, run| {
            let said = "autossh 1.4g, compiled: /usr/local/bin/autossh";
            assert_eq!(result.unwrap(), Outcome::Changed(said.into()));
            let program = Path::new("/usr/local/bin/autossh");
            assert_eq!(host.read(program).unwrap(), b"program");
            let left = &run.receipt.steps[0].changes;
            let is_packages = |change: &Change| matches!(change, Change::PackagesInstalled { .. });
            assert!(!left.iter().any(is_packages), "{left:?}");
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
        compiler_comes(&host);
        let error = "configure: error: no acceptable C compiler";
        host.expect(COMPILE, 1, "checking", error);
        apply(&host, |result, run| {
            let error = result.unwrap_err();
            assert_eq!(error.to_string(), "could not compile autossh");
            assert!(advice_of(&error).unwrap().contains("autossh-build.log"));
            compiler_goes(&host);
            rm_build(&host);
            run.undo_made(None).unwrap();
            let log = run.layout.build_log();
            let said = String::from_utf8(host.read(&log).unwrap()).unwrap();
            assert!(said.contains("no acceptable C compiler"), "{said}");
            host.remove_file(&log, Authority::User).unwrap();
        });
        let ours = |path: &String| !path.contains(".holistics/") && !path.contains("stdio.h");
        let now: Vec<String> = host.paths().into_iter().filter(ours).collect();
        assert_eq!(now, before.into_iter().filter(ours).collect::<Vec<_>>());
    }

    #[test]
    fn a_disk_that_is_full_is_named_and_not_the_build() {
        let host = host();
        compiler_comes(&host);
        let error = "tar: CHANGES: Cannot write: No space left on device";
        host.expect(COMPILE, 2, "", error);
        apply(&host, |result, _| {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("the disk is full"), "{error}");
            assert!(advice_of(&error).unwrap().contains("free some space"));
        });
    }

    #[test]
    fn a_compiler_that_cannot_be_installed_is_told_with_the_reason() {
        let host = host();
        let unknown = "Error: Unable to find a match: gcc glibc-devel";
        let commands = [
            (PROBE, 0, "", ""),
            (RPM, 0, BEFORE, ""),
            (INSTALL, 1, "", unknown),
            (RPM, 0, BEFORE, ""),
        ];
        answers(&host, &commands);
        apply(&host, |result, run| {
            let said = OneLine(&result.unwrap_err()).to_string();
            assert!(said.contains("no repository has autossh"), "{said}");
            assert!(said.contains("Unable to find a match: gcc"), "{said}");
            rm_build(&host);
            run.undo_made(None).unwrap();
        });
    }

    #[test]
    fn a_host_that_lets_no_program_run_is_told_before_a_compiler_is_installed() {
        let host = host();
        let other = "/var/tmp/holistics-build-0";
        host.expect(PROBE, 126, "", "Permission denied");
        rm_build(&host);
        host.expect(&format!("{other}/probe"), 126, "", "Permission denied");
        host.expect(&format!("rm -rf {other}"), 0, "", "");
        apply(&host, |result, _| {
            let said = OneLine(&result.unwrap_err()).to_string();
            assert!(said.contains("noexec"), "{said}");
        });
    }
}
