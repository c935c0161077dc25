//! Applications of the tests' own, on the raw client: one that a test leads step by step, and one that answers all.

use super::cti::{Cti, Message, leg_of};
use super::node::{Node, PASSWORD};
use super::rtp::Endpoint;
use super::{Lab, SOON};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// An application with one device and one RTP address.
pub struct App {
    /// Its connection.
    pub cti: Cti,
    /// Its ears and mouth.
    pub voice: Endpoint,
    /// Its device.
    pub device: String,
}

/// How an application terminates media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Media {
    None,
    Static,
    Dynamic,
}

impl App {
    /// Logs in over TLS, opens the device, and waits until it is in service.
    pub async fn open(lab: &Lab, node: &Node, user: &str, device: &str, media: Media) -> App {
        let cti = node.application(user).await;
        App::on(cti, lab, device, media).await
    }

    /// The same on a provider that is open.
    pub async fn on(mut cti: Cti, lab: &Lab, device: &str, media: Media) -> App {
        let voice = Endpoint::bind(lab).await;
        let media = media_of(media, voice.address);
        let opened = cti.call("device.open", json!({"device": device, "media": media})).await;
        if opened["device"]["state"] != "in_service" {
            cti.expect_event("device.in_service", |e| e["device"]["name"] == device, SOON).await;
        }
        App { cti, voice, device: device.to_owned() }
    }

    /// Waits for a call and gives its leg, whole.
    pub async fn offered(&mut self) -> Value {
        self.cti.expect("call.offering").await["leg"].clone()
    }

    /// Waits for a call, answers it, and waits until it is connected and its media flow. Gives the leg's id and the
    /// far address.
    pub async fn answer(&mut self) -> (Value, SocketAddr) {
        let leg = self.offered().await["leg"].clone();
        self.cti.call("call.answer", json!({"leg": leg})).await;
        self.cti.expect_leg("call.connected", &leg).await;
        let far = self.output(&leg).await;
        (leg, far)
    }

    /// Waits for the start of the stream that the device sends; gives where to.
    pub async fn output(&mut self, leg: &Value) -> SocketAddr {
        let is_output = |event: &Value| leg_of(event) == *leg && event["direction"] == "output";
        let started = self.cti.expect_event("media.started", is_output, SOON).await;
        media_address(&started)
    }

    /// Ends a call and waits for the last event of its leg.
    pub async fn drop_call(&mut self, leg: &Value) {
        self.cti.call("call.drop", json!({"leg": leg})).await;
        self.cti.expect_leg("call.disconnected", leg).await;
    }
}

fn media_of(media: Media, address: SocketAddr) -> Value {
    let codecs = ["PCMU", "PCMA"];
    match media {
        Media::None => json!({"mode": "none"}),
        Media::Static => {
            json!({"mode": "static", "ip": address.ip(), "port": address.port(), "codecs": codecs})
        }
        Media::Dynamic => json!({"mode": "dynamic", "codecs": codecs}),
    }
}

/// `ip` and `port` of a media event.
///
/// # Panics
/// If they aren't there.
#[must_use]
pub fn media_address(event: &Value) -> SocketAddr {
    let ip: Option<IpAddr> = event["ip"].as_str().and_then(|ip| ip.parse().ok());
    let port = event["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    match (ip, port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port),
        _ => panic!("no address in {event}"),
    }
}

/// What an answering application has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// `call.offering`
    pub offered: u64,
    /// `call.connected`
    pub connected: u64,
    /// `call.disconnected`
    pub disconnected: u64,
    /// Requests that were refused.
    pub refused: u64,
}

/// An application that answers every call at its device and leaves hanging up to the caller.
pub struct Answerer {
    tally: watch::Receiver<Tally>,
    task: JoinHandle<()>,
    _voice: Endpoint,
}

impl Answerer {
    /// Opens the device with static media and begins.
    pub async fn start(lab: &Lab, node: &Node, user: &str, device: &str) -> Answerer {
        let mut cti = node.connect().await;
        let hello = json!({"user": user, "password": PASSWORD, "application": "answerer"});
        let opened = cti.call("provider.open", hello).await;
        let heartbeat = Duration::from_millis(opened["heartbeat_ms"].as_u64().unwrap_or(5_000));
        let App { cti, voice, .. } = App::on(cti, lab, device, Media::Static).await;
        let (sender, tally) = watch::channel(Tally::default());
        Answerer { tally, task: tokio::spawn(answer_all(cti, sender, heartbeat)), _voice: voice }
    }

    /// What it has seen so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        *self.tally.borrow()
    }

    /// Waits until it has seen this many calls end.
    ///
    /// # Panics
    /// If it doesn't.
    pub async fn has_seen_end(&mut self, calls: u64, within: Duration) {
        let ended = self.tally.wait_for(|tally| tally.disconnected >= calls);
        let seen = matches!(tokio::time::timeout(within, ended).await, Ok(Ok(_)));
        assert!(seen, "the application has seen {:?}, not {calls} calls end", self.tally());
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_all(mut cti: Cti, tally: watch::Sender<Tally>, heartbeat: Duration) {
    let mut last_beat = tokio::time::Instant::now();
    loop {
        if last_beat.elapsed() > heartbeat / 2 {
            cti.send("provider.heartbeat", json!({})).await;
            last_beat = tokio::time::Instant::now();
        }
        match cti.next(heartbeat / 4).await {
            Some(Message::Event(event)) => match event["type"].as_str() {
                Some("call.offering") => {
                    tally.send_modify(|tally| tally.offered += 1);
                    cti.send("call.answer", json!({"leg": leg_of(&event)})).await;
                }
                Some("call.connected") => tally.send_modify(|tally| tally.connected += 1),
                Some("call.disconnected") => tally.send_modify(|tally| tally.disconnected += 1),
                _ => {}
            },
            Some(Message::Reply(_, Err(error))) => {
                eprintln!("the answering application was refused: {error}");
                tally.send_modify(|tally| tally.refused += 1);
            }
            Some(Message::Reply(_, Ok(_))) | None => {}
            Some(Message::Closed) => return,
        }
    }
}
