//! Many sessions that have one device open: what it costs to tell all of them of each call.

use super::application::{Application, Media, Watched, with};
use super::figures::{Spent, Subscribers};
use super::{BenchError, BenchOptions, HOLD, Site, alone, joined, node};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Each number of sessions on a fresh node.
pub(super) async fn measure(
    options: &BenchOptions,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Subscribers>, BenchError> {
    let mut all = Vec::new();
    for (sessions, rate) in &options.subscribers {
        let seconds = options.subscriber_seconds;
        say(&format!("{sessions} sessions on one device, {rate} calls/s for {seconds} s"));
        all.push(of(options, *sessions, *rate).await?);
    }
    Ok(all)
}

async fn of(options: &BenchOptions, sessions: u32, rate: u32) -> Result<Subscribers, BenchError> {
    let site = Site::open("subscribers", options.node(), Media::Dynamic).await?;
    let watchers = Watchers::open(&site, sessions.saturating_sub(1)).await?;
    let load = site.load(0, rate, rate * options.subscriber_seconds, HOLD);
    let first = load.first;
    let before = Spent::now(site.node.id(), std::process::id());
    let outcomes = joined(site.call(load)?).await?;
    let spent = Spent::now(site.node.id(), std::process::id()).since(&before);
    let heard = site.heard.clone();
    // The node tells everybody the end of the last call before it goes, and closes the connections in order.
    let mut watched = watchers.close(site).await?;
    if sessions == 1 {
        watched.last = heard.take_offered().into_iter().collect::<HashMap<_, _>>();
    }
    Ok(Subscribers::of((sessions, rate), first, &outcomes, heard.take_events(), &watched, spent))
}

/// The sessions that only listen, on a thread of their own.
struct Watchers {
    watched: Arc<Mutex<Watched>>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<(), BenchError>>,
}

impl Watchers {
    async fn open(site: &Site, count: u32) -> Result<Self, BenchError> {
        let watched = Arc::<Mutex<Watched>>::default();
        let (stop, stopped) = watch::channel(false);
        let (ready, opened) = oneshot::channel();
        let (cti, certified) = (site.node.cti, site.node.certified.clone());
        let told = watched.clone();
        let thread = std::thread::Builder::new().name("bench-watch".into()).spawn(move || {
            alone(async move {
                let mut watching = JoinSet::new();
                for _ in 0..count {
                    let mut application =
                        Application::open_certified(cti, certified.clone(), node::USER).await?;
                    application.open_device(node::ROUTE_POINT, Media::Dynamic).await?;
                    watching.spawn(application.watch(told.clone(), stopped.clone()));
                }
                // Whoever waits may have given up.
                let _ = ready.send(());
                while let Some(ended) = watching.join_next().await {
                    ended.map_err(|_| BenchError::Thread)??;
                }
                Ok(())
            })
        })?;
        if opened.await.is_err() {
            return Err(joined(thread).await.err().unwrap_or(BenchError::Thread));
        }
        Ok(Self { watched, stop, thread })
    }

    async fn close(self, site: Site) -> Result<Watched, BenchError> {
        // One that has failed says so when it is joined.
        let _ = self.stop.send(true);
        joined(self.thread).await?;
        site.close().await?;
        Ok(with(&self.watched, std::mem::take))
    }
}
