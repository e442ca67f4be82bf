//! What this host is, found out once and before anything is decided.
//!
//! Nothing here changes the host. With another root than `/`, the facts are those of the host whose
//! files are there; no command is run then.

mod distribution;
pub mod os_release;
mod view;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::host::privilege::Privilege;
use super::host::{Command, Host};
use view::View;

/// The families of hosts, as far as setup treats them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Debian, Ubuntu and what derives from them.
    Debian,
    /// RHEL, its rebuilds, Fedora and Amazon Linux.
    Rhel,
    Macos,
    /// Everything else; the manual guide serves it.
    Unsupported,
}

/// By what a family is told that no name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FamilyBy {
    PackageManager,
}

/// The package managers setup can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageManagerKind {
    Apt,
    /// The RHEL family's since 8.
    Dnf,
    /// The RHEL family's on minimal images.
    Microdnf,
    /// The RHEL family's up to 7.
    Yum,
    Brew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    Systemd,
    /// Init scripts in `/etc/init.d`.
    Sysv,
    Launchd,
    /// Nothing: a container.
    None,
}

/// A program's place, and whether it can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Autossh {
    pub path: PathBuf,
    pub origin: AutosshOrigin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AutosshOrigin {
    Package,
    Homebrew,
    Compiled,
    /// A snap: confined, it can read neither the key nor the pinned host keys in `~/.holistics`.
    Snap,
}

/// The programs setup needs, where they are on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tools {
    pub ssh: Option<PathBuf>,
    pub ssh_keygen: Option<PathBuf>,
    pub curl: Option<PathBuf>,
    pub autossh: Option<Autossh>,
}

impl Tools {
    /// Whether nothing has to be installed.
    pub fn are_complete(&self) -> bool {
        let autossh = self.autossh.as_ref();
        let has_autossh = autossh.is_some_and(|autossh| autossh.origin != AutosshOrigin::Snap);
        self.ssh.is_some() && self.ssh_keygen.is_some() && self.curl.is_some() && has_autossh
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The distribution: `debian`, `rocky`, `macos`.
    pub id: String,
    /// Its version: `12`, `9.4`; empty for rolling distributions.
    pub version: String,
    /// Its name for people.
    pub name: String,
    pub family: Family,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family_by: Option<FamilyBy>,
    pub package_manager: Option<PackageManagerKind>,
    pub init: Init,
    /// The processor: `x86_64`, `aarch64`; unknown where another host's files do not tell.
    pub architecture: Option<String>,
    /// The C library: `glibc 2.36`; unknown on another host's files.
    pub libc: Option<String>,
    pub container: bool,
    /// Whether the system is an image that packages cannot be added to.
    pub read_only: bool,
    /// Whether only algorithms approved by FIPS 140 are allowed.
    pub fips: bool,
    /// Whether SELinux enforces its policy.
    pub selinux: bool,
    /// The way to the superuser's rights; unknown on another host's files.
    pub privilege: Option<Privilege>,
    pub tools: Tools,
    /// What `ssh -V` says; unknown on another host's files.
    pub openssh: Option<String>,
}

/// Finds out what the host under `root` is; `/` is this one.
pub fn probe(host: &dyn Host, root: &Path, privilege: Privilege) -> Facts {
    let view = View::new(host, root);
    let release = distribution::find(&view);
    let (family, family_by) = distribution::family(&view, &release);
    Facts {
        package_manager: package_manager(&view, family),
        init: init(&view, family),
        architecture: architecture(&view),
        libc: libc_version(&view),
        openssh: openssh_version(&view),
        container: is_container(&view),
        read_only: view.exists("run/ostree-booted"),
        fips: reads(&view, "proc/sys/crypto/fips_enabled", "1"),
        selinux: reads(&view, "sys/fs/selinux/enforce", "1"),
        privilege: view.is_this_host().then_some(privilege),
        tools: tools(&view),
        name: if release.pretty_name.is_empty() {
            format!("{} {}", release.id, release.version)
                .trim()
                .to_owned()
        } else {
            release.pretty_name
        },
        id: release.id,
        version: release.version,
        family,
        family_by,
    }
}

impl Facts {
    /// By what setup goes on a host whose distribution it does not know; a plan that is possible there says so.
    pub fn goes_by(&self) -> Option<String> {
        let found = match (self.family, self.family_by) {
            (Family::Unsupported, _) => {
                "ssh, curl and autossh, so that nothing has to be installed"
            }
            (Family::Debian, Some(_)) => "apt and dpkg, as on Debian",
            (_, Some(_)) => "rpm and its package manager, as in the Red Hat family",
            (_, None) => return None,
        };
        let init = match self.init {
            Init::None => "nothing that starts services".to_owned(),
            init => format!("{init:?}").to_lowercase(),
        };
        Some(format!(
            "setup does not know {} by name, and goes by what is here: {found}; {init}",
            self.name
        ))
    }
}

/// What starts services at boot on this host.
pub fn init_of(host: &dyn Host) -> Init {
    let view = View::new(host, Path::new("/"));
    let release = distribution::find(&view);
    init(&view, distribution::family(&view, &release).0)
}

fn package_manager(view: &View, family: Family) -> Option<PackageManagerKind> {
    let candidates: &[(&str, PackageManagerKind)] = match family {
        Family::Debian => &[("apt-get", PackageManagerKind::Apt)],
        Family::Rhel => &[
            ("dnf", PackageManagerKind::Dnf),
            ("microdnf", PackageManagerKind::Microdnf),
            ("yum", PackageManagerKind::Yum),
        ],
        Family::Macos => &[("brew", PackageManagerKind::Brew)],
        Family::Unsupported => &[],
    };
    candidates
        .iter()
        .find(|(program, _)| view.which(program).is_some())
        .map(|(_, kind)| *kind)
}

fn init(view: &View, family: Family) -> Init {
    if family == Family::Macos {
        return Init::Launchd;
    }
    // What systemd itself documents as the test for being run by it: sd_booted(3).
    if view.exists("run/systemd/system") || (!view.is_this_host() && is_systemd_image(view)) {
        return Init::Systemd;
    }
    let has_scripts = view.exists("etc/inittab") || view.exists("etc/rc.d/init.d/functions");
    let is_served = matches!(family, Family::Debian | Family::Rhel);
    if is_served && has_scripts && view.exists("sbin/init") && !is_systemd_image(view) {
        Init::Sysv
    } else {
        Init::None
    }
}

/// Whether systemd would be started if these files were booted.
fn is_systemd_image(view: &View) -> bool {
    view.resolve(Path::new("/sbin/init"))
        .is_some_and(|init| init.ends_with("systemd/systemd"))
}

fn tools(view: &View) -> Tools {
    Tools {
        ssh: view.which("ssh"),
        ssh_keygen: view.which("ssh-keygen"),
        curl: view.which("curl"),
        autossh: view.which("autossh").map(|path| Autossh {
            origin: origin(view, &path),
            path,
        }),
    }
}

/// Where the autossh at this path of this host came from.
pub fn autossh_origin(host: &dyn Host, path: &Path) -> AutosshOrigin {
    origin(&View::new(host, Path::new("/")), path)
}

fn origin(view: &View, path: &Path) -> AutosshOrigin {
    let resolved = view.resolve(path).unwrap_or_else(|| path.to_owned());
    let leads_through = |name: &str| {
        [path, &resolved]
            .iter()
            .any(|path| path.components().any(|part| part.as_os_str() == name))
    };
    // /snap/bin/autossh is a link to /usr/bin/snap.
    if leads_through("snap") {
        AutosshOrigin::Snap
    } else if leads_through("homebrew") || leads_through("Cellar") {
        AutosshOrigin::Homebrew
    } else if path.starts_with("/usr/local") {
        AutosshOrigin::Compiled
    } else {
        AutosshOrigin::Package
    }
}

fn architecture(view: &View) -> Option<String> {
    if view.is_this_host() {
        return Some(std::env::consts::ARCH.to_owned());
    }
    let marks = [
        ("opt/homebrew", "aarch64"),
        ("usr/local/Homebrew", "x86_64"),
        ("lib64/ld-linux-x86-64.so.2", "x86_64"),
        ("lib/ld-linux-aarch64.so.1", "aarch64"),
    ];
    marks
        .iter()
        .find(|(path, _)| view.exists(path))
        .map(|(_, architecture)| (*architecture).to_owned())
}

/// The marks of Podman, Docker, and whatever systemd knows of.
fn is_container(view: &View) -> bool {
    ["run/.containerenv", ".dockerenv", "run/systemd/container"]
        .iter()
        .any(|mark| view.exists(mark))
}

fn reads(view: &View, path: &str, value: &str) -> bool {
    view.read(path)
        .is_some_and(|content| String::from_utf8_lossy(&content).trim() == value)
}

fn libc_version(view: &View) -> Option<String> {
    if !view.is_this_host() || view.which("getconf").is_none() {
        return None;
    }
    let command = Command::new("getconf").arg("GNU_LIBC_VERSION");
    let output = view
        .host
        .run(&command)
        .ok()
        .filter(|output| output.success())?;
    Some(output.stdout.trim().to_owned()).filter(|version| !version.is_empty())
}

fn openssh_version(view: &View) -> Option<String> {
    if !view.is_this_host() {
        return None;
    }
    view.which("ssh")?;
    // OpenSSH prints its version to standard error, and so do others theirs.
    let output = view.host.run(&Command::new("ssh").arg("-V")).ok()?;
    let first = output.stderr.lines().next()?;
    let version = first.split([',', ' ']).next()?;
    let is_openssh = version.starts_with("OpenSSH_");
    Some(if is_openssh { version } else { first }.trim().to_owned()).filter(|said| !said.is_empty())
}
