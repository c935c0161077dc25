//! `ctimanager demo`: the main job in one command. A node with an embedded configuration, the auto-attendant as a real
//! application over TLS, and a real SIP call with real RTP through it. It needs no file and no network beyond loopback.

mod ladder;
mod phone;

use crate::config;
use crate::io::{Launch, Running, certificates_of_parts, listen};
use client::attendant::{self, Menu};
use client::media::{AudioCodec, MediaStream, RtpEndpoint, tone};
use client::{Provider, ProviderConfig, Transport};
use ladder::{Ladder, Lane};
use phone::{Phone, PhoneAccount, PhoneEvent};
use rand::TryRng;
use rand::rngs::SysRng;
use security::pki::Authority;
use security::{Secret, password};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::{sleep, timeout};

const CONFIG: &str = include_str!("demo.yaml");
const CALLER: &str = "2002";
const CALLEE: &str = "2001";
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
    fn of(error: impl std::fmt::Display) -> Self {
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

/// Runs the demo; prints as it goes.
///
/// # Errors
/// The first thing that did not happen.
pub async fn run(options: DemoOptions, say: &mut dyn FnMut(&str)) -> Result<(), DemoError> {
    let site = open_site(options.host, say).await?;
    let proof = call(&site, options.host, say).await;
    say(&site.ladder.draw(CALLER, CALLEE));
    match proof {
        Ok(proof) => say(&proof),
        Err(error) => {
            close(site).await;
            return Err(error);
        }
    }
    if options.keep {
        say(&invitation(&site));
        tokio::signal::ctrl_c().await.map_err(DemoError::of)?;
    }
    close(site).await;
    Ok(())
}

async fn close(site: Site) {
    // The node ends the session itself when the application's goodbye gets lost.
    let _ = site.attendant.close().await;
    site.running.stop().await;
}

/// The node and its application.
async fn open_site(host: IpAddr, say: &mut dyn FnMut(&str)) -> Result<Site, DemoError> {
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
    let ladder = Arc::new(Ladder::new(CALLER, CALLEE));
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
    say(&format!("node cm1: SIP on {sip}, CTI over TLS on {cti}"));
    let attendant = open_attendant(cti, ca, cti_password, host).await?;
    say(&format!("auto-attendant: logged in over TLS, opened RP_MAIN ({ROUTE_POINT}) with dynamic media"));
    Ok(Site { running, ladder, sip, sip_password, attendant })
}

fn addresses(running: &Running) -> Result<(SocketAddr, SocketAddr), DemoError> {
    let missing = || DemoError("the node does not listen".into());
    let sip = running.addresses.sip_udp.ok_or_else(missing)?;
    let cti = running.addresses.cti_tls.ok_or_else(missing)?;
    Ok((sip, cti))
}

async fn open_attendant(
    cti: SocketAddr,
    ca_pem: String,
    password: String,
    host: IpAddr,
) -> Result<Provider, DemoError> {
    let transport = Transport::Tls { ca_pem, server_name: None, identity: None };
    let secret = client::Secret::from(password);
    let config = ProviderConfig::new(&cti.to_string(), transport, "attendant", secret, "auto-attendant");
    let provider = Provider::connect(config).await.map_err(DemoError::of)?;
    let terminal = provider.terminal("RP_MAIN");
    let calls = terminal.calls();
    terminal.open_with_dynamic_media().await.map_err(DemoError::of)?;
    let menu = Menu {
        ip: host,
        prompt: tone::sine(Menu::PROMPT_HZ, Duration::from_secs(5)).into(),
        choices: [('1', CALLEE.to_owned()), ('2', "2003".to_owned())].into(),
        operator: CALLEE.to_owned(),
        timeout: Duration::from_secs(5),
        attempts: 3,
    };
    tokio::spawn(attendant::run(calls, Arc::new(menu)));
    Ok(provider)
}

/// A telephone and its sound.
struct Handset {
    phone: Phone,
    sound: RtpEndpoint,
}

impl Handset {
    async fn plug_in(number: &str, site: &Site, host: IpAddr) -> Result<Self, DemoError> {
        let sound = RtpEndpoint::bind(host).await.map_err(DemoError::of)?;
        let account = PhoneAccount {
            number: number.into(),
            password: site.sip_password.clone(),
            node: site.sip,
            media: sound.local_addr(),
        };
        Ok(Self { phone: Phone::register(account).await.map_err(DemoError::of)?, sound })
    }

    /// Waits until the phone's far end is somebody, and connects its sound there.
    async fn connect(&mut self) -> Result<SocketAddr, DemoError> {
        loop {
            match timeout(PATIENCE, self.phone.next()).await {
                Ok(Some(PhoneEvent::Media(far))) => {
                    let stream = |address| MediaStream {
                        address,
                        codec: AudioCodec::Pcmu,
                        payload_type: 0,
                        packet_ms: 20,
                        dtmf_payload_type: Some(101),
                    };
                    let own = self.sound.local_addr();
                    self.sound.start_input(stream(own)).await.map_err(DemoError::of)?;
                    self.sound.start_output(stream(far)).await.map_err(DemoError::of)?;
                    return Ok(far);
                }
                Ok(Some(PhoneEvent::Answered)) => {}
                Ok(Some(PhoneEvent::Ended)) | Ok(None) => {
                    return Err(DemoError("the call ended too early".into()));
                }
                Err(_) => return Err(DemoError("the phone was not connected in time".into())),
            }
        }
    }

    async fn ended(&mut self) -> Result<(), DemoError> {
        loop {
            match timeout(PATIENCE, self.phone.next()).await {
                Ok(Some(PhoneEvent::Ended)) => return Ok(()),
                Ok(Some(PhoneEvent::Answered | PhoneEvent::Media(_))) => {}
                Ok(None) | Err(_) => return Err(DemoError("the call did not end".into())),
            }
        }
    }
}

/// The call itself, and what it proved.
async fn call(site: &Site, host: IpAddr, say: &mut dyn FnMut(&str)) -> Result<String, DemoError> {
    let mut callee = Handset::plug_in(CALLEE, site, host).await?;
    let mut caller = Handset::plug_in(CALLER, site, host).await?;
    say(&format!("phones {CALLER} and {CALLEE}: registered with digest over UDP\n"));
    caller.phone.dial(ROUTE_POINT).await.map_err(DemoError::of)?;
    caller.connect().await?;
    let prompt = listen_for(&caller.sound, Menu::PROMPT_HZ, site, Lane::Caller).await?;
    caller.sound.send_digits("1").await.map_err(DemoError::of)?;
    site.ladder.note(now(), Lane::Caller, "digit 1 sent (RFC 4733)");
    callee.connect().await?;
    caller.connect().await?;
    let (at_caller, at_callee) = talk(&caller, &callee, site).await?;
    caller.phone.hang_up().await;
    callee.ended().await?;
    let mut text = String::from("proved:\n");
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
    Ok(text)
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

fn invitation(site: &Site) -> String {
    format!(
        "The node goes on until Ctrl-C. Your own softphone:\n  server {} (UDP)   user 2003   password {}\n\
         Call {ROUTE_POINT}; press 1 for 2001, 2 for 2003.",
        site.sip, site.sip_password
    )
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
