//! What is said on stdout once everything is there.

use std::io::{self, IsTerminal as _, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::listeners::Listeners;
use super::peer_link::PeerLink;
use crate::server::cli::Serve;
use crate::server::domain::address;
use crate::server::domain::operators;
use crate::server::domain::regions::ssh_servers;
use crate::server::domain::token::Token;
use crate::server::http::app::App;
use crate::server::login_link;
use crate::server::store::{self, Role};

/// The addresses that are really listened on.
pub(super) struct Listening {
    web: SocketAddr,
    peers: Option<String>,
    metrics: Option<SocketAddr>,
}

impl Listening {
    pub(super) fn new(listeners: &Listeners, link: Option<&PeerLink>) -> anyhow::Result<Self> {
        let metrics = listeners.metrics.as_ref();
        Ok(Listening {
            web: listeners.web.local_addr()?,
            peers: link.and_then(|link| link.address.clone()),
            metrics: metrics.map(TcpListener::local_addr).transpose()?,
        })
    }
}

/// Says on stdout where everything is. Programs read these lines; `ready` is the last.
pub(super) async fn greet(
    app: &App,
    settings: &Serve,
    listening: &Listening,
    data_dir: &Path,
) -> anyhow::Result<()> {
    let scheme = address::scheme(settings.tls_cert.is_some());
    let mut out = io::stdout().lock();
    writeln!(out, "holistics-tunnel-server {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "web      {scheme}://{}", listening.web)?;
    writeln!(out, "public   {}", app.public.url)?;
    if let Some(local) = app.tunnels.local() {
        writeln!(out, "tunnel   {}", local.ssh_address())?;
    }
    let region = app.regions.own();
    writeln!(out, "bastions {}", ssh_servers(&region))?;
    if app.tunnels.local().is_some() {
        writeln!(
            out,
            "ports    {} on {}",
            region.ports, settings.forward_listen
        )?;
    }
    if let Some(member) = app.tunnels.member() {
        let node = member.node.described();
        writeln!(
            out,
            "node     {} ({}, {})",
            node.name, node.role, node.region
        )?;
    }
    if let Some(peers) = &listening.peers {
        writeln!(out, "peers    {peers}")?;
    }
    writeln!(out, "data     {}", data_dir.display())?;
    if let Some(metrics) = listening.metrics {
        writeln!(out, "metrics  http://{metrics}/metrics")?;
    }
    if settings.role != Role::Tunnel && is_new(app).await? {
        let name = login_link::FIRST_OPERATOR;
        let token = Token::login_link();
        let link = login_link::link(&app.public.url, &token);
        if !out.is_terminal() {
            // Before it works: whatever ends this start, there is no account that nobody has a way into.
            app.sign_in_link.write(&link)?;
        }
        operators::let_in_by(&app.store, name, &token).await?;
        if out.is_terminal() {
            writeln!(out, "sign-in link (works once, for 24 h): {link}")?;
        } else {
            let path = app.sign_in_link.path().display();
            writeln!(out, "sign-in link (works once, for 24 h) is in {path}")?;
        }
    }
    writeln!(out, "ready")?;
    out.flush()?;
    Ok(())
}

/// Whether nobody can sign in yet.
async fn is_new(app: &App) -> store::Result<bool> {
    if !app.store.is_open() {
        // One that is opened later has been used before.
        return Ok(false);
    }
    match app.store.has_no_operator().await {
        Err(error) if error.is_outage() => {
            tracing::error!(
                ?error,
                "cannot check whether anybody can sign in; if not, `holistics-tunnel-server login-link` makes a link"
            );
            Ok(false)
        }
        looked => looked,
    }
}
