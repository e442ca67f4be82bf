//! The program under test, as a host can run it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::image::{Image, lab};
use crate::support::process::Running;
use crate::support::workspace::Workspace;

/// Everything is compiled a second time, when it is done for the first time.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// The program for a host with this image.
pub fn for_image(image: Image, workspace: &Workspace) -> PathBuf {
    if image.has_older_libc() {
        statically_linked(&workspace.folder("program"))
    } else {
        env!("CARGO_BIN_EXE_holistics-tunnel").into()
    }
}

/// A folder from which a server hands out this program for machines like this one.
pub fn offered(program: &Path, workspace: &Workspace) -> PathBuf {
    let folder = workspace.folder("offered");
    let of_target = folder.join(target());
    std::fs::create_dir_all(&of_target).expect("a folder");
    std::os::unix::fs::symlink(program, of_target.join("holistics-tunnel")).expect("a link");
    folder
}

/// The bastion's program as it is now, with its C library in it, as releases have theirs.
fn statically_linked(logs: &Path) -> PathBuf {
    let folder = lab().expect("scripts/lab-images has run").join("static");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args("build --locked --no-default-features --features bastion".split(' '))
        .args(["--bin", "holistics-tunnel", "--target", &target()])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    Running::start(&mut cargo, logs, "cargo")
        .wait(BUILD_LIMIT)
        .expect_code(0);
    folder.join(target()).join("debug/holistics-tunnel")
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
