//! For load balancers and supervisors.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;

use crate::protocol::ProblemKind;
use crate::server::http::app::App;
use crate::server::http::problem::ApiError;

/// Whether the process answers
#[utoipa::path(get, path = "/healthz", operation_id = "read_health",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain; charset=utf-8")))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// How long session events may wait to be written down, and threads to do something.
const EVENTS_WAIT: Duration = Duration::from_secs(30);
const THREADS_WAIT: Duration = Duration::from_secs(2);

/// Whether all of it works: the database can be written, too
#[utoipa::path(get, path = "/readyz", operation_id = "read_readiness",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, description = "The database cannot be written or read, another part does not do its work, other nodes have not been seen yet, or this node drains; the answer says which")))]
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    app.store.check().await?;
    if !app.tunnels.knows_the_others() {
        let detail = "this node does not know yet which tunnels other nodes hold, since it could not read or write \
                      what the nodes tell each other in the database; the server keeps trying";
        return Err(ApiError::new(ProblemKind::Busy, detail.to_owned()));
    }
    let idle = |part: &str| {
        tracing::error!(part, "not ready: this part does not do its work");
        let detail = format!("{part} does not do its work; restart the server if that lasts");
        Err(ApiError::new(ProblemKind::Busy, detail))
    };
    if let Some(local) = app.tunnels.local() {
        if !local.works_within(THREADS_WAIT).await {
            return idle("the tunnel server");
        }
        if local.events().wait_of_oldest() > EVENTS_WAIT {
            return idle("the recorder of session events");
        }
    }
    let member = app.tunnels.member();
    if member.is_some_and(|member| member.node.is_draining()) {
        let detail = "this node drains: it is about to end, and others are to be used";
        return Err(ApiError::new(ProblemKind::Busy, detail.to_owned()));
    }
    Ok("ready\n")
}
