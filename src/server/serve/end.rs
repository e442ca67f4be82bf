//! The end: everybody is told, what is pending is written down, and other nodes learn of it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::timeout;

use crate::server::core_tasks::CoreTasks;
use crate::server::farewell;
use crate::server::history_recorder::HistoryRecorder;
use crate::server::http::app::App;
use crate::server::session_recorder;
use crate::server::store::DatabaseUrl;

pub(super) struct Ending<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) core: CoreTasks,
    pub(super) web: axum_server::Handle<SocketAddr>,
    pub(super) history: &'a HistoryRecorder,
    /// Where several servers share it.
    pub(super) database: Option<DatabaseUrl>,
}

impl Ending<'_> {
    /// Ends it in the order in which nobody misses what he still needs.
    pub(super) async fn carry_out(mut self) {
        self.end_web().await;
        if let Some(local) = self.app.tunnels.local() {
            local.activity().stop_the_clock();
            local.end().await;
        }
        self.core.stop().await;
        let writing = async {
            // Side by side: thousands of events must not keep the others from using this one no more.
            tokio::join!(
                tell_other_nodes(self.app, self.database.as_ref()),
                write_what_is_pending(self.app, self.history),
            );
            self.app.store.close().await;
        };
        let _ = timeout(farewell::WRITING, writing).await;
    }

    async fn end_web(&mut self) {
        self.app.changes.announce_shutdown();
        self.web.graceful_shutdown(Some(farewell::REQUESTS));
        // The web listener is the one that ends now, with its last request. Tunnels go on until then.
        let _ = timeout(farewell::REQUESTS, self.core.first_end()).await;
    }
}

async fn tell_other_nodes(app: &App, database: Option<&DatabaseUrl>) {
    if let (Some(member), Some(url)) = (app.tunnels.member(), database)
        && let Err(error) = member.node.stop(url).await
    {
        tracing::warn!("cannot tell the other nodes that this one ends: {error:#}");
    }
}

async fn write_what_is_pending(app: &App, history: &HistoryRecorder) {
    session_recorder::finish(&app.control).await;
    history.write().await;
}
