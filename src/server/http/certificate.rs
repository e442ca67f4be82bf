//! The web's certificate: read again when its files change, so that a renewed one needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::server::file_mark::{Mark, mark};

/// How often is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate with its key, as its two files have it.
pub struct Certificate {
    pub config: RustlsConfig,
    certificate: PathBuf,
    key: PathBuf,
    /// What the files were when they were last read.
    read: [Option<Mark>; 2],
}

impl Certificate {
    /// Reads the files.
    pub async fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = [mark(certificate), mark(key)];
        let config = RustlsConfig::from_pem_file(certificate, key).await;
        Ok(Certificate {
            config: config.with_context(|| cannot_use(certificate, key))?,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            read,
        })
    }

    /// Reads the files again if they have changed, or if it has to be; the former certificate stays where
    /// they cannot be used.
    async fn look(&mut self, always: bool) {
        let now = [mark(&self.certificate), mark(&self.key)];
        if now == self.read && !always {
            return;
        }
        self.read = now;
        let read = self
            .config
            .reload_from_pem_file(&self.certificate, &self.key);
        match read.await {
            Ok(()) => tracing::info!(certificate = %self.certificate.display(), "read again"),
            Err(error) => tracing::error!(
                %error,
                "{}; the former one is used until that is fixed",
                cannot_use(&self.certificate, &self.key)
            ),
        }
    }
}

/// Reads the certificate again whenever it has changed, and when somebody asks for it with SIGHUP: which so
/// does not end the server, whether or not it has one, from the moment this returns.
pub fn keep_fresh(
    mut certificate: Option<Certificate>,
) -> io::Result<impl Future<Output = anyhow::Result<()>>> {
    let mut asked = signal(SignalKind::hangup())?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(async move {
        loop {
            let always = tokio::select! {
                _ = asked.recv() => true,
                _ = look.tick() => false,
            };
            if let Some(certificate) = &mut certificate {
                certificate.look(always).await;
            }
        }
    })
}

fn cannot_use(certificate: &Path, key: &Path) -> String {
    format!(
        "cannot use the certificate {} with the key {}",
        certificate.display(),
        key.display()
    )
}
