//! What a receipt may have root do. The user can write the receipt, and so can whatever runs as the user:
//! root does only what this program can have made it do before.

use std::path::Path;

use anyhow::ensure;

use super::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::Authority;
use crate::bastion::layout::Layout;

/// The permissions of the system's files that this program writes.
const MODES: [u32; 2] = [0o644, 0o755];

/// Refuses what this program cannot have done.
pub(super) fn check(change: &Change, layout: &Layout) -> anyhow::Result<()> {
    match change {
        Change::FileCreated { path, authority } | Change::DirectoryCreated { path, authority } => {
            check_path(path, *authority, layout)
        }
        Change::FileModified {
            path,
            authority,
            mode,
            ..
        } => {
            check_path(path, *authority, layout)?;
            ensure!(
                *authority == Authority::User || MODES.contains(mode),
                refused(&format!("give {} the mode {mode:o}", path.display()))
            );
            Ok(())
        }
        Change::ServiceReplaced { script, kept, .. } => {
            check_path(script, Authority::Root, layout)?;
            check_path(kept, Authority::Root, layout)
        }
        Change::PackagesInstalled {
            packages,
            configured,
            ..
        } => {
            for package in packages.iter().chain(configured) {
                ensure!(
                    is_package(package),
                    refused(&format!("remove the package {package:?}"))
                );
            }
            Ok(())
        }
        Change::ServiceInstalled
        | Change::ServiceTunnelStarted
        | Change::TargetChanged { .. }
        | Change::PlaceChanged { .. }
        | Change::TunnelRestarted { .. }
        | Change::TunnelRenamed { .. }
        | Change::KeyRotation { .. }
        | Change::KeyAnnounced
        | Change::KeySwitched { .. }
        | Change::MasterStarted { .. }
        | Change::KeyRegistered => Ok(()),
    }
}

fn check_path(path: &Path, authority: Authority, layout: &Layout) -> anyhow::Result<()> {
    ensure!(
        authority == Authority::User || layout.is_system_path(path),
        refused(&format!("change {}", path.display()))
    );
    Ok(())
}

/// A name that no package manager takes for an option, a file or an address.
fn is_package(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+._~:-@".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_plain)
}

fn refused(what: &str) -> Failure {
    Failure::new(
        format!("the receipt asks root to {what}, which holistics-tunnel never does"),
        "somebody has changed ~/.holistics/receipt.json: look who, restore it from a backup or move it aside, \
         and remove by hand what is left",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    fn is_refused(change: Change) -> bool {
        let layout = Layout::new(&ScriptedHost::new(), Path::new("/"));
        check(&change, &layout).is_err()
    }

    fn created(path: &str, authority: Authority) -> Change {
        Change::FileCreated {
            path: path.into(),
            authority,
        }
    }

    #[test]
    fn root_touches_the_service_s_own_files_and_nothing_else() {
        for path in [
            "/etc/shadow",
            "/etc/h_autossh/../shadow",
            "/etc/h_autossh/x/y.env",
            "/etc/systemd/system/sshd.service",
            "/etc/systemd/system/h_autossh@x.service.d/../../sshd.service",
            "/usr/local/bin/sudo",
            "/",
            "etc/init.d/h_autossh",
        ] {
            assert!(is_refused(created(path, Authority::Root)), "{path}");
        }
        for path in [
            "/etc/h_autossh",
            "/etc/h_autossh/bi.example.com-7.env",
            "/etc/h_autossh/7.env",
            "/etc/systemd/system/h_autossh.service",
            "/etc/systemd/system/h_autossh@.service",
            "/etc/systemd/system/h_autossh@bi.example.com-7.service.d/tunnel.conf",
            "/etc/init.d/h_autossh",
            "/Library/LaunchDaemons/io.holistics.h_autossh.bi.example.com-7.plist",
            "/usr/local/bin/autossh",
        ] {
            assert!(!is_refused(created(path, Authority::Root)), "{path}");
        }
    }

    #[test]
    fn no_setuid_file_and_no_option_in_a_package_s_place() {
        let modified = |mode| Change::FileModified {
            path: "/usr/local/bin/autossh".into(),
            authority: Authority::Root,
            former: String::new(),
            mode,
        };
        assert!(is_refused(modified(0o4755)));
        assert!(!is_refused(modified(0o755)));
        let package = |name: &str| Change::PackagesInstalled {
            manager: "apt".to_owned(),
            packages: vec![name.to_owned()],
            configured: Vec::new(),
        };
        for name in ["", "-o=Dir", "/tmp/x.deb", "a b", "$(id)"] {
            assert!(is_refused(package(name)), "{name}");
        }
        assert!(!is_refused(package("libc6:amd64")));
    }
}
