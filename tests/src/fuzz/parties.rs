//! Who calls, who answers, who sent a call on and what is offered: all the lines and the body that a trunk may put into a
//! call, asked for and answered.

use super::sip::{House, TRUNK, config, hop};
use sip::message::text::{MAX_SHOWN, misleads};
use sip::message::{self, Message, Request, Response};
use sip::port::{Destination, DiversionReason, Diverted, Identity, ReadSdp};
use sip::{Command, Event, Hop, Input, InviteHandle, Output, Stack, Transport, sdp};
use std::time::{Duration, Instant};

/// The longest list of numbers that a redirection is taken for.
const MAX_REDIRECTIONS: usize = 8;

/// Header lines and a body, first of an INVITE of the trunk's, then of its answer to one of the node's. Nobody who is shown
/// misleads; who was read and is told on is read again as the same; what is offered can be read.
pub(super) fn parties(data: &[u8]) {
    let mut trunk = Trunk::new();
    let Some(told) = trunk.calls(1, data) else { return trunk.answers(data, None) };
    told.check();
    trunk.answers(data, Some(&told));
}

/// What the node was told of a call.
#[derive(Debug)]
struct Told {
    from: Identity,
    diverted: Option<Diverted>,
    offer: Option<ReadSdp>,
}

impl Told {
    fn check(&self) {
        shown(&self.from);
        self.diverted.iter().flat_map(|diverted| [&diverted.by, &diverted.original]).for_each(shown);
        self.offer.iter().for_each(can_be_read);
    }
}

fn shown(identity: &Identity) {
    for text in [&identity.number, identity.name.as_ref().unwrap_or(&String::new())] {
        assert!(text.chars().count() <= MAX_SHOWN, "{} characters", text.chars().count());
        assert!(!text.chars().any(misleads), "{text:?} misleads");
    }
}

fn can_be_read(read: &ReadSdp) {
    assert_eq!(sdp::read(&read.text).as_ref(), Ok(read), "a description that was read is one");
}

struct Trunk {
    stack: Stack,
    now: Instant,
    hop: Hop,
}

impl Trunk {
    fn new() -> Self {
        let stack = Stack::new(config(), [1; 32]);
        Self { stack, now: Instant::now(), hop: hop(Transport::Udp, TRUNK, None) }
    }

    fn input(&mut self, input: Input) -> (Vec<Message>, Vec<Event>) {
        let mut out = Vec::new();
        self.stack.handle(self.now, input, &House, &mut out);
        let (mut sent, mut events) = (Vec::new(), Vec::new());
        for output in out {
            match output {
                // Of what can't be read, a refusal has what was there.
                Output::Send { hop, bytes } => sent.extend(message::read(&bytes, hop.transport)),
                Output::Event(event) => events.push(event),
                Output::Connect(_)
                | Output::Close(_)
                | Output::Keep(_)
                | Output::SecureMediaRefused { .. } => {}
                Output::Refused(_) | Output::Attempt(_) => {}
            }
        }
        (sent, events)
    }

    /// The trunk calls with these lines.
    fn calls(&mut self, number: u32, lines: &[u8]) -> Option<Told> {
        let head = format!(
            "INVITE sip:1001@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {TRUNK};branch=z9hG4bKp{number}\r\nMax-Forwards: 70\r\n\
             To: <sip:1001@10.0.0.1>\r\nCall-ID: p{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:{TRUNK}>\r\n"
        );
        // Where the input says nothing of who calls, somebody does.
        let from = if lines.windows(5).any(|word| word.eq_ignore_ascii_case(b"from:")) {
            ""
        } else {
            "From: <sip:2001@h>;tag=1\r\n"
        };
        let bytes = [head.as_bytes(), from.as_bytes(), lines].concat();
        let (_, events) = self.input(Input::Received { hop: self.hop, bytes });
        events.into_iter().find_map(|event| match event {
            Event::Incoming { from, diverted, offer, .. } => Some(Told { from, diverted, offer }),
            _ => None,
        })
    }

    /// The node calls the trunk, in the name of who called before, and is answered with these lines.
    fn answers(&mut self, lines: &[u8], told: Option<&Told>) {
        let call = InviteHandle(7);
        let Some(invite) = self.is_called(call, told) else { return };
        if let Some(told) = told {
            self.is_told_on(&invite, told);
        }
        let status = [200, 183, 302, 486][lines.len() % 4];
        let mut head = Response::to(&invite, status, Some("p")).write();
        assert!(head.ends_with(b"\r\n\r\n"), "no body");
        head.truncate(head.len() - 2);
        let length = b"Content-Length: 0\r\n";
        if let Some(at) = head.windows(length.len()).position(|line| line == length) {
            head.drain(at..at + length.len());
        }
        let contact: &[u8] = if status == 302 { b"" } else { b"Contact: <sip:peer@10.0.0.99:5070>\r\n" };
        let bytes = [&head, contact, lines].concat();
        let (_, events) = self.input(Input::Received { hop: self.hop, bytes });
        for event in events {
            match event {
                Event::Identified(_, identity) => shown(&identity),
                Event::Ringing(_, Some(read)) | Event::Answered(_, Some(read)) => can_be_read(&read),
                Event::Refused { redirect_to, .. } => {
                    assert!(redirect_to.len() <= MAX_REDIRECTIONS, "{} numbers", redirect_to.len());
                }
                _ => {}
            }
        }
        self.now += Duration::from_secs(1);
        self.input(Input::Timeout);
    }

    fn is_called(&mut self, call: InviteHandle, told: Option<&Told>) -> Option<Request> {
        let nobody = || Identity { number: "1001".into(), ..Identity::default() };
        let diverted = told.and_then(|told| told.diverted.clone());
        let command = Command::Invite {
            call,
            to: Destination::Peer {
                trunk: "pstn".into(),
                transport: Transport::Udp,
                remote: self.hop.remote,
                user: "9001".into(),
                host: "10.0.0.99".into(),
            },
            from: told.map_or_else(nobody, |told| told.from.clone()),
            called: Identity { number: "9001".into(), ..Identity::default() },
            diverted: diverted.map(|diverted| (diverted, DiversionReason::UserBusy)),
            offer: None,
            media_encryption: sip::port::MediaEncryption::None,
            max_forwards: 70,
            hops: 2,
        };
        let (sent, _) = self.input(Input::Command(command));
        sent.into_iter().find_map(|message| match message {
            Message::Request(request) => Some(request),
            Message::Response(_) => None,
        })
    }

    /// Who reads what we tell of others reads what we were told: if we read it again, it is the same.
    fn is_told_on(&mut self, invite: &Request, told: &Told) {
        const TELLING: [&str; 5] = ["From", "P-Asserted-Identity", "Remote-Party-ID", "Diversion", "Privacy"];
        let lines = TELLING
            .iter()
            .flat_map(|name| invite.headers.all(name).map(move |value| format!("{name}: {value}\r\n")));
        let lines = lines.collect::<String>() + "Content-Length: 0\r\n\r\n";
        let again = self.calls(2, lines.as_bytes()).expect("we write what can be read");
        // Who has no number is nobody, hidden or not.
        if told.from.number.is_empty() {
            assert!(
                again.from.number.is_empty() && (again.from.restricted || !told.from.restricted),
                "{again:?}"
            );
        } else {
            assert_eq!(again.from, told.from, "the caller");
        }
        let by = |told: &Told| told.diverted.as_ref().map(|d| (d.by.clone(), d.original.number.clone()));
        // Who has no number is not told of.
        if told.diverted.as_ref().is_some_and(|d| !d.by.number.is_empty() && !d.original.number.is_empty()) {
            assert_eq!(by(&again), by(told), "who sent it on");
        }
    }
}
