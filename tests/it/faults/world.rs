//! All machines: the vendor's, whose own programs read the rows there; two customers', of whom one has trouble; and a
//! name server's.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::faults::plain::{self, Plain};
use crate::faults::resolver::{Answers, Resolver, VENDOR_NAME};
use crate::faults::site::{Site, Vendor};
use crate::faults::table;
use crate::support::hosts::certificate;
use crate::support::machines::{Machine, Network};
use crate::support::process::{self, Process};
use crate::support::rows::{Place, Readers};
use crate::support::server::{Operator, PublicPlace, Server};
use crate::support::unread_log;
use crate::support::wait;
use crate::support::workspace::Workspace;

/// The tunnel that a fault is about, another customer's, and the plain command.
pub const OURS: &str = "ours";
pub const SIBLING: &str = "sibling";
pub const PLAIN: &str = "plain";

/// The vendor's address, and the one to which it may move.
pub const VENDOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
pub const OTHER_VENDOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const VENDOR_TEXT: &str = "10.77.0.10";
const NAMES: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 53);

/// How long rows have to come without a gap for a tunnel to be back.
const STEADY: Duration = Duration::from_secs(4);

/// How long everything may take to be well before a fault, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(120);

/// All of it.
pub struct World {
    // The order of the fields is the order of the end.
    /// Who reads rows all the time.
    pub readers: Readers,
    /// The plain command, where it is compared.
    pub plain: Option<Plain>,
    /// The customer who has trouble.
    pub ours: Site,
    /// The one who must not notice.
    pub sibling: Site,
    /// The server.
    pub server: Server,
    /// The reading end of its log, if that is a pipe.
    pub log_reader: Option<File>,
    /// The vendor's operator.
    pub operator: Operator,
    /// Who knows the vendor's name.
    pub resolver: Resolver,
    /// The vendor's machine.
    pub vendor: Machine,
    /// What lies between all.
    pub network: Network,
    /// The file by which bastions look names up.
    pub names: PathBuf,
    /// A folder that lives as long.
    pub workspace: Workspace,
}

/// What a server has to bear from its start.
#[derive(Default)]
pub struct Beset {
    /// Its log is a pipe, and its data on a disk that can be filled.
    pub by_its_disk: bool,
    /// Further variables of its environment.
    pub environment: Vec<(&'static str, String)>,
}

/// To start all of them is most of what costs time of the processor: one at a time, so that the faults of others are
/// measured beside no more than that.
static STARTS: Mutex<()> = Mutex::new(());

/// A world of the test's own: faults are brought about beside each other, and no network, folder or port is shared.
pub fn with_world<T>(beset: &Beset, use_it: impl FnOnce(&mut World) -> T) -> T {
    let starts = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = World::start(beset);
    drop(starts);
    use_it(&mut world)
}

impl World {
    fn start(beset: &Beset) -> Self {
        let workspace = Workspace::new();
        let network = Network::new(&workspace);
        let machine = |name: &str, third: u8, fourth: u8| {
            network.machine(&workspace, name, Ipv4Addr::new(10, 77, third, fourth))
        };
        let vendor = machine("vendor", 0, 10);
        let resolver = Resolver::start(machine("names", 0, 53), known_at(VENDOR));
        let names = workspace.path().join("resolv.conf");
        std::fs::write(&names, format!("nameserver {NAMES}\n")).expect("a file");

        let https = certificate::for_address(VENDOR, &workspace.folder("https"));
        let place = PublicPlace {
            name: VENDOR_TEXT,
            address: VENDOR,
            certificate: https.certificate.clone(),
            key: https.key.clone(),
            authority: https.authority.clone(),
        };
        let (log, log_reader) = beset
            .by_its_disk
            .then(|| unread_log::pipe(&workspace))
            .unzip();
        let arguments = [
            "--public-ssh-host",
            VENDOR_NAME,
            "--forward-listen",
            "0.0.0.0",
        ];
        let inside = vendor.enter();
        let server =
            Server::start_in_public_beset(&place, &arguments, &beset.environment, log.as_deref());
        drop(inside);
        let operator = server.operator();
        let customers = Vendor {
            operator: &operator,
            url: &place.url(),
            authority: &https.authority,
            names: &names,
        };
        let ours = Site::set_up(
            OURS,
            machine("bastion", 1, 50),
            machine("db", 9, 5),
            &customers,
        );
        let others = (machine("bastion-2", 2, 50), machine("db-2", 9, 6));
        let sibling = Site::set_up(SIBLING, others.0, others.1, &customers);

        let mut places = vec![ours.place(), sibling.place()];
        let plain = table::is_made().then(|| {
            let to = (ours.database_machine.address, ours.database.port());
            let mut plain = Plain::new(names.clone(), to);
            plain.start_sshd(&vendor);
            plain.boot(&ours.machine);
            places.push(Place {
                name: PLAIN.to_owned(),
                host: "127.0.0.1".to_owned(),
                port: plain::PORT,
            });
            plain
        });
        World {
            readers: Readers::start(&vendor, &places, &ours.database.login_without_password()),
            plain,
            ours,
            sibling,
            server,
            log_reader,
            operator,
            resolver,
            vendor,
            network,
            names,
            workspace,
        }
    }

    /// Waits until rows have come through this tunnel without a gap.
    #[track_caller]
    pub fn wait_until_steady(&self, name: &str) {
        wait::until_true(
            &format!("rows through {name} without a gap"),
            LIMIT,
            || self.describe(),
            || self.readers.are_steady_for(name, STEADY),
        );
    }

    /// The same after something has happened: what came before it does not count.
    #[track_caller]
    pub fn wait_until_steady_after(&self, name: &str, end: Instant) {
        std::thread::sleep(STEADY.saturating_sub(end.elapsed()));
        self.wait_until_steady(name);
    }

    /// Whether they do, at this moment.
    pub fn is_steady(&self, name: &str) -> bool {
        self.readers.are_steady_for(name, STEADY)
    }

    /// Waits until no row has come through the tunnel in question for a while.
    #[track_caller]
    pub fn wait_until_silent(&self, name: &str) {
        wait::until_true(
            &format!("no row through {name}"),
            LIMIT,
            || self.describe(),
            || self.readers.silent_for(name) > Duration::from_secs(1),
        );
    }

    /// The processes of the tunnel in question, and of the plain command beside it.
    pub fn processes(&self) -> Vec<Process> {
        let mut processes = self.ours.service.processes();
        processes.extend(self.plain.iter().flat_map(Plain::processes));
        processes
    }

    /// Sends those of this name a signal.
    pub fn signal_all(&self, name: &str, signal: Signal) {
        let processes = self.processes();
        for process in processes.iter().filter(|process| process.name == name) {
            process::signal(process, signal);
        }
    }

    /// Kills ssh, ours and the plain command's.
    pub fn kill_ssh(&self) {
        self.signal_all("ssh", Signal::KILL);
    }

    /// Ends all of them at once.
    pub fn kill_all(&self) {
        for process in self.processes() {
            process::signal(&process, Signal::KILL);
        }
    }

    /// The bastion's power goes: nobody is told, for its line goes first.
    pub fn cut_power(&mut self) {
        self.ours.machine.cut();
        self.ours.service.cut_power();
        self.plain.iter_mut().for_each(Plain::cut_power);
    }

    /// It comes back, and with it the line, if that is there.
    pub fn boot(&mut self) {
        self.ours.machine.mend();
        self.boot_without_line();
    }

    /// The bastion starts, whatever its line does.
    pub fn boot_without_line(&mut self) {
        self.ours.service.boot(&self.ours.machine);
        if let Some(plain) = &mut self.plain {
            plain.boot(&self.ours.machine);
        }
    }

    /// The plain command is compared no longer.
    pub fn end_plain(&mut self) {
        self.plain = None;
    }

    /// The plain command has to be well again before the next fault: nobody knows what of it hangs where.
    pub fn begin_plain_anew(&mut self) {
        if let Some(plain) = &mut self.plain {
            plain.cut_power();
            plain.kill_sshd();
            plain.start_sshd(&self.vendor);
            plain.boot(&self.ours.machine);
        }
    }

    /// Starts the server that was ended, and sshd with it. It is ready when this returns.
    pub fn start_server(&mut self) {
        let _inside = self.vendor.enter();
        self.server.start_again();
        if let Some(plain) = &mut self.plain {
            plain.start_sshd(&self.vendor);
        }
    }

    /// What could say why something is not so.
    pub fn describe(&self) -> String {
        let log = self.server.log();
        let lines: Vec<_> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(40)..].join("\n");
        let said = [self.readers.describe(), self.ours.log(), self.sibling.log()];
        format!("{}\n--- server\n{log}", said.join("\n"))
    }
}

/// The vendor is known at this address.
pub fn known_at(address: Ipv4Addr) -> Answers {
    Answers::With(address, Duration::ZERO)
}

/// Lets a fault last for this long, and says when it was over.
pub fn last(long: Duration) -> Instant {
    std::thread::sleep(long);
    Instant::now()
}
