//! This host's own ssh: asked what it can before anything is promised on its behalf.

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
///
/// # Errors
/// It cannot be asked.
pub fn ciphers_of(host: &dyn Host) -> Result<String, CommandError> {
    if host.which("ssh").is_none() {
        return Ok(ciphers());
    }
    let said = host
        .expect(&Command::new("ssh").args(["-Q", "cipher"]))?
        .stdout;
    let has = |cipher: &&str| said.lines().any(|line| line.trim() == *cipher);
    let known: Vec<&str> = CIPHERS.into_iter().filter(has).collect();
    Ok(if known.is_empty() {
        ciphers()
    } else {
        known.join(",")
    })
}

/// Looks whether this host's ssh takes these arguments, without a connection.
///
/// # Errors
/// It refuses them, and so would refuse the tunnel.
pub fn prove(host: &dyn Host, arguments: &[String]) -> anyhow::Result<()> {
    if host.which("ssh").is_none() {
        // It is about to be installed.
        return Ok(());
    }
    let Some(refusal) = refusal(host, arguments)? else {
        return Ok(());
    };
    let said = refusal.stderr.trim();
    Err(Failure::new(
        format!("this host's ssh refuses the arguments of the tunnel: {said}"),
        "no network is at fault: look at the policy under which its OpenSSH was built or runs, or use a bastion \
         with the OpenSSH of its distribution; nothing was changed",
    )
    .into())
}

fn refusal(host: &dyn Host, arguments: &[String]) -> Result<Option<Output>, CommandError> {
    // It prints the settings that it would use.
    let show = |arguments: &[String]| host.run(&Command::new("ssh").arg("-G").args(arguments));
    let output = show(arguments)?;
    if output.success() {
        return Ok(None);
    }
    // Before 6.8 there is no such option, and then nothing is known.
    let bare = ["-F", "none", "localhost"].map(str::to_owned);
    Ok(show(&bare)?.success().then_some(output))
}
