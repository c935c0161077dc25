//! Applications on the SDK, over real TLS through bad weather and at a node that freezes: they come back and have missed
//! nothing.

use client::provider::{Error, LostReason, Observed, Reconnect};
use client::wire::LegState;
use client::{
    Codec, MediaTermination, Provider, ProviderConfig, ProviderEvent, Secret, TerminalConnection, Transport,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tests::lab::cti::Message;
use tests::lab::node::{Config, Node, PASSWORD};
use tests::lab::proxy::Proxy;
use tests::lab::trunk::{Party, Trunk};
use tests::lab::{Lab, SOON, eventually, wall};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

const CALLS: usize = 200;
const CUTS: u32 = 40;
/// Which calls meet which weather.
const SEED: u64 = 7;
/// All calls and all cuts, on a busy machine.
const LONG: Duration = Duration::from_secs(90);

fn config(server: SocketAddr, cas: &[&Path], user: &str) -> ProviderConfig {
    let read = |ca: &&Path| std::fs::read_to_string(ca).expect("an authority's certificate");
    let ca_pem = cas.iter().map(read).collect();
    let transport = Transport::Tls { ca_pem, server_name: None, identity: None };
    let password = Secret::from(PASSWORD.to_owned());
    let mut config = ProviderConfig::new(&server.to_string(), transport, user, password, "resuming");
    let (first_pause, longest_pause) = (Duration::from_millis(20), Duration::from_millis(200));
    config.reconnect =
        Some(Reconnect { first_pause, longest_pause, give_up_after: LONG, ..Reconnect::default() });
    config.resume_grace = Some(Duration::from_secs(30));
    config
}

fn media() -> MediaTermination {
    MediaTermination::Dynamic { codecs: vec![Codec::Pcmu, Codec::Pcma], srtp: Vec::new() }
}

/// What an application was told of calls and media: when, by the node's clock, and what.
type Story = Vec<(String, &'static str)>;

/// Notes what a provider is told, and that nothing is missing or comes twice.
struct Diary {
    story: Arc<Mutex<Story>>,
    resumed: Arc<Mutex<u32>>,
    task: JoinHandle<()>,
}

impl Diary {
    fn of(provider: &Provider) -> Diary {
        let (story, resumed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (pages, times) = (Arc::clone(&story), Arc::clone(&resumed));
        let mut events = provider.events();
        let task = tokio::spawn(async move {
            let mut last = 0;
            while let Some(observed) = events.next().await {
                match observed {
                    Observed::Event(ProviderEvent::Told { seq, time, event, .. }) => {
                        assert_eq!(seq, last + 1, "{event:?}");
                        last = seq;
                        note(&mut pages.lock().expect("no panic"), &time, event.event_type().name());
                    }
                    Observed::Event(ProviderEvent::Resumed) => *times.lock().expect("no panic") += 1,
                    Observed::Event(ProviderEvent::State(_) | ProviderEvent::ConnectionLost(_)) => {}
                    // Devices are cut off and back; of calls only the node tells.
                    Observed::Event(ProviderEvent::Concluded(event)) if event.leg().is_none() => {}
                    wrong => panic!("{wrong:?}"),
                }
            }
        });
        Diary { story, resumed, task }
    }

    fn story(&self) -> Story {
        assert!(!self.task.is_finished(), "the diary ended early");
        self.story.lock().expect("no panic").clone()
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(story: &mut Story, time: &str, kind: &'static str) {
    if kind.starts_with("call.") || kind.starts_with("media.") {
        story.push((time.to_owned(), kind));
    }
}

/// The same, on a connection that nobody cuts, by a client that shares no code with the SDK.
async fn observe(node: &Node, story: Arc<Mutex<Vec<(String, String)>>>) -> JoinHandle<()> {
    let mut cti = node.application("observer").await;
    let media = json!({"mode": "dynamic", "codecs": ["PCMU", "PCMA"]});
    cti.call("device.open", json!({"device": "RP_MAIN", "media": media})).await;
    tokio::spawn(async move {
        loop {
            match cti.next(Duration::from_secs(5)).await {
                Some(Message::Event(event)) => {
                    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                    if text("type").starts_with("call.") || text("type").starts_with("media.") {
                        story.lock().expect("no panic").push((text("time"), text("type")));
                    }
                }
                Some(Message::Reply(..)) => {}
                None => drop(cti.send("provider.heartbeat", json!({})).await),
                Some(Message::Closed) => return,
            }
        }
    })
}

/// Asks until the request was carried out. What was refused for want of a connection was not sent.
async fn insist<F: Future<Output = Result<(), Error>>>(what: &str, ask: impl Fn() -> F) {
    let deadline = Instant::now() + LONG;
    let mut rounds = tokio::time::interval(Duration::from_millis(20));
    loop {
        rounds.tick().await;
        match ask().await {
            Ok(()) => return,
            Err(Error::NotConnected) => assert!(Instant::now() < deadline, "{what}: never connected"),
            Err(other) => panic!("{what}: {other}"),
        }
    }
}

/// Places all calls, anew where the node was too busy to take one (503), until the desk has served as many.
async fn call_until_served(trunk: &Trunk, desk: JoinHandle<()>) -> Vec<Party> {
    let (mut parties, deadline) = (Vec::new(), Instant::now() + LONG);
    let mut pace = tokio::time::interval(Duration::from_millis(40));
    while !desk.is_finished() {
        pace.tick().await;
        parties.retain(|party: &Party| party.look().over.is_none_or(|over| over.refused != Some(503)));
        if parties.len() < CALLS {
            parties.push(trunk.call("5000").await);
        }
        assert!(Instant::now() < deadline, "not all calls are served in time");
    }
    desk.await.expect("no task panicked");
    parties
}

/// The caller was answered once, told one address, and hung up on.
async fn was_served(party: &Party, voice: SocketAddr) {
    let over = party.is_over().await;
    assert_eq!((over.refused, over.cause), (None, Some(16)), "{over:?}");
    let call = party.look();
    assert!(call.answered.is_some() && call.changes == 0 && call.far_media == Some(voice), "{call:?}");
}

/// Answers, gives an address, and hangs up once the caller is connected.
async fn attend(leg: TerminalConnection, voice: SocketAddr) {
    insist("answer", || leg.answer()).await;
    let asked = leg.wait_for(|status| status.open_channel.is_some()).await;
    assert!(asked.is_some(), "the call was there until somebody hung up");
    insist("set_media", || leg.set_media(voice)).await;
    leg.wait_for(|status| status.leg.state == LegState::Connected).await.expect("it is connected");
    insist("drop", || leg.drop_leg()).await;
    leg.gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_in_bad_weather_misses_nothing_and_does_nothing_twice() {
    let lab = Lab::new("weather");
    let callers = lab.address();
    let plan = Config::new(&lab)
        .route_point("RP_MAIN", "5000")
        .trunk("pstn", callers)
        .user("ivr", &["RP_MAIN"])
        .user("observer", &["RP_MAIN"])
        .parameter("cti_new_call_accept_timer", json!("60s"))
        .parameter("media_exchange_timer", json!("60s"));
    let mut node = Node::start(&lab, plan).await;
    let trunk = Trunk::at(callers, node.sip).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = observe(&node, Arc::clone(&seen)).await;

    let proxy = Proxy::start(&lab, node.cti, SEED, CUTS).await;
    // The first connection may be cut before there is a session.
    let mut provider_config = config(proxy.address, &[&node.ca()], "ivr");
    provider_config.only_configured = true;
    let provider = eventually("the provider is open", LONG, async || {
        Provider::connect(provider_config.clone()).await.ok()
    })
    .await;
    let diary = Diary::of(&provider);
    let terminal = provider.terminal("RP_MAIN");
    let mut calls = terminal.calls();
    insist("device.open", async || terminal.open(Some(media())).await.map(drop)).await;

    let voice = SocketAddr::new(lab.host(), 20_002);
    let desk = tokio::spawn(async move {
        let (mut attended, mut legs) = (JoinSet::new(), BTreeSet::new());
        while attended.len() < CALLS {
            let leg = calls.next().await.expect("the provider lives");
            assert!(legs.insert(leg.id()), "offered twice: {}", leg.id());
            attended.spawn(attend(leg, voice));
        }
        attended.join_all().await;
    });
    let parties = call_until_served(&trunk, desk).await;
    for party in &parties {
        was_served(party, voice).await;
    }
    node.is_quiet().await;

    let owned =
        |story: Story| story.into_iter().map(|(time, kind)| (time, kind.to_owned())).collect::<Vec<_>>();
    eventually("both were told the same", SOON, async || {
        let (told, seen) = (owned(diary.story()), seen.lock().expect("no panic").clone());
        (told == seen).then_some(())
    })
    .await;
    let connected = diary.story().iter().filter(|(_, kind)| *kind == "call.connected").count();
    assert_eq!(connected, CALLS);
    let (cuts, resumed) = (proxy.cuts(), *diary.resumed.lock().expect("no panic"));
    eprintln!("{cuts} cuts, {resumed} resumes, {} events", diary.story().len());
    assert!(cuts >= CUTS, "{cuts} cuts");
    observer.abort();
    node.is_well();
}

/// What happens to a provider's connection, and when it was told.
fn follow(provider: &Provider) -> Arc<Mutex<Vec<(SystemTime, ProviderEvent)>>> {
    let mut events = provider.events();
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    tokio::spawn(async move {
        while let Some(observed) = events.next().await {
            if let Observed::Event(event) = observed {
                notes.lock().expect("no panic").push((wall(), event));
            }
        }
    });
    noted
}

async fn told<T>(
    notes: &Mutex<Vec<(SystemTime, ProviderEvent)>>,
    what: &str,
    look: impl Fn(&ProviderEvent) -> Option<T>,
) -> (SystemTime, T) {
    eventually(what, SOON, async || {
        let notes = notes.lock().expect("no panic");
        notes.iter().find_map(|(at, event)| Some((*at, look(event)?)))
    })
    .await
}

fn lost(event: &ProviderEvent) -> Option<LostReason> {
    match event {
        ProviderEvent::ConnectionLost(reason) => Some(reason.clone()),
        _ => None,
    }
}

/// One second in both directions.
fn beating(mut config: ProviderConfig) -> ProviderConfig {
    config.heartbeat = Some(Duration::from_secs(1));
    config.connect_timeout = Duration::from_millis(500);
    config.request_timeout = Duration::from_secs(2);
    config
}

async fn house(lab: &Lab, callers: SocketAddr) -> Node {
    let plan = Config::new(lab)
        .port("PORT_001", "5101")
        .trunk("pstn", callers)
        .user("ivr", &["PORT_001"])
        .parameter("application_heartbeat_minimum_interval", json!("1s"));
    Node::start(lab, plan).await
}

/// Two silent intervals after the last word of the server, which says something at least once an interval.
fn two_intervals(frozen: SystemTime, missed: SystemTime) {
    let took = missed.duration_since(frozen).unwrap_or_default();
    eprintln!("the silence was noticed after {took:?}");
    assert!((900..4_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_frozen_server_is_missed_after_two_silent_intervals_and_resumed_when_it_is_back() {
    let lab = Lab::new("frozen-server");
    let callers = lab.address();
    let mut node = house(&lab, callers).await;
    let trunk = Trunk::at(callers, node.sip).await;
    let provider =
        Provider::connect(beating(config(node.cti, &[&node.ca()], "ivr"))).await.expect("it opens");
    assert_eq!(provider.session().map(|s| s.heartbeat_ms), Some(1_000));
    let (notes, terminal) = (follow(&provider), provider.terminal("PORT_001"));
    let mut calls = terminal.calls();
    terminal.open(Some(media())).await.expect("it opens");
    let call = trunk.call("5101").await;
    let leg = calls.next().await.expect("a call");
    leg.answer().await.expect("it is offered");
    leg.wait_for(|status| status.open_channel.is_some()).await.expect("it is asked");
    leg.set_media(SocketAddr::new(lab.host(), 20_002)).await.expect("nobody else is there");
    call.is_answered().await;

    let frozen = wall();
    node.signal("STOP");
    let (missed, reason) = told(&notes, "the silence", lost).await;
    assert_eq!(reason, LostReason::Silence);
    two_intervals(frozen, missed);
    node.signal("CONT");
    told(&notes, "the session goes on", |event| (*event == ProviderEvent::Resumed).then_some(())).await;
    assert_eq!(leg.state(), LegState::Connected, "its call waited");
    assert_eq!(call.look().over, None);
    leg.drop_leg().await.expect("it is in force again");
    assert_eq!(call.is_over().await.cause, Some(16));
    provider.close().await.expect("it leaves in order");
    node.is_quiet().await;
    node.is_well();
}

#[tokio::test]
async fn an_application_whose_server_freezes_goes_to_the_next_one() {
    let (first, second) = (Lab::new("frozen-first"), Lab::new("frozen-second"));
    let mut frozen = house(&first, first.address()).await;
    let next = house(&second, second.address()).await;
    let mut config = beating(config(frozen.cti, &[&frozen.ca(), &next.ca()], "ivr"));
    config.servers.push(next.cti.to_string());
    let provider = Provider::connect(config).await.expect("it opens");
    let notes = follow(&provider);
    provider.terminal("PORT_001").open(Some(media())).await.expect("it opens");

    let at = wall();
    frozen.signal("STOP");
    let (missed, reason) = told(&notes, "the silence", lost).await;
    assert_eq!(reason, LostReason::Silence);
    two_intervals(at, missed);
    let restarted = |event: &ProviderEvent| match event {
        ProviderEvent::Restarted(reason) => Some(*reason),
        _ => None,
    };
    told(&notes, "a session at the next server", restarted).await;
    eventually("its device is open there", SOON, async || {
        let sessions = next.admin("sessions");
        (sessions[0]["devices"] == json!(["PORT_001"])).then_some(())
    })
    .await;
    frozen.signal("CONT");
    // It stood still itself, so it reads first, and finds that the application has hung up.
    eventually("the old session has no connection", SOON, async || {
        (sessions_with_a_connection(&frozen) == 0).then_some(())
    })
    .await;
}

fn sessions_with_a_connection(node: &Node) -> usize {
    let sessions = node.admin("sessions");
    sessions
        .as_array()
        .into_iter()
        .flatten()
        .filter(|session: &&Value| session["state"] == "connected")
        .count()
}
