//! Restricted phones and lines (`allow_cti_control: false`). Their calls go on, and their legs are hidden (*muted*):
//! applications get no events of them. When the restriction ends, applications that have the device open get the present
//! state of each call that is there, and the end of those that they knew and that ended meanwhile (reference §2.7). Of a call
//! that came and went during the restriction they get nothing.
//!
//! Calls at ports and route points are cleared when a restriction begins (`reconcile`).

use crate::control::CallControl;
use crate::devices::Device;
use crate::ids::{DeviceName, Dn, LegId, SessionId};
use crate::media::StreamDirection;
use crate::port::Event;
use crate::view::{LegState, LegView};
use std::sync::Arc;

/// What applications know of a leg that is hidden from them.
#[derive(Clone, Debug)]
pub(crate) enum Muted {
    /// It began since then: nothing.
    Unknown,
    /// It was there before: as it was told last. Its streams are those that were told, too.
    Known(Box<LegView>),
}

/// A leg that applications knew, and that ended while it was hidden from them.
#[derive(Clone, Debug)]
pub(crate) struct Unheard {
    told: LegView,
    end: LegView,
    /// The streams that were told: input, output.
    streams: [bool; 2],
}

impl Device {
    /// Whether this line's calls go on and are hidden.
    pub(crate) fn mutes(&self, dn: &Dn) -> bool {
        !self.is_application()
            && (!self.plan.allow_cti_control || self.line(dn).is_some_and(|line| line.restricted))
    }
}

impl CallControl {
    /// A new plan hides what it hides of this device, as it is known now.
    pub(crate) fn mute(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.known(name) else { return };
        let known = !device.openers.is_empty();
        let hidden = |id: &LegId| {
            let leg = self.calls.leg(*id).filter(|leg| leg.muted.is_none())?;
            leg.at.line().filter(|(_, dn)| device.mutes(dn))?;
            let view = known.then(|| self.leg_view(leg)).flatten();
            Some((*id, view.map_or(Muted::Unknown, |view| Muted::Known(Box::new(view)))))
        };
        let hidden: Vec<_> = device.legs.iter().filter_map(hidden).collect();
        for (id, muted) in hidden {
            if let Some(leg) = self.calls.leg_mut(id) {
                leg.muted = Some(muted);
            }
        }
    }

    /// Tells the openers of a device what they missed on lines of which they may hear again.
    pub(crate) fn unmute(&mut self, name: &DeviceName) {
        let Some(device) = self.devices.known_mut(name) else { return };
        let unheard = std::mem::take(&mut device.unheard);
        let (still, unheard) = unheard.into_iter().partition(|leg| device.mutes(&leg.end.dn));
        device.unheard = still;
        let (device, openers) = (&*device, device.openers.clone());
        let heard = |id: &&LegId| {
            let leg = self.calls.leg(**id).filter(|leg| leg.muted.is_some());
            let line = leg.and_then(|leg| leg.at.line()).and_then(|(_, dn)| device.line(dn));
            line.is_some_and(|line| !device.mutes(&line.dn))
        };
        let back: Vec<LegId> = device.legs.iter().filter(heard).copied().collect();
        // All at once, so that nobody who looks again while they are told finds one.
        let take = |id: LegId| Some((id, self.calls.leg_mut(id)?.muted.take()?));
        let back: Vec<(LegId, Muted)> = back.into_iter().filter_map(take).collect();
        for leg in unheard {
            self.tell_end(&openers, leg);
        }
        for (leg, muted) in back {
            self.tell_again(leg, &muted);
        }
    }

    fn tell_end(&mut self, openers: &Arc<[SessionId]>, leg: Unheard) {
        let Unheard { told, end, streams } = leg;
        for direction in running(streams) {
            self.tell(openers.clone(), Event::MediaStopped(told.clone(), direction));
        }
        self.tell(openers.clone(), Event::Leg(end));
    }

    fn tell_again(&mut self, id: LegId, muted: &Muted) {
        let Some(leg) = self.calls.leg(id) else { return };
        let (call, ends) = (leg.call, leg.state() == LegState::Disconnected);
        match (muted, ends) {
            (Muted::Unknown, true) => {}
            (Muted::Known(_), true) => {
                self.stop_streams(id);
                self.tell_of(id, Event::Leg);
            }
            // Also one that is as it was: a snapshot taken meanwhile did not show it.
            (Muted::Unknown | Muted::Known(_), false) => {
                self.tell_of(id, Event::Leg);
                match self.end_of(id).and_then(|end| self.peer_end(end)) {
                    Some(_) => self.update_streams(call),
                    None => self.stop_streams(id),
                }
            }
        }
    }

    /// Who knows a hidden leg that ends because its device or line goes hears that.
    pub(crate) fn unmute_last_words(&mut self, id: LegId) {
        let Some(leg) = self.calls.leg(id).filter(|leg| matches!(leg.muted, Some(Muted::Known(_)))) else {
            return;
        };
        if self.device_at(leg).is_some_and(Device::is_leaving)
            && let Some(leg) = self.calls.leg_mut(id)
        {
            leg.muted = None;
        }
    }

    /// A leg that is hidden has ended: who knew it will be told when he may hear again.
    pub(crate) fn end_unheard(&mut self, id: LegId) {
        let Some(leg) = self.calls.leg_mut(id) else { return };
        let Some(Muted::Known(told)) = leg.muted.take() else { return };
        let streams = leg.running.each_ref().map(Option::is_some);
        let Some(end) = self.calls.leg(id).and_then(|leg| self.leg_view(leg)) else { return };
        if let Some(device) = self.devices.known_mut(&end.device).filter(|device| !device.openers.is_empty())
        {
            device.unheard.push(Unheard { told: *told, end, streams });
        }
    }

    /// Legs of a device that applications knew and that have ended, which they are told when they may hear again.
    pub fn unheard_legs(&self, device: &DeviceName) -> impl Iterator<Item = LegId> {
        self.devices.get(device).into_iter().flat_map(|device| &device.unheard).map(|leg| leg.end.leg)
    }

    /// A leg and which of its streams run (input, output), as applications know them: they are not told of what is hidden
    /// from them. `device` is where it was.
    #[must_use]
    pub fn known_leg(&self, device: Option<&DeviceName>, id: LegId) -> Option<(LegView, [bool; 2])> {
        match self.calls.find_leg(id).map(|leg| (leg, &leg.muted)) {
            Some((_, Some(Muted::Unknown))) => None,
            Some((_, Some(Muted::Known(told)))) => Some(((**told).clone(), self.streams(id))),
            Some((leg, None)) => Some((self.leg_view(leg)?, self.streams(id))),
            None => {
                let unheard = &self.devices.get(device?)?.unheard;
                unheard.iter().find(|leg| leg.end.leg == id).map(|leg| (leg.told.clone(), leg.streams))
            }
        }
    }
}

fn running(streams: [bool; 2]) -> impl Iterator<Item = StreamDirection> {
    let directions = [StreamDirection::Input, StreamDirection::Output];
    streams.into_iter().zip(directions).filter(|(runs, _)| *runs).map(|(_, direction)| direction)
}
