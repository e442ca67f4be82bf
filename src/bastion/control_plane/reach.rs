//! What reaching a control plane takes besides its address: the certificate of a private authority, and a proxy.
//!
//! Setup keeps it in the receipt with the tunnel, and each later command goes the same way. What a command is given
//! itself counts more: a proxy of the environment takes the kept one's place, and the authority of `--ca-cert` is
//! trusted besides the kept one.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{ApiError, ControlPlane};
use crate::bastion::failure::{Failure, Interrupted};
use crate::bastion::host::Host;
use crate::bastion::web_proxy::Environment;

/// Bundles of all public authorities have a quarter of that.
const LARGEST_AUTHORITY: u64 = 1 << 20;
/// How long a control plane may take to show its certificate.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What reaching a control plane takes.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reach {
    /// The certificates of a private authority, PEM.
    #[serde(rename = "ca_cert", default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// A proxy, as its variable said it: with a password, maybe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// What one run was given on its command line.
#[derive(Clone, Default)]
pub struct Given {
    authority: Option<String>,
}

impl Given {
    /// Takes the certificates out of the file of `--ca-cert`, and nothing else that may stand there.
    pub fn read(host: &dyn Host, ca_cert: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = ca_cert else {
            return Ok(Given::default());
        };
        let refused = |what: &str| {
            Failure::usage(
                format!("{what} {} of --ca-cert", file.display()),
                "give the certificate authority's file, PEM",
            )
        };
        let content = host
            .read_at_most(file, LARGEST_AUTHORITY + 1)
            .map_err(|error| refused("cannot read the file").because(error))?;
        ensure!(
            content.len() as u64 <= LARGEST_AUTHORITY,
            refused("no authority has as many certificates as the file")
        );
        let authority = certificates(&String::from_utf8_lossy(&content));
        reqwest::Certificate::from_pem_bundle(authority.as_bytes())
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .with_context(|| refused("there is no certificate in the file"))?;
        Ok(Given {
            authority: Some(authority),
        })
    }
}

impl Reach {
    pub fn is_plain(&self) -> bool {
        *self == Reach::default()
    }

    /// How this run reaches the control plane at `address`. A proxy of the environment is the HTTP client's own
    /// affair.
    pub fn in_run(&self, host: &dyn Host, given: &Given, address: &Url) -> Self {
        let both = self.authority.iter().chain(&given.authority);
        let authority = both.cloned().collect::<Vec<_>>().join("\n");
        let kept = || self.proxy.clone();
        let proxy = match Environment::of(host, address) {
            Environment::Silent => kept(),
            Environment::Direct | Environment::Through(..) => None,
        };
        Reach {
            authority: Some(authority).filter(|authority| !authority.is_empty()),
            proxy,
        }
    }

    /// Begins to ask what [`Reach::renewed`] asks, and returns what that comes to if what was given is needed.
    pub fn begin_renewal(&self, host: &dyn Host, given: &Given, address: &Url) -> Self {
        let (as_before, with_given) = self.ways(host, given, address);
        let Some(with_given) = with_given else {
            return as_before;
        };
        let asked = self.authority.as_ref().map(|_| with_given.clone());
        for reach in [as_before].into_iter().chain(asked) {
            // Why it cannot be asked is told to whoever needs the answer.
            if let Ok(client) = ControlPlane::new(address, "", reach) {
                client.begin_health(host, ANSWER_TIMEOUT);
            }
        }
        with_given
    }

    /// How the control plane was reached, with the proxy of this run; and with the authority that was given, where
    /// that is another one.
    fn ways(&self, host: &dyn Host, given: &Given, address: &Url) -> (Self, Option<Self>) {
        let as_before = Reach {
            authority: self.authority.clone(),
            proxy: match Environment::of(host, address) {
                Environment::Silent => self.proxy.clone(),
                Environment::Direct => None,
                Environment::Through(_, proxy) => Some(proxy),
            },
        };
        let is_new = given.authority.is_some() && given.authority != self.authority;
        let with_given = is_new.then(|| Reach {
            authority: given.authority.clone(),
            ..as_before.clone()
        });
        (as_before, with_given)
    }

    /// What is to be kept from now on: with the proxy of this run, and with the authority that it was given if
    /// that one is what the control plane's certificate takes.
    ///
    /// # Errors
    /// The run was interrupted while it looked.
    pub fn renewed(
        &self,
        host: &dyn Host,
        given: &Given,
        address: &Url,
    ) -> Result<Self, Interrupted> {
        let (as_before, with_given) = self.ways(host, given, address);
        let Some(with_given) = with_given else {
            return Ok(as_before);
        };
        let is_enough = |reach: &Reach| {
            let Ok(client) = ControlPlane::new(address, "", reach.clone()) else {
                return Ok(false);
            };
            match client.health(host, ANSWER_TIMEOUT) {
                Err(ApiError::Interrupted(interrupted)) => Err(interrupted),
                answer => Ok(answer.is_ok()),
            }
        };
        if is_enough(&as_before)? && (self.authority.is_none() || !is_enough(&with_given)?) {
            Ok(as_before)
        } else {
            Ok(with_given)
        }
    }
}

/// Neither certificates, which say nothing to a person, nor a password.
impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach")
            .field("authority", &self.authority.is_some())
            .field("proxy", &self.proxy.is_some())
            .finish()
    }
}

/// The certificates of a PEM file, without keys and remarks.
fn certificates(pem: &str) -> String {
    let mut found = String::new();
    let mut rest = pem;
    while let Some(begin) = rest.find(BEGIN) {
        let Some(length) = rest[begin..].find(END) else {
            break;
        };
        let end = begin + length + END.len();
        found.push_str(&rest[begin..end]);
        found.push('\n');
        rest = &rest[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::Authority;
    use crate::bastion::host::http::{HttpError, Response};
    use crate::bastion::host::scripted::ScriptedHost;

    fn vendor() -> Url {
        "https://vendor.example".parse().unwrap()
    }

    fn with(variables: &[(&str, &str)]) -> ScriptedHost {
        let host = ScriptedHost::new();
        for (name, value) in variables {
            host.set_env(name, value);
        }
        host
    }

    #[test]
    fn the_environment_counts_more_than_what_is_kept() {
        let proxy = "http://ada:secret@proxy.internal:3128";
        let through = |name| Environment::Through(name, proxy.to_owned());
        for (variables, said) in [
            (vec![], Environment::Silent),
            (vec![("https_proxy", proxy)], through("https_proxy")),
            (vec![("ALL_PROXY", proxy)], through("ALL_PROXY")),
            (vec![("http_proxy", proxy)], Environment::Silent),
            (vec![("https_proxy", "")], Environment::Direct),
            (vec![("NO_PROXY", "*")], Environment::Direct),
            (vec![("no_proxy", "other.example")], Environment::Silent),
            (
                vec![("https_proxy", proxy), ("no_proxy", ".example")],
                Environment::Direct,
            ),
        ] {
            let host = with(&variables);
            assert_eq!(Environment::of(&host, &vendor()), said, "{variables:?}");
            let kept = Reach {
                authority: None,
                proxy: Some("http://kept:1".to_owned()),
            };
            let is_kept = said == Environment::Silent;
            let in_run = kept.in_run(&host, &Given::default(), &vendor());
            assert_eq!(in_run.proxy.is_some(), is_kept, "{variables:?}");
        }
        let loopback = "http://127.0.0.1:8080".parse().unwrap();
        let host = with(&[("https_proxy", proxy)]);
        assert_eq!(Environment::of(&host, &loopback), Environment::Direct);
    }

    #[test]
    fn of_a_file_the_certificates_alone_are_taken() {
        let one = format!("{BEGIN}\nAAAA\n{END}\n");
        let key = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            certificates(&format!("# ours\n{one}{key}{one}")),
            format!("{one}{one}")
        );
        let host = ScriptedHost::new();
        let file = Path::new("/home/ada/ca.pem");
        assert!(Given::read(&*host, Some(file)).is_err(), "it is not there");
        host.write(file, key.as_bytes(), 0o600, Authority::User)
            .unwrap();
        assert!(Given::read(&*host, Some(file)).is_err(), "it holds a key");
    }

    /// What is kept where the control plane's certificate comes from one of these.
    fn renewed(
        kept: Option<&str>,
        given: &'static str,
        trusted: &'static [&str],
    ) -> Option<String> {
        let host = ScriptedHost::new();
        host.serve(move |_, request| {
            let authority = request.authority.as_deref().unwrap_or("public");
            if trusted.contains(&authority) {
                Ok(Response::default())
            } else {
                Err(HttpError::NoAnswer(anyhow::anyhow!("UnknownIssuer")))
            }
        });
        let kept = Reach {
            authority: kept.map(str::to_owned),
            proxy: None,
        };
        let given = Given {
            authority: Some(given.to_owned()),
        };
        kept.renewed(&*host, &given, &vendor()).unwrap().authority
    }

    #[test]
    fn an_authority_is_kept_where_it_is_needed_and_fits() {
        assert_eq!(renewed(None, "ours", &["ours"]).unwrap(), "ours");
        assert_eq!(renewed(None, "ours", &["public", "ours"]), None);
        assert_eq!(renewed(Some("old"), "new", &["new"]).unwrap(), "new");
        assert_eq!(
            renewed(Some("old"), "both", &["old", "both"]).unwrap(),
            "both"
        );
        assert_eq!(
            renewed(Some("ours"), "another's", &["ours"]).unwrap(),
            "ours"
        );
    }
}
