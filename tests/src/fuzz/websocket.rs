//! The web port as a stream finds it: an HTTP head, the upgrade it asks for, and the frames after it.
//!
//! What frames mean is read here once more, from RFC 6455, and compared with what the node would be told.

use super::framing::{LONG, cut, stretched};
use ctimanager::io::{Limits, TlsConfigs, WebDoor, certificates_of_parts};
use ctimanager::node::{CtiConnection, CtiTransport, Input};
use protocol::Frame;
use protocol::frame::MAX_LINE_BYTES;
use security::pki::Authority;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The head that asks rightly, but for its end.
const HEAD: &str = "GET /cti/v1 HTTP/1.1\r\nHost: fuzz\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    Sec-WebSocket-Protocol: chat, cti.v1.jsonrpc\r\n";
/// The answer to that key (RFC 6455 section 1.3).
const ACCEPT: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// What may be on its way between a peer and the node: the pipe, what HTTP reads ahead, and what WebSocket does.
const PIPE: usize = 64 * 1024;
const ON_ITS_WAY: usize = PIPE + 16 * 1024 + 2 * 8 * 1024;
/// The user of the certificate with which the peer came.
const USER: &str = "fuzz";

/// `w` and frames: after a head that asks rightly; `f`: that a page of another site sent. Anything else is all that the
/// peer sends, its head too.
pub(super) fn websocket(data: &[u8]) {
    let (cuts, data) = data.split_at(data.len().min(4));
    // Long streams take a hundred times as long: only one last cut has them.
    let stream = if cuts.last() == Some(&u8::MAX) { stretched(data, LONG) } else { data.to_vec() };
    let (head, frames) = match stream.split_first() {
        Some((b'w', frames)) => (format!("{HEAD}\r\n"), frames),
        Some((b'f', frames)) => (format!("{HEAD}Origin: https://elsewhere\r\n\r\n"), frames),
        _ => return any_head(&stream, cuts),
    };
    let sent = [head.as_bytes(), frames].concat();
    let heard = serve(&mut std::iter::once(&sent[..]));
    assert_eq!(heard, serve(&mut cut(&sent, cuts)).without_pongs_of(&heard), "cut");
    let (status, spoken) = heard.answer();
    assert!(status.starts_with("HTTP/1.1 101") && status.contains(ACCEPT), "{status}");
    let shown = (stream[0] == b'w').then(|| USER.to_owned());
    assert_eq!(heard.opened, [shown], "a page of another site has nobody's certificate");
    let meant = Meaning::of(frames);
    assert!(heard.texts == meant.texts, "{} texts instead of {}", heard.texts.len(), meant.texts.len());
    let goodbye = check_frames(spoken, &heard.texts, &meant);
    check_end(&heard, &meant, goodbye);
    check_pressure(&sent, head.len() + meant.first_text.unwrap_or(frames.len()));
}

/// Whoever became a WebSocket had asked for it, and his bytes mean the same however they are cut.
fn any_head(stream: &[u8], cuts: &[u8]) {
    let heard = serve(&mut std::iter::once(stream));
    let in_parts = serve(&mut cut(stream, cuts));
    assert_eq!((&heard.texts, &heard.end), (&in_parts.texts, &in_parts.end), "cut");
    let upgraded = |heard: &Heard| heard.answers.windows(13).filter(|w| w == b"HTTP/1.1 101 ").count();
    assert_eq!((upgraded(&heard), heard.opened.len()), (upgraded(&in_parts), in_parts.opened.len()), "cut");
    // A peer can have a digit or two of ours sent back in the middle of a text, but never a line end before them.
    if !heard.opened.is_empty() {
        assert_eq!((upgraded(&heard), heard.opened.len()), (1, 1));
        let asked = stream.to_ascii_lowercase();
        let asks = |word: &str| asked.windows(word.len()).any(|w| w == word.as_bytes());
        for word in ["get ", "/cti/v1", "upgrade", "websocket", "sec-websocket-key", "13"] {
            assert!(asks(word), "not asked: {word}");
        }
        let told = heard.answers.to_ascii_lowercase().windows(23).any(|w| w == b"sec-websocket-protocol:");
        assert!(!told || asks("cti.v1.jsonrpc"), "a subprotocol that nobody offered");
    }
}

/// What came of a stream.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    /// The CN of each WebSocket's certificate.
    opened: Vec<Option<String>>,
    texts: Vec<Vec<u8>>,
    /// How the node was told of the end: whether for a message that was too long.
    end: Option<bool>,
    /// All that came back.
    answers: Vec<u8>,
}

impl Heard {
    /// The head of the answer, and what follows.
    fn answer(&self) -> (String, &[u8]) {
        let end = self.answers.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
        let (head, rest) = self.answers.split_at(end);
        (String::from_utf8_lossy(head).into_owned(), rest)
    }

    /// The same with the other's answers: pings that come together may be answered with one pong, and a head has a date.
    fn without_pongs_of(mut self, other: &Self) -> Self {
        self.answers.clone_from(&other.answers);
        self
    }

    fn take(&mut self, door: &mut WebDoor) {
        while let Some(input) = door.heard() {
            match input {
                Input::CtiOpened { transport: CtiTransport::Tls { client_cn, .. }, .. } => {
                    self.opened.push(client_cn.map(|cn| cn.to_string()));
                }
                Input::CtiFrame(connection, text) => {
                    door.say(connection, echo(&text));
                    self.texts.push(text);
                }
                Input::CtiLineTooLong(connection) => self.ended(door, connection, true),
                Input::CtiClosed(connection) => self.ended(door, connection, false),
                other => panic!("{other:?} from the web port"),
            }
        }
    }

    fn ended(&mut self, door: &mut WebDoor, connection: CtiConnection, too_long: bool) {
        assert_eq!(self.end.replace(too_long), None, "one end");
        door.close(connection);
    }
}

/// A text that says how long the other was, in two parts that don't part its characters' bytes.
fn echo(text: &[u8]) -> Frame {
    let mut frame = Frame::whole(b"\xc3".to_vec());
    frame.tail = Frame::whole([&b"\xa4 "[..], text.len().to_string().as_bytes()].concat()).head;
    frame
}

fn tls() -> TlsConfigs {
    static TLS: OnceLock<TlsConfigs> = OnceLock::new();
    let make = || {
        // Of any day: nobody shakes hands.
        let authority = Authority::generate("fuzz", SystemTime::UNIX_EPOCH).expect("an authority");
        let node = authority.issue_node("cm1", &[], SystemTime::UNIX_EPOCH).expect("a certificate");
        certificates_of_parts(&authority.pem().certificate, &node).expect("configurations")
    };
    TLS.get_or_init(make).clone()
}

fn door(input_queue: usize) -> WebDoor {
    let limits = Limits {
        max_cti_connections: 4,
        max_unopened_connections: 4,
        max_unopened_connections_per_address: 4,
        max_waiting_passwords: 1,
        password_threads: 1,
        input_queue,
        input_queue_bytes: 64 << 20,
        node_failure_timeout: std::time::Duration::from_secs(1),
        max_line_bytes: MAX_LINE_BYTES,
        max_sip_connections: 1,
        max_sip_connecting: 1,
        max_web_connections: 4,
        sip_idle: std::time::Duration::from_secs(3_900),
        max_web_connections_per_address: 4,
        session_queue_events: 100_000,
        session_log_events: 100,
        session_log_bytes: 64 << 20,
    };
    WebDoor::new(tls(), limits)
}

fn come(door: &WebDoor) -> tokio::io::DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let transport = CtiTransport::Tls { client_cn: Some(USER.into()), not_after: None, serial: None };
    tokio::spawn(door.serve(theirs, ([192, 0, 2, 1], 5).into(), transport));
    ours
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime").block_on(work)
}

/// Time stands still while there is something to do, so this is when there is nothing left.
const SOON: Duration = Duration::from_millis(1);

async fn all_is_done() {
    tokio::time::sleep_until(tokio::time::Instant::now() + SOON).await;
}

/// Sends these parts to a node that takes everything at once, and then hangs up.
fn serve(parts: &mut dyn Iterator<Item = &[u8]>) -> Heard {
    run(async {
        let mut door = door(100_000);
        let mut heard = Heard::default();
        let (mut reader, mut writer) = tokio::io::split(come(&door));
        let reading = tokio::spawn(async move {
            let mut answers = Vec::new();
            // How it ends is no matter: what came until then counts.
            let _ = reader.read_to_end(&mut answers).await;
            answers
        });
        for mut part in parts {
            while !part.is_empty() {
                // Nobody reads what comes after a fault, until the node has closed.
                match tokio::time::timeout(SOON, writer.write(part)).await {
                    Ok(Ok(bytes)) => part = &part[bytes..],
                    Ok(Err(_)) => break,
                    Err(_) => {}
                }
                all_is_done().await;
                heard.take(&mut door);
            }
        }
        all_is_done().await;
        heard.take(&mut door);
        all_is_done().await;
        // An error says that the other end is gone already.
        let _ = writer.shutdown().await;
        all_is_done().await;
        heard.take(&mut door);
        drop((door, writer));
        heard.answers = reading.await.expect("it does not panic");
        heard
    })
}

/// A node that takes nothing has read no more than one text and what is on its way.
fn check_pressure(sent: &[u8], upto: usize) {
    if sent.len() <= upto + ON_ITS_WAY {
        return;
    }
    let taken = run(async {
        // The news of the connection fills the queue.
        let door = door(1);
        let mut stream = come(&door);
        let mut taken = 0;
        while let Some(rest) = sent.get(taken..).filter(|rest| !rest.is_empty()) {
            match tokio::time::timeout(SOON, stream.write(rest)).await {
                Ok(Ok(bytes)) => taken += bytes,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        taken
    });
    assert!(
        taken <= upto + ON_ITS_WAY,
        "{taken} bytes were taken of {}, the first text ends at {upto}",
        sent.len()
    );
}

/// How a stream of frames ends.
#[derive(Debug, PartialEq)]
enum End {
    /// The peer hangs up between frames or in one that breaks no rule yet.
    Open,
    /// A rule is broken by the whole of a frame; the codes (section 7.4.1) that say so.
    Fault(Vec<u16>),
    /// The same, but of a frame whose end never comes: it may be told or not.
    Maybe(Vec<u16>),
    /// The peer closes, with these codes to be answered; none: without one.
    Closed(Vec<u16>),
}

const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const INVALID: u16 = 1007;
const SIZE: u16 = 1009;

/// What frames mean by RFC 6455, and by the protocol's page: texts of at most 1 MiB.
struct Meaning {
    texts: Vec<Vec<u8>>,
    /// Where the first of them ends.
    first_text: Option<usize>,
    pings: Vec<Vec<u8>>,
    end: End,
}

impl Meaning {
    fn of(stream: &[u8]) -> Self {
        let mut meaning = Self { texts: Vec::new(), first_text: None, pings: Vec::new(), end: End::Open };
        let mut message = None;
        let mut at = 0;
        while let Some((head, length)) = Head::read(&stream[at..]) {
            let broken = head.breaks(message.is_some());
            let body =
                stream.get(at + length..).and_then(|rest| rest.get(..usize::try_from(head.length).ok()?));
            let Some(body) = body.filter(|_| head.length <= MAX_LINE_BYTES as u64) else {
                meaning.end = match broken {
                    _ if head.length > MAX_LINE_BYTES as u64 => End::Fault([&broken[..], &[SIZE]].concat()),
                    broken if broken.is_empty() => End::Open,
                    broken => End::Maybe(broken),
                };
                break;
            };
            at += length + body.len();
            if !broken.is_empty() {
                meaning.end = End::Fault(broken);
                break;
            }
            if let Some(end) = meaning.frame(&head, head.unmask(body), &mut message) {
                meaning.end = end;
                break;
            }
            if meaning.texts.len() == 1 {
                meaning.first_text.get_or_insert(at);
            }
        }
        meaning
    }

    /// A frame in order; `message` is the one that it may be a part of, and whether that is a text.
    fn frame(&mut self, head: &Head, body: Vec<u8>, message: &mut Option<(bool, Vec<u8>)>) -> Option<End> {
        match head.opcode {
            8 => return Some(closed(&body)),
            9 => self.pings.push(body),
            10 => {}
            opcode => {
                let (is_text, whole) = message.get_or_insert((opcode == 1, Vec::new()));
                whole.extend(body);
                let mut broken = Vec::new();
                if whole.len() > MAX_LINE_BYTES {
                    broken.push(SIZE);
                }
                let bad = std::str::from_utf8(whole).err();
                if *is_text && bad.is_some_and(|bad| head.is_last || bad.error_len().is_some()) {
                    broken.push(INVALID);
                }
                if !*is_text && head.is_last {
                    broken.push(UNSUPPORTED);
                }
                if !broken.is_empty() {
                    return Some(End::Fault(broken));
                }
                if head.is_last {
                    self.texts.extend(message.take().map(|(_, text)| text));
                }
            }
        }
        None
    }
}

fn closed(body: &[u8]) -> End {
    let Some((code, reason)) = body.split_first_chunk() else {
        return if body.is_empty() { End::Closed(Vec::new()) } else { End::Fault(vec![PROTOCOL]) };
    };
    if std::str::from_utf8(reason).is_err() {
        return End::Fault(vec![INVALID]);
    }
    // A code that nobody may send is answered with a complaint.
    End::Closed(vec![u16::from_be_bytes(*code), PROTOCOL])
}

struct Head {
    is_last: bool,
    reserved: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    length: u64,
}

impl Head {
    /// A head and its own length, if it is whole.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, rest) = match second & 0x7f {
            126 => {
                rest.split_first_chunk().map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))?
            }
            127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
            length => (length.into(), rest),
        };
        let (mask, rest) = match second & 0x80 {
            0 => (None, rest),
            _ => rest.split_first_chunk().map(|(mask, rest)| (Some(*mask), rest))?,
        };
        let head = Self {
            is_last: first & 0x80 != 0,
            reserved: first & 0x70 != 0,
            opcode: first & 0x0f,
            mask,
            length,
        };
        Some((head, bytes.len() - rest.len()))
    }

    /// The codes of the rules that it breaks, within a message or between two.
    fn breaks(&self, within: bool) -> Vec<u16> {
        let control = self.opcode >= 8;
        let broken = self.reserved
            || self.mask.is_none()
            || !matches!(self.opcode, 0..=2 | 8..=10)
            || control && (!self.is_last || self.length > 125)
            || !control && (self.opcode == 0) != within;
        if broken { vec![PROTOCOL] } else { Vec::new() }
    }

    fn unmask(&self, body: &[u8]) -> Vec<u8> {
        let mask = self.mask.unwrap_or_default();
        body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }
}

/// The node's own frames: whole, unmasked, as short as can be. Texts are the echoes, pongs some of the pings, both in order,
/// and the last may be a goodbye: its code is returned.
fn check_frames(mut spoken: &[u8], texts: &[Vec<u8>], meant: &Meaning) -> Option<Option<u16>> {
    let (mut echoes, mut pings) = (texts.iter(), meant.pings.iter());
    let mut goodbye = None;
    while let Some((head, length)) = Head::read(spoken) {
        assert!(head.is_last && !head.reserved && head.mask.is_none(), "a frame of the node's");
        let least = if head.length < 126 { 2 } else { 4 };
        assert_eq!(length, least, "no longer than need be");
        let whole = length + usize::try_from(head.length).expect("short");
        let body = spoken.get(length..whole).expect("the node ends no frame in the middle");
        spoken = &spoken[whole..];
        assert_eq!(goodbye, None, "nothing follows a goodbye");
        match head.opcode {
            1 => {
                let expected = echoes.next().map(|text| format!("ä {}", text.len()));
                assert_eq!(Some(String::from_utf8_lossy(body).into_owned()), expected);
            }
            8 => goodbye = Some(body.first_chunk().map(|code| u16::from_be_bytes(*code))),
            10 => assert!(pings.any(|ping| ping == body), "a pong without its ping"),
            other => panic!("the node sent a frame {other}"),
        }
    }
    assert!(spoken.is_empty(), "{} bytes of a frame", spoken.len());
    if meant.end == End::Open {
        assert_eq!(echoes.next(), None, "an echo is missing");
    }
    goodbye
}

/// The node is told of the end as the frames mean it, and the peer hears why.
fn check_end(heard: &Heard, meant: &Meaning, goodbye: Option<Option<u16>>) {
    let too_long = goodbye == Some(Some(SIZE));
    assert_eq!(heard.end, Some(too_long), "{:?}", meant.end);
    let allowed = match &meant.end {
        End::Open => goodbye.is_none(),
        End::Fault(codes) => goodbye.flatten().is_some_and(|code| codes.contains(&code)),
        End::Maybe(codes) => goodbye.is_none_or(|said| said.is_some_and(|code| codes.contains(&code))),
        End::Closed(codes) if codes.is_empty() => goodbye == Some(None),
        End::Closed(codes) => goodbye.flatten().is_some_and(|code| codes.contains(&code)),
    };
    assert!(allowed, "{goodbye:?} after {:?}", meant.end);
}
