//! The torture messages of RFC 4475, all 49 of them, through the screen and through the stack.
//!
//! The texts under `torture/` use the notation of RFC 4475 §2.1 for what a page can't show. Of `mpart01` the binary part
//! is shorter than in the RFC, and so it comes without Content-Length; of `unreason` the phrase has one more space.

use sip::message::{self, Malformed};
use sip::port::{ConnectionId, KnownTrunk, Proof};
use sip::{Account, Config, Directory, Event, Hop, Input, Output, Stack, Transport};
use std::time::{Duration, Instant};

/// What the screen makes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Screen {
    Accepts,
    Answers(u16),
    Drops,
}
use Screen::{Accepts, Answers, Drops};

/// What the whole stack does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It ends with this status.
    Says(u16),
    /// 100, and the node hears of a call.
    Calls,
    Nothing,
}
use Does::{Calls, Nothing, Says};

/// The messages in the RFC's order, and why this is right. INVITEs come from a known trunk, the rest from anyone.
const EXPECTED: [(&str, Screen, Does, &str); 49] = [
    // §3.1.1 valid messages
    ("wsinv", Accepts, Says(481), "well-formed; its To has a tag, and no such dialog is here"),
    ("intmeth", Accepts, Says(501), "well-formed; nobody knows the method"),
    ("esc01", Accepts, Calls, "escapes in user, display name and parameters"),
    ("escnull", Accepts, Says(401), "well-formed; a REGISTER without credentials"),
    ("esc02", Accepts, Says(501), "a percent sign in a method is no escape: not REGISTER"),
    ("lwsdisp", Accepts, Says(200), "no space before the bracket is needed"),
    ("longreq", Accepts, Calls, "long values, 34 Via, no branch"),
    ("dblreq", Accepts, Says(401), "what follows the Content-Length in a datagram is ignored"),
    ("semiuri", Accepts, Says(200), "a semicolon in a user part begins no parameter"),
    ("transports", Accepts, Says(200), "unknown transports below the topmost Via"),
    ("mpart01", Accepts, Says(405), "binary body; MESSAGE is not for us"),
    ("unreason", Accepts, Nothing, "well-formed; belongs to no INVITE of ours"),
    ("noreason", Accepts, Nothing, "an empty phrase; belongs to no INVITE of ours"),
    // §3.1.2 invalid messages
    ("badinv01", Answers(400), Says(400), "empty elements and parameters"),
    ("clerr", Answers(400), Says(400), "Content-Length beyond the datagram"),
    ("ncl", Answers(400), Says(400), "negative Content-Length"),
    ("scalar02", Answers(400), Says(400), "numbers out of range in a request"),
    ("scalarlg", Drops, Nothing, "numbers out of range in a response"),
    ("quotbal", Answers(400), Says(400), "unterminated quoted string"),
    ("ltgtruri", Answers(400), Says(400), "Request-URI in angle brackets"),
    ("lwsruri", Answers(400), Says(400), "a space in the Request-URI"),
    ("lwsstart", Answers(400), Says(400), "more than one space in the request line"),
    ("trws", Answers(400), Says(400), "spaces at the end of the request line"),
    ("escruri", Answers(400), Says(400), "headers in the Request-URI"),
    ("baddate", Accepts, Calls, "a Date in another time zone; we don't read Date, as the RFC allows"),
    ("regbadct", Answers(400), Says(400), "a Contact URI with headers outside angle brackets"),
    ("badaspec", Accepts, Says(200), "spaces within angle brackets; read leniently, as the RFC allows"),
    ("baddn", Accepts, Says(200), "a comma in an unquoted display name; read leniently, as the RFC allows"),
    ("badvers", Answers(505), Says(505), "another version of SIP"),
    ("mismatch01", Answers(400), Says(400), "another method in CSeq"),
    ("mismatch02", Answers(400), Says(400), "the same with an unknown method: 400 or 501"),
    ("bigcode", Drops, Nothing, "a status code that is none"),
    // §3.2 transaction layer
    ("badbranch", Accepts, Says(200), "a branch of the magic cookie alone counts as none"),
    // §3.3 application layer
    ("insuf", Answers(400), Says(400), "mandatory headers are missing"),
    ("unkscm", Accepts, Says(416), "unknown scheme in the Request-URI"),
    ("novelsc", Accepts, Says(416), "known scheme, but not for SIP"),
    ("unksm2", Accepts, Says(401), "unknown schemes elsewhere; who it is comes first"),
    ("bext01", Accepts, Says(420), "extensions that nobody supports"),
    ("invut", Accepts, Says(415), "a body that nobody reads"),
    ("regaut01", Accepts, Says(401), "an unknown authentication scheme counts as none"),
    ("multi01", Answers(400), Says(400), "headers twice that may be there once"),
    ("mcl01", Answers(400), Says(400), "two Content-Lengths"),
    ("bcast", Accepts, Nothing, "a response with another's Via on top"),
    ("zeromf", Accepts, Says(200), "OPTIONS ends here, so nothing is left to forward"),
    ("cparam01", Accepts, Says(401), "an unknown parameter of Contact"),
    ("cparam02", Accepts, Says(401), "an unknown parameter of a Contact's URI"),
    ("regescrt", Accepts, Says(401), "headers in a Contact URI, escaped as they must be"),
    ("sdp01", Accepts, Says(406), "the caller takes no session description"),
    // §3.4 backward compatibility
    ("inv2543", Accepts, Calls, "RFC 2543: no branch, no tag, no Max-Forwards, no Contact, no length"),
];

struct Torture {
    name: String,
    transport: Transport,
    bytes: Vec<u8>,
}

fn messages() -> Vec<Torture> {
    let texts = [
        include_str!("torture/1-valid.txt"),
        include_str!("torture/2-invalid.txt"),
        include_str!("torture/3-semantics.txt"),
    ];
    texts.iter().flat_map(|text| text.split("### ").skip(1)).map(read_one).collect()
}

fn read_one(text: &str) -> Torture {
    let (title, lines) = text.split_once('\n').unwrap();
    let (name, transport) = title.split_once(' ').unwrap();
    let transport = match transport {
        "UDP" => Transport::Udp,
        "TCP" => Transport::Tcp,
        "TLS" => Transport::Tls,
        other => panic!("{other}"),
    };
    Torture { name: name.to_owned(), transport, bytes: expand(&lines.replace('\n', "\r\n")) }
}

/// `<hex>…</hex>` and `<repeat count=n>…</repeat>` of RFC 4475 §2.1.
fn expand(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("<hex>").into_iter().chain(rest.find("<repeat count=")).min() {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("<hex>") {
            let (digits, after) = after.split_once("</hex>").unwrap();
            let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            bytes.extend((0..digits.len()).step_by(2).map(pair));
            rest = after;
        } else {
            let (count, after) = rest["<repeat count=".len()..].split_once('>').unwrap();
            let (word, after) = after.split_once("</repeat>").unwrap();
            bytes.extend(word.repeat(count.parse().unwrap()).into_bytes());
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

struct Peers;

impl Directory for Peers {
    fn account(&self, _: &str) -> Option<Account> {
        None
    }

    fn trunk(&self, _: &Hop) -> Option<KnownTrunk> {
        Some(KnownTrunk { name: "trunk".into(), by: Proof::AddressAndPort })
    }
}

fn stack() -> Stack {
    let address = "192.0.2.200:5060".parse().unwrap();
    let seconds = Duration::from_secs;
    let config = Config {
        realm: "example.com".into(),
        product: "test".into(),
        advertised: [].into(),
        listen: vec![(Transport::Udp, address), (Transport::Tcp, address), (Transport::Tls, address)],
        session_expires: seconds(1800),
        min_session_expires: seconds(90),
        max_dialog_requests_per_second: 1000,
        max_subscriptions: 100,
        max_subscriptions_per_account: 4,
        min_expires: seconds(60),
        max_expires: seconds(3600),
        max_contacts: 10,
        max_transactions: 100,
        max_bytes_per_address: 1 << 20,
        max_calls: 100,
        t1: Duration::from_millis(500),
    };
    Stack::new(config, [1; 32])
}

#[allow(clippy::disallowed_methods)] // the epoch of a virtual clock
fn through_the_stack(torture: &Torture) -> Does {
    let hop = Hop {
        transport: torture.transport,
        local: "192.0.2.200:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        connection: (torture.transport != Transport::Udp).then_some(ConnectionId(1)),
    };
    let mut out = Vec::new();
    let input = Input::Received { hop, bytes: torture.bytes.clone() };
    stack().handle(Instant::now(), input, &Peers, &mut out);
    let mut does = Nothing;
    for output in out {
        match output {
            Output::Send { bytes, .. } => {
                let status = std::str::from_utf8(&bytes[8..11]).unwrap().parse().unwrap();
                if status > 100 {
                    assert_eq!(does, Nothing, "{}: a second answer", torture.name);
                    does = Says(status);
                }
            }
            Output::Event(Event::Incoming { .. }) => does = Calls,
            Output::Event(other) => panic!("{}: {other:?}", torture.name),
            Output::Attempt(_) => {}
            Output::Close(_) | Output::Refused(_) => panic!("{}: closed or refused", torture.name),
            Output::Keep(_) | Output::Connect(_) => panic!("{}: registered", torture.name),
            Output::SecureMediaRefused { .. } => panic!("{}: nobody must encrypt", torture.name),
        }
    }
    does
}

#[test]
fn the_screen_takes_and_refuses_what_the_rfc_says() {
    let mut wrong = Vec::new();
    for (torture, (name, expected, _, why)) in messages().iter().zip(EXPECTED) {
        assert_eq!(torture.name, name);
        let screen = match message::read(&torture.bytes, torture.transport) {
            Ok(_) => Accepts,
            Err(Malformed::Answer(answer)) => Answers(answer.status),
            Err(Malformed::Discard(_) | Malformed::KeepAlive) => Drops,
        };
        if screen != expected {
            wrong.push(format!("{name}: {screen:?} and not {expected:?}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_stack_does_what_the_rfc_says() {
    let all = messages();
    assert_eq!(all.len(), EXPECTED.len());
    let mut wrong = Vec::new();
    for (torture, (name, _, expected, why)) in all.iter().zip(EXPECTED) {
        let does = through_the_stack(torture);
        if does != expected {
            wrong.push(format!("{name}: {does:?} and not {expected:?}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_was_taken_can_be_written_and_read_again() {
    for torture in messages() {
        if let Ok(message) = message::read(&torture.bytes, torture.transport) {
            assert_eq!(
                message::read(&message.write(), Transport::Tcp).as_ref(),
                Ok(&message),
                "{}",
                torture.name
            );
        }
    }
}

#[test]
fn a_registrar_refuses_what_it_does_not_know() {
    let register = |line: &str| {
        let all = messages();
        let known = all.iter().find(|torture| torture.name == "cparam02").unwrap();
        let text = String::from_utf8(known.bytes.clone()).unwrap();
        let bytes = text.replace("l: 0\r\n", &format!("l: 0\r\n{line}\r\n")).into_bytes();
        through_the_stack(&Torture { name: line.to_owned(), transport: Transport::Udp, bytes })
    };
    assert_eq!(register("Require: gruu"), Says(420));
    assert_eq!(register("Require: path"), Says(401));
}

#[test]
fn no_part_of_a_torture_message_does_harm() {
    for torture in messages() {
        for end in 0..torture.bytes.len() {
            let part = Torture {
                name: torture.name.clone(),
                transport: torture.transport,
                bytes: torture.bytes[..end].to_vec(),
            };
            let _ = message::read(&part.bytes, part.transport);
            if end % 16 == 0 {
                through_the_stack(&part);
            }
        }
    }
}
