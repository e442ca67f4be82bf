//! How the values of flags are written.

use std::time::Duration;

use url::Url;

use crate::server::domain::inputs;

pub(super) fn public_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("it must begin with https:// or http://".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must have no ?query and no #fragment".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must have no user name and no password".to_owned());
    }
    Ok(url)
}

pub(super) fn ssh_host(text: &str) -> Result<String, String> {
    inputs::host("the host", text).map_err(|error| error.to_string())
}

/// As it is given to those who connect there.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let expected = || format!("{text:?} is not HOST:PORT, such as node-1.internal:7022");
    let (name, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let port: u16 = port.parse().map_err(|_| expected())?;
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    if port == 0 || (bare.is_none() && name.contains(':')) {
        return Err(expected());
    }
    let host = ssh_host(bare.unwrap_or(name))?;
    Ok(match bare {
        Some(_) => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    })
}

/// At most what counts as a great many: more would be a slip of the finger.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=1_000_000).contains(number))
        .ok_or_else(|| format!("{text:?} is not a number from 1 to 1000000"))
}

/// Days have 24 hours here: nothing that lasts for days depends on a change of the clocks.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a duration, such as 90d, 24h, 90m or 30s");
    if let Some(days) = text.strip_suffix('d') {
        let days: u32 = days.parse().map_err(|_| expected())?;
        return match days {
            0 => Err(expected()),
            days => Ok(Duration::from_secs(u64::from(days) * 24 * 3600)),
        };
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_numbers_that_let_something_in() {
        assert_eq!(at_least_one("10000"), Ok(10_000));
        for wrong in ["", "0", "-1", "1e3", "1000001", "many"] {
            assert!(at_least_one(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn what_other_nodes_call_this_one_is_a_host_with_a_port() {
        for right in [
            "node-1.internal:7022",
            "10.0.0.1:7022",
            "[2001:db8::1]:7022",
        ] {
            assert_eq!(host_and_port(right), Ok(right.to_owned()));
        }
        for wrong in [
            "node-1",
            "node-1:",
            "node-1:0",
            ":7022",
            "2001:db8::1:7022",
            "a b:1",
        ] {
            assert!(host_and_port(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn durations_are_written_as_people_do() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for wrong in ["", "0s", "-1h", "24", "soon", "0d", "-1d", "d"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_public_url_is_a_plain_http_address() {
        assert!(public_url("https://tunnel.example.com/base").is_ok());
        for wrong in [
            "tunnel.example.com",
            "ftp://x",
            "https://u:p@x",
            "https://x/?a=b",
            "https://x/#a",
        ] {
            assert!(public_url(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
