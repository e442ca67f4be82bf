//! How a data source's tunnel did on its last days.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::auth::Operator;
use super::extract::Id;
use crate::protocol::{DataSourceId, DownTime, HistoryDay, HistoryFigures, TunnelHistory};
use crate::server::domain::Error;
use crate::server::domain::history::{DayHistory, Figures, History, KEPT_DAYS};
use crate::server::http::app::App;
use crate::server::http::problem::ApiError;

/// Shows how a data source's tunnel did
///
/// Each of the last 30 days: for how long the tunnel was up and when it was down, connections and bytes.
#[utoipa::path(get, path = "/api/v1/data-sources/{id}/history", operation_id = "read_history",
    params(("id" = i64, Path, minimum = 1, description = "The data source")),
    responses((status = 200, description = "As it was written last, at most a minute ago", body = TunnelHistory),
        (status = 409, description = "It is reached directly: it has no tunnel")))]
pub async fn read(
    _: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
) -> Result<Json<TunnelHistory>, ApiError> {
    let record = app.data_source(id).await?;
    let tunnel = record.tunnel_id().ok_or(Error::NoTunnel)?;
    Ok(Json(shown(&app.history(tunnel).await?)))
}

fn shown(history: &History) -> TunnelHistory {
    TunnelHistory {
        kept_days: KEPT_DAYS.unsigned_abs(),
        total: figures(&history.total()),
        days: history.days.iter().map(day).collect(),
    }
}

fn day(day: &DayHistory) -> HistoryDay {
    let down = day.down_times().into_iter().map(|(from, until)| DownTime {
        from: day.day.start(from),
        until: day.day.start(until),
    });
    HistoryDay {
        date: day.day.date(),
        figures: figures(&day.figures),
        down: down.collect(),
    }
}

fn figures(figures: &Figures) -> HistoryFigures {
    HistoryFigures {
        up_seconds: figures.up_seconds(),
        known_seconds: figures.known_seconds(),
        up_share: figures.share().map(|share| f64::from(share) / 10_000.0),
        connections: figures.connections,
        bytes_from_bastion: figures.bytes_from_bastion,
        bytes_to_bastion: figures.bytes_to_bastion,
    }
}
