//! What an ssh that holds a tunnel is told. Setup, the service and the guides for a setup by hand all say
//! the same, from here.

/// Seconds of silence after which ssh asks the server for a sign of life.
const ALIVE_INTERVAL: &str = "8";
/// How many unanswered questions end the session. With one more, 8 × 3: a dead line is noticed within 24 s, and the
/// tunnel is back within half a minute. The server asks a quiet client every nine seconds anyway, so this costs nothing.
const ALIVE_COUNT: &str = "2";
/// Seconds a connection attempt may take.
const CONNECT_TIMEOUT: &str = "15";
/// The port without which a name stands in `known_hosts` as it is.
const DEFAULT_SSH_PORT: &str = "22";

/// Environment variables that bound how long autossh waits between attempts.
///
/// `AUTOSSH_GATETIME=0`: a refused first connection is tried again instead of ending autossh.
/// `AUTOSSH_POLL`: with `-M 0` it only scales the back-off, which at its default grows to 600 s.
pub const AUTOSSH_ENVIRONMENT: [(&str, &str); 2] =
    [("AUTOSSH_GATETIME", "0"), ("AUTOSSH_POLL", "30")];

/// ssh's options. `alias` is the name under which the server's host keys are pinned, where that is not the
/// server's own.
pub fn options(known_hosts: &str, alias: Option<&str>) -> Vec<(&'static str, String)> {
    let mut options = vec![
        // Never a question, never another key, never a host that is not pinned.
        ("BatchMode", "yes".to_owned()),
        ("IdentitiesOnly", "yes".to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("UserKnownHostsFile", known_hosts.to_owned()),
        ("GlobalKnownHostsFile", "/dev/null".to_owned()),
        // No tunnel that looks up and carries nothing.
        ("ExitOnForwardFailure", "yes".to_owned()),
        ("ServerAliveInterval", ALIVE_INTERVAL.to_owned()),
        ("ServerAliveCountMax", ALIVE_COUNT.to_owned()),
        ("TCPKeepAlive", "yes".to_owned()),
        ("ConnectTimeout", CONNECT_TIMEOUT.to_owned()),
        ("ForwardAgent", "no".to_owned()),
        ("Compression", "no".to_owned()),
        ("LogLevel", "INFO".to_owned()),
    ];
    // Two vendors may call two servers by one name, such as a private address.
    if let Some(alias) = alias {
        options.push(("HostKeyAlias", alias.to_owned()));
    }
    options
}

/// What follows `-R`. `127.0.0.1` is said outright: without it, ssh reports success if only `[::1]` could be
/// bound.
pub fn remote_forward(remote_port: &str, target_host: &str, target_port: &str) -> String {
    format!(
        "127.0.0.1:{remote_port}:{}:{target_port}",
        bracketed(target_host)
    )
}

/// An IPv6 address in brackets, anything else as it is.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// How `known_hosts` names a server: `[name]:port` unless the port is 22.
pub fn host_pattern(host: &str, port: &str) -> String {
    if port == DEFAULT_SSH_PORT {
        host.to_owned()
    } else {
        format!("[{host}]:{port}")
    }
}
