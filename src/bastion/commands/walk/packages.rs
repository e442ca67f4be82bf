//! The same on a host whose package manager brings autossh.

use std::path::Path;

use super::{Bastion, REMOVE, SETUP, having_run, killed_twice, said, walk_from};
use crate::bastion::commands::in_memory::make_dir;
use crate::bastion::host::{Authority, HostExt as _, Output};

/// Where dpkg's list of packages is, here: there once autossh is installed.
const INSTALLED: &str = "/var/lib/dpkg/autossh";

fn without_autossh() -> Bastion {
    let bastion = Bastion::new();
    let host = &bastion.host;
    host.uninstall("autossh");
    for dir in [
        "/usr",
        "/usr/bin",
        "/var/lib",
        "/var/lib/dpkg",
        "/var/lib/apt",
        "/var/lib/apt/lists",
    ] {
        make_dir(host, dir);
    }
    let lists = Path::new("/var/lib/apt/lists/mirror_Packages");
    host.write(lists, b"", 0o644, Authority::Root).unwrap();
    for program in ["dpkg-query", "dpkg-divert", "dpkg"] {
        host.install(program);
    }
    host.on("LC_ALL=C apt-get install --simulate", |host, _| {
        let is_there = host.exists(Path::new(INSTALLED));
        said(
            if is_there {
                ""
            } else {
                "Inst autossh (1.4g Debian)\n"
            },
            "",
        )
    });
    host.on("LC_ALL=C apt-get purge --simulate", |_, _| {
        said("Purg autossh [1.4g]\n", "")
    });
    host.on("LC_ALL=C dpkg-divert", |_, _| Output::default());
    host.on("dpkg-query -W", |host, _| {
        let is_there = host.exists(Path::new(INSTALLED));
        said(if is_there { "ii |autossh\n" } else { "" }, "")
    });
    host.on(
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get install",
        |host, _| {
            match host.write(Path::new(INSTALLED), b"", 0o644, Authority::Root) {
                Ok(()) => host.install("autossh"),
                // It was ended before it came to that.
                Err(_) => return super::failed(),
            }
            Output::default()
        },
    );
    host.on(
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get purge",
        |host, _| {
            host.uninstall("autossh");
            let _ = host.remove_file(Path::new(INSTALLED), Authority::Root);
            Output::default()
        },
    );
    host.on("/usr/bin/autossh -M 0 -V", |_, _| {
        said("autossh 1.4g\n", "")
    });
    bastion
}

#[test]
fn a_setup_that_installs_packages_comes_to_the_same_end_after_any_fault() {
    walk_from(&without_autossh, SETUP, &|_, _| {});
    killed_twice(&without_autossh, SETUP);
}

#[test]
fn a_removal_after_it_leaves_the_packages_after_any_fault() {
    walk_from(
        &|| having_run(without_autossh(), &[SETUP]),
        REMOVE,
        &|_, _| {},
    );
}
