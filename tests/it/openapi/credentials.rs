//! Everything somebody may come with who is not meant.

use reqwest::blocking::RequestBuilder;

use crate::openapi::visitor::Visitor;
use crate::openapi::world::World;

/// What somebody sends.
pub struct Credential {
    /// In words.
    pub name: &'static str,
    /// The description's name for it, if it is a good one.
    pub scheme: Option<&'static str>,
    /// What it may do, where that is divided further.
    pub scopes: &'static [&'static str],
    /// Whether it is good for the number in the path.
    pub is_own: bool,
    headers: Vec<(&'static str, String)>,
}

impl Credential {
    fn bad(name: &'static str, headers: Vec<(&'static str, String)>) -> Self {
        Credential {
            name,
            scheme: None,
            scopes: &[],
            is_own: false,
            headers,
        }
    }

    fn token(name: &'static str, scheme: &'static str, is_own: bool, token: &str) -> Self {
        Credential {
            name,
            scheme: Some(scheme),
            scopes: &[],
            is_own,
            headers: vec![bearer(token)],
        }
    }

    fn api_token(name: &'static str, scopes: &'static [&'static str], token: &str) -> Self {
        Credential {
            scopes,
            ..Credential::token(name, "operator_token", true, token)
        }
    }

    /// The request with it.
    pub fn on(&self, request: RequestBuilder) -> RequestBuilder {
        let headers = self.headers.iter();
        headers.fold(request, |request, (name, value)| {
            request.header(*name, value)
        })
    }
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

fn cookies(visitor: &Visitor) -> (&'static str, String) {
    let cookies = visitor.cookies.borrow();
    let cookies: Vec<_> = cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    ("cookie", cookies.join("; "))
}

const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What nobody is let in with.
pub fn bad_ones(world: &World) -> Vec<Credential> {
    let session = ("cookie", format!("holistics-tunnel=hts_{UNKNOWN}"));
    vec![
        Credential::bad("nothing", vec![]),
        Credential::bad(
            "a password",
            vec![("authorization", "Basic YWRtaW46YWRtaW4=".to_owned())],
        ),
        Credential::bad(
            "an operator token without its kind",
            vec![("authorization", world.operator_token.clone())],
        ),
        Credential::bad("an unknown token", vec![bearer(&format!("hto_{UNKNOWN}"))]),
        Credential::bad("a revoked token", vec![bearer(&world.revoked_token)]),
        Credential::bad("an expired token", vec![bearer(&world.expired_token)]),
        Credential::bad(
            "a token of an operator who is disabled",
            vec![bearer(&world.token_of_disabled)],
        ),
        Credential::bad(
            "a token of an operator who is removed",
            vec![bearer(&world.token_of_removed)],
        ),
        Credential::bad("an unknown session", vec![session]),
        Credential::bad(
            "a session of an operator who is disabled",
            vec![cookies(&world.disabled)],
        ),
        Credential::bad(
            "a session of an operator who is removed",
            vec![cookies(&world.removed)],
        ),
        Credential::bad("a session that is over", vec![cookies(&world.signed_out)]),
    ]
}

/// Tokens that are good, each for its own calls.
pub fn tokens(world: &World) -> Vec<Credential> {
    let (own, other) = (&world.own, &world.other);
    vec![
        Credential::api_token(
            "an operator's token",
            &["read", "operate"],
            &world.operator_token,
        ),
        Credential::api_token("a token that may read", &["read"], &world.read_token),
        Credential::token(
            "its enrollment token",
            "enrollment_token",
            true,
            &own.enrollment_token,
        ),
        Credential::token("its tunnel token", "tunnel_token", true, &own.tunnel_token),
        Credential::token(
            "another's enrollment token",
            "enrollment_token",
            false,
            &other.enrollment_token,
        ),
        Credential::token(
            "another's tunnel token",
            "tunnel_token",
            false,
            &other.tunnel_token,
        ),
        Credential::token(
            "another's removal token",
            "removal_token",
            false,
            &world.removal_token,
        ),
    ]
}

/// A good session in requests that its own pages do not send.
pub fn forged(world: &World) -> Vec<Credential> {
    let form_token = |visitor: &Visitor| visitor.get("/account").form("/account").token();
    let session = cookies(&world.signed_in);
    let with = |name, headers: &[(&'static str, String)]| Credential {
        name,
        scheme: Some("session"),
        scopes: &[],
        is_own: true,
        headers: [std::slice::from_ref(&session), headers].concat(),
    };
    let form = |token: String| ("x-csrf-token", token);
    let origin = |site: &str| ("origin", site.to_owned());
    let own = form_token(&world.signed_in);
    vec![
        with("a session without form token", &[]),
        with("a session with an empty form token", &[form(String::new())]),
        with(
            "a session with an unknown form token",
            &[form(UNKNOWN.to_owned())],
        ),
        with(
            "a session with another session's form token",
            &[form(form_token(&world.other_signed_in))],
        ),
        with(
            "a session from another site",
            &[form(own.clone()), origin("https://evil.example")],
        ),
        with("a session from nowhere", &[form(own), origin("null")]),
    ]
}
