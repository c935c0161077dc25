//! What sessions ask of CallManager: the queue of what is not handed over yet, and what is to be done when an answer comes.
//! It may come in the same step or in a later one.

use super::CtiManager;
use super::applications::Applications;
use crate::node::delay::Delay;
use crate::node::messages::{Ask, Sender};
use crate::node::port::Output;
use crate::node::{Step, alarms};
use device_model::{DeviceName, Identity, Refusal, Reply, RequestToken, SessionId};
use protocol::CtiError;
use protocol::methods::{Method, PageSize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// What is to be done when the request is answered, beyond the answer.
pub(in crate::node) enum Asked {
    /// It opens this device; its answer has so many legs at most.
    Open(DeviceName, Option<PageSize>),
    /// It closes this device.
    Close(DeviceName),
}

impl Asked {
    pub(in crate::node) fn of(method: &Method) -> Option<Self> {
        if let Method::DeviceOpen(open) = method {
            return Some(Self::Open(open.device.clone(), open.limit));
        }
        let Method::DeviceClose(close) = method else { return None };
        Some(Self::Close(close.device.clone()))
    }
}

/// How much of what waits is handed over in a step.
const MOST_AT_ONCE: usize = 3;

/// All that is asked and not answered.
pub(in crate::node) struct Asking {
    /// Not handed over yet.
    queue: VecDeque<Ask>,
    sending: Sender,
    asked: BTreeMap<(SessionId, RequestToken), Asked>,
    delay: Option<Delay>,
}

impl Asking {
    pub(in crate::node) fn new(identity: &Identity) -> Self {
        let (queue, asked) = (VecDeque::new(), BTreeMap::new());
        Self { queue, sending: Sender::new(identity), asked, delay: None }
    }

    pub(in crate::node) fn next_timeout(&self) -> Option<Instant> {
        self.delay.as_ref().filter(|_| !self.queue.is_empty()).and_then(Delay::due)
    }

    /// The session has ended: nobody wants an answer.
    pub(in crate::node) fn forget(&mut self, id: SessionId) {
        self.queue.retain(|ask| !matches!(ask, Ask::Request { session, .. } if *session == id));
        let all = (id, RequestToken(0))..=(id, RequestToken(u64::MAX));
        let tokens: Vec<_> = self.asked.range(all).map(|(asked, _)| *asked).collect();
        tokens.iter().for_each(|asked| drop(self.asked.remove(asked)));
    }

    fn take(&mut self, id: SessionId, token: RequestToken) -> Option<Asked> {
        if self.asked.is_empty() { None } else { self.asked.remove(&(id, token)) }
    }
}

impl CtiManager {
    /// From now on what is asked waits for some steps, as it does between nodes: for tests and simulations.
    pub(in crate::node) fn delay_requests(&mut self, seed: u64) {
        self.applications.asking.delay = Some(Delay::new(seed));
    }

    /// Whether something is asked and not handed over.
    pub(in crate::node) fn has_requests_waiting(&self) -> bool {
        !self.applications.asking.queue.is_empty()
    }

    pub(in crate::node) fn remember_asked(
        &mut self,
        id: SessionId,
        token: RequestToken,
        asked: Option<Asked>,
    ) {
        if let Some(asked) = asked {
            self.applications.asking.asked.insert((id, token), asked);
        }
    }

    /// Asks CallManager. The answer comes by [`CtiManager::answered`].
    pub(in crate::node) fn ask(&mut self, step: &mut Step<'_>, ask: Ask) {
        let asking = &mut self.applications.asking;
        let is_first = asking.queue.is_empty();
        asking.queue.push_back(ask);
        match &mut asking.delay {
            None => self.deliver(step, usize::MAX),
            Some(delay) if is_first => delay.wait(step.now),
            Some(_) => {}
        }
    }

    /// Hands over what waits and has its time.
    pub(in crate::node) fn deliver_some(&mut self, step: &mut Step<'_>) {
        let asking = &mut self.applications.asking;
        if let Some(delay) = asking.delay.as_mut().filter(|_| !asking.queue.is_empty()) {
            let most = delay.some(step.now, MOST_AT_ONCE);
            self.deliver(step, most);
            let Applications { asking: Asking { queue, delay, .. }, .. } = &mut self.applications;
            if let Some(delay) = delay.as_mut().filter(|_| !queue.is_empty()) {
                delay.wait(step.now);
            }
        }
    }

    /// Hands over so many at most, in their order.
    pub(in crate::node) fn deliver(&mut self, step: &mut Step<'_>, most: usize) {
        for _ in 0..most {
            let asking = &mut self.applications.asking;
            let Some(ask) = asking.queue.pop_front() else { break };
            let envelope = self.passage.pass(asking.sending.send(step.wall, ask));
            self.calls(step, |calls, turn| calls.asked(turn, envelope));
        }
    }

    /// What CallManager answered.
    pub(in crate::node) fn answered(
        &mut self,
        step: &mut Step<'_>,
        id: SessionId,
        token: RequestToken,
        result: Result<Reply, Refusal>,
    ) {
        if self.applications.sessions.get(id).is_none() {
            // It ended while the answer was under way, and its devices were let go of.
            return;
        }
        if let Ok(reply) = &result {
            self.keeping.opened(id, reply);
        }
        if let Ok(Reply::Opened { device, legs }) = &result {
            self.applications.owners.told(device);
            self.mirror.opened_by_answer(id, device, legs);
        }
        let opened = match &result {
            Ok(Reply::Opened { device, .. }) => Some(device.name.clone()),
            Ok(_) | Err(_) => None,
        };
        let asked = self.applications.asking.take(id, token);
        if let (Some(Asked::Close(device)), Ok(_)) = (&asked, &result) {
            self.mirror.closed(id, device);
        }
        if let Some(Asked::Close(device)) = &asked {
            self.note_opened(id, device);
            self.keeping.device(id, device);
        }
        let limit = if let Some(Asked::Open(_, limit)) = &asked { *limit } else { None };
        let answer = match result {
            Ok(reply) => Ok(self.answer_in_pages(step, id, &reply, limit)),
            Err(refusal) => Err(CtiError::from(refusal)),
        };
        if let Some(asked) = asked {
            self.report_device(step, id, &asked, answer.as_ref().err());
        }
        self.reply(id, token, answer);
        if let Some(device) = opened {
            self.tell_running_keys(step, id, &device);
        }
    }

    fn report_device(&mut self, step: &mut Step<'_>, id: SessionId, asked: &Asked, error: Option<&CtiError>) {
        let mut parameters = self.who(id);
        let (device, definition) = match (asked, error) {
            (Asked::Open(device, _), None) => (device, &alarms::DEVICE_OPENED),
            (Asked::Open(device, _), Some(_)) => (device, &alarms::DEVICE_OPEN_FAILURE),
            (Asked::Close(device), None) => (device, &alarms::DEVICE_CLOSED),
            (Asked::Close(_), Some(_)) => return,
        };
        parameters.push(("device", device.to_string()));
        parameters.extend(error.map(|error| ("reason", error.symbol.name().to_owned())));
        let report = step.alarms.occur(definition, parameters);
        step.out.push(Output::Report(report));
    }
}
