//! SIP over UDP.

use super::packet_info::{self, Received};
use super::{Door, SipContext, choose, unreachable};
use crate::io::counters::Counters;
use crate::io::limits::Task;
use crate::io::now;
use crate::io::queue::{Event, Gone, Lanes, Queue, Refusal};
use crate::node::Input;
use sip::Hop;
use sip::port::Transport;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tracing::debug;

/// The longest datagram that there is.
const MAX_DATAGRAM: usize = 65_535;
/// What is taken of the known before other tasks have their turn.
const KNOWN: Turn = Turn { datagrams: 512, time: Duration::from_millis(2) };
/// And of strangers, before it is looked at the known again.
const STRANGERS: Turn = Turn { datagrams: 64, time: Duration::from_micros(500) };
/// Known ways that come one after the other are told to the system together: no oftener than this,
const CHOOSE_AGAIN: Duration = Duration::from_millis(20);
/// and with all that are known a twentieth of the reader's time is spent on it.
const CHOOSING: u32 = 20;
/// Datagrams that wait while the kernel takes no more.
const WAITING_DATAGRAMS: usize = 1024;

/// The sockets at an address.
#[derive(Clone, Debug)]
pub(in crate::io) struct UdpSockets {
    /// Of phones and trunks that are known, and the one that sends; of all where it is alone.
    pub(in crate::io) known: Arc<UdpSocket>,
    /// Of all others.
    pub(in crate::io) strangers: Option<Arc<UdpSocket>>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    datagrams: usize,
    time: Duration,
}

/// The owner's way out: mostly straight into the socket.
#[derive(Debug)]
pub(in crate::io) struct UdpSender {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    counters: Arc<Counters>,
    waiting: mpsc::Sender<Waiting>,
}

/// A datagram that waits: from which address of ours, and to whom.
type Waiting = (Vec<u8>, IpAddr, SocketAddr);

/// The socket at the address that a message shall leave from; else one that is bound to every address; else any of the
/// peer's family.
pub(super) fn fitting<'a>(all: &'a [UdpSender], hop: &Hop) -> Option<&'a UdpSender> {
    let family = || all.iter().filter(|udp| udp.local.is_ipv4() == hop.remote.is_ipv4());
    family()
        .find(|udp| udp.local == hop.local)
        .or_else(|| family().find(|udp| udp.local.ip().is_unspecified()))
        .or_else(|| family().next())
}

impl UdpSender {
    /// Sends at once if the kernel takes it, else later; beyond the bound it is dropped and counted, and SIP repeats it.
    pub(super) fn send(&self, bytes: Vec<u8>, own: IpAddr, remote: SocketAddr) -> Result<(), NoWay> {
        let sent = self.try_send(&bytes, own, remote);
        // The first error may be the word of ICMP about a datagram of before, to whomever; this one was not sent then.
        let sent = sent.or_else(|error| match is_unreachable(&error) {
            true => self.try_send(&bytes, own, remote),
            false => Err(error),
        });
        match sent {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.waiting.try_send((bytes, own, remote)).is_err() {
                    self.counters.datagrams_unsent.add();
                }
            }
            Err(error) => {
                unsent(&self.counters, &error);
                return if is_unreachable(&error) { Err(NoWay) } else { Ok(()) };
            }
        }
        Ok(())
    }

    fn try_send(&self, bytes: &[u8], own: IpAddr, remote: SocketAddr) -> std::io::Result<usize> {
        if self.local.ip().is_unspecified() {
            let send = || packet_info::send(&*self.socket, bytes, Some(own), remote);
            return self.socket.try_io(Interest::WRITABLE, send);
        }
        self.socket.try_send_to(bytes, remote)
    }
}

/// The system knows no way to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoWay;

fn is_unreachable(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
}

/// Starts the tasks of an address.
pub(in crate::io) fn listen_udp(
    sockets: UdpSockets,
    local: SocketAddr,
    context: &SipContext,
    spawn: &mut impl FnMut(Task),
) -> UdpSender {
    let (waiting, late) = mpsc::channel(WAITING_DATAGRAMS);
    let counters = Arc::clone(&context.counters);
    let (lanes, door) = (context.lanes.clone(), Arc::clone(&context.door));
    let socket = Arc::clone(&sockets.known);
    // Whichever of them sent it, the system may tell the other.
    for socket in std::iter::once(&sockets.known).chain(&sockets.strangers) {
        unreachable::ask_for_errors(socket);
        // What ICMP says may be the doing of strangers, who have us answer to where nobody is.
        spawn(Box::pin(unreachable::watch(Arc::clone(socket), local, lanes.datagrams.clone())));
    }
    spawn(Box::pin(receive(sockets, local, lanes, door, Arc::clone(&counters))));
    spawn(Box::pin(send_late(Arc::clone(&socket), local, late, Arc::clone(&counters))));
    UdpSender { socket, local, counters, waiting }
}

pub(in crate::io) async fn receive(
    sockets: UdpSockets,
    local: SocketAddr,
    lanes: Lanes<Queue>,
    door: Arc<Door>,
    counters: Arc<Counters>,
) {
    let mut ways = door.ways();
    // The system has heard of none yet.
    ways.mark_changed();
    let UdpSockets { known, strangers } = sockets;
    let mut known = Mouth { socket: known, turn: KNOWN, lost: 0 };
    let mut strangers = strangers.map(|socket| Mouth { socket, turn: STRANGERS, lost: 0 });
    let mut inlet = Inlet { local, lanes, door, counters, sieve: 0, choose_at: now() };
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        tokio::select! {
            () = known.waits() => {}
            () = anything(strangers.as_ref()) => {}
            // While a sieve is there it is looked whether it is still needed.
            () = inlet.door.weighs(inlet.sieve) => {}
            () = are_others(&mut ways, inlet.choose_at), if strangers.is_some() => {}
        }
        inlet.choose(&known, strangers.as_ref(), &mut ways);
        for mouth in std::iter::once(&mut known).chain(&mut strangers) {
            if inlet.drain(mouth, &mut buffer) == Err(Gone) {
                return;
            }
        }
        inlet.fit_sieve(&known, strangers.as_ref());
        // Whatever a flood leaves in it, others have their turn.
        tokio::task::yield_now().await;
    }
}

async fn anything(mouth: Option<&Mouth>) {
    match mouth {
        Some(mouth) => mouth.waits().await,
        None => std::future::pending().await,
    }
}

/// Comes when other ways are known than the system has heard of, and it is time to tell it.
async fn are_others(ways: &mut watch::Receiver<()>, at: Instant) {
    if ways.changed().await.is_err() {
        return std::future::pending().await;
    }
    // It is seen when it is told.
    ways.mark_changed();
    tokio::time::sleep_until(at.into()).await;
}

/// A socket that is read.
struct Mouth {
    socket: Arc<UdpSocket>,
    turn: Turn,
    /// What the system had thrown away by the last datagram.
    lost: u32,
}

impl Mouth {
    async fn waits(&self) {
        if let Err(error) = self.socket.readable().await {
            debug!(%error, "receiving over UDP");
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> std::io::Result<Received> {
        self.socket.try_io(Interest::READABLE, || packet_info::receive(&*self.socket, buffer))
    }
}

/// Where an address's datagrams go.
struct Inlet {
    local: SocketAddr,
    lanes: Lanes<Queue>,
    door: Arc<Door>,
    counters: Arc<Counters>,
    /// Which sieve is before the sockets.
    sieve: u64,
    /// When the system may be told again who is known.
    choose_at: Instant,
}

impl Inlet {
    fn fit_sieve(&mut self, known: &Mouth, strangers: Option<&Mouth>) {
        if let Some(sieve) = self.door.sieve(&mut self.sieve) {
            for mouth in std::iter::once(known).chain(strangers) {
                sieve.fit(&*mouth.socket, self.local.is_ipv4());
            }
        }
    }

    /// Tells the system who is known, if it is time.
    fn choose(&mut self, known: &Mouth, strangers: Option<&Mouth>, ways: &mut watch::Receiver<()>) {
        let begun = now();
        if strangers.is_none() || begun < self.choose_at || !ways.has_changed().unwrap_or(false) {
            return;
        }
        ways.mark_unchanged();
        choose(&self.door.known_datagrams(), &*known.socket, self.local.is_ipv4());
        let done = now();
        self.choose_at = done + CHOOSE_AGAIN.max(CHOOSING * done.saturating_duration_since(begun));
    }

    /// Takes what waits in the system, for one turn: what a flood leaves no room for is lost.
    fn drain(&mut self, mouth: &mut Mouth, buffer: &mut [u8]) -> Result<(), Gone> {
        let begun = now();
        for _ in 0..mouth.turn.datagrams {
            match mouth.receive(buffer) {
                Ok(received) => self.take(mouth, received, buffer)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // An ICMP message about something sent before; the socket itself is well.
                Err(error) => debug!(%error, "receiving over UDP"),
            }
            if now().saturating_duration_since(begun) >= mouth.turn.time {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&mut self, mouth: &mut Mouth, received: Received, buffer: &[u8]) -> Result<(), Gone> {
        let Received { read, remote, own, lost } = received;
        if let Some(lost) = lost {
            self.counters.datagrams_lost.add_many(u64::from(lost.wrapping_sub(mouth.lost)));
            mouth.lost = lost;
        }
        if read == 0 {
            return Ok(());
        }
        self.counters.datagrams_received.add();
        let local = own.map_or(self.local, |own| SocketAddr::new(own, self.local.port()));
        let hop = Hop { transport: Transport::Udp, local, remote, connection: None };
        // Who sends too much is refused before anything of it is looked at; SIP repeats what was honest.
        let Ok(sender) = self.door.ask(&hop, read) else {
            self.counters.datagrams_refused.add();
            return Ok(());
        };
        let input = Event::Input(Input::Sip { hop, bytes: buffer[..read].to_vec() });
        match self.lanes.datagrams(sender).try_send(input) {
            Ok(()) => Ok(()),
            Err(Refusal::Full) => {
                self.counters.datagrams_dropped.add();
                Ok(())
            }
            Err(Refusal::Gone) => Err(Gone),
        }
    }
}

/// Sends once it can be sent; of a socket that is bound to every address, from the one that is asked for.
async fn send_one(
    socket: &UdpSocket,
    local: SocketAddr,
    bytes: &[u8],
    own: IpAddr,
    remote: SocketAddr,
) -> std::io::Result<usize> {
    if local.ip().is_unspecified() {
        let send = || packet_info::send(socket, bytes, Some(own), remote);
        return socket.async_io(Interest::WRITABLE, send).await;
    }
    socket.send_to(bytes, remote).await
}

async fn send_late(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    mut late: mpsc::Receiver<Waiting>,
    counters: Arc<Counters>,
) {
    while let Some((bytes, own, remote)) = late.recv().await {
        let mut sent = send_one(&socket, local, &bytes, own, remote).await;
        if sent.as_ref().is_err_and(is_unreachable) {
            sent = send_one(&socket, local, &bytes, own, remote).await;
        }
        if let Err(error) = sent {
            unsent(&counters, &error);
        }
    }
}

fn unsent(counters: &Counters, error: &std::io::Error) {
    counters.datagrams_unsent.add();
    debug!(%error, "a datagram was not sent");
}
