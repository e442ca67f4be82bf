//! How a tunnel did on its last days.

use serde::{Deserialize, Serialize};

/// The answer to `GET /data-sources/{id}/history`: how its tunnel did on the last 30 days. It is written every
/// minute; what a lost server had not written is not known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelHistory {
    /// For how many days it is kept.
    #[cfg_attr(feature = "server", schema(examples(35)))]
    pub kept_days: u32,
    /// All the days together.
    pub total: HistoryFigures,
    /// The days of UTC, the oldest first and today last. Of days before the first connection, and of those
    /// on which the server did not run, no second is known.
    pub days: Vec<HistoryDay>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct HistoryFigures {
    /// Seconds in which the tunnel was up.
    #[cfg_attr(feature = "server", schema(minimum = 0, examples(86_100)))]
    pub up_seconds: i64,
    /// Seconds of which is known whether it was up: it had been up before, and this server ran.
    #[cfg_attr(feature = "server", schema(minimum = 0, examples(86_400)))]
    pub known_seconds: i64,
    /// The share of the known time in which it was up, from 0 to 1, rounded down to four digits; null while
    /// none is known.
    #[cfg_attr(feature = "server", schema(minimum = 0, maximum = 1, examples(0.9965)))]
    pub up_share: Option<f64>,
    /// Connections to its port.
    #[cfg_attr(feature = "server", schema(minimum = 0, examples(1_250)))]
    pub connections: i64,
    /// Bytes that came from its bastion.
    #[cfg_attr(feature = "server", schema(minimum = 0, examples(73_400_320)))]
    pub bytes_from_bastion: i64,
    /// Bytes that went to its bastion.
    #[cfg_attr(feature = "server", schema(minimum = 0, examples(524_288)))]
    pub bytes_to_bastion: i64,
}

/// A day of UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct HistoryDay {
    /// Its date.
    #[cfg_attr(
        feature = "server",
        schema(value_type = String, format = Date, examples("2026-01-31"))
    )]
    pub date: jiff::civil::Date,
    /// What was measured.
    #[serde(flatten)]
    pub figures: HistoryFigures,
    /// When it was down, to five minutes.
    pub down: Vec<DownTime>,
}

/// A time within which a tunnel was down, from one full five minutes to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DownTime {
    /// Not before this, RFC 3339, UTC.
    pub from: jiff::Timestamp,
    /// And not after this.
    pub until: jiff::Timestamp,
}
