//! The same on a host that version 0.1 set up, whose tunnel gets its present name first.

use std::path::Path;

use serde_json::{Value, json};

use super::{Bastion, Fault, OWN, ROTATE, SETUP, UPDATE, after, walk_from};
use crate::bastion::commands::token;
use crate::bastion::failure::Exit;
use crate::bastion::host::Authority;

const RECEIPT: &str = include_str!("../../../../tests/lab/former/systemd/receipt.json");
const TUNNEL_FILE: &str = include_str!("../../../../tests/lab/former/1.env");
const INSTANCES: &str = include_str!("../../../../tests/lab/former/systemd/h_autossh@.service");
const KNOWN_HOSTS: &str = include_str!("../../../../tests/lab/former/known_hosts");

/// What was one run's own in those files, as this world has it.
const VALUES: [(&str, &str); 11] = [
    ("https://vendor.example", "https://bi.example.com"),
    ("vendor.example", "tunnel.example.com"),
    ("10.20.0.5", "db.internal"),
    ("@DATABASE_PORT@", "5432"),
    ("@REMOTE_PORT_1@", "20001"),
    ("@REMOTE_PORT_2@", "20002"),
    ("@TUNNEL_TOKEN_1@", "htt_0123456789abcdef"),
    ("@HOST_KEY_1@", super::world::HOST_KEY),
    ("tunnel-1.log", "tunnel-7.log"),
    ("unnel 1", "unnel 7"),
    ("/1.env", "/7.env"),
];

fn filled(text: &str) -> String {
    let fill = |text: String, (name, value): &(&str, &str)| text.replace(name, value);
    VALUES.iter().fold(text.to_owned(), fill)
}

/// One of the two tunnels, under the number that this world has for it.
fn receipt() -> Value {
    let mut receipt: Value = serde_json::from_str(&filled(RECEIPT)).unwrap();
    let mut tunnel = receipt["tunnels"]["1"].take();
    tunnel["data_source_id"] = json!(3);
    tunnel["token_sha256"] = json!(token::digest("hte_0123456789abcdef"));
    tunnel["enrolled"]["server"]["host_keys"] = json!([super::world::HOST_KEY]);
    receipt["tunnels"] = json!({ "7": tunnel });
    receipt
}

/// A host with this tunnel, which runs.
fn former() -> Bastion {
    let bastion = after(&[SETUP]);
    let host = &bastion.host;
    let units = "/etc/systemd/system";
    let present = format!("{units}/h_autossh@bi.example.com-7.service.d");
    let files = [
        "/etc/h_autossh/bi.example.com-7.env".to_owned(),
        format!("{present}/tunnel.conf"),
    ];
    for file in files {
        host.remove_file(Path::new(&file), Authority::Root).unwrap();
    }
    host.remove_dir(Path::new(&present), Authority::Root)
        .unwrap();
    let write = |path: &str, content: &str, mode| {
        host.write(Path::new(path), content.as_bytes(), mode, Authority::Root)
            .unwrap();
    };
    write("/etc/h_autossh/7.env", &filled(TUNNEL_FILE), 0o644);
    write(&format!("{units}/h_autossh@.service"), INSTANCES, 0o644);
    write(
        &format!("{OWN}/receipt.json"),
        &receipt().to_string(),
        0o600,
    );
    let first_key = KNOWN_HOSTS.lines().next().unwrap();
    write(
        &format!("{OWN}/known_hosts"),
        &format!("{}\n", filled(first_key)),
        0o600,
    );
    let unit = || ["h_autossh@7.service".to_owned()].into();
    bastion.world.units.replace(unit());
    bastion.world.at_boot.replace(unit());
    bastion
}

/// Whatever goes wrong but the end of the run itself, the tunnel runs, and does so after a boot.
fn it_runs_on(bastion: &Bastion, fault: Fault) {
    let world = &bastion.world;
    let runs = world.session().is_some() && world.units == world.at_boot;
    assert!(
        runs || fault.is_death(),
        "{fault:?}: {:?} run, {:?} at boot",
        world.units,
        world.at_boot
    );
}

#[test]
fn a_setup_on_a_former_host_comes_to_the_same_end_after_any_fault() {
    walk_from(&former, SETUP, &it_runs_on);
}

#[test]
fn a_new_target_on_a_former_host_comes_to_the_same_end_after_any_fault() {
    walk_from(&former, UPDATE, &it_runs_on);
}

#[test]
fn a_new_key_on_a_former_host_comes_to_the_same_end_after_any_fault() {
    walk_from(&former, ROTATE, &it_runs_on);
}

#[test]
fn a_tunnel_that_does_not_come_up_under_its_new_name_goes_on_by_the_former_one() {
    let bastion = former();
    let world = &bastion.world;
    *world.shut_out.borrow_mut() = Some("h_autossh@bi.example.com-7.service".to_owned());
    let failure = bastion.run(UPDATE, Fault::None).unwrap_err();
    assert!(failure.contains("is not up after 60 s"), "{failure}");
    it_runs_on(&bastion, Fault::None);
    assert_eq!(
        *world.units.borrow(),
        ["h_autossh@7.service".to_owned()].into()
    );
    let receipt = bastion
        .host
        .read(Path::new(&format!("{OWN}/receipt.json")))
        .unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(
        receipt["tunnels"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["7"]
    );

    world.shut_out.take();
    assert_eq!(bastion.run(UPDATE, Fault::None), Ok(Exit::Done));
    assert_eq!(bastion.end(), {
        let undisturbed = former();
        undisturbed.run(UPDATE, Fault::None).unwrap();
        undisturbed.end()
    });
}

/// No service manager runs it: a supervisor has been given its command once and for all.
#[test]
fn the_command_of_a_former_version_finds_the_server_s_keys_after_the_tunnel_is_renamed() {
    let bastion = former();
    let mut receipt = receipt();
    receipt["init"] = Value::Null;
    receipt["tunnels"]["7"]["steps"] = json!([{"step": "foreground", "state": "done", "changes": [], "at": "2026-11-25T14:37:40Z"}]);
    let content = receipt.to_string();
    let path = format!("{OWN}/receipt.json");
    let host = &bastion.host;
    host.write(Path::new(&path), content.as_bytes(), 0o600, Authority::User)
        .unwrap();
    bastion.run(UPDATE, Fault::None).unwrap();
    let pinned = host.read(Path::new(&format!("{OWN}/known_hosts"))).unwrap();
    let key = super::world::HOST_KEY;
    assert_eq!(
        String::from_utf8(pinned).unwrap(),
        format!("[tunnel.example.com]:50022 {key}\nbi.example.com-7 {key}\n")
    );
}
