//! `serve`: brings the parts up in order, says where they are, and ends them cleanly.
//!
//! The order stands in [`run`]. What a step does is in a file of its own: the [`database`], what is [`listeners`]
//! bound, the [`tunnels`] and the [`peer_link`] to other nodes, the [`tasks`] that run from then on, the [`greeting`], the
//! [`draining`] of one node among several, and the [`end`].

mod database;
mod draining;
mod end;
mod greeting;
mod listeners;
mod peer_link;
mod tasks;
mod tunnels;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::time::timeout;

use self::database::{Database, Late};
use self::end::Ending;
use self::greeting::Listening;
use self::listeners::Listeners;
use self::tasks::Tasks;
use self::tunnels::Started;
use super::cli::Serve;
use super::cluster::tunnels::Tunnels;
use super::core_tasks::CoreTasks;
use super::data_dir::DataDir;
use super::domain::ControlPlane;
use super::domain::address::{PublicAddress, PublicSettings};
use super::domain::changes::Changes;
use super::domain::idempotency::UnderWay;
use super::domain::proxies::TrustedProxies;
use super::domain::regions::Regions;
use super::farewell::Signals;
use super::history_recorder::HistoryRecorder;
use super::http::app::App;
use super::http::connections::Connections;
use super::http::downloads::Downloads;
use super::http::shared::Shared;
use super::login_link;
use super::metrics::counts::Metrics;
use super::regions;
use super::service_manager;
use super::sign_in_link::SignInLinkFile;
use super::store::SessionLimits;
use super::tunnel_server::{KeyFolder, descriptor_limit};

/// How long is waited for what other nodes hold, before this one is ready without knowing.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub async fn run(settings: Serve) -> anyhow::Result<()> {
    settings.check_node()?;
    let data_dir = DataDir::open_or_create(&settings.data.path())?;
    let _lock = data_dir.lock_for_serving()?;
    // Before anything is bound: a second server of this name changes nothing.
    let mut database = Database::open(&settings, &data_dir).await?;
    let listeners = Listeners::bind(&settings).await?;
    let host_keys = KeyFolder::new(data_dir.host_keys());
    let host_keys_read = host_keys.marks();
    let Started {
        tunnels,
        ssh_address,
        link,
        joining,
    } = tunnels::start(&settings, &data_dir, &mut database).await?;
    let public = public_address(&settings, &listeners, ssh_address)?;
    let listening = Listening::new(&listeners, link.as_ref())?;
    let (url, keeper) = (database.url.clone(), database.keeper.take());
    let app = Arc::new(app(&settings, &data_dir, database, public, tunnels)?);
    let is_to_join = url.is_some() && app.tunnels.member().is_none();
    if !is_to_join {
        database::begin(&app, &host_keys, settings.role).await;
    }
    if let Err(error) = login_link::remember_public_url(&data_dir, &app.public.url) {
        // `login-link` alone needs it: the tunnels do not wait for room on the disk.
        tracing::error!("{error:#}");
    }
    let history = Arc::new(HistoryRecorder::new(Arc::clone(&app.control)).await);
    let late = joining.filter(|_| is_to_join);
    let late = late.zip(url.clone()).map(|(joining, url)| Late {
        url,
        data_dir: data_dir.clone(),
        host_keys: host_keys.clone(),
        joining,
        drain_timeout: settings.drain_timeout,
    });
    let tls = listeners.tls();
    let mut core = tasks::start(
        &app,
        Tasks {
            history: Arc::clone(&history),
            metrics: listeners.metrics,
            certificate: listeners.certificate,
            audit_age: settings.audit_age,
            drain_timeout: settings.drain_timeout,
            database: url.clone(),
            link,
            keeper,
            late,
            host_keys,
            host_keys_read,
        },
    )?;
    let mut signals = Signals::listen()?;
    look_at_the_others(&app).await;
    greeting::greet(&app, &settings, &listening, data_dir.path()).await?;
    let web_handle = axum_server::Handle::new();
    let web = listeners::serve_web(
        listeners.web,
        tls,
        Arc::clone(&app),
        settings.role,
        web_handle.clone(),
    );
    core.spawn("the web listener", web);
    service_manager::tell(service_manager::READY);
    let ended = serve_on(&app, &mut core, &mut signals, settings.drain_timeout).await;
    let ending = Ending {
        app: &app,
        core,
        web: web_handle,
        history: &history,
        database: url,
    };
    signals.bound(ending.carry_out()).await;
    ended
}

/// Before anybody asks: what is not known yet would be shown as down.
async fn look_at_the_others(app: &App) {
    let Some(member) = app.tunnels.member() else {
        return;
    };
    if timeout(FIRST_LOOK, member.view.first_look()).await.is_err() {
        tracing::warn!(
            "cannot read within {FIRST_LOOK:?} which tunnels other nodes hold; they seem to be down until it can"
        );
    }
}

/// Serves until it has to end: by SIGTERM, once this node has drained; by a second signal, by SIGINT or by the end of
/// a core task at once.
async fn serve_on(
    app: &App,
    core: &mut CoreTasks,
    signals: &mut Signals,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let signal = tokio::select! {
        signal = signals.next() => Ok(signal),
        end = core.first_end() => Err(end),
    };
    service_manager::tell(service_manager::STOPPING);
    if signal? != SignalKind::terminate() {
        return Ok(());
    }
    tokio::select! {
        () = draining::leave(app, drain_timeout) => Ok(()),
        _ = signals.next() => Ok(()),
        end = core.first_end() => Err(end),
    }
}

fn public_address(
    settings: &Serve,
    listeners: &Listeners,
    ssh_address: SocketAddr,
) -> anyhow::Result<PublicAddress> {
    PublicAddress::derive(
        PublicSettings {
            url: settings.public_url.clone(),
            ssh_host: settings.public_ssh_host.clone(),
            ssh_port: settings.public_ssh_port,
        },
        listeners.certificate.is_some(),
        listeners.web.local_addr()?,
        ssh_address,
    )
}

/// What requests and tasks share.
fn app(
    settings: &Serve,
    data_dir: &DataDir,
    database: Database,
    public: PublicAddress,
    tunnels: Tunnels,
) -> anyhow::Result<App> {
    let trusted_proxies = TrustedProxies::new(settings.trusted_proxy.clone());
    let bounds = settings.web_bounds.bounds().within(descriptor_limit());
    Ok(App {
        connections: Connections::new(bounds, trusted_proxies.clone()),
        trusted_proxies,
        web: Shared::new(
            &public.url,
            SessionLimits {
                idle: settings.session_idle,
                lifetime: settings.session_lifetime,
            },
        )?,
        sign_in_link: SignInLinkFile::of(data_dir),
        downloads: Downloads::new(settings.dist_dir.clone()),
        metrics: Metrics::default(),
        control: Arc::new(ControlPlane {
            secret: database.secret,
            regions: Regions::new(regions::as_started(settings, &public)),
            public,
            changes: Changes::new(),
            enrollment_ttl: settings.enrollment_ttl,
            key_overlap: settings.key_overlap,
            port_rest: settings.port_rest,
            forward_listen: settings.forward_listen,
            direct_loopback_allowed: settings.allow_direct_loopback,
            under_way: UnderWay::default(),
            store: database.store,
            tunnels,
            keys: database.key_table,
        }),
    })
}
