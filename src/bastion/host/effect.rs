//! What a step does to the host, as data: shown in the plan, asked for, and done by the same commands.

use std::path::{Path, PathBuf};

use super::privilege::{PROXIES, Privilege};
use super::{Authority, Command, Host, files, host_lock};

/// Something that is done with the user's rights or with the superuser's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Run(Command),
    Write {
        path: PathBuf,
        mode: u32,
        authority: Authority,
    },
    CreateDir {
        path: PathBuf,
        mode: u32,
        authority: Authority,
    },
    /// A file that may be gone already.
    Remove {
        path: PathBuf,
        authority: Authority,
    },
    RemoveDir {
        path: PathBuf,
        authority: Authority,
    },
    /// The lock of what all users of the host share.
    Lock {
        path: PathBuf,
        authority: Authority,
    },
}

impl Effect {
    fn authority(&self) -> Authority {
        match self {
            Effect::Run(command) => command.authority,
            Effect::Write { authority, .. }
            | Effect::CreateDir { authority, .. }
            | Effect::Remove { authority, .. }
            | Effect::RemoveDir { authority, .. }
            | Effect::Lock { authority, .. } => *authority,
        }
    }

    /// As a person reads it where this program does it by itself.
    fn described(&self) -> String {
        match self {
            Effect::Run(command) => Privilege::None.shown(command, |_| None),
            Effect::Write { path, .. } => format!("write {}", path.display()),
            Effect::CreateDir { path, .. } => format!("mkdir {}", path.display()),
            Effect::Remove { path, .. } => format!("rm {}", path.display()),
            Effect::RemoveDir { path, .. } => format!("rmdir {}", path.display()),
            Effect::Lock { path, .. } => format!("lock {}", path.display()),
        }
    }
}

/// How a host's user gets at what only root can do.
pub struct WayToRoot {
    privilege: Privilege,
    staging: PathBuf,
    proxies: Vec<(&'static str, String)>,
}

impl WayToRoot {
    pub fn of(host: &dyn Host) -> Self {
        let proxies = PROXIES.into_iter();
        WayToRoot {
            privilege: host.privilege(),
            staging: files::staging(&host.user().uid.to_string()),
            proxies: proxies
                .filter_map(|name| Some((name, host.env(name)?)))
                .collect(),
        }
    }

    /// On a host of which only the files are known.
    pub fn of_another_host() -> Self {
        WayToRoot {
            privilege: Privilege::Sudo,
            staging: Path::new("/tmp").join("h_autossh-UID"),
            proxies: Vec::new(),
        }
    }

    /// The commands that root is given for an effect; none where nobody stands between.
    pub fn commands(&self, effect: &Effect) -> Vec<Command> {
        let is_direct = matches!(self.privilege, Privilege::Root | Privilege::None);
        if is_direct || effect.authority() == Authority::User {
            return Vec::new();
        }
        match effect {
            Effect::Run(command) => vec![command.clone()],
            Effect::Write { path, mode, .. } => {
                files::put_in_place(&files::staged(&self.staging, path), path, *mode).into()
            }
            Effect::CreateDir { path, mode, .. } => vec![files::mkdir(path, *mode)],
            Effect::Remove { path, .. } => vec![files::rm(path)],
            Effect::RemoveDir { path, .. } => vec![files::rmdir(path)],
            Effect::Lock { path, .. } => vec![host_lock::command(path)],
        }
    }

    /// An effect as the plan shows it: word for word what root is given.
    pub fn shown(&self, effect: &Effect) -> Vec<String> {
        let commands = self.commands(effect);
        if commands.is_empty() {
            return vec![effect.described()];
        }
        let variable = |name: &str| {
            let mut proxies = self.proxies.iter();
            proxies
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.clone())
        };
        let shown = commands.iter();
        shown
            .map(|command| self.privilege.shown(command, variable))
            .collect()
    }
}
