//! One data source: what it is and how it does.

mod history;
pub mod manual;
mod setup;

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::PageError;
use super::labels::{self, StateLabel};
use super::layout::{InlineCode, Layout, Timestamp, page};
use super::list::{LastSeen, last_seen};
use crate::protocol::{
    ConnectionKind, ConnectionTestResult, DataSource, DataSourceId, DataSourceState,
    DatabaseAddress, DatabaseType, EnrolledBy, NextRegion, TunnelStatus,
};
use crate::server::http::api::extract::Id;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::view;
use crate::server::store::{Event, Part, Record};
use history::HistoryCard;
use manual::{Guide, LineToChange, Manual, Shown};
use setup::{Command, Step};

/// Events on the page.
const EVENTS: u32 = 20;

/// What stands in the login's form; never a password.
#[derive(Default)]
pub struct TypedLogin {
    /// The database's name.
    pub database: String,
    /// The user.
    pub username: String,
    /// The TLS mode's name.
    pub tls: String,
}

/// What the page says beside the data source itself.
#[derive(Default)]
pub struct Extra {
    /// The form as it was typed; the saved login where absent.
    pub typed: Option<TypedLogin>,
    /// What a test found.
    pub result: Option<ConnectionTestResult>,
    /// Why what was asked for was not done.
    pub error: Option<String>,
}

#[derive(Template)]
#[template(path = "web/detail.html")]
struct DetailPage {
    layout: Layout,
    source: DataSource,
    database: &'static str,
    place: String,
    state: StateLabel,
    /// Whether there is more than one region.
    has_regions: bool,
    last_seen: Option<LastSeen>,
    steps: Vec<Step>,
    setup: Option<Command>,
    removal: Option<Command>,
    /// Present where a person sets the tunnel up.
    manual: Option<Manual>,
    /// What is to be removed from such a machine, once that is so.
    guides: Vec<Guide>,
    line_to_change: Option<LineToChange>,
    history: Option<HistoryCard>,
    events: Vec<EventRow>,
    typed: TypedLogin,
    password: PasswordHint,
    result: Option<Outcome>,
    error: Option<String>,
    created: Timestamp,
    /// Whether the page shall come again by itself where there is no script.
    reloads: bool,
}

/// What there is to say beside the field for the password.
enum PasswordHint {
    /// None is saved.
    None,
    /// The saved one is used where none is typed.
    Saved,
    /// The saved one is for another host or port.
    ForAnotherAddress,
}

/// An event in words.
pub struct EventRow {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: String,
    /// Through whom.
    pub actor: String,
}

struct Outcome {
    ok: bool,
    stages: Vec<StageRow>,
    server_version: Option<String>,
}

struct StageRow {
    name: String,
    ok: bool,
    milliseconds: u64,
    detail: InlineCode,
    remedy: Option<InlineCode>,
}

impl DetailPage {
    fn is_up(&self) -> bool {
        let tunnel = self.source.tunnel.as_ref();
        tunnel.is_some_and(|tunnel| tunnel.status == TunnelStatus::Up)
    }

    fn is_direct(&self) -> bool {
        self.source.connection == ConnectionKind::Direct
    }

    fn is_in_setup(&self) -> bool {
        use DataSourceState::{Connected, Draft, Enrolled, Saved};
        !self.is_direct() && matches!(self.source.state, Draft | Enrolled | Connected | Saved)
    }

    /// Where the bastion leads the tunnel now.
    fn applied(&self) -> Option<&DatabaseAddress> {
        self.source.tunnel.as_ref()?.applied.as_ref()
    }

    /// The region to which the tunnel is to move, and where that is up to the person who has set it up.
    fn moves_by_hand(&self) -> Option<&NextRegion> {
        let tunnel = self.source.tunnel.as_ref()?;
        let moves = tunnel.moving_to.as_ref();
        moves.filter(|_| tunnel.set_up_by_hand && !self.is_leaving())
    }

    /// The region to which the bastion is to move the tunnel.
    fn moving_to(&self) -> Option<&NextRegion> {
        self.source.tunnel.as_ref()?.moving_to.as_ref()
    }

    /// Whether there is something to test and save: a direct connection, or an enrolled tunnel.
    fn takes_a_login(&self) -> bool {
        let tunnel = self.source.tunnel.as_ref();
        tunnel.is_none_or(|tunnel| tunnel.remote_port.is_some())
    }

    fn awaits_command(&self) -> bool {
        !self.is_by_hand() && setup::awaits_command(self.source.state, self.is_up())
    }

    /// Whether a person has set the tunnel up, and no program of ours runs on its machine.
    fn is_by_hand(&self) -> bool {
        let tunnel = self.source.tunnel.as_ref();
        tunnel.is_some_and(|tunnel| tunnel.set_up_by_hand)
    }

    /// Who is behind the tunnel, and since when, while that matters.
    fn enrolled_by(&self) -> Option<(&EnrolledBy, Timestamp)> {
        let tunnel = self.source.tunnel.as_ref().filter(|_| !self.is_leaving())?;
        let by = tunnel.enrolled_by.as_ref()?;
        Some((by, Timestamp(by.at)))
    }

    fn is_unsaved(&self) -> bool {
        use DataSourceState::{Connected, Draft, Enrolled};
        matches!(self.source.state, Draft | Enrolled | Connected)
    }

    fn is_leaving(&self) -> bool {
        self.is_removed() || self.source.state == DataSourceState::Removing
    }

    fn is_removed(&self) -> bool {
        self.source.state == DataSourceState::Removed
    }

    /// The servers on which a key that was replaced or removed may still open the tunnel.
    fn key_pending_on(&self) -> Option<String> {
        let pending = &self.source.tunnel.as_ref()?.key_pending_on;
        (!pending.is_empty()).then(|| pending.join(", "))
    }

    fn is_down(&self) -> bool {
        self.source.state == DataSourceState::Down
    }
}

/// `GET /data-sources/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
) -> Result<Response, PageError> {
    answer(&app, &signed_in, id, StatusCode::OK, Extra::default()).await
}

/// The page, with what else there is to say.
pub async fn answer(
    app: &App,
    signed_in: &SignedIn,
    id: DataSourceId,
    status: StatusCode,
    extra: Extra,
) -> Result<Response, PageError> {
    let record = app.data_source(id).await?;
    let source = view::whole_data_source(app, &record).await?;
    let events = app.store.events(Some(id), Part::Newest, EVENTS).await?;
    let template = DetailPage {
        layout: Layout::of(app, signed_in),
        database: labels::database(source.database_type),
        place: source.address().to_string(),
        state: labels::state(source.connection, source.state),
        has_regions: app.regions.all().len() > 1,
        last_seen: source.tunnel.as_ref().map(last_seen),
        steps: setup::steps(source.state, record.is_by_hand()),
        setup: setup::command(app, &record, source.state).await?,
        removal: setup::removal(app, &record, source.state).await?,
        manual: if record.is_by_hand() && !record.is_leaving() {
            manual::manual(app, &record)?
        } else {
            None
        },
        guides: if record.removed {
            manual::removal(app, &record)?
        } else {
            Vec::new()
        },
        line_to_change: manual::line_to_change(&record),
        history: history::card(app, &record).await?,
        events: events.into_iter().map(event_row).collect(),
        typed: extra.typed.unwrap_or_else(|| saved_login(&source)),
        password: password_hint(&record),
        result: extra.result.map(outcome),
        error: extra.error,
        created: Timestamp(source.created_at),
        reloads: status == StatusCode::OK
            && source.state == DataSourceState::Draft
            && source.tunnel.is_some(),
        source,
    };
    page(status, &template)
}

fn saved_login(source: &DataSource) -> TypedLogin {
    let Some(login) = &source.login else {
        return TypedLogin::default();
    };
    TypedLogin {
        database: login.database.clone(),
        username: login.username.clone(),
        tls: login.tls.into_str().to_owned(),
    }
}

fn password_hint(record: &Record) -> PasswordHint {
    match &record.login {
        Some(login) if login.password.is_some() => {
            if login.address == record.address() {
                PasswordHint::Saved
            } else {
                PasswordHint::ForAnotherAddress
            }
        }
        _ => PasswordHint::None,
    }
}

/// An event in words.
pub fn event_row(event: Event) -> EventRow {
    EventRow {
        at: Timestamp(event.at),
        what: labels::event(&event.kind).to_owned(),
        actor: event.actor,
    }
}

fn outcome(result: ConnectionTestResult) -> Outcome {
    let stages = result.stages.into_iter().map(|stage| StageRow {
        name: labels::stage(&stage.name).to_owned(),
        ok: stage.ok,
        milliseconds: stage.milliseconds,
        detail: InlineCode(stage.detail),
        remedy: stage.remedy.map(InlineCode),
    });
    Outcome {
        ok: result.ok,
        stages: stages.collect(),
        server_version: result.server_version,
    }
}
