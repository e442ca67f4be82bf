//! Whether the database can be reached from this host: the whole tunnel is for nothing otherwise.

use std::time::Duration;

use anyhow::bail;

use super::Proofs;
use super::target::shown;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Host, ProbeError};
use crate::protocol::DatabaseAddress;

/// How long the database may take to accept a connection.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The database that a step promises.
#[derive(Debug, Clone)]
pub struct Database {
    pub address: DatabaseAddress,
    /// Where its address is corrected, for the person who has to.
    pub correct: String,
    /// How the proof is left out, for the same person; absent where it was left out.
    pub skip: Option<&'static str>,
}

impl Database {
    /// Looks whether the database accepts a connection.
    pub fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        let shown = shown(&self.address);
        let Some(skip) = self.skip else {
            proofs.could_not_see(
                format!("whether this host reaches the database {shown}"),
                "--no-database-check was given",
            );
            return Ok(());
        };
        host.check_interrupt()?;
        let DatabaseAddress { host: name, port } = &self.address;
        let error = match host.probe_tcp(name, *port, TIMEOUT) {
            Ok(()) => {
                proofs.saw(format!("the database {shown} accepts connections"));
                return Ok(());
            }
            Err(ProbeError::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(ProbeError::Io(error)) => error,
        };
        let correct = &self.correct;
        bail!(
            Failure::new(
                format!("the database {shown} cannot be reached from this host"),
                format!(
                    "{correct}, start the database, or open the firewall between this host and it; then run the \
                     same command again ({skip})"
                ),
            )
            .because(error)
        )
    }
}
