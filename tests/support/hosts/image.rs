//! What hosts are booted from. `scripts/lab-images` makes it.

use std::path::{Path, PathBuf};

/// A kind of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Debian 12 with neither ssh nor curl nor autossh.
    Debian,
    /// Debian 12 with all three.
    DebianReady,
    /// A host of the Red Hat family.
    Rpm,
}

impl Image {
    /// The image's layers as overlayfs takes them, the uppermost first, joined by colons.
    pub fn layers(self) -> String {
        let name = match self {
            Image::Debian => "debian",
            Image::DebianReady => "debian-ready",
            Image::Rpm => "rpm",
        };
        let layers = std::fs::read_to_string(product(name).join("layers")).expect("its layers");
        let folders: Vec<String> = layers
            .trim()
            .split(':')
            .map(|layer| product(layer).join("layer").display().to_string())
            .collect();
        folders.join(":")
    }
}

/// A folder that `scripts/lab-images` made.
///
/// # Panics
/// It was not.
pub fn product(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel"));
    // The programs are in a folder of the profile, say `target/debug`; a cross build has one more.
    let lab = program
        .ancestors()
        .map(|folder| folder.join("lab"))
        .find(|lab| lab.join("lock").exists());
    let product = lab.unwrap_or_default().join(name);
    assert!(
        product.exists(),
        "the lab has no {name}: run scripts/lab-images as root on Linux"
    );
    product
}
