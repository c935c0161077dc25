//! What makes two messages belong to the same transaction (RFC 3261 §17.1.3, §17.2.3).

use crate::message::{CSeq, Method, Request, Via};
use crate::port::Hop;

/// Finds a server transaction: by the branch, and by what a request has in common with its copies, its ACK and its CANCEL
/// besides: Call-ID, From tag, number, and the host that it really came from. That is narrower than the standard where a
/// client reuses a branch (with other credentials, for another call), and wider where it writes another sent-by. Nobody
/// at another host can cancel or acknowledge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ServerKey {
    identity: Box<str>,
    /// An ACK looks for its INVITE.
    method: Method,
}

impl ServerKey {
    pub fn of(request: &Request, via: &Via, cseq: &CSeq, hop: &Hop) -> Self {
        let branch = via.branch();
        let unique =
            branch.len() > 7 && branch.get(..7).is_some_and(|cookie| cookie.eq_ignore_ascii_case("z9hG4bK"));
        let from = request.headers.from_tag().unwrap_or("");
        let (call_id, number, host) =
            (request.headers.call_id(), cseq.number, hop.remote.ip().to_canonical());
        let identity = if unique {
            format!("{branch} {call_id} {from} {number} {host}")
        } else {
            // RFC 2543: no branch to rely on. The To tag is left out, since an ACK has one where its INVITE had none.
            format!("{branch} {call_id} {from} {number} {host} {}", request.uri)
        };
        // An ACK of a refusal belongs to its INVITE (RFC 3261 §17.2.3).
        let method = if request.method == Method::Ack { Method::Invite } else { request.method.clone() };
        Self { identity: identity.into(), method }
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.identity.len()
    }

    /// The key of the INVITE that a CANCEL means.
    pub fn cancelled(&self) -> Self {
        Self { identity: self.identity.clone(), method: Method::Invite }
    }
}

/// Finds requests that came twice by different ways (RFC 3261 §8.2.2.2). Only for requests outside dialogs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MergeKey(Box<str>);

impl MergeKey {
    /// Its bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn of(request: &Request, cseq: &CSeq) -> Option<Self> {
        if request.headers.to_tag().is_some() {
            return None;
        }
        // Without a From tag (RFC 2543) two callers could look like one.
        let from = request.headers.from_tag()?;
        Some(Self(format!("{from} {} {cseq}", request.headers.call_id()).into()))
    }
}

/// Finds a client transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub branch: Box<str>,
    pub method: Method,
}
