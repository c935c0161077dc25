//! The web port without sockets, TLS and the owner: for whoever brings his own bytes.

use super::{Peer, Readiness, WebShell, router, serve_http};
use crate::io::counters::Counters;
use crate::io::cti::CtiShell;
use crate::io::cti::link::{CtiLink, Written};
use crate::io::limits::{Alive, Limits, Patience};
use crate::io::queue::{Event, Queued, queue};
use crate::io::tls::TlsConfigs;
use crate::node::{CtiConnection, CtiTransport, Frame, Input};
use arc_swap::ArcSwap;
use axum::Router;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Serves streams as the web port serves connections whose handshake is over, and shows what a node would be told of them.
/// Whoever has it is the node: what he does not take waits in the queue, and when that is full nobody is read.
#[derive(Debug)]
pub struct WebDoor {
    router: Router,
    inputs: mpsc::Receiver<Queued>,
    links: HashMap<CtiConnection, CtiLink>,
    step: u64,
}

impl WebDoor {
    /// A door with these bounds. The TLS configurations are those of no connection.
    #[must_use]
    pub fn new(tls: TlsConfigs, limits: Limits) -> Self {
        let counters = Arc::<Counters>::default();
        let (inlet, inputs) = queue(limits.input_queue, limits.input_queue_bytes);
        let (limits, tls) = (Arc::new(ArcSwap::from_pointee(limits)), Arc::new(ArcSwap::from_pointee(tls)));
        let alive = Alive::of_nobody();
        let cti = CtiShell::new(inlet, limits, counters, Arc::default(), tls, alive, Patience::default());
        let shell = Arc::new(WebShell::new(Arc::new(cti), Arc::new(Readiness::default())));
        Self { router: router(&shell), inputs, links: HashMap::new(), step: 0 }
    }

    /// Serves one connection to its end, or until it has become a WebSocket: that goes on in a task of its own.
    pub fn serve<S>(
        &self,
        stream: S,
        address: SocketAddr,
        transport: CtiTransport,
    ) -> impl Future<Output = ()> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve_http(self.router.clone(), stream, Peer { address, transport }, Patience::default())
    }

    /// The next input that waits for the node, if one does.
    pub fn heard(&mut self) -> Option<Input> {
        let Queued { event, .. } = self.inputs.try_recv().ok()?;
        match event {
            Event::CtiOpened(link) => {
                let opened = Input::CtiOpened {
                    connection: link.connection,
                    peer: link.peer,
                    transport: link.transport.clone(),
                };
                self.links.insert(link.connection, link);
                Some(opened)
            }
            Event::Input(input) => {
                if let Input::CtiClosed(connection) = input {
                    self.links.remove(&connection);
                }
                Some(input)
            }
            // None of these comes from the web port.
            Event::SipOpened { .. }
            | Event::SipEnded { .. }
            | Event::ClusterOpened { .. }
            | Event::Admin(..)
            | Event::Configure(..) => None,
        }
    }

    /// Queues a frame for an application; false when its queue is full or the connection is gone.
    pub fn say(&mut self, connection: CtiConnection, frame: Frame) -> bool {
        self.step += 1;
        let link = self.links.get_mut(&connection);
        link.is_some_and(|link| link.write(self.step, frame) == Written::Queued)
    }

    /// Closes a connection as the node does: what is queued goes out.
    pub fn close(&mut self, connection: CtiConnection) {
        self.links.remove(&connection);
    }
}
