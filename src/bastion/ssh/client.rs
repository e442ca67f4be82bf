//! This host's own ssh: asked what it can before anything is promised on its behalf.

use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, CommandError, Host, HostExt as _, Output};
use crate::bastion::steps::Proofs;

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
pub fn prove(host: &dyn Host, arguments: &[String], proofs: &mut Proofs) -> anyhow::Result<()> {
    const WHAT: &str = "whether this host's ssh takes the tunnel's arguments";
    if host.which("ssh").is_none() {
        proofs.could_not_see(WHAT, "it is about to be installed");
        return Ok(());
    }
    let refusal = match ask(host, arguments)? {
        Answer::Takes => {
            proofs.saw("this host's ssh takes the tunnel's arguments");
            return Ok(());
        }
        Answer::Unknown => {
            proofs.could_not_see(WHAT, "it is too old to be asked");
            return Ok(());
        }
        Answer::Refuses(refusal) => refusal,
    };
    // The key may not be there yet.
    let lines = refusal.stderr.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.starts_with("Warning: "))
        .collect();
    let said = lines.join("; ");
    Err(Failure::new(
        format!("this host's ssh refuses the arguments of the tunnel: {said}"),
        "no network is at fault: look at the policy under which its OpenSSH was built or runs, or use a bastion \
         with the OpenSSH of its distribution; nothing was changed",
    )
    .into())
}

enum Answer {
    Takes,
    Refuses(Output),
    /// It is older than the question.
    Unknown,
}

fn ask(host: &dyn Host, arguments: &[String]) -> Result<Answer, CommandError> {
    // It prints the settings that it would use.
    let show = |arguments: &[String]| host.run(&Command::new("ssh").arg("-G").args(arguments));
    let output = show(arguments)?;
    if output.success() {
        return Ok(Answer::Takes);
    }
    // There is no such option before OpenSSH 6.8.
    let bare = ["-F", "none", "localhost"].map(str::to_owned);
    Ok(match show(&bare)?.success() {
        true => Answer::Refuses(output),
        false => Answer::Unknown,
    })
}
