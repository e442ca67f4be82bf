//! The texts whose form the server's `inputs` checks, as a schema can say it.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::DataSourceState;

/// A name whose last label is no number; each label as `inputs::host` wants it.
const DNS_NAME: &str = "^(?!(?:.*\\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\\.?$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\\.)*\
     [A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\\.?$";

/// One line in which something can be seen.
const VISIBLE_LINE: &str =
    "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$";

/// A host as `inputs::host` takes it.
pub struct Host;

impl PartialSchema for Host {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .description(Some(
                "A DNS name, or an IPv4 or IPv6 address; international names in their `xn--` form",
            ))
            .examples(["db.internal", "10.0.0.5", "fd00::5"])
            .item(text().pattern(Some(DNS_NAME)).max_length(Some(253)))
            .item(text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Ipv4))))
            .item(text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Ipv6))))
            .into()
    }
}

impl ToSchema for Host {}

/// A state in which a data source stands in lists.
pub struct ListedState;

impl PartialSchema for ListedState {
    fn schema() -> RefOr<Schema> {
        let names = DataSourceState::LISTED.map(|state| state.into_str());
        text().enum_values(Some(names)).into()
    }
}

impl ToSchema for ListedState {}

/// A name for people as `inputs::display_name` takes it.
pub struct DisplayName;

impl PartialSchema for DisplayName {
    fn schema() -> RefOr<Schema> {
        text()
            .description(Some("One line for people; spaces around it are taken off"))
            .pattern(Some(VISIBLE_LINE))
            .max_length(Some(200))
            .examples(["Sales, Europe"])
            .into()
    }
}

impl ToSchema for DisplayName {}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}
