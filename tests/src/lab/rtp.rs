//! The media of a test's own applications: speaks a tone in G.711 µ-law and keeps what it hears. Written from
//! RFC 3550, RFC 4733 and G.711, not from the SDK.

use super::tone::{self, FRAME};
use super::{Lab, eventually};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Most samples that an endpoint keeps: two minutes.
const KEPT: usize = 120 * tone::RATE as usize;
const PCMU: u8 = 0;

/// One RTP address.
pub struct Endpoint {
    /// Where it receives; an even port.
    pub address: SocketAddr,
    socket: Arc<UdpSocket>,
    heard: Arc<Mutex<Heard>>,
    listener: JoinHandle<()>,
    speaker: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    samples: Vec<i16>,
    digits: String,
    last_digit_at: Option<u32>,
    packets: usize,
    peer: Option<SocketAddr>,
}

impl Endpoint {
    /// Binds a free port of the lab and listens.
    ///
    /// # Panics
    /// If the port was taken meanwhile.
    pub async fn bind(lab: &Lab) -> Endpoint {
        Endpoint::at(SocketAddr::new(lab.host(), lab.ports(2))).await
    }

    /// Listens at this address.
    ///
    /// # Panics
    /// If it is taken.
    pub async fn at(address: SocketAddr) -> Endpoint {
        let socket = Arc::new(UdpSocket::bind(address).await.unwrap_or_else(|e| panic!("{address}: {e}")));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let listener = tokio::spawn(listen(Arc::clone(&socket), Arc::clone(&heard)));
        Endpoint { address, socket, heard, listener, speaker: None }
    }

    /// Speaks this tone to this address from now on, 20 ms a packet, instead of what it spoke before.
    pub fn speak(&mut self, hz: u32, to: SocketAddr) {
        self.be_silent();
        self.speaker = Some(tokio::spawn(speak(Arc::clone(&self.socket), hz, to)));
    }

    /// Stops speaking.
    pub fn be_silent(&mut self) {
        if let Some(speaker) = self.speaker.take() {
            speaker.abort();
        }
    }

    /// Waits until it has heard this tone for a quarter of a second more than before.
    ///
    /// # Panics
    /// If it doesn't.
    pub async fn hears(&self, hz: u32, within: Duration) {
        let before = self.frames_with(hz);
        let what = format!("{} hears {hz} Hz", self.address);
        eventually(what, within, async || (self.frames_with(hz) >= before + 13).then_some(())).await;
    }

    /// Frames of 20 ms with this tone so far.
    #[must_use]
    pub fn frames_with(&self, hz: u32) -> usize {
        tone::frames_with(&self.lock().samples, hz)
    }

    /// RTP packets received so far.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.lock().packets
    }

    /// From which port the last packet came. Phones that bind all addresses send from loopback's first, so that the
    /// address says nothing here.
    #[must_use]
    pub fn peer_port(&self) -> Option<u16> {
        self.lock().peer.map(|peer| peer.port())
    }

    /// Keys pressed so far (RFC 4733, payload type 101).
    #[must_use]
    pub fn digits(&self) -> String {
        self.lock().digits.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.listener.abort();
        self.be_silent();
    }
}

async fn listen(socket: Arc<UdpSocket>, heard: Arc<Mutex<Heard>>) {
    let mut packet = [0; 2048];
    loop {
        // An ICMP error from a peer that has gone is no reason to stop.
        let Ok((length, from)) = socket.recv_from(&mut packet).await else { continue };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.take(&packet[..length], from);
    }
}

impl Heard {
    fn take(&mut self, packet: &[u8], from: SocketAddr) {
        // Version 2; CSRCs and extensions aren't used in the lab.
        let [0x80, marker_and_type, _, _, t1, t2, t3, t4, _, _, _, _, payload @ ..] = packet else { return };
        self.packets += 1;
        self.peer = Some(from);
        let timestamp = u32::from_be_bytes([*t1, *t2, *t3, *t4]);
        match (marker_and_type & 0x7f, payload) {
            (PCMU, _) if self.samples.len() < KEPT => {
                self.samples.extend(payload.iter().map(|byte| from_mu_law(*byte)));
            }
            // All packets of one key press bear the same timestamp.
            (101, [event @ 0..=15, ..]) if self.last_digit_at != Some(timestamp) => {
                self.last_digit_at = Some(timestamp);
                self.digits.push(char::from(b"0123456789*#ABCD"[usize::from(*event)]));
            }
            _ => {}
        }
    }
}

async fn speak(socket: Arc<UdpSocket>, hz: u32, to: SocketAddr) {
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut position: u32 = 0;
    for sequence in 0_u16.. {
        clock.tick().await;
        let mut packet = vec![0x80, PCMU];
        packet.extend(sequence.to_be_bytes());
        packet.extend(position.to_be_bytes());
        packet.extend(hz.to_be_bytes());
        for _ in 0..FRAME {
            packet.push(to_mu_law(tone::sample(hz, position)));
            position = position.wrapping_add(1);
        }
        // A peer that has gone shows in what it hears.
        let _ = socket.send_to(&packet, to).await;
        if sequence == u16::MAX {
            break;
        }
    }
}

/// Samples as bytes of G.711 µ-law.
#[must_use]
pub fn mu_law_of(samples: &[i16]) -> Vec<u8> {
    samples.iter().map(|sample| to_mu_law(*sample)).collect()
}

/// G.711, decoding: the inverted byte holds sign, exponent, mantissa.
fn from_mu_law(byte: u8) -> i16 {
    let byte = !byte;
    let exponent = (byte >> 4) & 7;
    let magnitude = ((i16::from(byte & 0x0f) << 3) + 0x84) << exponent;
    if byte & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

/// G.711, encoding.
fn to_mu_law(sample: i16) -> u8 {
    let magnitude = sample.unsigned_abs().min(32_635) + 0x84;
    let exponent =
        7_u8.saturating_sub(u8::try_from(magnitude.leading_zeros()).unwrap_or(7).saturating_sub(1));
    let mantissa = u8::try_from((magnitude >> (exponent + 3)) & 0x0f).unwrap_or(0);
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent << 4) | mantissa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mu_law_goes_there_and_back() {
        for byte in 0..=255_u8 {
            let sample = from_mu_law(byte);
            assert_eq!(from_mu_law(to_mu_law(sample)), sample, "{byte:#x}");
        }
        let tone: Vec<i16> = tone::sine(450, 1).into_iter().map(|s| from_mu_law(to_mu_law(s))).collect();
        assert_eq!(tone::frames_with(&tone, 450), 50);
    }

    #[test]
    fn a_key_press_of_many_packets_is_one_digit() {
        let mut heard = Heard::default();
        let from = SocketAddr::from(([10, 77, 0, 1], 4000));
        let packet =
            |time: u8, event: u8| vec![0x80, 101, 0, 1, 0, 0, 0, time, 0, 0, 0, 1, event, 10, 0, 160];
        for (time, event) in [(1, 5), (1, 5), (1, 5), (9, 11)] {
            heard.take(&packet(time, event), from);
        }
        heard.take(&[0x80, 101], from);
        assert_eq!(heard.digits, "5#");
    }
}
