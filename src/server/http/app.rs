//! What every request works with: the control plane, and what the web needs beside it.

use std::ops::Deref;
use std::sync::Arc;

use super::connections::Connections;
use super::downloads::Downloads;
use super::shared::Shared;
use crate::protocol::{ConnectionTest, ConnectionTestResult, DataSourceId};
use crate::server::domain::proxies::TrustedProxies;
use crate::server::domain::{Actor, ControlPlane, Error};
use crate::server::metrics::counts::Metrics;
use crate::server::sign_in_link::SignInLinkFile;

/// What they share.
pub struct App {
    /// What operators and bastions ask for.
    pub control: Arc<ControlPlane>,
    /// The file with the first sign-in link.
    pub sign_in_link: SignInLinkFile,
    /// The bastion's binaries.
    pub downloads: Downloads,
    /// Who may say for whom he speaks.
    pub trusted_proxies: TrustedProxies,
    /// The web's connections.
    pub connections: Arc<Connections>,
    /// What the pages and live streams share.
    pub web: Shared,
    /// What is counted of requests and tests.
    pub metrics: Metrics,
}

/// Requests are the control plane's own, but for a few.
impl Deref for App {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control
    }
}

impl App {
    /// Tests a connection and counts it.
    pub async fn test_connection(
        &self,
        id: DataSourceId,
        login: ConnectionTest,
        actor: &Actor,
    ) -> Result<ConnectionTestResult, Error> {
        let result = self.control.test(id, login, actor).await?;
        self.metrics.tested(result.ok);
        Ok(result)
    }
}
