//! Streams: which media a leg's device sends and receives, and the events `media.started` and `media.stopped`.

use crate::codec_choice::{abilities, agreed_by_applications, best_of, pair_of_lines};
use crate::control::CallControl;
use crate::end::{DialogState, End, Remote};
use crate::ids::{CallId, EndId, LegId};
use crate::leg::Hold;
use crate::media::{AudioLine, Codec, Crypto, Description, Direction, Flow, Format, Stream, StreamDirection};
use crate::media_exchange::local_address;
use crate::port::Event;
use crate::view::Security;
use std::net::SocketAddr;

/// What an application and the far end of its peer's signalling have agreed on.
pub(crate) struct Terms {
    pub(crate) codec: Codec,
    /// The place of the audio line.
    pub(crate) place: usize,
    /// What the application receives: as it was written to the far end.
    pub(crate) input: Types,
    /// What the application sends: as the far end says.
    pub(crate) output: Types,
    /// Where the far end receives.
    far: SocketAddr,
    /// The far end's direction.
    direction: Direction,
}

/// How one direction's packets look.
#[derive(Clone, Copy)]
pub(crate) struct Types {
    pub(crate) payload_type: u8,
    pub(crate) dtmf_payload_type: Option<u8>,
    pub(crate) packet_ms: u16,
}

impl Types {
    fn of(line: &AudioLine, format: &Format) -> Types {
        let (payload_type, packet_ms) = (format.payload_type, line.packet_ms);
        Types { payload_type, dtmf_payload_type: line.dtmf_payload_type, packet_ms }
    }
}

impl Terms {
    /// `None` where the application can't speak what the far end said last, or it said nothing yet.
    pub(crate) fn of(application: &End, end: &End) -> Option<Terms> {
        let dialog = end.dialog()?;
        let (line, format) = abilities(application)?.choose(dialog.far()?)?;
        let output = Types::of(line, format);
        let written = dialog.said().and_then(|said| Some(Types::of(said, said.format_of(&format.codec)?)));
        // Events are agreed on where both know them.
        let input = written.map_or(output, |written| Types {
            dtmf_payload_type: written.dtmf_payload_type.filter(|_| output.dtmf_payload_type.is_some()),
            ..written
        });
        let (codec, place, far) = (format.codec.clone(), line.place, line.address);
        Some(Terms { codec, place, input, output, far, direction: line.direction })
    }

    fn stream(&self, types: Types) -> Stream {
        Stream {
            direction: StreamDirection::Input,
            address: self.far,
            codec: self.codec.clone(),
            payload_type: types.payload_type,
            packet_ms: types.packet_ms,
            dtmf_payload_type: types.dtmf_payload_type,
            mode: Direction::SendReceive,
            key: None,
        }
    }
}

impl CallControl {
    /// Tells which streams ceased, which began, and which go on with another key, once both ends have agreed; silence is told at once.
    pub(crate) fn update_streams(&mut self, call: CallId) {
        for (x, y) in self.links(call) {
            self.update_link(x, y);
        }
    }

    /// The legs of two ends that have agreed are told what holds of their media now, before the streams that it is about.
    fn tell_security(&mut self, ends: [EndId; 2]) {
        let legs = ends.map(|end| self.calls.end(end).filter(|end| end.is_idle()).and_then(End::leg));
        let [Some(x), Some(y)] = legs else { return };
        for id in [x, y] {
            let Some(leg) = self.calls.leg(id) else { continue };
            if self.security_of(leg) != leg.security {
                self.tell_of(id, Event::LegChanged);
            }
        }
    }

    fn update_link(&mut self, x: EndId, y: EndId) {
        self.tell_security([x, y]);
        let (Some(x), Some(y)) = (self.calls.end(x), self.calls.end(y)) else { return };
        let (x_leg, y_leg) = (x.leg(), y.leg());
        if self.hold_between(x, y) == Hold::On {
            [x_leg, y_leg].into_iter().flatten().for_each(|leg| self.stop_streams(leg));
            return;
        }
        if !x.is_idle() || !y.is_idle() || x.is_asked() || y.is_asked() {
            return;
        }
        let at = |leg: Option<LegId>, end, peer| leg.map(|leg| (leg, self.streams_at(leg, end, peer)));
        for (leg, streams) in [at(x_leg, x, y), at(y_leg, y, x)].into_iter().flatten() {
            self.change_streams(leg, streams);
        }
    }

    /// The streams of a leg, as its device sees them; a trunk's are nobody's.
    fn streams_at(&self, leg: LegId, end: &End, peer: &End) -> [Option<Stream>; 2] {
        let has_line = self.calls.leg(leg).is_some_and(|leg| leg.at.line().is_some());
        if has_line { streams(end, peer) } else { [None, None] }
    }

    pub(crate) fn stop_streams(&mut self, leg: LegId) {
        self.change_streams(leg, [None, None]);
    }

    fn change_streams(&mut self, id: LegId, wanted: [Option<Stream>; 2]) {
        let Some(leg) = self.calls.leg_mut(id) else { return };
        let changes = std::array::from_fn::<bool, 2, _>(|i| {
            !Stream::is_same(leg.running[i].as_ref(), wanted[i].as_ref())
        });
        let before = std::mem::replace(&mut leg.running, wanted.clone());
        for (i, direction) in [StreamDirection::Input, StreamDirection::Output].into_iter().enumerate() {
            if changes[i] && before[i].is_some() {
                self.tell_of(id, |leg| Event::MediaStopped(leg, direction));
            }
        }
        for (i, stream) in wanted.into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            if changes[i] {
                self.tell_of(id, |leg| Event::MediaStarted(leg, stream));
            } else if before[i].as_ref().is_some_and(|before| before.key != stream.key) {
                self.tell_of(id, |leg| Event::KeyChanged(leg, stream));
            }
        }
    }

    /// Early media: the only one who was called plays to the caller before it answers. Only the caller's streams are
    /// told, the other's leg is not connected.
    pub(crate) fn update_early_streams(&mut self, call: CallId) {
        let Some(call) = self.calls.call(call) else { return };
        let attempt = call.conversation.attempt().and_then(|attempt| self.calls.attempt(attempt));
        let early = attempt.and_then(|attempt| attempt.early);
        let anchor = self.anchor(call.id).and_then(|anchor| self.calls.leg(anchor));
        let (Some(leg), Some(branch)) = (anchor, early) else { return };
        let (Some(caller), Some(branch)) = (self.end_at(leg.id), self.end_at(branch)) else { return };
        let hears = match caller {
            End::Application(_) => local_address(caller).is_some(),
            End::Dialog(dialog) | End::Remote(Remote { dialog, .. }) => {
                dialog.state() == DialogState::Incoming
            }
            End::BridgePort(_) | End::Source(_) => false,
        };
        if hears && leg.hold == Hold::Off {
            let (id, streams) = (leg.id, self.streams_at(leg.id, caller, branch));
            self.change_streams(id, streams);
        }
    }
}

/// The streams of an end, as its device sees them.
fn streams(end: &End, peer: &End) -> [Option<Stream>; 2] {
    let streams = match (end.is_local(), peer.is_local()) {
        (true, false) => application_streams(end, peer),
        (true, true) => inner_streams(end, peer),
        // The other way round: what the application sends is what the phone receives.
        (false, true) => application_streams(peer, end).and_then(|[input, output]| {
            let (here, there) = (Terms::of(peer, end)?.far, local_address(peer)?);
            Some(pair_of(output.map(|s| (here, s)), input.map(|s| (there, s))))
        }),
        (false, false) => relayed_streams(end, peer),
    };
    streams.unwrap_or([None, None])
}

fn application_streams(end: &End, peer: &End) -> Option<[Option<Stream>; 2]> {
    let (terms, local) = (Terms::of(end, peer)?, local_address(end)?);
    let input = terms.direction.sends().then(|| (local, terms.stream(terms.input)));
    let output = terms.direction.receives().then(|| (terms.far, terms.stream(terms.output)));
    Some(pair_of(input, output))
}

fn inner_streams(end: &End, peer: &End) -> Option<[Option<Stream>; 2]> {
    let (here, there) = (local_address(end)?, local_address(peer)?);
    let (format, packet_ms, dtmf_payload_type) = agreed_by_applications(end, peer)?;
    let stream = Stream {
        direction: StreamDirection::Input,
        address: here,
        codec: format.codec,
        payload_type: format.payload_type,
        packet_ms,
        dtmf_payload_type: Some(dtmf_payload_type),
        mode: Direction::SendReceive,
        key: None,
    };
    Some(pair_of(Some((here, stream.clone())), Some((there, stream))))
}

/// What holds for all that two far ends say to each other.
pub(crate) fn security_between(here: &Description, there: &Description) -> Security {
    let both_signal_over_tls = here.over_tls && there.over_tls;
    let others_clear = here.other_media && there.other_media && (here.other_clear || there.other_clear);
    // Of lines at the same place, both live, each has keys.
    let beside = here.audio.iter().filter(|line| line.is_live()).all(|line| {
        let other = there.audio.iter().find(|other| other.is_live() && other.place == line.place);
        other.is_none_or(|other| Crypto::agreed(line, other).is_some())
    });
    let audio = pair_of_lines(here, there).is_some_and(|(here, there)| Crypto::agreed(here, there).is_some());
    match (both_signal_over_tls, audio && beside && !others_clear) {
        (true, true) => Security::Encrypted,
        (true, false) => Security::Authenticated,
        (false, _) => Security::None,
    }
}

fn relayed_streams(end: &End, peer: &End) -> Option<[Option<Stream>; 2]> {
    let (here, there) = pair_of_lines(end.far()?, peer.far()?)?;
    let (own_key, other_key) = Crypto::agreed(here, there).unzip();
    let stream = |of: &AudioLine, format: &Format, key| Stream {
        direction: StreamDirection::Input,
        address: of.address,
        codec: format.codec.clone(),
        payload_type: format.payload_type,
        packet_ms: of.packet_ms,
        dtmf_payload_type: of.dtmf_payload_type,
        mode: Direction::SendReceive,
        key,
    };
    let (own, other) = (best_of(here, there)?, best_of(there, here)?);
    let input = (here.direction.receives() && there.direction.sends())
        .then(|| (here.address, stream(here, own, other_key)));
    let output = (here.direction.sends() && there.direction.receives())
        .then(|| (there.address, stream(there, other, own_key)));
    Some(pair_of(input, output))
}

fn pair_of(input: Option<(SocketAddr, Stream)>, output: Option<(SocketAddr, Stream)>) -> [Option<Stream>; 2] {
    let mode = Direction::from(Flow { sends: output.is_some(), receives: input.is_some() });
    let make = |direction| {
        move |(address, stream): (SocketAddr, Stream)| Stream { direction, address, mode, ..stream }
    };
    [input.map(make(StreamDirection::Input)), output.map(make(StreamDirection::Output))]
}
