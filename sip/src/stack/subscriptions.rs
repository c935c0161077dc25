//! SUBSCRIBE and NOTIFY: who may watch what, and how he is told.
//!
//! A phone that is registered subscribes with its account's password, as it calls. What it may watch and what it is told the
//! directory says, before each NOTIFY. A phone without a subscription is told of its message lamp all the same.

use super::belonging::{Reason, is_same_way};
use super::door::{Proved, Visitor};
use super::requests::new_dialog;
use super::{Stack, TIMERS_AT_ONCE};
use crate::dialog::contact_of;
use crate::invite::parties::number_of;
use crate::invite::{Server, refusals};
use crate::message::{Method, NameAddr, Request, Response, Uri};
use crate::port::{Account, Directory, Output, Package, Source, Waiting, Watched, WatchedState};
use crate::registrar::way_back;
use crate::subscribe::{
    Deed, EVENTS, Happening, News, Progress, SHORTEST, Subscription, SubscriptionId, Unserved, Wish,
};
use crate::transaction::ClientId;
use std::sync::Arc;
use std::time::Instant;

/// Retry-After where there is no room for one more, and of a refresh beyond the pace, seconds.
const RETRY_AFTER: u32 = 5;
const RETRY_REFRESH_AFTER: u32 = 1;

/// Why a subscription ends, as Subscription-State says it (RFC 6665 §4.1.3).
#[derive(Clone, Copy, Debug)]
enum EndReason {
    Timeout,
    Rejected,
}

impl EndReason {
    fn state(self) -> String {
        let word = match self {
            EndReason::Timeout => "timeout",
            EndReason::Rejected => "rejected",
        };
        format!("terminated;reason={word}")
    }
}

impl Stack {
    /// A SUBSCRIBE without a dialog. What it asks is looked at before its sender, as of an INVITE.
    pub(super) fn subscriber(
        &mut self,
        visitor: Visitor<'_>,
        out: &mut Vec<Output>,
    ) -> Result<Proved, Box<Response>> {
        let wish = wish(visitor)?;
        if visitor.request.headers.max_forwards() == 0 {
            return Err(Box::new(visitor.reply(483)));
        }
        let full = self.subscriptions.len() >= self.core.config.max_subscriptions;
        let admitted = if full { Err(RETRY_AFTER) } else { visitor.directory.admit() };
        if let Err(seconds) = admitted {
            return Err(Box::new(visitor.reply(503).with("Retry-After", seconds.to_string())));
        }
        let account = self.registered(visitor, out)?;
        Ok(account.map_or(Proved::Unregistered, |account| Proved::Subscribes { account: account.id, wish }))
    }

    /// A SUBSCRIBE in a subscription's dialog: from its phone, or with the password of its account.
    pub(super) fn may_refresh(
        &mut self,
        id: SubscriptionId,
        visitor: Visitor<'_>,
        out: &mut Vec<Output>,
    ) -> Result<Proved, Box<Response>> {
        let Visitor { now, hop, request, .. } = visitor;
        let none = || Box::new(visitor.reply(481));
        let found = self.subscriptions.get(id).filter(|found| !found.progress.is_ending());
        let found = found.filter(|_| request.method == Method::Subscribe).ok_or_else(none)?;
        let account = Arc::clone(&found.account);
        let ways = [found.dialog.peer_hop(), found.dialog.source()];
        let known = ways.into_iter().any(|way| is_same_way(way, hop))
            || self.registrar.is_registered_from(&account, hop);
        if !known {
            let proved = self.digest(visitor, out);
            if !proved.as_ref().is_ok_and(|(_, proved)| proved.id == account) {
                self.refusals.note(now, hop.remote, Reason::Elsewhere);
                return Err(proved.err().unwrap_or_else(none));
            }
        }
        let per_second = self.core.config.max_dialog_requests_per_second;
        if !self.refusals.keeps_its_pace(now, &account, per_second) {
            self.refusals.note(now, hop.remote, Reason::TooMany(Some(Source::Account(account))));
            let busy = visitor.reply(503).with("Retry-After", RETRY_REFRESH_AFTER.to_string());
            return Err(Box::new(busy));
        }
        let wish = wish(visitor)?;
        // Another subscription wants another dialog (RFC 6665 §4.5.1).
        let same = self.subscriptions.get(id).is_some_and(|found| found.event == wish.event);
        if same { Ok(Proved::Refreshes(id)) } else { Err(none()) }
    }

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        server: &Server,
        account: Arc<str>,
        wish: Wish,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        let user: Arc<str> = number_of(&server.request.uri).into();
        let Some(Watched { number, state }) = directory.watched(&account, wish.package, &user) else {
            return self.cx(now, out).refuse(server, 403);
        };
        let source = Source::Account(Arc::clone(&account));
        let mut cx = self.cx(now, out);
        let Some(dialog) = new_dialog(&mut cx, server, &source) else { return cx.refuse(server, 400) };
        let contact = cx.core.contact(&user, &server.hop);
        cx.respond(server, accepted(server, &wish, &contact));
        let expires_at = now + wish.lasts;
        self.make_room(now, &account, out);
        let id = self.subscriptions.add(Subscription {
            dialog,
            account,
            package: wish.package,
            user,
            number,
            event: wish.event,
            contact,
            last: None,
            progress: Progress::new(now, expires_at),
        });
        if wish.lasts.is_zero() {
            self.end_subscription(now, id, EndReason::Timeout, Some(state), out);
        } else {
            self.tell(now, id, News::Asked, directory, out);
        }
    }

    pub(super) fn refresh_subscription(
        &mut self,
        now: Instant,
        server: &Server,
        id: SubscriptionId,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        let headers = &server.request.headers;
        let (Ok(wish), Ok(cseq)) = (Wish::read(headers), headers.cseq()) else {
            return self.cx(now, out).refuse(server, 400);
        };
        let Some(found) = self.subscriptions.get(id) else { return self.cx(now, out).refuse(server, 481) };
        let (account, package, user) = (Arc::clone(&found.account), found.package, Arc::clone(&found.user));
        let contact = Arc::clone(&found.contact);
        let in_order = self.subscriptions.update(id, |found| {
            found.dialog.accept_cseq(cseq.number)?;
            let contact = contact_of(headers);
            found.dialog.came_from(server.hop);
            found.dialog.heard_on(way_back(&server.hop, headers, contact.as_ref()));
            found.dialog.refresh_target(contact);
            Ok::<_, crate::dialog::OutOfOrder>(())
        });
        if in_order.is_none_or(|checked| checked.is_err()) {
            return self.cx(now, out).refuse(server, 500);
        }
        let watched = directory.watched(&account, package, &user);
        let Some(watched) = watched else {
            self.cx(now, out).refuse(server, 403);
            return self.end_subscription(now, id, EndReason::Rejected, None, out);
        };
        self.cx(now, out).respond(server, accepted(server, &wish, &contact));
        if wish.lasts.is_zero() {
            return self.end_subscription(now, id, EndReason::Timeout, Some(watched.state), out);
        }
        let deed = self.subscriptions.update(id, |found| {
            found.progress.lasts_until(now + wish.lasts);
            found.progress.happens(now, Happening::Renewed)
        });
        self.follow(now, id, deed, directory, out);
    }

    /// The answer to a NOTIFY; false: it is to another request.
    pub(super) fn notify_answered(
        &mut self,
        now: Instant,
        client: ClientId,
        response: &Response,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) -> bool {
        let retry_after = response.headers.number("Retry-After");
        let happening = Happening::Answered { status: response.status, retry_after };
        self.notify_over(now, client, happening, directory, out)
    }

    /// The same where there is none.
    pub(super) fn notify_failed(
        &mut self,
        now: Instant,
        client: ClientId,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) -> bool {
        self.notify_over(now, client, Happening::Unanswered, directory, out)
    }

    fn notify_over(
        &mut self,
        now: Instant,
        client: ClientId,
        happening: Happening,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(id) = self.subscriptions.of_client(client) else { return false };
        let deed = self.subscriptions.update(id, |found| found.progress.happens(now, happening));
        self.follow(now, id, deed, directory, out);
        true
    }

    /// Tells those whose time has come.
    pub(super) fn subscriptions_due(
        &mut self,
        now: Instant,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        self.subscriptions.recheck_some(now);
        for _ in 0..TIMERS_AT_ONCE {
            let Some(id) = self.subscriptions.pop_due(now) else { break };
            let deed = self.subscriptions.update(id, |found| found.progress.happens(now, Happening::Time));
            self.follow(now, id, deed, directory, out);
        }
    }

    fn follow(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        deed: Option<Deed>,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        match deed {
            None | Some(Deed::Nothing) => {}
            Some(Deed::Tell(news)) => self.tell(now, id, news, directory, out),
            Some(Deed::Forget) => drop(self.subscriptions.remove(id)),
            Some(Deed::Expire) => {
                let Some(found) = self.subscriptions.get(id) else { return };
                let watched = directory.watched(&found.account, found.package, &found.user);
                let state = watched.map(|watched| watched.state);
                self.end_subscription(now, id, EndReason::Timeout, state, out);
            }
        }
    }

    /// Tells the state, unless nobody asked and it was told.
    fn tell(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        news: News,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        let Some(found) = self.subscriptions.get(id) else { return };
        let Some(Watched { number, state }) = directory.watched(&found.account, found.package, &found.user)
        else {
            return self.end_subscription(now, id, EndReason::Rejected, None, out);
        };
        let known = news == News::IfChanged && found.number == number && found.last.as_ref() == Some(&state);
        if known {
            self.subscriptions.update(id, |found| found.progress.nothing_new());
            return;
        }
        let left = found.progress.expires_at().saturating_duration_since(now).as_secs();
        self.subscriptions.update(id, |found| {
            found.number = number;
            found.last = Some(state.clone());
        });
        if let Some(client) = self.notify(now, id, format!("active;expires={left}"), Some(&state), out) {
            self.subscriptions.update(id, |found| found.progress.told(now, client));
        }
    }

    /// The last NOTIFY, with what there is to tell. Its answer ends the subscription.
    fn end_subscription(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        reason: EndReason,
        state: Option<WatchedState>,
        out: &mut Vec<Output>,
    ) {
        if let Some(client) = self.notify(now, id, reason.state(), state.as_ref(), out) {
            self.subscriptions.update(id, |found| found.progress.ends(client));
        }
    }

    /// For one more subscription of an account the oldest gives way: a phone that has started again is never locked out.
    fn make_room(&mut self, now: Instant, account: &str, out: &mut Vec<Output>) {
        while self.subscriptions.count(account) >= self.core.config.max_subscriptions_per_account.max(1) {
            let Some(oldest) = self.subscriptions.oldest(account) else { break };
            if self.subscriptions.get(oldest).is_some_and(|found| !found.progress.is_ending()) {
                self.notify(now, oldest, EndReason::Rejected.state(), None, out);
            }
            self.subscriptions.remove(oldest);
        }
    }

    fn notify(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        subscription_state: String,
        state: Option<&WatchedState>,
        out: &mut Vec<Output>,
    ) -> Option<ClientId> {
        let Stack { core, subscriptions, .. } = self;
        let (hop, request) = subscriptions.update(id, |found| {
            if found.dialog.peer_hop().connection.is_some_and(|open| !core.connections.contains(&open)) {
                found.dialog.connection_closed(&core.listed);
            }
            let hop = found.dialog.next_hop(&core.listed);
            let path = found.dialog.path();
            let mut request = Request::new(Method::Notify, path.uri);
            path.routes.into_iter().for_each(|route| request.headers.push("Route", route));
            request.headers.push("From", found.dialog.local.header());
            request.headers.push("To", found.dialog.remote.header());
            request.headers.push("Call-ID", &*found.dialog.id.call_id);
            request.headers.push("CSeq", format!("{} {}", found.dialog.next_cseq(), Method::Notify));
            request.headers.push("Contact", format!("<{}>", found.contact));
            request.headers.push("Event", found.event.as_str());
            request.headers.push("Subscription-State", subscription_state);
            (
                hop,
                match state {
                    None => request,
                    Some(state) => {
                        described(request, state, found.package, &found.number, &core.own_host(&hop))
                    }
                },
            )
        })?;
        Some(self.core.transactions.request(now, hop, request, out))
    }

    /// A lamp is switched: those who subscribed are told, else the phones of the account without having asked.
    pub(super) fn lamp(
        &mut self,
        now: Instant,
        account: &Arc<str>,
        number: &Arc<str>,
        waiting: Waiting,
        out: &mut Vec<Output>,
    ) {
        self.subscriptions.changed(now, Package::MessageSummary, number);
        self.remind(now, account, number, waiting, out);
    }

    /// A phone that has registered is told which of the numbers that lead to it have their lamp on.
    pub(super) fn remind_registered(
        &mut self,
        now: Instant,
        register: &Request,
        account: &Account,
        directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        let registered = register.headers.to().map(|to| to.uri.number()).unwrap_or_default();
        for number in account.numbers.iter() {
            let watched = directory.watched(&account.id, Package::MessageSummary, number);
            let on = watched.is_some_and(|w| w.state == WatchedState::Messages(Waiting::Yes));
            // A number that has contacts of its own is told there.
            let led = || **number == *registered || !self.registrar.has_own(&account.id, number);
            if on && led() {
                self.remind(now, &account.id, number, Waiting::Yes, out);
            }
        }
    }

    /// Tells an account's phones of a message lamp without a subscription (RFC 3842 §3.5 leaves that to both).
    fn remind(
        &mut self,
        now: Instant,
        account: &Arc<str>,
        number: &Arc<str>,
        waiting: Waiting,
        out: &mut Vec<Output>,
    ) {
        if self.subscriptions.tells(account, Package::MessageSummary, number) {
            return;
        }
        self.registrar.update(account, out);
        for target in self.contacts(account, number) {
            let (hop, host) = (target.hop, self.core.own_host(&target.hop));
            let own = NameAddr::of(Uri::sip(number, &host, None));
            let mut request = Request::new(Method::Notify, target.uri);
            target.routes.into_iter().for_each(|route| request.headers.push("Route", route));
            request.headers.push("From", format!("{own};tag={}", self.core.tag()));
            request.headers.push("To", own.to_string());
            request.headers.push("Call-ID", &*self.core.call_id());
            request.headers.push("CSeq", format!("1 {}", Method::Notify));
            request.headers.push("Contact", format!("<{}>", self.core.contact(number, &hop)));
            request.headers.push("Event", Package::MessageSummary.token());
            request.headers.push("Subscription-State", "active");
            let state = WatchedState::Messages(waiting);
            let request = described(request, &state, Package::MessageSummary, number, &host);
            self.core.transactions.request(now, hop, request, out);
        }
    }
}

/// What a SUBSCRIBE asks, or why nobody gets it.
fn wish(visitor: Visitor<'_>) -> Result<Wish, Box<Response>> {
    let reply = |status| visitor.reply(status);
    if let Some(refusal) = refusals::unacceptable(visitor.request, reply) {
        return Err(Box::new(refusal));
    }
    Wish::read(&visitor.request.headers).map_err(|unserved| {
        Box::new(match unserved {
            Unserved::Malformed => reply(400).with_phrase("Bad Event"),
            Unserved::Package => reply(489).with("Allow-Events", EVENTS),
            Unserved::Document(package) => reply(406).with("Accept", package.content_type()),
            Unserved::TooShort => reply(423).with("Min-Expires", SHORTEST.as_secs().to_string()),
        })
    })
}

fn accepted(server: &Server, wish: &Wish, contact: &str) -> Response {
    let expires = wish.lasts.as_secs().to_string();
    server
        .reply(200)
        .with("Contact", format!("<{contact}>"))
        .with("Expires", expires)
        .with("Allow-Events", EVENTS)
}

/// With the document that says the state of a number.
fn described(request: Request, state: &WatchedState, package: Package, number: &str, host: &str) -> Request {
    request.with_body(package.content_type(), state.document(&Uri::sip(number, host, None)))
}
