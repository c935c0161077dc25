//! The door of the room: what the stack is told and what it says.

mod media_keys;

pub use media_keys::{Crypto, LineFault, MediaEncryption, SdesKey, SecureMediaRefusal, Suite};

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// SIP transports that the node listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// One hop of the wire: which way a message came or shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// How.
    pub transport: Transport,
    /// Our own end: the listening address it came to or shall leave from.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The connection, for TCP and TLS. To send with `None` means: use an open connection to `remote` or make one.
    pub connection: Option<ConnectionId>,
}

/// The name of a listener for others: it is behind NAT, in a container, or bound to every address of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Of which listener.
    pub transport: Transport,
    /// Its address, as in [`Config::listen`].
    pub listen: SocketAddr,
    /// An address, or a host name.
    pub host: Arc<str>,
    /// The port at which others reach it.
    pub port: u16,
}

/// Names one TCP or TLS connection of the node's life; given by whoever owns the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// How the stack presents itself and where its bounds are.
#[derive(Clone, Debug)]
pub struct Config {
    /// The digest realm: the cluster's name.
    pub realm: Arc<str>,
    /// `Server` and `User-Agent`.
    pub product: Arc<str>,
    /// Our listening addresses; the first ones are preferred.
    pub listen: Vec<(Transport, SocketAddr)>,
    /// What Via, Contact and From say instead of a listening address.
    pub advertised: Arc<[Advertised]>,
    /// Session interval that we ask for (RFC 4028), and the longest that a peer may be silent, 1800 s.
    pub session_expires: Duration,
    /// The least session interval we accept, 90 s.
    pub min_session_expires: Duration,
    /// The least registration, 60 s (423 below); the most, 120 s (shortened to it, given to what asks for none).
    pub min_expires: Duration,
    /// See `min_expires`; an account may have its own.
    pub max_expires: Duration,
    /// Contacts per address of record, 10; for one more the oldest gives way.
    pub max_contacts: usize,
    /// Transactions at once; a new request beyond it gets 503 with Retry-After, 20,000.
    pub max_transactions: usize,
    /// Requests within dialogs a second, of a phone's account or of one dialog of a trunk: 503 with Retry-After beyond
    /// it, but for BYE and ACK. 30; the burst is the same.
    pub max_dialog_requests_per_second: u32,
    /// Bytes of server transactions that one address may cause to be kept, 16 MiB; beyond it 503 with Retry-After.
    /// Trunks have no bound but that of all.
    pub max_bytes_per_address: usize,
    /// Calls at once; an INVITE beyond it gets 503 with Retry-After, 50,000.
    pub max_calls: usize,
    /// Subscriptions at once; a new SUBSCRIBE beyond it gets 503 with Retry-After, 20,000.
    pub max_subscriptions: usize,
    /// The same of one account, 128; for one more its oldest gives way.
    pub max_subscriptions_per_account: usize,
    /// T1 of RFC 3261, 500 ms.
    pub t1: Duration,
}

/// An event package that is served (RFC 6665 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Package {
    /// `message-summary` (RFC 3842): the message lamp.
    MessageSummary,
}

/// What somebody who subscribed is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchedState {
    /// Messages wait, or none does.
    Messages(Waiting),
}

/// Whether the message lamp is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Waiting {
    Yes,
    No,
}

/// What an account may watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The number that its SUBSCRIBE means.
    pub number: Arc<str>,
    /// What is to be told of it now.
    pub state: WatchedState,
}

/// A call as the stack sees it: a dialog, or the branches of a forked INVITE until one of them has won.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InviteHandle(pub u64);

impl fmt::Debug for InviteHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{:x}", self.0)
    }
}

/// Whom the stack asks about accounts and peers. Looked up while a message is handled; must not block.
pub trait Directory {
    /// The account of a digest user name.
    fn account(&self, user: &str) -> Option<Account>;
    /// The trunk whose messages come this way, and by what it is known. What a message says of its sender proves nothing.
    fn trunk(&self, hop: &Hop) -> Option<KnownTrunk>;
    /// The trunk at whose address somebody is that is not known as the trunk: for the log.
    fn trunk_of_address(&self, _hop: &Hop) -> Option<Arc<str>> {
        None
    }
    /// Our credentials at the peer of this hop, for the requests of ours that it challenges (401, 407).
    fn login(&self, _hop: &Hop) -> Option<Login> {
        None
    }
    /// Whether an account's id names a trunk, which needs no registration.
    fn is_trunk(&self, _account: &str) -> bool {
        false
    }
    /// Whether a trunk has a password that a challenge can ask it for.
    fn has_digest(&self, _trunk: &str) -> bool {
        false
    }
    /// Whether the media of this account or trunk are encrypted.
    fn media_encryption(&self, _peer: &str) -> MediaEncryption {
        MediaEncryption::None
    }
    /// Whether a new call from outside may begin now; `Err` gives the seconds for Retry-After (503).
    fn admit(&self) -> Result<(), u32> {
        Ok(())
    }
    /// Whether a password of this digest user from this hop is looked at now: who guesses has to wait. If not, the
    /// answer is the same as to a wrong one.
    fn may_prove(&self, _now: Instant, _user: &str, _hop: &Hop) -> bool {
        true
    }
    /// What this account is told when it subscribes to `user`; `None`: it may not, or there is no such number. Asked
    /// before each NOTIFY: a right that is withdrawn ends the subscription.
    fn watched(&self, _account: &str, _package: Package, _user: &str) -> Option<Watched> {
        None
    }
}

/// A trunk that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTrunk {
    /// Its name.
    pub name: Arc<str>,
    /// By what.
    pub by: Proof,
}

/// By what a trunk is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Proof {
    AddressAndPort,
    Address,
    Certificate,
    Digest,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proof::AddressAndPort => "address and port",
            Proof::Address => "address",
            Proof::Certificate => "certificate",
            Proof::Digest => "digest",
        })
    }
}

/// A phone's account.
#[derive(Clone)]
pub struct Account {
    /// What the owner of the directory calls it (the device's name); comes back in events.
    pub id: Arc<str>,
    /// The users of the addresses of record that it may register (its numbers).
    pub numbers: Arc<[Arc<str>]>,
    /// The digest password.
    pub password: Zeroizing<String>,
    /// The longest registration, where it is not [`Config::max_expires`].
    pub max_expires: Option<Duration>,
}

/// What happened.
#[allow(clippy::large_enum_variant)] // made and taken apart at once, never stored in number
pub enum Input {
    /// One whole message: a datagram, or what the framer cut from a stream.
    Received {
        /// Where it came from and to.
        hop: Hop,
        /// Its bytes, as they were.
        bytes: Vec<u8>,
    },
    /// A connection has ended, or was not made for want of room (`Hop::connection` is `None` then).
    Closed(Hop),
    /// A connection could not be made: nobody listens there (`Hop::connection` is `None`).
    Unreachable(Hop),
    /// A datagram of ours did not arrive (ICMP "unreachable", RFC 3261 §18.4).
    Undelivered {
        /// The way it went.
        hop: Hop,
        /// Its beginning, as far as the message quoted it.
        quoted: Vec<u8>,
    },
    /// Do this.
    Command(Command),
    /// A time that `next_timeout` named has come.
    Timeout,
}

/// What the stack says.
pub enum Output {
    /// Write these bytes. Over UDP one datagram.
    Send {
        /// Where.
        hop: Hop,
        /// For TLS to a named host: the name to verify.
        bytes: Vec<u8>,
    },
    /// Make a connection there if none is open, and say nothing yet. [`Input::Unreachable`] if it can't be made.
    Connect(Hop),
    /// Close this connection: it broke the protocol.
    Close(ConnectionId),
    /// Requests within dialogs were refused; at most once a second.
    Refused(Refused),
    /// A call of a device or trunk whose media must be encrypted was refused, or its change.
    SecureMediaRefused {
        /// The account or trunk.
        peer: Arc<str>,
        /// Why.
        reason: SecureMediaRefusal,
    },
    /// Somebody has shown who he is, or tried.
    Attempt(Attempt),
    /// Tell the node.
    Event(Event),
    /// What is registered has changed: for the next life of the node.
    Keep(BindingRecord),
}

/// What of the registrar's bindings outlives the process: what they add up to is what [`Command::Restore`] brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingRecord {
    /// The binding of this id is this.
    Bound(u64, Box<KeptBinding>),
    /// It is no more, or can't outlive the process.
    Gone(u64),
}

/// One contact that can be reached without the connection that it was registered on.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptBinding {
    /// The account's id.
    pub account: Arc<str>,
    /// The user of the address of record.
    pub number: Arc<str>,
    /// The contact's URI.
    pub contact: String,
    /// Preference in thousandths.
    pub q_thousandths: u16,
    /// Path values.
    pub path: Vec<String>,
    /// Of its last REGISTER.
    pub call_id: String,
    /// Of its last REGISTER.
    pub cseq: u32,
    /// `+sip.instance` and `reg-id`.
    pub instance: Option<String>,
    /// How it is reached.
    pub transport: Transport,
    /// Where.
    pub remote: SocketAddr,
    /// When it ends.
    pub expires_at: Instant,
}

impl fmt::Debug for KeptBinding {
    /// Neither its number nor its contact: they are a person's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptBinding({}, {:?} {})", self.account, self.transport, self.remote)
    }
}

/// How many requests were refused since the last word of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// They came from elsewhere than their dialog's peer, and did not prove themselves.
    pub elsewhere: u64,
    /// There were more within dialogs than [`Config::max_dialog_requests_per_second`].
    pub too_many: u64,
    /// Whose the last of those was.
    pub whose: Option<Source>,
    /// They were beyond [`Config::max_bytes_per_address`].
    pub no_room: u64,
    /// Where the last of them came from.
    pub from: SocketAddr,
}

impl fmt::Debug for Input {
    /// Never the bytes: they hold numbers and digests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Received { hop, bytes } => write!(f, "Received({hop:?}, {} bytes)", bytes.len()),
            Input::Closed(hop) => write!(f, "Closed({hop:?})"),
            Input::Unreachable(hop) => write!(f, "Unreachable({hop:?})"),
            Input::Undelivered { hop, quoted } => write!(f, "Undelivered({hop:?}, {} bytes)", quoted.len()),
            Input::Command(command) => write!(f, "Command({command:?})"),
            Input::Timeout => f.write_str("Timeout"),
        }
    }
}

impl fmt::Debug for Output {
    /// Never the bytes: they hold numbers and digests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Send { hop, bytes } => write!(f, "Send({hop:?}, {} bytes)", bytes.len()),
            Output::Connect(hop) => write!(f, "Connect({hop:?})"),
            Output::Close(connection) => write!(f, "Close({connection:?})"),
            Output::Refused(refused) => write!(f, "{refused:?}"),
            Output::Attempt(attempt) => write!(f, "{attempt:?}"),
            Output::Event(event) => write!(f, "Event({event:?})"),
            Output::Keep(record) => write!(f, "Keep({record:?})"),
            Output::SecureMediaRefused { peer, reason } => {
                write!(f, "SecureMediaRefused({peer}, {reason:?})")
            }
        }
    }
}

/// What a request outside all dialogs proved of its sender, or that nothing is registered on a connection any more.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Where it came from.
    pub hop: Hop,
    /// The digest user; `None` where no digest was looked at: of a trunk that its address proves, of a connection.
    pub user: Option<String>,
    /// What the sender calls itself (`User-Agent`), 64 characters at most; it may be invented.
    pub agent: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of somebody's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// He is who he says. What comes from there may count as his until then: the end of his registration, if there is
    /// one. Of a connection ask again then ([`Stack::held_until`](crate::Stack::held_until)).
    Right(Source, Instant),
    /// The password is wrong.
    WrongPassword,
    /// There is no such account; on the wire it looks like a wrong password.
    UnknownAccount,
    /// [`Directory::may_prove`] said no: the password was not looked at.
    PutOff,
}

impl fmt::Debug for Attempt {
    /// Not the user: it is mostly a number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({:?}, {:?})", self.hop, self.outcome)
    }
}

/// A party as SIP writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user part: the number.
    pub number: String,
    /// The display name.
    pub name: Option<String>,
    /// `Privacy: id` (RFC 3323).
    pub restricted: bool,
}

/// Who sent a call on before it came to where it is (RFC 5806); of several the last and the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverted {
    /// The last that did.
    pub by: Identity,
    /// For whom the call was at first.
    pub original: Identity,
}

/// Why a call was sent on, as Diversion says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the header's own
pub enum DiversionReason {
    Unknown,
    Unconditional,
    UserBusy,
    NoAnswer,
    Unavailable,
    OutOfService,
    Deflection,
}

impl DiversionReason {
    /// The word in the header.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            DiversionReason::Unknown => "unknown",
            DiversionReason::Unconditional => "unconditional",
            DiversionReason::UserBusy => "user-busy",
            DiversionReason::NoAnswer => "no-answer",
            DiversionReason::Unavailable => "unavailable",
            DiversionReason::OutOfService => "out-of-service",
            DiversionReason::Deflection => "deflection",
        }
    }
}

/// Who sent us a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An authenticated and registered account.
    Account(Arc<str>),
    /// A trunk.
    Trunk(Arc<str>),
}

impl Source {
    /// The account's id, or the trunk's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Source::Account(name) | Source::Trunk(name) => name,
        }
    }
}

/// Where a new call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// All contacts that this account has registered for this number (all of the account when the number has none).
    Account {
        /// The account's id.
        id: Arc<str>,
        /// The number.
        number: String,
    },
    /// A peer at a fixed address.
    Peer {
        /// The trunk's name.
        trunk: Arc<str>,
        /// How and where.
        transport: Transport,
        /// Its address.
        remote: SocketAddr,
        /// User of the request URI.
        user: String,
        /// Host of the request URI as configured.
        host: String,
    },
}

impl Destination {
    /// The account's id, or the trunk's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Destination::Account { id, .. } => id,
            Destination::Peer { trunk, .. } => trunk,
        }
    }
}

/// A session description to write.
#[derive(Clone, PartialEq, Eq)]
pub enum Sdp {
    /// Another leg's text: same media, our own origin line and version, this direction if one is given.
    Relay(Arc<[u8]>, Option<crate::port::MediaDirection>),
    /// A text of our own making, for audio that an application terminates.
    Local(Audio),
}

impl fmt::Debug for Sdp {
    /// Never the text: it may hold key material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sdp::Relay(text, direction) => write!(f, "Relay({} bytes, {direction:?})", text.len()),
            Sdp::Local(audio) => write!(f, "Local({audio:?})"),
        }
    }
}

/// A session description that was read: its audio, and the whole text for relaying.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadSdp {
    /// Its audio lines in the order of the text, refused ones among them. One whose address is no IP address is left out.
    pub audio: Vec<Audio>,
    /// A line of another kind (video, fax) is there and not refused.
    pub other_media: bool,
    /// One of those is without a key.
    pub other_clear: bool,
    /// Whether it came over TLS.
    pub over_tls: bool,
    /// The text as it came, without what may not be passed on: see [`MediaEncryption`].
    pub text: Arc<[u8]>,
}

impl ReadSdp {
    /// The first audio line that is not refused, else the first.
    #[must_use]
    pub fn first_audio(&self) -> Option<&Audio> {
        self.audio.iter().find(|audio| audio.address.port() != 0).or(self.audio.first())
    }
}

impl fmt::Debug for ReadSdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadSdp({:?}, {} bytes)", self.audio, self.text.len())
    }
}

/// `a=sendrecv` and its like, seen from the describer. A connection address of 0.0.0.0 reads as inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MediaDirection {
    SendReceive,
    SendOnly,
    ReceiveOnly,
    Inactive,
}

/// What a media line is carried by: the `proto` field, as far as it decides who can speak it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `RTP/AVP` and `RTP/AVPF`. Keys beside it (`a=crypto`, `a=fingerprint`) may be left alone.
    Plain,
    /// `RTP/SAVP` and `RTP/SAVPF`: nothing without keys (RFC 4568).
    Secure,
    /// `UDP/TLS/RTP/SAVP` and its like: nothing without a DTLS handshake (RFC 5764).
    Dtls,
    /// Anything else, RTP over TCP for instance.
    Other,
}

/// One audio stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Its place among all media lines of the description, from 0.
    pub line: usize,
    /// What carries it.
    pub profile: Profile,
    /// Where the describer receives; port 0 = refused.
    pub address: SocketAddr,
    /// Its payload formats, preferred first, telephone-event not among them.
    pub formats: Vec<PayloadFormat>,
    /// telephone-event at 8000 Hz (RFC 4733).
    pub dtmf_payload_type: Option<u8>,
    /// Its direction.
    pub direction: MediaDirection,
    /// `a=ptime`, milliseconds; 20 without one.
    pub packet_ms: u16,
    /// Its keys for SRTP (RFC 4568): the `a=crypto` lines that are usable, in their order.
    pub crypto: Vec<Crypto>,
}

/// One payload format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFormat {
    /// 0–127
    pub payload_type: u8,
    /// The RTP name (`PCMU`).
    pub name: String,
    /// Hz.
    pub clock_rate: u32,
    /// 1 when it says nothing.
    pub channels: u8,
}

/// What to do.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // made and taken apart at once, never stored in number
pub enum Command {
    /// Place a call.
    Invite {
        /// The node's name for it; unique.
        call: InviteHandle,
        /// Where.
        to: Destination,
        /// The caller to show.
        from: Identity,
        /// The called party, for `To`.
        called: Identity,
        /// Who sent it here, and why the last one did: `Diversion`.
        diverted: Option<(Diverted, DiversionReason)>,
        /// `None` = late offer.
        offer: Option<Sdp>,
        /// What is left for this leg.
        max_forwards: u8,
        /// How often the call was sent on by now.
        hops: u32,
        /// Whether the callee's media are encrypted.
        media_encryption: MediaEncryption,
    },
    /// 180, or 183 with a description (reliable where the caller asked for 100rel).
    Ring(InviteHandle, Option<Sdp>),
    /// 200 to the INVITE.
    Accept(InviteHandle, Sdp),
    /// A final refusal, with Retry-After where given.
    Refuse(InviteHandle, Refusal),
    /// End it, in whatever state: CANCEL, BYE or a refusal; with a `Reason: Q.850` header.
    End(InviteHandle, Refusal),
    /// re-INVITE (or UPDATE while early); `None` asks for the peer's offer.
    Offer(InviteHandle, Option<Sdp>),
    /// The answer: 200 to re-INVITE or UPDATE, or the ACK of a late offer.
    Answer(InviteHandle, Sdp),
    /// 491 or 488 to re-INVITE or UPDATE.
    RefuseOffer(InviteHandle, u16),
    /// Whom the peer talks to: P-Asserted-Identity and, of a trunk, Remote-Party-ID with the next message, or by an UPDATE
    /// if it supports that.
    Connected(InviteHandle, Identity),
    /// `application/dtmf-relay` by INFO.
    Digit(InviteHandle, char, u32),
    /// What came of its REFER, as a final status (RFC 3515 §2.4.5).
    Referred(InviteHandle, u16),
    /// Forget the bindings of an account that is no more; its calls go on.
    ForgetAccount(Arc<str>),
    /// Bring back the bindings of an earlier life, by their ids.
    Restore(Vec<(u64, KeptBinding)>),
    /// Let go of so many of the contacts that were lost together (`Stack::is_losing`).
    LetGo(usize),
    /// Let go at once of what this account has lost.
    Update(Arc<str>),
    /// What is watched of this number may have changed: whoever subscribed is told, if it has.
    Changed(Package, Arc<str>),
    /// The message lamp of an account's number is switched: its phones are told without a subscription, if the account has
    /// none for it.
    Lamp {
        /// The account.
        account: Arc<str>,
        /// The number.
        number: Arc<str>,
        /// What it shows.
        waiting: Waiting,
    },
    /// Rights have changed: all subscriptions are looked at again, some in each step.
    Recheck,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SIP status, 300–699.
    pub status: u16,
    /// Q.850 number for the `Reason` header.
    pub cause: u16,
    /// Seconds.
    pub retry_after: Option<u32>,
}

/// What the node is told.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // made and taken apart at once, never stored in number
pub enum Event {
    /// The contacts of an account's number changed.
    Registration {
        /// The account.
        account: Arc<str>,
        /// Contacts of the whole account now.
        contacts: usize,
    },
    /// A new call. It gets 100 at once; answer with [`Command::Ring`], `Accept` or `Refuse`.
    Incoming {
        /// Named by the stack; never equal to one the node gives (its top bit is set).
        call: InviteHandle,
        /// Authenticated source.
        source: Source,
        /// User part of the request URI: what was dialled.
        dialled: String,
        /// The caller. Of a trunk whom it asserts, else From. Of a phone the number by which it names one of its lines,
        /// which proves nothing, and whether it wants to be hidden.
        from: Identity,
        /// Who sent the call on before, by a trunk's word.
        diverted: Option<Diverted>,
        /// The offer.
        offer: Option<ReadSdp>,
        /// As received.
        max_forwards: u8,
        /// How often it was sent on before, as Diversion or History-Info say.
        hops: u32,
    },
    /// A trunk asserts that somebody else is at its end than before: by P-Asserted-Identity or Remote-Party-ID in an answer,
    /// re-INVITE or UPDATE.
    Identified(InviteHandle, Identity),
    /// 180–183 to our INVITE.
    Ringing(InviteHandle, Option<ReadSdp>),
    /// 200 to our INVITE. A late offer wants [`Command::Answer`]. `None` when the answer came with a reliable 183.
    Answered(InviteHandle, Option<ReadSdp>),
    /// A final refusal of our INVITE, all branches done.
    Refused {
        /// Which.
        call: InviteHandle,
        /// The best status (RFC 3261 §16.7).
        status: u16,
        /// From a `Reason: Q.850` header.
        cause: Option<u16>,
        /// User parts of a 300, 301 or 302's Contacts, the best first, each once.
        redirect_to: Vec<String>,
    },
    /// CANCEL or BYE, or the dialog was lost (no ACK, session timer, 408/481 in dialog).
    Ended {
        /// Which.
        call: InviteHandle,
        /// Q.850, of a Reason header or of the way it ended.
        cause: u16,
    },
    /// re-INVITE or UPDATE; `None` = it asks for our offer. Wants `Answer` or `RefuseOffer`.
    Offer(InviteHandle, Option<ReadSdp>),
    /// The answer to our offer.
    Answer(InviteHandle, ReadSdp),
    /// Our offer in mid-call was refused; 491 was retried before.
    OfferRefused(InviteHandle, u16),
    /// A digit by INFO.
    Digit(InviteHandle, char, u32),
    /// REFER: the other end of its call shall go elsewhere. It was accepted (202), and wants [`Command::Referred`].
    Referred(InviteHandle, ReferTo),
}

/// Where a REFER wants a call.
#[derive(Clone, PartialEq, Eq)]
pub enum ReferTo {
    /// To this number.
    Number(String),
    /// To the other end of this call of the referrer's, which is over then (Replaces, RFC 3891).
    Call(InviteHandle),
}

impl fmt::Debug for ReferTo {
    /// Not the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReferTo::Number(_) => f.write_str("Number"),
            ReferTo::Call(call) => write!(f, "Call({call:?})"),
        }
    }
}

/// The client's side: who we are at a peer.
#[derive(Clone)]
pub struct Login {
    /// The digest user name.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}
