//! One link: what it brings goes to the owner, what the owner says goes out.

use super::{ClusterShell, LINKS_OF_NODE};
use crate::io::queue::{Event, Gone};
use crate::node::{Input, NodesInput};
use cluster::{Frames, LinkId};
use device_model::NodeName;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::{debug, info, warn};

/// Messages that wait for a slow reader; with more he is late anyway.
const OUTBOX: usize = 16;
/// Read at once.
const READ_BYTES: usize = 16 * 1024;

type Stream = TlsStream<TcpStream>;

/// How many links each node has.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<NodeName, usize>>>);

/// One of a node's links.
#[derive(Debug)]
struct Place(Arc<Mutex<HashMap<NodeName, usize>>>, NodeName);

impl Places {
    /// Held for a moment and never across an await.
    fn take(&self, node: &NodeName) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(node.clone()).or_default();
        if *count >= LINKS_OF_NODE {
            return None;
        }
        *count += 1;
        Some(Place(Arc::clone(&self.0), node.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
        }
    }
}

/// A link to a node that has proved who it is.
pub(super) struct Link<'a> {
    shell: &'a ClusterShell,
    id: LinkId,
    node: NodeName,
}

impl<'a> Link<'a> {
    pub(super) fn new(shell: &'a ClusterShell, node: NodeName) -> Self {
        Self { shell, id: shell.next_link(), node }
    }

    /// Until one end has had enough of it.
    pub(super) async fn talk(self, stream: Stream) {
        let Some(_place) = self.shell.links.take(&self.node) else {
            return warn!(node = %self.node, "a node has too many links: one more is closed");
        };
        let (outbox, waiting) = mpsc::channel(OUTBOX);
        let (link, node) = (self.id, self.node.clone());
        if self.shell.queue.send(Event::ClusterOpened { link, node, outbox }).await.is_err() {
            return;
        }
        info!(node = %self.node, link = self.id.0, "a link to another node is there");
        let (reading, writing) = tokio::io::split(stream);
        let ended = tokio::select! {
            ended = self.read(reading) => ended,
            ended = write(writing, waiting) => ended,
        };
        let why = ended.err().map_or_else(|| "closed".to_owned(), |error| error.to_string());
        info!(node = %self.node, link = self.id.0, %why, "a link to another node has ended");
        // The owner may be gone; then nobody needs to know.
        let _ = self.tell(cluster::Input::Closed(self.id)).await;
    }

    async fn tell(&self, input: cluster::Input) -> Result<(), Gone> {
        self.shell.queue.send(Event::Input(Input::Nodes(NodesInput::Link(input)))).await
    }

    /// A peer that says nothing for two failure timeouts is let go of: a new connection may find a way where this one waits.
    async fn read(&self, mut stream: ReadHalf<Stream>) -> io::Result<()> {
        let mut frames = Frames::default();
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let silence = self.shell.node_failure_timeout() * 2;
            let count = timeout(silence, stream.read(&mut bytes)).await??;
            if count == 0 {
                return Ok(());
            }
            frames.push(&bytes[..count]);
            while let Some(message) = frames.next_message().map_err(io::Error::other)? {
                match cluster::message::read(message).map_err(io::Error::other)? {
                    Some(heartbeat) => {
                        let input = cluster::Input::Received(self.id, Box::new(heartbeat));
                        if self.tell(input).await.is_err() {
                            return Ok(());
                        }
                    }
                    None => debug!(node = %self.node, "a message of a later version"),
                }
            }
        }
    }
}

/// Ends when the owner has let go of the link.
async fn write(mut stream: WriteHalf<Stream>, mut waiting: mpsc::Receiver<Arc<[u8]>>) -> io::Result<()> {
    while let Some(bytes) = waiting.recv().await {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_so_many_links_and_another_its_own() {
        let places = Places::default();
        let (one, other) = ("cm1".into(), "cm2".into());
        let mut taken: Vec<_> =
            (0..LINKS_OF_NODE).map(|_| places.take(&one).expect("there is room")).collect();
        assert!(places.take(&one).is_none());
        assert!(places.take(&other).is_some());
        taken.pop();
        assert!(places.take(&one).is_some(), "one has ended");
    }
}
