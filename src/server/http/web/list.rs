//! The list of data sources: searched, and page by page.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use strum::VariantArray as _;

use super::drawing::{self, Shapes};
use super::error::PageError;
use super::figures;
use super::labels::{self, StateLabel};
use super::layout::{Layout, Timestamp, page};
use super::pages::{self, Pages};
use crate::protocol::{
    DataSource, DataSourceId, DataSourceState, DatabaseType, TunnelId, TunnelStatus, TunnelSummary,
};
use crate::server::domain::history::History;
use crate::server::domain::lists::{Count, LONGEST_SEARCH, Page, Wanted};
use crate::server::http::address;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::view;
use crate::server::store::Record;

/// Data sources on a page.
const LENGTH: usize = 50;

/// What the page was asked for. A form sends what is not chosen, too: it is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    search: String,
    state: String,
    database_type: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "web/list.html")]
struct ListPage {
    layout: Layout,
    /// This very page, for its live part.
    here: String,
    asked: Asked,
    longest_search: usize,
    states: Vec<Choice>,
    types: Vec<Choice>,
    is_search: bool,
    count: String,
    rows: Vec<Row>,
    pages: Pages,
}

struct Choice {
    value: &'static str,
    label: &'static str,
}

struct Row {
    id: DataSourceId,
    name: String,
    database: &'static str,
    place: String,
    state: StateLabel,
    /// Absent for a direct connection, which is not kept open.
    last_seen: Option<LastSeen>,
    /// Absent until its tunnel has been up.
    history: Option<SmallHistory>,
}

/// How a tunnel did on its last days.
struct SmallHistory {
    bar: Shapes,
    share: String,
}

/// When a tunnel was last seen alive.
pub enum LastSeen {
    /// At this moment.
    Now,
    /// Then.
    At(Timestamp),
    /// Never yet.
    Never,
}

/// When a tunnel was last seen alive.
pub fn last_seen(tunnel: &TunnelSummary) -> LastSeen {
    match (tunnel.status, tunnel.last_seen) {
        (TunnelStatus::Up, _) => LastSeen::Now,
        (_, Some(at)) => LastSeen::At(Timestamp(at)),
        (_, None) => LastSeen::Never,
    }
}

/// `GET /data-sources`
pub async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Response, PageError> {
    let wanted = wanted(&asked);
    let found = app
        .data_sources(&wanted, pages::cursor(&asked.cursor), LENGTH)
        .await?;
    let tunnels: Vec<_> = found.items.iter().filter_map(Record::tunnel_id).collect();
    let histories = app.histories(&tunnels).await?;
    let is_search = wanted != Wanted::default();
    let sources = found.items.iter().map(|r| view::data_source(&app, r));
    let template = ListPage {
        layout: Layout::of(&app, &signed_in),
        here: address(&app, &asked, &asked.cursor),
        longest_search: LONGEST_SEARCH,
        states: states(),
        types: types(),
        is_search,
        count: count(&app, &wanted, &found).await?,
        rows: sources.map(|source| row(&source, &histories)).collect(),
        pages: Pages::of(&found, |cursor| address(&app, &asked, cursor)),
        asked,
    };
    page(StatusCode::OK, &template)
}

fn address(app: &App, asked: &Asked, cursor: &str) -> String {
    let asked = [
        ("search", asked.search.trim()),
        ("state", &asked.state),
        ("database_type", &asked.database_type),
        ("cursor", cursor),
    ];
    address::with_query(app, "/data-sources", &asked)
}

/// What is not known here, an old bookmark's state say, is not asked.
fn wanted(asked: &Asked) -> Wanted {
    let search = asked.search.trim();
    Wanted {
        search: (!search.is_empty()).then(|| search.to_owned()),
        state: DataSourceState::LISTED
            .into_iter()
            .find(|known| known.into_str() == asked.state),
        database_type: asked.database_type.parse().ok(),
    }
}

fn states() -> Vec<Choice> {
    let states = DataSourceState::LISTED.map(|state| Choice {
        value: state.into_str(),
        label: labels::listed_state(state),
    });
    states.into()
}

fn types() -> Vec<Choice> {
    let types = DatabaseType::VARIANTS.iter().map(|&known| Choice {
        value: known.into_str(),
        label: labels::database(known),
    });
    types.collect()
}

/// How many there are, in words.
async fn count(app: &App, wanted: &Wanted, found: &Page<Record>) -> Result<String, PageError> {
    let count = match (&found.newer, &found.older) {
        (None, None) => Count::Exactly(u32::try_from(found.items.len()).unwrap_or(u32::MAX)),
        _ => app.count(wanted).await?,
    };
    let (how_many, number) = match count {
        Count::Exactly(number) => ("", number),
        Count::MoreThan(number) => ("More than ", number),
    };
    let things = if number == 1 {
        "data source"
    } else {
        "data sources"
    };
    let match_it = match (*wanted == Wanted::default(), number) {
        (true, _) => "",
        (false, 1) => " matches",
        (false, _) => " match",
    };
    let number = pages::grouped(number);
    Ok(format!("{how_many}{number} {things}{match_it}"))
}

fn row(source: &DataSource, histories: &HashMap<TunnelId, History>) -> Row {
    let tunnel = source.tunnel.as_ref();
    Row {
        id: source.id,
        name: source.display_name.clone(),
        database: labels::database(source.database_type),
        place: source.address().to_string(),
        state: labels::state(source.connection, source.state),
        last_seen: tunnel.map(last_seen),
        history: tunnel.and_then(|tunnel| small_history(histories.get(&tunnel.id)?)),
    }
}

fn small_history(history: &History) -> Option<SmallHistory> {
    (!history.is_empty()).then(|| SmallHistory {
        bar: drawing::small_bar(history),
        share: figures::share(history.total().share()),
    })
}
