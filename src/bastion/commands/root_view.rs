//! root on a host in memory that has tunnels of ada and of bob, who have a vendor each and share a number.

mod bastion;

use std::path::Path;

use super::in_memory::parse;
use super::{others, status};
use crate::bastion::cli::Command;
use crate::bastion::doctor::{Check, Outcome};
use crate::bastion::failure::{Exit, advice_of, exit_of};
use crate::bastion::host::{Authority, HostExt as _};
use crate::bastion::receipt::{HostIdentity, Receipt};
use bastion::{ADAS, BOBS, Bastion};

const REMOVE_ADAS: [&str; 5] = [
    "uninstall-tunnel",
    "7",
    "--server",
    "https://bi.example.com",
    "--yes",
];

#[test]
fn root_removes_one_user_s_tunnel_and_nothing_of_another_s() {
    let bastion = Bastion::of_two();
    let bobs = Bastion::new();
    bobs.set_up("bob", BOBS, "https://other.example");
    let unlocked = bastion.host.changed_unlocked();
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Done);
    assert_eq!(bastion.seen(), [BOBS]);
    assert_eq!(*bastion.world.running.borrow(), [BOBS.to_owned()].into());
    assert_eq!(
        *bastion.world.known.borrow(),
        ["other.example htt_of_bob".to_owned()].into()
    );
    // What is ada's own stays.
    let mut left = bastion.host.paths();
    left.retain(|path| !path.contains("/home/ada"));
    let mut expected = bobs.host.paths();
    expected.retain(|path| !path.contains("/home/ada"));
    assert_eq!(left, expected);
    assert_eq!(
        bastion.host.changed_unlocked(),
        unlocked,
        "without the host's lock"
    );
}

#[test]
fn the_service_goes_with_the_last_tunnel_of_anybody() {
    let bastion = Bastion::of_two();
    assert_eq!(
        bastion
            .run(&["uninstall-tunnel", "--all", "--yes"])
            .unwrap(),
        Exit::Done
    );
    assert!(bastion.world.running.borrow().is_empty() && bastion.world.known.borrow().is_empty());
    let mut left = bastion.host.paths();
    left.retain(|path| !path.contains("/home/"));
    let mut before = Bastion::new().host.paths();
    before.retain(|path| !path.contains("/home/"));
    assert_eq!(left, before);
}

/// Puts every fault into the removal of the last tunnel, and runs it again.
#[test]
fn a_removal_by_root_comes_to_the_same_end_after_any_fault() {
    let one = || {
        let bastion = Bastion::new();
        bastion.set_up("ada", ADAS, "https://bi.example.com");
        bastion
    };
    let end = |bastion: &Bastion| {
        let world = &bastion.world;
        (
            bastion.host.paths(),
            world.running.borrow().clone(),
            world.known.borrow().clone(),
        )
    };
    let remove = ["uninstall-tunnel", "7", "--yes"];
    let smooth = one();
    let begun = smooth.host.effects();
    assert_eq!(smooth.run(&remove).unwrap(), Exit::Done);
    let effects = smooth.host.effects() - begun;
    assert!(effects > 10, "{effects}");
    for number in 1..=effects {
        for is_interrupted in [false, true] {
            let bastion = one();
            let at = bastion.host.effects() + number;
            if is_interrupted {
                bastion.host.interrupt_at(at);
            } else {
                bastion.host.fail_at(at);
            }
            let first = bastion.run(&remove);
            let is_at_its_end = end(&bastion) == end(&smooth);
            if !is_at_its_end {
                let again = bastion.run(&remove);
                assert!(
                    again.is_ok(),
                    "effect {number}, {is_interrupted}, {first:?}: {again:?}"
                );
            }
            assert_eq!(
                end(&bastion),
                end(&smooth),
                "effect {number}, {is_interrupted}, {first:?}"
            );
        }
    }
}

#[test]
fn a_tunnel_whose_owner_is_gone_is_removed_and_the_vendor_is_to_be_told_in_the_browser() {
    for (more, exit) in [
        (None, Exit::Partly),
        (Some("--force"), Exit::Done),
        (Some("--local-only"), Exit::Done),
    ] {
        let bastion = Bastion::of_two();
        bastion.delete_home("ada");
        assert_eq!(bastion.seen(), [ADAS, BOBS]);
        let words: Vec<&str> = REMOVE_ADAS.into_iter().chain(more).collect();
        assert_eq!(bastion.run(&words).unwrap(), exit, "{more:?}");
        assert_eq!(bastion.seen(), [BOBS]);
        assert!(!bastion.host.exists(Path::new("/root/.holistics")));
        assert!(bastion.world.asked.borrow().is_empty());
    }
}

#[test]
fn the_removal_command_from_the_browser_tells_the_vendor_where_the_owner_s_token_is_gone() {
    let bastion = Bastion::of_two();
    bastion.delete_home("ada");
    let token = Path::new("/root/token");
    bastion
        .host
        .write(token, b"htt_of_ada\n", 0o600, Authority::User)
        .unwrap();
    let words: Vec<&str> = REMOVE_ADAS
        .into_iter()
        .chain(["--token-file", "/root/token"])
        .collect();
    assert_eq!(bastion.run(&words).unwrap(), Exit::Done);
    assert_eq!(bastion.seen(), [BOBS]);
    let known = bastion.world.known.borrow();
    assert_eq!(*known, ["other.example htt_of_bob".to_owned()].into());
    assert!(!bastion.host.exists(token));
}

#[test]
fn on_a_copy_of_a_machine_root_is_asked_before_the_original_s_tunnel_ends() {
    let bastion = Bastion::of_two();
    let path = Path::new("/home/ada/.holistics/receipt.json");
    let mut receipt = Receipt::load(&bastion.host, path).unwrap().unwrap();
    receipt.host = Some(HostIdentity {
        name: "original".to_owned(),
        machine_id: None,
    });
    receipt.save(&bastion.host, path).unwrap();
    let error = bastion.run(&REMOVE_ADAS).unwrap_err();
    assert!(error.to_string().contains("copy of original"), "{error}");
    assert_eq!(bastion.seen(), [ADAS, BOBS]);
}

#[test]
fn a_number_that_two_vendors_have_is_not_guessed() {
    let bastion = Bastion::of_two();
    let error = bastion
        .run(&["uninstall-tunnel", "7", "--yes"])
        .unwrap_err();
    assert_eq!(exit_of(&error), Exit::Usage);
    for words in [ADAS, BOBS, "ada", "bob"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(advice_of(&error).unwrap().contains("--server"));
    let Command::Status(mut command) = parse(&["status", "7"]) else {
        panic!()
    };
    assert_eq!(
        exit_of(&status::run(&bastion.host, &command).unwrap_err()),
        Exit::Usage
    );
    command.which.server = Some("https://other.example".to_owned());
    assert_eq!(
        status::run(&bastion.host, &command).unwrap(),
        Exit::CannotTell
    );
    assert_eq!(bastion.seen(), [ADAS, BOBS]);
}

#[test]
fn without_a_terminal_a_removal_by_root_wants_its_yes() {
    let bastion = Bastion::of_two();
    let before = bastion.host.snapshot();
    let error = bastion.run(&REMOVE_ADAS[..4]).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Usage);
    bastion.host.answer(false);
    bastion.run(&REMOVE_ADAS[..4]).unwrap_err();
    assert_eq!(bastion.host.snapshot(), before);
}

#[test]
fn root_sends_no_request_to_where_a_user_s_receipt_alone_says() {
    let bastion = Bastion::of_two();
    bastion.write_receipt("ada", ADAS.parse().unwrap(), "https://metadata.internal");
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Partly);
    assert!(bastion.world.asked.borrow().is_empty());
    assert_eq!(bastion.seen(), [BOBS]);
}

#[test]
fn a_receipt_that_is_no_receipt_keeps_root_from_nothing() {
    let bastion = Bastion::of_two();
    let path = Path::new("/home/ada/.holistics/receipt.json");
    let huge = vec![b' '; 5 << 20];
    for content in [&b"{\"version\": 9999}"[..], b"root:x:0:0", &huge] {
        bastion
            .host
            .write(path, content, 0o600, Authority::User)
            .unwrap();
        assert!(
            others::receipt(
                &bastion.host,
                &others::tunnels(&bastion.host, None).unwrap()[0]
            )
            .is_err()
        );
    }
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Partly);
    assert_eq!(bastion.seen(), [BOBS]);
}

#[test]
fn a_process_that_does_not_end_is_told_and_the_tunnel_is_found_again() {
    let bastion = Bastion::of_two();
    bastion.world.stubborn.borrow_mut().insert(ADAS.to_owned());
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Partly);
    assert_eq!(bastion.seen(), [ADAS, BOBS]);
    bastion.world.stubborn.borrow_mut().clear();
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Done);
    assert_eq!(bastion.seen(), [BOBS]);
}

#[test]
fn doctor_shows_root_what_can_be_told_of_another_s_tunnel_and_why_the_rest_cannot() {
    let bastion = Bastion::of_two();
    let checks = bastion.doctor(None);
    let outcome = |user: &str, name: &str| {
        let is_it =
            |check: &&Check| check.name == name && check.subject.contains(&format!("of {user}"));
        let check = checks
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{name} of {user}"));
        (
            check.outcome,
            format!("{} {:?}", check.detail, check.remedy),
        )
    };
    let (found, said) = outcome("ada", "account");
    assert_eq!(found, Outcome::Fail);
    assert!(said.contains("uninstall-tunnel 7"), "{said}");
    assert_eq!(outcome("bob", "account").0, Outcome::Pass);
    for name in ["files", "service", "service-boot", "processes", "log"] {
        assert_eq!(
            outcome("bob", name).0,
            Outcome::Pass,
            "{name}: {}",
            outcome("bob", name).1
        );
    }
    for name in ["setup", "server-key", "target", "tunnel"] {
        let (found, said) = outcome("bob", name);
        assert_eq!(found, Outcome::Skip);
        assert!(said.contains("as bob"), "{said}");
    }
}
