//! Addresses of this server with a query.

use url::form_urlencoded::Serializer;

use super::app::App;

/// The address of this path, with what is asked there; what is empty is not asked.
pub fn with_query(app: &App, path: &str, asked: &[(&str, &str)]) -> String {
    let path = app.web.path(path);
    let asked = asked.iter().filter(|(_, value)| !value.is_empty());
    let query = Serializer::new(String::new()).extend_pairs(asked).finish();
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}
