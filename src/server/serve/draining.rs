//! Draining, where there are other nodes: this one's bastions go to them, and nothing that runs is cut.
//!
//! The state comes first, in the database: load balancers and other nodes prefer others from then on. Then no bastion
//! is let in any more, and the sessions end, each when nothing goes through it. Connections to tunnels that other
//! nodes hold are passed on all the while. If it drains by SIGTERM, its ports close once it holds no tunnel, what it
//! passes on comes to its end, and so does the process. What still runs at the deadline is cut, and so it is at once
//! when there is no other node any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::server::cluster::tunnels::Member;
use crate::server::farewell;
use crate::server::http::app::App;
use crate::server::service_manager;
use crate::server::store::NodeState;
use crate::server::tunnel_server::TunnelServer;

/// How long is waited for the database to take the state: it may be away.
const WRITING: Duration = Duration::from_secs(3);

/// How often is looked whether all has gone.
const LOOK: Duration = Duration::from_millis(100);

/// How long the sessions may take to be ended that are left at the deadline, all that there may be.
const LATE: Duration = Duration::from_secs(120);

/// Sends this node's bastions elsewhere whenever it drains, until it is aborted.
pub(super) async fn keep(app: Arc<App>, limit: Duration) {
    let (Some(local), Some(member)) = (app.tunnels.local(), app.tunnels.member()) else {
        // There is nothing that could go.
        return std::future::pending().await;
    };
    let mut states = member.node.states();
    loop {
        // They are not dropped before this is.
        let _ = states.wait_for(|state| *state == NodeState::Draining).await;
        tokio::select! {
            () = send_elsewhere(local, member, limit) => {}
            _ = states.wait_for(|state| *state == NodeState::Up) => {
                local.let_in();
                tracing::info!("this node does not drain any more: bastions are let in again");
            }
        }
    }
}

/// Never returns: who was about to log in may be there later.
async fn send_elsewhere(local: &TunnelServer, member: &Member, limit: Duration) {
    let deadline = Instant::now() + limit;
    if timeout(WRITING, member.node.is_written(NodeState::Draining))
        .await
        .is_err()
    {
        tracing::warn!("cannot tell the other nodes that this one drains; it does all the same");
    }
    local.let_nobody_in();
    tracing::info!(
        tunnels = local.tunnels_up(),
        ?limit,
        "bastions are sent to other nodes, each when nothing goes through its session"
    );
    loop {
        local.end_sessions(deadline).await;
        sleep(LOOK).await;
    }
}

/// Drains this node before its end, if another one can take its tunnels over.
pub(super) async fn leave(app: &App, limit: Duration) {
    let (Some(local), Some(member)) = (app.tunnels.local(), app.tunnels.member()) else {
        return;
    };
    let region = &member.node.described().region;
    if !member.view.has_another_for_tunnels(region) {
        tracing::info!(
            "no other node of this region could take the tunnels over, so this one ends at once"
        );
        return;
    }
    service_manager::tell(&service_manager::wait_for(
        WRITING + limit + LATE + farewell::BOUND,
    ));
    member.node.leave();
    tokio::select! {
        () = come_to_an_end(local, limit) => {}
        () = is_alone(member) => tracing::warn!(
            "no other node of this region can take the tunnels over any more, so this one ends at once"
        ),
    }
}

/// Returns when nothing goes through this node any more, or the time for that is over.
async fn come_to_an_end(local: &TunnelServer, limit: Duration) {
    let deadline = Instant::now() + limit;
    let sessions_have_gone = async {
        while !local.is_shut() || local.has_sessions() {
            sleep(LOOK).await;
        }
    };
    let _ = timeout(WRITING + limit + LATE, sessions_have_gone).await;
    local.end_fronts();
    while local.passed_on() > 0 && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    match local.passed_on() {
        0 => tracing::info!("drained: nothing goes through this node any more"),
        cut => tracing::warn!(cut, "the time to drain is over: connections are cut"),
    }
}

/// Returns when no other node can take this one's tunnels over: it is dead, or about to end as well.
async fn is_alone(member: &Member) {
    let region = &member.node.described().region;
    while member.view.has_another_for_tunnels(region) {
        sleep(LOOK).await;
    }
}
