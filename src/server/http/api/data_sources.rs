//! The operators' calls.
//!
//! A removed data source can still be read, with the state `removed`, so that whoever waits for
//! its end sees it; it is in no list, and every change of it is answered 404.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::auth::Operator;
use super::extract::{Body, Id, IdempotencyKey, Options};
use crate::protocol::schema::ListedState;
use crate::protocol::{
    API_BASE, DataSource, DataSourceChange, DataSourceId, DataSourceState, DatabaseType, KeyByHand,
    NewDataSource, RemovalCommand, TunnelByHand,
};
use crate::server::domain::Error;
use crate::server::domain::lists::Wanted;
use crate::server::http::address;
use crate::server::http::app::App;
use crate::server::http::problem::ApiError;
use crate::server::http::{by_hand, view};
use crate::server::store::RequestName;

/// Data sources on a page, if nothing else is asked for.
const PAGE: u16 = 100;

/// Creates a data source
///
/// The answer holds the command to run on the bastion. With an `Idempotency-Key`, the same request can be sent again if
/// its answer was lost: nothing is created twice, and the answer is the same as long as the data source is; the command is in it
/// while it can still be used. A key is known for 24 hours, for this token or account.
#[utoipa::path(post, path = "/api/v1/data-sources", operation_id = "create_data_source", request_body = NewDataSource,
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^(?:[!#-\\[\\]-~]{1,255}|\"[!#-\\[\\]-~]{1,255}\")$",
        description = "A name of the caller's for this request, such as a UUID; quotes around it make no difference")),
    responses((status = 409, description = "The first request with this key is still being carried out"),
        (status = 422, description = "A value is not valid, or the key was sent with another body before"),
        (status = 201, description = "Created, with the command for the bastion", body = DataSource,
        headers(("Location" = String, description = "Where it can be read")))))]
pub async fn create(
    operator: Operator,
    State(app): State<Arc<App>>,
    IdempotencyKey(key): IdempotencyKey,
    Body(new): Body<NewDataSource>,
) -> Result<impl IntoResponse, ApiError> {
    let (record, command) = match key {
        None => app.create(new, &operator.actor).await?,
        Some(key) => {
            let caller = operator.identity;
            let name = RequestName { caller, key };
            app.create_once(&name, new, &operator.actor).await?
        }
    };
    let mut answer = view::data_source(&app, &record);
    answer.enrollment = command.map(|command| view::enrollment(&app.public, &command));
    let location = format!("{API_BASE}/data-sources/{}", answer.id);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(answer),
    ))
}

/// The options of [`list`].
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct ListOptions {
    /// Only those that have this in their name or host, in upper or lower case.
    #[param(max_length = 200, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    search: Option<String>,
    /// Only those in this state now.
    #[param(value_type = Option<ListedState>, inline)]
    state: Option<DataSourceState>,
    /// Only databases of this type.
    database_type: Option<DatabaseType>,
    /// At most so many; 100 where absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u16>,
    /// Where the page begins. It stands in the link to this page; no other cursor is taken.
    cursor: Option<String>,
}

/// Lists the data sources
///
/// Oldest first, a page at a time; those that are removed are left out. While there are more, the answer has
/// a `Link` header (RFC 8288) to the next page, with the same search. A data source that is there all the
/// while is on one page, whatever is added or removed meanwhile.
#[utoipa::path(get, path = "/api/v1/data-sources", operation_id = "list_data_sources", params(ListOptions),
    responses((status = 200, description = "A page of them", body = Vec<DataSource>,
        headers(("Link" = Option<String>, description = "`<…>; rel=\"next\"`: the next page, absent on the last one"))),
        (status = 400, description = "The cursor is not one that was given")))]
pub async fn list(
    _: Operator,
    Options(options): Options<ListOptions>,
    State(app): State<Arc<App>>,
) -> Result<(HeaderMap, Json<Vec<DataSource>>), ApiError> {
    let wanted = Wanted {
        search: options.search.clone(),
        state: options.state,
        database_type: options.database_type,
    };
    let limit = options.limit.unwrap_or(PAGE);
    let cursor = options.cursor.as_deref();
    let (records, next) = app.list(&wanted, cursor, limit).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = next {
        headers.insert(header::LINK, next_page(&app, &options, &next)?);
    }
    let shown = records.iter().map(|record| view::data_source(&app, record));
    Ok((headers, Json(shown.collect())))
}

/// The link to the next page: the same question with another cursor.
fn next_page(app: &App, asked: &ListOptions, cursor: &str) -> Result<HeaderValue, ApiError> {
    let limit = asked.limit.map(|limit| limit.to_string());
    let next = [
        ("search", asked.search.as_deref().unwrap_or_default()),
        ("state", asked.state.map_or("", |state| state.into_str())),
        (
            "database_type",
            asked.database_type.map_or("", |kind| kind.into_str()),
        ),
        ("limit", limit.as_deref().unwrap_or_default()),
        ("cursor", cursor),
    ];
    let next = address::with_query(app, &format!("{API_BASE}/data-sources"), &next);
    HeaderValue::try_from(format!("<{next}>; rel=\"next\""))
        .map_err(|error| ApiError::internal(&error))
}

/// Shows a data source
///
/// One that is removed can still be read, so that whoever waits for its end sees it. Where several servers share the
/// tunnels, `tunnel.key_pending_on` names those that have yet to take over a removal or another key.
#[utoipa::path(get, path = "/api/v1/data-sources/{id}", operation_id = "read_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source")),
    responses((status = 200, description = "As it stands now", body = DataSource)))]
pub async fn read(
    _: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
) -> Result<Json<DataSource>, ApiError> {
    let record = app.data_source(id).await?;
    Ok(Json(view::whole_data_source(&app, &record).await?))
}

/// Changes a data source
///
/// A new host or port needs a command on the bastion, which the answer holds; the remote port stays.
#[utoipa::path(patch, path = "/api/v1/data-sources/{id}", operation_id = "change_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source")), request_body = DataSourceChange,
    responses((status = 200, description = "As it stands now", body = DataSource),
        (status = 409, description = "It is being removed")))]
pub async fn change(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
    Body(change): Body<DataSourceChange>,
) -> Result<Json<DataSource>, ApiError> {
    let record = app.change(id, change, &operator.actor).await?;
    Ok(Json(view::data_source(&app, &record)))
}

/// The options of [`delete`].
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteOptions {
    /// Removes it now, without the bastion.
    force: bool,
}

/// Removes a data source
///
/// Asks for the removal, and gives the command for the bastion; again, it gives a new command. With
/// `?force=true` it removes at once, without the bastion; and so it does where no program of ours is to be told:
/// for a draft that none has registered for, a direct connection, and a tunnel that was set up by hand. It is removed
/// everywhere once `tunnel.key_pending_on` of what can still be read is gone.
#[utoipa::path(delete, path = "/api/v1/data-sources/{id}", operation_id = "delete_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source"), DeleteOptions),
    responses((status = 200, description = "Being removed: the command for the bastion", body = RemovalCommand),
        (status = 204, description = "Removed")))]
pub async fn delete(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    Options(options): Options<DeleteOptions>,
    State(app): State<Arc<App>>,
) -> Result<Response, ApiError> {
    Ok(
        match app.remove(id, options.force, &operator.actor).await? {
            Some(command) => Json(view::removal(&app.public, &command)).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        },
    )
}

/// Registers a key by hand
///
/// For a machine on which this project's program does not run: a person sets the tunnel up there, with plain
/// ssh and what the answer says. Another key takes the place of one that was registered like this, at once;
/// the same key again gets the same answer.
#[utoipa::path(put, path = "/api/v1/data-sources/{id}/public-key", operation_id = "register_key_by_hand",
    params(("id" = i64, Path, minimum = 1, description = "The data source")), request_body = KeyByHand,
    responses((status = 200, description = "What the machine's ssh has to be told", body = TunnelByHand),
        (status = 409, description = "A bastion has registered its own key, the key opens other tunnels and `shared` is not sent, or the data source has no tunnel or is being removed"),
        (status = 503, description = "Every remote port is given to a tunnel")))]
pub async fn register_key(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
    Body(key): Body<KeyByHand>,
) -> Result<Json<TunnelByHand>, ApiError> {
    let record = app.register_by_hand(id, key, &operator.actor).await?;
    let answer = by_hand::answer(&app, &record).ok_or(Error::NotEnrolled)?;
    Ok(Json(answer))
}

/// Confirms where a tunnel leads that was set up by hand
///
/// After a change of host or port, somebody has to change one line on its machine. This says that it is done.
#[utoipa::path(post, path = "/api/v1/data-sources/{id}/target-applied", operation_id = "confirm_target",
    params(("id" = i64, Path, minimum = 1, description = "The data source")),
    responses((status = 200, description = "As it stands now", body = DataSource),
        (status = 409, description = "It was not set up by hand, or the data source has no tunnel or is being removed")))]
pub async fn confirm_target(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
) -> Result<Json<DataSource>, ApiError> {
    let record = app.confirm_target(id, &operator.actor).await?;
    Ok(Json(view::data_source(&app, &record)))
}
