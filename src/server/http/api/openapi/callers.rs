//! Who may make a call: with which credential, and under which heading it is described.

use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::{Tag, TagBuilder};

use crate::server::store::Scope;

/// The scheme of the browser's cookie; its name depends on the installation.
pub const SESSION: &str = "session";

const OPERATOR_TOKEN: &str = "operator_token";
const FORM_TOKEN: &str = "session_form_token";
const ENROLLMENT_TOKEN: &str = "enrollment_token";
const TUNNEL_TOKEN: &str = "tunnel_token";
const REMOVAL_TOKEN: &str = "removal_token";

/// Who a call is for. The extractors of `auth` let nobody else in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Everybody; where a path holds a token, everybody who has it.
    Anybody,
    /// An operator, by an API token or a signed-in browser.
    Operator,
    /// A bastion during setup, for its own tunnel.
    Enrolling,
    /// A bastion, for its own tunnel alone.
    Bastion,
    /// A bastion that may also hold no more than its removal command.
    Leaving,
}

impl Caller {
    /// Writes down who may make this call.
    pub fn describe(self, method: &HttpMethod, operation: &mut Operation) {
        operation.tags = Some(vec![self.tag().to_owned()]);
        operation.security = Some(self.credentials(method));
    }

    fn tag(self) -> &'static str {
        match self {
            Caller::Anybody => "Anybody",
            Caller::Operator => "Operator",
            Caller::Enrolling | Caller::Bastion | Caller::Leaving => "Bastion",
        }
    }

    /// One of these is needed; an empty list means that none is.
    fn credentials(self, method: &HttpMethod) -> Vec<SecurityRequirement> {
        let token = |name| SecurityRequirement::new(name, NO_SCOPES);
        let api_token = |scope: Scope| SecurityRequirement::new(OPERATOR_TOKEN, [scope.into_str()]);
        match self {
            Caller::Anybody => Vec::new(),
            Caller::Operator if *method == HttpMethod::Get => {
                vec![api_token(Scope::Read), token(SESSION)]
            }
            Caller::Operator => vec![
                api_token(Scope::Operate),
                token(SESSION).add(FORM_TOKEN, NO_SCOPES),
            ],
            Caller::Enrolling => vec![token(ENROLLMENT_TOKEN), token(TUNNEL_TOKEN)],
            Caller::Bastion => vec![token(TUNNEL_TOKEN)],
            Caller::Leaving => vec![token(TUNNEL_TOKEN), token(REMOVAL_TOKEN)],
        }
    }
}

const NO_SCOPES: [&str; 0] = [];

/// The headings, in the order in which they are read.
pub fn tags() -> Vec<Tag> {
    [
        (
            "Operator",
            "What a person or a program on the vendor's side does.",
        ),
        (
            "Bastion",
            "What the bastion's program does, for its own tunnel and no other.",
        ),
        (
            "Anybody",
            "What needs no credential, or has it in the path.",
        ),
    ]
    .map(|(name, words)| {
        TagBuilder::new()
            .name(name)
            .description(Some(words))
            .build()
    })
    .into()
}

/// Every kind of credential.
pub fn schemes() -> Vec<(&'static str, SecurityScheme)> {
    vec![
        (
            OPERATOR_TOKEN,
            bearer(
                "hto_…: an operator's API token, from the page \"API tokens\" or `token create`. Its scope is `read`, for \
                 what changes nothing, or `operate`; it expires unless it was made not to",
            ),
        ),
        (SESSION, session_cookie("holistics-tunnel")),
        (
            FORM_TOKEN,
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "X-CSRF-Token",
                "The session's form token, for calls that change something",
            ))),
        ),
        (
            ENROLLMENT_TOKEN,
            bearer(
                "hte_…: in the command that sets a tunnel up; expires, and is used up by the setup",
            ),
        ),
        (
            TUNNEL_TOKEN,
            bearer(
                "htt_…: given to the bastion that has registered its key, for this tunnel's later calls",
            ),
        ),
        (
            REMOVAL_TOKEN,
            bearer("htr_…: in the command that removes a tunnel; expires"),
        ),
    ]
}

fn bearer(words: &str) -> SecurityScheme {
    SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(words))
            .build(),
    )
}

/// The cookie of a signed-in browser.
pub fn session_cookie(name: &str) -> SecurityScheme {
    SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
        name,
        "The cookie of a signed-in browser",
    )))
}
