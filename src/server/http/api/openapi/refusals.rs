//! How calls are refused: the answers that follow from what a call takes, so that no handler has to
//! name them.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::Caller;
use crate::protocol::{PROBLEM_MEDIA_TYPE, Problem};

/// A refusal that many calls share.
struct Refusal {
    status: &'static str,
    name: &'static str,
    words: &'static str,
}

const UNAUTHORIZED: Refusal = Refusal {
    status: "401",
    name: "Unauthorized",
    words: "No credential was sent, it is not known here, or it has expired",
};
const FORBIDDEN: Refusal = Refusal {
    status: "403",
    name: "Forbidden",
    words: "The credential is good, and is for other calls or another tunnel, or its scope is too weak",
};
const NOT_FOUND: Refusal = Refusal {
    status: "404",
    name: "NotFound",
    words: "There is no such data source or tunnel, or it has been removed",
};
const TOKEN_OVER: Refusal = Refusal {
    status: "410",
    name: "TokenOver",
    words: "The token has expired, or it has done its work",
};
const TOO_SLOW: Refusal = Refusal {
    status: "408",
    name: "TooSlow",
    words: "The body did not arrive within 30 seconds",
};
const TOO_LARGE: Refusal = Refusal {
    status: "413",
    name: "TooLarge",
    words: "The body has more than 64 KiB",
};
const WRONG_MEDIA_TYPE: Refusal = Refusal {
    status: "415",
    name: "WrongMediaType",
    words: "The body was not sent as `application/json`",
};
const INVALID: Refusal = Refusal {
    status: "422",
    name: "Invalid",
    words: "The body or a parameter cannot be read, lacks something, has something unknown, or a value is out of range",
};
const INTERNAL: Refusal = Refusal {
    status: "500",
    name: "Internal",
    words: "Something failed inside the server, or took longer than a minute",
};

const ALL: [Refusal; 9] = [
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    TOKEN_OVER,
    TOO_SLOW,
    TOO_LARGE,
    WRONG_MEDIA_TYPE,
    INVALID,
    INTERNAL,
];

/// The shared refusals, for the document's components.
pub fn components() -> impl Iterator<Item = (&'static str, Response)> {
    ALL.into_iter().map(|refusal| {
        let mut response = ResponseBuilder::new()
            .description(refusal.words)
            .content(PROBLEM_MEDIA_TYPE, problem());
        if refusal.status == UNAUTHORIZED.status {
            let header = HeaderBuilder::new()
                .schema(Some(String::schema()))
                .description(Some("`Bearer`"));
            response = response.header("WWW-Authenticate", header.build());
        }
        (refusal.name, response.build())
    })
}

fn problem() -> Content {
    Content::new(Some(Ref::from_schema_name(Problem::name())))
}

/// Adds the refusals that follow from the call's shape, and gives those of its own their form.
pub fn complete(path: &str, caller: Caller, operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && is_error(status)
            && response.content.is_empty()
        {
            let form = RefOr::T(problem());
            response.content.insert(PROBLEM_MEDIA_TYPE.to_owned(), form);
        }
    }
    for refusal in that_follow(path, caller, operation) {
        operation
            .responses
            .responses
            .entry(refusal.status.to_owned())
            .or_insert_with(|| Ref::from_response_name(refusal.name).into());
    }
}

fn is_error(status: &str) -> bool {
    status.starts_with(['4', '5'])
}

fn that_follow(path: &str, caller: Caller, operation: &Operation) -> Vec<Refusal> {
    let mut refusals = vec![INTERNAL];
    if caller != Caller::Anybody {
        refusals.extend([UNAUTHORIZED, FORBIDDEN, TOKEN_OVER]);
        if path.contains("{id}") {
            refusals.push(NOT_FOUND);
        }
    }
    if operation.request_body.is_some() {
        refusals.extend([TOO_SLOW, TOO_LARGE, WRONG_MEDIA_TYPE, INVALID]);
    }
    if takes_options(operation) {
        refusals.push(INVALID);
    }
    refusals
}

fn takes_options(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters
        .any(|parameter| matches!(parameter, RefOr::T(p) if p.parameter_in == ParameterIn::Query))
}
