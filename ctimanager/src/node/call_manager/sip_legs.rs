//! Between `sip` and `device-model`: each end that is a dialog has one INVITE session of the SIP stack; each event of the stack
//! becomes a signal for the model, each command of the model one for the stack.

use super::{media, status};
use device_model::media::Description;
use device_model::port::{EndCommand, OfferRefusal, Origin, Signal, Target, TransferTo};
use device_model::{Cause, DeviceName, Dn, EndId, Input, Party, Reason, TrunkName};
use security::srtp::KeyCustody;
use security::tls::Serial;
use sip::port::{
    Command, Destination, DiversionReason, Diverted, Event, Identity, InviteHandle, MediaEncryption, ReadSdp,
    ReferTo, Refusal, Source,
};
use std::collections::HashMap;
use std::sync::Arc;

/// What a trunk's calls are sent to.
#[derive(Clone, Debug)]
pub struct TrunkPeer {
    /// How.
    pub transport: sip::Transport,
    /// Where.
    pub remote: std::net::SocketAddr,
    /// The host as the administrator wrote it, for the request URI.
    pub host: String,
    /// Who we are there, should it ask.
    pub login: Option<sip::Login>,
    /// By what its own requests are known.
    pub proof: PeerProof,
}

/// By what a trunk's requests are known, beside its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerProof {
    /// UDP and TCP: they come from its address, and from this port or the one that it is called at.
    Port(u16),
    /// UDP and TCP: they come from its address.
    Address,
    /// TLS: they come on a connection whose peer has shown a certificate.
    Certificate {
        /// Of this authority (PEM); `None` = the cluster's.
        authority: Option<Arc<str>>,
        /// With this name: CN or SAN.
        name: Arc<str>,
    },
}

/// What the certificate of a SIP connection's peer says, verified by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The authorities that vouch for it: `None` = the cluster's, else a trunk's (PEM).
    pub authorities: Vec<Option<Arc<str>>>,
    /// Its names.
    pub names: Vec<String>,
    /// Its number, by which its issuer takes it back.
    pub serial: Serial,
}

impl Certified {
    fn proves(&self, authority: Option<&Arc<str>>, name: &str) -> bool {
        let address: Option<std::net::IpAddr> = name.parse().ok();
        let is_name = |one: &String| {
            one.eq_ignore_ascii_case(name) || (address.is_some() && one.parse().ok() == address)
        };
        self.authorities.iter().any(|one| one.as_ref() == authority) && self.names.iter().any(is_name)
    }
}

impl TrunkPeer {
    /// Whether a request that came this way is the trunk's; `certified` says who is at the other end of its connection.
    #[must_use]
    pub fn is_at(&self, hop: &sip::Hop, certified: Option<&Certified>) -> bool {
        let same_host = self.remote.ip().to_canonical() == hop.remote.ip().to_canonical();
        self.transport == hop.transport
            && match &self.proof {
                // Also of a connection that we made to it.
                PeerProof::Port(port) => {
                    same_host && [*port, self.remote.port()].contains(&hop.remote.port())
                }
                PeerProof::Address => same_host,
                PeerProof::Certificate { authority, name } => {
                    certified.is_some_and(|certified| certified.proves(authority.as_ref(), name))
                }
            }
    }
}

/// A trunk without an address: its host's name was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoWay;

impl From<NoWay> for Signal {
    fn from(NoWay: NoWay) -> Self {
        Signal::Rejected { cause: Cause::DESTINATION_OUT_OF_ORDER, status: None, redirect_to: Vec::new() }
    }
}

/// Max-Forwards that a call of our own begins with (RFC 3261 §8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;

/// Which end is which SIP call. Those that we place give their own number to the SIP call; those that come from outside
/// are named by the stack (top bit set), and only they need a table.
#[derive(Debug, Default)]
pub struct SipLegs {
    incoming: HashMap<EndId, Incoming>,
    ends: HashMap<InviteHandle, EndId>,
    /// Those whose call is over since somebody last asked.
    over: Vec<EndId>,
}

#[derive(Clone, Copy, Debug)]
struct Incoming {
    call: InviteHandle,
    /// Max-Forwards of its INVITE.
    hops: u8,
}

impl SipLegs {
    /// Whether no end has a SIP call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The ends whose SIP call is over since this was last asked.
    pub fn take_over(&mut self) -> Vec<EndId> {
        std::mem::take(&mut self.over)
    }

    /// How many ends have a SIP call.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The ends that have a SIP call.
    pub fn ends(&self) -> impl Iterator<Item = EndId> {
        self.ends.values().copied()
    }

    /// Whether this end has one.
    #[must_use]
    pub fn has(&self, end: EndId) -> bool {
        self.handle(end).is_some()
    }

    /// Max-Forwards with which the call of this end came in; `None` for one that we placed.
    #[must_use]
    pub fn hops(&self, end: EndId) -> Option<u8> {
        self.incoming.get(&end).map(|incoming| incoming.hops)
    }

    fn handle(&self, end: EndId) -> Option<InviteHandle> {
        let placed = InviteHandle(end.0);
        self.incoming
            .get(&end)
            .map(|incoming| incoming.call)
            .or_else(|| self.ends.contains_key(&placed).then_some(placed))
    }

    fn forget_call(&mut self, call: InviteHandle) -> Option<EndId> {
        let end = self.ends.remove(&call)?;
        self.incoming.remove(&end);
        self.over.push(end);
        Some(end)
    }

    fn forget_end(&mut self, end: EndId) -> Option<InviteHandle> {
        let call = self.handle(end)?;
        self.forget_call(call);
        Some(call)
    }

    /// What the end of a call has described. Nothing of one that is over: nobody would take its keys back.
    fn described(
        &self,
        call: InviteHandle,
        read: Option<ReadSdp>,
        keys: &mut KeyCustody,
    ) -> Option<Description> {
        let end = *self.ends.get(&call)?;
        read.map(|read| media::description(read, end, keys))
    }

    /// What the model is to hear of an event of the stack; `None` for one that concerns no end (any more).
    /// `is_line` knows the lines of an account; `new_end` names the end of a new call.
    pub fn event(
        &mut self,
        event: Event,
        is_line: impl Fn(&str, &str) -> bool,
        new_end: impl FnOnce() -> EndId,
        keys: &mut KeyCustody,
    ) -> Option<Input> {
        let (call, signal) = match event {
            Event::Registration { account, contacts } => {
                let device = DeviceName::from(&*account);
                return Some(if contacts > 0 {
                    Input::Registered(device)
                } else {
                    Input::Unregistered(device)
                });
            }
            Event::Incoming { call, source, dialled, from, diverted, offer, max_forwards, hops } => {
                let end = new_end();
                self.incoming.insert(end, Incoming { call, hops: max_forwards });
                self.ends.insert(call, end);
                let (origin, calling) = caller(source, &from, is_line);
                let diverted = diverted.map(|Diverted { by, original }| device_model::port::Diverted {
                    by: party(&by),
                    original: party(&original),
                });
                let (dialled, offer) =
                    (Dn::from(dialled), offer.map(|offer| media::description(offer, end, keys)));
                return Some(Input::IncomingCall { end, origin, dialled, calling, diverted, offer, hops });
            }
            Event::Ringing(call, early) => {
                let early = self.described(call, early, keys);
                (call, Signal::Ringing { early })
            }
            Event::Answered(call, answer) => {
                let media = self.described(call, answer, keys);
                (call, Signal::Answered { media })
            }
            Event::Refused { call, status, cause, redirect_to } => {
                let end = self.forget_call(call)?;
                let signal = Signal::Rejected {
                    cause: status::cause_of(status, cause),
                    // A 3xx is for us to follow, not for the caller; and 401 or 407 speak of our own credentials.
                    status: Some(status).filter(|s| *s >= 400 && *s != 401 && *s != 407),
                    redirect_to: redirect_to.into_iter().map(Dn::from).collect(),
                };
                return Some(Input::Signal(end, signal));
            }
            Event::Ended { call, cause } => {
                let end = self.forget_call(call)?;
                let cause = Cause::from_code(cause).unwrap_or(Cause::NORMAL_CLEARING);
                return Some(Input::Signal(end, Signal::Released { cause }));
            }
            Event::Offer(call, offer) => {
                let offer = self.described(call, offer, keys);
                (call, Signal::Offer(offer))
            }
            Event::Answer(call, answer) => (call, Signal::Answer(self.described(call, Some(answer), keys)?)),
            Event::OfferRefused(call, status) => {
                (call, Signal::OfferRejected { cause: status::to_cause(status) })
            }
            Event::Identified(call, who) => (call, Signal::Identified(party(&who))),
            Event::Digit(call, digit, duration_ms) => (call, Signal::Digit { digit, duration_ms }),
            Event::Referred(call, to) => (call, Signal::Transfer(self.refers_to(to))),
        };
        self.ends.get(&call).map(|end| Input::Signal(*end, signal))
    }

    /// Where a REFER wants a call. A SIP call that the node has ended a moment ago has no end any more.
    fn refers_to(&self, to: ReferTo) -> TransferTo {
        match to {
            ReferTo::Number(number) => TransferTo::Number(Dn::from(number)),
            ReferTo::Call(call) => {
                self.ends.get(&call).map_or(TransferTo::Ended, |end| TransferTo::End(*end))
            }
        }
    }

    /// What the stack is to do for a command of the model. `Err` = it can't be done, and the
    /// model is to hear that.
    pub fn command(
        &mut self,
        end: EndId,
        command: EndCommand,
        trunk: impl Fn(&TrunkName) -> Option<TrunkPeer>,
        encryption: impl Fn(&str) -> MediaEncryption,
        max_forwards: u8,
    ) -> Result<Option<Command>, NoWay> {
        if let EndCommand::Call { target, calling, called, diverted, reason, offer, hops } = command {
            let to = destination(target, &called, trunk)?;
            let call = InviteHandle(end.0);
            self.ends.insert(call, end);
            let media_encryption = encryption(to.name());
            return Ok(Some(Command::Invite {
                call,
                to,
                media_encryption,
                from: identity(&calling),
                called: identity(&called),
                diverted: diverted.map(|d| {
                    (Diverted { by: identity(&d.by), original: identity(&d.original) }, diversion(reason))
                }),
                offer: offer.map(media::body),
                max_forwards,
                hops,
            }));
        }
        Ok(self.in_call(end, command))
    }

    fn in_call(&mut self, end: EndId, command: EndCommand) -> Option<Command> {
        let call = self.handle(end)?;
        Some(match command {
            // Placed by `command`; an end is placed once.
            EndCommand::Call { .. } => return None,
            EndCommand::Alert { early } => Command::Ring(call, early.map(media::body)),
            EndCommand::Answer { media } => Command::Accept(call, media::body(media)),
            EndCommand::Reject { cause, status } => {
                self.forget_end(end);
                Command::Refuse(call, refusal(cause, status))
            }
            EndCommand::Release { cause } => {
                self.forget_end(end);
                Command::End(call, refusal(cause, None))
            }
            EndCommand::Offer(offer) => Command::Offer(call, offer.map(media::body)),
            EndCommand::AnswerOffer(answer) => Command::Answer(call, media::body(answer)),
            EndCommand::RejectOffer(OfferRefusal::Glare) => Command::RefuseOffer(call, 491),
            EndCommand::RejectOffer(OfferRefusal::NotAcceptable) => Command::RefuseOffer(call, 488),
            EndCommand::Connected(party) => Command::Connected(call, identity(&party)),
            EndCommand::Digit { digit, duration_ms } => Command::Digit(call, digit, duration_ms),
            EndCommand::Transferred(Ok(())) => Command::Referred(call, 200),
            EndCommand::Transferred(Err(cause)) => Command::Referred(call, status::of_cause(cause)),
        })
    }
}

fn refusal(cause: Cause, status: Option<u16>) -> Refusal {
    let ours = status.is_none();
    let status = status.unwrap_or_else(|| status::of_cause(cause));
    // RFC 3261 §21.5.4: a 503 without Retry-After reads as a 500, and proxies forward it as one. With it, it would say that
    // this node takes no calls for a while: another's 503 comes without.
    let retry_after = (ours && status == 503).then_some(RETRY_AFTER_SECONDS);
    Refusal { status, cause: cause.code(), retry_after }
}

/// Seconds after which a caller that we could not serve may try again.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Where a call comes from, and who calls. Of a phone that is its line's number and name, which the model knows: what it
/// says itself chooses among its lines at most.
fn caller(source: Source, from: &Identity, is_line: impl Fn(&str, &str) -> bool) -> (Origin, Party) {
    match source {
        Source::Account(id) => {
            let dn = is_line(&id, &from.number).then(|| Dn::from(from.number.as_str()));
            let device = DeviceName::from(&*id);
            (Origin::Phone { device, dn }, Party { restricted: from.restricted, ..Party::default() })
        }
        Source::Trunk(name) => (Origin::Trunk(TrunkName::from(&*name)), party(from)),
    }
}

fn party(identity: &Identity) -> Party {
    Party {
        number: identity.number.as_str().into(),
        name: identity.name.as_deref().map(Arc::from),
        restricted: identity.restricted,
    }
}

/// The word of Diversion for the reason of the leg that the call came to.
fn diversion(reason: Reason) -> DiversionReason {
    match reason {
        Reason::ForwardAll => DiversionReason::Unconditional,
        Reason::ForwardBusy => DiversionReason::UserBusy,
        Reason::ForwardNoAnswer => DiversionReason::NoAnswer,
        Reason::ForwardUnregistered => DiversionReason::Unavailable,
        Reason::ForwardOnFailure => DiversionReason::OutOfService,
        Reason::Redirect => DiversionReason::Deflection,
        Reason::Normal
        | Reason::Transfer
        | Reason::BlindTransfer
        | Reason::Conference
        | Reason::Park
        | Reason::Unpark
        | Reason::ParkReversion
        | Reason::Pickup
        | Reason::Barge
        | Reason::SilentMonitoring => DiversionReason::Unknown,
    }
}

fn identity(party: &Party) -> Identity {
    Identity {
        number: party.number.to_string(),
        name: party.name.as_deref().map(str::to_owned),
        restricted: party.restricted,
    }
}

fn destination(
    target: Target,
    called: &Party,
    trunk: impl Fn(&TrunkName) -> Option<TrunkPeer>,
) -> Result<Destination, NoWay> {
    match target {
        Target::Phone(device) => {
            Ok(Destination::Account { id: device.as_str().into(), number: called.number.to_string() })
        }
        Target::Trunk(name, number) => match trunk(&name) {
            Some(peer) => Ok(Destination::Peer {
                trunk: name.as_str().into(),
                transport: peer.transport,
                remote: peer.remote,
                user: number.to_string(),
                host: peer.host,
            }),
            None => Err(NoWay),
        },
    }
}
