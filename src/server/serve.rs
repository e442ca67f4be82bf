//! `serve`: brings the parts up in order, says where they are, and ends them cleanly.

use std::io::{self, IsTerminal as _, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::time::timeout;

use super::audit_age;
use super::cli::Serve;
use super::cluster::holders::Holders;
use super::cluster::key_file::KeyFile;
use super::cluster::key_keeper::KeyKeeper;
use super::cluster::node::{self, FreeName};
use super::cluster::peer_link::identity::Identity;
use super::cluster::tunnels::{Member, Tunnels};
use super::cluster::view::View;
use super::cluster::{beat, facts, news};
use super::core_tasks::CoreTasks;
use super::data_dir::DataDir;
use super::domain::ControlPlane;
use super::domain::address::{self, PublicAddress, PublicSettings};
use super::domain::changes::Changes;
use super::domain::idempotency::UnderWay;
use super::domain::logins;
use super::domain::proxies::TrustedProxies;
use super::domain::secret::SecretKey;
use super::farewell::{self, Signals};
use super::history_recorder::HistoryRecorder;
use super::host_keys;
use super::http::admission::Admission;
use super::http::api::metrics;
use super::http::app::App;
use super::http::certificate::{self, Certificate};
use super::http::connections::Connections;
use super::http::downloads::Downloads;
use super::http::router;
use super::http::shared::Shared;
use super::last_run;
use super::login_link;
use super::metrics::counts::Metrics;
use super::service_manager;
use super::session_recorder;
use super::sign_in_link::SignInLinkFile;
use super::store::{DatabaseUrl, NewNode, Role, SessionLimits, Store, StoreError};
use super::tunnel_server::{
    KeyAuthority, KeyFolder, Peering, TunnelServer, TunnelServerConfig, descriptor_limit,
};

/// How long a new connection may take for its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before a database is tried again that could not be opened.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A file, an address or the database cannot be used; the message says which.
pub async fn run(settings: Serve) -> anyhow::Result<()> {
    settings.check_node()?;
    let data_dir = DataDir::open_or_create(&settings.data.path())?;
    let _lock = data_dir.lock_for_serving()?;
    let (store, keeper) = open_database(&settings, &data_dir).await?;
    let secret = SecretKey::load_or_create(&data_dir.secret_key())?;
    // Before anything is bound: a second server of this name changes nothing.
    let database = settings.data.database_url()?;
    let free_name = match &database {
        Some(url) if store.is_open() => {
            node::check_secret(&secret, &store).await?;
            Some(FreeName::find(url, &settings.node_name()?).await?)
        }
        _ => None,
    };
    let certificate = load_certificate(&settings).await?;
    let tls = certificate
        .as_ref()
        .map(|certificate| certificate.config.clone());
    let listener = bind(settings.listen, "the web", "--listen")?;
    let web_address = listener.local_addr()?;
    let metrics_listener = settings
        .metrics_listen
        .map(|address| bind(address, "metrics", "--metrics-listen"))
        .transpose()?;
    let host_keys = KeyFolder::new(data_dir.host_keys());
    let read = host_keys.marks();
    let key_table = keeper.as_ref().map(KeyKeeper::table);
    let authority: Arc<dyn KeyAuthority> = match &key_table {
        Some(table) => Arc::clone(table) as _,
        None => Arc::new(store.clone()),
    };
    let local = match settings.role {
        Role::Web => None,
        Role::Tunnel | Role::All => {
            Some(start_tunnel_server(&settings, &data_dir, authority).await?)
        }
    };
    let ssh_address = match &local {
        Some(local) => local.ssh_address(),
        None => settings.ssh_listen,
    };
    let table = Holders::default();
    let mut peers = match &local {
        Some(local) => link_peers(&settings, &data_dir, local, table.clone())?,
        None => None,
    };
    let told = peers.as_ref().map(PeerLink::told);
    let member = match free_name {
        Some(free_name) => {
            let new = new_node(&settings, told.clone())?;
            Some(join(free_name, new, table.clone()).await?)
        }
        None => None,
    };
    let tunnels = Tunnels::new(local, member);
    if tunnels.local().is_none() {
        host_keys::take(&tunnels, &host_keys).context(
            "a node without tunnels tells bastions the host keys of those that have some; copy the folder of host \
             keys from the data folder of one",
        )?;
    }
    let public = PublicAddress::derive(
        PublicSettings {
            url: settings.public_url.clone(),
            ssh_host: settings.public_ssh_host.clone(),
            ssh_port: settings.public_ssh_port,
        },
        tls.is_some(),
        web_address,
        ssh_address,
    )?;
    let trusted_proxies = TrustedProxies::new(settings.trusted_proxy.clone());
    let bounds = settings.web_bounds.bounds().within(descriptor_limit());
    let app = Arc::new(App {
        connections: Connections::new(bounds, trusted_proxies.clone()),
        trusted_proxies,
        web: Shared::new(
            &public.url,
            SessionLimits {
                idle: settings.session_idle,
                lifetime: settings.session_lifetime,
            },
        )?,
        sign_in_link: SignInLinkFile::of(&data_dir),
        downloads: Downloads::new(settings.dist_dir.clone()),
        metrics: Metrics::default(),
        control: Arc::new(ControlPlane {
            secret,
            public,
            changes: Changes::new(),
            enrollment_ttl: settings.enrollment_ttl,
            key_overlap: settings.key_overlap,
            ports: settings.ports,
            port_rest: settings.port_rest,
            forward_listen: settings.forward_listen,
            direct_loopback_allowed: settings.allow_direct_loopback,
            under_way: UnderWay::default(),
            store,
            tunnels,
            keys: key_table,
        }),
    });
    if app.store.is_open() {
        begin_with_database(&app, &host_keys).await?;
    }
    if let Err(error) = login_link::remember_public_url(&data_dir, &app.public.url) {
        // `login-link` alone needs it: the tunnels do not wait for room on the disk.
        tracing::error!("{error:#}");
    }
    let listening = Listening {
        web: web_address,
        peers: peers.as_ref().map(|peers| peers.address.clone()),
        metrics: metrics_listener
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?,
    };
    let history = Arc::new(HistoryRecorder::new(Arc::clone(&app.control)).await?);
    let mut core = start_core_tasks(&app, &history, metrics_listener, certificate)?;
    if let Some(url) = &database {
        spawn_member_tasks(&mut core, &app, url);
    }
    if let Some(PeerLink { running, .. }) = peers.take() {
        core.spawn("the link to other nodes", async {
            running.await;
            Ok(())
        });
    }
    let (control, audit_age) = (Arc::clone(&app.control), settings.audit_age);
    core.spawn("the end of old audit entries", async move {
        audit_age::keep(control, audit_age).await;
        Ok(())
    });
    if let Some(keeper) = keeper {
        let control = Arc::clone(&app.control);
        core.spawn("the keeper of the keys", async move {
            match keeper.keep(control).await {}
        });
    }
    if let Some(url) = database.clone().filter(|_| !app.store.is_open()) {
        let late = Late {
            url,
            host_keys: host_keys.clone(),
            node: new_node(&settings, told)?,
            table,
        };
        core.spawn(
            "the opening of the database",
            open_late(Arc::clone(&app), late),
        );
    }
    let mut signals = Signals::listen()?;
    core.spawn(
        "the reader of the host keys",
        host_keys::keep_fresh(Arc::clone(&app), host_keys, read)?,
    );
    greet(&app, &settings, &listening, data_dir.path()).await?;
    let handle = axum_server::Handle::new();
    let web = serve_web(
        listener,
        tls,
        Arc::clone(&app),
        settings.role,
        handle.clone(),
    );
    core.spawn("the web listener", web);
    service_manager::tell(service_manager::READY);
    let ended = tokio::select! {
        _ = signals.next() => Ok(()),
        end = core.first_end() => Err(end),
    };
    service_manager::tell(service_manager::STOPPING);
    let farewell = async {
        app.changes.announce_shutdown();
        handle.graceful_shutdown(Some(farewell::REQUESTS));
        // The web listener is the one that ends now, with its last request. Tunnels go on until then.
        let _ = timeout(farewell::REQUESTS, core.first_end()).await;
        if let Some(local) = app.tunnels.local() {
            local.activity().stop_the_clock();
            local.end().await;
        }
        core.stop().await;
        let _ = timeout(farewell::WRITING, async {
            let tell = async {
                if let (Some(member), Some(url)) = (app.tunnels.member(), &database)
                    && let Err(error) = member.node.stop(url).await
                {
                    tracing::warn!("cannot tell the other nodes that this one ends: {error:#}");
                }
            };
            let write = async {
                session_recorder::finish(&app.control).await;
                history.write().await;
            };
            // Side by side: thousands of events must not keep the others from using this one no more.
            tokio::join!(tell, write);
            app.store.close().await;
        })
        .await;
    };
    signals.bound(farewell).await;
    ended
}

/// The database, and what keeps this node's own table of keys where several servers share it. With such a table on
/// disk, the tunnels do not wait for a database that cannot be reached: it is opened later.
async fn open_database(
    settings: &Serve,
    data_dir: &DataDir,
) -> anyhow::Result<(Store, Option<KeyKeeper>)> {
    let Some(url) = settings.data.database_url()? else {
        let new = settings.new_installation;
        let store = settings.data.open_store(data_dir, new).await?;
        // Nobody puts a file of PostgreSQL's back, and it runs with several servers.
        last_run::check_and_mark(data_dir, &store, new).await?;
        return Ok((store, None));
    };
    if settings.role == Role::Web {
        return Ok((Store::connect(&url).await?, None));
    }
    let secret = SecretKey::load_or_create(&data_dir.secret_key())?;
    let node = settings.node_name()?;
    let keeper = |store: &Store| {
        let file = KeyFile::new(data_dir, secret.installation());
        KeyKeeper::new(file, store.clone(), node.clone(), settings.stale_logins)
    };
    match Store::connect(&url).await {
        Ok(store) => {
            let keeper = keeper(&store);
            keeper.fill().await?;
            Ok((store, Some(keeper)))
        }
        Err(error) if Store::is_unreachable(&error) => {
            let store = Store::shut(&url).await;
            let keeper = keeper(&store);
            if !keeper.has_kept() {
                return Err(error);
            }
            tracing::error!(
                "{error:#}. Until it can be reached, tunnels are served to the keys that are known on disk, and \
                 everything else is answered 503"
            );
            Ok((store, Some(keeper)))
        }
        Err(error) => Err(error),
    }
}

/// What is done once the database is open.
async fn begin_with_database(app: &App, host_keys: &KeyFolder) -> anyhow::Result<()> {
    if let Err(error) = app.store.fold_names().await {
        // Those names are not found until the next start: the tunnels do not wait for room on the disk.
        tracing::error!("cannot keep names as they are searched for: {error:#}");
    }
    if let Err(error) = host_keys::note_former_bastions(host_keys, &app.store).await {
        // The tunnels do not wait for room on the disk; the commands that need it note it, too.
        tracing::error!("cannot note which host keys the bastions know: {error:#}");
    }
    check_saved_passwords(app).await?;
    app.sign_in_link.delete_if_over(&app.store).await;
    Ok(())
}

/// What a database is opened with that could not be reached at the start.
struct Late {
    url: DatabaseUrl,
    host_keys: KeyFolder,
    node: NewNode,
    table: Holders,
}

/// Opens it as soon as it can be, and makes this server one of several then.
///
/// # Errors
/// It is not the database of this installation, or another server has this one's name.
async fn open_late(app: Arc<App>, late: Late) -> anyhow::Result<()> {
    while let Err(error) = app.store.open_late(&late.url).await {
        tracing::warn!("{error:#}");
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
    tracing::info!("the database is open");
    let member = loop {
        match join_late(&app, &late).await {
            Ok(member) => break member,
            // A database that has just come back has much to do: the tunnels do not end for that.
            Err(error) if error.chain().any(|cause| cause.is::<StoreError>()) => {
                tracing::warn!("cannot join the other nodes yet: {error:#}");
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    };
    app.tunnels.join(member);
    if let Err(error) = begin_with_database(&app, &late.host_keys).await {
        tracing::error!("{error:#}");
    }
    let mut core = CoreTasks::default();
    spawn_member_tasks(&mut core, &app, &late.url);
    Err(core.first_end().await)
}

async fn join_late(app: &App, late: &Late) -> anyhow::Result<Member> {
    node::check_secret(&app.secret, &app.store).await?;
    let free_name = FreeName::find(&late.url, &late.node.name).await?;
    join(free_name, late.node.clone(), late.table.clone()).await
}

fn start_core_tasks(
    app: &Arc<App>,
    history: &Arc<HistoryRecorder>,
    metrics_listener: Option<TcpListener>,
    certificate: Option<Certificate>,
) -> anyhow::Result<CoreTasks> {
    let mut core = CoreTasks::default();
    let accepting = Arc::clone(app);
    core.spawn("the tunnel server", async move {
        match accepting.tunnels.local() {
            Some(local) => local.ended().await,
            None => std::future::pending().await,
        }
        Ok(())
    });
    let hashing = Arc::clone(app);
    core.spawn("the passwords' thread", async move {
        hashing.web.passwords.ended().await;
        Ok(())
    });
    let recording = Arc::clone(&app.control);
    core.spawn("the recorder of session events", async move {
        session_recorder::record(recording).await;
        Ok(())
    });
    let recording = Arc::clone(history);
    core.spawn("the recorder of the tunnels' history", async move {
        recording.record().await;
        Ok(())
    });
    let connections = Arc::clone(&app.connections);
    core.spawn("the end of idle web connections", async move {
        connections.end_idle().await;
        Ok(())
    });
    core.spawn(
        "the reader of the certificate",
        certificate::keep_fresh(certificate)?,
    );
    if let Some(listener) = metrics_listener {
        let serving = metrics::serve(listener, FIRST_REQUEST_TIMEOUT, Arc::clone(app));
        core.spawn("the metrics listener", async { Ok(serving.await?) });
    }
    Ok(core)
}

/// What makes this server one of several.
fn spawn_member_tasks(core: &mut CoreTasks, app: &Arc<App>, url: &DatabaseUrl) {
    let Some(member) = app.tunnels.member() else {
        return;
    };
    core.spawn(
        "the beat of this node",
        beat::keep(Arc::clone(&member.node), url.clone()),
    );
    let telling = facts::tell(
        Arc::clone(&member.node),
        Arc::clone(&app.control),
        url.clone(),
    );
    core.spawn("what tells other nodes of this one's tunnels", async {
        telling.await;
        Ok(())
    });
    let (view, control, database) = (
        Arc::clone(&member.view),
        Arc::clone(&app.control),
        url.clone(),
    );
    core.spawn("the view of the other nodes", async move {
        view.keep(&control, &database).await;
        Ok(())
    });
    let hearing = news::hear(Arc::clone(&app.control), url.clone());
    core.spawn("what hears from other nodes", async {
        hearing.await;
        Ok(())
    });
}

/// What this server tells the others of itself.
fn new_node(settings: &Serve, peer: Option<(String, [u8; 32])>) -> anyhow::Result<NewNode> {
    Ok(NewNode {
        name: settings.node_name()?,
        region: settings.region().to_owned(),
        role: settings.role,
        peer,
    })
}

/// Makes this server one of several.
async fn join(free_name: FreeName, new: NewNode, table: Holders) -> anyhow::Result<Member> {
    let view = Arc::new(View::new(new.name.clone(), table));
    let node = Arc::new(free_name.register(new).await?);
    Ok(Member { node, view })
}

/// Says at once, and not at the next test of a connection, that the key file is not the right one.
async fn check_saved_passwords(app: &App) -> anyhow::Result<()> {
    let unreadable = logins::unreadable(&app.secret, &app.store).await?;
    if unreadable > 0 {
        tracing::error!(
            unreadable,
            "saved passwords cannot be read: secret.key is not the file that they were saved with. \
             Restore it from a backup, or enter the passwords again"
        );
    }
    Ok(())
}

async fn load_certificate(settings: &Serve) -> anyhow::Result<Option<Certificate>> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(certificate), Some(key)) => Certificate::load(certificate, key).await.map(Some),
        _ => Ok(None),
    }
}

fn bind(address: SocketAddr, what: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!("cannot serve {what} on {address}; choose another address with {flag}")
    })
}

async fn start_tunnel_server(
    settings: &Serve,
    data_dir: &DataDir,
    keys: Arc<dyn KeyAuthority>,
) -> anyhow::Result<TunnelServer> {
    let config = TunnelServerConfig {
        ssh_listen: settings.ssh_listen,
        forward_listen: settings.forward_listen,
        host_key_dir: data_dir.host_keys(),
        trusted_proxies: TrustedProxies::new(settings.trusted_proxy.clone()),
        limits: settings.bounds.limits(),
    };
    TunnelServer::start(config, keys)
        .await
        .with_context(|| format!("cannot start the tunnel server on {}", settings.ssh_listen))
}

/// The link to other nodes.
struct PeerLink<R> {
    /// What they are told to connect to.
    address: String,
    certificate: [u8; 32],
    running: R,
}

impl<R> PeerLink<R> {
    fn told(&self) -> (String, [u8; 32]) {
        (self.address.clone(), self.certificate)
    }
}

/// Links this node to others, if it is to be one of several.
fn link_peers(
    settings: &Serve,
    data_dir: &DataDir,
    tunnels: &TunnelServer,
    table: Holders,
) -> anyhow::Result<Option<PeerLink<impl Future<Output = ()> + Send + 'static + use<>>>> {
    let Some(address) = settings.peer_listen else {
        return Ok(None);
    };
    let listener = bind(address, "other nodes", "--peer-listen")?;
    listener.set_nonblocking(true)?;
    let listening = listener.local_addr()?;
    ensure!(
        settings.peer_address.is_some() || !listening.ip().is_unspecified(),
        "{listening} is no address that other nodes can connect to; say what they call this one with --peer-address"
    );
    let identity = Identity::load_or_create(&data_dir.peer_link())?;
    let certificate = identity.hash();
    let running = tunnels.peer(Peering {
        listener: tokio::net::TcpListener::from_std(listener)?,
        identity,
        region: settings.region().to_owned(),
        holders: table,
    })?;
    let told = settings.peer_address.clone();
    Ok(Some(PeerLink {
        address: told.unwrap_or_else(|| listening.to_string()),
        certificate,
        running,
    }))
}

/// The addresses that are really listened on.
struct Listening {
    web: SocketAddr,
    peers: Option<String>,
    metrics: Option<SocketAddr>,
}

/// Says on stdout where everything is. Programs read these lines; `ready` is the last.
async fn greet(
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
    writeln!(out, "bastions {}", app.public.ssh_server())?;
    if app.tunnels.local().is_some() {
        writeln!(
            out,
            "ports    {} on {}",
            settings.ports, settings.forward_listen
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
    // One that is opened later has been used before.
    if settings.role != Role::Tunnel && app.store.is_open() && app.store.has_no_operator().await? {
        let name = login_link::FIRST_OPERATOR;
        let link = login_link::login_link(&app.store, &app.public.url, name).await?;
        if out.is_terminal() {
            writeln!(out, "sign-in link (works once, for 24 h): {link}")?;
        } else {
            app.sign_in_link.write(&link)?;
            let path = app.sign_in_link.path().display();
            writeln!(out, "sign-in link (works once, for 24 h) is in {path}")?;
        }
    }
    writeln!(out, "ready")?;
    out.flush()?;
    Ok(())
}

async fn serve_web(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    app: Arc<App>,
    role: Role,
    handle: axum_server::Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let admission = Admission(Arc::clone(&app.connections));
    let router = match role {
        Role::Tunnel => router::without_pages(app),
        Role::Web | Role::All => router::router(app),
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::from_tcp(listener)?
        .handle(handle)
        .first_request_timeout(FIRST_REQUEST_TIMEOUT);
    let served = match tls {
        Some(config) => {
            let acceptor = RustlsAcceptor::new(config).acceptor(admission);
            server.acceptor(acceptor).serve(service).await
        }
        None => server.acceptor(admission).serve(service).await,
    };
    served.context("the web server failed")
}
