//! A tunnel's name on this host: its control plane and its number there.
//!
//! Every control plane counts from 1, so a number alone names several tunnels on a host that has
//! tunnels of two vendors. The name stands in file names, units, labels, sockets and `known_hosts`.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::{Host, Url};

use crate::protocol::TunnelId;

/// The longest part that names a control plane. A control socket's path has about 100 bytes in all.
const LONGEST_PLANE: usize = 40;
/// Digits of the hash by which names stay apart that had to be changed.
const HASH_DIGITS: usize = 8;

/// A control plane and a number. [`TunnelName::slug`] is safe as a part of a file's and a unit's name,
/// and unique on a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TunnelName {
    plane: ArrayString<LONGEST_PLANE>,
    /// Absent in a plan that is made before the tunnel is known.
    number: Option<TunnelId>,
}

impl TunnelName {
    pub fn new(control_plane: &Url, number: TunnelId) -> Self {
        TunnelName {
            plane: plane(control_plane),
            number: Some(number),
        }
    }

    /// The tunnel of the same number at this control plane.
    pub fn at(self, control_plane: &Url) -> Self {
        TunnelName {
            plane: plane(control_plane),
            ..self
        }
    }

    /// Stands in a plan that is made before the tunnel is known.
    pub fn unknown() -> Self {
        TunnelName {
            plane: fitting("<control-plane>"),
            number: None,
        }
    }

    /// Its number at its control plane, where it is known.
    pub fn number(self) -> Option<TunnelId> {
        self.number
    }

    /// Whether this control plane gave it its number, as far as the name tells.
    pub fn is_of(self, control_plane: &Url) -> bool {
        self.plane == plane(control_plane)
    }

    /// `bi.example.com-7`, for names of files, units and whatever else the host tells apart.
    pub fn slug(self) -> String {
        if self.is_former() {
            return self.to_string();
        }
        format!("{}-{self}", self.plane)
    }

    /// The name under which its server's host keys are pinned; those of a former name are pinned under the
    /// server's own.
    pub fn host_key_alias(self) -> Option<String> {
        (!self.is_former()).then(|| self.slug())
    }

    /// The name that programs up to version 0.1 gave it.
    pub fn former(self) -> Self {
        TunnelName {
            plane: ArrayString::new(),
            ..self
        }
    }

    /// Whether it is a number alone, as programs up to version 0.1 named a tunnel's files.
    pub fn is_former(self) -> bool {
        self.plane.is_empty()
    }
}

/// The host and, where it is not the scheme's own, the port. What cannot stand in a name, or is too
/// long for one, is told apart by a hash.
fn plane(url: &Url) -> ArrayString<LONGEST_PLANE> {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string().replace(':', "_"),
        None => String::new(),
    };
    // Plain http to the same host, which loopback alone may have, is another control plane.
    let port = match (url.scheme(), url.port_or_known_default()) {
        ("https", Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!("_{port}"),
    };
    let readable = format!("{host}{port}");
    let path = url.path().trim_end_matches('/');
    if path.is_empty() && readable.len() <= LONGEST_PLANE && readable.chars().all(is_safe) {
        return fitting(&readable);
    }
    let whole = format!("{readable}{path}");
    let hash = Sha256::digest(whole.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let safe: String = whole.chars().filter(|c| is_safe(*c)).collect();
    let kept = safe.len().min(LONGEST_PLANE - HASH_DIGITS - 1);
    fitting(&format!("{}_{}", &safe[..kept], &hash[..HASH_DIGITS]))
}

fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// The text as far as it fits, which for the callers is all of it.
fn fitting(text: &str) -> ArrayString<LONGEST_PLANE> {
    let mut fitting = ArrayString::new();
    for c in text.chars() {
        if fitting.try_push(c).is_err() {
            break;
        }
    }
    fitting
}

/// The number alone, by which people call it.
impl fmt::Display for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => number.fmt(f),
            None => f.write_str("<tunnel-id>"),
        }
    }
}

impl fmt::Debug for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.slug())
    }
}

impl From<TunnelName> for String {
    fn from(name: TunnelName) -> Self {
        name.slug()
    }
}

impl TryFrom<String> for TunnelName {
    type Error = NoTunnelName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// It is no name that this program gives.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the name of a tunnel")]
pub struct NoTunnelName(String);

impl FromStr for TunnelName {
    type Err = NoTunnelName;

    /// Reads what a file of this host says, which is not trusted: a name that leads out of a folder is none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NoTunnelName(text.to_owned());
        let (plane, number) = text.rsplit_once('-').unwrap_or(("", text));
        let number: TunnelId = number.parse().map_err(|_| wrong())?;
        if number < TunnelId(1) || plane.starts_with(['.', '-']) || !plane.chars().all(is_safe) {
            return Err(wrong());
        }
        let name = TunnelName {
            plane: ArrayString::from(plane).map_err(|_| wrong())?,
            number: Some(number),
        };
        // "+7" and "07" are numbers too, and would be other files.
        if name.slug() == text {
            Ok(name)
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(url: &str) -> String {
        TunnelName::new(&Url::parse(url).unwrap(), TunnelId(7)).slug()
    }

    #[test]
    fn two_control_planes_never_share_a_name() {
        let long = format!("https://{}.example.com", "bi".repeat(30));
        let longer = format!("https://{}.example.com", "bi".repeat(31));
        let planes = [
            "https://bi.example.com",
            "https://bi.example.com:8443",
            "https://bi.example.com/tunnels",
            "https://bi.example.com/tunnels/x",
            "https://127.0.0.1",
            "http://127.0.0.1",
            "http://[::1]:8080",
            &long,
            &longer,
        ];
        let names: std::collections::BTreeSet<String> = planes.map(name).into();
        assert_eq!(names.len(), planes.len(), "{names:?}");
        for given in names {
            assert_eq!(given.parse::<TunnelName>().unwrap().slug(), given);
            assert!(given.len() <= LONGEST_PLANE + 2);
        }
        assert_eq!(name("https://BI.example.com/"), "bi.example.com-7");
        assert_eq!(name("http://127.0.0.1:8080"), "127.0.0.1_8080-7");
    }

    #[test]
    fn a_former_name_is_the_number_alone() {
        let former: TunnelName = "7".parse().unwrap();
        assert!(former.is_former());
        assert_eq!(former.slug(), "7");
    }

    #[test]
    fn what_leads_out_of_a_folder_is_no_name() {
        for text in [
            "", "-7", "../x-7", "a/b-7", "a-0", "a-+7", "a-07", "a-7x", "a\n-7", ".-7", "a b-7",
        ] {
            assert!(text.parse::<TunnelName>().is_err(), "{text:?}");
        }
    }
}
