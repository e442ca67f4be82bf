//! Tokens: how they look, how they are made, and the hash under which they are stored.
//!
//! A token is a prefix that says what it is for and 32 bytes in base64url. The bytes are random,
//! except a tunnel token's: those are derived (see [`super::secret`]). Only the SHA-256 hash of the
//! whole text is stored; with 256 bits of entropy nothing slower is needed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

pub use crate::server::store::{TokenHash, TokenKind};

/// What the text begins with, so that a leaked token is recognised by people and scanners.
fn prefix(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Enrollment => "hte_",
        TokenKind::Tunnel => "htt_",
        TokenKind::Removal => "htr_",
        TokenKind::Operator => "hto_",
    }
}

/// A token in clear. It is shown or sent once and never stored; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new API token of an operator.
    pub fn operator() -> Self {
        Token::from_bytes(TokenKind::Operator, &rand::random())
    }

    /// A new token that signs an operator in once.
    pub fn login_link() -> Self {
        Token::with_prefix("htl_", &rand::random())
    }

    /// A new token for a browser's cookie.
    pub fn session() -> Self {
        Token::with_prefix("hts_", &rand::random())
    }

    pub fn from_bytes(kind: TokenKind, bytes: &[u8; 32]) -> Self {
        Token::with_prefix(prefix(kind), bytes)
    }

    fn with_prefix(prefix: &str, bytes: &[u8; 32]) -> Self {
        Token(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text: letters, digits, `-` and `_` only.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl TokenHash {
    /// The SHA-256 hash of a text that may be a token.
    pub fn of(text: &str) -> Self {
        TokenHash(Sha256::digest(text.as_bytes()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_differ_and_need_no_quoting() {
        let one = Token::from_bytes(TokenKind::Enrollment, &rand::random());
        let two = Token::from_bytes(TokenKind::Enrollment, &rand::random());
        assert_ne!(one.as_str(), two.as_str());
        assert_ne!(one.hash(), two.hash());
        assert!(one.as_str().starts_with("hte_"));
        assert_eq!(one.as_str().len(), 4 + 43);
        assert!(
            one.as_str()
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        );
    }

    #[test]
    fn debug_output_keeps_the_token_secret() {
        let token = Token::operator();
        assert!(!format!("{token:?}").contains(&token.as_str()[4..]));
    }
}
