//! The only way out of some bastions: a web proxy, which knows the vendor's name where the bastion does not.

use std::process::Command;
use std::time::Duration;

use super::host_lab::HostLab;
use super::network::{MIRROR, MIRROR_NAME, VENDOR, VENDOR_NAME};
use crate::support::process::Running;

const START_LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 3128;

/// A tinyproxy on the internet. Dropped, it ends.
pub struct WebProxy {
    _process: Running,
}

impl WebProxy {
    /// Starts it with these lines of settings, and closes every other way from the bastion to the vendor. The
    /// calling thread is on the vendor's machine.
    pub fn alone_leads_out_of(lab: &HostLab, settings: &str) -> Self {
        let folder = lab.folder("web-proxy");
        let (hosts, file) = (folder.join("hosts"), folder.join("settings"));
        std::fs::write(&hosts, format!("{VENDOR} {VENDOR_NAME}\n")).expect("a file");
        let settings = format!("Port {PORT}\nListen {MIRROR}\nTimeout 600\n{settings}");
        std::fs::write(&file, settings).expect("a file");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .arg("mount --bind \"$0\" /etc/hosts; exec tinyproxy -d -c \"$1\"")
            .args([&hosts, &file]);
        let process = Running::start(&mut command, &folder, "tinyproxy");
        process.wait_until("the proxy", START_LIMIT, || {
            std::net::TcpStream::connect((MIRROR, PORT)).is_ok()
        });
        let hosts = format!("127.0.0.1 localhost bastion\n{MIRROR} {MIRROR_NAME}\n");
        lab.host.write("/etc/hosts", hosts);
        let vendor = format!("route add prohibit {VENDOR}/32");
        lab.network.bastion.ip(&vendor);
        WebProxy { _process: process }
    }

    /// Its address for the bastion.
    pub fn address() -> String {
        format!("{MIRROR_NAME}:{PORT}")
    }
}
