//! What hosts are booted from. `scripts/lab-images` makes it.

use std::path::{Path, PathBuf};

/// A kind of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Debian 12 with neither ssh nor curl nor autossh.
    Debian,
    /// Debian 12, with systemd 252, and all three.
    DebianReady,
    /// Debian 11, with systemd 247, and all three.
    Bullseye,
    /// Debian 13, with systemd 257, and all three.
    Trixie,
    /// The Debian to come, with a systemd that reads no init scripts, and all three.
    Sid,
    /// Debian 12 with SysV's init, and all three.
    Sysvinit,
    /// Debian 12 with all three, and with bindfs, a file system in user space.
    Fuse,
    /// Debian 12 with doas in the place of sudo, and all three.
    Doas,
    /// Debian 13 with sudo-rs in the place of sudo, and all three.
    SudoRs,
    /// A host of the Red Hat family.
    Rpm,
}

/// What a host's first process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd.
    Systemd,
    /// SysV's init.
    Sysv,
}

impl Image {
    /// The image's layers as overlayfs takes them, the uppermost first, joined by colons.
    pub fn layers(self) -> String {
        let layers = product(self.name()).join("layers");
        let layers = std::fs::read_to_string(layers).expect("its layers");
        let folders: Vec<String> = layers
            .trim()
            .split(':')
            .map(|layer| product(layer).join("layer").display().to_string())
            .collect();
        folders.join(":")
    }

    /// What its first process is.
    pub fn init(self) -> Init {
        match self {
            Image::Sysvinit => Init::Sysv,
            _ => Init::Systemd,
        }
    }

    /// Whether the package mirror is for it.
    pub fn is_debian_12(self) -> bool {
        matches!(
            self,
            Image::Debian | Image::DebianReady | Image::Sysvinit | Image::Fuse
        )
    }

    /// Whether its C library is older than the one that this machine's programs are linked to.
    pub fn has_older_libc(self) -> bool {
        self == Image::Bullseye
    }

    fn name(self) -> &'static str {
        match self {
            Image::Debian => "debian",
            Image::DebianReady => "debian-ready",
            Image::Bullseye => "bullseye",
            Image::Trixie => "trixie",
            Image::Sid => "sid",
            Image::Sysvinit => "sysvinit",
            Image::Fuse => "fuse",
            Image::Doas => "doas",
            Image::SudoRs => "sudo-rs",
            Image::Rpm => "rpm",
        }
    }
}

impl Init {
    /// A line of shell that ends with 0 once the host is up.
    pub fn is_up(self) -> &'static str {
        match self {
            Init::Systemd => {
                "case $(systemctl is-system-running) in running | degraded) ;; *) exit 1 ;; esac"
            }
            // The run level is reached when its scripts begin; `rc` runs them.
            Init::Sysv => "[ \"$(/sbin/runlevel)\" = 'N 2' ] && ! pgrep --exact rc",
        }
    }
}

/// A folder that `scripts/lab-images` made.
///
/// # Panics
/// It was not.
pub fn product(name: &str) -> PathBuf {
    let product = lab().unwrap_or_default().join(name);
    assert!(
        product.exists(),
        "the lab has no {name}: run scripts/lab-images as root on Linux"
    );
    product
}

/// Where `scripts/lab-images` makes what it makes.
pub fn lab() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel"));
    // The programs are in a folder of the profile, say `target/debug`; a cross build has one more.
    program
        .ancestors()
        .map(|folder| folder.join("lab"))
        .find(|lab| lab.join("lock").exists())
}
