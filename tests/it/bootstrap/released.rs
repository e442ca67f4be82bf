//! What `scripts/release` has made, handed out by the server: `scripts/test` makes it first.

use std::path::{Path, PathBuf};

use holistics_tunnel::protocol::DataSourceState;

use crate::bootstrap::{program_of, shell, url_of};
use crate::support::lab::Lab;
use crate::support::server::Server;

#[test]
#[ignore = "needs scripts/release; scripts/test runs both"]
fn the_released_program_sets_a_bastion_up_and_removes_it_again() {
    let released = released_folder();
    let folder = released.to_str().expect("a path in UTF-8");
    let lab = Lab::with(Server::start_with(10, &["--dist-dir", folder]));
    let before = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    let arguments = lab.bastion.setup_options();
    let line = format!(
        "curl -fsSL {} | sh -s -- --yes {arguments}",
        url_of(&source)
    );
    let setup = lab.bastion.start(&mut shell(&lab.bastion, &line));
    lab.wait_until_connected(&source, &setup);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let offered = released.join(target).join("holistics-tunnel");
    let bytes = |file: &Path| std::fs::read(file).expect("a program");
    assert!(
        bytes(&program_of(&lab.bastion)) == bytes(&offered),
        "another program was installed"
    );
    lab.save_and_finish(&source, setup);

    lab.remove(&source).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    before.assert_same(&lab.bastion.snapshot());
}

/// `dist` in the folder in which this test was built.
fn released_folder() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel"));
    let builds = program.ancestors().nth(2).expect("target/debug/PROGRAM");
    let folder = builds.join("dist");
    assert!(
        folder.exists(),
        "{} is not there: run scripts/release",
        folder.display()
    );
    folder
}
