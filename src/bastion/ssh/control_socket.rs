//! A running ssh master: where its control socket goes, whether it lives, and its end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;

use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt, Kind, Pauses};
use crate::bastion::layout::Layout;
use crate::bastion::processes::{self, Process};
use crate::bastion::tunnel_name::TunnelName;

/// The longest path a Unix socket may have, less the suffix ssh adds while it makes one.
const LONGEST_SOCKET_PATH: usize = 104 - 18;

/// How long ssh may take to answer on its own socket.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a master may take to end, each time it is told so.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause until it is looked again whether it has.
const END_PAUSE: Duration = Duration::from_millis(50);

/// Where a control socket goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub socket: PathBuf,
    /// A folder that has to be made for it alone, and goes with it.
    pub folder: Option<PathBuf>,
    /// The folder in which it was tried, and why that is not the first choice.
    tried: PathBuf,
    not_first: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssh's control socket works in {}", self.tried.display())?;
        match &self.not_first {
            Some(why) => write!(f, ", and not in {why}"),
            None => Ok(()),
        }
    }
}

/// Finds a place where a control socket works: in the user's folder, or else in a new folder where other
/// programs have such things.
pub fn find_place(host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> anyhow::Result<Place> {
    let own = layout.control_socket(tunnel);
    let mut refused = Vec::new();
    match try_at(host, &own) {
        Ok(()) => {
            return Ok(Place {
                socket: own,
                folder: None,
                tried: layout.run_dir(),
                not_first: None,
            });
        }
        Err(why) => refused.push(format!("{}: {why:#}", layout.run_dir().display())),
    }
    for dir in other_folders(host) {
        // A name of its own each time: nobody can have taken it before.
        let folder = dir.join(format!("h_autossh-{:x}", host.now().as_nanosecond()));
        let socket = folder.join("master.sock");
        match check_is_private(host, &dir).and_then(|()| try_at(host, &socket)) {
            Ok(()) => {
                return Ok(Place {
                    socket,
                    folder: Some(folder),
                    tried: dir,
                    not_first: refused.into_iter().next(),
                });
            }
            Err(why) => refused.push(format!("{}: {why:#}", dir.display())),
        }
    }
    Err(Failure::new(
        format!(
            "no folder of this host can hold the control socket of ssh ({})",
            refused.join("; ")
        ),
        "make a folder on a local file system for this user alone (mode 0700), and run the same command again \
         with XDG_RUNTIME_DIR set to its path",
    )
    .into())
}

fn other_folders(host: &dyn Host) -> Vec<PathBuf> {
    let runtime = host.env("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|dir| dir.is_absolute());
    runtime.into_iter().chain(["/tmp".into()]).collect()
}

/// Nobody else may put another folder in the place of the one that is made in it.
fn check_is_private(host: &dyn Host, dir: &Path) -> anyhow::Result<()> {
    // Of a link, what it leads to.
    let stat = host.stat(&dir.join("."))?;
    let is_private = stat.is_some_and(|stat| {
        let is_sticky = stat.mode & 0o1000 != 0;
        let is_ours = stat.uid == host.user().uid || stat.uid == 0;
        stat.kind == Kind::Directory && is_ours && (is_sticky || stat.mode & 0o022 == 0)
    });
    ensure!(is_private, "it is no folder that is safe from others");
    Ok(())
}

/// Tries a place in the nearest folder that is there already.
fn try_at(host: &dyn Host, socket: &Path) -> anyhow::Result<()> {
    ensure!(
        socket.as_os_str().len() <= LONGEST_SOCKET_PATH,
        "its path is too long for a socket"
    );
    let nearest = socket.ancestors().skip(1).find(|dir| host.exists(dir));
    host.try_socket(nearest.unwrap_or(Path::new("/")))
}

/// Makes the folder of a place, if it has one of its own.
pub fn make_folder(host: &dyn Host, place: &Place) -> anyhow::Result<()> {
    let Some(folder) = &place.folder else {
        return Ok(());
    };
    host.create_dir(folder, 0o700, Authority::User)?;
    let stat = host.stat(folder)?;
    let is_ours = stat.is_some_and(|stat| {
        stat.kind == Kind::Directory && stat.uid == host.user().uid && stat.mode == 0o700
    });
    ensure!(is_ours, "{} is not for this user alone", folder.display());
    Ok(())
}

/// Whether a master lives: one that answers, or one that nobody can hear any more because its socket was
/// removed or is broken.
pub fn is_alive(host: &dyn Host, socket: &Path) -> anyhow::Result<bool> {
    Ok(is_heard(host, socket, "check")? || !masters(host, socket)?.is_empty())
}

/// Ends the master, and returns when its process is gone. Removes the socket that one killed with -9 would
/// leave: a master started on a stale socket runs without control and reports success.
pub fn end(host: &dyn Host, socket: &Path) -> anyhow::Result<()> {
    let is_told = is_heard(host, socket, "exit")?;
    let asked = is_told.then_some(None);
    for signal in asked.into_iter().chain([Some("TERM"), Some("KILL")]) {
        if let Some(signal) = signal {
            for master in masters(host, socket)? {
                // `kill` is not installed everywhere; every shell has it.
                let line = format!("kill -{signal} {}", master.number);
                host.run(&Command::new("sh").args(["-c", &line]))?;
            }
        }
        if is_gone_soon(host, socket)? {
            return host.remove_file(socket, Authority::User);
        }
    }
    let left = masters(host, socket)?;
    let left: Vec<&str> = left.iter().map(|master| master.number.as_str()).collect();
    let left = left.join(" ");
    Err(Failure::new(
        format!(
            "the ssh process {left} behind {} does not end",
            socket.display()
        ),
        format!("end it by hand (`kill -9 {left}`), then run the same command again"),
    )
    .into())
}

fn is_gone_soon(host: &dyn Host, socket: &Path) -> anyhow::Result<bool> {
    let deadline = host.uptime() + END_TIMEOUT;
    let mut pauses = Pauses::up_to(END_PAUSE);
    loop {
        // Its process shows that it lives, where processes can be seen.
        if masters(host, socket)?.is_empty() && !is_heard(host, socket, "check")? {
            return Ok(true);
        }
        if host.uptime() >= deadline {
            return Ok(false);
        }
        host.sleep(pauses.next())?;
    }
}

/// The masters of a socket, by their arguments.
fn masters(host: &dyn Host, socket: &Path) -> anyhow::Result<Vec<Process>> {
    let sign = format!(" -M -S {} ", socket.display());
    let mut processes = processes::all(host)?;
    // Whoever looks for one has these words in his arguments, too.
    processes.retain(|process| process.runs("ssh") && process.words.contains(&sign));
    Ok(processes)
}

/// Whether a master hears this request on the socket.
fn is_heard(host: &dyn Host, socket: &Path, request: &str) -> anyhow::Result<bool> {
    if !host.exists(socket) {
        return Ok(false);
    }
    match host.run(&control(socket, request)) {
        Ok(output) => Ok(output.success()),
        Err(CommandError::Timeout { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn control(socket: &Path, request: &str) -> Command {
    Command::new("ssh")
        .args(["-F", "none", "-S"])
        .path(socket)
        .args(["-O", request, "master"])
        .timeout(ANSWER_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::Output;
    use crate::bastion::host::scripted::ScriptedHost;

    fn place(host: &ScriptedHost) -> anyhow::Result<Place> {
        let layout = Layout::new(&**host, Path::new("/"));
        find_place(&**host, &layout, TunnelName::unknown())
    }

    fn make(host: &ScriptedHost, dir: &str, mode: u32) {
        let made = host.create_dir(Path::new(dir), mode, Authority::User);
        made.unwrap();
    }

    #[test]
    fn a_socket_goes_where_one_works_and_nobody_else_can_reach_it() {
        let host = ScriptedHost::new();
        assert_eq!(place(&host).unwrap().folder, None);

        host.refuse_sockets_in("/home/ada");
        let refusal = place(&host).unwrap_err().to_string();
        assert!(refusal.contains("/home/ada/.holistics/run: it holds no sockets"));
        make(&host, "/tmp", 0o777);
        let refusal = place(&host).unwrap_err().to_string();
        assert!(
            refusal.contains("/tmp: it is no folder that is safe"),
            "{refusal}"
        );

        make(&host, "/tmp", 0o1777);
        let in_tmp = place(&host).unwrap();
        assert_eq!(
            in_tmp.folder.as_deref(),
            Some(Path::new("/tmp/h_autossh-0"))
        );
        let told = in_tmp.to_string();
        assert!(
            told.contains("works in /tmp, and not in /home/ada"),
            "{told}"
        );

        make(&host, "/run", 0o755);
        make(&host, "/run/ada", 0o700);
        host.set_env("XDG_RUNTIME_DIR", "/run/ada");
        let folder = place(&host).unwrap().folder.unwrap();
        assert!(folder.starts_with("/run/ada"), "{folder:?}");
        host.set_env("XDG_RUNTIME_DIR", "relative");
        assert_eq!(place(&host).unwrap(), in_tmp);
    }

    #[test]
    fn a_home_with_a_long_path_has_its_socket_elsewhere() {
        let mut host = ScriptedHost::new();
        host.log_in(&"a".repeat(80));
        make(&host, "/tmp", 0o1777);
        let place = place(&host).unwrap();
        assert!(place.to_string().contains("too long"), "{place}");
        assert!(place.socket.starts_with("/tmp"), "{place:?}");
    }

    /// A host with one process, number 8, which ends on this signal and hears nothing.
    fn host_with_a_deaf_master(socket: &'static str, ends_on: &'static str) -> ScriptedHost {
        let host = ScriptedHost::new();
        host.install("ps");
        make(&host, "/run", 0o755);
        let is_over = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = is_over.clone();
        host.on("ps -A", move |_, _| Output {
            stdout: if seen.get() { String::new() } else { format!(" 8 ssh -f -M -S {socket} -E x\n 9 ssh -f -M -S {socket}.2 -E x\n 10 grep ssh -M -S {socket} \n") },
            ..Output::default()
        });
        host.on("sh -c 'kill ", move |_, command| {
            let line = &command.args[1];
            assert!(line.ends_with(" 8"), "{line}");
            is_over.set(line.contains(ends_on));
            Output::default()
        });
        host
    }

    #[test]
    fn a_master_that_hears_nothing_lives_and_is_ended_by_its_process() {
        const SOCKET: &str = "/run/x.sock";
        for signal in ["TERM", "KILL"] {
            let host = host_with_a_deaf_master(SOCKET, signal);
            assert!(is_alive(&*host, Path::new(SOCKET)).unwrap());
            end(&*host, Path::new(SOCKET)).unwrap();
            assert!(!is_alive(&*host, Path::new(SOCKET)).unwrap());
        }
        let host = host_with_a_deaf_master(SOCKET, "nothing");
        let refusal = end(&*host, Path::new(SOCKET)).unwrap_err().to_string();
        assert!(refusal.contains("ssh process 8 "), "{refusal}");
    }
}
