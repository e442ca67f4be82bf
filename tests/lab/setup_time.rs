//! How long a setup takes.

use std::time::Instant;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::support::hosts::host_lab::{AUTHORITY, HostLab};
use crate::support::hosts::image::Image;
use crate::support::lab::token_of;

/// `scripts/bench setup` runs this: a fresh Debian up to its temporary tunnel, by setup and by the
/// bare commands in a shell script, in turn.
#[test]
#[ignore = "a measurement, which proves nothing: scripts/bench setup"]
fn setup_against_the_bare_commands() {
    const ROUNDS: usize = 5;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(time_of_bare_commands());
        ours.push(time_of_setup());
    }
    let worst = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    let (worst_ours, worst_bare) = (worst(&ours), worst(&bare));
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "setup {ours:.2} s (worst {worst_ours:.2}), the bare commands {bare:.2} s (worst {worst_bare:.2}), medians of \
         {ROUNDS} in turn: ratio {:.2}",
        ours / bare
    );
}

fn time_of_setup() -> f64 {
    let lab = HostLab::boot(Image::Debian);
    let source = lab.data_source("Shop");
    let begun = Instant::now();
    let setup = lab.start_setup("ada", &source, "");
    lab.wait_until_connected(&source, &setup);
    begun.elapsed().as_secs_f64()
}

fn time_of_bare_commands() -> f64 {
    let lab = HostLab::boot(Image::Debian);
    let source = lab.data_source("Shop");
    let script = bare_commands(&lab, &source);
    let begun = Instant::now();
    lab.host.run("ada", &script).expect_code(0);
    let elapsed = begun.elapsed().as_secs_f64();
    assert_eq!(lab.state(&source), DataSourceState::Connected);
    elapsed
}

/// What an administrator would type who knows it all beforehand.
fn bare_commands(lab: &HostLab, source: &DataSource) -> String {
    let (api, token) = (
        format!("{}/api/v1/enrollment", lab.server.url),
        token_of(source),
    );
    let target = format!("{}:{}", source.host, source.port);
    format!(
        r#"set -e
        export DEBIAN_FRONTEND=noninteractive
        sudo apt-get -q update
        sudo apt-get -q install -y --no-install-recommends curl autossh openssh-client
        mkdir -m 0700 bare
        ssh-keygen -q -t ed25519 -N '' -f bare/id
        answer=$(curl -fsS --cacert {AUTHORITY} -X PUT {api}/public-key -H 'Authorization: Bearer {token}' \
            -H 'Content-Type: application/json' \
            -d "{{\"public_key\": \"$(cat bare/id.pub)\", \"hostname\": \"b\", \"os\": \"b\", \"user\": \"ada\"}}")
        word() {{ printf '%s' "$answer" | sed -n "s/.*\"$1\":\"\{{0,1\}}\([^\",}}]*\).*/\1/p"; }}
        ssh -f -M -S bare/socket -NT -i bare/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=bare/known \
            -o ExitOnForwardFailure=yes -E bare/log -p "$(word port)" \
            -R "127.0.0.1:$(word remote_port):{target}" "tunnel@$(word host)"
        curl -fsS --cacert {AUTHORITY} -X POST {api}/tunnel-up -H 'Authorization: Bearer {token}'
        "#
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
