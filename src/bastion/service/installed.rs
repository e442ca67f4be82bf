//! The tunnels of all users, read from the root-owned files that the service runs them by.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::MARKER;
use super::tunnel_file::is_literal;
use crate::bastion::host::{Host, HostExt as _, Kind};
use crate::bastion::layout::Layout;
use crate::bastion::ssh::command_line::bracketed;
use crate::bastion::tunnel_name::TunnelName;

/// How the files of tunnels end.
const ENDING: &str = ".env";

/// A tunnel that the service of this host runs, whoever set it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledTunnel {
    pub name: TunnelName,
    pub user: String,
    /// The database as seen from here.
    pub target_host: String,
    pub target_port: u16,
    pub server: String,
    pub remote_port: u16,
    /// Where ssh and autossh write what they have to say.
    pub log: PathBuf,
}

impl InstalledTunnel {
    /// The folder of its log, which is all that it may write.
    pub fn logs_dir(&self) -> &Path {
        self.log.parent().unwrap_or(Path::new("/nonexistent"))
    }

    /// `~/.holistics` of its user, who can put anything there.
    pub fn user_dir(&self) -> &Path {
        self.logs_dir()
            .parent()
            .unwrap_or(Path::new("/nonexistent"))
    }

    /// The home of its user.
    pub fn home(&self) -> &Path {
        self.user_dir()
            .parent()
            .unwrap_or(Path::new("/nonexistent"))
    }

    /// The database as seen from here, `host:port`.
    pub fn target(&self) -> String {
        format!("{}:{}", bracketed(&self.target_host), self.target_port)
    }

    /// What autossh's arguments say; nothing where this program did not write them.
    pub(super) fn from_arguments(
        name: TunnelName,
        user: &str,
        log: &str,
        arguments: &[&str],
    ) -> Option<Self> {
        let forward = arguments.iter().position(|argument| *argument == "-R")?;
        let forward = arguments.get(forward + 1)?.strip_prefix("127.0.0.1:")?;
        let (remote_port, target) = forward.split_once(':')?;
        let (target_host, target_port) = target.rsplit_once(':')?;
        let (_, server) = arguments.last()?.split_once('@')?;
        let log = PathBuf::from(log);
        let is_plain = log
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let is_in_logs = log.parent()?.ends_with(".holistics/logs");
        (log.is_absolute() && is_plain && is_in_logs && !user.is_empty()).then(|| {
            Some(InstalledTunnel {
                name,
                user: user.to_owned(),
                target_host: target_host.trim_matches(['[', ']']).to_owned(),
                target_port: target_port.parse().ok()?,
                server: server.to_owned(),
                remote_port: remote_port.parse().ok()?,
                log,
            })
        })?
    }
}

/// The names of the tunnels' files, of anybody. Where there is one, what tunnels share is in use, even
/// if it was not this program that wrote it.
pub(super) fn tunnel_files(host: &dyn Host, layout: &Layout) -> io::Result<Vec<String>> {
    let names = match host.list(&layout.tunnels_dir()) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let is_tunnel = |name: &String| name.ends_with(ENDING) && !name.starts_with('.');
    Ok(names.into_iter().filter(is_tunnel).collect())
}

/// The tunnels of all users of this host. Of what others wrote, or can write, nothing is believed.
pub fn installed_tunnels(host: &dyn Host, layout: &Layout) -> io::Result<Vec<InstalledTunnel>> {
    let mut tunnels = Vec::new();
    for name in tunnel_files(host, layout)? {
        let path = layout.tunnels_dir().join(&name);
        let Ok(name) = name.trim_end_matches(ENDING).parse() else {
            continue;
        };
        if let Some(content) = read_trusted(host, layout, &path)? {
            tunnels.extend(parse(name, &content));
        }
    }
    Ok(tunnels)
}

/// A file that root alone can have written; nothing where it is gone by now, or another's.
pub(super) fn read_trusted(
    host: &dyn Host,
    layout: &Layout,
    path: &Path,
) -> io::Result<Option<String>> {
    let only_root_wrote = host.stat(path)?.is_some_and(|stat| {
        stat.kind == Kind::File
            && (!layout.is_system_wide() || (stat.uid == 0 && stat.mode & 0o022 == 0))
    });
    if !only_root_wrote {
        return Ok(None);
    }
    let content = host.read_if_present(path)?;
    Ok(content.and_then(|content| String::from_utf8(content).ok()))
}

/// Reads what `templates/tunnel.env` gives.
fn parse(name: TunnelName, content: &str) -> Option<InstalledTunnel> {
    let mut is_ours = false;
    let (mut user, mut log, mut arguments) = (None, None, None);
    for line in content.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            is_ours |= comment.contains(MARKER);
            continue;
        }
        let (variable, value) = line.split_once('=')?;
        match variable {
            "H_AUTOSSH_ARGUMENTS" => {
                let words = value.strip_prefix('"')?.strip_suffix('"')?;
                let words: Vec<&str> = words.split(' ').collect();
                if !words.iter().all(|word| is_literal(word)) {
                    return None;
                }
                arguments = Some(words);
            }
            _ if !is_literal(value) => return None,
            "H_AUTOSSH_USER" => user = Some(value),
            "AUTOSSH_LOGFILE" => log = Some(value),
            _ => {}
        }
    }
    if !is_ours {
        return None;
    }
    InstalledTunnel::from_arguments(name, user?, log?, &arguments?)
}

#[cfg(test)]
mod tests {
    use super::super::tunnel_file::example;
    use super::*;

    fn name() -> TunnelName {
        "bi.example.com-7".parse().unwrap()
    }

    #[test]
    fn what_setup_writes_is_read_again() {
        let written = example("/home/ada").render().unwrap();
        let read = parse(name(), &written).unwrap();
        assert_eq!(read.name, name());
        assert_eq!(read.user, "ada");
        assert_eq!(read.target(), "db.internal:5432");
        assert_eq!(read.server, "tunnel.example.com");
        assert_eq!(read.remote_port, 20001);
        assert_eq!(read.logs_dir(), Path::new("/home/ada/.holistics/logs"));
    }

    #[test]
    fn what_others_wrote_is_passed_over() {
        let written = example("/home/ada").render().unwrap();
        let changed = [
            written.replace(MARKER, "by hand"),
            written.replace("=ada", "=a b"),
            written.replace("=ada", "="),
            written.replace("LOGFILE=/home/ada/", "LOGFILE=/home/../etc/"),
            written.replace("LOGFILE=/home/ada/.holistics/logs", "LOGFILE=/etc"),
            written.replace("-R ", "-L "),
            written.replace("127.0.0.1:20001:", "127.0.0.1:many:"),
            format!("{written}rm -rf /\n"),
        ];
        for content in changed {
            assert_eq!(parse(name(), &content), None, "{content}");
        }
    }
}
