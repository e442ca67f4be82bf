//! The files by which a distribution is known: they may hold anything.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use holistics_tunnel::bastion::fuzzing;
use tempfile::TempDir;

use crate::fields::fields;

const FILES: [&str; 4] = [
    "etc/os-release",
    "usr/lib/os-release",
    "etc/redhat-release",
    "System/Library/CoreServices/SystemVersion.plist",
];

static ROOT: LazyLock<TempDir> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("there is room for a folder");
    for file in FILES {
        let folder = Path::new(file).parent().expect("each is in a folder");
        fs::create_dir_all(root.path().join(folder)).expect("there is room for a folder");
    }
    root
});

pub fn run(input: &[u8]) {
    for (file, content) in FILES.iter().zip(fields::<4>(input)) {
        let file = ROOT.path().join(file);
        if content.is_empty() {
            drop(fs::remove_file(file));
        } else {
            fs::write(file, content).expect("there is room for a file");
        }
    }
    let facts = fuzzing::facts(ROOT.path());
    for name in ["id", "version", "name"] {
        let value = facts[name].as_str().expect("it is a text");
        // It is shown at a terminal.
        assert!(!value.chars().any(char::is_control), "{name} is {value:?}");
    }
}
