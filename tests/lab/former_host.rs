//! A host as version 0.1 left it: two tunnels of ada's, called by their numbers (`former/README.md`).

use holistics_tunnel::protocol::{DataSource, DataSourceState, Enrolled, KeyRegistration};
use sha2::{Digest as _, Sha256};

use crate::setup::RETURN_LIMIT;
use crate::support::hosts::host_lab::{AUTHORITY, HostLab};
use crate::support::hosts::image::{Image, Init};
use crate::support::hosts::network::DATABASE;
use crate::support::lab::{SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::wait;

pub const OWN: &str = "/home/ada/.holistics";
const KEY: &str = "/home/ada/.holistics/id_ed25519";

const TUNNEL_FILES: [(&str, &str); 2] = [
    ("/etc/h_autossh/1.env", include_str!("former/1.env")),
    ("/etc/h_autossh/2.env", include_str!("former/2.env")),
];
const UNITS: [(&str, &str); 2] = [
    (
        "/etc/systemd/system/h_autossh.service",
        include_str!("former/systemd/h_autossh.service"),
    ),
    (
        "/etc/systemd/system/h_autossh@.service",
        include_str!("former/systemd/h_autossh@.service"),
    ),
];
const SCRIPT: [(&str, &str); 1] = [(
    "/etc/init.d/h_autossh",
    include_str!("former/sysv/h_autossh"),
)];

const START_UNITS: &str = "
    cd /etc/systemd/system
    mkdir -p h_autossh.service.wants multi-user.target.wants
    ln -s $PWD/h_autossh.service multi-user.target.wants/
    for tunnel in 1 2; do
        ln -s $PWD/h_autossh@.service h_autossh.service.wants/h_autossh@$tunnel.service
    done
    chmod 644 h_autossh.service h_autossh@.service
    systemctl daemon-reload
    systemctl start h_autossh";
/// The links count the other scripts anew, too, so that the host's own tool makes them.
const START_SCRIPT: &str = "
    chmod 755 /etc/init.d/h_autossh
    update-rc.d h_autossh defaults
    service h_autossh start";

/// Puts both tunnels on a host and starts them; returns once rows come through each.
pub fn leave_two_tunnels(lab: &HostLab, image: Image) -> [DataSource; 2] {
    let sources = ["Shop", "Billing"].map(|name| lab.data_source(name));
    let make_key = format!(
        "install -d -m 700 {OWN} {OWN}/logs {OWN}/run &&
        ssh-keygen -q -t ed25519 -N '' -C ada@bastion -f {KEY}"
    );
    lab.host.run("ada", &make_key).expect_code(0);
    let enrolled = sources.each_ref().map(|source| enroll(lab, source));

    let (init, receipt) = match image.init() {
        Init::Systemd => (&UNITS[..], include_str!("former/systemd/receipt.json")),
        Init::Sysv => (&SCRIPT[..], include_str!("former/sysv/receipt.json")),
    };
    let fill = |text: &str| filled(text, lab, &sources, &enrolled);
    lab.host.run("root", "mkdir /etc/h_autossh").expect_code(0);
    for (path, content) in TUNNEL_FILES.iter().chain(init) {
        lab.host.write(path, fill(content));
    }
    for (name, content) in [
        ("receipt.json", receipt),
        ("known_hosts", include_str!("former/known_hosts")),
        ("lock", ""),
    ] {
        lab.host.write(&format!("{OWN}/{name}"), fill(content));
    }
    let start = match image.init() {
        Init::Systemd => START_UNITS,
        Init::Sysv => START_SCRIPT,
    };
    let start = format!(
        "set -e; cd {OWN}; chmod 644 /etc/h_autossh/*
        chown ada: receipt.json known_hosts lock; chmod 600 receipt.json known_hosts lock
        {start}"
    );
    lab.host.run("root", &start).expect_code(0);
    for (source, enrolled) in sources.iter().zip(&enrolled) {
        activate(lab, source, enrolled);
    }
    sources.map(|source| lab.operator.data_source(source.id))
}

fn enroll(lab: &HostLab, source: &DataSource) -> Enrolled {
    let registration = KeyRegistration {
        public_key: lab.host.read(&format!("{KEY}.pub")).trim().to_owned(),
        hostname: "bastion".into(),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        user: "ada".into(),
        by_hand: false,
    };
    let registration = serde_json::to_string(&registration).expect("JSON");
    let body = format!("--request PUT --json {}", shell_words::quote(&registration));
    let answer = call(lab, "enrollment/public-key", token_of(source), &body);
    serde_json::from_str(&answer.expect("it is enrolled")).expect("the answer to a key")
}

/// Brings the data source from its key to its end: the tunnel is up, it is saved, and the service runs it.
fn activate(lab: &HostLab, source: &DataSource, enrolled: &Enrolled) {
    let call = |path: &str, arguments: &str| call(lab, path, &enrolled.tunnel_token, arguments);
    let is_seen = || call("enrollment/tunnel-up", "--request POST").is_some();
    let unseen = || String::from("the control plane does not see it");
    wait::until_true("the tunnel", SERVICE_LIMIT, unseen, is_seen);
    lab.operator.save(source.id);
    let tunnel = format!("tunnels/{}", enrolled.tunnel_id);
    let told = serde_json::json!({
        "service_installed": true,
        "applied": { "host": DATABASE, "port": lab.postgres.port() },
    });
    call(&tunnel, &format!("--request PATCH --json '{told}'")).expect("the control plane is told");
    lab.operator
        .wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
    lab.wait_until_rows_come(source, RETURN_LIMIT);
}

/// A call of the bastion's: the answer, if it is a good one.
fn call(lab: &HostLab, path: &str, token: &str, arguments: &str) -> Option<String> {
    let line = format!(
        "curl --silent --fail --cacert {AUTHORITY} --header 'Authorization: Bearer {token}' {arguments} \
         {}/api/v1/{path}",
        lab.server.url
    );
    let answer = lab.host.run("ada", &line);
    (answer.code == 0).then_some(answer.stdout)
}

/// A file with this run's own values in it.
fn filled(
    text: &str,
    lab: &HostLab,
    sources: &[DataSource; 2],
    enrolled: &[Enrolled; 2],
) -> String {
    let mut text = text.replace("@DATABASE_PORT@", &lab.postgres.port().to_string());
    let host_keys = &enrolled[0].server.host_keys;
    // It pinned whatever it was told: two keys then, two kinds of the current and the next one now.
    let (first, others) = host_keys.split_first().expect("a host key");
    let in_each =
        |form: fn(&String) -> String| -> Vec<String> { others.iter().map(form).collect() };
    let in_receipt = in_each(|key| format!("{key:?}")).join(", ");
    let in_known_hosts = in_each(|key| format!("[vendor.example]:50022 {key}\n")).concat();
    text = text
        .replace("@HOST_KEY_1@", first)
        .replace("\"@HOST_KEY_2@\"", &in_receipt)
        .replace("[vendor.example]:50022 @HOST_KEY_2@\n", &in_known_hosts);
    for number in [1, 2] {
        let (source, enrolled) = (&sources[number - 1], &enrolled[number - 1]);
        assert_eq!(tunnel_of(source).id.to_string(), number.to_string());
        let digest = Sha256::digest(token_of(source).as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        for (name, value) in [
            ("REMOTE_PORT", &enrolled.remote_port.to_string()),
            ("TUNNEL_TOKEN", &enrolled.tunnel_token),
            ("TOKEN_SHA256", &digest),
        ] {
            text = text.replace(&format!("@{name}_{number}@"), value);
        }
    }
    text
}
