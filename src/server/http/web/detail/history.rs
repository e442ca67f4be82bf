//! How a tunnel did on its last days, drawn and in figures.

use super::super::drawing::{self, Shapes};
use super::super::error::PageError;
use super::super::figures;
use crate::server::domain::history::{
    Day, DayHistory, Figures, History, KEPT_DAYS, SHOWN_DAYS, SLOTS, State,
};
use crate::server::http::app::App;
use crate::server::store::Record;

/// How many of a day's outages are named.
const NAMED: usize = 3;

/// What the page shows of it.
pub struct HistoryCard {
    pub share: String,
    /// What there is to say of the time in which it was not up.
    pub rest: String,
    pub bar: Bar,
    pub connections: Chart,
    pub bytes: Chart,
    /// Newest first.
    pub days: Vec<DayRow>,
    pub first: String,
    pub shown_days: i32,
    pub kept_days: i32,
    pub width: f64,
    pub height: f64,
}

/// The bar, and what it says to who cannot see it.
pub struct Bar {
    pub shapes: Shapes,
    pub title: String,
    pub description: String,
    pub has_outages: bool,
    pub has_unknown: bool,
    pub has_not_yet: bool,
}

/// A chart, with the same in words.
pub struct Chart {
    pub shapes: Shapes,
    pub words: String,
}

/// A day in figures.
pub struct DayRow {
    pub date: String,
    pub share: String,
    pub down: String,
    /// When.
    pub outages: String,
    pub unknown: String,
    pub connections: String,
    pub from_bastion: String,
    pub to_bastion: String,
}

/// The card; nothing where there is no tunnel, it has not been up yet, or it is removed.
pub async fn card(app: &App, record: &Record) -> Result<Option<HistoryCard>, PageError> {
    let Some(tunnel) = record.tunnel_id().filter(|_| !record.removed) else {
        return Ok(None);
    };
    let history = app.history(tunnel).await?;
    Ok((!history.is_empty()).then(|| drawn(&history)))
}

fn drawn(history: &History) -> HistoryCard {
    let total = history.total();
    let of_days = |figure: fn(&Figures) -> i64| -> Vec<i64> {
        let days = history.days.iter();
        days.map(|day| figure(&day.figures)).collect()
    };
    let connections = of_days(|day| day.connections);
    let bytes = of_days(|day| day.bytes_from_bastion.saturating_add(day.bytes_to_bastion));
    let first = history.days.first().map_or(Day(0), |day| day.day);
    HistoryCard {
        share: figures::share(total.share()),
        rest: rest(history, &total),
        bar: bar(history, &total),
        connections: Chart {
            words: format!(
                "{} in all, {}",
                figures::count(total.connections),
                peak(history, &connections, figures::count)
            ),
            shapes: drawing::columns(&connections),
        },
        bytes: Chart {
            words: format!(
                "{} from the bastion and {} to it in all, {}",
                figures::bytes(total.bytes_from_bastion),
                figures::bytes(total.bytes_to_bastion),
                peak(history, &bytes, figures::bytes)
            ),
            shapes: drawing::columns(&bytes),
        },
        days: history.days.iter().rev().map(row).collect(),
        first: first.date().to_string(),
        shown_days: SHOWN_DAYS,
        kept_days: KEPT_DAYS,
        width: drawing::width(history.days.len()),
        height: drawing::HEIGHT,
    }
}

fn rest(history: &History, total: &Figures) -> String {
    let down = total.known_ms - total.up_ms;
    let unknown: i64 = history.days.iter().map(DayHistory::unknown_ms).sum();
    let mut rest = match down {
        0 => "never down".to_owned(),
        _ => format!("down for {}", figures::time(down)),
    };
    if unknown > 0 {
        rest += &format!(", not known for {}", figures::time(unknown));
    }
    rest
}

fn bar(history: &History, total: &Figures) -> Bar {
    let has = |state| history.days.iter().any(|day| day.states.contains(&state));
    Bar {
        shapes: drawing::bar(history),
        title: format!(
            "Up for {} of the last {SHOWN_DAYS} days, as far as is known",
            figures::share(total.share())
        ),
        description: in_words(history),
        has_outages: has(State::Down),
        has_unknown: has(State::Unknown),
        has_not_yet: has(State::NotYet),
    }
}

/// What the bar shows: the days that were not up throughout.
fn in_words(history: &History) -> String {
    let mut words = String::new();
    for day in &history.days {
        let down = day.figures.known_ms - day.figures.up_ms;
        if down > 0 {
            let (date, down) = (day.day.date(), figures::time(down));
            words += &format!("{date}: down for {down}, {}. ", outages(day));
        }
    }
    if words.is_empty() {
        words += "Never down. ";
    }
    words += "The figures for each day are in the table below.";
    words
}

/// When a day's outages were, to five minutes.
fn outages(day: &DayHistory) -> String {
    let times = day.down_times();
    let clock = |slot: usize| match slot {
        SLOTS => "24:00".to_owned(),
        _ => day.day.start(slot).strftime("%H:%M").to_string(),
    };
    let named = times.iter().take(NAMED);
    let named: Vec<_> = named
        .map(|(from, until)| format!("{}–{}", clock(*from), clock(*until)))
        .collect();
    let mut text = named.join(", ");
    if times.len() > NAMED {
        text += &format!(" and {} more", times.len() - NAMED);
    }
    text
}

fn peak(history: &History, numbers: &[i64], shown: fn(i64) -> String) -> String {
    let highest = history
        .days
        .iter()
        .zip(numbers)
        .max_by_key(|(_, number)| **number);
    match highest {
        Some((day, number)) if *number > 0 => {
            format!("at most {} a day, on {}", shown(*number), day.day.date())
        }
        _ => "none on any day".to_owned(),
    }
}

fn row(day: &DayHistory) -> DayRow {
    let figures = &day.figures;
    let down = figures.known_ms - figures.up_ms;
    let unless_none = |ms: i64| match ms {
        0 => "–".to_owned(),
        _ => figures::time(ms),
    };
    DayRow {
        date: day.day.date().to_string(),
        share: share(day),
        down: unless_none(down),
        outages: outages(day),
        unknown: unless_none(day.unknown_ms()),
        connections: figures::count(figures.connections),
        from_bastion: figures::bytes(figures.bytes_from_bastion),
        to_bastion: figures::bytes(figures.bytes_to_bastion),
    }
}

fn share(day: &DayHistory) -> String {
    match day.figures.share() {
        None if day.states.contains(&State::NotYet) => "not yet".to_owned(),
        share => figures::share(share),
    }
}
