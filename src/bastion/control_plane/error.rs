//! Why a call did not succeed, and what the person on the bastion can do about it.

use crate::bastion::failure::{Failure, Interrupted, OneLine};
use crate::protocol::{Problem, ProblemKind};

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No answer: the network, the name, the certificate, or the server is down.
    #[error("no answer from {server}: {}", OneLine(cause))]
    Unreachable {
        server: String,
        cause: anyhow::Error,
    },
    #[error("{server} answered {}: {}", .problem.status, .problem.detail)]
    Refused { server: String, problem: Problem },
    /// Something answered that is not a control plane, or is broken.
    #[error("{server} answered with status {status}, and not as a holistics-tunnel-server does")]
    NotOurs { server: String, status: u16 },
    /// This host cannot even ask.
    #[error(transparent)]
    Setup(anyhow::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl ApiError {
    /// Which problem the control plane named.
    pub fn kind(&self) -> Option<ProblemKind> {
        match self {
            ApiError::Refused { problem, .. } => Some(problem.kind),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            ApiError::Unreachable { .. } => true,
            ApiError::NotOurs { status, .. } => *status >= 500,
            ApiError::Refused { problem, .. } => {
                problem.status >= 500 && problem.kind != ProblemKind::PortsExhausted
            }
            ApiError::Setup(_) | ApiError::Interrupted(_) => false,
        }
    }

    /// Whether the control plane has said that it does not do it. That is certain; a lost answer is not.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ApiError::Refused { .. }) && !self.is_transient()
    }

    /// The same with the next thing to do.
    pub fn with_advice(self) -> anyhow::Error {
        if let ApiError::Interrupted(interrupted) = self {
            return interrupted.into();
        }
        if let ApiError::Setup(error) = self {
            return error;
        }
        let next = match &self {
            ApiError::Unreachable { .. } => {
                "check that this host reaches it (proxies are taken from https_proxy, a private CA from \
                 --ca-cert), then run the same command again"
            }
            ApiError::Refused { problem, .. } => advice(problem.kind),
            _ => "check the address given with --server",
        };
        Failure::new(self.headline(), next).because(self).into()
    }

    fn headline(&self) -> String {
        match self {
            ApiError::Unreachable { server, .. } => {
                format!("the control plane {server} cannot be reached")
            }
            ApiError::Refused { problem, .. } => problem.title.to_lowercase(),
            _ => "unexpected response from the control plane".to_owned(),
        }
    }
}

/// What the person on the bastion can do about a refusal.
fn advice(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Unauthorized => {
            "copy the whole command from the browser again; if it is refused again, have a new one generated"
        }
        ProblemKind::TokenExpired => "have a new command generated in the browser, and run that",
        ProblemKind::TokenUsed => {
            "this command has done its work: `holistics-tunnel list` shows this host's tunnels. For another \
             tunnel, create another data source in the browser"
        }
        ProblemKind::KeyConflict => {
            "run the command on the host that enrolled first; or delete the data source in the browser and \
             create it anew for this host"
        }
        ProblemKind::PortsExhausted => {
            "the vendor's tunnel server has no free port: ask them to free or add some, then run the same \
             command again"
        }
        ProblemKind::NotFound => {
            "it may have been deleted in the browser; create the data source anew"
        }
        ProblemKind::Internal | ProblemKind::Unknown => {
            "try again in a minute; if it stays, tell the vendor"
        }
        _ => "look at the data source in the browser",
    }
}

/// Whether an answer means that the tunnel does not exist any more. A token that is not accepted says
/// nothing of that: it may be another vendor's server that answers.
pub fn is_gone(error: &ApiError) -> bool {
    error.kind() == Some(ProblemKind::NotFound)
}

/// Whether the control plane does not accept the token.
pub fn is_unauthorized(error: &ApiError) -> bool {
    error.kind() == Some(ProblemKind::Unauthorized)
}
