//! Who calls: every credential is a bearer token, and every kind opens its own calls only.
//!
//! The extractors answer 401 to what is unknown, 410 to what has expired or done its work, and 403
//! to a good token in the wrong place.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::extract::Id;
use crate::protocol::{ProblemKind, TunnelId};
use crate::server::domain::token::{TokenHash, TokenKind};
use crate::server::domain::{Actor, api_tokens};
use crate::server::http::app::App;
use crate::server::http::browser;
use crate::server::http::problem::ApiError;
use crate::server::store::{ApiToken, Scope, Store, StoredToken};

/// An operator, by an API token or a signed-in browser's cookie. A token's scope is looked at here, so that no
/// call can forget to: what only reads needs `read`, all else `operate`.
pub struct Operator {
    /// For the record of who did what.
    pub actor: Actor,
    /// What is the same for one credential or account alone, for what each has of its own.
    pub identity: String,
}

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if !parts.headers.contains_key(header::AUTHORIZATION)
            && let Some(actor) = browser::api_operator(app, &parts.method, &parts.headers).await?
        {
            let identity = format!("account {actor}");
            return Ok(Operator { actor, identity });
        }
        let (token, hash) = bearer(&parts.headers, &app.store).await?;
        match token {
            StoredToken::Operator(token) => {
                ensure_scope(&token, needed_scope(&parts.method))?;
                Ok(Operator {
                    actor: Actor::ApiToken(token.name),
                    identity: format!("token {}", STANDARD.encode(hash.as_bytes())),
                })
            }
            StoredToken::Tunnel { .. } => Err(forbidden("this call needs an operator's API token")),
        }
    }
}

/// What an API token needs for a call with this method.
pub fn needed_scope(method: &Method) -> Scope {
    if method.is_safe() {
        Scope::Read
    } else {
        Scope::Operate
    }
}

fn ensure_scope(token: &ApiToken, needed: Scope) -> Result<(), ApiError> {
    if token.scope >= needed {
        return Ok(());
    }
    Err(forbidden(&format!(
        "this call changes something, so it needs an API token with the scope `{}`; this token has the scope `{}`",
        needed.into_str(),
        token.scope.into_str()
    )))
}

/// Whether who began a live stream may still read it: the session is not over, or the API token
/// not revoked.
pub async fn still_allowed(app: &App, headers: &HeaderMap) -> bool {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|v| v.split_once(' '));
        let Some((_, token)) = token else {
            return false;
        };
        let found = app.store.token(&TokenHash::of(token.trim())).await;
        return matches!(found, Ok(Some(StoredToken::Operator(token))) if api_tokens::ensure_works(&token).is_ok());
    }
    matches!(browser::signed_in(app, headers).await, Ok(Some(_)))
}

/// A bastion during setup, by an enrollment token or the tunnel token it got for it.
pub struct Bastion {
    /// The token's tunnel.
    pub tunnel_id: TunnelId,
    /// The token's hash.
    pub credential: TokenHash,
    /// When the token stops working; absent for a tunnel token.
    pub expires_at: Option<jiff::Timestamp>,
}

impl FromRequestParts<Arc<App>> for Bastion {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let (token, credential) = bearer(&parts.headers, &app.store).await?;
        match token {
            StoredToken::Tunnel {
                kind: TokenKind::Enrollment | TokenKind::Tunnel,
                tunnel_id,
                expires_at,
                ..
            } => Ok(Bastion {
                tunnel_id,
                credential,
                expires_at,
            }),
            _ => Err(forbidden(
                "this call needs an enrollment token or a tunnel token",
            )),
        }
    }
}

/// A tunnel that may be read and removed: by its tunnel token or its removal token.
pub struct OwnTunnel(pub TunnelId);

impl FromRequestParts<Arc<App>> for OwnTunnel {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        own_tunnel(parts, app, &[TokenKind::Tunnel, TokenKind::Removal])
            .await
            .map(OwnTunnel)
    }
}

/// A tunnel that may be changed: by its tunnel token alone.
pub struct ChangeableTunnel(pub TunnelId);

impl FromRequestParts<Arc<App>> for ChangeableTunnel {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        own_tunnel(parts, app, &[TokenKind::Tunnel])
            .await
            .map(ChangeableTunnel)
    }
}

async fn own_tunnel(
    parts: &mut Parts,
    app: &Arc<App>,
    accepted: &[TokenKind],
) -> Result<TunnelId, ApiError> {
    let (token, _) = bearer(&parts.headers, &app.store).await?;
    let Id(wanted): Id<TunnelId> = Id::from_request_parts(parts, app).await?;
    match token {
        StoredToken::Tunnel {
            kind, tunnel_id, ..
        } if tunnel_id == wanted && accepted.contains(&kind) => Ok(tunnel_id),
        _ => Err(forbidden(
            "this call needs the token of this very tunnel, and of the right kind",
        )),
    }
}

/// What a token in a path opens, for the scripts under `/i` and `/r`.
pub async fn tunnel_of(
    store: &Store,
    token: &str,
    wanted: TokenKind,
) -> Result<TunnelId, ApiError> {
    match working(store, &TokenHash::of(token)).await? {
        StoredToken::Tunnel {
            kind, tunnel_id, ..
        } if kind == wanted => Ok(tunnel_id),
        _ => Err(unknown()),
    }
}

async fn bearer(headers: &HeaderMap, store: &Store) -> Result<(StoredToken, TokenHash), ApiError> {
    let text = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| {
            ApiError::new(
                ProblemKind::Unauthorized,
                "send a token as `Authorization: Bearer TOKEN`",
            )
        })?
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(unknown)?;
    let hash = TokenHash::of(text);
    let token = working(store, &hash).await?;
    if let StoredToken::Operator(token) = &token {
        api_tokens::ensure_works(token)
            .map_err(|refusal| ApiError::new(ProblemKind::Unauthorized, refusal.to_string()))?;
        if let Err(error) = store.note_api_token_used(&hash, token).await {
            // What is only read is answered also while nothing can be written.
            tracing::warn!(?error, "cannot write when an API token was used");
        }
    }
    Ok((token, hash))
}

async fn working(store: &Store, hash: &TokenHash) -> Result<StoredToken, ApiError> {
    let token = store.token(hash).await?.ok_or_else(unknown)?;
    if let StoredToken::Tunnel {
        expires_at,
        used,
        now,
        ..
    } = &token
    {
        if *used {
            return Err(ApiError::new(
                ProblemKind::TokenUsed,
                "this command has done its work: the tunnel is set up. For another tunnel, create another data source.",
            ));
        }
        if expires_at.is_some_and(|at| at <= *now) {
            return Err(ApiError::new(
                ProblemKind::TokenExpired,
                "this command has expired. Ask for a new one in the browser.",
            ));
        }
    }
    Ok(token)
}

fn unknown() -> ApiError {
    ApiError::new(
        ProblemKind::Unauthorized,
        "this token is not known here: it is mistyped, revoked, or of another server",
    )
}

fn forbidden(detail: &str) -> ApiError {
    ApiError::new(ProblemKind::Forbidden, detail)
}
