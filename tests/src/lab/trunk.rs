//! Callers and called parties behind a trunk, many at once on one UDP socket: a user agent written from RFC 3261 that
//! notes what it is told and when. It repeats nothing, for loopback loses nothing; what the node repeats it answers again.

use super::{SOON, eventually, wall};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The far side of a trunk.
pub struct Trunk {
    /// Where it is.
    pub address: SocketAddr,
    office: Arc<Office>,
    listener: JoinHandle<()>,
}

/// One call of a trunk: the party at its end.
#[derive(Clone)]
pub struct Party {
    id: String,
    office: Arc<Office>,
}

/// What a party knows of its call.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Whether the party called, or was called.
    pub caller: bool,
    /// The number in the first INVITE's URI.
    pub number: String,
    /// When it was told of ringing (180).
    pub ringing: Option<SystemTime>,
    /// When it was answered, or answered itself.
    pub answered: Option<SystemTime>,
    /// Its end.
    pub over: Option<Over>,
    /// Where it was last told to send its audio.
    pub far_media: Option<SocketAddr>,
    /// INVITEs in the call, after the first.
    pub changes: u32,
    dialog: Dialog,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// When.
    pub at: SystemTime,
    /// The status that refused it; none when it was ended by BYE or CANCEL.
    pub refused: Option<u16>,
    /// The Q.850 cause in the Reason header.
    pub cause: Option<u16>,
}

/// What is written into each request of ours: `from` is our side.
#[derive(Clone, Debug, Default)]
struct Dialog {
    target: String,
    from: String,
    to: String,
    sequence: u32,
    /// Our last answer to an INVITE, for its repetition.
    last_answer: String,
}

struct Office {
    here: SocketAddr,
    node: SocketAddr,
    socket: UdpSocket,
    book: Mutex<Book>,
}

struct Book {
    calls: BTreeMap<String, Call>,
    media: SocketAddr,
    placed: u32,
}

impl Trunk {
    /// At this address, which the node's configuration names.
    ///
    /// # Panics
    /// If it is taken.
    pub async fn at(address: SocketAddr, node: SocketAddr) -> Trunk {
        let socket = UdpSocket::bind(address).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        let media = SocketAddr::new(address.ip(), 20_000);
        let book = Mutex::new(Book { calls: BTreeMap::new(), media, placed: 0 });
        let office = Arc::new(Office { here: address, node, socket, book });
        let listener = tokio::spawn(listen(Arc::clone(&office)));
        Trunk { address, office, listener }
    }

    /// Calls made or taken from now on have their audio here.
    pub fn speaks_at(&self, media: SocketAddr) {
        self.office.lock().media = media;
    }

    /// Calls this number.
    ///
    /// # Panics
    /// If the kernel doesn't take the datagram.
    pub async fn call(&self, number: &str) -> Party {
        let Office { here, node, .. } = *self.office;
        let (id, text) = {
            let mut book = self.office.lock();
            book.placed += 1;
            let id = format!("c{}@{here}", book.placed);
            let dialog = Dialog {
                target: format!("sip:{number}@{node}"),
                from: format!("<sip:4000@{here}>;tag=c{}", book.placed),
                to: format!("<sip:{number}@{node}>"),
                sequence: 1,
                ..Dialog::default()
            };
            let body = description(book.media);
            let text = dialog.request("INVITE", &id, here, &body);
            let call = Call { caller: true, number: number.to_owned(), dialog, ..Call::default() };
            book.calls.insert(id.clone(), call);
            (id, text)
        };
        self.office.send(&text).await;
        Party { id, office: Arc::clone(&self.office) }
    }

    /// Who was called at this number so far.
    #[must_use]
    pub fn called(&self, number: &str) -> Vec<Party> {
        let book = self.office.lock();
        let to_us = book.calls.iter().filter(|(_, call)| !call.caller && call.number == number);
        to_us.map(|(id, _)| Party { id: id.clone(), office: Arc::clone(&self.office) }).collect()
    }

    /// Waits until so many were called at this number.
    ///
    /// # Panics
    /// If they aren't.
    pub async fn is_called(&self, number: &str, count: usize) -> Vec<Party> {
        let what = format!("{count} calls to {number}");
        eventually(what, SOON, async || Some(self.called(number)).filter(|calls| calls.len() >= count)).await
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Party {
    /// What it knows now.
    #[must_use]
    pub fn look(&self) -> Call {
        self.office.lock().calls.get(&self.id).cloned().unwrap_or_default()
    }

    /// Waits until it is told of ringing.
    pub async fn rings(&self) -> SystemTime {
        self.until("rings", |call| call.ringing).await
    }

    /// Waits until it is answered.
    pub async fn is_answered(&self) -> SystemTime {
        self.until("is answered", |call| call.answered).await
    }

    /// Waits for its end.
    pub async fn is_over(&self) -> Over {
        self.until("is over", |call| call.over).await
    }

    /// Waits until something is true of it.
    ///
    /// # Panics
    /// If it doesn't come true.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&Call) -> Option<T>) -> T {
        let what = format!("the call {} {what}", self.id);
        eventually(what, SOON, async || look(&self.look())).await
    }

    /// Hangs up, once it is answered; a call that is over is left alone.
    pub async fn hang_up(&self) {
        self.until("is answered or over", |call| call.answered.or(call.over.map(|over| over.at))).await;
        if self.look().over.is_some() {
            return;
        }
        let text = {
            let mut book = self.office.lock();
            let Some(call) = book.calls.get_mut(&self.id) else { return };
            call.over.get_or_insert(Over { at: wall(), refused: None, cause: None });
            call.dialog.sequence += 1;
            call.dialog.request("BYE", &self.id, self.office.here, "")
        };
        self.office.send(&text).await;
    }
}

impl Office {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.node).await.expect("loopback takes a datagram");
    }
}

impl Dialog {
    fn request(&self, method: &str, id: &str, here: SocketAddr, body: &str) -> String {
        let Dialog { target, from, to, sequence, .. } = self;
        // An ACK to a refusal bears the INVITE's branch (RFC 3261 §17.1.1.3).
        let branch = if method == "ACK" && !to.contains("tag=") { "INVITE" } else { method };
        let number: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{number}{branch}{sequence};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: {sequence} {method}\r\n\
             Contact: <sip:4000@{here}>\r\n{}",
            bodied(body)
        )
    }
}

async fn listen(office: Arc<Office>) {
    let mut datagram = vec![0; 65_535];
    loop {
        // An ICMP error of a node that has gone is no message.
        let Ok((length, _)) = office.socket.recv_from(&mut datagram).await else { continue };
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        let answers = office.lock().take(&text, &office);
        for answer in answers {
            office.send(&answer).await;
        }
    }
}

impl Book {
    /// Notes what a message says; gives what is to be sent.
    fn take(&mut self, text: &str, office: &Office) -> Vec<String> {
        let Some(id) = header(text, "Call-ID").map(str::to_owned) else { return Vec::new() };
        match text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok()) {
            Some(status) => self.response(&id, status, text, office),
            None => self.request(&id, text, office),
        }
    }

    fn response(&mut self, id: &str, status: u16, text: &str, office: &Office) -> Vec<String> {
        let invite = header(text, "CSeq").is_some_and(|cseq| cseq.ends_with("INVITE"));
        let Some(call) = self.calls.get_mut(id).filter(|_| invite) else { return Vec::new() };
        let to = header(text, "To").unwrap_or_default().to_owned();
        match status {
            180..=199 => {
                call.ringing.get_or_insert_with(wall);
                Vec::new()
            }
            200..=299 => {
                call.answered.get_or_insert_with(wall);
                call.far_media = media_of(text).or(call.far_media);
                call.dialog.to = to;
                let contact = header(text, "Contact").unwrap_or_default();
                call.dialog.target = between(contact, '<', '>').unwrap_or(contact).to_owned();
                vec![call.dialog.request("ACK", id, office.here, "")]
            }
            300.. => {
                let cause = cause_of(text);
                call.over.get_or_insert_with(|| Over { at: wall(), refused: Some(status), cause });
                let ack = call.dialog.request("ACK", id, office.here, "");
                vec![ack.replacen(&format!("To: {}\r\n", call.dialog.to), &format!("To: {to}\r\n"), 1)]
            }
            _ => Vec::new(),
        }
    }

    fn request(&mut self, id: &str, text: &str, office: &Office) -> Vec<String> {
        match text.split(' ').next() {
            Some("INVITE") => self.invite(id, text, office),
            Some("BYE") => {
                self.ended(id, text);
                vec![answer(text, "200 OK", "", "")]
            }
            Some("ACK") => {
                if let (Some(call), Some(media)) = (self.calls.get_mut(id), media_of(text)) {
                    call.far_media = Some(media);
                }
                Vec::new()
            }
            // A CANCEL comes too late, for a call is answered at once.
            _ => vec![answer(text, "200 OK", "", "")],
        }
    }

    fn ended(&mut self, id: &str, text: &str) {
        if let Some(call) = self.calls.get_mut(id) {
            call.over.get_or_insert_with(|| Over { at: wall(), refused: None, cause: cause_of(text) });
        }
    }

    /// A new call is answered at once; a change within a call, too.
    fn invite(&mut self, id: &str, text: &str, office: &Office) -> Vec<String> {
        let cseq: Option<u32> = header(text, "CSeq").and_then(|c| c.split(' ').next()?.parse().ok());
        let body = description(self.media);
        let contact = format!("Contact: <sip:4000@{}>\r\n", office.here);
        let call = self.calls.entry(id.to_owned()).or_default();
        if let Some(media) = media_of(text) {
            call.far_media = Some(media);
        }
        if call.answered.is_some() {
            // A repetition is answered as it was.
            if !call.dialog.last_answer.contains(&format!("CSeq: {} INVITE", cseq.unwrap_or(0))) {
                call.changes += 1;
                call.dialog.last_answer = answer(text, "200 OK", &contact, &body);
            }
            return vec![call.dialog.last_answer.clone()];
        }
        call.number = between(text, ':', '@').unwrap_or_default().to_owned();
        let peer = header(text, "Contact").unwrap_or_default();
        let ok = answer(text, "200 OK", &contact, &body);
        call.dialog = Dialog {
            target: between(peer, '<', '>').unwrap_or(peer).to_owned(),
            from: header(&ok, "To").unwrap_or_default().to_owned(),
            to: header(text, "From").unwrap_or_default().to_owned(),
            sequence: 0,
            last_answer: ok.clone(),
        };
        call.answered = Some(wall());
        vec![answer(text, "180 Ringing", &contact, ""), ok]
    }
}

/// An answer to a request, with a tag of ours.
fn answer(request: &str, status: &str, more: &str, body: &str) -> String {
    let copied = request
        .lines()
        .filter(|line| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n)));
    let copied: String = copied.map(|line| format!("{line}\r\n")).collect();
    let to = header(request, "To").unwrap_or_default();
    let tag = if to.contains("tag=") { "" } else { ";tag=called" };
    format!("SIP/2.0 {status}\r\n{copied}To: {to}{tag}\r\n{more}{}", bodied(body))
}

fn bodied(body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn description(media: SocketAddr) -> String {
    let (ip, port) = (media.ip(), media.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
    )
}

/// Where a description says to send audio.
fn media_of(text: &str) -> Option<SocketAddr> {
    let ip = text.lines().find_map(|line| line.strip_prefix("c=IN IP4 "))?;
    let port = text.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next())?;
    Some(SocketAddr::new(ip.trim().parse().ok()?, port.parse().ok()?))
}

fn cause_of(text: &str) -> Option<u16> {
    let (_, rest) = header(text, "Reason")?.split_once("cause=")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().take_while(|line| !line.is_empty());
    let fields = lines.filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inside, _)| inside)
}
