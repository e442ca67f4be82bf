//! The example for Ansible, played by the real ansible-playbook. `scripts/ansible` installs it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::lab::Lab;
use crate::support::postgres::Postgres;
use crate::support::process::Finished;
use holistics_tunnel::protocol::{DataSource, DataSourceState};
use reqwest::Method;
use serde_json::json;

/// A play begins some Python programs and waits seconds at a time.
const PLAY_LIMIT: Duration = Duration::from_secs(300);

#[test]
#[ignore = "plays for minutes: scripts/test ansible"]
fn a_play_brings_a_tunnel_up_changes_nothing_the_second_time_moves_it_and_takes_it_away() {
    let lab = Lab::new();
    let player = Player::of(&lab);
    let port = lab.postgres.port();
    let first = player.play(port).expect_code(0);
    assert!(changed(&first) > 0, "{first}");
    let source = player.only_source();
    assert_eq!(source.state, DataSourceState::Active);
    assert!(source.login.is_some_and(|login| login.has_password));

    let second = player.play(port).expect_code(0);
    assert_eq!(changed(&second), 0, "{second}");
    let source = player.only_source();
    assert_eq!(source.state, DataSourceState::Active);
    lab.login_through(&source)
        .expect("a login through the tunnel");

    // The database moves.
    let other = Postgres::start();
    let moved = player.play(other.port()).expect_code(0);
    assert!(changed(&moved) > 0, "{moved}");
    let again = player.play(other.port()).expect_code(0);
    assert_eq!(changed(&again), 0, "{again}");
    let source = player.only_source();
    assert_eq!(source.port, other.port());
    lab.login_through(&source)
        .expect("a login through the tunnel");

    // The vendor's customer leaves.
    let gone = player.play_absence().expect_code(0);
    assert!(changed(&gone) > 0, "{gone}");
    assert_eq!(player.sources().len(), 0);
    let own_folder = lab.bastion.own_folder();
    assert!(!own_folder.exists(), "{} is left", own_folder.display());
    let again = player.play_absence().expect_code(0);
    assert_eq!(changed(&again), 0, "{again}");
    for said in [first, moved, gone] {
        for secret in [&player.token, "hte_", &lab.postgres.login().password] {
            assert!(!said.output().contains(secret), "{secret} is in {said}");
        }
    }
}

#[test]
#[ignore = "plays for minutes: scripts/test ansible"]
fn a_setup_that_fails_ends_the_play_with_its_words_and_the_next_one_goes_on() {
    let lab = Lab::new();
    let player = Player::of(&lab);
    let nobody = crate::support::ports::free_port();
    let failed = player.play(nobody);
    assert_ne!(failed.code, 0, "{failed}");
    failed.expect_words(&["cannot be reached from this host"]);
    assert_eq!(player.only_source().state, DataSourceState::Draft);
    player.play(lab.postgres.port()).expect_code(0);
    assert_eq!(player.only_source().state, DataSourceState::Active);
}

/// Whoever plays it, on the bastion itself.
struct Player<'l> {
    lab: &'l Lab,
    token: String,
}

impl<'l> Player<'l> {
    fn of(lab: &'l Lab) -> Self {
        let token = lab.server.api_token(&["ansible", "--scope", "operate"]);
        Player { lab, token }
    }

    /// Plays it for the database at this port.
    fn play(&self, port: u16) -> Finished {
        self.play_as("present", port)
    }

    /// Plays it so that nothing is left.
    fn play_absence(&self) -> Finished {
        self.play_as("absent", self.lab.postgres.port())
    }

    fn play_as(&self, state: &str, port: u16) -> Finished {
        let bastion = &self.lab.bastion;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ansible/playbook.yml");
        let login = self.lab.postgres.login();
        let inventory = json!({ "bastions": { "hosts": { "bastion": {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            // Where one command writes and another reads, whatever HOME is.
            "ansible_async_dir": bastion.temporary().join("async"),
            "holistics_tunnel_server": self.lab.server.url,
            "holistics_tunnel_api_token": self.token,
            "holistics_tunnel_name": "Shop, Europe & Asia",
            "holistics_tunnel_state": state,
            "holistics_tunnel_database_port": port,
            "holistics_tunnel_login": {
                "database": login.database, "username": login.username, "password": login.password,
            },
            "holistics_tunnel_setup_arguments": bastion.setup_options(),
        }}}});
        let file = bastion.temporary().join("inventory.yml");
        std::fs::write(&file, inventory.to_string()).expect("an inventory");
        let mut command = bastion.any_program(ansible_playbook());
        command.arg("--inventory").arg(file).arg(example);
        bastion.start(&mut command).wait(PLAY_LIMIT)
    }

    /// What the play has made: one data source.
    #[track_caller]
    fn only_source(&self) -> DataSource {
        let mut listed = self.sources();
        assert_eq!(listed.len(), 1, "{listed:?}");
        listed.remove(0)
    }

    fn sources(&self) -> Vec<DataSource> {
        let listed = self.lab.operator.call(Method::GET, "/data-sources").send();
        let listed = listed.expect("an answer").json::<Vec<DataSource>>();
        listed.expect("a list")
    }
}

/// How many tasks have changed something, as the recapitulation says.
#[track_caller]
fn changed(play: &Finished) -> u32 {
    let number = play.stdout.split("changed=").nth(1).and_then(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    number.unwrap_or_else(|| panic!("no recapitulation in {play}"))
}

fn ansible_playbook() -> PathBuf {
    // The programs under test lie in `debug` or `release` of the target folder.
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let target = program.parent().and_then(Path::parent);
    let program = target
        .expect("a target folder")
        .join("ansible/bin/ansible-playbook");
    assert!(
        program.exists(),
        "{} is not there: run scripts/ansible",
        program.display()
    );
    program
}
