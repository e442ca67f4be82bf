//! The processes of this host, as far as this user sees them.

use std::path::Path;

use super::host::{Command, CommandError, Host, HostExt as _};

pub struct Process {
    pub number: String,
    /// Its program and arguments, with blanks between them.
    pub words: String,
}

impl Process {
    /// Whether it runs the program of this name, wherever that stands.
    pub fn runs(&self, program: &str) -> bool {
        let first = self.words.split(' ').next().unwrap_or_default();
        Path::new(first).file_name() == Some(program.as_ref())
    }
}

/// All of them; none where there is nobody to ask.
pub fn all(host: &dyn Host) -> Result<Vec<Process>, CommandError> {
    let numbers = host.list(Path::new("/proc")).unwrap_or_default();
    let numbers = numbers
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let processes: Vec<Process> = numbers.filter_map(|number| read(host, number)).collect();
    if !processes.is_empty() || host.which("ps").is_none() {
        return Ok(processes);
    }
    let list = Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]);
    let said = host.expect(&list)?.stdout;
    let lines = said.lines().filter_map(|line| line.trim().split_once(' '));
    Ok(lines
        .map(|(number, words)| Process {
            number: number.to_owned(),
            words: words.trim().to_owned(),
        })
        .collect())
}

/// One that has ended meanwhile, or waits for its parent to take notice, has no words.
fn read(host: &dyn Host, number: String) -> Option<Process> {
    let words = host.read(&Path::new("/proc").join(&number).join("cmdline"));
    let words = String::from_utf8_lossy(&words.ok()?).replace('\0', " ");
    let words = words.trim().to_owned();
    (!words.is_empty()).then_some(Process { number, words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::Authority;
    use crate::bastion::host::scripted::ScriptedHost;

    #[test]
    fn processes_are_seen_on_a_host_without_ps() {
        let host = ScriptedHost::new();
        assert!(all(&*host).unwrap().is_empty());
        for (file, words) in [
            ("/proc/7/cmdline", "/usr/bin/ssh\0-S\0a b\0"),
            // A thread of the kernel, or one that is over.
            ("/proc/8/cmdline", ""),
            ("/proc/sys/cmdline", "ssh"),
        ] {
            let file = Path::new(file);
            for dir in ["/proc".as_ref(), file.parent().unwrap()] {
                host.create_dir(dir, 0o755, Authority::Root).unwrap();
            }
            let written = host.write(file, words.as_bytes(), 0o444, Authority::Root);
            written.unwrap();
        }
        let processes = all(&*host).unwrap();
        let seen = processes
            .iter()
            .map(|process| (process.number.as_str(), process.words.as_str()));
        assert_eq!(seen.collect::<Vec<_>>(), [("7", "/usr/bin/ssh -S a b")]);
        assert!(processes[0].runs("ssh") && !processes[0].runs("autossh"));
    }
}
