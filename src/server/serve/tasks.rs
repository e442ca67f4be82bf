//! The tasks that live as long as the server, started.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use super::database::{self, Late};
use super::draining;
use super::listeners::FIRST_REQUEST_TIMEOUT;
use super::peer_link::PeerLink;
use crate::server::cluster::key_keeper::KeyKeeper;
use crate::server::cluster::{beat, facts, news};
use crate::server::core_tasks::CoreTasks;
use crate::server::expiry;
use crate::server::history_recorder::HistoryRecorder;
use crate::server::host_keys;
use crate::server::http::api::metrics;
use crate::server::http::app::App;
use crate::server::http::certificate::{self, Certificate};
use crate::server::overlaps;
use crate::server::session_recorder;
use crate::server::store::DatabaseUrl;
use crate::server::tunnel_server::{KeyFolder, Marks};

/// What they need beside the app.
pub(super) struct Tasks {
    pub(super) history: Arc<HistoryRecorder>,
    pub(super) metrics: Option<TcpListener>,
    pub(super) certificate: Option<Certificate>,
    pub(super) audit_age: Duration,
    pub(super) drain_timeout: Duration,
    /// Where several servers share it.
    pub(super) database: Option<DatabaseUrl>,
    pub(super) link: Option<PeerLink>,
    pub(super) keeper: Option<KeyKeeper>,
    /// If it is still to be opened.
    pub(super) late: Option<Late>,
    pub(super) host_keys: KeyFolder,
    /// What was read of that folder.
    pub(super) host_keys_read: Marks,
}

/// Starts all of them but the web listener.
pub(super) fn start(app: &Arc<App>, tasks: Tasks) -> anyhow::Result<CoreTasks> {
    let mut core = CoreTasks::default();
    spawn_tunnel_tasks(&mut core, app);
    spawn_recorders(&mut core, app, &tasks.history, tasks.audit_age);
    spawn_web_tasks(&mut core, app, tasks.metrics, tasks.certificate)?;
    if let Some(url) = &tasks.database {
        spawn_member_tasks(&mut core, app, url, tasks.drain_timeout);
    }
    if let Some(link) = tasks.link {
        core.spawn("the link to other nodes", async {
            link.running.await;
            Ok(())
        });
    }
    if let Some(keeper) = tasks.keeper {
        let control = Arc::clone(&app.control);
        core.spawn("the keeper of the keys", async move {
            match keeper.keep(control).await {}
        });
    }
    if let Some(late) = tasks.late {
        let opening = database::open_late(Arc::clone(app), late);
        core.spawn("the opening of the database", opening);
    }
    core.spawn(
        "the reader of the host keys",
        host_keys::keep_fresh(Arc::clone(app), tasks.host_keys, tasks.host_keys_read)?,
    );
    Ok(core)
}

fn spawn_tunnel_tasks(core: &mut CoreTasks, app: &Arc<App>) {
    let accepting = Arc::clone(app);
    core.spawn("the tunnel server", async move {
        match accepting.tunnels.local() {
            Some(local) => local.ended().await,
            None => std::future::pending().await,
        }
        Ok(())
    });
}

fn spawn_recorders(
    core: &mut CoreTasks,
    app: &Arc<App>,
    history: &Arc<HistoryRecorder>,
    audit_age: Duration,
) {
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
    let control = Arc::clone(&app.control);
    core.spawn("the end of old keys and moves", async move {
        overlaps::keep(control).await;
        Ok(())
    });
    let (control, sessions) = (Arc::clone(&app.control), app.web.limits);
    core.spawn("the end of what is over", async move {
        expiry::keep(control, audit_age, sessions).await;
        Ok(())
    });
}

fn spawn_web_tasks(
    core: &mut CoreTasks,
    app: &Arc<App>,
    metrics_listener: Option<TcpListener>,
    certificate: Option<Certificate>,
) -> anyhow::Result<()> {
    let hashing = Arc::clone(app);
    core.spawn("the passwords' thread", async move {
        hashing.web.passwords.ended().await;
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
    Ok(())
}

/// Starts what makes this server one of several, if it is.
pub(super) fn spawn_member_tasks(
    core: &mut CoreTasks,
    app: &Arc<App>,
    url: &DatabaseUrl,
    drain_timeout: Duration,
) {
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
    let draining = draining::keep(Arc::clone(app), drain_timeout);
    core.spawn("what drains this node", async {
        draining.await;
        Ok(())
    });
    let view = Arc::clone(&member.view);
    let hearing = news::hear(Arc::clone(&app.control), view, url.clone());
    core.spawn("what hears from other nodes", async {
        hearing.await;
        Ok(())
    });
}
