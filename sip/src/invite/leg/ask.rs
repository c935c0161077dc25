//! Whether the peer still knows the dialog: asked when its phone may have started again.

use super::{Flow, Leg};
use crate::invite::context::{Cx, Timer};
use crate::invite::values::{self, ACCEPT};
use crate::message::{Method, Response};
use crate::port::Hop;
use crate::transaction::ClientId;

/// How long it may be silent, in T1: three repetitions of the question over UDP.
const PATIENCE: u32 = 10;

impl Leg {
    /// Asks by OPTIONS (RFC 3261 §11.2), along another way than the dialog's if one is given and no proxy stays between.
    pub fn ask_after(&mut self, cx: &mut Cx<'_>, way: Option<Hop>) {
        if self.asked.is_some() || self.ack_due() {
            return;
        }
        let cseq = self.dialog.next_cseq();
        let mut request = self.request(Method::Options, cseq);
        request.headers.push("Accept", ACCEPT);
        let own = self.next_hop(cx);
        let hop = way.filter(|_| self.dialog.has_no_route()).unwrap_or(own);
        self.asked = Some((cx.request(hop, request), hop));
        let patience = cx.t1() * PATIENCE;
        cx.set(Timer::Asked, patience);
    }

    /// Whether this is the question's transaction.
    pub fn has_asked(&self, client: ClientId) -> bool {
        self.asked.is_some_and(|(asked, _)| asked == client)
    }

    /// Whether a question waits for its answer.
    pub fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// Its answer: whatever it is, but for one that knows no such call, somebody is there.
    pub fn on_asked(&mut self, cx: &mut Cx<'_>, response: &Response, hop: Hop) -> Flow {
        match response.status {
            0..=199 => return Flow::On,
            408 | 481 => return Flow::Lost(values::TEMPORARY_FAILURE),
            _ => {}
        }
        cx.clear(Timer::Asked);
        if let Some((_, asked)) = self.asked.take() {
            self.dialog.answered_on(hop, asked);
        }
        Flow::On
    }
}
