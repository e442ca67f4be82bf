//! `token`, `operator` and `login-link`: who gets in.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use url::Url;

use super::DataDirArg;
use super::values::{duration, public_url};
use crate::server::domain::inputs;
use crate::server::store::Scope;

/// `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// What to do with tokens.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token and print it; it is not shown again
    Create {
        /// Who or what will use it
        #[arg(value_parser = name)]
        name: String,

        /// What it may do
        #[arg(long, default_value = "operate")]
        scope: TokenScope,

        /// How long it works, such as 90d or 12h, or `never` for one that works until it is revoked
        #[arg(long, default_value = "90d", value_name = "DURATION", value_parser = lifetime)]
        expires: Lifetime,
    },
    /// List the tokens: what each may do, who made it, when it expires and when it was last used
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token; it stops working at once
    Revoke {
        /// Its name
        #[arg(value_parser = name)]
        name: String,
    },
}

/// What a token may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TokenScope {
    /// Read data sources, their events and the metrics
    Read,
    /// Also create, change, test and remove data sources
    Operate,
}

impl From<TokenScope> for Scope {
    fn from(scope: TokenScope) -> Self {
        match scope {
            TokenScope::Read => Scope::Read,
            TokenScope::Operate => Scope::Operate,
        }
    }
}

/// How long a token works; absent for one that does not expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Option<Duration>);

/// `operator`.
#[derive(Debug, Args)]
pub struct OperatorArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// What to do with operators.
    #[command(subcommand)]
    pub action: OperatorAction,
}

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum OperatorAction {
    /// List the operators: who can sign in, and when each last did
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign an operator out everywhere and let nobody in by that name; the account's API tokens stop working
    Disable {
        /// Whom
        #[arg(value_parser = name)]
        name: String,
    },
    /// Let a disabled operator in again, with the API tokens that were not revoked
    Enable {
        /// Whom
        #[arg(value_parser = name)]
        name: String,
    },
    /// Remove an operator: signed out everywhere, API tokens revoked. The audit log keeps the name
    Remove {
        /// Whom
        #[arg(value_parser = name)]
        name: String,
    },
}

/// `login-link`.
#[derive(Debug, Args)]
pub struct LoginLinkArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// The operator to sign in; a new account if there is none of this name
    #[arg(long, default_value = "admin", value_parser = name)]
    pub name: String,

    /// What browsers call the server [default: as it was last started]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PUBLIC_URL",
        value_name = "URL",
        value_parser = public_url
    )]
    pub public_url: Option<Url>,
}

fn name(text: &str) -> Result<String, String> {
    inputs::identifier("the name", text)
        .map(|()| text.to_owned())
        .map_err(|error| error.to_string())
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    match text {
        "never" => Ok(Lifetime(None)),
        text => duration(text).map(|lifetime| Lifetime(Some(lifetime))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_for_days_or_until_it_is_revoked() {
        let days = |number: u64| Lifetime(Some(Duration::from_secs(number * 86_400)));
        assert_eq!(lifetime("90d"), Ok(days(90)));
        assert_eq!(lifetime("24h"), Ok(days(1)));
        assert_eq!(lifetime("never"), Ok(Lifetime(None)));
        for wrong in [
            "",
            "0d",
            "-1d",
            "d",
            "1.5d",
            "99999999999999999999d",
            "soon",
        ] {
            assert!(lifetime(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
