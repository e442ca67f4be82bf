//! Tokens: how they look, how they are made, and the hash under which they are stored.
//!
//! A token is a prefix that says what it is for and 32 bytes in base64url. The bytes are random,
//! except a tunnel token's: those are derived (see [`super::secret`]). Only the SHA-256 hash of the
//! whole text is stored; with 256 bits of entropy nothing slower is needed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Enrolls one bastion for one tunnel; expires.
    Enrollment,
    /// A tunnel's own calls after enrollment.
    Tunnel,
    /// Reads and removes one tunnel; expires.
    Removal,
    /// An operator's API token.
    Operator,
    /// Signs an operator in once; expires.
    LoginLink,
    /// A signed-in browser's cookie; expires.
    Session,
}

impl TokenKind {
    /// The name, in the database where the table of tokens holds this kind.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenKind::Enrollment => "enrollment",
            TokenKind::Tunnel => "tunnel",
            TokenKind::Removal => "removal",
            TokenKind::Operator => "operator",
            TokenKind::LoginLink => "login link",
            TokenKind::Session => "session",
        }
    }

    /// The kind with this name in the table of tokens.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            TokenKind::Enrollment,
            TokenKind::Tunnel,
            TokenKind::Removal,
            TokenKind::Operator,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == name)
    }

    /// What the text begins with, so that a leaked token is recognised by people and scanners.
    fn prefix(self) -> &'static str {
        match self {
            TokenKind::Enrollment => "hte_",
            TokenKind::Tunnel => "htt_",
            TokenKind::Removal => "htr_",
            TokenKind::Operator => "hto_",
            TokenKind::LoginLink => "htl_",
            TokenKind::Session => "hts_",
        }
    }
}

/// A token in clear. It is shown or sent once and never stored; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new random token.
    pub fn generate(kind: TokenKind) -> Self {
        Token::from_bytes(kind, &rand::random())
    }

    /// The token with these bytes.
    pub fn from_bytes(kind: TokenKind, bytes: &[u8; 32]) -> Self {
        Token(format!(
            "{}{}",
            kind.prefix(),
            URL_SAFE_NO_PAD.encode(bytes)
        ))
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

/// The SHA-256 hash of a token's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a text that may be a token.
    pub fn of(text: &str) -> Self {
        TokenHash(Sha256::digest(text.as_bytes()).into())
    }

    /// The hash as it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_differ_and_need_no_quoting() {
        let one = Token::generate(TokenKind::Enrollment);
        let two = Token::generate(TokenKind::Enrollment);
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
        let token = Token::generate(TokenKind::Operator);
        assert!(!format!("{token:?}").contains(&token.as_str()[4..]));
    }
}
