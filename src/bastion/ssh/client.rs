//! This host's own ssh: asked what it is and what it can before anything is promised on its behalf.

use super::{Forward, KeyType};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, CommandError, Host, HostExt as _, Output};

/// Ciphers in the order of their speed on current processors; every OpenSSH since 6.5 has them all,
/// unless a policy of the host takes some away. The client's order decides, and the client's default puts
/// the slower chacha20 first.
const CIPHERS: [&str; 5] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
];

/// All of them, for an ssh that has not been asked.
pub fn ciphers() -> String {
    CIPHERS.join(",")
}

/// Those that this host's ssh has; it takes a list with a strange one in it for a mistake.
pub fn ciphers_of(host: &dyn Host) -> anyhow::Result<String> {
    let said = known(host, "cipher")?;
    let has = |cipher: &&str| said.as_ref().is_none_or(|said| is_in(said, cipher));
    let known: Vec<&str> = CIPHERS.into_iter().filter(has).collect();
    Ok(if known.is_empty() {
        ciphers()
    } else {
        known.join(",")
    })
}

/// Whether this host's ssh can use keys of this type; one that is not there yet may.
pub fn knows(host: &dyn Host, key: KeyType) -> anyhow::Result<bool> {
    Ok(known(host, "key")?.is_none_or(|said| is_in(&said, key.ssh_name())))
}

/// What ssh knows of a kind, in lines; nothing where it is not installed.
fn known(host: &dyn Host, kind: &str) -> anyhow::Result<Option<String>> {
    if host.which("ssh").is_none() {
        return Ok(None);
    }
    match host.expect(&Command::new("ssh").args(["-Q", kind]).constant()) {
        Ok(output) => Ok(Some(output.stdout)),
        Err(error) if error.stops_the_run() => Err(error.into()),
        Err(error) => Err(another(host)?.map_or(error.into(), Into::into)),
    }
}

fn is_in(said: &str, name: &str) -> bool {
    said.lines().any(|line| line.trim() == name)
}

/// Why this host's ssh cannot hold this tunnel, wherever it leads; nothing where that is not its own fault.
pub fn fault(host: &dyn Host, forward: &Forward) -> Result<Option<Failure>, CommandError> {
    if let Some(another) = another(host)? {
        return Ok(Some(another));
    }
    // It prints the settings that it would use.
    let show = |arguments: &[String]| host.run(&Command::new("ssh").arg("-G").args(arguments));
    let Output { status, stderr, .. } = show(&forward.ssh_arguments())?;
    // There is no such option before OpenSSH 6.8.
    let bare = ["-F", "none", "localhost"].map(str::to_owned);
    if status == 0 || !show(&bare)?.success() {
        return Ok(None);
    }
    Ok(Some(Failure::new(
        format!(
            "this host's ssh refuses the arguments of the tunnel: {}",
            super::trial::Heard(&stderr).last_words()
        ),
        "no network is at fault: look at the policy under which its OpenSSH was built or runs, or use a bastion \
         with the OpenSSH of its distribution",
    )))
}

/// What this host's ssh is, if that is not OpenSSH.
fn another(host: &dyn Host) -> Result<Option<Failure>, CommandError> {
    // OpenSSH tells its version on standard error, and so do others.
    let version = host.run(&Command::new("ssh").arg("-V"))?;
    let said = format!("{}{}", version.stderr, version.stdout);
    if !said.lines().any(|line| line.starts_with("OpenSSH_")) {
        let first = said.lines().map(str::trim).find(|line| !line.is_empty());
        return Ok(Some(not_openssh(first.unwrap_or("silent"))));
    }
    Ok(None)
}

/// Another ssh, with what it says it is.
pub fn not_openssh(said: &str) -> Failure {
    Failure::new(
        format!("this host's `ssh` is not OpenSSH, but {said}"),
        "install the OpenSSH client and have it found first on PATH, then run the same command again",
    )
}

/// This host's ssh has refused everything that the server offers, in these words.
pub fn refused(words: &str) -> Failure {
    Failure::new(
        format!("this host's ssh and the tunnel server have no algorithms in common: {words}"),
        "no network is at fault: a policy of this host (FIPS mode, `update-crypto-policies --show`) leaves its ssh \
         nothing that the tunnel server has; have it allow one of those that ssh names, or use another bastion",
    )
}
