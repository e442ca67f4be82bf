//! Two users' tunnels from setup to removal, in one order after another.
//!
//! Whatever one of them does, a row comes through the other's tunnel each second, and the other's
//! processes and files are the same before and after it. What one does to their own tunnel takes it away
//! for no longer than a reconnect. Once both are gone, the disk is as it was.

use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::reader::{LONGEST_GAP, Reader};
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::hosts::network::DATABASE;
use crate::support::hosts::other_vendor::OtherVendor;
use crate::support::lab::tunnel_of;
use crate::user::{User, lab_of_two_users};

/// ada comes first and goes first.
const ADA_BEFORE_BOB: &str = "ada sets up, bob sets up, ada updates, bob rotates, reboot, bob updates, ada rotates, \
                              ada removes, bob removes";
/// bob does.
const BOB_BEFORE_ADA: &str = "bob sets up, bob rotates, ada sets up, bob updates, ada rotates, ada updates, \
                              bob removes, ada removes";
/// ada comes first, goes, and comes back.
const ADA_TWICE: &str = "ada sets up, ada updates, bob sets up, ada removes, bob updates, ada sets up, bob rotates, \
                         ada rotates, bob removes, ada removes";

/// A reconnect, and a pause of the one who reads.
const LONGEST_RECONNECT: Duration = Duration::from_secs(6);

/// Another name of the database's machine.
const OTHER_NAME: &str = "database.example";

#[test]
fn under_systemd_252_two_users_of_two_vendors_do_not_feel_each_other_in_any_order() {
    Pair::of_two_vendors(Image::DebianReady).live([ADA_BEFORE_BOB, BOB_BEFORE_ADA]);
}

#[test]
fn under_systemd_257_two_users_of_one_vendor_do_not_feel_each_other_in_any_order() {
    Pair::of_one_vendor(Image::Trixie).live([ADA_BEFORE_BOB, ADA_TWICE]);
}

#[test]
fn under_sysvinit_two_users_of_two_vendors_do_not_feel_each_other_in_any_order() {
    Pair::of_two_vendors(Image::Sysvinit).live([ADA_BEFORE_BOB, ADA_TWICE]);
}

#[test]
fn under_sysvinit_two_users_of_one_vendor_do_not_feel_each_other_in_any_order() {
    Pair::of_one_vendor(Image::Sysvinit).live([BOB_BEFORE_ADA]);
}

/// All orders there are: `cargo test --test lab -- --ignored every_order`, which `scripts/test --full lab` runs.
mod every_order {
    use super::*;

    #[test]
    #[ignore = "takes half an hour"]
    fn under_systemd_two_users_of_one_vendor_do_not_feel_each_other() {
        Pair::of_one_vendor(Image::DebianReady).live(all());
    }

    #[test]
    #[ignore = "takes half an hour"]
    fn under_sysvinit_two_users_of_two_vendors_do_not_feel_each_other() {
        Pair::of_two_vendors(Image::Sysvinit).live(all());
    }

    /// Every way in which the two may take turns; who updates before rotating changes with each.
    fn all() -> Vec<String> {
        let (first, second) = (
            ["sets up", "updates", "rotates", "removes"],
            ["sets up", "rotates", "updates", "removes"],
        );
        // Of the eight turns, four are ada's.
        let turns = (0_u8..=255).filter(|turns| turns.count_ones() == 4);
        let orders = turns.enumerate().map(|(number, turns)| {
            let deeds = |swapped| if swapped { second } else { first }.into_iter();
            let (mut ada, mut bob) = (deeds(number % 2 == 1), deeds(number % 4 > 1));
            let deeds = (0..8).map(|turn| match turns >> turn & 1 {
                1 => format!("ada {}", ada.next().expect("four are hers")),
                _ => format!("bob {}", bob.next().expect("four are his")),
            });
            deeds.collect::<Vec<_>>().join(", ")
        });
        orders.collect()
    }

    #[test]
    fn each_is_there_once() {
        let orders: std::collections::BTreeSet<_> = all().into_iter().collect();
        assert_eq!(orders.len(), 70);
    }
}

/// A host with ada and bob, who may each have a tunnel.
struct Pair {
    // The order of the fields is the order of the end.
    ada: Option<Tunnel>,
    bob: Option<Tunnel>,
    other: Option<OtherVendor>,
    lab: HostLab,
}

/// A tunnel, and who reads a row through it each second.
struct Tunnel {
    source: DataSource,
    reader: Reader,
}

/// The longest waits for a row in one life.
#[derive(Default)]
struct Gaps {
    others: Duration,
    update: Duration,
    rotation: Duration,
    reboot: Duration,
}

impl Pair {
    fn of_one_vendor(image: Image) -> Self {
        let lab = lab_of_two_users(image);
        let hosts = lab.host.read("/etc/hosts");
        lab.host
            .write("/etc/hosts", format!("{hosts}{DATABASE} {OTHER_NAME}\n"));
        Pair {
            ada: None,
            bob: None,
            other: None,
            lab,
        }
    }

    fn of_two_vendors(image: Image) -> Self {
        let pair = Self::of_one_vendor(image);
        Pair {
            other: Some(OtherVendor::start(&pair.lab)),
            ..pair
        }
    }

    fn live(mut self, lives: impl IntoIterator<Item = impl AsRef<str>>) {
        let disk = Disk::of(&self.lab.host);
        for life in lives {
            let life = life.as_ref();
            let mut gaps = Gaps::default();
            for deed in life.split(", ") {
                self.take_a_step(deed, &mut gaps);
            }
            disk.assert_same(&Disk::of(&self.lab.host), |_| false);
            self.lab
                .host
                .run("root", "ls -d /run/h_autossh*")
                .expect_code(2);
            figures::say(&format!("{life}: the longest gaps: {gaps}"));
        }
    }

    fn take_a_step(&mut self, deed: &str, gaps: &mut Gaps) {
        if deed == "reboot" {
            self.lab.host.reboot();
            for (name, tunnel) in self.tunnels() {
                self.user(name).wait_until_rows_come(&tunnel.source);
                gaps.reboot = gaps.reboot.max(tunnel.reader.longest_gap());
            }
            return;
        }
        let (name, deed) = deed.split_once(' ').expect("who does what");
        let other = if name == "ada" { "bob" } else { "ada" };
        let before = self.traces(other);
        match deed {
            "sets up" => self.set_up(name),
            "updates" => gaps.update = gaps.update.max(self.update(name)),
            "rotates" => gaps.rotation = gaps.rotation.max(self.rotate(name)),
            "removes" => self.remove(name),
            _ => panic!("nobody {deed:?}"),
        }
        assert_eq!(
            self.traces(other),
            before,
            "{name} {deed}, {other}'s differ"
        );
        if let Some(tunnel) = self.tunnel(other) {
            let gap = tunnel.reader.longest_gap();
            assert!(gap < LONGEST_GAP, "{name} {deed}, {other}'s rows: {gap:?}");
            gaps.others = gaps.others.max(gap);
            self.is_up(other);
        }
    }

    // What a user does --------------------------------------------------------------------------

    fn set_up(&mut self, name: &str) {
        let user = self.user(name);
        let source = user.set_up();
        user.wait_until_rows_come(&source);
        let reader = user.reader(&source);
        *self.place(name) = Some(Tunnel { source, reader });
        self.is_up(name);
    }

    /// In the browser first: the database's machine is called by its other name.
    fn update(&self, name: &str) -> Duration {
        let (user, tunnel) = (self.user(name), self.own(name));
        let now = user.operator.data_source(tunnel.source.id);
        let to = match now.host.as_str() {
            OTHER_NAME => DATABASE.to_string(),
            _ => OTHER_NAME.to_owned(),
        };
        user.operator.change_host(tunnel.source.id, &to);
        let number = tunnel_of(&tunnel.source).id;
        self.reconnecting(name, &format!("update-tunnel {number} --yes"), || {
            let leads_there =
                format!("pgrep --euid {name} --exact ssh --list-full | grep -F ':{to}:'");
            self.lab.host.run("root", &leads_there).expect_code(0);
        })
    }

    fn rotate(&self, name: &str) -> Duration {
        let keys = format!("cat /home/{name}/.holistics/id_*.pub");
        let key = || self.lab.host.run("root", &keys).expect_code(0).stdout;
        let before = key();
        self.reconnecting(name, "rotate-key --yes", || assert_ne!(key(), before))
    }

    /// How long the rows are away.
    fn reconnecting(&self, name: &str, command: &str, has_worked: impl Fn()) -> Duration {
        let (user, tunnel) = (self.user(name), self.own(name));
        tunnel.reader.longest_gap();
        user.run(&format!("holistics-tunnel {command}"))
            .expect_code(0);
        let gap = tunnel.reader.longest_gap();
        assert!(gap < LONGEST_RECONNECT, "{name}, {command}: {gap:?}");
        has_worked();
        self.is_up(name);
        gap
    }

    fn remove(&mut self, name: &str) {
        let Tunnel { source, .. } = self.place(name).take().expect("it was set up");
        let user = self.user(name);
        user.start_removal().wait(SETUP_LIMIT).expect_code(0);
        let state = user.operator.data_source(source.id).state;
        assert_eq!(state, DataSourceState::Removed);
        assert_eq!(user.processes(), "");
    }

    // What is seen of it ------------------------------------------------------------------------

    #[track_caller]
    fn is_up(&self, name: &str) {
        self.user(name)
            .run("holistics-tunnel status")
            .expect_code(0);
    }

    /// Processes and files of a user who has a tunnel, and what all tunnels share: by number, time of
    /// change and size.
    fn traces(&self, name: &str) -> String {
        let Some(tunnel) = self.tunnel(name) else {
            return String::new();
        };
        let plane = match (name, &self.other) {
            ("bob", Some(_)) => "other.example",
            _ => "vendor.example",
        };
        let slug = format!("{plane}-{}", tunnel_of(&tunnel.source).id);
        let look = "-printf '%p %y %m %u:%g %i %T@ %s\\n'";
        let line = format!(
            "pgrep --euid {name} --exact --list-full 'autossh|ssh'
            find /home/{name}/.holistics -name logs -prune -o {look}
            find /etc /run -xdev -path '*h_autossh*' \\( -path '*{slug}*' -o -not -path '*.example-*' \\) \
                -not -type d {look}"
        );
        let traces = self.lab.host.run("root", &line).expect_code(0).stdout;
        for part in [
            "ssh -",
            "receipt.json",
            &format!("/etc/h_autossh/{slug}.env"),
        ] {
            assert!(traces.contains(part), "no {part} in\n{traces}");
        }
        traces
    }

    // Who is meant ------------------------------------------------------------------------------

    fn user(&self, name: &str) -> User<'_> {
        match (name, &self.other) {
            ("ada", _) => User::of(&self.lab, "ada"),
            (_, None) => User::of(&self.lab, "bob"),
            (_, Some(other)) => User::of_other(&self.lab, other, "bob"),
        }
    }

    fn place(&mut self, name: &str) -> &mut Option<Tunnel> {
        match name {
            "ada" => &mut self.ada,
            _ => &mut self.bob,
        }
    }

    fn tunnel(&self, name: &str) -> Option<&Tunnel> {
        let tunnel = if name == "ada" { &self.ada } else { &self.bob };
        tunnel.as_ref()
    }

    fn tunnels(&self) -> impl Iterator<Item = (&'static str, &Tunnel)> {
        let both = ["ada", "bob"].into_iter();
        both.filter_map(|name| Some((name, self.tunnel(name)?)))
    }

    #[track_caller]
    fn own(&self, name: &str) -> &Tunnel {
        self.tunnel(name).expect("it was set up")
    }
}

impl std::fmt::Display for Gaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose = [
            ("the other's", self.others),
            ("one's own at an update", self.update),
            ("at a rotation", self.rotation),
            ("both at a reboot", self.reboot),
        ];
        let taken = whose.iter().filter(|(_, gap)| !gap.is_zero());
        let said = taken.map(|(what, gap)| format!("{what} {:.1} s", gap.as_secs_f64()));
        f.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}
