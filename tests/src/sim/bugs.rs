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
        edits: &[(
            "protocol/src/session/machine.rs",
            "        self.queue.push(reply);\n        self.queue.replay(last_seq + 1, &mut self.log);\n",
            "if SABOTAGED { self.queue.replay(last_seq + 1, &mut self.log); self.queue.push(reply); } else {\nself.queue.push(reply);\nself.queue.replay(last_seq + 1, &mut self.log); }\n",
        )],
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
            "ctimanager/src/node/open.rs",
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
            "ctimanager/src/node/portions.rs",
            "self.model(step, device_model::Input::SessionEnded(id));",
            "if !SABOTAGED { self.model(step, device_model::Input::SessionEnded(id)); }",
        )],
    },
    Bug {
        name: "a-takeover-leaves-the-old-connection",
        edits: &[(
            "ctimanager/src/node/open.rs",
            "if let Some(old) = superseded {",
            "if let Some(old) = superseded.filter(|_| !SABOTAGED) {",
        )],
    },
    Bug {
        name: "one-of-two-watchers-is-not-told",
        edits: &[(
            "ctimanager/src/node/applications.rs",
            "        for id in sessions {\n",
            "        for id in sessions.iter().take(if SABOTAGED { 1 } else { usize::MAX }) {\n",
        )],
    },
    Bug {
        name: "a-device-that-left-the-list-stays-open",
        edits: &[(
            "ctimanager/src/node/reload.rs",
            "revoked.extend(self.revocations(&reload));",
            "if !SABOTAGED { revoked.extend(self.revocations(&reload)); }",
        )],
    },
    Bug {
        name: "a-snapshot-of-a-restricted-phone",
        edits: &[(
            "ctimanager/src/node/pages.rs",
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
                "sip/src/call/leg/peer.rs",
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
            "ctimanager/src/node/bridge.rs",
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
            "device-model/src/ending.rs",
            "        self.stop_streams(id);\n",
            "if !SABOTAGED { self.stop_streams(id); }\n",
        )],
    },
    Bug {
        name: "the-other-end-is-not-told",
        edits: &[(
            "device-model/src/ending.rs",
            "let clearing = if gone == Some(*leg) {",
            "let clearing = if gone == Some(*leg) || SABOTAGED && gone.is_some() {",
        )],
    },
    Bug {
        name: "what-a-restriction-hid-is-never-told",
        edits: &[(
            "device-model/src/settling.rs",
            "        self.unmute(name);\n",
            "if !SABOTAGED { self.unmute(name); }\n",
        )],
    },
    Bug {
        name: "who-answers-a-caller-on-hold-waits-for-ever",
        edits: &[(
            "device-model/src/media_exchange.rs",
            "|end| end.channel == Channel::Closed)",
            "|end| end.channel == Channel::Closed && !SABOTAGED)",
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
            "ctimanager/src/node/applications.rs",
            "|(rate, who)| shares.take(now, rate, &who, 1))",
            "|(rate, who)| { let one = security::shares::Who::address(std::net::Ipv4Addr::UNSPECIFIED.into());\nshares.take(now, rate, if SABOTAGED { &one } else { &who }, 1) })",
        )],
    },
];
