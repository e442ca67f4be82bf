//! A copy of a bastion's disk, booted beside the original or in its place.
//!
//! Both have the same key, the same receipt and the same service. Whoever has the tunnel keeps it as long
//! as they are alive; no command on the other machine takes it from them, and all of them say why.

use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::reader::{LONGEST_GAP, Reader};
use crate::support::figures;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::hosts::namespace::Namespace;
use crate::support::wait;
use crate::user::User;
use crate::{FAILED, USAGE};

const COPY: &str = "the-copy";
const OTHER_MACHINE_ID: &str = "00112233445566778899aabbccddeeff\n";

/// What a machine says that knows by its machine-id or its name that it is the copy.
const COPY_OF: &str = "this host is a copy of bastion";
/// What a machine says of a tunnel that the other one has.
const HELD_ELSEWHERE: &str = "another machine with the same key holds the tunnel";

/// How long the other machine may take to have the tunnel once it is free. It has tried in vain for a while.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_copy_with_a_machine_id_of_its_own_leaves_the_tunnel_to_the_original() {
    let mut pair = Pair::boot(Image::DebianReady, Some(OTHER_MACHINE_ID));
    pair.the_copy_leaves_the_tunnel_to_the_original(COPY_OF);

    pair.lab.host.power_cut();
    pair.the_copy_takes_the_tunnel();
    // It is still another machine's: commands say so, and change nothing.
    pair.on_the_copy()
        .run("holistics-tunnel status")
        .expect_code(0)
        .expect_words(&[COPY_OF]);
    pair.changes_are_refused(COPY_OF);
    let ada = pair.on_the_copy();
    ada.run(&ada.setup_line(&ada.data_source()))
        .expect_code(FAILED)
        .expect_words(&[COPY_OF, "nothing was changed", "--local-only"]);

    pair.the_copy_is_rid_of_the_tunnel_and_the_original_has_it();
    // From then on it is a host like any other.
    let ada = pair.on_the_copy();
    let source = ada.set_up();
    ada.wait_until_rows_come(&source);
    ada.run("holistics-tunnel service restart").expect_code(0);
    ada.run("holistics-tunnel rotate-key --yes").expect_code(0);
    pair.rows_went_on("the copy sets up a tunnel of its own");
}

#[test]
fn under_systemd_a_copy_that_kept_the_machine_id_leaves_the_tunnel_to_the_original() {
    let mut pair = Pair::boot(Image::Trixie, None);
    pair.the_copy_leaves_the_tunnel_to_the_original(HELD_ELSEWHERE);

    // In the original's place it is the one machine there is, as a restored backup is.
    pair.lab.host.power_cut();
    pair.the_copy_takes_the_tunnel();
    pair.on_the_copy()
        .run("holistics-tunnel service restart")
        .expect_code(0);
    pair.on_the_copy()
        .run("holistics-tunnel status")
        .expect_code(0);
    pair.the_copy_is_rid_of_the_tunnel_and_the_original_has_it();
}

#[test]
fn under_sysvinit_a_copy_that_kept_the_machine_id_leaves_the_tunnel_to_the_original() {
    let mut pair = Pair::boot(Image::Sysvinit, None);
    pair.the_copy_leaves_the_tunnel_to_the_original(HELD_ELSEWHERE);
    pair.the_copy_is_rid_of_the_tunnel_and_the_original_has_it();
}

/// A bastion with a tunnel, and a copy of it that runs.
struct Pair {
    // The order of the fields is the order of the end.
    reader: Reader,
    source: DataSource,
    copy: Host,
    _network_of_the_copy: Namespace,
    lab: HostLab,
}

impl Pair {
    fn boot(image: Image, machine_id: Option<&str>) -> Self {
        let lab = HostLab::boot(image);
        let (source, reader) = {
            let ada = User::of(&lab, "ada");
            let source = ada.set_up();
            let reader = ada.reader(&source);
            (source, reader)
        };
        let (mut copy, network) = lab.copy_of_the_host();
        copy.write_to_disk("/etc/hostname", &format!("{COPY}\n"));
        let hosts = lab.host.read("/etc/hosts");
        copy.write_to_disk("/etc/hosts", &format!("127.0.0.1 {COPY}\n{hosts}"));
        if let Some(id) = machine_id {
            copy.write_to_disk("/etc/machine-id", id);
        }
        copy.power_on();
        Pair {
            reader,
            source,
            copy,
            _network_of_the_copy: network,
            lab,
        }
    }

    fn on_the_original(&self) -> User<'_> {
        User::of(&self.lab, "ada")
    }

    fn on_the_copy(&self) -> User<'_> {
        User::of(&self.lab, "ada").on(&self.copy)
    }

    /// Both are on, and the original came first.
    fn the_copy_leaves_the_tunnel_to_the_original(&self, sign: &str) {
        let before = self.on_the_original().processes();
        self.wait_for_a_refusal();
        let ada = self.on_the_copy();
        ada.run("holistics-tunnel status")
            .expect_code(FAILED)
            .expect_words(&["ELSEWHERE", sign]);
        ada.run("holistics-tunnel doctor")
            .expect_code(FAILED)
            .expect_words(&[sign, "uninstall-tunnel --all --local-only"]);
        ada.run("holistics-tunnel service restart")
            .expect_code(FAILED)
            .expect_words(&[sign, "uninstall-tunnel --all --local-only"]);
        self.changes_are_refused(sign);
        self.removal_asks(sign);
        ada.run("holistics-tunnel status").expect_code(FAILED);

        let ada = self.on_the_original();
        assert_eq!(ada.processes(), before, "it was restarted");
        ada.run("holistics-tunnel status").expect_code(0);
        ada.run("holistics-tunnel doctor").expect_code(0);
        self.rows_went_on("a copy of its host boots, and is asked for all it can do");
        let log = self.lab.server.log();
        assert!(
            log.contains("is the bastion a copy of another machine?"),
            "{log}"
        );
    }

    /// In the log of the copy, whose service was started when it booted.
    fn wait_for_a_refusal(&self) {
        let log = "cat ~/.holistics/logs/tunnel-*.log";
        let said = || self.on_the_copy().run(log).output();
        wait::until_true("a refusal", SETUP_LIMIT, said, || {
            said().contains("remote port forwarding failed")
        });
    }

    fn changes_are_refused(&self, sign: &str) {
        let ada = self.on_the_copy();
        for command in ["rotate-key", "update-tunnel --port 1 --no-database-check"] {
            ada.run(&format!("holistics-tunnel {command} --yes"))
                .expect_code(FAILED)
                .expect_words(&[sign, "nothing was changed", "--local-only"]);
        }
    }

    /// Nobody ends another machine's tunnel without having been asked whether they mean to.
    fn removal_asks(&self, sign: &str) {
        self.on_the_copy()
            .start_removal()
            .wait(SETUP_LIMIT)
            .expect_code(USAGE)
            .expect_words(&[sign, "would end it there", "--local-only"]);
        let line = "holistics-tunnel uninstall-tunnel --all --yes";
        let mut removal = self.copy.at_terminal("ada", line);
        removal
            .program()
            .wait_for_output("Remove it there, too?", SETUP_LIMIT);
        removal.enter("n");
        removal
            .wait(SETUP_LIMIT)
            .expect_code(FAILED)
            .expect_words(&[sign, "not confirmed"]);
        assert_eq!(self.lab.state(&self.source), DataSourceState::Active);
    }

    fn rows_went_on(&self, through_what: &str) {
        let gap = self.reader.longest_gap();
        figures::say(&format!(
            "{through_what}: the longest gap of the original's rows {:.1} s",
            gap.as_secs_f64()
        ));
        assert!(gap < LONGEST_GAP, "{gap:?}");
    }

    /// The original is off.
    fn the_copy_takes_the_tunnel(&self) {
        let is_up = || self.on_the_copy().run("holistics-tunnel status");
        let limit = TAKE_OVER_LIMIT;
        wait::until_true(
            "the copy's tunnel",
            limit,
            || is_up().to_string(),
            || is_up().code == 0,
        );
        let gap = self.reader.longest_gap().as_secs_f64();
        figures::say(&format!(
            "the original loses its power: rows come through the copy after {gap:.1} s"
        ));
    }

    /// Its files alone go; the vendor is not told.
    fn the_copy_is_rid_of_the_tunnel_and_the_original_has_it(&mut self) {
        let removal = "holistics-tunnel uninstall-tunnel --all --yes --local-only";
        self.on_the_copy().run(removal).expect_code(0);
        assert_eq!(self.on_the_copy().processes(), "");
        let left = "ls -d /home/ada/.holistics /etc/h_autossh /etc/systemd/system/h_autossh* /etc/init.d/h_autossh";
        let left = self.copy.run("root", left).stdout;
        assert_eq!(left, "");
        if !self.lab.host.is_on() {
            self.lab.host.power_on();
        }
        let ada = self.on_the_original();
        ada.wait_until_rows_come(&self.source);
        let gap = self.reader.longest_gap().as_secs_f64();
        figures::say(&format!(
            "the copy's tunnel goes: rows come through the original after {gap:.1} s"
        ));
        ada.run("holistics-tunnel status").expect_code(0);
        ada.run("holistics-tunnel doctor").expect_code(0);
        ada.operator
            .wait_for_state(self.source.id, DataSourceState::Active, SETUP_LIMIT);
    }
}
