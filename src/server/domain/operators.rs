//! Operators' credentials.

use super::token::Token;
use crate::server::store::{Store, StoreError};

/// Makes an operator's API token; nothing if one of this name works.
pub async fn create_api_token(store: &Store, name: &str) -> Result<Option<Token>, StoreError> {
    let token = Token::operator();
    let is_new = store.add_operator_token(name, &token.hash()).await?;
    Ok(is_new.then_some(token))
}
