//! `ctimanager demo`: the main job in one command. A node with an embedded configuration, the auto-attendant as a real
//! application over TLS, and a real SIP call with real RTP through it. It needs no file and no network beyond loopback.

mod handset;
mod ladder;
mod phone;
mod screen;

pub use screen::Screen;

use crate::config;
use crate::io::{Launch, Running, certificates_of_parts, listen};
use client::attendant::{self, Listener, Menu};
use client::media::{RtpEndpoint, tone};
use client::{Provider, ProviderConfig, Transport};
use handset::Handset;
use ladder::{Ladder, Lane};
use rand::TryRng;
use rand::rngs::SysRng;
use security::pki::Authority;
use security::{Secret, password};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CONFIG: &str = include_str!("demo.yaml");
const CALLER: &str = "2002";
const CALLEE: &str = "2001";
const SOFTPHONE: &str = "2003";
const ROUTE_POINT: &str = "5000";
const CALLER_HZ: f64 = 700.0;
const CALLEE_HZ: f64 = 1000.0;

/// How long anything of the demo may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long each listening lasts.
const LISTEN: Duration = Duration::from_millis(1500);
/// How much of a tone must be heard in it.
const ENOUGH: Duration = Duration::from_millis(700);

/// What the demo is asked.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Go on after the call, for the user's own softphone.
    pub keep: bool,
    /// The address to listen on.
    pub host: IpAddr,
}

/// Why the demo failed, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DemoError(String);

impl DemoError {
    pub(crate) fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

struct Site {
    running: Running,
    ladder: Arc<Ladder>,
    sip: SocketAddr,
    sip_password: String,
    attendant: Provider,
}

/// Runs the demo; tells as it goes, and draws each call.
///
/// # Errors
/// The first thing that did not happen.
pub async fn run(options: DemoOptions, screen: &Screen) -> Result<(), DemoError> {
    if options.host.is_unspecified() {
        return Err(DemoError(format!(
            "{} is no address that a phone could reach: --host names one of this machine",
            options.host
        )));
    }
    let site = open_site(options.host, screen).await?;
    let phones = match call(&site, screen).await {
        Ok(phones) => phones,
        Err(error) => {
            close(site).await;
            return Err(error);
        }
    };
    if options.keep {
        screen.say(invitation(&site, options.host).await);
        let stay = stay(&site, phones);
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => stopped.map_err(DemoError::of)?,
            ended = stay => ended?,
        }
    }
    close(site).await;
    Ok(())
}

/// The two phones answer whoever calls, until something fails.
async fn stay(site: &Site, [caller, callee]: [Handset; 2]) -> Result<(), DemoError> {
    let mut phones = JoinSet::new();
    for (phone, number, hz) in [(caller, CALLER, CALLER_HZ), (callee, CALLEE, CALLEE_HZ)] {
        let ladder = Arc::clone(&site.ladder);
        phones
            .spawn(phone.stay(hz, move |what| ladder.note(now(), Lane::Callee, format!("{number} {what}"))));
    }
    match phones.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(stopped)) => Err(DemoError::of(stopped)),
        None => Ok(()),
    }
}

async fn close(site: Site) {
    // The node ends the session itself when the application's goodbye gets lost.
    let _ = site.attendant.close().await;
    site.running.stop().await;
}

/// The node and its application.
async fn open_site(host: IpAddr, screen: &Screen) -> Result<Site, DemoError> {
    let (sip_password, cti_password) = (random_text()?, random_text()?);
    let mut salt = [0; 16];
    SysRng.try_fill_bytes(&mut salt).map_err(|_| DemoError("the system gives no random numbers".into()))?;
    let hash = password::hash(&Secret::new(cti_password.clone()), salt).map_err(DemoError::of)?;
    let text =
        CONFIG.replace("HOST", &host.to_string()).replace("SECRET", &sip_password).replace("HASH", &hash);
    let loaded = config::parse("demo.yaml", &text).map_err(|mistakes| {
        DemoError(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let node = loaded.config.node(None).map_err(DemoError)?.clone();
    let authority = Authority::generate("demo", wall()).map_err(DemoError::of)?;
    let issued = authority.issue_node("cm1", &[&host.to_string()], wall()).map_err(DemoError::of)?;
    let ca = authority.pem().certificate.clone();
    let tls = certificates_of_parts(&ca, &issued).map_err(DemoError::of)?;
    let ladder = Arc::new(Ladder::new(screen.clone()));
    let listen = listen(&node).await.map_err(DemoError::of)?;
    let tap: Arc<dyn crate::io::Tap> = ladder.clone();
    let launch = Launch {
        config: loaded.config,
        node,
        tls,
        listen,
        reload: None,
        tap: Some(tap),
        state: None,
        signals: false,
    };
    let running = launch.start().await.map_err(DemoError::of)?;
    let (sip, cti) = addresses(&running)?;
    screen.say(format!("node cm1: SIP on {sip}, CTI over TLS on {cti}"));
    let attendant = open_attendant(cti, ca, cti_password, host, Arc::clone(&ladder)).await?;
    screen.say(format!(
        "auto-attendant: logged in over TLS, opened RP_MAIN ({ROUTE_POINT}) with dynamic media"
    ));
    Ok(Site { running, ladder, sip, sip_password, attendant })
}

fn addresses(running: &Running) -> Result<(SocketAddr, SocketAddr), DemoError> {
    let missing = || DemoError("the node does not listen".into());
    let sip = *running.addresses.sip_udp.first().ok_or_else(missing)?;
    let cti = *running.addresses.cti_tls.first().ok_or_else(missing)?;
    Ok((sip, cti))
}

async fn open_attendant(
    cti: SocketAddr,
    ca_pem: String,
    password: String,
    host: IpAddr,
    ladder: Arc<Ladder>,
) -> Result<Provider, DemoError> {
    let transport = Transport::Tls { ca_pem, server_name: None, identity: None };
    let secret = client::Secret::from(password);
    let config = ProviderConfig::new(&cti.to_string(), transport, "attendant", secret, "auto-attendant");
    let provider = Provider::connect(config).await.map_err(DemoError::of)?;
    let terminal = provider.terminal("RP_MAIN");
    let calls = terminal.calls();
    terminal.open_with_dynamic_media().await.map_err(DemoError::of)?;
    let listener = Listener::new(move |leg, digits| {
        let what = if digits.is_empty() { "no digit".to_owned() } else { format!("digit {digits}") };
        ladder.note_of_leg(now(), &leg.to_string(), what);
    });
    let menu = Menu {
        ip: host,
        prompt: tone::sine(Menu::PROMPT_HZ, Duration::from_secs(5)).into(),
        choices: [('1', CALLEE.to_owned()), ('2', CALLER.to_owned())].into(),
        operator: CALLEE.to_owned(),
        timeout: Duration::from_secs(5),
        attempts: 3,
        listener: Some(listener),
    };
    tokio::spawn(attendant::run(calls, Arc::new(menu)));
    Ok(provider)
}

/// The call itself, and what it proved. Gives the phones, caller first.
async fn call(site: &Site, screen: &Screen) -> Result<[Handset; 2], DemoError> {
    let mut callee = Handset::plug_in(CALLEE, &site.sip_password, site.sip).await?;
    let mut caller = Handset::plug_in(CALLER, &site.sip_password, site.sip).await?;
    screen.say(format!("phones {CALLER} and {CALLEE}: registered with digest over UDP"));
    caller.phone.dial(ROUTE_POINT).await.map_err(DemoError::of)?;
    caller.connect().await?;
    let prompt = listen_for(&caller.sound, Menu::PROMPT_HZ, site, Lane::Caller).await?;
    site.ladder.note(now(), Lane::Caller, "presses 1 (RFC 4733)");
    caller.sound.send_digits("1").await.map_err(DemoError::of)?;
    callee.connect().await?;
    caller.connect().await?;
    let (at_caller, at_callee) = talk(&caller, &callee, site).await?;
    caller.phone.hang_up().await;
    callee.ended().await?;
    // Then all of the call is drawn, and what it proved stands below it.
    let over = timeout(PATIENCE, site.ladder.first_call_ends()).await;
    over.map_err(|_| DemoError("a goodbye was not answered".into()))?;
    caller.sound.stop().await.map_err(DemoError::of)?;
    let mut text = String::from("\nproved:\n");
    let mut line = |what: String| {
        let _ = writeln!(text, "  {what}");
    };
    line(format!(
        "the caller heard the attendant's {:.0} Hz prompt for {} ms",
        Menu::PROMPT_HZ,
        prompt.as_millis()
    ));
    line(format!(
        "phone {CALLER} heard {CALLEE_HZ:.0} Hz of phone {CALLEE} for {} ms",
        at_caller.as_millis()
    ));
    line(format!(
        "phone {CALLEE} heard {CALLER_HZ:.0} Hz of phone {CALLER} for {} ms",
        at_callee.as_millis()
    ));
    for timing in site.ladder.timings() {
        line(format!("{}: {:.2} ms", timing.what, timing.took.as_secs_f64() * 1000.0));
    }
    screen.say(text);
    Ok([caller, callee])
}

/// Both speak, each with its own tone, and each must hear the other.
async fn talk(caller: &Handset, callee: &Handset, site: &Site) -> Result<(Duration, Duration), DemoError> {
    let length = LISTEN * 2;
    let caller_speaks = caller.sound.play(tone::sine(CALLER_HZ, length)).await;
    let callee_speaks = callee.sound.play(tone::sine(CALLEE_HZ, length)).await;
    let (at_caller, at_callee) = tokio::join!(
        listen_for(&caller.sound, CALLEE_HZ, site, Lane::Caller),
        listen_for(&callee.sound, CALLER_HZ, site, Lane::Callee),
    );
    drop((caller_speaks, callee_speaks));
    Ok((at_caller?, at_callee?))
}

/// Listens for a while; how much of the tone was in it.
async fn listen_for(sound: &RtpEndpoint, hz: f64, site: &Site, lane: Lane) -> Result<Duration, DemoError> {
    let recording = sound.record().await;
    sleep(LISTEN).await;
    let heard = tone::heard(&recording.finish().await.map_err(DemoError::of)?, hz);
    site.ladder.note(now(), lane, format!("hears {hz:.0} Hz, {} ms", heard.as_millis()));
    if heard < ENOUGH {
        return Err(DemoError(format!("a tone of {hz:.0} Hz was heard for {} ms only", heard.as_millis())));
    }
    Ok(heard)
}

/// How softphones come in, each as it is when it was just installed.
async fn invitation(site: &Site, host: IpAddr) -> String {
    let (sip, password) = (site.sip, &site.sip_password);
    let mut text = format!(
        "The node and its phones go on until Ctrl-C, and each call is drawn. Your own softphone:\n  \
         server {sip} (UDP)   user {SOFTPHONE}   password {password}\n\
         (a second and a third one: users 2004 and 2005, the same password)\n\
         Call {ROUTE_POINT}: press 1 for {CALLEE}, 2 for {CALLER}; or call these two. {CALLEE} beeps at {CALLEE_HZ:.0} Hz, \
         {CALLER} at {CALLER_HZ:.0} Hz.\n\n\
         \x20 baresip    in ~/.baresip/accounts: <sip:{SOFTPHONE}@{sip}>;auth_user={SOFTPHONE};auth_pass={password}\n\
         \x20            then: /dial sip:{ROUTE_POINT}@{sip}\n\
         \x20 linphonec  register sip:{SOFTPHONE}@{sip} sip:{sip} {password}\n\
         \x20            then: call sip:{ROUTE_POINT}@{sip}\n\
         \x20 pjsua      --id sip:{SOFTPHONE}@{sip} --registrar sip:{sip} --realm '*' --username {SOFTPHONE} \
         --password {password} --null-audio\n\
         \x20            then: m, and sip:{ROUTE_POINT}@{sip}\n"
    );
    if host.is_loopback() && !has_another_address().await {
        text += "\nThis machine has no address but loopback, and some softphones (baresip) refuse that for their sound: give \
                 it one, as in `ip addr add 10.77.0.1/24 dev lo`, and run `ctimanager demo --keep --host 10.77.0.1`.\n";
    }
    text
}

/// Whether packets could leave this machine: nothing is sent.
async fn has_another_address() -> bool {
    let Ok(socket) = UdpSocket::bind(("0.0.0.0", 0)).await else { return false };
    // An address of the documentation's own (RFC 5737): whichever way there is leads there.
    socket.connect(("198.51.100.1", 9)).await.is_ok()
        && socket.local_addr().is_ok_and(|own| !own.ip().is_loopback())
}

fn random_text() -> Result<String, DemoError> {
    let mut bytes = [0; 12];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| DemoError("the system gives no random numbers".into()))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[allow(clippy::disallowed_methods, reason = "the demo runs in real time")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the demo runs in real time")]
fn wall() -> SystemTime {
    SystemTime::now()
}
