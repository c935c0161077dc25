//! Shares at the node: who has proved who he is, who guesses, and what is told of refusals.

use super::port::{Output, Report, Severity};
use super::{Node, Step, alarms};
use security::shares::{Bound, Door, News, Share, State, Who};
use sip::port::Source;
use sip::{Attempt, Outcome};
use std::sync::Arc;

impl Node {
    /// What somebody's request proved: the shell may know his address from now on, or it was a guess.
    pub(super) fn attempt(&mut self, step: &mut Step<'_>, attempt: Attempt) {
        let Attempt { hop, user, agent, outcome } = attempt;
        let from = hop.remote.ip();
        let name = user.as_deref();
        let reason = match outcome {
            Outcome::Right(source, until) => {
                if let Some(name) = name {
                    self.directory.shares.proved(Door::Sip, name, from);
                }
                let who = match source {
                    Source::Account(device) => Who::Device(device),
                    Source::Trunk(trunk) => Who::Trunk(trunk),
                };
                return step.out.push(Output::SipKnown { hop, who, until: Some(until) });
            }
            Outcome::WrongPassword => "wrong_password",
            Outcome::UnknownAccount => "unknown_account",
            Outcome::PutOff => "put_off",
        };
        let name = name.unwrap_or_default();
        if reason == "put_off" {
            self.directory.shares.put_off(step.now, Door::Sip, name, from);
        } else {
            self.directory.shares.disproved(step.now, Door::Sip, name, from);
        }
        let Some(untold) = self.directory.shares.line(step.now, &Who::address(from)) else { return };
        let mut parameters = vec![
            ("address", hop.remote.to_string()),
            ("user_agent", agent),
            ("reason", reason.to_owned()),
            ("untold", untold.to_string()),
        ];
        // The device's name, never what was tried: that may be a person's number, or a password in the wrong field.
        parameters.extend(self.directory.device_of(name).map(|device| ("device", device.to_string())));
        let report = self.alarms.occur(&alarms::SIP_AUTHENTICATION_FAILED, parameters);
        step.out.push(Output::Report(report));
    }

    /// What the SIP stack refused.
    pub(super) fn requests_refused(&mut self, step: &mut Step<'_>, refused: sip::Refused) {
        let sip::Refused { elsewhere, too_many, whose, no_room, from } = refused;
        let shares = &mut self.directory.shares;
        shares.note(step.now, Bound::SipBytesOfAddress, &Who::address(from.ip()), no_room);
        match whose {
            Some(Source::Account(device)) => {
                shares.note(step.now, Bound::DialogRequestsOfDevice, &Who::Device(device), too_many);
            }
            Some(Source::Trunk(trunk)) => {
                shares.note(step.now, Bound::DialogRequestsOfTrunk, &Who::Trunk(trunk), too_many);
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
            step.out.push(Output::Report(report));
        }
    }

    /// Tells of what the node itself refused, if it is time.
    pub(super) fn share_timeouts(&mut self, step: &mut Step<'_>) {
        if self.directory.shares.next_timeout().is_some_and(|at| at <= step.now) {
            let news = self.directory.shares.news(step.now);
            self.tell_refusals(step, news);
        }
    }

    /// Refusals of the shell, which the table shows with the node's own.
    pub(super) fn shell_refused(&mut self, step: &mut Step<'_>, news: Vec<News>) {
        for news in &news {
            self.directory.shares.count_elsewhere(news.share, news.refused);
        }
        self.tell_refusals(step, news);
    }

    fn tell_refusals(&mut self, step: &mut Step<'_>, news: Vec<News>) {
        for News { share, who, refused, state } in news {
            let row = share.row();
            let definition = match share {
                Share::Door(_) => &alarms::PASSWORD_GUESSING,
                Share::Rate(_) | Share::Place(_) | Share::Bound(_) => &alarms::SHARE_EXCEEDED,
            };
            let (kind, name) = self.parameter_of(&who);
            let parameters = vec![
                ("share", row.name.to_owned()),
                (kind, name),
                ("refused", refused.to_string()),
                ("limit", row.key.to_owned()),
            ];
            let key = format!("{} {who}", row.name);
            match state {
                State::Began => self.alarm_condition(step, definition, key, true, parameters, &[]),
                State::GoesOn => step.out.push(Output::Report(definition.report(parameters))),
                State::Over => self.alarm_condition(step, definition, key, false, parameters, &[]),
            }
        }
    }

    /// An account is told by its device, since its user is mostly a person's number.
    fn parameter_of(&self, who: &Who) -> (&'static str, String) {
        let name = match who {
            Who::Account(user) => match self.directory.device_of(user) {
                Some(device) => return ("device", device.to_string()),
                None => "unknown".to_owned(),
            },
            Who::Strangers | Who::Address(_) | Who::Device(_) | Who::Trunk(_) => who.to_string(),
            Who::User(_) | Who::Session(_) | Who::Others => who.to_string(),
        };
        (who.kind().map_or("who", security::shares::Kind::name), name)
    }

    /// Phones of the node's earlier life are known by the ways that they registered from.
    pub(super) fn know_phones(&self, step: &mut Step<'_>) {
        step.out.extend(self.stack.ways().map(|(device, hop, until)| {
            let who = Who::Device(Arc::clone(device));
            Output::SipKnown { hop, who, until: Some(until) }
        }));
    }

    /// Trunks over UDP are known by their addresses before they have said anything.
    pub(super) fn know_trunks(&self, step: &mut Step<'_>) {
        let known = self.directory.datagram_trunks(&self.settings.sip_listen);
        step.out.extend(known.map(|(name, hop): (Arc<str>, _)| Output::SipKnown {
            hop,
            who: Who::Trunk(name),
            until: None,
        }));
    }
}
