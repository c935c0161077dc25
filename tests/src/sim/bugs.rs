//! Bugs that the simulator must find when they are put back; `src/bin/sabotage.rs` puts them back.

/// Stands in a bug's text for the question whether it is to be there.
pub const SWITCH: &str = "SABOTAGED";

/// A bug: in these files this text, which must be there once, becomes that.
pub struct Bug {
    /// What it is called by.
    pub name: &'static str,
    /// File, text, what becomes of it.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

/// All of them.
pub const BUGS: &[Bug] = &[
    Bug {
        name: "a-replay-without-its-first-event",
        edits: &[(
            "protocol/src/session/machine.rs",
            "self.queue.replay(last_seq + 1, &mut self.log);",
            "self.queue.replay(last_seq + 1 + u64::from(SABOTAGED), &mut self.log);",
        )],
    },
    Bug {
        name: "events-in-the-grace-are-lost",
        edits: &[(
            "protocol/src/session/machine.rs",
            "let seq = self.log.push(event.clone());",
            "if SABOTAGED && self.connection().is_none() { return Delivery::Filtered; }\nlet seq = self.log.push(event.clone());",
        )],
    },
    Bug {
        name: "keys-are-forgotten-at-a-resume",
        edits: &[(
            "protocol/src/session/machine.rs",
            "        self.attachment += 1;\n",
            "        self.attachment += 1;\nif SABOTAGED { self.answers = Answers::new(self.config.pending_requests, self.config.idem_keys); }\n",
        )],
    },
    Bug {
        name: "the-reply-after-the-replay",
        edits: &[
            (
                "protocol/src/session/machine.rs",
                "        self.queue.push(reply);\n",
                "        let late = if SABOTAGED { Some(reply) } else { self.queue.push(reply); None };\n",
            ),
            (
                "protocol/src/session/machine.rs",
                "        superseded\n    }",
                "        late.into_iter().filter(|_| SABOTAGED).for_each(|reply| self.queue.push(reply));\n        superseded\n    }",
            ),
        ],
    },
    Bug {
        name: "a-log-without-a-bound",
        edits: &[(
            "protocol/src/session/log.rs",
            "while self.events.len() > self.max_events || self.bytes > self.max_bytes {",
            "let times = if SABOTAGED { 100 } else { 1 };\nwhile self.events.len() > times * self.max_events || self.bytes > times * self.max_bytes {",
        )],
    },
    Bug {
        name: "an-overrun-without-a-word",
        edits: &[(
            "protocol/src/session/registry.rs",
            "Ok(false) => Resume::No(NotResumed::LogOverrun),",
            "Ok(false) if SABOTAGED => Resume::Yes(id),\nOk(false) => Resume::No(NotResumed::LogOverrun),",
        )],
    },
    Bug {
        name: "an-overrun-session-lives-on",
        edits: &[(
            "ctimanager/src/node/cti_manager/open.rs",
            "self.drop_overrun(step, id);",
            "if !SABOTAGED { self.drop_overrun(step, id); }",
        )],
    },
    Bug {
        name: "a-silent-application-is-never-missed",
        edits: &[
            (
                "protocol/src/session/machine.rs",
                "let patience = *received + 2 * self.config.heartbeat;",
                "let patience = *received + (if SABOTAGED { 20_000 } else { 2 }) * self.config.heartbeat;",
            ),
            (
                "protocol/src/session/link.rs",
                "(received + 2 * interval)",
                "(received + (if SABOTAGED { 20_000 } else { 2 }) * interval)",
            ),
        ],
    },
    Bug {
        name: "a-failed-application-keeps-its-devices",
        edits: &[(
            "ctimanager/src/node/cti_manager/portions.rs",
            "self.model(step, device_model::Input::SessionEnded(id));",
            "if !SABOTAGED { self.model(step, device_model::Input::SessionEnded(id)); }",
        )],
    },
    Bug {
        name: "a-takeover-leaves-the-old-connection",
        edits: &[(
            "ctimanager/src/node/cti_manager/open.rs",
            "if let Some(old) = superseded {",
            "if let Some(old) = superseded.filter(|_| !SABOTAGED) {",
        )],
    },
    Bug {
        name: "one-of-two-watchers-is-not-told",
        edits: &[(
            "ctimanager/src/node/cti_manager/applications.rs",
            "        for id in sessions {\n",
            "        for id in sessions.iter().take(if SABOTAGED { 1 } else { usize::MAX }) {\n",
        )],
    },
    Bug {
        name: "a-device-that-left-the-list-stays-open",
        edits: &[(
            "ctimanager/src/node/cti_manager/reload.rs",
            "let revoked = self.revocations(&reload);",
            "let revoked = if SABOTAGED { Vec::new() } else { self.revocations(&reload) };",
        )],
    },
    Bug {
        name: "a-snapshot-of-a-restricted-phone",
        edits: &[(
            "ctimanager/src/node/cti_manager/pages.rs",
            "legs.retain(|leg| self.may_hear(capture.session, Topic::Line(&name, &leg.dn)));",
            "legs.retain(|leg| SABOTAGED || self.may_hear(capture.session, Topic::Line(&name, &leg.dn)));",
        )],
    },
    Bug {
        name: "a-static-port-for-two",
        edits: &[(
            "device-model/src/devices.rs",
            "(Some(M::Static { .. }), _) => refusal(",
            "(Some(M::Static { .. }), _) if SABOTAGED => Ok(Some(media)),\n(Some(M::Static { .. }), _) => refusal(",
        )],
    },
    Bug {
        name: "crossing-offers-are-both-taken",
        // Two rooms look: the wire's and the model's.
        edits: &[
            (
                "sip/src/invite/leg/glare.rs",
                "(offers || is_invite).then_some(491)",
                "(offers || is_invite).then_some(491).filter(|_| !SABOTAGED)",
            ),
            (
                "device-model/src/media_exchange.rs",
                "!is_busy(end) && !is_busy(peer))",
                "(SABOTAGED || !is_busy(end) && !is_busy(peer)))",
            ),
        ],
    },
    Bug {
        name: "a-released-leg-keeps-its-sip-call",
        edits: &[(
            "ctimanager/src/node/call_manager/sip_legs.rs",
            "EndCommand::Release { cause } => {\n                self.forget_end(end);",
            "EndCommand::Release { cause } => {\n                if !SABOTAGED { self.forget_end(end); }",
        )],
    },
    Bug {
        name: "a-repeated-200-is-not-acknowledged-again",
        edits: &[(
            "sip/src/stack/mod.rs",
            "self.core.acknowledge_again(&key, out)",
            "let mut nobody = Vec::new();\nself.core.acknowledge_again(&key, if SABOTAGED { &mut nobody } else { out })",
        )],
    },
    Bug {
        name: "streams-that-never-stop",
        edits: &[(
            "device-model/src/clearing.rs",
            "        self.stop_streams(id);\n",
            "if !SABOTAGED { self.stop_streams(id); }\n",
        )],
    },
    Bug {
        name: "the-other-end-is-not-told",
        edits: &[(
            "device-model/src/clearing.rs",
            "let clearing = if gone == Some(*leg) {",
            "let clearing = if gone == Some(*leg) || SABOTAGED && gone.is_some() {",
        )],
    },
    Bug {
        name: "what-a-restriction-hid-is-never-told",
        edits: &[(
            "ctimanager/src/node/cti_manager/reload.rs",
            "let difference = self.mirror.reached(&device);",
            "let difference = self.mirror.reached(&device).filter(|_| !SABOTAGED);",
        )],
    },
    Bug {
        name: "who-answers-a-caller-on-hold-waits-for-ever",
        edits: &[(
            "device-model/src/media_exchange.rs",
            "|end| end.channel() == Channel::Closed)",
            "|end| end.channel() == Channel::Closed && !SABOTAGED)",
        )],
    },
    // Those that only the hostile neighbour finds.
    Bug {
        name: "who-has-seen-the-tags-is-believed",
        edits: &[(
            "sip/src/stack/belonging.rs",
            "if !self.comes_from_its_peer(handle, hop, request, asked.tag, directory)",
            "if !SABOTAGED && !self.comes_from_its_peer(handle, hop, request, asked.tag, directory)",
        )],
    },
    Bug {
        name: "a-strangers-invite-has-a-transaction",
        edits: &[(
            "sip/src/stack/door.rs",
            "            Ok(proved) => Some(proved),\n",
            "Ok(proved) => Some(proved),\nErr(_) if SABOTAGED && request.method == Method::Invite && self.registrar.ways().all(|(_, way, _)| way.remote != hop.remote) => Some(Proved::Unregistered),\n",
        )],
    },
    Bug {
        name: "a-stranger-is-answered-twice",
        edits: &[(
            "sip/src/stack/door.rs",
            "                self.core.transactions.answer(hop, *refusal, out);\n",
            "if SABOTAGED { self.core.transactions.answer(hop, (*refusal).clone(), out); }\nself.core.transactions.answer(hop, *refusal, out);\n",
        )],
    },
    Bug {
        name: "a-strangers-guesses-lock-an-application-out",
        edits: &[(
            "security/src/shares/doors.rs",
            "if let Some(name) = self.home(name, from) {\n            let wait",
            "if let Some(name) = self.home(name, from).filter(|_| !SABOTAGED) {\n            let wait",
        )],
    },
    Bug {
        name: "one-users-requests-use-up-the-others-rate",
        edits: &[(
            "ctimanager/src/node/cti_manager/applications.rs",
            "|(rate, who)| shares.take(now, rate, &who, 1))",
            "|(rate, who)| { let one = security::shares::Who::address(std::net::Ipv4Addr::UNSPECIFIED.into());\nshares.take(now, rate, if SABOTAGED { &one } else { &who }, 1) })",
        )],
    },
    // Those that the model of what was promised finds: who is told, where a call goes, what is shown, by when, who hears whom.
    Bug {
        name: "an-event-to-the-wrong-session-after-a-resume",
        edits: &[
            (
                "protocol/src/session/machine.rs",
                "    /// Whether anything waits to be written.\n",
                "    #[allow(missing_docs)]\n    pub fn has_come_back(&self) -> bool { SABOTAGED && self.attachment > 1 }\n    /// Whether anything waits to be written.\n",
            ),
            (
                "ctimanager/src/node/cti_manager/applications.rs",
                "            if let Some(mut session) = self.applications.sessions.get_mut(*id) {\n                session.event(event);",
                "            let all = &self.applications.sessions;\nlet wrong = SABOTAGED && all.get(*id).is_some_and(|s| s.has_come_back());\nlet id = &wrong.then(|| all.iter().map(|s| s.id()).find(|other| other != id)).flatten().unwrap_or(*id);\nif let Some(mut session) = self.applications.sessions.get_mut(*id) {\n                session.event(event);",
            ),
        ],
    },
    Bug {
        name: "a-reply-that-matches-a-token-of-an-earlier-life",
        edits: &[(
            "protocol/src/session/machine.rs",
            "if waiter.attachment == self.attachment {",
            "if SABOTAGED || waiter.attachment == self.attachment {",
        )],
    },
    Bug {
        name: "of-two-applications-that-fail-in-one-step-one-keeps-its-devices",
        edits: &[
            (
                "ctimanager/src/node/cti_manager/applications.rs",
                "        let begin = step.said_so_far();\n        for _ in 0..TIMERS_AT_ONCE {\n",
                "        let begin = step.said_so_far();\nlet mut failed = usize::from(!SABOTAGED);\n        for _ in 0..TIMERS_AT_ONCE {\n",
            ),
            (
                "ctimanager/src/node/cti_manager/applications.rs",
                "                SessionTimeout::GraceOver => self.end_session(step, id, Trigger::GraceOver),",
                "                SessionTimeout::GraceOver if SABOTAGED && failed > 0 => drop(self.forget_session(step, id, Trigger::GraceOver)),\nSessionTimeout::GraceOver => { failed += 1; self.end_session(step, id, Trigger::GraceOver) }",
            ),
        ],
    },
    Bug {
        name: "cfof-is-not-followed",
        edits: &[(
            "device-model/src/forwarding.rs",
            "            (FailureOrigin::ApplicationGone, _) => forward(",
            "            (FailureOrigin::ApplicationGone, _) if SABOTAGED => None,\n(FailureOrigin::ApplicationGone, _) => forward(",
        )],
    },
    Bug {
        name: "forwards-are-not-followed-when-a-phone-fails",
        edits: &[(
            "device-model/src/forwarding.rs",
            "            (FailureOrigin::FarEnd | FailureOrigin::NoAnswer | FailureOrigin::DeviceGone, cause) => {",
            "            (FailureOrigin::FarEnd | FailureOrigin::NoAnswer, _) if SABOTAGED => None,\n(FailureOrigin::FarEnd | FailureOrigin::NoAnswer | FailureOrigin::DeviceGone, cause) => {",
        )],
    },
    Bug {
        name: "a-dead-application-is-found-after-three-intervals",
        edits: &[
            (
                "protocol/src/session/machine.rs",
                "if now >= patience + AWAY && !*excused {",
                "if now >= patience + AWAY && !*excused && !SABOTAGED {",
            ),
            (
                "protocol/src/session/machine.rs",
                "} else if now >= patience {",
                "} else if now >= patience + (if SABOTAGED { self.config.heartbeat } else { Duration::ZERO }) {",
            ),
            (
                "protocol/src/session/link.rs",
                "            Link::Attached { received, sent, .. } =>",
                "            Link::Attached { received, sent, .. } if SABOTAGED => (received + 3 * interval).min(sent + interval),\n            Link::Attached { received, sent, .. } =>",
            ),
        ],
    },
    Bug {
        name: "a-frozen-application-is-given-up-after-one-interval",
        edits: &[(
            "protocol/src/session/machine.rs",
            "                if now < *sent + self.config.heartbeat {",
            "                if SABOTAGED && now >= *received + self.config.heartbeat { let connection = *connection; return Some(SessionTimeout::Silent { connection, fate: self.let_go(now) }); }\n                if now < *sent + self.config.heartbeat {",
        )],
    },
    Bug {
        name: "a-grace-twice-as-long",
        edits: &[(
            "protocol/src/session/machine.rs",
            "        let until = now + self.config.grace;",
            "        let until = now + (if SABOTAGED { 2 } else { 1 }) * self.config.grace;",
        )],
    },
    Bug {
        name: "another-users-session-goes-on",
        edits: &[(
            "protocol/src/session/registry.rs",
            "            (Some(entry), _) if &*entry.session.config().user == user => {",
            "            (Some(entry), _) if SABOTAGED || &*entry.session.config().user == user => {",
        )],
    },
    Bug {
        name: "retrieve-leaves-media-on-hold",
        edits: &[(
            "device-model/src/requests.rs",
            "        self.set_hold(id, Hold::Off);",
            "        self.set_hold(id, if SABOTAGED { Hold::On } else { Hold::Off });",
        )],
    },
    Bug {
        name: "every-end-has-cause-16",
        edits: &[(
            "device-model/src/clearing.rs",
            "        let Some(leg) = self.calls.leg_mut(id) else { return };\n        leg.cause = Some(cause);\n        let end",
            "        let cause = if SABOTAGED { Cause::NORMAL_CLEARING } else { cause };\n        let Some(leg) = self.calls.leg_mut(id) else { return };\n        leg.cause = Some(cause);\n        let end",
        )],
    },
    Bug {
        name: "an-accept-timer-ten-times-too-long",
        edits: &[(
            "device-model/src/call_setup.rs",
            "            self.set_timer(Timer::NewCallAccept(attempt), self.plan.parameters.new_call_accept);",
            "            self.set_timer(Timer::NewCallAccept(attempt), (if SABOTAGED { 10 } else { 1 }) * self.plan.parameters.new_call_accept);",
        )],
    },
    Bug {
        name: "cfna-after-twice-its-time",
        edits: &[(
            "device-model/src/call_setup.rs",
            "            self.set_timer(Timer::NoAnswer(attempt), self.ring_duration(&dn));",
            "            self.set_timer(Timer::NoAnswer(attempt), (if SABOTAGED { 2 } else { 1 }) * self.ring_duration(&dn));",
        )],
    },
    Bug {
        name: "wrong-parties-after-a-failed-redirect",
        edits: &[(
            "device-model/src/redirect.rs",
            "        self.see_again(seen);\n        let Some(call) = self.calls.call_mut(call_id) else { return };\n        call.search_as_before(search);",
            "        if !SABOTAGED { self.see_again(seen); }\n        let Some(call) = self.calls.call_mut(call_id) else { return };\n        call.search_as_before(search);",
        )],
    },
    Bug {
        name: "user-data-are-lost-by-a-redirect",
        edits: &[(
            "device-model/src/redirect.rs",
            "        let search = call.search_anew(now, SERVED);",
            "        if SABOTAGED { call.set_user_data(std::sync::Arc::default()); }\n        let search = call.search_anew(now, SERVED);",
        )],
    },
    Bug {
        name: "a-hold-that-is-not-told",
        edits: &[(
            "device-model/src/media_exchange.rs",
            "        if leg.state() == from {\n            self.enter(id, to);",
            "        if leg.state() == from && !(SABOTAGED && to == LegState::Held) {\n            self.enter(id, to);",
        )],
    },
    Bug {
        name: "a-forward-keeps-no-last-redirecting-party",
        edits: &[(
            "device-model/src/forwarding.rs",
            "        parties.last_redirecting = Some(from_party);",
            "        parties.last_redirecting = Some(from_party).filter(|_| !SABOTAGED);",
        )],
    },
    Bug {
        name: "a-forward-forgets-who-was-called-first",
        edits: &[(
            "device-model/src/forwarding.rs",
            "        parties.original_called.get_or_insert_with(|| from_party.clone());",
            "        if SABOTAGED { parties.original_called = None; }\n        parties.original_called.get_or_insert_with(|| from_party.clone());",
        )],
    },
    Bug {
        name: "a-forward-has-no-reason",
        edits: &[(
            "device-model/src/call_setup.rs",
            "                    reason = why;",
            "                    reason = if SABOTAGED { Reason::Normal } else { why };",
        )],
    },
    Bug {
        name: "the-address-of-the-last-media-session-is-said-again",
        edits: &[(
            "device-model/src/media_exchange.rs",
            "        application.open(address, by);",
            "        let address = application.last_address().filter(|_| SABOTAGED).unwrap_or(address);\n        application.open(address, by);",
        )],
    },
    Bug {
        name: "a-transfer-of-the-media-address-to-the-wrong-end",
        edits: &[(
            "device-model/src/media_exchange.rs",
            "                let wait = dialog.told() == Some(truth) || offered || dialog.rounds() >= MAX_ROUNDS;",
            "                let stays = SABOTAGED && dialog.told().is_some_and(|told| told.peer != p);\n                let wait = stays || dialog.told() == Some(truth) || offered || dialog.rounds() >= MAX_ROUNDS;",
        )],
    },
    // Those that the records of transitions find.
    Bug {
        name: "a-hold-without-a-record",
        edits: &[(
            "device-model/src/leg.rs",
            "            self.record(LegChange::State { from, to: state, cause: self.cause }, recorder);",
            "            if !(SABOTAGED && state == LegState::Held) { self.record(LegChange::State { from, to: state, cause: self.cause }, recorder); }",
        )],
    },
    Bug {
        name: "a-call-ends-without-a-record",
        edits: &[(
            "device-model/src/calls.rs",
            "        if removed.is_some() {\n            recorder.record(What::Call(id, change));",
            "        if removed.is_some() && !SABOTAGED {\n            recorder.record(What::Call(id, change));",
        )],
    },
    Bug {
        name: "a-revoked-device-closes-without-a-record",
        edits: &[(
            "device-model/src/openings.rs",
            "        if !struck.is_empty() {",
            "        if !struck.is_empty() && !SABOTAGED {",
        )],
    },
    Bug {
        name: "a-port-leaves-service-without-a-record",
        edits: &[(
            "device-model/src/devices.rs",
            "            self.weigh_node();\n            self.record_service(name);",
            "            self.weigh_node();\n            if !SABOTAGED { self.record_service(name); }",
        )],
    },
    Bug {
        name: "a-silent-session-is-lost-without-a-record",
        edits: &[(
            "ctimanager/src/node/cti_manager/applications.rs",
            "        step.record_loss(id, fate, Trigger::HeartbeatTimeout);",
            "        if !SABOTAGED { step.record_loss(id, fate, Trigger::HeartbeatTimeout); }",
        )],
    },
];
