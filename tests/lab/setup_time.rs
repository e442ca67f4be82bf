//! How long a setup takes.

use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::support::hosts::host_lab::{AUTHORITY, HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::lab::{SERVICE_LIMIT, token_of};
use crate::support::process::Running;

/// What either says once the temporary tunnel is confirmed and somebody has to save in the browser.
const SAVE: &str = "return to your browser";

/// How often the output is looked at. That costs nothing; each question to the vendor's server would take the
/// time of a processor that both share with it.
const LOOK: Duration = Duration::from_millis(2);

/// From the beginning to the temporary tunnel, and from the save in the browser to the tunnel under the service.
struct Times {
    tunnel: f64,
    service: f64,
}

/// `scripts/bench setup` runs this: a fresh Debian, set up by this program and by the bare commands in a shell
/// script, in turn.
#[test]
#[ignore = "a measurement, which proves nothing: scripts/bench setup"]
fn setup_against_the_bare_commands() {
    const ROUNDS: usize = 5;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(measured(bare_commands));
        // Last, so that its log is what is kept.
        ours.push(measured(|lab, source| lab.setup_line(source, "--yes")));
    }
    type Part = fn(&Times) -> f64;
    let parts: [(&str, Part); 3] = [
        ("up to the temporary tunnel", |times| times.tunnel),
        ("from the save to the service", |times| times.service),
        ("both", |times| times.tunnel + times.service),
    ];
    for (part, time) in parts {
        let of = |times: &[Times]| {
            let mut times: Vec<f64> = times.iter().map(time).collect();
            times.sort_by(f64::total_cmp);
            (times[ROUNDS / 2], times[ROUNDS - 1])
        };
        let ((ours, worst_ours), (bare, worst_bare)) = (of(&ours), of(&bare));
        println!(
            "{part}: setup {ours:.2} s (worst {worst_ours:.2}), the bare commands {bare:.2} s (worst {worst_bare:.2}), \
             medians of {ROUNDS} in turn: ratio {:.2}",
            ours / bare
        );
    }
}

/// What this line of shell takes on a fresh host.
fn measured(line: impl Fn(&HostLab, &DataSource) -> String) -> Times {
    let lab = HostLab::boot(Image::Debian);
    let source = lab.data_source("Shop");
    let line = line(&lab, &source);
    let begun = Instant::now();
    let running = lab.host.start("ada", &line);
    watch(&running, |running| {
        running.output().to_lowercase().contains(SAVE)
    });
    let tunnel = begun.elapsed().as_secs_f64();
    assert_eq!(lab.state(&source), DataSourceState::Connected);
    let begun = Instant::now();
    lab.operator.save(source.id);
    watch(&running, |running| !running.is_running());
    let service = begun.elapsed().as_secs_f64();
    running.wait(SETUP_LIMIT).expect_code(0);
    if let Some(file) = std::env::var_os("BENCH_SETUP_LOG") {
        let log = lab.host.run("ada", "cat .holistics/logs/setup-*.log");
        std::fs::write(file, log.stdout).expect("a file for the log");
    }
    lab.operator
        .wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
    Times { tunnel, service }
}

fn watch(running: &Running, is_there: impl Fn(&Running) -> bool) {
    let begun = Instant::now();
    while !is_there(running) {
        let goes_on = running.is_running() && begun.elapsed() < SETUP_LIMIT;
        assert!(goes_on || is_there(running), "{}", running.output());
        std::thread::sleep(LOOK);
    }
}

/// What an administrator would type who knows it all beforehand: step by step what the original script did, with
/// nothing looked at, pinned, noted or undone, and one unit without a sandbox. The key is of the same type. That
/// the service's tunnel is up is seen by the same question to the vendor, since a start alone says nothing of it.
fn bare_commands(lab: &HostLab, source: &DataSource) -> String {
    let (api, token) = (format!("{}/api/v1", lab.server.url), token_of(source));
    let target = format!("{}:{}", source.host, source.port);
    format!(
        r#"set -e
        export DEBIAN_FRONTEND=noninteractive
        sudo apt-get -q update
        sudo apt-get -q install -y --no-install-recommends curl autossh openssh-client
        mkdir -m 0700 bare
        ssh-keygen -q -t ed25519 -N '' -f bare/id
        answer=$(curl -fsS --cacert {AUTHORITY} -X PUT {api}/enrollment/public-key -H 'Authorization: Bearer {token}' \
            -H 'Content-Type: application/json' \
            -d "{{\"public_key\": \"$(cat bare/id.pub)\", \"hostname\": \"b\", \"os\": \"b\", \"user\": \"ada\"}}")
        word() {{ printf '%s' "$answer" | sed -n "s/.*\"$1\":\"\{{0,1\}}\([^\",}}]*\).*/\1/p"; }}
        tunnel="-NT -i $HOME/bare/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=$HOME/bare/known \
            -o ExitOnForwardFailure=yes -p $(word port) -R 127.0.0.1:$(word remote_port):{target} tunnel@$(word host)"
        ssh -f -M -S bare/socket -E bare/log $tunnel
        tell() {{ curl -fsS --cacert {AUTHORITY} -H "Authorization: Bearer $1" "$2" -H 'Content-Type: application/json' \
            -X "$3" ${{4:+-d "$4"}}; }}
        tell {token} {api}/enrollment/tunnel-up POST
        echo 'Return to your browser'
        until tell {token} '{api}/enrollment/data-source?wait=25' GET | grep -q '"saved"'; do :; done
        ssh -S bare/socket -O exit x
        sudo tee /etc/systemd/system/h_autossh.service >/dev/null <<UNIT
        [Service]
        User=ada
        Environment=AUTOSSH_GATETIME=0
        ExecStart=/usr/bin/autossh -M 0 $tunnel
        [Install]
        WantedBy=multi-user.target
UNIT
        sudo systemctl daemon-reload
        sudo systemctl enable h_autossh
        sudo systemctl start h_autossh
        own="$(word tunnel_token) {api}/tunnels/$(word tunnel_id)"
        until tell $own GET | grep -q '"status":"up"'; do sleep 0.1; done
        tell $own PATCH '{{"service_installed": true}}'
        "#
    )
}
