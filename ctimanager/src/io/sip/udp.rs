//! SIP over UDP.

use super::packet_info::{self, Received};
use super::{Door, SipContext, unreachable};
use crate::io::counters::Counters;
use crate::io::queue::{Event, Gone, Lanes, Queue, Refusal};
use crate::io::run::Task;
use crate::node::Input;
use sip::Hop;
use sip::port::Transport;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tracing::debug;

/// The longest datagram that there is.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams that are taken before other tasks have their turn.
const DRAINED: usize = 512;
/// Datagrams that wait while the kernel takes no more.
const WAITING_DATAGRAMS: usize = 1024;

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

/// Starts the tasks of a socket.
pub(in crate::io) fn listen_udp(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    context: &SipContext,
    spawn: &mut impl FnMut(Task),
) -> UdpSender {
    let (waiting, late) = mpsc::channel(WAITING_DATAGRAMS);
    let counters = Arc::clone(&context.counters);
    unreachable::ask_for_errors(&socket);
    let (lanes, door) = (context.lanes.clone(), Arc::clone(&context.door));
    // What ICMP says may be the doing of strangers, who have us answer to where nobody is.
    spawn(Box::pin(unreachable::watch(Arc::clone(&socket), local, lanes.datagrams.clone())));
    spawn(Box::pin(receive(Arc::clone(&socket), local, lanes, door, Arc::clone(&counters))));
    spawn(Box::pin(send_late(Arc::clone(&socket), local, late, Arc::clone(&counters))));
    UdpSender { socket, local, counters, waiting }
}

pub(in crate::io) async fn receive(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    lanes: Lanes<Queue>,
    door: Arc<Door>,
    counters: Arc<Counters>,
) {
    let mut inlet = Inlet { socket, local, lanes, door, counters, sieve: 0, lost: 0 };
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        tokio::select! {
            readable = inlet.socket.readable() => match readable {
                Ok(()) => {}
                Err(error) => debug!(%error, "receiving over UDP"),
            },
            // While a sieve is there it is looked whether it is still needed.
            () = inlet.door.weighs(inlet.sieve) => {}
        }
        inlet.fit_sieve();
        if inlet.drain(&mut buffer) == Err(Gone) {
            return;
        }
        // Whatever a flood leaves in it, others have their turn.
        tokio::task::yield_now().await;
    }
}

/// Where a socket's datagrams go.
struct Inlet {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    lanes: Lanes<Queue>,
    door: Arc<Door>,
    counters: Arc<Counters>,
    /// Which sieve is before the socket.
    sieve: u64,
    /// What the system had thrown away by the last datagram.
    lost: u32,
}

impl Inlet {
    fn fit_sieve(&mut self) {
        if let Some(sieve) = self.door.sieve(&mut self.sieve) {
            sieve.fit(&*self.socket, self.local.is_ipv4());
        }
    }

    /// Takes what waits in the system, without a pause: what a flood leaves no room for is lost.
    fn drain(&mut self, buffer: &mut [u8]) -> Result<(), Gone> {
        for _ in 0..DRAINED {
            let read = || packet_info::receive(&*self.socket, buffer);
            match self.socket.try_io(Interest::READABLE, read) {
                Ok(received) => self.take(received, buffer)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // An ICMP message about something sent before; the socket itself is well.
                Err(error) => debug!(%error, "receiving over UDP"),
            }
        }
        Ok(())
    }

    fn take(&mut self, received: Received, buffer: &[u8]) -> Result<(), Gone> {
        let Received { read, remote, own, lost } = received;
        if let Some(lost) = lost {
            self.counters.datagrams_lost.add_many(u64::from(lost.wrapping_sub(self.lost)));
            self.lost = lost;
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
            self.fit_sieve();
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
