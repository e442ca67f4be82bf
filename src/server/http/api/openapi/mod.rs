//! The description of the API, made from the code that answers.
//!
//! [`Calls`] takes a call only together with its description, so there is no undocumented call.
//! What a handler's own attribute says is completed here by what is true of all calls of its kind:
//! who may make it (`callers`) and how it is refused (`refusals`).

mod callers;
mod examples;
mod refusals;

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::{Json, Router};
use serde_json::{Value, json};
use utoipa::openapi::path::{HttpMethod, Operation, PathItem};
use utoipa::openapi::{
    ComponentsBuilder, Info, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::protocol::Problem;
use crate::server::http::app::App;
use crate::server::http::browser;

pub use callers::Caller;

/// What the document is called, and what a reader needs before the first call.
const INTRODUCTION: &str = "The control plane of reverse SSH tunnels: operators create, test, save and remove data \
     sources, bastions enroll and keep their tunnels.\n\nEvery error is a problem document (RFC 9457). Its `type` \
     says what to do about it in a program, its `detail` in words for a person. Another method than \
     those described is answered 405, with an `Allow` header. Requests refuse unknown fields; \
     answers may get new ones.";

/// The API's calls: routes, and the description of each.
pub struct Calls(OpenApiRouter<Arc<App>>);

impl Default for Calls {
    fn default() -> Self {
        let components = ComponentsBuilder::new()
            .schema(Problem::name(), Problem::schema())
            .responses_from_iter(refusals::components());
        let document = OpenApiBuilder::new()
            .info(info())
            .tags(Some(callers::tags()))
            .components(Some(
                callers::schemes()
                    .into_iter()
                    .fold(components, |components, (name, scheme)| {
                        components.security_scheme(name, scheme)
                    })
                    .build(),
            ));
        Calls(OpenApiRouter::with_openapi(document.build()))
    }
}

impl Calls {
    /// With these too, for this caller.
    #[must_use]
    pub fn with(self, caller: Caller, calls: UtoipaMethodRouter<Arc<App>>) -> Self {
        let (schemas, mut paths, methods) = calls;
        for (path, item) in &mut paths.paths {
            for (method, operation) in operations_mut(item) {
                caller.describe(&method, operation);
                refusals::complete(path, caller, operation);
            }
        }
        Calls(self.0.routes((schemas, paths, methods)))
    }

    /// What answers them.
    pub fn into_router(self) -> Router<Arc<App>> {
        self.0.into()
    }

    /// What describes them.
    fn into_document(self) -> OpenApi {
        self.0.into_openapi()
    }
}

fn info() -> Info {
    InfoBuilder::new()
        .title("Holistics Tunnel")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(INTRODUCTION))
        .license(Some(
            LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ))
        .build()
}

/// An item's operations with their methods.
fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The calls of every installation.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    // It is made of texts, lists and maps with texts as keys.
    let mut document = serde_json::to_value(super::calls().into_document())
        .expect("the description can be written as JSON");
    examples::add(&mut document);
    document
});

/// The description without what depends on the installation.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// The description of this installation: where it is, and what its cookie is called.
fn document_of(app: &App) -> Value {
    let mut document = DOCUMENT.clone();
    document["servers"] = json!([{ "url": app.public.url }]);
    document["components"]["securitySchemes"][callers::SESSION]["name"] =
        app.web.cookie_name(browser::SESSION).into();
    document
}

/// This description
///
/// Open to everybody: but for the address it is the same for every installation of this version.
#[utoipa::path(get, path = "/api/v1/openapi.json", operation_id = "read_openapi",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = utoipa::openapi::Object)))]
pub async fn read(State(app): State<Arc<App>>) -> Json<Value> {
    Json(document_of(&app))
}
