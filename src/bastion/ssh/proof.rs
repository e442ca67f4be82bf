//! This host's ssh, proved before a key is registered: it is OpenSSH, takes the tunnel's arguments, gets to the
//! tunnel server, and agrees with it.

use std::time::Duration;

use super::trial::{self, Heard, Stage};
use super::{Forward, Way, client};
use crate::bastion::failure::Failure;
use crate::bastion::host::Host;
use crate::bastion::ssh::command_line::bracketed;
use crate::bastion::steps::Proofs;
use crate::bastion::way_out;

/// Tries ssh on this forward's way; `through` says which one that is, where it is not the direct one.
///
/// # Errors
/// What would fail once the key is registered, and whose fault it is.
pub fn prove(
    host: &dyn Host,
    forward: &Forward,
    through: &str,
    proofs: &mut Proofs,
) -> anyhow::Result<()> {
    const WHAT: &str = "whether this host's ssh and the tunnel server agree";
    let is_direct = forward.way == Way::Direct;
    let address = way_out::address(forward);
    if host.which("ssh").is_none() {
        proofs.could_not_see(WHAT, "ssh is about to be installed, and tried then");
        if let Some((name, port)) = address.filter(|_| is_direct) {
            look(host, name, port)?;
            proofs.saw(format!("the tunnel server answers at {name}:{port}"));
        }
        return Ok(());
    }
    let tried = Forward {
        ciphers: client::ciphers_of(host)?,
        ..with_any_server(forward)
    };
    let Some((name, port)) = address else {
        if let Some(fault) = client::fault(host, &tried)? {
            return Err(fault.into());
        }
        proofs.could_not_see(WHAT, "the control plane has not told its address yet");
        return Ok(());
    };
    let server = format!("{}:{port}", bracketed(name));
    let (said, ended) = match trial::run(host, &tried) {
        Ok(said) => (said, None),
        Err(error) if error.stops_the_run() => return Err(error.into()),
        Err(error) => (String::new(), Some(error.to_string())),
    };
    let heard = Heard(&said);
    let words = ended.unwrap_or_else(|| heard.last_words());
    let is_anothers = |shown| trial::is_another(shown, &forward.host_keys);
    if heard.host_key().is_some_and(is_anothers) {
        return Err(trial::mismatch(&server).into());
    }
    let lost = |when| {
        Failure::new(
            format!(
                "the connection to the tunnel server {server}{through} is lost {when}: {words}"
            ),
            "check whether a firewall on the way inspects SSH, or lets no large packets pass; if not, ask the vendor \
             what its tunnel server's log says; then run the same command again",
        )
    };
    let failure = match heard.stage() {
        Stage::Login => {
            proofs.saw(format!(
                "this host's ssh gets to the tunnel server at {server}{through}, and agrees with it on keys and ciphers"
            ));
            return Ok(());
        }
        Stage::Agreed => lost("before the login"),
        Stage::Lost => lost("before keys are exchanged"),
        Stage::Refused => client::refused(&words),
        Stage::Unheard => match client::fault(host, &tried)? {
            Some(fault) => fault,
            None if is_direct => {
                look(host, name, port)?;
                Failure::new(
                    format!(
                        "this host's ssh does not get to the tunnel server {server}, while this program does: {words}"
                    ),
                    "look at what keeps ssh from it on this host (SELinux, AppArmor, a program in ssh's place); then \
                     run the same command again",
                )
            }
            None => Failure::new(
                format!("no SSH server answers through the way to {server}: {words}"),
                "try that command by hand until it shows \"SSH-2.0-…\", and give it with --proxy-command (or none, \
                 for the direct way); then run the same command again",
            ),
        },
    };
    Err(failure.into())
}

/// Logs in with a key that the tunnel server has been told, and leaves. No port is asked for: the session that has it
/// runs on.
///
/// # Errors
/// The key is not accepted, or that cannot be found out.
pub fn prove_login(host: &dyn Host, forward: &Forward) -> anyhow::Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(15);
    let login = forward
        .ssh(forward.login_arguments(TIMEOUT))
        .timeout(TIMEOUT * 2);
    let said = host.run(&login)?.stderr;
    let has = |sign: &str| said.contains(sign);
    if has("Authenticated to ") || has("Authentication succeeded") {
        return Ok(());
    }
    let words = Heard(&said).last_words();
    // Its words have changed with the setting's name.
    let is_forbidden = has("not in PubkeyAccepted") || has("no mutual signature");
    let next = if is_forbidden {
        "a policy of this host keeps its ssh from keys of this type: give another one with --key-type"
    } else if has("Permission denied") {
        "give another type with --key-type; if no key is taken, ask the vendor what its tunnel server's log says"
    } else {
        "find what is in the way with `holistics-tunnel doctor`, then run the same command again"
    };
    Err(Failure::new(
        format!("the tunnel server does not let this host in with the new key: {words}"),
        next,
    )
    .into())
}

/// The reason why nobody is heard, as this program sees it.
fn look(host: &dyn Host, name: &str, port: u16) -> anyhow::Result<()> {
    let looked = way_out::look(host, name, port);
    host.check_interrupt()?;
    Ok(looked?)
}

/// The command line with something that ssh takes where a plan does not know the server yet.
fn with_any_server(preview: &Forward) -> Forward {
    let number = |text: &str| text.parse::<u16>().unwrap_or(1).to_string();
    let word = |text: &str, any: &str| if text.starts_with('<') { any } else { text }.to_owned();
    Forward {
        server_user: word(&preview.server_user, "tunnel"),
        server_host: word(&preview.server_host, "localhost"),
        target_host: word(&preview.target_host, "localhost"),
        server_port: number(&preview.server_port),
        remote_port: number(&preview.remote_port),
        target_port: number(&preview.target_port),
        ..preview.clone()
    }
}
