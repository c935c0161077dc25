//! What the node wants.

use super::belonging::Pace;
use super::{Slot, Stack};
use crate::dialog::Reach;
use crate::invite::values;
use crate::invite::{Cx, InviteSession, Outgoing, Plan, Target, Wish};
use crate::message::Uri;
use crate::own;
use crate::port::{Command, Destination, Event, Hop, InviteHandle, Output, Source, Transport};
use std::net::SocketAddr;
use std::time::Instant;

/// Q.850 of a call that can't even be placed.
const SUBSCRIBER_ABSENT: u16 = 20;
const NO_CIRCUIT: u16 = 34;

impl Stack {
    pub(super) fn command(&mut self, now: Instant, command: Command, out: &mut Vec<Output>) {
        let (handle, wish) = match command {
            Command::Invite {
                call,
                to,
                from,
                called,
                diverted,
                offer,
                max_forwards,
                hops,
                media_encryption: encryption,
            } => {
                let peer = to.name().clone();
                let plan = Plan { from, called, diverted, offer, max_forwards, hops, peer, encryption };
                return self.place(now, call, to, plan, out);
            }
            Command::ForgetAccount(account) => return self.forget_account(now, &account, out),
            Command::Restore(kept) => return self.restore(now, kept, out),
            Command::LetGo(most) => return self.registrar.let_go(most, out),
            Command::Changed(package, number) => return self.subscriptions.changed(now, package, &number),
            Command::Lamp { account, number, waiting } => {
                return self.lamp(now, &account, &number, waiting, out);
            }
            Command::Recheck => return self.subscriptions.recheck(now),
            Command::Update(account) => return self.registrar.update(&account, out),
            Command::Ring(call, sdp) => (call, Wish::Ring(sdp)),
            Command::Accept(call, sdp) => (call, Wish::Accept(sdp)),
            Command::Refuse(call, refusal) | Command::End(call, refusal) => (call, Wish::End(refusal)),
            Command::Offer(call, sdp) => (call, Wish::Offer(sdp)),
            Command::Answer(call, sdp) => (call, Wish::Answer(sdp)),
            Command::RefuseOffer(call, status) => (call, Wish::RefuseOffer(status)),
            Command::Connected(call, identity) => (call, Wish::Connected(identity)),
            Command::Digit(call, digit, duration_ms) => (call, Wish::Digit(digit, duration_ms)),
            Command::Referred(call, status) => (call, Wish::Referred(status)),
        };
        // A call that has ended meanwhile: its event is on the way to the node.
        self.with_session(now, handle, out, |session, cx| session.on_wish(cx, wish));
    }

    fn place(
        &mut self,
        now: Instant,
        call: InviteHandle,
        to: Destination,
        plan: Plan,
        out: &mut Vec<Output>,
    ) {
        let refused = |status, cause| {
            Output::Event(Event::Refused { call, status, cause: Some(cause), redirect_to: Vec::new() })
        };
        if self.sessions.len() >= self.core.config.max_calls || self.sessions.contains_key(&call) {
            return out.push(refused(503, NO_CIRCUIT));
        }
        if let Destination::Account { id, .. } = &to {
            self.registrar.update(id, out);
        }
        let (targets, source) = match to {
            Destination::Account { id, number } => {
                self.registrar.called(&id);
                (self.contacts(&id, &number), Some(Source::Account(id)))
            }
            Destination::Peer { trunk, transport, remote, user, host } => {
                let target = self.peer_target(transport, remote, &user, &host);
                (target.into_iter().collect(), Some(Source::Trunk(trunk)))
            }
        };
        if targets.is_empty() {
            return out.push(refused(480, SUBSCRIBER_ABSENT));
        }
        let mut cx = Cx { core: &mut self.core, now, call, out, muted: false };
        match Outgoing::place(&mut cx, plan, targets) {
            Ok(outgoing) => {
                let dialogs = outgoing.dialogs();
                let slot = Slot {
                    session: InviteSession::Calling(Box::new(outgoing)),
                    dialogs,
                    source,
                    pace: Pace::default(),
                };
                self.add_session(call, slot);
            }
            Err(error) => {
                tracing::debug!(?call, %error, "an offer can't be written");
                out.push(refused(488, values::BEARER_NOT_IMPLEMENTED));
            }
        }
    }

    fn peer_target(
        &self,
        transport: Transport,
        remote: SocketAddr,
        user: &str,
        host: &str,
    ) -> Option<Target> {
        let any = || self.core.listen.iter().find(|(t, _)| *t == transport).map(|(_, own)| *own);
        let local = own::local_for(&self.core.listen, transport, remote).or_else(any)?;
        let (name, port) = match host.rsplit_once(':').map(|(name, port)| (name, port.parse().ok())) {
            Some((name, Some(port))) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
            Some(_) | None => (host, None),
        };
        let uri = Uri::sip(user, name, port);
        let uri = match transport {
            Transport::Udp => uri,
            Transport::Tcp => uri.with_param("transport", Some("tcp")),
            Transport::Tls => uri.with_param("transport", Some("tls")),
        };
        let hop = Hop { transport, local, remote, connection: None };
        Some(Target { uri, hop, routes: Vec::new(), reach: Reach::Contact })
    }
}
