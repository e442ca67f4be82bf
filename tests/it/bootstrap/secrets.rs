//! Who could have seen the token: every process of this machine is looked at while a script runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bootstrap::{fetched, shell, url_in, url_of};
use crate::support::lab::{Lab, token_of};
use crate::support::process;

/// Between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(3);

/// Looks at the arguments and the environment of every process, again and again.
struct Watch {
    is_over: Arc<AtomicBool>,
    looking: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    /// For a text; what shows it is remembered by name and arguments.
    fn of(text: &str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (text, ends) = (text.to_owned(), Arc::clone(&is_over));
        let looking = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !ends.load(Ordering::Relaxed) {
                let processes = process::naming(text.as_ref());
                seen.extend(processes.into_iter().map(|process| process.arguments));
                std::thread::sleep(PAUSE);
            }
            seen
        });
        Watch { is_over, looking }
    }

    /// Every process that showed the text so far.
    fn end(self) -> BTreeSet<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.looking.join().expect("the watch")
    }
}

#[test]
fn the_token_is_in_no_process_s_arguments_or_environment_and_on_no_disk() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let script = fetched(&lab.bastion, url_of(&source));
    let watches = [Watch::of(token_of(&source)), Watch::of(&lab.server.url)];
    let line = format!(
        "exec sh -s -- --yes {} <{}",
        lab.bastion.setup_options(),
        script.display()
    );
    let mut command = shell(&lab.bastion, &line);
    // Whoever has such variables exported must not have the script's own exported, too.
    for name in ["token", "server", "url", "program"] {
        command.env(name, "the caller's");
    }
    let setup = lab.bastion.start(&mut command);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    let [showing_token, showing_address] = watches.map(Watch::end);
    assert_eq!(showing_token, BTreeSet::new());
    assert!(
        showing_address.iter().any(|line| line.contains(" setup ")),
        "the watch sees nothing: {showing_address:?}"
    );
    assert_is_on_no_disk(&lab, token_of(&source));

    let removal = lab.operator.delete(source.id);
    let script = fetched(&lab.bastion, url_in(&removal.command));
    let watch = Watch::of(&removal.token);
    let line = format!("exec sh -s <{}", script.display());
    let mut command = shell(&lab.bastion, &line);
    lab.bastion
        .run(command.env("token", "the caller's"))
        .expect_code(0);
    assert_eq!(watch.end(), BTreeSet::new());
}

#[test]
fn nothing_holds_the_token_after_a_run_that_ended_on_a_wrong_flag() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let line = format!("curl -fsSL {} | sh -s -- --no-such-flag", url_of(&source));
    lab.bastion
        .run(&mut shell(&lab.bastion, &line))
        .expect_code(crate::bootstrap::USAGE)
        .expect_words(&["--no-such-flag"]);
    assert_is_on_no_disk(&lab, token_of(&source));
}

/// No file of the bastion's home or system holds this text.
#[track_caller]
fn assert_is_on_no_disk(lab: &Lab, text: &str) {
    let (home, prefix) = (lab.bastion.home(), lab.bastion.prefix());
    let mut grep = std::process::Command::new("grep");
    let found = grep
        .args([
            "--recursive",
            "--fixed-strings",
            "--files-with-matches",
            "-e",
            text,
        ])
        .args([home, prefix])
        .output()
        .expect("grep");
    let files = String::from_utf8_lossy(&found.stdout);
    assert_eq!((files.as_ref(), found.status.code()), ("", Some(1)));
}
