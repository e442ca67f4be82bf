//! Somebody sets a clock while the tunnel is up. libfaketime shows a program another time from one moment to the next;
//! the clock that only goes forward stays as it is, as it does when a real one is set.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::faults::measure::{Aim, Fault};
use crate::faults::world::{Beset, OURS, World, with_world};
use crate::support::workspace::Workspace;

/// Two hours on, and back again.
const JUMPS: [&str; 2] = ["+7200", "+0"];

/// How long the time is another one before the next jump.
const BETWEEN: Duration = Duration::from_secs(20);

#[test]
#[ignore = "has a server of its own"]
fn a_server_whose_clock_is_set_two_hours_on_and_back_loses_no_row() {
    let clock = Clock::new();
    let beset = Beset {
        environment: clock.environment(),
        ..Beset::default()
    };
    with_world(&beset, |world| {
        // Its sshd would have the machine's own clock.
        world.end_plain();
        jumps(world, "server's clock set 2 h on, and back", &clock);
    });
}

#[test]
#[ignore = "takes a minute"]
fn a_bastion_whose_clock_is_set_two_hours_on_and_back_loses_no_row() {
    let clock = Clock::new();
    with_world(&Beset::default(), |world| {
        world.ours.service.environment = clock.environment();
        world.ours.service.cut_power();
        world.ours.service.boot(&world.ours.machine);
        if let Some(plain) = &mut world.plain {
            plain.environment = clock.environment();
        }
        world.begin_plain_anew();
        world.wait_until_steady(OURS);
        jumps(world, "bastion's clock set 2 h on, and back", &clock);
    });
}

#[track_caller]
fn jumps(world: &mut World, name: &'static str, clock: &Clock) {
    Fault::of_one(name, Aim::Unnoticed).measure(world, |_| {
        let begun = Instant::now();
        for jump in JUMPS {
            clock.set(jump);
            std::thread::sleep(BETWEEN);
        }
        begun
    });
}

/// A clock that can be set, for programs that are started with its environment.
struct Clock(Workspace);

impl Clock {
    fn new() -> Self {
        let clock = Clock(Workspace::new());
        clock.set(JUMPS[1]);
        clock
    }

    /// Sets it by so many seconds, against the right time.
    fn set(&self, by: &str) {
        let new = self.0.path().join("new");
        std::fs::write(&new, by).expect("a file");
        // Nobody reads half of it.
        std::fs::rename(&new, self.file()).expect("a file in its place");
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let file = path_text(&self.file());
        vec![
            ("LD_PRELOAD", path_text(&library())),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("time")
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let found = found.find(|library| library.exists());
    found.expect("no libfaketime: apt-get install libfaketime")
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
