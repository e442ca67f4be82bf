//! The public key goes to the control plane, which answers with the remote port and the tunnel
//! server's host keys.
//!
//! From here on nothing is rolled back to before this step: the control plane knows this key, and
//! another one would be refused.

use anyhow::Context as _;

use super::{Outcome, Step, StepName};
use crate::bastion::changes::Change;
use crate::bastion::control_plane::ApiError;
use crate::bastion::host::Authority;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{EnrolledRecord, Receipt, Scope};
use crate::bastion::session::{Session, Work};
use crate::bastion::ssh::{KeyType, keys, known_hosts, vetting};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::KeyRegistration;

/// The step.
pub struct Enrollment {
    /// The paths.
    pub layout: Layout,
    /// The tunnel.
    pub tunnel: TunnelName,
    /// The control plane's address, for people.
    pub control_plane: String,
    /// The kind of the key.
    pub key_type: KeyType,
    /// This host's operating system, for people.
    pub os_name: String,
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

    fn commands(&self) -> Vec<String> {
        vec![
            format!(
                "PUT {}/api/v1/enrollment/public-key",
                self.control_plane.trim_end_matches('/')
            ),
            format!("write {}", self.layout.known_hosts().display()),
        ]
    }

    fn apply(&self, work: &mut Work) -> anyhow::Result<Outcome> {
        let host = work.host();
        let public_key = keys::public_key(host, &self.layout.private_key(self.key_type))?;
        let registration = KeyRegistration {
            public_key,
            hostname: host.hostname(),
            os: self.os_name.clone(),
            user: host.user().name.clone(),
        };
        work.record(Change::KeyRegistered)?;
        let enrolled = match work.session.control_plane.register_key(host, &registration) {
            Ok(enrolled) => enrolled,
            Err(error) => {
                // A refusal is certain. A lost answer is not: the key may be known by now, and has
                // to be kept for the next run.
                if matches!(error, ApiError::Refused { .. }) && !error.is_passing() {
                    work.forget(StepName::Enrollment, &Change::KeyRegistered)?;
                }
                return Err(error.advised());
            }
        };
        vetting::check_server(&enrolled.server)?;
        let remote_port = enrolled.remote_port;
        let enrolled = EnrolledRecord {
            remote_port,
            server: enrolled.server,
            tunnel_token: enrolled.tunnel_token,
        };
        // From now on the tunnel's own token speaks: the one in the command expires.
        work.session.control_plane = work
            .session
            .control_plane
            .with_credential(&enrolled.tunnel_token);
        let tunnel = work.session.receipt.tunnels.get_mut(&self.tunnel);
        let tunnel = tunnel.context("the tunnel is not in the receipt")?;
        let was_enrolled = tunnel.enrolled.as_ref() == Some(&enrolled);
        tunnel.enrolled = Some(enrolled);
        work.session.save()?;
        write_known_hosts(work.session)?;
        let said = format!("tunnel {}, remote port {remote_port}", self.tunnel);
        Ok(if was_enrolled {
            Outcome::AlreadyPresent(said)
        } else {
            Outcome::Changed(said)
        })
    }
}

/// Pins the host keys of every tunnel's server.
///
/// # Errors
/// The file cannot be written.
pub fn write_known_hosts(session: &Session) -> anyhow::Result<()> {
    let content = known_hosts::render(servers(&session.receipt));
    let path = session.layout.known_hosts();
    session
        .host
        .write(&path, content.as_bytes(), 0o600, Authority::User)
}

fn servers(receipt: &Receipt) -> impl Iterator<Item = &crate::protocol::TunnelServerAddress> {
    receipt
        .tunnels
        .values()
        .filter_map(|tunnel| Some(&tunnel.enrolled.as_ref()?.server))
}

/// The registration is taken back by removing the tunnel at the control plane, which `uninstall-tunnel`
/// does itself: whether that may fail depends on `--force`.
pub(super) fn revert(_session: &Session, _change: &Change) -> anyhow::Result<()> {
    Ok(())
}
