//! The bounded queues into the owner: SIP's four lanes, and all else.

use super::cti::link::CtiLink;
use super::now;
use super::outbox::Outbox;
use crate::node::{AdminRequest, Input, Switch};
use cluster::LinkId;
use device_model::NodeName;
use serde_json::Value;
use sip::Hop;
use sip::port::ConnectionId;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// An input of more bytes than this also needs room among the bytes of the queue, so that 1 MiB lines can't fill the
/// memory.
pub(super) const LARGE_FROM: usize = 8 * 1024;

/// What tasks tell the owner.
#[derive(Debug)]
pub(super) enum Event {
    /// For the core as it is.
    Input(Input),
    /// A SIP connection was accepted.
    SipOpened { hop: Hop, id: ConnectionId, outbox: Outbox<Vec<u8>> },
    /// A SIP connection ended, or could not be made (`hop.connection` is `None` then).
    SipEnded { hop: Hop, id: ConnectionId },
    /// An application connected.
    CtiOpened(CtiLink),
    /// A link to another node is there.
    ClusterOpened { link: LinkId, node: NodeName, outbox: mpsc::Sender<Arc<[u8]>> },
    /// A configuration for the core; the asker is told when it is in force.
    Configure(Box<Switch>, oneshot::Sender<()>),
    /// An administrator asks; the answer goes back the same way.
    Admin(AdminRequest, oneshot::Sender<Result<Value, String>>),
}

/// An event and when it came in.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) arrived: Instant,
    pub(super) event: Event,
    _large: Option<OwnedSemaphorePermit>,
    _turn: Option<OwnedSemaphorePermit>,
}

/// The owner is gone; so is the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The sending end of a queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    events: mpsc::Sender<Queued>,
    large: Arc<Semaphore>,
    large_bytes: usize,
}

/// Both ends of a queue of `inputs` places and so many bytes of large ones.
pub(super) fn queue(inputs: usize, large_bytes: usize) -> (Queue, mpsc::Receiver<Queued>) {
    let (events, waiting) = mpsc::channel(inputs);
    let large_bytes = large_bytes.min(Semaphore::MAX_PERMITS);
    (Queue { events, large: Arc::new(Semaphore::new(large_bytes)), large_bytes }, waiting)
}

/// Who a message comes from, as far as its way tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A phone or a trunk that has proved itself on this way.
    Known,
    /// Anybody.
    Stranger,
}

/// SIP's lanes: the known before strangers, and neither datagrams nor streams in the way of the other.
#[derive(Clone, Debug)]
pub(super) struct Lanes<T> {
    pub(super) known_datagrams: T,
    pub(super) known_streams: T,
    pub(super) datagrams: T,
    pub(super) streams: T,
}

impl<T> Lanes<T> {
    /// The lane of a sender's datagrams.
    pub(super) fn datagrams(&self, sender: Sender) -> &T {
        match sender {
            Sender::Known => &self.known_datagrams,
            Sender::Stranger => &self.datagrams,
        }
    }

    /// The lane of a sender's stream.
    pub(super) fn streams(&self, sender: Sender) -> &T {
        match sender {
            Sender::Known => &self.known_streams,
            Sender::Stranger => &self.streams,
        }
    }
}

/// Both ends of the lanes; strangers' have a quarter of the places.
pub(super) fn lanes(inputs: usize, large_bytes: usize) -> (Lanes<Queue>, Lanes<mpsc::Receiver<Queued>>) {
    let few = (inputs / 4).max(1);
    let (known_datagrams, a) = queue(inputs, large_bytes);
    let (known_streams, b) = queue(inputs, large_bytes);
    let (datagrams, c) = queue(few, large_bytes / 4);
    let (streams, d) = queue(few, large_bytes / 4);
    (
        Lanes { known_datagrams, known_streams, datagrams, streams },
        Lanes { known_datagrams: a, known_streams: b, datagrams: c, streams: d },
    )
}

impl Queue {
    /// Waits for a place: the connection behind it is not read meanwhile, and its peer feels it.
    pub(super) async fn send(&self, event: Event) -> Result<(), Gone> {
        self.send_in_turn(event, None).await
    }

    /// The same with a turn of the sender's, which is his again when the owner has taken the event.
    pub(super) async fn send_in_turn(
        &self,
        event: Event,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Gone> {
        let arrived = now();
        let large = match size(&event) {
            0..LARGE_FROM => None,
            bytes => {
                Some(Arc::clone(&self.large).acquire_many_owned(self.weight(bytes)).await.map_err(|_| Gone)?)
            }
        };
        self.events.send(Queued { arrived, event, _large: large, _turn: turn }).await.map_err(|_| Gone)
    }

    /// Waits for a place on a thread that may block; for small inputs, whose bytes need no room of their own.
    pub(super) fn send_blocking(&self, input: Input) -> Result<(), Gone> {
        let queued = Queued { arrived: now(), event: Event::Input(input), _large: None, _turn: None };
        self.events.blocking_send(queued).map_err(|_| Gone)
    }

    fn weight(&self, bytes: usize) -> u32 {
        // Never more than there is at all: such an input waits until it is alone.
        u32::try_from(bytes.min(self.large_bytes)).unwrap_or(u32::MAX)
    }

    /// Takes an event only if there is room at once.
    pub(super) fn try_send(&self, event: Event) -> Result<(), Refusal> {
        let large = match size(&event) {
            0..LARGE_FROM => None,
            bytes => {
                let permit = Arc::clone(&self.large).try_acquire_many_owned(self.weight(bytes));
                Some(permit.map_err(|_| Refusal::Full)?)
            }
        };
        let queued = Queued { arrived: now(), event, _large: large, _turn: None };
        self.events.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Full,
            mpsc::error::TrySendError::Closed(_) => Refusal::Gone,
        })
    }
}

/// Why [`Queue::try_send`] took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Gone,
}

fn size(event: &Event) -> usize {
    match event {
        Event::Input(Input::Sip { bytes, .. } | Input::CtiFrame(_, bytes)) => bytes.len(),
        Event::Input(_) => 0,
        Event::SipOpened { .. } | Event::SipEnded { .. } | Event::CtiOpened(_) => 0,
        Event::ClusterOpened { .. } | Event::Admin(..) | Event::Configure(..) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::CtiConnection;

    fn frame(bytes: usize) -> Event {
        Event::Input(Input::CtiFrame(CtiConnection(1), vec![b'x'; bytes]))
    }

    #[test]
    fn the_queue_is_bounded_by_inputs() {
        let (queue, mut waiting) = queue(2, 1024);
        assert_eq!(queue.try_send(frame(1)), Ok(()));
        assert_eq!(queue.try_send(frame(1)), Ok(()));
        assert_eq!(queue.try_send(frame(1)), Err(Refusal::Full));
        waiting.try_recv().expect("queued");
        assert_eq!(queue.try_send(frame(1)), Ok(()));
        drop(waiting);
        assert_eq!(queue.try_send(frame(1)), Err(Refusal::Gone));
    }

    #[test]
    fn large_inputs_are_bounded_by_their_bytes() {
        const MEGABYTE: usize = 1024 * 1024;
        let (queue, mut waiting) = queue(4096, 32 * MEGABYTE);
        let taken = (0..100).take_while(|_| queue.try_send(frame(MEGABYTE)).is_ok()).count();
        assert_eq!(taken, 32);
        assert_eq!(queue.try_send(frame(100)), Ok(()), "small ones still pass");
        drop(waiting.try_recv().expect("queued"));
        assert_eq!(queue.try_send(frame(MEGABYTE)), Ok(()));
    }
}
