//! Keys of encrypted media for those who may have them. What sessions log and keep is a reference; the key is looked up when
//! the frame of the event goes out, and who may have it is decided then, for a replay as for what is new.

use super::CtiManager;
use super::applications::Provider;
use crate::node::Step;
use crate::node::port::Output;
use device_model::media::Stream;
use device_model::{DeviceName, LegView, SessionId};
use protocol::Frame;
use protocol::event::{SrtpKey, rfc3339};
use protocol::frame::StreamKey;
use security::audit::{AuditRecord, AuditedStream, Outcome};
use security::srtp::base64;
use security::{Action, Actor, Decision, Policy, Transport};
use std::time::SystemTime;

impl CtiManager {
    /// Who has opened a device hears of the keys of what runs there.
    pub(in crate::node) fn tell_running_keys(&mut self, step: &Step<'_>, id: SessionId, opened: &DeviceName) {
        for (leg, stream) in self.mirror.running(opened) {
            self.tell_key(step, &[id], &leg, &stream);
        }
    }

    /// Tells of the key of a stream that starts, runs already, or goes on with another one. Of devices whose media are never
    /// encrypted nothing is told.
    pub(in crate::node) fn tell_key(
        &mut self,
        step: &Step<'_>,
        sessions: &[SessionId],
        leg: &LegView,
        stream: &Stream,
    ) {
        if !self.settings.encrypting.contains_key(leg.device.as_str()) {
            return;
        }
        let event = protocol::Event::key_of(leg, stream);
        let Some(key) = stream.key else { return self.tell_event(step, sessions, event) };
        self.bear_witness(sessions, &event);
        self.note_change(sessions, &event);
        let of = StreamKey { key, leg: leg.leg, direction: stream.direction };
        let event = event.encode(&self.settings.node, step.wall).about_key(of);
        self.tell(sessions, &event);
    }

    /// The frame as its reader may have it. Each key that goes out is a line of the audit log.
    pub(super) fn with_key(
        frame: Frame,
        provider: Option<&Provider>,
        policy: &Policy,
        session: SessionId,
        step: &mut Step<'_>,
    ) -> Frame {
        let (Some(of), Some(provider)) = (frame.key, provider) else { return frame };
        if provider.transport == Transport::Plain {
            return SrtpKey::Unavailable.put_into(&frame);
        }
        let actor = Actor { user: &provider.user, transport: provider.transport };
        let decision = policy.decide(actor, Action::ReceiveSrtpKeys);
        let key = match &decision {
            Decision::Refused(_) => SrtpKey::NotAuthorized,
            Decision::Allowed(_) => available(step, of),
        };
        if let SrtpKey::Available { .. } = key {
            step.calls.key_was_delivered();
            step.out.push(Output::Audit(AuditRecord {
                at: step.wall,
                user: (&*provider.user).into(),
                peer: Some(provider.peer),
                action: "media.srtp_key",
                device: None,
                stream: Some(AuditedStream { session, leg: of.leg, direction: of.direction }),
                outcome: Outcome::from(&decision),
            }));
        }
        key.put_into(&frame)
    }
}

/// The key itself, while it is in custody.
fn available(step: &Step<'_>, of: StreamKey) -> SrtpKey {
    let Some((key, since)) = step.calls.key(of.key) else { return SrtpKey::Unavailable };
    SrtpKey::Available {
        algorithm: key.algorithm().into(),
        key: base64(&key.key).as_str().into(),
        salt: base64(&key.salt).as_str().into(),
        mki: key.mki.as_ref().map(|mki| base64(mki).as_str().into()),
        lifetime: key.lifetime,
        since: rfc3339(since.unwrap_or(SystemTime::UNIX_EPOCH)).into(),
    }
}
