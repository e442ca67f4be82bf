//! What is asked for where an argument is missing.

use anyhow::ensure;

use crate::bastion::failure::Failure;
use crate::bastion::host::Host;

/// Holds a run to its question: only a yes goes on. No answer means that there is no terminal, which is
/// `unasked`.
pub fn require_yes(answer: Option<bool>, unasked: Failure) -> anyhow::Result<()> {
    let refusal = match answer {
        Some(true) => return Ok(()),
        Some(false) => Failure::new("not confirmed", "nothing was changed"),
        None => unasked,
    };
    Err(refusal.into())
}

/// Asks whether a change that was shown is to be made; `yes` is the answer given in advance.
pub fn confirm_change(host: &dyn Host, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let unasked = Failure::usage(
        "cannot confirm without a terminal",
        "pass --yes to go on without asking; nothing was changed",
    );
    require_yes(host.confirm("Go on?")?, unasked)
}

/// The control plane's address, as given or as answered.
pub fn server(host: &dyn Host, given: Option<&str>) -> anyhow::Result<String> {
    match given {
        Some(address) => Ok(address.to_owned()),
        None => ask(
            host,
            "Address of the control plane, https://NAME",
            false,
            "the control plane's address is missing",
            "give --server URL, or set HOLISTICS_TUNNEL_SERVER",
        ),
    }
}

/// The one-time token, which is not shown while it is typed.
pub fn token(host: &dyn Host) -> anyhow::Result<String> {
    ask(
        host,
        "One-time token from the browser (not shown)",
        true,
        "the one-time token is missing",
        "give --token-file FILE, or set HOLISTICS_TUNNEL_TOKEN_FILE; the command from the browser does so",
    )
}

fn ask(
    host: &dyn Host,
    question: &str,
    secret: bool,
    missing: &str,
    remedy: &str,
) -> anyhow::Result<String> {
    let answer = host.ask(question, secret)?.unwrap_or_default();
    let answer = answer.trim();
    ensure!(!answer.is_empty(), Failure::usage(missing, remedy));
    Ok(answer.to_owned())
}
