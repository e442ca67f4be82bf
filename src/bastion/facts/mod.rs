//! What this host is, found out once and before anything is decided.
//!
//! Nothing here changes the host. With another root than `/`, the facts are those of the host whose
//! files are there; no command is run then.

pub mod os_release;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::host::privilege::Privilege;
use super::host::{Command, Host, HostExt};
use os_release::OsRelease;

/// The families of hosts, as far as setup treats them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Debian, Ubuntu and what derives from them.
    Debian,
    /// RHEL, its rebuilds, Fedora and Amazon Linux.
    Rhel,
    /// macOS.
    Macos,
    /// Everything else; the manual guide serves it.
    Unsupported,
}

/// The package managers setup can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageManagerKind {
    /// Debian's.
    Apt,
    /// The RHEL family's since 8.
    Dnf,
    /// The RHEL family's on minimal images.
    Microdnf,
    /// The RHEL family's up to 7.
    Yum,
    /// Homebrew.
    Brew,
}

/// What starts services at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// systemd.
    Systemd,
    /// Init scripts in `/etc/init.d`.
    Sysv,
    /// macOS's launchd.
    Launchd,
    /// Nothing: a container.
    None,
}

/// A program's place, and whether it can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Autossh {
    /// Where it is.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: AutosshOrigin,
}

/// Where an autossh came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AutosshOrigin {
    /// A package, Homebrew, or compiled: all of them can be used.
    Native,
    /// A snap: confined, it can read neither the key nor the pinned host keys in `~/.holistics`.
    Snap,
}

/// The programs setup needs, where they are on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tools {
    /// OpenSSH's client.
    pub ssh: Option<PathBuf>,
    /// OpenSSH's key generator.
    pub ssh_keygen: Option<PathBuf>,
    /// curl.
    pub curl: Option<PathBuf>,
    /// autossh.
    pub autossh: Option<Autossh>,
}

/// What this host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The distribution: `debian`, `rocky`, `macos`.
    pub id: String,
    /// Its version: `12`, `9.4`; empty for rolling distributions.
    pub version: String,
    /// Its name for people.
    pub name: String,
    /// Its family.
    pub family: Family,
    /// The package manager to use.
    pub package_manager: Option<PackageManagerKind>,
    /// What starts services at boot.
    pub init: Init,
    /// The processor: `x86_64`, `aarch64`.
    pub architecture: String,
    /// The way to the superuser's rights.
    pub privilege: Privilege,
    /// The programs found.
    pub tools: Tools,
    /// What `ssh -V` says; unknown on another host's files.
    pub openssh: Option<String>,
}

/// A host's files: this host's, or those under another root.
struct View<'a> {
    host: &'a dyn Host,
    root: &'a Path,
}

/// Where programs stand below another root.
const PROGRAM_DIRS: [&str; 7] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
    "opt/homebrew/bin",
];

impl View<'_> {
    fn is_this_host(&self) -> bool {
        self.root == Path::new("/")
    }

    fn exists(&self, relative: &str) -> bool {
        self.host.exists(&self.root.join(relative))
    }

    fn read(&self, relative: &str) -> Option<Vec<u8>> {
        self.host.read(&self.root.join(relative)).ok()
    }

    fn which(&self, program: &str) -> Option<PathBuf> {
        if self.is_this_host() {
            return self.host.which(program);
        }
        PROGRAM_DIRS
            .iter()
            .map(|dir| self.root.join(dir).join(program))
            .find(|path| self.host.exists(path))
    }
}

/// Finds out what the host under `root` is; `/` is this one.
pub fn probe(host: &dyn Host, root: &Path, privilege: Privilege) -> Facts {
    let view = View { host, root };
    let release = distribution(&view);
    let family = family(&release);
    Facts {
        package_manager: package_manager(&view, family),
        init: init(&view, family),
        architecture: std::env::consts::ARCH.to_owned(),
        privilege,
        tools: tools(&view),
        openssh: openssh_version(&view),
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
    }
}

fn distribution(view: &View) -> OsRelease {
    ["etc/os-release", "usr/lib/os-release"]
        .iter()
        .filter_map(|path| view.read(path))
        .map(|content| os_release::parse(&content))
        .find(|release| !release.id.is_empty())
        .unwrap_or_else(|| without_os_release(view))
}

/// Hosts without os-release. os_info knows them by other marks, on this host only.
fn without_os_release(view: &View) -> OsRelease {
    if !view.is_this_host() {
        return OsRelease {
            id: "unknown".to_owned(),
            ..OsRelease::default()
        };
    }
    let info = os_info::get();
    OsRelease {
        id: match info.os_type() {
            os_info::Type::Macos => "macos".to_owned(),
            os_info::Type::CentOS => "centos".to_owned(),
            os_info::Type::RedHatEnterprise => "rhel".to_owned(),
            os_info::Type::Debian => "debian".to_owned(),
            other => other.to_string().to_ascii_lowercase(),
        },
        id_like: Vec::new(),
        version: info.version().to_string(),
        pretty_name: info.to_string(),
    }
}

fn family(release: &OsRelease) -> Family {
    let names = std::iter::once(&release.id).chain(&release.id_like);
    for name in names {
        match name.as_str() {
            "debian" | "ubuntu" | "raspbian" | "linuxmint" | "pop" | "kali" | "devuan" => {
                return Family::Debian;
            }
            "rhel" | "centos" | "fedora" | "rocky" | "almalinux" | "ol" | "amzn" => {
                return Family::Rhel;
            }
            "macos" => return Family::Macos,
            _ => {}
        }
    }
    Family::Unsupported
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
        Init::Launchd
    } else if view.exists("run/systemd/system") {
        // What systemd itself documents as the test for being run by it: sd_booted(3).
        Init::Systemd
    } else if view.exists("etc/inittab")
        || view.exists("etc/rc.d/rc")
        || view.exists("etc/init/rc.conf")
    {
        Init::Sysv
    } else {
        Init::None
    }
}

fn tools(view: &View) -> Tools {
    Tools {
        ssh: view.which("ssh"),
        ssh_keygen: view.which("ssh-keygen"),
        curl: view.which("curl"),
        autossh: view.which("autossh").map(|path| Autossh {
            origin: autossh_origin(view.host, &path),
            path,
        }),
    }
}

/// Where the autossh at this path came from.
pub fn autossh_origin(host: &dyn Host, path: &Path) -> AutosshOrigin {
    let resolved = host.resolve(path).unwrap_or_else(|_| path.to_owned());
    let is_snap = [path, &resolved].iter().any(|path| {
        // /snap/bin/autossh is a link to /usr/bin/snap.
        path.components().any(|part| part.as_os_str() == "snap") || path.ends_with("snap")
    });
    if is_snap {
        AutosshOrigin::Snap
    } else {
        AutosshOrigin::Native
    }
}

fn openssh_version(view: &View) -> Option<String> {
    if !view.is_this_host() {
        return None;
    }
    view.which("ssh")?;
    // OpenSSH prints its version to standard error.
    let output = view.host.run(&Command::new("ssh").arg("-V")).ok()?;
    output
        .stderr
        .split([',', ' '])
        .next()
        .map(|version| version.trim().to_owned())
}
