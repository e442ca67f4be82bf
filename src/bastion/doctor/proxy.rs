//! Through which proxy the control plane is reached: decided by the same variables and rules as the
//! HTTP client decides, since they come from the same library.

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::bastion::host::Host;

/// A proxy, without the login that its variable may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The variable that names it.
    pub variable: &'static str,
}

/// The variables in the order in which they count, for https and for http.
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy in use for an address; none for this machine itself.
pub fn for_address(host: &dyn Host, address: &Url) -> Option<Proxy> {
    let variable = |names: &[&'static str]| {
        names.iter().find_map(|name| {
            let value = host.env(name).filter(|value| !value.is_empty())?;
            Some((*name, value))
        })
    };
    let names = if address.scheme() == "https" {
        HTTPS
    } else {
        HTTP
    };
    let (variable_name, value) = variable(&names)?;
    let exceptions = variable(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value);
    let matcher = Matcher::builder()
        .all(value)
        .no(exceptions.unwrap_or_default())
        .build();
    let proxy = matcher.intercept(&address.as_str().parse().ok()?)?;
    let uri = proxy.uri();
    let port = match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, Some("socks4" | "socks4a" | "socks5" | "socks5h")) => 1080,
        (None, _) => 80,
    };
    Some(Proxy {
        host: uri.host()?.to_owned(),
        port,
        variable: variable_name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    fn proxy(variables: &[(&str, &str)], address: &str) -> Option<Proxy> {
        let host = ScriptedHost::new();
        for (name, value) in variables {
            host.set_env(name, value);
        }
        for_address(&host, &address.parse().unwrap())
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let found = proxy(
            &[("https_proxy", "http://ada:secret@proxy.internal:3128")],
            "https://vendor.example",
        )
        .unwrap();
        assert_eq!(
            (found.host.as_str(), found.port, found.variable),
            ("proxy.internal", 3128, "https_proxy")
        );
    }

    #[test]
    fn exceptions_and_the_scheme_count() {
        let set = [
            ("https_proxy", "http://proxy.internal:3128"),
            ("no_proxy", ".example"),
        ];
        assert_eq!(proxy(&set, "https://vendor.example"), None);
        assert!(proxy(&set, "https://vendor.test").is_some());
        assert_eq!(proxy(&set[..1], "http://127.0.0.1:8080"), None);
        assert_eq!(proxy(&[], "https://vendor.test"), None);
    }
}
