//! Which addresses a control plane may have.

use anyhow::{bail, ensure};
use url::Url;

use crate::bastion::failure::Failure;
use crate::protocol::is_loopback;

/// Reads an address given by a person.
pub fn parse_address(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).map_err(|error| {
        Failure::usage(
            format!("{text:?} is not a valid server address"),
            "use https://NAME, as in the command from the browser",
        )
        .because(error)
    })?;
    ensure!(
        url.has_host()
            && url.username().is_empty()
            && url.query().is_none()
            && url.fragment().is_none(),
        Failure::usage(
            format!("{text:?} is not a valid server address"),
            "use https://NAME, as in the command from the browser",
        )
    );
    check_scheme(&url)?;
    Ok(url)
}

/// The token crosses this connection, and what comes back decides which host keys are trusted.
pub(super) fn check_scheme(url: &Url) -> anyhow::Result<()> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => bail!(Failure::usage(
            format!("{url} is refused: plain http is only allowed to this machine"),
            "use the https address of the control plane",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_allowed_to_this_machine_only() {
        for good in [
            "https://vendor.example",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://localhost",
        ] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://vendor.example",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "ftp://127.0.0.1",
            "vendor.example",
            "https://user@vendor.example",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
