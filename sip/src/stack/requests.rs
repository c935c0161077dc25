//! Requests that have come in by the door: in a dialog to its call, a new INVITE to the node.

use super::belonging::Pace;
use super::door::Proved;
use super::{INCOMING, Slot, Stack};
use crate::dialog::{self, Dialog, DialogId, End, Peer, Reach};
use crate::invite::parties;
use crate::invite::values;
use crate::invite::{Cx, Incoming, InviteSession, Leg, PeerTimer, Server, SessionTimer, Timer};
use crate::message::{Headers, Method, Request};
use crate::port::{
    Directory, Event, Hop, Identity, InviteHandle, MediaEncryption, Output, ReadSdp, SecureMediaRefusal,
    Source,
};
use crate::registrar::way_back;
use crate::sdp::{Describer, Keys, LineFaults, SdpError};
use crate::transaction::ServerId;
use smallvec::smallvec;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Stack {
    #[allow(clippy::too_many_arguments)] // a request, what was proved of it, and whom to ask
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        id: ServerId,
        hop: Hop,
        request: Request,
        proved: Proved,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        let request = Arc::new(request);
        let server = |tag| Server { id, hop, request: Arc::clone(&request), tag };
        match proved {
            Proved::Nothing => self.in_dialog(now, id, hop, request, out),
            Proved::Caller(source) => {
                let server = server(self.core.tag());
                let encryption = directory.media_encryption(source.name());
                self.new_call(now, server, source, encryption, out);
            }
            Proved::Unregistered => {
                let server = server(self.core.tag());
                self.cx(now, out).refuse(&server, 403);
            }
            Proved::Registers { user, account } => {
                let server = server("".into());
                if self.register(now, &server, &user, &account, out) {
                    self.remind_registered(now, &server.request, &account, directory, out);
                }
            }
            Proved::Subscribes { account, wish } => {
                let server = server(self.core.tag());
                self.subscribe(now, &server, account, wish, directory, out);
            }
            Proved::Refreshes(subscription) => {
                let server = server("".into());
                self.refresh_subscription(now, &server, subscription, directory, out);
            }
        }
    }

    pub(super) fn cx<'a>(&'a mut self, now: Instant, out: &'a mut Vec<Output>) -> Cx<'a> {
        Cx { core: &mut self.core, now, call: InviteHandle(0), out, muted: false }
    }

    fn in_dialog(
        &mut self,
        now: Instant,
        id: ServerId,
        hop: Hop,
        request: Arc<Request>,
        out: &mut Vec<Output>,
    ) {
        let Some((handle, tag)) = self.dialog_of(&request) else {
            let server = Server { id, hop, request, tag: "".into() };
            return self.cx(now, out).refuse(&server, 481);
        };
        let server = Server { id, hop, request, tag };
        if server.request.method == Method::Invite {
            self.core.servers.insert(id, handle);
        }
        self.with_session(now, handle, out, |session, cx| session.on_request(cx, server));
    }

    fn new_call(
        &mut self,
        now: Instant,
        server: Server,
        source: Source,
        encryption: MediaEncryption,
        out: &mut Vec<Output>,
    ) {
        let request = server.request.clone();
        let call = InviteHandle(self.next_incoming);
        let mut cx = self.cx(now, out);
        let describer = cx.core.describer(&server.hop, source.name().clone(), encryption);
        let Ok(offer) = take_offer(&mut cx, &describer, &server) else { return };
        let dialled = parties::number_of(&request.uri);
        if dialled.is_empty() {
            // No number at all, or one that nobody can have.
            return cx.refuse(&server, if request.uri.user().is_empty() { 484 } else { 404 });
        }
        // How long the invitation is good (RFC 3261 §13.3.1). In a re-INVITE it means nothing: the media change or don't.
        let valid_for = request.headers.number("Expires");
        if valid_for == Some(0) {
            return cx.refuse(&server, 487);
        }
        let Some(session) = session_timer(&mut cx, &server) else { return };
        let Some(dialog) = new_dialog(&mut cx, &server, &source) else { return cx.refuse(&server, 400) };
        let id = dialog.id.clone();
        let contact = cx.core.contact(&dialled, &server.hop);
        let mut leg = Leg::new(dialog, describer, contact, session);
        leg.learn(&request.headers);
        let from = caller(&request.headers, &source);
        let diverted = match &source {
            Source::Trunk(_) => {
                leg.peer = Some(from.clone());
                parties::diverted(&request.headers)
            }
            Source::Account(_) => None,
        };
        cx.refuse(&server, 100);
        cx.call = call;
        if let Some(seconds) = valid_for {
            cx.set(Timer::Invitation, Duration::from_secs(seconds.into()));
        }
        let first_rseq = u32::try_from(cx.random(1..=0x7fff)).unwrap_or(1);
        let incoming = Incoming::new(leg, server.clone(), offer.as_ref().map(|o| o.text.clone()), first_rseq);
        self.next_incoming = INCOMING | (self.next_incoming.wrapping_add(1) & !INCOMING);
        self.core.servers.insert(server.id, call);
        self.core.dialogs.insert(id.clone(), call);
        let slot = Slot {
            session: InviteSession::Called(Box::new(incoming)),
            dialogs: smallvec![id],
            source: Some(source.clone()),
            pace: Pace::default(),
        };
        self.add_session(call, slot);
        let (max_forwards, hops) = (request.headers.max_forwards(), values::hops(&request.headers));
        out.push(Output::Event(Event::Incoming {
            call,
            source,
            dialled,
            from,
            diverted,
            offer,
            max_forwards,
            hops,
        }));
    }
}

/// The offer of an INVITE, if it has one. What can't be taken is refused.
fn take_offer(cx: &mut Cx<'_>, describer: &Describer, server: &Server) -> Result<Option<ReadSdp>, ()> {
    read_offer(describer, &server.request, &mut cx.core.crypto_faults).map_err(|error| {
        cx.description_refused(describer.policy(), error);
        cx.refuse_media(server, error);
    })
}

/// The session timer that an INVITE asks for; one with too short an interval is refused.
fn session_timer(cx: &mut Cx<'_>, server: &Server) -> Option<SessionTimer> {
    let headers = &server.request.headers;
    let mut session = SessionTimer::new(cx.core.config.session_expires, cx.core.config.min_session_expires);
    if let Some(min_se) = session.too_small(headers) {
        cx.respond(server, server.reply(422).with("Min-SE", min_se.as_secs().to_string()));
        return None;
    }
    session.told_by_request(headers, PeerTimer::said_by(headers));
    Some(session)
}

fn read_offer(
    describer: &Describer,
    request: &Request,
    faults: &mut LineFaults,
) -> Result<Option<ReadSdp>, SdpError> {
    match (request.body.is_empty(), describer.policy().keys) {
        (true, Keys::Impossible) => Err(SdpError::Encryption(SecureMediaRefusal::Transport)),
        (true, Keys::Never | Keys::Optional | Keys::Required) => Ok(None),
        (false, _) => describer.read_offer(&request.body, faults).map(Some),
    }
}

pub(super) fn new_dialog(cx: &mut Cx<'_>, server: &Server, source: &Source) -> Option<Dialog> {
    let headers = &server.request.headers;
    let (from, to) = (headers.from().ok()?, headers.to().ok()?);
    let mut local = End::of(&to);
    local.tag = Some(server.tag.clone());
    let incoming = dialog::Incoming {
        id: DialogId { call_id: headers.call_id().into(), local_tag: server.tag.clone() },
        local,
        remote: End::of(&from),
        from_uri: from.uri,
        cseq: headers.cseq().ok()?.number,
        first_cseq: u32::try_from(cx.random(1..=0xffff)).unwrap_or(1),
        hop: match source {
            // A proxy that stays in the way sent it.
            Source::Account(_) if headers.get("Record-Route").is_none() => {
                way_back(&server.hop, headers, dialog::contact_of(headers).as_ref())
            }
            Source::Account(_) | Source::Trunk(_) => server.hop,
        },
        reach: match source {
            Source::Account(_) => Reach::AsItCame,
            Source::Trunk(_) => Reach::Contact,
        },
        listen: cx.core.listen.clone(),
    };
    let mut dialog = Dialog::of_callee(incoming, Peer::of(headers));
    dialog.came_from(server.hop);
    Some(dialog)
}

/// Who calls. A trunk is trusted to assert it (RFC 3325); a phone only says which of its lines it means.
fn caller(headers: &Headers, source: &Source) -> Identity {
    match source {
        Source::Trunk(_) => parties::caller(headers),
        Source::Account(_) => {
            let restricted = parties::wants_to_hide(headers);
            Identity { number: parties::line_of(headers), name: None, restricted }
        }
    }
}
