//! A call that we place, until somebody answers or everybody refuses (RFC 3261 §13.2, §16.7).

use super::context::{Abandoned, Cx, Timer};
use super::leg::{Flow, Leg, NoResponse};
use super::parties::{self, Side};
use super::session_timer::SessionTimer;
use super::values::{self, SDP, SUPPORTED, SUPPORTED_LATE_OFFER};
use crate::dialog::{Dialog, DialogId, End, Peer, Reach, Seed};
use crate::message::{Method, NameAddr, Request, Response, Uri};
use crate::port::{
    DiversionReason, Diverted, Event, Hop, Identity, MediaEncryption, Refusal, Sdp, SecureMediaRefusal,
    Transport,
};
use crate::sdp::{Describer, Keys, SdpError};
use crate::transaction::ClientId;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Early dialogs of one branch at once; a fork makes few, and one beyond this still may answer.
const MAX_EARLY: usize = 8;

/// Contacts of a redirection that are looked at, and numbers of them that are told.
const MAX_CONTACTS_READ: usize = 64;
const MAX_CONTACTS: usize = 8;

/// How long it may ring without a new provisional (RFC 3261 §16.6, Timer C: more than three minutes).
const NO_ANSWER: Duration = Duration::from_secs(200);

/// How long those who have not said a word are waited for when all others have refused, in T1 from the beginning: three
/// repetitions of an INVITE over UDP. A phone that lives says 100 or rings at once.
const SILENCE: u32 = 8;

/// An unanswered call of ours.
pub(crate) struct Outgoing {
    branches: Vec<Branch>,
    placed: Instant,
    plan: Plan,
    best: Option<Failure>,
    /// Whether the node has heard that it rings.
    rang: bool,
    /// The last that it has heard is early media: a 180 is news then.
    plays: bool,
    /// Commands that came before anybody could take them.
    identity: Option<Identity>,
    offer: Option<Option<Sdp>>,
}

/// What every branch sends.
#[derive(Clone)]
pub(crate) struct Plan {
    pub from: Identity,
    pub called: Identity,
    pub diverted: Option<(Diverted, DiversionReason)>,
    pub offer: Option<Sdp>,
    pub max_forwards: u8,
    pub hops: u32,
    /// The account or trunk that is called, and whether its media are encrypted.
    pub peer: Arc<str>,
    pub encryption: MediaEncryption,
}

/// One contact or peer that is to be tried.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub uri: Uri,
    pub hop: Hop,
    /// Route values towards it (RFC 3327).
    pub routes: Vec<String>,
    pub reach: Reach,
}

struct Branch {
    client: ClientId,
    target: Target,
    seed: Seed,
    describer: Describer,
    session: SessionTimer,
    early: Vec<Early>,
    /// It has been asked for a longer session interval (422) before.
    retried: bool,
    /// Somebody is there: it has answered, be it with 100.
    heard: bool,
}

/// An early dialog, or the sign of one.
struct Early {
    leg: Leg,
    /// The last reliable provisional in its order.
    rseq: Option<u32>,
    /// The answer came already, by a provisional that was not reliable.
    answer: bool,
}

/// A final refusal of one branch.
#[derive(Clone)]
struct Failure {
    /// It was said; else nobody was there to say anything.
    said: bool,
    status: u16,
    cause: Option<u16>,
    /// See [`Event::Refused`].
    redirect_to: Vec<String>,
}

impl Failure {
    /// Nobody answered: 408. Or the far side can't be reached: 502 with cause 27, and not the 503 of RFC 3261 §8.1.3.1,
    /// which would say to the caller that it is we who are out of service (§21.5.4).
    fn of_silence(why: NoResponse) -> Failure {
        let (status, cause) = match why {
            NoResponse::TimedOut => (408, None),
            NoResponse::NotSent => (502, Some(values::OUT_OF_ORDER)),
        };
        Failure { said: false, status, cause, redirect_to: Vec::new() }
    }

    /// Of several branches that redirect, all that they name is told (RFC 3261 §16.7 step 7).
    fn join(&mut self, other: Failure) {
        if other.rank() < self.rank() {
            *self = other;
        } else if other.status / 100 == 3 && self.status / 100 == 3 {
            add_contacts(&mut self.redirect_to, other.redirect_to);
        }
    }

    /// RFC 3261 §16.7: 6xx first, then the lowest class; within a class what says most to the caller. What a living contact
    /// says comes before the silence of a dead one.
    fn rank(&self) -> (bool, u8, u8, u16) {
        let class = match self.status / 100 {
            6 => 0,
            class => u8::try_from(class).unwrap_or(u8::MAX),
        };
        let within = match self.status {
            486 => 0,
            401 | 407 | 415 | 420 | 484 | 488 => 1,
            408 | 480 => 3,
            503 => 4,
            _ => 2,
        };
        (!self.said, class, within, self.status)
    }
}

/// What became of the call.
pub(crate) enum Outcome {
    Pending(Box<Outgoing>),
    Answered(Box<Leg>),
    Over,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outgoing({} branches, rang {})", self.branches.len(), self.rang)
    }
}

impl Outgoing {
    /// Sends the INVITEs; `Err` when the offer can be written for none of the targets.
    pub fn place(cx: &mut Cx<'_>, plan: Plan, targets: Vec<Target>) -> Result<Outgoing, SdpError> {
        let mut outgoing = Outgoing {
            branches: Vec::new(),
            placed: cx.now,
            plan,
            best: None,
            rang: false,
            plays: false,
            identity: None,
            offer: None,
        };
        let mut unwritten = None;
        for target in targets {
            let plan = &outgoing.plan;
            let mut describer = cx.core.describer(&target.hop, plan.peer.clone(), plan.encryption);
            if let Err(error) = describe(&mut describer, plan.offer.as_ref()) {
                cx.description_refused(describer.policy(), error);
                unwritten = Some(error);
                continue;
            }
            let config = cx.core.config.clone();
            let session = SessionTimer::new(config.session_expires, config.min_session_expires);
            let seed = new_seed(cx, &outgoing.plan, &target);
            cx.core.dialogs.insert(seed.id.clone(), cx.call);
            let client = send_invite(cx, &outgoing.plan, &target, &seed, &describer, &session);
            let branch = Branch {
                client,
                target,
                seed,
                describer,
                session,
                early: Vec::new(),
                retried: false,
                heard: false,
            };
            outgoing.branches.push(branch);
        }
        if let (Some(error), true) = (unwritten, outgoing.branches.is_empty()) {
            return Err(error);
        }
        cx.set(Timer::NoAnswer, NO_ANSWER);
        Ok(outgoing)
    }

    /// All dialogs that its INVITEs may make.
    pub fn dialogs(&self) -> SmallVec<[DialogId; 1]> {
        self.branches.iter().map(|b| b.seed.id.clone()).collect()
    }

    fn branch_of(&self, client: ClientId) -> Option<usize> {
        self.branches.iter().position(|b| b.client == client)
    }

    /// A response to one of the INVITEs, or to an UPDATE of an early dialog.
    pub fn on_response(
        mut self: Box<Self>,
        cx: &mut Cx<'_>,
        client: ClientId,
        response: &Response,
        hop: Hop,
    ) -> Outcome {
        let Some(at) = self.branch_of(client) else {
            let asked = self.legs().find(|leg| leg.has_asked(client));
            match asked.map(|leg| leg.on_asked(cx, response, hop)) {
                Some(Flow::On) => return Outcome::Pending(self),
                Some(Flow::Ended(_) | Flow::Lost(_)) => {
                    return self.on_forgotten(cx, |leg| leg.has_asked(client));
                }
                None => {}
            }
            let leg = self.legs().find(|leg| leg.waits_for(client));
            // What a refused UPDATE means for the call, its INVITE says.
            let _ = leg.map(|leg| leg.on_response(cx, response, hop));
            return Outcome::Pending(self);
        };
        self.branches[at].heard = true;
        match response.status {
            0..=100 => {
                cx.set(Timer::NoAnswer, NO_ANSWER);
                Outcome::Pending(self)
            }
            101..=199 => {
                cx.set(Timer::NoAnswer, NO_ANSWER);
                self.on_provisional(cx, at, response, hop);
                Outcome::Pending(self)
            }
            200..=299 => self.on_answer(cx, at, response, hop),
            422 if !self.branches[at].retried => {
                self.again(cx, at, response);
                Outcome::Pending(self)
            }
            status => {
                let cause = response.headers.q850();
                let redirect_to = redirect_of(response);
                self.on_failure(cx, at, Failure { said: true, status, cause, redirect_to })
            }
        }
    }

    /// No answer at all (Timer B), or no way to send.
    pub fn on_no_response(
        mut self: Box<Self>,
        cx: &mut Cx<'_>,
        client: ClientId,
        why: NoResponse,
    ) -> Outcome {
        match self.branch_of(client) {
            Some(at) => self.on_failure(cx, at, Failure::of_silence(why)),
            None if self.legs().any(|leg| leg.has_asked(client)) => {
                self.on_forgotten(cx, |leg| leg.has_asked(client))
            }
            None => {
                let leg = self.legs().find(|leg| leg.waits_for(client));
                let _ = leg.map(|leg| leg.on_failure(cx, NoResponse::NotSent));
                Outcome::Pending(self)
            }
        }
    }

    /// It has rung for too long without a word.
    pub fn on_timer(mut self: Box<Self>, cx: &mut Cx<'_>, timer: Timer) -> Outcome {
        if timer == Timer::Asked {
            return self.on_forgotten(cx, Leg::asks);
        }
        if timer != Timer::NoAnswer {
            return Outcome::Pending(self);
        }
        self.cancel_all(cx, Some(&format!("Q.850;cause={}", values::TIMER_EXPIRY)));
        let best = self.best.unwrap_or(Failure::of_silence(NoResponse::TimedOut));
        let Failure { status, cause, redirect_to, .. } = best;
        cx.event(Event::Refused { call: cx.call, status, cause, redirect_to });
        Outcome::Over
    }

    /// Whoever rang there knows nothing of it any more: a phone that has started again. It is nobody who could answer.
    fn on_forgotten(mut self: Box<Self>, cx: &mut Cx<'_>, is_lost: impl Fn(&Leg) -> bool) -> Outcome {
        let all_lost = |branch: &Branch| {
            !branch.early.is_empty() && branch.early.iter().all(|early| is_lost(&early.leg))
        };
        while let Some(at) = self.branches.iter().position(all_lost) {
            let branch = self.branches.swap_remove(at);
            cx.core.dialogs.remove(&branch.seed.id);
            cx.cancel(branch.client, branch.seed, None);
            match self.failed(cx, Failure::of_silence(NoResponse::NotSent)) {
                Outcome::Pending(outgoing) => self = outgoing,
                over @ (Outcome::Answered(_) | Outcome::Over) => return over,
            }
        }
        for branch in &mut self.branches {
            branch.early.retain(|early| !is_lost(&early.leg));
        }
        Outcome::Pending(self)
    }

    fn on_failure(mut self: Box<Self>, cx: &mut Cx<'_>, at: usize, failure: Failure) -> Outcome {
        let branch = self.branches.swap_remove(at);
        cx.core.clients.remove(&branch.client);
        cx.core.dialogs.remove(&branch.seed.id);
        self.failed(cx, failure)
    }

    /// One branch is no more.
    fn failed(mut self: Box<Self>, cx: &mut Cx<'_>, failure: Failure) -> Outcome {
        let everywhere = failure.status >= 600;
        match &mut self.best {
            Some(best) => best.join(failure),
            None => self.best = Some(failure),
        }
        if everywhere {
            self.cancel_all(cx, None);
        }
        if !self.branches.is_empty() {
            if self.best.as_ref().is_some_and(|best| best.said) && self.branches.iter().all(|b| !b.heard) {
                cx.set(Timer::NoAnswer, (self.placed + cx.t1() * SILENCE).saturating_duration_since(cx.now));
            }
            return Outcome::Pending(self);
        }
        if let Some(Failure { status, cause, redirect_to, .. }) = self.best.take() {
            cx.event(Event::Refused { call: cx.call, status, cause, redirect_to });
        }
        Outcome::Over
    }

    /// 422: once more with the interval that it asks for (RFC 4028 §7.3).
    fn again(&mut self, cx: &mut Cx<'_>, at: usize, response: &Response) {
        let branch = &mut self.branches[at];
        branch.retried = true;
        branch.session.raise_to(&response.headers);
        branch.seed.cseq += 1;
        cx.core.clients.remove(&branch.client);
        branch.client =
            send_invite(cx, &self.plan, &branch.target, &branch.seed, &branch.describer, &branch.session);
    }

    fn on_provisional(&mut self, cx: &mut Cx<'_>, at: usize, response: &Response, hop: Hop) {
        let has_offer = self.plan.offer.is_some();
        let branch = &mut self.branches[at];
        let invite = branch.seed.cseq;
        let mut read = None;
        if let Some(early) = branch.early_of(response, hop) {
            early.leg.learn(&response.headers);
            early.leg.identifies(&response.headers, Side::Called);
            let reliable = response.headers.has_token("Require", "100rel");
            match response.headers.number("RSeq").filter(|_| reliable) {
                Some(rseq) if early.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) => return,
                Some(rseq) => {
                    early.rseq = Some(rseq);
                    acknowledge_provisional(cx, early, rseq, invite);
                }
                None => {}
            }
            if has_offer && !early.leg.agreed {
                read = early.leg.describer.read_answer(&response.body, &mut cx.core.crypto_faults).ok();
            }
            if let Some(read) = &read {
                early.leg.remote_sdp = Some(read.text.clone());
                early.answer = true;
                early.leg.agreed = early.rseq.is_some();
            }
        } else if has_offer {
            read = branch.describer.read_answer(&response.body, &mut cx.core.crypto_faults).ok();
        }
        if read.is_some() || !self.rang || (self.plays && response.status == 180) {
            (self.rang, self.plays) = (true, read.is_some());
            cx.event(Event::Ringing(cx.call, read));
        }
        self.flush_early(cx);
    }

    fn flush_early(&mut self, cx: &mut Cx<'_>) {
        let Some(leg) = self.legs().filter(|leg| leg.agreed && leg.abilities.update).last() else { return };
        // The last leg that agreed is the one that plays its early media.
        leg.flush(cx);
    }

    fn on_answer(mut self: Box<Self>, cx: &mut Cx<'_>, at: usize, response: &Response, hop: Hop) -> Outcome {
        let mut branch = self.branches.swap_remove(at);
        self.cancel_all(cx, Some("SIP;cause=200;text=\"Call completed elsewhere\""));
        let tag: Option<Arc<str>> = response.headers.to_tag().map(Into::into);
        let early = tag.as_deref().and_then(|tag| branch.take_early(tag));
        let answered_before = early.as_ref().is_some_and(|e| e.leg.agreed || e.answer);
        let agreed_before = early.as_ref().is_some_and(|e| e.leg.agreed);
        let mut leg = match early {
            Some(early) => early.leg,
            None => branch.new_leg(response, hop),
        };
        leg.dialog.refresh_target(crate::dialog::contact_of(&response.headers));
        leg.dialog.refresh_routes(&response.headers);
        cx.clear(Timer::NoAnswer);
        leg.identifies(&response.headers, Side::Called);
        leg.tell_party(cx);
        leg.confirm_as_caller(cx, response);
        let cseq = branch.seed.cseq;
        cx.core.abandon(branch.client, Abandoned { seed: branch.seed, winner: tag, ended: 0 }, cx.now);
        if let Some(identity) = self.identity.take() {
            leg.note_identity(identity);
        }
        if let Some(offer) = self.offer.take() {
            leg.queue(offer);
        }
        let read = match self.plan.offer {
            Some(_) => leg.describer.read_answer(&response.body, &mut cx.core.crypto_faults),
            None => leg.describer.read_offer(&response.body, &mut cx.core.crypto_faults),
        };
        match (self.plan.offer.is_some(), read) {
            (true, _) if agreed_before => {
                leg.acknowledge(cx, cseq, None);
                cx.event(Event::Answered(cx.call, None));
            }
            (true, Ok(read)) => {
                leg.agreed = true;
                leg.remote_sdp = Some(read.text.clone());
                leg.acknowledge(cx, cseq, None);
                cx.event(Event::Answered(cx.call, Some(read)));
            }
            (true, Err(_)) if answered_before && response.body.is_empty() => {
                leg.agreed = true;
                leg.acknowledge(cx, cseq, None);
                cx.event(Event::Answered(cx.call, None));
            }
            (false, Ok(read)) => {
                leg.await_answer(cseq, read.text.clone());
                cx.event(Event::Answered(cx.call, Some(read)));
            }
            (offered, Err(error)) => {
                cx.description_refused(leg.describer.policy(), error);
                // RFC 3261 §13.2.2.4: an offer that is not acceptable gets an answer nevertheless, and then a BYE.
                let refusal = (!offered).then(|| leg.unchanged(&response.body).ok()).flatten();
                leg.acknowledge(cx, cseq, refusal);
                leg.hang_up(cx, Some(format!("Q.850;cause={}", values::BEARER_NOT_IMPLEMENTED)));
                let cause = Some(values::BEARER_NOT_IMPLEMENTED);
                cx.event(Event::Refused { call: cx.call, status: 488, cause, redirect_to: vec![] });
                return Outcome::Over;
            }
        }
        leg.flush(cx);
        Outcome::Answered(Box::new(leg))
    }

    fn cancel_all(&mut self, cx: &mut Cx<'_>, reason: Option<&str>) {
        for branch in self.branches.drain(..) {
            cx.core.dialogs.remove(&branch.seed.id);
            cx.cancel(branch.client, branch.seed, reason.map(Into::into));
        }
    }

    /// The node gives up.
    pub fn end(mut self: Box<Self>, cx: &mut Cx<'_>, refusal: &Refusal) {
        self.cancel_all(cx, Some(&values::reason(refusal)));
    }

    /// Those of its early dialogs.
    pub fn legs(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.branches.iter_mut().flat_map(|b| &mut b.early).map(|e| &mut e.leg)
    }

    /// Those that it has so far.
    pub fn early_dialogs(&self) -> impl Iterator<Item = &Dialog> {
        self.branches.iter().flat_map(|b| &b.early).map(|e| &e.leg.dialog)
    }

    /// The early dialog of a request.
    pub fn leg_of(&mut self, id: &DialogId, remote_tag: &str) -> Option<&mut Leg> {
        self.legs().find(|leg| leg.dialog.id == *id && leg.dialog.remote.tag.as_deref() == Some(remote_tag))
    }

    /// See [`super::InviteSession::next_cseq`].
    pub fn next_cseq(&mut self, client: ClientId, id: &DialogId, peer_tag: &str) -> Option<u32> {
        match self.branch_of(client) {
            Some(at) => Some(self.branches[at].seed.cseq + 1),
            None => self.leg_of(id, peer_tag).map(|leg| leg.dialog.next_cseq()),
        }
    }

    /// See [`super::InviteSession::sent_again`].
    pub fn sent_again(&mut self, before: ClientId, now: ClientId, cseq: u32) {
        match self.branch_of(before) {
            Some(at) => {
                self.branches[at].client = now;
                self.branches[at].seed.cseq = cseq;
            }
            None => self.legs().for_each(|leg| leg.sent_again(before, now, cseq)),
        }
    }

    /// A request in an early dialog went its way.
    pub fn after_request(mut self: Box<Self>, cx: &mut Cx<'_>, flow: Flow) -> Outcome {
        match flow {
            Flow::On => Outcome::Pending(self),
            Flow::Ended(cause) | Flow::Lost(cause) => {
                self.cancel_all(cx, None);
                cx.event(Event::Ended { call: cx.call, cause });
                Outcome::Over
            }
        }
    }

    /// [`crate::port::Command::Offer`] before the answer: an UPDATE if somebody takes one, else once it is answered.
    pub fn offer(&mut self, cx: &mut Cx<'_>, sdp: Option<Sdp>) {
        match self.legs().filter(|leg| leg.agreed && leg.abilities.update).last() {
            Some(leg) if sdp.is_some() => leg.offer(cx, sdp),
            Some(_) | None => self.offer = Some(sdp),
        }
    }

    /// [`crate::port::Command::Answer`] to an UPDATE before the answer.
    pub fn answer(&mut self, cx: &mut Cx<'_>, sdp: &Sdp) {
        // Before the answer no offer of a 2xx is open: what can't be written was refused.
        for leg in self.legs() {
            let _ = leg.answer(cx, sdp);
        }
    }

    /// [`crate::port::Command::RefuseOffer`].
    pub fn refuse_offer(&mut self, cx: &mut Cx<'_>, status: u16) {
        self.legs().for_each(|leg| leg.refuse_offer(cx, status));
    }

    /// [`crate::port::Command::Connected`]: for when it is answered.
    pub fn connected(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }
}

impl Branch {
    fn new_leg(&self, response: &Response, hop: Hop) -> Leg {
        let remote = response.headers.to().map_or_else(
            |_| End { address: format!("<{}>", self.seed.target).into(), tag: None },
            |to| End::of(&to),
        );
        // A phone's datagram may come from another port than the one that it was called at.
        let way = match (self.target.reach, hop.transport) {
            (Reach::AsItCame, Transport::Udp) => self.target.hop,
            (Reach::AsItCame | Reach::Contact, _) => hop,
        };
        let mut dialog = Dialog::of_caller(&self.seed, remote, Peer::of(&response.headers), way);
        dialog.came_from(hop);
        let contact = self.seed.contact.clone();
        Leg::new(dialog, self.describer.clone(), contact, self.session)
    }

    /// The early dialog of a provisional; `None` for one without a tag, and beyond the limit.
    fn early_of(&mut self, response: &Response, hop: Hop) -> Option<&mut Early> {
        let tag = response.headers.to_tag()?;
        let known = self.early.iter().position(|e| e.leg.dialog.remote.tag.as_deref() == Some(tag));
        let at = match known {
            Some(at) => at,
            None if self.early.len() >= MAX_EARLY => return None,
            None => {
                let leg = self.new_leg(response, hop);
                self.early.push(Early { leg, rseq: None, answer: false });
                self.early.len() - 1
            }
        };
        self.early.get_mut(at)
    }

    fn take_early(&mut self, tag: &str) -> Option<Early> {
        let at = self.early.iter().position(|e| e.leg.dialog.remote.tag.as_deref() == Some(tag))?;
        Some(self.early.swap_remove(at))
    }
}

/// The offer as this target gets it. One whose media must be encrypted and can't be gets no call, be it without an offer.
fn describe(describer: &mut Describer, offer: Option<&Sdp>) -> Result<(), SdpError> {
    match (offer, describer.policy().keys) {
        (Some(offer), _) => describer.offer(offer).map(drop),
        (None, Keys::Impossible) => Err(SdpError::Encryption(SecureMediaRefusal::Transport)),
        (None, Keys::Never | Keys::Optional | Keys::Required) => Ok(()),
    }
}

fn acknowledge_provisional(cx: &mut Cx<'_>, early: &mut Early, rseq: u32, invite: u32) {
    let cseq = early.leg.dialog.next_cseq();
    let mut prack = early.leg.request(Method::Prack, cseq);
    prack.headers.push("RAck", format!("{rseq} {invite} INVITE"));
    let hop = early.leg.next_hop(cx);
    cx.request_and_forget(hop, prack);
}

/// Whom a redirection names: the numbers of its Contacts in the order of their `q`, and in the order of the message
/// where that is the same. 305 names a proxy and 380 another service, not other numbers (RFC 3261 §21.3.4, §21.3.5); a
/// Contact that has expired, and one that is no telephone's, names nobody.
fn redirect_of(response: &Response) -> Vec<String> {
    if response.status / 100 != 3 || matches!(response.status, 305 | 380) {
        return Vec::new();
    }
    let read = |element: Result<&str, _>| element.ok().and_then(|text| NameAddr::read(text).ok());
    let mut contacts: Vec<NameAddr> =
        response.headers.elements("Contact").take(MAX_CONTACTS_READ).filter_map(read).collect();
    contacts.retain(|contact| !contact.is_star() && contact.expires() != Some(0));
    contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q_thousandths()));
    let mut numbers = Vec::new();
    add_contacts(&mut numbers, contacts.iter().map(|contact| parties::number_of(&contact.uri)));
    numbers
}

fn add_contacts(numbers: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for number in more {
        if numbers.len() < MAX_CONTACTS && !number.is_empty() && !numbers.contains(&number) {
            numbers.push(number);
        }
    }
}

fn new_seed(cx: &mut Cx<'_>, plan: &Plan, target: &Target) -> Seed {
    let host = cx.core.own_host(&target.hop);
    let local_tag = cx.core.tag();
    let address = if plan.from.restricted {
        parties::ANONYMOUS.to_owned()
    } else {
        parties::name_addr(&plan.from, &host).to_string()
    };
    let contact_user = if plan.from.restricted { "anonymous" } else { &plan.from.number };
    Seed {
        id: DialogId { call_id: cx.core.call_id(), local_tag: local_tag.clone() },
        local: End { address: address.into(), tag: Some(local_tag) },
        cseq: 1,
        target: target.uri.clone(),
        contact: cx.core.contact(contact_user, &target.hop),
        reach: target.reach,
        offered: plan.offer.is_some(),
        listen: cx.core.listen.clone(),
    }
}

fn send_invite(
    cx: &mut Cx<'_>,
    plan: &Plan,
    target: &Target,
    seed: &Seed,
    describer: &Describer,
    session: &SessionTimer,
) -> ClientId {
    let host = cx.core.own_host(&target.hop);
    let mut invite = Request::new(Method::Invite, target.uri.clone());
    let headers = &mut invite.headers;
    for route in &target.routes {
        headers.push("Route", route.as_str());
    }
    headers.push("Max-Forwards", plan.max_forwards.to_string());
    headers.push("From", seed.local.header());
    headers.push("To", parties::name_addr(&plan.called, &host).to_string());
    headers.push("Call-ID", &*seed.id.call_id);
    headers.push("CSeq", format!("{} INVITE", seed.cseq));
    headers.push("Contact", format!("<{}>", seed.contact));
    headers.push("Allow", values::ALLOW);
    headers.push("Supported", if plan.offer.is_some() { SUPPORTED } else { SUPPORTED_LATE_OFFER });
    headers.push("Session-Expires", session.interval_seconds().to_string());
    headers.push("Min-SE", session.min_se().as_secs().to_string());
    cx.identity_headers(&plan.from, Side::Calling, target.reach, &target.hop, headers);
    if let Some((diverted, reason)) = &plan.diverted {
        parties::write_diverted(diverted, *reason, plan.hops, &host, target.reach, headers);
    }
    if let Some(offer) = describer.last() {
        invite = invite.with_body(SDP, offer.to_vec());
    }
    cx.request(target.hop, invite)
}
