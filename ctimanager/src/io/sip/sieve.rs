//! What the system throws away before it takes room in a socket's buffer, beside which a phone's datagram would be lost.
//!
//! A flood is thinned to about twice what its share lets pass; the door judges what is left as ever, so that nobody loses
//! any of his share. [`floods`] finds whom to thin, [`program`] says it to the system as a packet filter
//! (`SO_ATTACH_FILTER`, which any process may set on its own socket).
//!
//! And two sockets at one address have a buffer each ([`choose`]): what strangers fill has no datagram of a phone in it.

mod floods;
mod program;
#[cfg(test)]
mod tests;

pub(super) use floods::{Floods, Source};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use program::Instruction;
use socket2::{SockFilter, SockRef};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use tracing::debug;

/// Instructions that are tried, from the kernel's own limit downwards: it may give a program less memory
/// (`net.core.optmem_max`).
const SIZES: [usize; 3] = [4_096, 1_024, 256];

/// How much of something passes, of [`u32::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part(u32);

impl Part {
    /// Of a share between 0 and 1.
    pub(super) fn of(share: f64) -> Self {
        Self((share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32)
    }

    #[cfg(test)]
    fn share(self) -> f64 {
        f64::from(self.0) / f64::from(u32::MAX)
    }
}

/// Whom to thin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sieve {
    /// By address, or the /64 of an IPv6 one.
    pub(super) addresses: BTreeMap<IpAddr, Holes>,
    /// What of all strangers passes, when all together are too many.
    pub(super) crowd: Option<Part>,
    /// All that are known, who pass where the crowd is thinned.
    pub(super) known: Vec<SocketAddr>,
}

/// What passes of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holes {
    /// Of the known ones behind it; all without a part.
    pub(super) ports: BTreeMap<u16, Option<Part>>,
    /// Of everybody else there; as of the crowd without a part.
    pub(super) rest: Option<Part>,
}

impl Sieve {
    /// Puts it before the socket; nothing is thinned where the system can't, and the door alone judges then.
    pub(super) fn fit(&self, socket: &impl AsFd, ipv4: bool) {
        let socket = SockRef::from(socket);
        for most in SIZES {
            let program = program::of(self, ipv4, most);
            // Nothing to detach is no mistake.
            let Some(program) = program else { return drop(socket.detach_filter()) };
            match socket.attach_filter(&filter(&program)) {
                Ok(()) => return,
                Err(error) => debug!(%error, length = program.len(), "the system takes no such filter"),
            }
        }
        // The one from before may keep out whom it should not.
        let _ = socket.detach_filter();
    }
}

/// Sends what comes from these ways to the first of two sockets that are bound to one address, all else to the second
/// (`SO_ATTACH_REUSEPORT_CBPF`). Whether the system took it; if not, chance chooses.
pub(in crate::io) fn choose(known: &[SocketAddr], socket: &impl AsFd, ipv4: bool) -> bool {
    SIZES.into_iter().any(|most| {
        let program = program::choice(known, ipv4, most);
        let each =
            program.iter().map(|one| libc::sock_filter { code: one.code, jt: one.jt, jf: one.jf, k: one.k });
        let mut each: Vec<_> = each.collect();
        let Ok(len) = u16::try_from(each.len()) else { return false };
        let all = libc::sock_fprog { len, filter: each.as_mut_ptr() };
        let taken = setsockopt(socket, sockopt::AttachReusePortCbpf, &all);
        if let Err(error) = &taken {
            debug!(%error, len, "the system takes no such choice of sockets");
        }
        taken.is_ok()
    })
}

fn filter(program: &[Instruction]) -> Vec<SockFilter> {
    program.iter().map(|one| SockFilter::new(one.code, one.jt, one.jf, one.k)).collect()
}
