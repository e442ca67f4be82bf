//! How ssh's connection leaves this host: by itself, through a command that somebody gave, or through the web
//! proxy of this host's environment, with a program that the distribution has.

use std::time::Duration;

use super::failure::Failure;
use super::host::{Command, Host};
use super::packages::Need;
use super::ssh::command_line::bracketed;
use super::ssh::greeting::{self, Greeting};
use super::ssh::proxy_command::ProxyCommand;
use super::ssh::trial::{self, Heard};
use super::ssh::{Forward, Way};
use super::web_proxy::{self, Proxy};
use crate::shell;

/// How long the name of the tunnel server may take, and each of its addresses to accept and to greet.
const NAME_TIMEOUT: Duration = Duration::from_secs(10);
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayOut {
    Direct,
    Command(ProxyCommand),
    Proxy(Proxy, Program),
}

/// What leads ssh through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// OpenBSD's netcat.
    Nc,
    Ncat,
    Socat,
}

impl WayOut {
    /// What has to be installed for it, where it is missing.
    pub fn need(&self) -> Option<Need> {
        // The others are used where they are found, and only then.
        matches!(self, WayOut::Proxy(_, Program::Ncat)).then_some(Need::Ncat)
    }
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Program::Nc => "nc",
            Program::Ncat => "ncat",
            Program::Socat => "socat",
        }
    }

    /// The line of shell that connects to `name` and `port` through the proxy; it tells the proxy no login.
    pub fn line(self, program: &str, proxy: &Proxy, name: &str, port: &str) -> String {
        let proxy_host = shell::word(&bracketed(&proxy.host)).replace('%', "%%");
        let proxy_port = proxy.port;
        match self {
            Program::Nc => {
                format!("{program} -X connect -x {proxy_host}:{proxy_port} {name} {port}")
            }
            Program::Ncat => format!(
                "{program} --proxy {proxy_host}:{proxy_port} --proxy-type http {name} {port}"
            ),
            Program::Socat => {
                format!("{program} - PROXY:{proxy_host}:{name}:{port},proxyport={proxy_port}")
            }
        }
    }

    /// The one to use for this proxy: what is there, else the one that is installed.
    fn choose(host: &dyn Host, proxy: &Proxy) -> Self {
        // It takes the login from its environment; the others have it on their command line, or not at all.
        if proxy.login().is_some() || host.which("ncat").is_some() {
            Program::Ncat
        } else if is_openbsd_netcat(host) {
            Program::Nc
        } else if host.which("socat").is_some() {
            Program::Socat
        } else {
            Program::Ncat
        }
    }
}

/// There are other programs of that name, which know no proxies.
fn is_openbsd_netcat(host: &dyn Host) -> bool {
    host.which("nc").is_some()
        && host
            .run(&Command::new("nc").arg("-h"))
            .is_ok_and(|output| format!("{}{}", output.stdout, output.stderr).contains("-X "))
}

/// What decides the way out.
pub struct Question<'a> {
    /// What somebody asked for.
    pub asked: Option<&'a ProxyCommand>,
    /// How an earlier run went.
    pub recorded: Option<&'a ProxyCommand>,
    /// The proxy by which the control plane was reached before.
    pub kept: Option<&'a str>,
    /// The tunnel server.
    pub server: &'a Forward,
}

/// Finds the way out.
///
/// # Errors
/// There is none, neither directly nor through the proxy of this host's environment.
pub fn find(host: &dyn Host, question: &Question) -> anyhow::Result<WayOut> {
    if let Some(asked) = question.asked {
        return Ok(if asked.is_none() {
            WayOut::Direct
        } else {
            WayOut::Command(asked.clone())
        });
    }
    if let Some(recorded) = question.recorded
        && (host.which("ssh").is_none() || leads(host, question.server, recorded)?)
    {
        return Ok(WayOut::Command(recorded.clone()));
    }
    let as_before = || match question.recorded {
        Some(recorded) => WayOut::Command(recorded.clone()),
        None => WayOut::Direct,
    };
    let Some((name, port)) = address(question.server) else {
        return Ok(as_before());
    };
    let server = format!("{}:{port}", bracketed(name));
    let Some(proxy) = format!("https://{server}/")
        .parse()
        .ok()
        .and_then(|server| web_proxy::for_address(host, &server, question.kept))
    else {
        return Ok(as_before());
    };
    let closed = match look(host, name, port) {
        Ok(()) => return Ok(WayOut::Direct),
        Err(closed) => closed,
    };
    host.check_interrupt()?;
    let variable = proxy.variable.unwrap_or("https_proxy");
    let (refusal, next) = if proxy.is_plain_http() {
        match proxy.leads_to(host, name, port) {
            Ok(()) => {
                let program = Program::choose(host, &proxy);
                return Ok(WayOut::Proxy(proxy, program));
            }
            Err(refusal) if refusal.contains(" 407") => (
                refusal,
                format!("give the proxy's login in {variable}: http://NAME:PASSWORD@PROXY:PORT"),
            ),
            Err(refusal) => (
                refusal,
                format!(
                    "allow CONNECT to {server} on the proxy, or outbound TCP from this host to {server} in the \
                     firewall"
                ),
            ),
        }
    } else {
        (
            "setup can send ssh only through plain http proxies".to_owned(),
            "give the way through it with --proxy-command".to_owned(),
        )
    };
    host.check_interrupt()?;
    Err(Failure::new(
        format!(
            "{closed}; nor through the proxy {proxy} {}: {refusal}",
            proxy.origin()
        ),
        format!("{next}; then run the same command again"),
    )
    .into())
}

fn leads(host: &dyn Host, server: &Forward, command: &ProxyCommand) -> anyhow::Result<bool> {
    let forward = Forward {
        way: Way::Command(command.clone()),
        ..server.clone()
    };
    match trial::run(host, &forward) {
        Err(error) if error.stops_the_run() => Err(error.into()),
        said => Ok(said.is_ok_and(|said| Heard(&said).version().is_some())),
    }
}

/// The tunnel server's name and port, once the control plane has told them.
pub fn address(server: &Forward) -> Option<(&str, u16)> {
    let port = server.server_port.parse().ok()?;
    Some((server.server_host.trim_matches(['[', ']']), port))
}

/// Looks whether the tunnel server answers at its SSH port: the way there may be closed while https is open.
///
/// # Errors
/// What this host sees in its place.
pub fn look(host: &dyn Host, name: &str, port: u16) -> Result<(), Failure> {
    let proxies = "where a web proxy is the only way out, set https_proxy or give --proxy-command";
    let addresses = host.resolve(name, port, NAME_TIMEOUT).map_err(|error| {
        Failure::new(
            format!("the name of the tunnel server, {name}, cannot be resolved on this host: {error}"),
            format!(
                "check the host's DNS (`getent hosts {name}`), then run the same command again; {proxies}"
            ),
        )
    })?;
    let mut unreached = String::new();
    for address in addresses {
        if host.check_interrupt().is_err() {
            break;
        }
        let mut connection = match host.connect(address, GREETING_TIMEOUT) {
            Ok(connection) => connection,
            Err(error) => {
                unreached = format!(": {error}");
                continue;
            }
        };
        let what = match greeting::read(connection.as_mut()) {
            Greeting::Ssh(_) => return Ok(()),
            Greeting::HungUp => {
                "accepts the connection and closes it without sending anything".to_owned()
            }
            Greeting::Silence => "accepts the connection and sends nothing".to_owned(),
            Greeting::Other(said) => format!("does not speak SSH, but says: {said:?}"),
        };
        unreached = format!(": {address} {what}");
    }
    Err(Failure::new(
        format!("the tunnel server {name}:{port} cannot be reached from this host{unreached}"),
        format!(
            "allow outbound TCP from this host to {name} port {port} in the firewall, then run the same command \
             again; {proxies}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::failure::advice_of;
    use crate::bastion::host::Output;
    use crate::bastion::host::scripted::{Listener, ScriptedHost};
    use crate::bastion::layout::Layout;
    use crate::bastion::plan::Target;
    use crate::bastion::ssh::KeyType;

    const PROXY: &str = "10.0.0.9:3128";

    fn server(host: &ScriptedHost) -> Forward {
        let layout = Layout::new(host, Path::new("/"));
        Forward {
            server_host: "tunnel.example.com".to_owned(),
            server_port: "50022".to_owned(),
            ..Target::unknown(&layout, KeyType::Rsa).forward
        }
    }

    use std::path::Path;

    fn found(host: &ScriptedHost) -> anyhow::Result<WayOut> {
        let question = Question {
            asked: None,
            recorded: None,
            kept: None,
            server: &server(host),
        };
        find(host, &question)
    }

    /// A host whose proxy answers like this.
    fn behind_a_proxy(says: &str) -> ScriptedHost {
        let host = ScriptedHost::new();
        host.set_env("https_proxy", &format!("http://{PROXY}"));
        host.listen(PROXY, Listener::Says(says.as_bytes().to_vec()));
        host
    }

    const LETS_THROUGH: &str = "HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n";

    #[test]
    fn the_direct_way_is_taken_where_it_is_open() {
        let host = behind_a_proxy(LETS_THROUGH);
        host.name("tunnel.example.com", "10.0.0.2");
        host.listen("10.0.0.2:50022", Listener::Says(b"SSH-2.0-x\r\n".to_vec()));
        assert_eq!(found(&host).unwrap(), WayOut::Direct);
    }

    #[test]
    fn a_closed_one_leads_through_the_proxy_with_what_is_there() {
        let is_netcat = |options: &'static str| {
            move |_: &ScriptedHost, _: &Command| Output {
                status: 1,
                stderr: format!("usage: nc {options}"),
                ..Output::default()
            }
        };
        let cases: [(&[&str], &str, Program); 6] = [
            (&[], "", Program::Ncat),
            (&["nc"], "[-l]", Program::Ncat),
            (&["nc"], "[-X proxy_protocol]", Program::Nc),
            (&["nc", "socat"], "[-l]", Program::Socat),
            (&["ncat", "socat"], "", Program::Ncat),
            (&["socat"], "", Program::Socat),
        ];
        for (programs, options, expected) in cases {
            let host = behind_a_proxy(LETS_THROUGH);
            programs.iter().for_each(|program| host.install(program));
            host.on("nc -h", is_netcat(options));
            let way = found(&host).unwrap();
            assert!(
                matches!(&way, WayOut::Proxy(_, program) if *program == expected),
                "{programs:?} {options}: {way:?}"
            );
            // An exception of this host counts.
            host.set_env("no_proxy", "example.com");
            assert_eq!(found(&host).unwrap(), WayOut::Direct);
        }
    }

    #[test]
    fn a_proxy_that_was_kept_leads_out_where_the_environment_names_none() {
        let host = ScriptedHost::new();
        host.listen(PROXY, Listener::Says(LETS_THROUGH.as_bytes().to_vec()));
        let kept = format!("http://{PROXY}");
        let question = Question {
            asked: None,
            recorded: None,
            kept: Some(&kept),
            server: &server(&host),
        };
        let way = find(&host, &question).unwrap();
        assert!(
            matches!(&way, WayOut::Proxy(proxy, _) if proxy.to_string() == PROXY),
            "{way:?}"
        );
        host.set_env("https_proxy", "http://10.0.0.8:1");
        let error = find(&host, &question).unwrap_err().to_string();
        assert!(error.contains("10.0.0.8:1 of https_proxy"), "{error}");
    }

    #[test]
    fn a_login_needs_the_one_that_takes_it_from_its_environment() {
        let host = behind_a_proxy(LETS_THROUGH);
        host.set_env("https_proxy", &format!("http://ada:secret@{PROXY}"));
        host.install("socat");
        let way = found(&host).unwrap();
        assert_eq!(way.need(), Some(Need::Ncat));
        assert!(!format!("{way:?}").contains("secret"));
    }

    #[test]
    fn a_proxy_that_refuses_is_named_with_its_answer_and_what_to_ask_for() {
        let host = behind_a_proxy("HTTP/1.1 403 Filtered\r\n\r\n");
        let error = found(&host).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("10.0.0.9:3128 of https_proxy: it answers \"HTTP/1.1 403 Filtered\""),
            "{said}"
        );
        let next = advice_of(&error).unwrap();
        assert!(
            next.contains("allow CONNECT to tunnel.example.com:50022 on the proxy"),
            "{next}"
        );
        let error = found(&behind_a_proxy("HTTP/1.1 407 Login\r\n\r\n")).unwrap_err();
        assert!(
            advice_of(&error)
                .unwrap()
                .contains("give the proxy's login in https_proxy")
        );
        let host = ScriptedHost::new();
        host.set_env("all_proxy", "socks5://10.0.0.9:1080");
        let error = found(&host).unwrap_err();
        assert!(advice_of(&error).unwrap().contains("--proxy-command"));
    }

    #[test]
    fn what_an_earlier_run_used_stays_while_it_leads_there() {
        let host = behind_a_proxy(LETS_THROUGH);
        for program in ["ssh", "ncat"] {
            host.install(program);
        }
        let recorded = "mine %h %p".parse().unwrap();
        let question = Question {
            asked: None,
            recorded: Some(&recorded),
            kept: None,
            server: &server(&host),
        };
        let greets = "debug1: Remote protocol version 2.0, remote software version x\n";
        host.expect("SHELL=/bin/sh ssh -v", 255, "", greets);
        assert_eq!(
            find(&host, &question).unwrap(),
            WayOut::Command(recorded.clone())
        );
        host.expect("SHELL=/bin/sh ssh -v", 255, "", "mine: no\n");
        assert!(matches!(find(&host, &question).unwrap(), WayOut::Proxy(..)));
        let none = "none".parse().unwrap();
        let asked = Question {
            asked: Some(&none),
            ..question
        };
        assert_eq!(find(&host, &asked).unwrap(), WayOut::Direct);
    }
}
