//! Receipts of former versions, brought to the present one as they are read.
//!
//! Version 1 named tunnels by their numbers alone, which is what they are called until they are renamed
//! ([`TunnelName::is_former`]); it recorded the shared files of the service one by one, as if they were one
//! user's; and it noted a change of the key pair in a field of its own.

use serde_json::{Value, json};

#[cfg(doc)]
use crate::bastion::tunnel_name::TunnelName;

/// What version 1 recorded of the service besides files and folders.
const SHARED: [&str; 2] = ["units_loaded", "service_enabled"];
/// The names of the files and folders that now go with the last tunnel of anybody.
const SHARED_NAMES: [&str; 3] = ["h_autossh", "h_autossh.service", "h_autossh@.service"];

/// The content of a receipt of version 1 as version 2 would hold it.
pub(super) fn from_version_1(mut receipt: Value) -> Value {
    receipt["version"] = json!(2);
    let rotation = receipt
        .as_object_mut()
        .and_then(|fields| fields.remove("rotation"));
    if let Some(steps) = receipt["steps"].as_array_mut() {
        for step in steps.iter_mut().filter(|step| step["step"] == "service") {
            share(step);
        }
        if let Some(rotation) = rotation {
            steps.extend(steps_of(&rotation));
        }
    }
    receipt
}

fn share(step: &mut Value) {
    let Some(changes) = step["changes"].as_array_mut() else {
        return;
    };
    let before = changes.len();
    changes.retain(|change| !is_shared(change));
    if changes.len() < before {
        changes.push(json!({"change": "service_installed"}));
    }
}

fn is_shared(change: &Value) -> bool {
    let path = change["path"].as_str().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    SHARED.iter().any(|kind| change["change"] == *kind) || SHARED_NAMES.contains(&name)
}

/// A change of the key pair as far as it had come.
fn steps_of(rotation: &Value) -> Vec<Value> {
    let (from, to) = (&rotation["from"], &rotation["to"]);
    let step = |name: &str, changes: Value| json!({"step": name, "state": "started", "changes": changes, "at": "1970-01-01T00:00:00Z"});
    let announced = json!([
        {"change": "key_rotation", "from": from, "to": to},
        {"change": "key_announced"},
    ]);
    let mut steps = vec![step("new-key", announced)];
    let phase = rotation["phase"].as_str().unwrap_or_default();
    if phase != "announcing" {
        steps.push(step(
            "switch-key",
            json!([{"change": "key_switched", "from": from}]),
        ));
    }
    if phase == "proved" {
        steps.push(step("retire-key", json!([])));
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bastion::host::Authority;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::receipt::Receipt;

    #[test]
    fn the_shared_files_of_the_service_are_no_user_s_own_any_more() {
        let old = json!({"version": 1, "steps": [{"step": "service", "changes": [
            {"change": "units_loaded"},
            {"change": "service_replaced", "script": "/etc/init.d/h_autossh"},
            {"change": "file_created", "path": "/etc/systemd/system/h_autossh.service"},
            {"change": "file_modified", "path": "/etc/systemd/system/h_autossh@.service", "former": ""},
            {"change": "directory_created", "path": "/etc/h_autossh"},
            {"change": "service_enabled", "name": "h_autossh"},
        ]}]});
        assert_eq!(
            from_version_1(old)["steps"][0]["changes"],
            json!([
                {"change": "service_replaced", "script": "/etc/init.d/h_autossh"},
                {"change": "service_installed"},
            ])
        );
    }

    #[test]
    fn a_former_receipt_that_is_damaged_is_refused() {
        for content in [
            "[1]",
            r#"{"version": 1}"#,
            r#"{"version": 1, "prefix": "/", "steps": 7, "tunnels": {}}"#,
            r#"{"version": 1, "prefix": "/", "steps": [{"step": "service"}], "tunnels": {}}"#,
            r#"{"version": 1, "prefix": "/", "steps": [], "tunnels": {"../7": {}}}"#,
            r#"{"version": 1, "prefix": "/", "steps": [], "tunnels": {}, "rotation": 7}"#,
        ] {
            let host = ScriptedHost::new();
            let path = Path::new("/home/ada/receipt.json");
            host.write(path, content.as_bytes(), 0o600, Authority::User)
                .unwrap();
            let refusal = Receipt::load(&*host, path).expect_err(content);
            assert!(refusal.to_string().contains("damaged"), "{refusal}");
        }
    }

    #[test]
    fn a_change_of_the_key_pair_goes_on_from_where_it_was() {
        for (phase, steps) in [
            ("announcing", vec!["new-key"]),
            ("switched", vec!["new-key", "switch-key"]),
            ("going-back", vec!["new-key", "switch-key"]),
            ("proved", vec!["new-key", "switch-key", "retire-key"]),
        ] {
            let old = json!({"version": 1, "steps": [], "rotation": {
                "from": "rsa", "to": "ed25519", "phase": phase,
            }});
            let new = from_version_1(old);
            let names: Vec<_> = new["steps"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| &s["step"])
                .collect();
            assert_eq!(names, steps, "{phase}");
            assert!(new.get("rotation").is_none());
        }
    }
}
