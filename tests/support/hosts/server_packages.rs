//! The server's packages, made from the programs under test as `scripts/release` makes them from its own. They are
//! compressed less, and the programs are not optimized.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::process::Running;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(600);

/// Lays out `dist` as scripts/release does, and packs it for each version.
const PACK: &str = r#"
set -euo pipefail
work=$1 target=$2 bastion=$3 server=$4
shift 4
dist=$work/dist
source scripts/packaging.sh
source scripts/server-packaging.sh
# Who packs is no part of it.
umask 022
# Much of a program of a test is what a debugger reads.
for program in "$bastion" "$server"; do
    install -d "$dist/$target"
    strip -o "$dist/$target/${program##*/}" "$program"
done
export SOURCE_DATE_EPOCH=1750000000
deb_compression=(-Zgzip -z1)
rpm_compression=1
write_pages holistics-tunnel-server "$work/pages" "$target"
for version; do
    pack_server "$target" "$work/pages" "$work"
done
"#;

/// The packages of some versions of one program.
pub struct ServerPackages {
    folder: PathBuf,
}

impl ServerPackages {
    /// Makes them.
    pub fn make(workspace: &Workspace, versions: &[&str]) -> Self {
        let folder = workspace.folder("packages");
        let mut command = Command::new("bash");
        command
            .args(["-c", PACK, "pack"])
            .arg(&folder)
            .arg(target())
            .arg(env!("CARGO_BIN_EXE_holistics-tunnel"))
            .arg(env!("CARGO_BIN_EXE_holistics-tunnel-server"))
            .args(versions)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        Running::start(&mut command, &folder, "pack")
            .wait(LIMIT)
            .expect_code(0);
        ServerPackages { folder }
    }

    /// The .deb of this version.
    pub fn deb(&self, version: &str) -> PathBuf {
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        self.file(&format!(
            "holistics-tunnel-server_{version}_{architecture}.deb"
        ))
    }

    /// The .rpm of this version.
    pub fn rpm(&self, version: &str) -> PathBuf {
        let architecture = std::env::consts::ARCH;
        self.file(&format!(
            "holistics-tunnel-server-{version}-1.{architecture}.rpm"
        ))
    }

    fn file(&self, name: &str) -> PathBuf {
        let file = self.folder.join(name);
        assert!(Path::new(&file).exists(), "no {name} was made");
        file
    }
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
