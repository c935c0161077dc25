//! The bounded queue between the owner and the task that writes a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a connection may still write after the owner has closed it.
pub(super) const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// What can be queued: something with a length in bytes.
pub(super) trait Item: Send + 'static {
    fn len(&self) -> usize;
}

impl Item for Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }
}

/// The queue was full or its reader is gone; the item was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub(super) items: usize,
    /// Items on top of those that [`Outbox::push_within`] may be allowed.
    pub(super) burst: usize,
    /// A single item over this limit still passes when nothing else waits.
    pub(super) bytes: usize,
    /// Places kept back for [`Outbox::push_farewell`].
    pub(super) reserve: usize,
}

/// The owner's end. To drop it closes the connection: what is queued is written within [`FLUSH_LIMIT`].
#[derive(Debug)]
pub(super) struct Outbox<T> {
    items: mpsc::Sender<T>,
    bytes: Arc<AtomicUsize>,
    capacity: Capacity,
    _closed: oneshot::Sender<()>,
}

/// The writing task's end.
#[derive(Debug)]
pub(super) struct Pending<T> {
    pub(super) items: mpsc::Receiver<T>,
    bytes: Arc<AtomicUsize>,
    closed: Option<oneshot::Receiver<()>>,
}

/// Both ends of a new outbox.
pub(super) fn outbox<T: Item>(capacity: Capacity) -> (Outbox<T>, Pending<T>) {
    let (items, waiting) = mpsc::channel(capacity.items + capacity.burst + capacity.reserve);
    let (closed, is_closed) = oneshot::channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    let pending = Pending { items: waiting, bytes: Arc::clone(&bytes), closed: Some(is_closed) };
    (Outbox { items, bytes, capacity, _closed: closed }, pending)
}

impl<T: Item> Outbox<T> {
    /// Queues an item.
    pub(super) fn push(&self, item: T) -> Result<(), Refused> {
        self.push_within(self.capacity.items, item)
    }

    /// Queues an item if fewer than `limit` wait; never more than items and burst of the capacity.
    pub(super) fn push_within(&self, limit: usize, item: T) -> Result<(), Refused> {
        let most = self.capacity.items + self.capacity.burst;
        let bytes = self.bytes.load(Ordering::Relaxed);
        let too_many = self.waiting() >= limit.min(most);
        let too_big = bytes > 0 && bytes + item.len() > self.capacity.bytes;
        if (too_many || too_big) && !self.items.is_closed() {
            return Err(Refused::Full);
        }
        self.push_farewell(item)
    }

    /// Items that wait.
    pub(super) fn waiting(&self) -> usize {
        self.items.max_capacity() - self.items.capacity()
    }

    /// Queues one of the last items before the end; for them the reserve is there.
    pub(super) fn push_farewell(&self, item: T) -> Result<(), Refused> {
        let bytes = item.len();
        // Counted before it is sent, so that the writer can never take off more than was added.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.items.try_send(item).map_err(|error| {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => Refused::Full,
                mpsc::error::TrySendError::Closed(_) => Refused::Closed,
            }
        })
    }
}

impl<T: Item> Pending<T> {
    /// Tells that so many bytes were written (or given up).
    pub(super) fn written(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Ends [`FLUSH_LIMIT`] after the owner dropped its end. Can be asked for once; later futures never end.
    pub(super) fn overdue(&mut self) -> impl Future<Output = ()> + Send + use<T> {
        let closed = self.closed.take();
        async move {
            match closed {
                Some(closed) => {
                    // An error is the sender's drop: exactly what is waited for.
                    let _ = closed.await;
                    tokio::time::sleep(FLUSH_LIMIT).await;
                }
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Capacity = Capacity { items: 2, burst: 0, bytes: 100, reserve: 1 };

    #[test]
    fn the_limits_are_items_and_bytes_and_the_reserve_is_for_the_farewell() {
        let (outbox, _pending) = outbox::<Vec<u8>>(SMALL);
        assert_eq!(outbox.push(vec![0; 10]), Ok(()));
        assert_eq!(outbox.push(vec![0; 91]), Err(Refused::Full), "bytes");
        assert_eq!(outbox.push(vec![0; 90]), Ok(()));
        assert_eq!(outbox.push(vec![]), Err(Refused::Full), "items");
        assert_eq!(outbox.push_farewell(vec![0; 5]), Ok(()));
        assert_eq!(outbox.push_farewell(vec![0; 5]), Err(Refused::Full));
    }

    #[test]
    fn one_item_over_the_byte_limit_passes_alone() {
        let (outbox, mut pending) = outbox::<Vec<u8>>(SMALL);
        assert_eq!(outbox.push(vec![0; 1000]), Ok(()));
        assert_eq!(outbox.push(vec![0; 1]), Err(Refused::Full));
        let item = pending.items.try_recv().expect("queued");
        pending.written(item.len());
        assert_eq!(outbox.push(vec![0; 1]), Ok(()));
    }

    #[test]
    fn a_writer_that_is_gone_is_told_apart_from_a_full_queue() {
        let (outbox, pending) = outbox::<Vec<u8>>(SMALL);
        drop(pending);
        assert_eq!(outbox.push(vec![0; 1]), Err(Refused::Closed));
    }
}
