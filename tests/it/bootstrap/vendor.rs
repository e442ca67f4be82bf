//! A vendor with a stand-in for the program, which shows what a script does with it.

use std::path::PathBuf;

use holistics_tunnel::protocol::DataSource;
use tempfile::TempDir;

use crate::bootstrap::{content, fetched, url_of};
use crate::support::bastion::Bastion;
use crate::support::server::{Operator, Server};

/// It keeps its arguments and what it reads.
const STAND_IN: &str = "#!/bin/sh
[ \"$1\" != --version ] || exit 0
printf '%s\\n' \"$@\" >\"$HOME/arguments\"
cat >\"$HOME/input\"
";

/// A folder from which a server hands out a program for this machine.
pub struct Offered(TempDir);

impl Offered {
    pub fn new() -> Self {
        Offered(tempfile::tempdir().expect("a folder"))
    }

    /// As `--dist-dir` takes it.
    pub fn path(&self) -> &str {
        self.0.path().to_str().expect("a path in UTF-8")
    }

    /// Puts the program there, in place of the former one.
    pub fn put(&self, program: &[u8]) {
        let file = self.program();
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        // Never into the former one: it may be under way to somebody.
        let next = file.with_extension("next");
        std::fs::write(&next, program).expect("a program");
        std::fs::rename(next, file).expect("a program");
    }

    /// Has no program any more.
    pub fn clear(&self) {
        std::fs::remove_file(self.program()).expect("the offered program");
    }

    fn program(&self) -> PathBuf {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        self.0.path().join(target).join("holistics-tunnel")
    }
}

/// The vendor.
pub struct Vendor {
    pub operator: Operator,
    pub server: Server,
    pub offered: Offered,
}

impl Vendor {
    pub fn new() -> Self {
        Self::with(|arguments| Server::start_with(10, arguments))
    }

    /// One whose server is started in a special way, with these further arguments.
    pub fn with(start: impl FnOnce(&[&str]) -> Server) -> Self {
        let offered = Offered::new();
        let server = start(&["--dist-dir", offered.path()]);
        offered.put(STAND_IN.as_bytes());
        Vendor {
            operator: server.operator(),
            server,
            offered,
        }
    }

    /// One whose program is so large that its download takes its time.
    pub fn with_a_large_program() -> Self {
        let vendor = Self::new();
        let mut program = STAND_IN.as_bytes().to_vec();
        program.extend(b"exit\n");
        program.resize(8 << 20, b'#');
        vendor.offered.put(&program);
        vendor
    }

    pub fn data_source(&self) -> DataSource {
        self.operator.create("Shop", 5432)
    }

    /// The script of a new data source, as a file of this bastion.
    pub fn script(&self, bastion: &Bastion) -> PathBuf {
        fetched(bastion, url_of(&self.data_source()))
    }
}

/// What the stand-in was started with on this bastion, a word a line.
#[track_caller]
pub fn arguments(bastion: &Bastion) -> Vec<String> {
    let arguments = content(&bastion.home().join("arguments"));
    arguments.lines().map(str::to_owned).collect()
}

/// What it has read.
#[track_caller]
pub fn input(bastion: &Bastion) -> String {
    content(&bastion.home().join("input"))
}
