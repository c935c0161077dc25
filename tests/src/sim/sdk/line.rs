//! The lines between SDK and node: connections that are refused, that take their time, that are stalled, and that are cut
//! at any byte, with or without a word to either end.

use super::hub::{Approach, Hub, SharedHub};
use crate::sim::dice::Dice;
use client::provider::{Connecting, Connector, Stream};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Bytes under way that nobody has read; beyond it the writer waits.
const WINDOW: usize = 16 * 1024;

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It works.
    Fine,
    /// Nothing moves until then.
    Stalled(Instant),
    /// It is broken.
    Cut,
}

/// The ways to the CTIManagers as one application has them.
pub(super) struct Network {
    pub(super) hub: SharedHub,
    pub(super) application: usize,
}

impl Connector for Network {
    fn connect(&self, server: &str) -> Connecting {
        let (hub, application, server) = (self.hub.clone(), self.application, server.to_owned());
        Box::pin(async move {
            let approach = hub.with(|h| h.approach(&server, application));
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            match approach {
                Approach::Stalled => std::future::pending().await,
                Approach::Refused(after) => {
                    pass(after).await;
                    Err(refused())
                }
                Approach::Through(after) => {
                    pass(after).await;
                    let stream = accept(&hub, application).ok_or_else(refused)?;
                    Ok(Box::new(stream) as Box<dyn Stream>)
                }
            }
        })
    }
}

fn accept(hub: &SharedHub, application: usize) -> Option<DuplexStream> {
    let (near, far) = tokio::io::duplex(WINDOW);
    let (from, to) = tokio::io::split(far);
    let accepted = hub.with(|h| h.accept(application))?;
    let gone = Arc::new(Notify::new());
    let (id, fate) = (accepted.id, accepted.fate);
    let [up_dice, down_dice] = accepted.dice;
    tokio::spawn(
        Up { hub: hub.clone(), id, fate: fate.clone(), dice: up_dice, gone: gone.clone() }.run(from),
    );
    tokio::spawn(Down { fate, dice: down_dice, gone }.run(to, accepted.frames));
    Some(near)
}

/// Virtual time passes.
pub(super) async fn pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// Comes when the line is cut.
async fn cut(fate: &mut watch::Receiver<Fate>) {
    if fate.wait_for(|fate| *fate == Fate::Cut).await.is_err() {
        std::future::pending().await
    }
}

/// The way of one piece takes so long, and longer on a stalled line.
async fn travel(fate: &watch::Receiver<Fate>, time: Duration) {
    pass(time).await;
    loop {
        let Fate::Stalled(until) = *fate.borrow() else { return };
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

fn piece(bytes: &[u8], dice: &mut Dice) -> usize {
    if dice.percent(60) { bytes.len() } else { 1 + dice.up_to(bytes.len() - 1) }
}

/// From the SDK to the node.
struct Up {
    hub: SharedHub,
    id: u64,
    fate: watch::Receiver<Fate>,
    dice: Dice,
    gone: Arc<Notify>,
}

impl Up {
    async fn run(mut self, mut from: ReadHalf<DuplexStream>) {
        let mut buffer = vec![0; 4096];
        loop {
            let read = tokio::select! {
                biased;
                () = cut(&mut self.fate) => return self.broken(from, &[]).await,
                read = from.read(&mut buffer) => read.unwrap_or(0),
            };
            if read == 0 {
                self.gone.notify_one();
                travel(&self.fate, self.dice.ms(1, 30)).await;
                return self.end();
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(piece(rest, &mut self.dice));
                let (time, fate) = (self.dice.ms(1, 25), self.fate.clone());
                tokio::select! {
                    biased;
                    () = cut(&mut self.fate) => {
                        let rest = rest.to_vec();
                        return self.broken(from, &rest).await;
                    }
                    () = travel(&fate, time) => {}
                }
                self.hub.with(|h| h.bytes(self.id, now));
                rest = later;
            }
        }
    }

    /// Of what was under way a part arrives. The node may hear of the end, or not.
    async fn broken(mut self, mut from: ReadHalf<DuplexStream>, under_way: &[u8]) {
        let arrives = self.dice.up_to(under_way.len());
        self.hub.with(|h| h.bytes(self.id, &under_way[..arrives]));
        if self.dice.percent(70) {
            pass(self.dice.ms(0, 200)).await;
            self.end();
        }
        let mut buffer = vec![0; 4096];
        while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        self.gone.notify_one();
    }

    fn end(&self) {
        self.hub.with(|h: &mut Hub| h.closed(self.id));
    }
}

/// From the node to the SDK.
struct Down {
    fate: watch::Receiver<Fate>,
    dice: Dice,
    gone: Arc<Notify>,
}

impl Down {
    async fn run(mut self, mut to: WriteHalf<DuplexStream>, mut frames: mpsc::Receiver<Vec<u8>>) {
        loop {
            let line = tokio::select! {
                biased;
                () = cut(&mut self.fate) => return self.broken(to, &[]).await,
                () = self.gone.notified() => return,
                line = frames.recv() => line,
            };
            let Some(line) = line else {
                travel(&self.fate, self.dice.ms(1, 30)).await;
                // The reader may be gone as well.
                let _ = to.shutdown().await;
                return;
            };
            let mut rest = &line[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(piece(rest, &mut self.dice));
                // Frames that wait follow at once, as on a real line.
                let time = if frames.is_empty() { self.dice.ms(1, 25) } else { Duration::ZERO };
                let fate = self.fate.clone();
                tokio::select! {
                    biased;
                    () = cut(&mut self.fate) => return self.broken(to, rest).await,
                    written = async { travel(&fate, time).await; to.write_all(now).await } => {
                        if written.is_err() {
                            return;
                        }
                    }
                }
                rest = later;
            }
        }
    }

    async fn broken(mut self, mut to: WriteHalf<DuplexStream>, under_way: &[u8]) {
        let arrives = self.dice.up_to(under_way.len());
        let told = self.dice.percent(70);
        let after = self.dice.ms(0, 200);
        tokio::select! {
            biased;
            () = self.gone.notified() => return,
            _ = to.write_all(&under_way[..arrives]) => {}
        }
        if told {
            pass(after).await;
            let _ = to.shutdown().await;
        } else {
            self.gone.notified().await;
        }
    }
}
