//! Errors: problem documents (RFC 9457).

use serde::{Deserialize, Serialize};

/// An error answer: RFC 9457 problem details.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Which problem it is.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "server", schema(value_type = String, format = "uri-reference", examples("/problems/not-found")))]
    pub kind: ProblemKind,
    /// The problem in a few words, the same for every occurrence.
    #[cfg_attr(feature = "server", schema(examples("There is no such resource")))]
    pub title: String,
    /// The HTTP status.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 400, maximum = 599, examples(404))
    )]
    pub status: u16,
    /// This occurrence, and what to do about it.
    #[cfg_attr(
        feature = "server",
        schema(examples("there is no such data source or tunnel, or it has been removed"))
    )]
    pub detail: String,
}

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $variant:ident = ($slug:literal, $status:literal, $title:literal),)+) => {
        /// The problems the API answers with. A bastion decides by them what to do next.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind { $($(#[$doc])* $variant,)+ }

        impl ProblemKind {
            /// Every problem, for documentation.
            pub const ALL: &'static [ProblemKind] = &[$(ProblemKind::$variant,)+];

            /// The `type` member: a path relative to the server.
            pub fn type_uri(self) -> &'static str {
                match self { $(ProblemKind::$variant => concat!("/problems/", $slug),)+ }
            }

            /// The HTTP status it is sent with.
            pub fn status(self) -> u16 {
                match self { $(ProblemKind::$variant => $status,)+ }
            }

            /// The `title` member.
            pub fn title(self) -> &'static str {
                match self { $(ProblemKind::$variant => $title,)+ }
            }

            fn from_type_uri(uri: &str) -> Option<Self> {
                match uri {
                    $(concat!("/problems/", $slug) => Some(ProblemKind::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

problem_kinds! {
    /// The body cannot be read as JSON, lacks a field, has an unknown one, or a value is out of range.
    InvalidRequest = ("invalid-request", 422, "The request is not valid"),
    /// The cursor of a page of a list is not one that was given for it.
    InvalidCursor = ("invalid-cursor", 400, "This cursor is not known"),
    /// The body did not arrive in time.
    TooSlow = ("too-slow", 408, "The request did not arrive in time"),
    /// The body is larger than the API reads.
    TooLarge = ("too-large", 413, "The request is too large"),
    /// The body was not sent as JSON.
    UnsupportedMediaType = ("unsupported-media-type", 415, "The request is not sent as JSON"),
    /// No credential was sent, or it is not known.
    Unauthorized = ("unauthorized", 401, "This credential is not accepted"),
    /// The one-time token was right but its time is over.
    TokenExpired = ("token-expired", 410, "This token has expired"),
    /// The one-time token has done its work.
    TokenUsed = ("token-used", 410, "This token has been used up"),
    /// The credential is right, but not for this.
    Forbidden = ("forbidden", 403, "This credential does not allow that"),
    /// There is no such thing, or not any more.
    NotFound = ("not-found", 404, "There is no such resource"),
    /// The path is right and the method is not.
    MethodNotAllowed = ("method-not-allowed", 405, "This method is not allowed here"),
    /// Another key is enrolled for this tunnel already.
    KeyConflict = ("key-conflict", 409, "Another key is enrolled for this tunnel"),
    /// The data source is not in a state that allows this.
    WrongState = ("wrong-state", 409, "The data source is not in a state for that"),
    /// The tunnel's own session does not listen on its port.
    TunnelDown = ("tunnel-down", 409, "The tunnel is not up"),
    /// The saved password is not used for this, or cannot be read: it must be sent.
    PasswordNeeded = ("password-needed", 409, "The password is needed"),
    /// The caller's key for a request was sent with another body before.
    IdempotencyKeyReused = ("idempotency-key-reused", 422, "This key stands for another request"),
    /// The first request with the caller's key has no answer yet.
    RequestUnderWay = ("request-under-way", 409, "This request is being carried out"),
    /// As much of this as the server does at a time is done already.
    Busy = ("busy", 503, "The server is busy"),
    /// Every port of the range is given to a tunnel.
    PortsExhausted = ("ports-exhausted", 503, "No remote port is free"),
    /// The database cannot keep or read it now: its disk is full, say.
    StorageFailed = ("storage-failed", 503, "The server cannot keep this now"),
    /// A fault of the server.
    Internal = ("internal", 500, "The server failed"),
    /// A problem this version does not know.
    Unknown = ("unknown", 500, "Unknown problem"),
}

impl Serialize for ProblemKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.type_uri())
    }
}

impl<'de> Deserialize<'de> for ProblemKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let uri = String::deserialize(deserializer)?;
        Ok(Self::from_type_uri(&uri).unwrap_or(ProblemKind::Unknown))
    }
}

impl Problem {
    /// A problem of this kind, with the words for this occurrence.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
        }
    }
}
