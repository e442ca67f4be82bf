//! Takes russh's source as cargo has fetched and checked it, and makes the changes of `changes.rs`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

mod changes;

/// The published crate, as cargo names its folder.
const PUBLISHED: &str = concat!("russh-", env!("CARGO_PKG_VERSION"));

/// Where the published crate lies, if it is not where cargo keeps what it fetches.
const OVERRIDE: &str = "RUSSH_SOURCE";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=changes.rs");
    if let Err(error) = run() {
        // Cargo shows this, and not a backtrace, as the reason.
        println!("cargo::error={error}");
    }
}

fn run() -> Result<(), String> {
    let source = published()?.join("src");
    println!("cargo:rerun-if-changed={}", source.display());
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR, and it is not set")?;
    let target = PathBuf::from(out_dir).join("russh");
    copy(&source, &target).map_err(|e| format!("cannot copy {}: {e}", source.display()))?;
    changes::ALL
        .iter()
        .try_for_each(|change| make(change, &target))
}

fn make(change: &changes::Change, target: &Path) -> Result<(), String> {
    let path = target.join(change.file);
    let failed = |e: io::Error| format!("cannot change {}: {e}", path.display());
    let text = fs::read_to_string(&path).map_err(failed)?;
    match text.matches(change.published).count() {
        1 => fs::write(&path, text.replace(change.published, change.ours)).map_err(failed),
        found => Err(format!(
            "russh-patched/changes.rs does not fit {PUBLISHED}: in src/{} the text to be changed \
             ({}) stands {found} times and not once: {:?}. russh-patched/README.md says how to \
             move to another version.",
            change.file, change.why, change.published
        )),
    }
}

/// The folder of the published crate.
fn published() -> Result<PathBuf, String> {
    println!("cargo:rerun-if-env-changed={OVERRIDE}");
    println!("cargo:rerun-if-env-changed=CARGO_HOME");
    if let Some(folder) = env::var_os(OVERRIDE) {
        let folder = PathBuf::from(folder);
        return if folder.join("src/lib_inner.rs").is_file() { Ok(folder) } else { Err(format!(
                "{OVERRIDE} is {}, which holds no source of russh",
                folder.display()
            )) };
    }
    let cargo_home = match (env::var_os("CARGO_HOME"), env::var_os("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => PathBuf::from(home).join(".cargo"),
        (None, None) => return Err("neither CARGO_HOME nor HOME is set".to_owned()),
    };
    let registries = cargo_home.join("registry/src");
    fs::read_dir(&registries)
        .into_iter()
        .flatten()
        .flatten()
        .map(|registry| registry.path().join(PUBLISHED))
        .find(|folder| folder.is_dir())
        .ok_or_else(|| {
            format!(
                "{PUBLISHED} is in no folder of {}. With vendored sources, set {OVERRIDE} to the \
                 folder of russh among them, say $PWD/vendor/russh",
                registries.display()
            )
        })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            // Read and written, since a copy would keep the registry's mode, which may be read-only.
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
