//! The lab: real SIP phones, a registrar, load, and applications around a real node, each process a guard that ends
//! what it started and nothing else. Everything lives on one loopback address that belongs to one test alone.

pub mod agent;
pub mod app;
pub mod baresip;
pub mod cable;
pub mod capture;
pub mod clients;
pub mod cluster;
pub mod cti;
pub mod document;
pub mod kamailio;
pub mod linphone;
pub mod node;
pub mod openssl;
pub mod process;
pub mod proxy;
pub mod rtp;
pub mod sipp;
pub mod tone;
pub mod trunk;
pub mod web;
pub mod websocket;
pub mod wire;

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, MissedTickBehavior};

/// How long a test waits for something that ought to happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// Labs lie in a folder that has all that people's folders have, so that every test shows that it does no harm: a length
/// beyond that of a Unix socket's address, spaces, quotes, what formats and scripts take for their own, other letters.
const AWKWARD: &str = "a long folder's name, with 100 % of what \"breaks\" things: $HOME, #, ;, (ü), \u{6771}; \
                       Unix sockets have 108 bytes";

/// The place of one test: a folder for its files and an address for its sockets.
pub struct Lab {
    folder: PathBuf,
    host: IpAddr,
    /// Whether its ports are free at every address.
    is_everywhere: bool,
    /// Held for the life of the lab: whoever has this port has the address.
    _claim: UdpSocket,
}

impl Lab {
    /// A fresh lab; `test` names its folder.
    ///
    /// # Panics
    /// Without the loopback network that `scripts/install-lab.sh` sets up, or without a writable target folder.
    #[must_use]
    pub fn new(test: &str) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = target_folder().join("lab").join(AWKWARD);
        let folder = folder.join(format!("{test}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let (host, claim) = claim_address();
        Lab { folder, host, is_everywhere: false, _claim: claim }
    }

    /// A lab whose node listens at every address: its ports are none of those that other labs have at theirs.
    ///
    /// # Panics
    /// As [`Lab::new`].
    #[must_use]
    pub fn everywhere(test: &str) -> Lab {
        let mut lab = Lab::new(test);
        lab.is_everywhere = true;
        lab
    }

    /// The address of this lab.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// A folder in the lab, made if it isn't there.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        folder
    }

    /// The path of a file in such a folder that no other call has given.
    #[must_use]
    pub fn file(&self, folder: &str, name: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.folder(folder).join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A port that is free for UDP and TCP at the lab's address. The address is this lab's alone, so that it stays free.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports(1)
    }

    /// The first of `count` neighbouring ports that are free for UDP and TCP; even.
    #[must_use]
    pub fn ports(&self, count: u16) -> u16 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Below the ephemeral range, which other programs' connections draw from.
        let (first, last) = if self.is_everywhere { (11_000, 11_998) } else { (12_000, 32_000) };
        for _ in 0..1_000 {
            let step = u32::from(count.next_multiple_of(2));
            let candidate = first + NEXT.fetch_add(step, Ordering::Relaxed) % (last - first - step);
            let candidate = u16::try_from(candidate & !1).unwrap_or(12_000);
            if (candidate..candidate + count).all(|port| self.is_free(port)) {
                return candidate;
            }
        }
        panic!("no {count} free ports in a row at {}", self.host)
    }

    /// A free address for UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port())
    }

    fn is_free(&self, port: u16) -> bool {
        let at = if self.is_everywhere { Ipv4Addr::UNSPECIFIED.into() } else { self.host };
        UdpSocket::bind((at, port)).is_ok() && TcpListener::bind((at, port)).is_ok()
    }
}

impl Drop for Lab {
    /// What a failed test leaves stays for whoever looks into it.
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("CTIMANAGER_LAB_KEEP").is_some() {
            eprintln!("the lab's files are in {}", self.folder.display());
        } else {
            // The next `cargo clean` takes what can't be removed now.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The machine's clock, which the node has, too.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the lab compares what real processes wrote down")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within the time, naming `what`.
pub async fn eventually<T>(
    what: impl Display,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    let mut rounds = tokio::time::interval(Duration::from_millis(25));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
    }
}

/// Something must stay true for a while: for what must *not* happen.
///
/// # Panics
/// As soon as `holds` says what is wrong.
pub async fn throughout(span: Duration, mut wrong: impl AsyncFnMut() -> Option<String>) {
    let deadline = Instant::now() + span;
    let mut rounds = tokio::time::interval(Duration::from_millis(25));
    while Instant::now() < deadline {
        rounds.tick().await;
        if let Some(what) = wrong().await {
            panic!("{what}");
        }
    }
}

/// `target/<profile>` of the running test, which lies in `deps` there, or of a program of the tests'.
#[must_use]
pub fn profile_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a running program has a path");
    let folder = executable.parent().expect("the test lies in a folder");
    let deps = folder.file_name().is_some_and(|name| name == "deps");
    folder.parent().filter(|_| deps).unwrap_or(folder).to_owned()
}

/// A program that the workspace builds.
///
/// # Panics
/// If it hasn't been built.
#[must_use]
pub fn built(program: &str) -> PathBuf {
    let path = profile_folder().join(program);
    assert!(path.is_file(), "{} isn't there: cargo build --workspace --bins --examples", path.display());
    path
}

fn target_folder() -> PathBuf {
    profile_folder().parent().map_or_else(std::env::temp_dir, Path::to_owned)
}

/// The first address of 10.77.0.0/24 that no other running test has: claimed by holding a port of it.
fn claim_address() -> (IpAddr, UdpSocket) {
    const CLAIM_PORT: u16 = 11_999;
    ensure_network();
    // Begin at another place in each process, so that an address rests before it is used again.
    let start = std::process::id() % 253;
    for step in 0..253 {
        let last = u8::try_from(2 + (start + step) % 253).unwrap_or(2);
        let host = Ipv4Addr::new(10, 77, 0, last);
        if let Ok(socket) = UdpSocket::bind((host, CLAIM_PORT)) {
            return (host.into(), socket);
        }
    }
    panic!("no free address in 10.77.0.0/24: run scripts/install-lab.sh (it gives loopback that network)")
}

/// baresip refuses 127.0.0.0/8 as the address of its media, so loopback gets a network of its own.
fn ensure_network() {
    if UdpSocket::bind((Ipv4Addr::new(10, 77, 0, 1), 0)).is_ok() {
        return;
    }
    for ip in ["ip", "/usr/sbin/ip", "/sbin/ip"] {
        let added = Command::new(ip).args(["addr", "add", "10.77.0.1/24", "dev", "lo"]).output();
        if added.is_ok_and(|output| output.status.success()) {
            return;
        }
    }
}
