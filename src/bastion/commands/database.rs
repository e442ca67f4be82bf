//! Whether the database can be reached from this host, before anything is changed.

use std::time::Duration;

use anyhow::bail;

use crate::bastion::failure::Failure;
use crate::bastion::host::{Host, ProbeError};
use crate::bastion::steps::target::shown;
use crate::protocol::DatabaseAddress;

/// How long the database may take to accept a connection.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Refuses a database that does not accept a connection. `correct` says where its address is corrected,
/// and `skip` how this check is left out.
pub(super) fn check(
    host: &dyn Host,
    address: &DatabaseAddress,
    correct: &str,
    skip: &str,
) -> anyhow::Result<()> {
    host.check_interrupt()?;
    let error = match host.probe_tcp(&address.host, address.port, TIMEOUT) {
        Ok(()) => return Ok(()),
        Err(ProbeError::Interrupted(interrupted)) => return Err(interrupted.into()),
        Err(ProbeError::Io(error)) => error,
    };
    bail!(
        Failure::new(
            format!(
                "the database {} cannot be reached from this host; nothing was changed",
                shown(address)
            ),
            format!(
                "{correct}, start the database, or open the firewall between this host and it; then run the \
                 same command again ({skip})"
            ),
        )
        .because(error)
    )
}
