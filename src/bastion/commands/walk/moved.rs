//! The same for a tunnel that moves to another region of the vendor, whose servers have other host keys.

use std::path::Path;

use serde_json::{Value, json};

use super::world::{HOST_KEY, OTHER_HOST_KEY, OTHER_PORT, PORT};
use super::{Bastion, Fault, OWN, SETUP, after, port_in_file, walk_from};
use crate::bastion::commands::update_tunnel::move_told;
use crate::bastion::failure::Exit;
use crate::bastion::host::Authority;
use crate::bastion::receipt::Receipt;
use crate::protocol::TunnelPlace;

const UNIT: &str = "h_autossh@bi.example.com-7.service";
const MOVE: &[&str] = &["update-tunnel", "7", "--yes"];
const MOVE_AND_UPDATE: &[&str] = &["update-tunnel", "7", "--port", "6432", "--yes"];

fn moving() -> Bastion {
    let bastion = after(&[SETUP]);
    bastion.world.is_moving.set(true);
    bastion
}

fn known_hosts(bastion: &Bastion) -> String {
    let file = format!("{OWN}/known_hosts");
    String::from_utf8(bastion.host.read(Path::new(&file)).unwrap()).unwrap()
}

/// It is up where the vendor has it, unless the run was killed; and it can connect again, also after a loss of
/// power.
fn goes_on(bastion: &Bastion, fault: Fault) {
    let world = &bastion.world;
    if !fault.is_death() {
        assert!(world.session().is_some(), "{fault:?}: it is down");
    }
    let pinned = known_hosts(bastion);
    let (running, at_boot) = (world.service_port.get(), port_in_file(&bastion.host, UNIT));
    for port in [running, at_boot] {
        let key = match port {
            PORT => HOST_KEY,
            OTHER_PORT => OTHER_HOST_KEY,
            port => panic!("{fault:?}: port {port}"),
        };
        assert!(pinned.contains(key), "{fault:?}: port {port}, {pinned}");
    }
}

#[test]
fn a_move_comes_to_the_same_end_after_any_fault_and_the_tunnel_goes_on() {
    walk_from(&moving, MOVE, &goes_on);
    walk_from(&moving, MOVE_AND_UPDATE, &goes_on);
}

#[test]
fn what_a_run_could_not_tell_of_a_move_the_next_one_tells_with_another_target() {
    let undisturbed = moving();
    let before = undisturbed.world.calls.get();
    assert_eq!(undisturbed.run(MOVE, Fault::None), Ok(Exit::Done));
    let report = undisturbed.world.calls.get() - before;

    let bastion = moving();
    let error = bastion.run(MOVE, Fault::LostAnswers(report)).unwrap_err();
    assert!(error.contains("could not be told"), "{error}");
    // Nor was it.
    bastion.world.has_moved.set(false);
    assert_eq!(bastion.run(MOVE_AND_UPDATE, Fault::None), Ok(Exit::Done));
    assert!(bastion.world.has_moved.get(), "the vendor was not told");
}

#[test]
fn a_move_that_the_vendor_does_not_take_any_more_is_gone_back_on() {
    for command in [MOVE, MOVE_AND_UPDATE] {
        let bastion = moving();
        let before = bastion.end();
        bastion.world.refuses_move.set(true);
        let error = bastion.run(command, Fault::None).unwrap_err();
        assert!(error.contains("undone"), "{error}");
        assert_eq!(bastion.world.service_port.get(), PORT);
        assert_eq!(bastion.end(), before);
    }
}

#[test]
fn the_plan_tells_a_move_from_a_server_that_is_called_otherwise() {
    let file = format!("{OWN}/receipt.json");
    let receipt = Receipt::load(&*moving().host, Path::new(&file)).unwrap();
    let receipt = receipt.unwrap();
    let record = receipt.tunnels.values().next().unwrap();
    let told = |region: &str, port| {
        let mut server = record.enrolled.as_ref().unwrap().server.clone();
        server.host = "eu.example.com".to_owned();
        let region = region.to_owned();
        let place = TunnelPlace {
            region,
            remote_port: port,
            server,
        };
        move_told(record, &place)
    };
    assert!(told("eu", OTHER_PORT).contains("to the region eu"));
    let renamed = told("default", PORT);
    assert!(
        renamed.contains("its remote port and its key stay"),
        "{renamed}"
    );
    assert!(!renamed.contains("region"), "{renamed}");
}

/// A host whose own supervisor runs the tunnel.
fn supervised() -> Bastion {
    let bastion = moving();
    let file = format!("{OWN}/receipt.json");
    let receipt = bastion.host.read(Path::new(&file)).unwrap();
    let mut receipt: Value = serde_json::from_slice(&receipt).unwrap();
    receipt["init"] = Value::Null;
    let tunnel = &mut receipt["tunnels"]["bi.example.com-7"];
    for step in tunnel["steps"].as_array_mut().unwrap() {
        if step["step"] == "service-tunnel" {
            step["step"] = json!("foreground");
            step["changes"] = json!([]);
        }
    }
    let receipt = receipt.to_string();
    bastion
        .host
        .write(Path::new(&file), receipt.as_bytes(), 0o600, Authority::User)
        .unwrap();
    bastion
}

#[test]
fn a_tunnel_under_a_supervisor_knows_both_regions_until_it_is_seen_in_the_other_one() {
    let bastion = supervised();
    let (world, run) = (&bastion.world, |command| bastion.run(command, Fault::None));
    assert_eq!(run(MOVE), Ok(Exit::Done));
    // Its supervisor has not been changed yet, and a command more does not lock it out.
    for _ in 0..2 {
        let pinned = known_hosts(&bastion);
        assert!(pinned.contains(HOST_KEY), "{pinned}");
        assert!(pinned.contains(OTHER_HOST_KEY), "{pinned}");
        assert_eq!(run(MOVE), Ok(Exit::Done));
    }
    // Now it has, and the vendor has seen it there long enough.
    world.service_port.set(OTHER_PORT);
    world.has_moved.set(true);
    assert_eq!(run(MOVE), Ok(Exit::Done));
    let pinned = known_hosts(&bastion);
    assert!(!pinned.contains(HOST_KEY), "{pinned}");
    assert!(pinned.contains(OTHER_HOST_KEY), "{pinned}");
}
