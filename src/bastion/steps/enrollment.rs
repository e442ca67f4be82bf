//! The public key goes to the control plane, which answers with the remote port and the tunnel
//! server's host keys.
//!
//! From here on nothing is rolled back to before this step: the control plane knows this key, and
//! another one would be refused.

use std::cell::RefCell;

use anyhow::Context as _;

use super::database::Database;
use super::{Outcome, PlannedCommand, Proofs, Step, StepName, system_files};
use crate::bastion::change::Change;
use crate::bastion::control_plane::ControlPlane;
use crate::bastion::host::{Authority, Command, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{EnrolledRecord, Scope};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ssh::{KeyType, keys, known_hosts, vetting};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{KeyRegistration, TunnelServerAddress};

pub struct Enrollment {
    pub layout: Layout,
    pub tunnel: TunnelName,
    /// The control plane with the credential that enrolls; none in a plan without enrollment.
    pub client: Option<ControlPlane>,
    /// The control plane's address, for people.
    pub control_plane: String,
    pub key_type: KeyType,
    /// This host's operating system, for people.
    pub os_name: String,
    /// What becomes reachable; nothing in a plan without enrollment.
    pub database: Option<Database>,
    /// What is registered, once it is known.
    pub public_key: RefCell<Option<String>>,
}

impl Step for Enrollment {
    fn name(&self) -> StepName {
        StepName::Enrollment
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        format!("Register the public key at {}", self.control_plane)
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        vec![
            format!(
                "PUT {}/api/v1/enrollment/public-key",
                self.control_plane.trim_end_matches('/')
            )
            .into(),
            format!("write {}", self.layout.known_hosts().display()).into(),
        ]
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        system_files::prove_room(host, &self.layout.receipt(), Authority::User)?;
        let database = self.database.as_ref();
        database.map_or(Ok(()), |database| database.prove(host, proofs))
    }

    fn rehearsal(&self, _: &StepContext) -> Option<Command> {
        Some(keys::show_public(&self.layout.private_key(self.key_type)))
    }

    /// The key is looked at beside the other rehearsals.
    fn rehearse(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let key = keys::public_key(work.host(), &self.layout.private_key(self.key_type))?;
        self.public_key.replace(Some(key));
        Ok(())
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let host = work.host();
        let public_key = self.public_key.take();
        let public_key = public_key.context("the key was not looked at")?;
        let registration = KeyRegistration {
            public_key,
            hostname: host.hostname(),
            os: self.os_name.clone(),
            user: host.user().name.clone(),
            by_hand: false,
        };
        let client = self.client.as_ref().context("a plan without enrollment")?;
        work.record(Change::KeyRegistered)?;
        let enrolled = match client.register_key(host, &registration) {
            Ok(enrolled) => enrolled,
            Err(error) => {
                // A refusal is certain. A lost answer is not: the key may be known by now, and has
                // to be kept for the next run.
                if error.is_refusal() {
                    work.forget(StepName::Enrollment, &Change::KeyRegistered)?;
                }
                return Err(error.with_advice());
            }
        };
        vetting::check_server(&enrolled.server)?;
        let tunnel = work.run.receipt.tunnels.get_mut(&self.tunnel);
        let tunnel = tunnel.context("the tunnel is not in the receipt")?;
        let former = tunnel.enrolled.as_ref();
        let remote_port = enrolled.remote_port;
        let enrolled = EnrolledRecord {
            remote_port,
            server: enrolled.server,
            former_servers: former.map_or_else(Vec::new, |former| former.former_servers.clone()),
            tunnel_token: enrolled.tunnel_token,
        };
        let was_enrolled = tunnel.enrolled.as_ref() == Some(&enrolled);
        tunnel.enrolled = Some(enrolled);
        work.run.save()?;
        write_known_hosts(work.run, None)?;
        let said = format!("tunnel {}, remote port {remote_port}", self.tunnel);
        Ok(if was_enrolled {
            Outcome::AlreadyPresent(said)
        } else {
            Outcome::Changed(said)
        })
    }
}

/// Pins the host keys of every tunnel's server; those of one that is about to get another name under that
/// name, too.
pub fn write_known_hosts(
    run: &Run,
    renamed: Option<(TunnelName, &TunnelServerAddress)>,
) -> anyhow::Result<()> {
    // A supervisor may run the command of a former version, which knows them by the server's own name.
    let is_supervised = |tunnel| {
        let scope = Scope::Tunnel(tunnel);
        run.receipt.is_done(scope, StepName::Foreground)
    };
    let pinned = run.receipt.servers();
    let servers = || pinned.iter().map(|(tunnel, server)| (*tunnel, server));
    let supervised = servers().filter(|(tunnel, _)| is_supervised(*tunnel));
    let by_server = supervised.map(|(tunnel, server)| (tunnel.former(), server));
    let servers = servers().chain(by_server).chain(renamed);
    let content = known_hosts::render(servers);
    let path = run.layout.known_hosts();
    run.host
        .write(&path, content.as_bytes(), 0o600, Authority::User)
}
