//! A disk so small that a test can fill it. Needs root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In memory, mounted on a folder while this lives.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Three MiB on this folder, which is made.
    pub fn mount(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("the folder");
        let options = ["-t", "tmpfs", "-o", "size=3m,mode=700", "small-disk"];
        let mounted = Command::new("mount").args(options).arg(folder).status();
        assert!(mounted.expect("mount").success());
        SmallDisk(folder.to_owned())
    }

    /// Leaves no byte on it.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        for block in [&[0; 4096][..], &[0]] {
            while file.write_all(block).is_ok() {}
        }
    }

    /// Takes away what filled it.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("somebody-elses")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
