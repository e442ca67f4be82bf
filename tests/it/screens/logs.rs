//! The log of a run.

use super::*;

#[test]
fn a_setup_s_log_holds_every_command_and_no_secret_for_its_user_alone() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
    let logs = lab.bastion.own_folder().join("logs");
    let log = only_log(&logs, "setup-");
    assert_eq!(mode(&log), 0o600);
    assert_eq!(mode(&logs), 0o700);
    let text = std::fs::read_to_string(&log).expect("the log");
    for part in [
        "step key-pair begins",
        "ssh-keygen",
        "(status 0, ",
        "step key-pair ended",
        "exit status 0",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let tunnel = lab.bastion.tunnel_record(tunnel_of(&source).id);
    let tunnel_token = tunnel["enrolled"]["tunnel_token"]
        .as_str()
        .expect("a token");
    for secret in [token_of(&source), tunnel_token, "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{text}");
    }
    for other in std::fs::read_dir(&logs).expect("the logs") {
        let text = std::fs::read_to_string(other.expect("a file").path()).expect("text");
        assert!(!text.contains(token_of(&source)) && !text.contains(tunnel_token));
    }
}

#[test]
fn a_rolled_back_setup_leaves_its_log_where_it_says() {
    let lab = Lab::with(Server::start_with(1, &[]));
    lab.active_data_source("Shop");
    let source = lab.data_source("Billing");
    let other = Bastion::new();
    let before = other.snapshot();
    let setup = || other.setup(&lab.server, token_of(&source));
    let failed = other.run(&mut setup()).expect_code(3);
    before.assert_same(&other.snapshot());
    let log = only_log(&other.temporary(), "holistics-tunnel-setup-");
    assert!(
        failed.stderr.contains(&format!("log: {}", log.display())),
        "{failed}"
    );
    assert_eq!(mode(&log), 0o600);
    let text = std::fs::read_to_string(&log).expect("the log");
    for part in [
        "step enrollment failed",
        "undoing everything",
        "exit status 3",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains(token_of(&source)), "{text}");

    let chosen = other.temporary().join("chosen");
    let failed = other
        .run(setup().arg("--log-file").arg(&chosen))
        .expect_code(3);
    assert!(
        failed
            .stderr
            .contains(&format!("log: {}", chosen.display())),
        "{failed}"
    );
    assert_eq!(mode(&chosen), 0o600);
    other
        .run(setup().args(["--log-file", "/no/such/folder/log"]))
        .expect_code(2)
        .expect_words(&["--log-file", "/no/such/folder/log"]);
}

#[track_caller]
fn only_log(folder: &Path, prefix: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut logs: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.starts_with(prefix)
        })
        .collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}
