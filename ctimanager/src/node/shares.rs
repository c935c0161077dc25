//! Shares of the node's resources: which address has proved who it is, which guesses passwords, and the alarms of refusals.

use super::alarms;
use super::port::{Output, Report, Severity};
use super::step::Step;
use security::shares::{Bound, Door, News, Share, State, Who};
use sip::port::Source;
use sip::{Attempt, Hop, Outcome};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a connection is a trunk's or a listed proxy's before it is looked at again.
const SPEAKS_FOR_MANY: Duration = Duration::from_secs(3_600);

impl Step<'_> {
    /// What somebody's request proved: the shell may know his address from now on, or it was a guess.
    pub(super) fn attempt(&mut self, attempt: Attempt) {
        let Attempt { hop, user, agent, outcome } = attempt;
        let from = hop.remote.ip();
        let name = user.as_deref();
        let reason = match outcome {
            Outcome::Right(source, until) => {
                if let Some(name) = name {
                    self.shares.proved(Door::Sip, name, from);
                }
                let who = match source {
                    Source::Account(device) => Who::Device(device),
                    Source::Trunk(trunk) => Who::Trunk(trunk),
                };
                return self.know(hop, who, until);
            }
            Outcome::WrongPassword => "wrong_password",
            Outcome::UnknownAccount => "unknown_account",
            Outcome::PutOff => "put_off",
        };
        let name = name.unwrap_or_default();
        if reason == "put_off" {
            self.shares.put_off(self.now, Door::Sip, name, from);
        } else {
            self.shares.disproved(self.now, Door::Sip, name, from);
        }
        let Some(untold) = self.shares.line(self.now, &Who::address(from)) else { return };
        let mut parameters = vec![
            ("address", hop.remote.to_string()),
            ("user_agent", agent),
            ("reason", reason.to_owned()),
            ("untold", untold.to_string()),
        ];
        // The device's name, never what was tried: that may be a person's number, or a password in the wrong field.
        parameters
            .extend(self.calls.directory().device_of(name).map(|device| ("device", device.to_string())));
        let report = self.alarms.occur(&alarms::SIP_AUTHENTICATION_FAILED, parameters);
        self.out.push(Output::Report(report));
    }

    fn know(&mut self, hop: Hop, who: Who, until: Instant) {
        let known = self.known(hop, who, until);
        self.out.push(known);
    }

    /// Whose a way is. A listed proxy speaks for many, whoever of them has proved himself by it.
    fn known(&self, hop: Hop, who: Who, until: Instant) -> Output {
        let (who, until) = match self.proxy_at(&hop) {
            Some(proxy) if hop.connection.is_some() => (proxy, until.max(self.now + SPEAKS_FOR_MANY)),
            Some(proxy) => (proxy, until),
            None => (who, until),
        };
        Output::SipKnown { hop, who, until: Some(until) }
    }

    fn proxy_at(&self, hop: &Hop) -> Option<Who> {
        let from = hop.remote.ip().to_canonical();
        let proxies = &self.settings.config.cluster.sip_proxies;
        proxies.iter().any(|proxy| proxy.to_canonical() == from).then_some(Who::Proxy(from))
    }

    /// Whose a connection is now. Trunks and listed proxies keep theirs for as long as they are configured.
    pub(super) fn whose(&mut self, hop: Hop, who: Option<Who>) {
        let Some(connection) = hop.connection else { return };
        let long = self.now + SPEAKS_FOR_MANY;
        let trunk = self.calls.trunk_at(&hop);
        let phone = || {
            let (device, until) = self.calls.dialled_for(&hop).filter(|(_, until)| *until > self.now)?;
            Some((Who::Device(Arc::clone(device)), until))
        };
        let known = match (self.proxy_at(&hop).or(trunk.map(Who::Trunk)), who) {
            (Some(of_many), _) => Some((of_many, long)),
            (None, Some(Who::Trunk(name))) => {
                self.calls.directory().is_trunk(&name).then_some((Who::Trunk(name), long))
            }
            (None, Some(Who::Device(device))) => {
                let until = self.calls.held_until(self.now, &device, connection);
                until.map(|until| (Who::Device(device), until)).or_else(phone)
            }
            (None, _) => phone(),
        };
        if let Some((who, until)) = known {
            self.know(hop, who, until);
        }
    }

    /// What the SIP stack refused.
    pub(super) fn requests_refused(&mut self, refused: sip::Refused) {
        let sip::Refused { elsewhere, too_many, whose, no_room, from } = refused;
        let shares = &mut *self.shares;
        shares.note(self.now, Bound::SipBytesOfAddress, &Who::address(from.ip()), no_room);
        match whose {
            Some(Source::Account(device)) => {
                shares.note(self.now, Bound::DialogRequestsOfDevice, &Who::Device(device), too_many);
            }
            Some(Source::Trunk(trunk)) => {
                shares.note(self.now, Bound::DialogRequestsOfTrunk, &Who::Trunk(trunk), too_many);
            }
            None => {}
        }
        // A line of the log, no alarm: whoever does it is refused already.
        if elsewhere + too_many > 0 {
            let parameters = vec![
                ("from_elsewhere", elsewhere.to_string()),
                ("too_many", too_many.to_string()),
                ("last_from", from.to_string()),
            ];
            let report = Report { name: "SipDialogRequestsRefused", severity: Severity::Warning, parameters };
            self.out.push(Output::Report(report));
        }
    }

    /// Tells of what the node itself refused, if it is time.
    pub(super) fn share_timeouts(&mut self) {
        if self.shares.next_timeout().is_some_and(|at| at <= self.now) {
            let news = self.shares.news(self.now);
            self.tell_refusals(&news);
        }
    }

    /// Refusals of the shell, which the table shows with the node's own.
    pub(super) fn shell_refused(&mut self, news: &[News]) {
        for news in news {
            self.shares.count_elsewhere(news.share, news.refused);
        }
        self.tell_refusals(news);
    }

    fn tell_refusals(&mut self, news: &[News]) {
        for News { share, who, refused, state } in news {
            let row = share.row();
            let definition = match share {
                Share::Door(_) => &alarms::PASSWORD_GUESSING,
                Share::Rate(_) | Share::Place(_) | Share::Bound(_) => &alarms::SHARE_EXCEEDED,
            };
            let (kind, name) = self.parameter_of(who);
            let parameters = vec![
                ("share", row.name.to_owned()),
                (kind, name),
                ("refused", refused.to_string()),
                ("limit", row.key.to_owned()),
            ];
            let key = format!("{} {} {who}", row.name, row.who.name());
            match state {
                State::Began => self.condition(definition, key, alarms::AlarmState::Raised, parameters),
                State::GoesOn => self.out.push(Output::Report(definition.report(parameters))),
                State::Over => self.condition(definition, key, alarms::AlarmState::Cleared, parameters),
            }
        }
    }

    /// An account is told by its device, since its user is mostly a person's number.
    fn parameter_of(&self, who: &Who) -> (&'static str, String) {
        let name = match who {
            Who::Account(user) => match self.calls.directory().device_of(user) {
                Some(device) => return ("device", device.to_string()),
                None => "unknown".to_owned(),
            },
            Who::Strangers | Who::Address(_) | Who::Device(_) | Who::Trunk(_) => who.to_string(),
            Who::Proxy(_) => who.to_string(),
            Who::User(_) | Who::Session(_) | Who::Others => who.to_string(),
        };
        (who.kind().map_or("who", security::shares::Kind::name), name)
    }

    /// Phones of the node's earlier life are known by the ways that they registered from.
    pub(super) fn know_phones(&mut self) {
        let ways = self.calls.ways();
        let known = ways.map(|(device, hop, until)| self.known(hop, Who::Device(Arc::clone(device)), until));
        let known: Vec<Output> = known.collect();
        self.out.extend(known);
    }

    /// Trunks over UDP are known by their addresses before they have said anything. And many connections are expected from
    /// where an administrator says that trunks and proxies are.
    pub(super) fn know_trunks(&mut self) {
        let proxies = self.settings.config.cluster.sip_proxies.iter().copied();
        let trunks = self.settings.trunks.iter().map(|(_, peer)| peer.remote.ip());
        self.out.push(Output::Named(trunks.chain(proxies).collect()));
        let known = self.calls.directory().datagram_trunks(&self.settings.sip_listen);
        self.out.extend(known.map(|(name, hop): (Arc<str>, _)| Output::SipKnown {
            hop,
            who: Who::Trunk(name),
            until: None,
        }));
    }
}
