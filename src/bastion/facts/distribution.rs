//! Which distribution a host runs, and to which family that belongs.

use super::os_release::{self, OsRelease};
use super::view::View;
use super::{Family, FamilyBy};

/// Finds the distribution: os-release, then the marks of hosts that are older than it, then macOS.
pub fn find(view: &View) -> OsRelease {
    ["etc/os-release", "usr/lib/os-release"]
        .iter()
        .filter_map(|path| view.read(path))
        .map(|content| os_release::parse(&content))
        .find(|release| !release.id.is_empty())
        .or_else(|| red_hat_release(view))
        .or_else(|| macos(view))
        .unwrap_or_else(|| unmarked(view))
        .printable()
}

/// The family: by `ID` first, then by what the distribution says it is like, and where none of these names
/// is known, by the package manager that is there.
pub fn family(view: &View, release: &OsRelease) -> (Family, Option<FamilyBy>) {
    if view.exists("run/ostree-booted") {
        // /usr is read-only there; packages are layered and need a reboot.
        return (Family::Unsupported, None);
    }
    let mut names = std::iter::once(&release.id).chain(&release.id_like);
    if let Some(family) = names.find_map(|name| family_of(name)) {
        return (family, None);
    }
    match family_of_package_manager(view) {
        Some(family) => (family, Some(FamilyBy::PackageManager)),
        None => (Family::Unsupported, None),
    }
}

/// Package managers that setup does not use. One that is there may be the host's own, whatever else is
/// installed beside it.
const OTHERS: [&str; 9] = [
    "apk",
    "emerge",
    "nix-env",
    "opkg",
    "pacman",
    "swupd",
    "tdnf",
    "xbps-install",
    "zypper",
];

/// A package manager with what it installs packages by; nothing where several families' are there.
fn family_of_package_manager(view: &View) -> Option<Family> {
    let has = |program: &&str| view.which(program).is_some();
    let is_debian = ["apt-get", "dpkg"].iter().all(has);
    let is_rhel = has(&"rpm") && ["dnf", "microdnf", "yum"].iter().any(has);
    match (is_debian, is_rhel, OTHERS.iter().any(has)) {
        (true, false, false) => Some(Family::Debian),
        (false, true, false) => Some(Family::Rhel),
        _ => None,
    }
}

fn family_of(name: &str) -> Option<Family> {
    match name {
        "debian" | "ubuntu" | "raspbian" | "linuxmint" | "pop" | "kali" | "devuan" => {
            Some(Family::Debian)
        }
        "rhel" | "centos" | "fedora" | "rocky" | "almalinux" | "ol" | "amzn" | "scientific" => {
            Some(Family::Rhel)
        }
        "macos" => Some(Family::Macos),
        _ => None,
    }
}

/// `CentOS release 6.10 (Final)`: RHEL 6 and its rebuilds have no os-release.
fn red_hat_release(view: &View) -> Option<OsRelease> {
    let content = ["etc/redhat-release", "etc/system-release"]
        .iter()
        .find_map(|path| view.read(path))?;
    let text = String::from_utf8_lossy(&content);
    let line = text.lines().next()?.trim().trim_start_matches('\u{feff}');
    let (name, rest) = line.split_once(" release ")?;
    let id = match name {
        "CentOS" | "CentOS Linux" => "centos",
        "Scientific Linux" => "scientific",
        _ if name.starts_with("Red Hat") => "rhel",
        _ => return None,
    };
    Some(OsRelease {
        id: id.to_owned(),
        id_like: vec!["rhel".to_owned()],
        version: rest
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
        pretty_name: line.to_owned(),
    })
}

fn macos(view: &View) -> Option<OsRelease> {
    let content = view.read("System/Library/CoreServices/SystemVersion.plist")?;
    let text = String::from_utf8_lossy(&content);
    let version = plist_string(&text, "ProductVersion")?;
    Some(OsRelease {
        id: "macos".to_owned(),
        id_like: Vec::new(),
        pretty_name: format!("macOS {version}"),
        version: version.to_owned(),
    })
}

/// The text after a key. The file is Apple's own and always of the same shape; where it is not,
/// the host is unknown and nothing worse.
fn plist_string<'a>(plist: &'a str, key: &str) -> Option<&'a str> {
    let (_, after) = plist.split_once(&format!("<key>{key}</key>"))?;
    let (_, value) = after.split_once("<string>")?;
    let (value, _) = value.split_once("</string>")?;
    Some(value.trim()).filter(|value| !value.is_empty() && !value.contains('<'))
}

/// os_info knows further marks, and reads only the host it runs on.
fn unmarked(view: &View) -> OsRelease {
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
            os_info::Type::Debian => "debian".to_owned(),
            other => other.to_string().to_ascii_lowercase(),
        },
        id_like: Vec::new(),
        version: info.version().to_string(),
        pretty_name: info.to_string(),
    }
}
