//! The key pair by which this host is known to the tunnel server.

use super::{Outcome, PlannedCommand, Proofs, Step, StepName};
use crate::bastion::change::Change;
use crate::bastion::host::{Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;
use crate::bastion::ssh::{KeyType, keys};

pub struct KeyPair {
    pub layout: Layout,
    pub key_type: KeyType,
    /// Whether the pair was there when the plan was made.
    pub exists: bool,
    /// Stands in the public key, for people: `user@host`.
    pub comment: String,
}

impl KeyPair {
    fn command(&self) -> crate::bastion::host::Command {
        keys::keygen(
            self.key_type,
            &self.layout.private_key(self.key_type),
            &self.comment,
        )
    }
}

impl Step for KeyPair {
    fn name(&self) -> StepName {
        StepName::KeyPair
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        let path = self.layout.private_key(self.key_type);
        if self.exists {
            format!("Use the key pair {}", path.display())
        } else {
            format!("Make the key pair {}", path.display())
        }
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        if self.exists {
            Vec::new()
        } else {
            vec![self.command().into()]
        }
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        keys::prove(host, self.key_type)?;
        if host.which("ssh-keygen").is_some() {
            proofs.saw(format!(
                "this host's OpenSSH has keys of type {}",
                self.key_type.word()
            ));
        }
        Ok(())
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let private_key = self.layout.private_key(self.key_type);
        let public_key = private_key.with_extension("pub");
        work.run.receipt.key_type = Some(self.key_type);
        if work.host().exists(&private_key) {
            // Proves that it can be used, before anything relies on it.
            let public = keys::public_key(work.host(), &private_key)?;
            // A run that was killed may have left it alone.
            if !work.host().exists(&public_key) {
                let line = format!("{public}\n");
                work.write_file(&public_key, line.as_bytes(), 0o644, Authority::User)?;
            }
            return Ok(Outcome::AlreadyPresent(private_key.display().to_string()));
        }
        // A public key without its private one would make ssh-keygen ask whether to overwrite it.
        work.host().remove_file(&public_key, Authority::User)?;
        work.record_all([&private_key, &public_key].map(|path| Change::FileCreated {
            path: path.clone(),
            authority: Authority::User,
        }))?;
        work.host().expect(&self.command())?;
        Ok(Outcome::Changed(private_key.display().to_string()))
    }
}
