//! Doors to the bastion's own readers and writers for the fuzzers in `fuzz/`, which are a crate of their own.
//!
//! This is compiled with `--cfg fuzzing` alone, as `scripts/fuzz` does: nothing has to be public for programs and tests
//! that only a fuzzer calls. What is right and what is wrong is said in `fuzz/`, and not here.

use std::path::Path;

use super::facts;
use super::host::real::RealHost;
use super::host::{Command, Privilege, sudo_rules};
use super::layout::Layout;
use super::receipt::Receipt;
use super::service::{ServiceTunnel, sysv};
use super::ssh::{Forward, Way, client, proxy_command};
use super::steps::autossh::build;

thread_local! {
    static HOST: RealHost = RealHost::new().expect("the user of this process is known");
}

/// What is found out about the host whose files are below this folder, as `plan --json` says it.
pub fn facts(root: &Path) -> serde_json::Value {
    let facts = HOST.with(|host| facts::probe(host, root, Privilege::None));
    serde_json::to_value(facts).expect("facts are texts, lists and numbers")
}

/// A receipt as it would be written again; nothing where it is refused.
pub fn receipt(content: &[u8]) -> Option<Vec<u8>> {
    let receipt = Receipt::parse(content, Path::new("receipt.json")).ok()?;
    Some(serde_json::to_vec_pretty(&receipt).expect("what was read can be written"))
}

/// Whether what `sudo -l` has listed is taken for every command.
pub fn sudo_allows_everything(listed: &str) -> bool {
    sudo_rules::allow_everything(listed)
}

/// A command as a person is shown it, and can type it.
pub fn shown(program: &str, arguments: &[String]) -> String {
    let command = Command::new(program).args(arguments);
    Privilege::None.shown(&command, |_| None)
}

/// A path as a word of ssh's `ProxyCommand`.
pub fn proxy_word(path: &Path) -> String {
    proxy_command::word(path)
}

/// The init script with its folders below this one.
pub fn init_script(root: &Path) -> String {
    let layout = HOST.with(|host| Layout::new(host, root));
    sysv::Sysv::script(&layout).expect("the template is whole")
}

/// The script that compiles autossh in this folder.
pub fn build_script(folder: &Path, ssh: &Path) -> String {
    build::script(folder, ssh)
}

/// A tunnel's file for the service, if these can stand in it, and the arguments that are to arrive at autossh.
pub fn tunnel_file(
    user: &str,
    home: &Path,
    autossh: &Path,
    target: &str,
) -> Option<(String, Vec<String>)> {
    let folder = home.join(".holistics");
    let tunnel = ServiceTunnel {
        id: "vendor.example-7".parse().expect("it is such a name"),
        user: user.to_owned(),
        autossh: autossh.to_owned(),
        ssh: "/usr/bin/ssh".into(),
        log: folder.join("logs/tunnel-7.log"),
        has_own_mounts: None,
        forward: Forward {
            way: Way::Direct,
            ciphers: client::ciphers(),
            private_key: folder.join("id_rsa"),
            known_hosts: folder.join("known_hosts"),
            host_key_alias: None,
            host_keys: Vec::new(),
            server_user: "tunnel".to_owned(),
            server_host: "vendor.example".to_owned(),
            server_port: "50022".to_owned(),
            remote_port: "20001".to_owned(),
            target_host: target.to_owned(),
            target_port: "5432".to_owned(),
        },
    };
    let arguments = tunnel.forward.autossh_arguments(&tunnel.log);
    Some((tunnel.render().ok()?, arguments))
}
