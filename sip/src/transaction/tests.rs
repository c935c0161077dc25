//! Tests of the transaction layer, under virtual time. A state × event snapshot is at the end.

use super::*;
use crate::message::{NameAddr, Uri, read};

const T1: Duration = Duration::from_millis(500);

struct Bench {
    layer: Transactions,
    now: Instant,
    hop: Hop,
    out: Vec<Output>,
    events: Vec<TuEvent>,
}

impl Bench {
    fn new(transport: Transport) -> Self {
        Self::with_limit(transport, 100)
    }

    #[allow(clippy::disallowed_methods)] // the epoch of a virtual clock
    fn with_limit(transport: Transport, max: usize) -> Self {
        let local: SocketAddr = "192.0.2.9:5060".parse().unwrap();
        let settings = Settings {
            t1: T1,
            max,
            max_bytes_per_address: 1 << 20,
            listen: vec![(transport, local)],
            advertised: [].into(),
            product: "house".into(),
        };
        let connection = (transport != Transport::Udp).then_some(crate::port::ConnectionId(1));
        Self {
            layer: Transactions::new(settings, [3; 32]),
            now: Instant::now(),
            hop: Hop { transport, local, remote: "192.0.2.1:40000".parse().unwrap(), connection },
            out: Vec::new(),
            events: Vec::new(),
        }
    }

    fn receive(&mut self, text: &str) -> Option<TuEvent> {
        let message = read(text.replace('\n', "\r\n").as_bytes(), self.hop.transport).unwrap();
        let event = self.layer.receive(self.now, self.hop, message, &mut self.out);
        self.check();
        event
    }

    fn incoming(&mut self, text: &str) -> (ServerId, Request) {
        match self.receive(text) {
            Some(TuEvent::Request { id, request, .. }) => (id, request),
            other => panic!("{other:?}"),
        }
    }

    fn respond(&mut self, id: ServerId, request: &Request, status: u16) {
        self.layer.respond(self.now, id, Response::to(request, status, Some("tag")), &mut self.out);
        self.check();
    }

    fn send(&mut self, method: Method) -> (ClientId, Via) {
        let mut request = Request::new(method, Uri::read("sip:b@h.example").unwrap());
        request.headers.push("From", "<sip:a@house>;tag=f");
        request.headers.push("To", "<sip:b@h.example>");
        request.headers.push("Call-ID", "call");
        request.headers.push("CSeq", format!("7 {}", request.method));
        request.headers.push("Route", "<sip:proxy.example;lr>");
        let id =
            self.layer.request(self.now, self.hop, request.with_body("text/plain", vec![1]), &mut self.out);
        let Some(Output::Send { bytes, .. }) = self.out.last() else { panic!("nothing sent") };
        let Ok(Message::Request(sent)) = read(bytes, self.hop.transport) else { panic!("not a request") };
        (id, sent.headers.top_via().unwrap())
    }

    fn answer(&mut self, via: &Via, method: &str, status: u16) -> Option<TuEvent> {
        self.receive(&format!(
            "SIP/2.0 {status} X\nVia: {via}\nFrom: <sip:a@house>;tag=f\nTo: <sip:b@h.example>;tag=t\nCall-ID: call\n\
             CSeq: 7 {method}\n\n"
        ))
    }

    /// Start lines of what was sent since the last call.
    fn sent(&mut self) -> Vec<String> {
        let line = |output| match output {
            Output::Send { bytes, .. } => String::from_utf8(bytes)
                .unwrap()
                .lines()
                .next()
                .unwrap()
                .replace(" SIP/2.0", "")
                .replace("SIP/2.0 ", ""),
            other => panic!("{other:?}"),
        };
        self.out.drain(..).map(line).collect()
    }

    /// Lets time pass from timer to timer; the milliseconds at which something was sent.
    fn pass(&mut self, time: Duration) -> Vec<u128> {
        let (start, end) = (self.now, self.now + time);
        let mut sent_at = Vec::new();
        while let Some(due) = self.layer.next_timeout().filter(|due| *due <= end) {
            assert!(due >= self.now, "a timer in the past");
            self.now = due;
            let before = self.out.len();
            self.layer.timeout(self.now, 64, &mut self.out, &mut self.events);
            self.check();
            let sent = self.out.len() - before;
            sent_at.extend(std::iter::repeat_n((self.now - start).as_millis(), sent));
        }
        self.now = end;
        sent_at
    }

    fn told(&mut self) -> Vec<String> {
        let name = |event: TuEvent| format!("{event:?}").split(['(', ' ']).next().unwrap().to_owned();
        self.events.drain(..).map(name).collect()
    }

    /// All tables speak of the same transactions.
    fn check(&self) {
        let layer = &self.layer;
        assert_eq!(layer.server_keys.len(), layer.servers.len());
        assert_eq!(layer.client_keys.len(), layer.clients.len());
        assert_eq!(layer.by_peer.values().map(BTreeSet::len).sum::<usize>(), layer.len());
        let due = layer.servers.values().filter_map(|server| server.due).count()
            + layer.clients.values().filter_map(|client| client.due).count();
        assert_eq!(layer.timers.len(), due);
        assert!(layer.merge_keys.len() <= layer.servers.len());
    }

    fn assert_empty(&self) {
        self.check();
        assert!(self.layer.is_empty(), "{:?}", self.layer);
        assert_eq!(self.layer.next_timeout(), None);
    }
}

fn request(method: &str, branch: &str, to_tag: &str) -> String {
    format!(
        "{method} sip:5000@house SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:5070;branch={branch};rport\n\
         From: <sip:a@house>;tag=f\nTo: <sip:5000@house>{to_tag}\nCall-ID: call\nCSeq: 1 {method}\n\n"
    )
}

fn invite() -> String {
    request("INVITE", "z9hG4bKa", "")
}

#[test]
fn an_invite_that_is_refused_is_repeated_until_its_ack() {
    let mut bench = Bench::new(Transport::Udp);
    let (id, request_) = bench.incoming(&invite());
    bench.layer.trying(bench.now, id, &request_, &mut bench.out);
    assert!(bench.receive(&invite()).is_none());
    assert_eq!(bench.sent(), ["100 Trying", "100 Trying"]);
    bench.respond(id, &request_, 486);
    assert_eq!(bench.pass(Duration::from_secs(12)), [500, 1500, 3500, 7500, 11_500]);
    assert!(bench.receive(&invite()).is_none());
    assert_eq!(bench.sent().len(), 7);
    assert!(bench.receive(&request("ACK", "z9hG4bKa", ";tag=tag")).is_none());
    assert!(bench.receive(&request("ACK", "z9hG4bKa", ";tag=tag")).is_none());
    assert_eq!(bench.pass(T4), [0; 0]);
    bench.assert_empty();
}

#[test]
fn a_refusal_without_ack_is_told() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut bench = Bench::new(transport);
        let (id, request_) = bench.incoming(&invite());
        bench.respond(id, &request_, 603);
        bench.pass(T1 * 64);
        assert_eq!(bench.told(), ["NoAck"]);
        bench.assert_empty();
    }
}

#[test]
fn a_2xx_absorbs_the_invite_and_may_be_repeated_by_the_tu() {
    let mut bench = Bench::new(Transport::Udp);
    let (id, request_) = bench.incoming(&invite());
    bench.respond(id, &request_, 180);
    bench.respond(id, &request_, 200);
    bench.respond(id, &request_, 200);
    assert!(bench.receive(&invite()).is_none());
    assert_eq!(bench.sent(), ["180 Ringing", "200 OK", "200 OK"]);
    bench.respond(id, &request_, 486);
    bench.respond(id, &request_, 180);
    assert_eq!(bench.sent(), [""; 0], "too late");
    assert!(matches!(bench.receive(&request("ACK", "z9hG4bKb", ";tag=tag")), Some(TuEvent::Ack { .. })));
    assert!(matches!(bench.receive(&request("ACK", "z9hG4bKa", ";tag=tag")), Some(TuEvent::Ack { .. })));
    assert_eq!(bench.pass(T1 * 64), [0; 0]);
    bench.assert_empty();
}

#[test]
fn another_request_is_answered_again_when_it_is_repeated() {
    let mut bench = Bench::new(Transport::Udp);
    let options = request("OPTIONS", "z9hG4bKo", "");
    let (id, request_) = bench.incoming(&options);
    assert!(bench.receive(&options).is_none());
    assert_eq!(bench.sent(), [""; 0]);
    bench.respond(id, &request_, 200);
    assert!(bench.receive(&options).is_none());
    assert_eq!(bench.sent(), ["200 OK", "200 OK"]);
    bench.pass(T1 * 64);
    bench.assert_empty();
    let (_, _) = bench.incoming(&options);
    bench.pass(T1 * 64);
    bench.assert_empty();
}

#[test]
fn cancel_is_answered_here_and_told_once() {
    let mut bench = Bench::new(Transport::Udp);
    let cancel = request("CANCEL", "z9hG4bKa", "").replace("\n\n", "\nReason: Q.850;cause=26\n\n");
    assert!(bench.receive(&cancel).is_none());
    assert_eq!(bench.sent(), ["481 Call/Transaction Does Not Exist"]);
    let (id, request_) = bench.incoming(&invite());
    match bench.receive(&cancel) {
        Some(TuEvent::Cancelled { invite, reason }) => {
            assert_eq!((invite, reason.as_deref()), (id, Some("Q.850;cause=26")));
        }
        other => panic!("{other:?}"),
    }
    assert!(bench.receive(&cancel).is_none());
    bench.respond(id, &request_, 487);
    assert_eq!(bench.sent(), ["200 OK", "200 OK", "487 Request Terminated"]);
}

#[test]
fn a_request_that_came_by_two_ways_is_merged() {
    let mut bench = Bench::new(Transport::Udp);
    let (id, first) = bench.incoming(&invite());
    assert!(bench.receive(&request("INVITE", "z9hG4bKother", "")).is_none());
    assert_eq!(bench.sent(), ["482 Loop Detected"]);
    bench.respond(id, &first, 503);
    bench.incoming(&request("INVITE", "z9hG4bKagain", ""));
    bench.incoming(&request("INVITE", "z9hG4bKthird", ";tag=dialog"));
}

#[test]
fn rfc_2543_requests_without_branch_are_told_apart() {
    let mut bench = Bench::new(Transport::Udp);
    let old = invite().replace(";branch=z9hG4bKa;rport", "");
    let (id, request_) = bench.incoming(&old);
    assert!(bench.receive(&old).is_none());
    bench.incoming(&old.replace("CSeq: 1", "CSeq: 2"));
    bench.respond(id, &request_, 404);
    let Some(Output::Send { hop, .. }) = bench.out.last() else { panic!("nothing sent") };
    assert_eq!(hop.remote.to_string(), "192.0.2.1:5070", "without rport: the port of sent-by");
    assert!(
        bench.receive(&old.replace("INVITE", "ACK").replace("@house>\nC", "@house>;tag=tag\nC")).is_none()
    );
    assert!(bench.pass(T4).is_empty());
}

/// With RFC 3261's branch, with an old one, and without any.
const BRANCHES: [&str; 3] = ["branch=z9hG4bKa;", "branch=1;", ""];

fn with_branch(text: &str, branch: &str) -> String {
    text.replace("branch=z9hG4bKa;", branch)
}

#[test]
fn another_sent_by_is_no_other_request() {
    for branch in BRANCHES {
        let mut bench = Bench::new(Transport::Udp);
        let text = with_branch(&invite(), branch);
        let moved = |text: &str| text.replace("10.0.0.1:5070", "phone.example:6000");
        let (id, first) = bench.incoming(&text);
        bench.layer.trying(bench.now, id, &first, &mut bench.out);
        bench.sent();
        assert!(bench.receive(&moved(&text)).is_none(), "a copy: {branch}");
        assert_eq!(bench.sent(), ["100 Trying"]);
        let cancel = bench.receive(&moved(&text).replace("INVITE", "CANCEL"));
        assert!(matches!(cancel, Some(TuEvent::Cancelled { invite, .. }) if invite == id), "{cancel:?}");
        assert_eq!(bench.sent(), ["200 OK"]);
        bench.respond(id, &first, 487);
        let ack = moved(&text).replace("INVITE", "ACK").replace("@house>\nC", "@house>;tag=tag\nC");
        assert!(bench.receive(&ack).is_none());
        bench.sent();
        assert!(bench.pass(T4).is_empty(), "acknowledged: {branch}");
    }
}

#[test]
fn a_cancel_of_another_host_call_or_caller_is_nobodys() {
    for branch in BRANCHES {
        let mut bench = Bench::new(Transport::Udp);
        let text = with_branch(&invite(), branch);
        let (id, first) = bench.incoming(&text);
        let cancel = text.replace("INVITE", "CANCEL");
        for wrong in [
            cancel.replace("Call-ID: call", "Call-ID: other"),
            cancel.replace("tag=f", "tag=g"),
            cancel.replace("CSeq: 1", "CSeq: 2"),
        ] {
            assert!(bench.receive(&wrong).is_none());
            assert_eq!(bench.sent(), ["481 Call/Transaction Does Not Exist"], "{wrong}");
        }
        let home = bench.hop;
        bench.hop.remote = "192.0.2.66:40000".parse().unwrap();
        assert!(bench.receive(&cancel).is_none());
        assert_eq!(bench.sent(), ["481 Call/Transaction Does Not Exist"]);
        bench.hop = Hop { remote: "192.0.2.1:40001".parse().unwrap(), ..home };
        assert!(bench.receive(&cancel).is_some(), "another port of the same host");
        bench.sent();
        bench.respond(id, &first, 487);
    }
}

#[test]
fn a_branch_that_is_used_again_is_told_apart() {
    for branch in BRANCHES {
        let mut bench = Bench::new(Transport::Udp);
        let text = with_branch(&invite(), branch);
        let (id, first) = bench.incoming(&text);
        bench.respond(id, &first, 401);
        bench.sent();
        let ack = text.replace("INVITE", "ACK").replace("@house>\nC", "@house>;tag=tag\nC");
        assert!(bench.receive(&ack).is_none());
        let (second, _) = bench.incoming(&text.replace("CSeq: 1", "CSeq: 2"));
        assert_ne!(second, id, "with credentials");
        let (third, _) = bench.incoming(&text.replace("Call-ID: call", "Call-ID: next"));
        assert!(third != id && third != second, "another call");
        let cancel = text.replace("INVITE", "CANCEL").replace("CSeq: 1", "CSeq: 2");
        let told = bench.receive(&cancel);
        assert!(matches!(told, Some(TuEvent::Cancelled { invite, .. }) if invite == second), "{told:?}");
    }
}

#[test]
fn who_can_not_be_reached_fails_the_request_that_was_sent_there() {
    let mut bench = Bench::new(Transport::Udp);
    let (mut told, hop) = (Vec::new(), bench.hop);
    let (first, via) = bench.send(Method::Invite);
    let (second, _) = bench.send(Method::Options);
    let elsewhere = Hop { remote: "192.0.2.1:40001".parse().unwrap(), ..hop };
    let quoted = format!("INVITE sip:b SIP/2.0\r\nVia: {via}\r\nFr");
    bench.layer.unreachable(&elsewhere, quoted.as_bytes(), &mut told);
    bench.layer.unreachable(
        &hop,
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKtheirs\r\n",
        &mut told,
    );
    assert!(told.is_empty(), "{told:?}");
    bench.layer.unreachable(&hop, quoted.as_bytes(), &mut told);
    assert!(matches!(told[..], [TuEvent::ClientTransportError(id)] if id == first), "{told:?}");
    // Eight bytes are all that must be quoted, and those are the header of UDP.
    bench.layer.unreachable(&hop, b"", &mut told);
    assert!(matches!(told[1..], [TuEvent::ClientTransportError(id)] if id == second), "{told:?}");
    bench.check();
    let (_, via) = bench.send(Method::Invite);
    bench.answer(&via, "INVITE", 180);
    told.clear();
    bench.layer.unreachable(&hop, b"", &mut told);
    assert!(told.is_empty(), "what rings has been reached");
}

#[test]
fn beyond_the_limit_new_requests_get_503_and_dialogs_go_on() {
    let mut bench = Bench::with_limit(Transport::Udp, 4);
    for number in 0..4 {
        bench.incoming(
            &request("OPTIONS", &format!("z9hG4bK{number}x"), "").replace("call", &number.to_string()),
        );
    }
    assert!(bench.receive(&request("INVITE", "z9hG4bKn", "")).is_none());
    let Some(Output::Send { bytes, .. }) = bench.out.last() else { panic!("nothing sent") };
    let answer = read(bytes, Transport::Udp).unwrap();
    assert_eq!(answer.headers().number("Retry-After"), Some(RETRY_AFTER));
    assert_eq!(bench.sent(), ["503 Service Unavailable"]);
    bench.incoming(&request("BYE", "z9hG4bKb", ";tag=dialog"));
    assert!(bench.receive(&request("BYE", "z9hG4bKc", ";tag=dialog")).is_none());
    assert_eq!((bench.sent(), bench.layer.len()), (vec!["503 Service Unavailable".to_owned()], 5));
}

#[test]
fn a_stateless_answer_keeps_its_tag_for_a_repeated_request() {
    let mut bench = Bench::new(Transport::Udp);
    let cancel = request("CANCEL", "z9hG4bKa", "");
    bench.receive(&cancel);
    bench.receive(&cancel);
    assert!(
        matches!(&bench.out[..], [Output::Send { bytes: a, .. }, Output::Send { bytes: b, .. }] if a == b)
    );
}

#[test]
fn our_invite_is_repeated_until_something_comes() {
    let mut bench = Bench::new(Transport::Udp);
    let (_, via) = bench.send(Method::Invite);
    assert_eq!(bench.pass(Duration::from_secs(5)), [500, 1500, 3500]);
    assert!(matches!(bench.answer(&via, "INVITE", 180), Some(TuEvent::Response { .. })));
    assert_eq!(bench.pass(Duration::from_secs(600)), [0; 0]);
    assert!(matches!(bench.answer(&via, "INVITE", 200), Some(TuEvent::Response { .. })));
    assert!(
        matches!(bench.answer(&via, "INVITE", 200), Some(TuEvent::Response { .. })),
        "repeated or forked"
    );
    bench.pass(T1 * 64);
    bench.assert_empty();
    assert!(matches!(bench.answer(&via, "INVITE", 200), Some(TuEvent::StrayResponse { .. })));
    assert!(bench.answer(&via, "INVITE", 486).is_none());
}

#[test]
fn nobody_answers() {
    for (transport, sent) in [(Transport::Udp, 6), (Transport::Tls, 0)] {
        let mut bench = Bench::new(transport);
        bench.send(Method::Invite);
        assert_eq!(bench.pass(T1 * 64).len(), sent);
        assert_eq!(bench.told(), ["ClientTimeout"]);
        bench.assert_empty();
    }
    let mut bench = Bench::new(Transport::Udp);
    bench.send(Method::Bye);
    let expected = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(bench.pass(T1 * 64), expected);
    assert_eq!(bench.told(), ["ClientTimeout"]);
    bench.assert_empty();
}

#[test]
fn a_refused_invite_is_acknowledged_here_each_time() {
    let mut bench = Bench::new(Transport::Udp);
    let (_, via) = bench.send(Method::Invite);
    bench.out.clear();
    assert!(matches!(bench.answer(&via, "INVITE", 486), Some(TuEvent::Response { .. })));
    assert!(bench.answer(&via, "INVITE", 486).is_none());
    let Some(Output::Send { bytes, .. }) = bench.out.first() else { panic!("no ACK") };
    let Ok(Message::Request(ack)) = read(bytes, Transport::Udp) else { panic!("no ACK") };
    assert_eq!(ack.headers.top_via().unwrap().branch(), via.branch());
    assert_eq!((ack.headers.to_tag(), ack.headers.get("CSeq")), (Some("t"), Some("7 ACK")));
    assert_eq!(ack.headers.name_addrs("Route").unwrap(), [NameAddr::read("<sip:proxy.example;lr>").unwrap()]);
    assert_eq!((ack.body.len(), bench.sent().len()), (0, 2));
    bench.pass(TIMER_D);
    bench.assert_empty();
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut bench = Bench::new(Transport::Udp);
    let (id, via) = bench.send(Method::Invite);
    bench.layer.cancel(bench.now, id, Some("SIP;cause=200".to_owned()), &mut bench.out);
    assert_eq!(bench.sent(), ["INVITE sip:b@h.example"]);
    bench.answer(&via, "INVITE", 100);
    bench.layer.cancel(bench.now, id, None, &mut bench.out);
    assert_eq!(bench.sent(), ["CANCEL sip:b@h.example"]);
    assert!(bench.answer(&via, "CANCEL", 200).is_none());
    assert!(matches!(bench.answer(&via, "INVITE", 487), Some(TuEvent::Response { .. })));
    bench.pass(TIMER_D);
    bench.assert_empty();
}

#[test]
fn an_invite_that_ignores_its_cancel_is_given_up() {
    let mut bench = Bench::new(Transport::Tcp);
    let (id, via) = bench.send(Method::Invite);
    bench.answer(&via, "INVITE", 180);
    bench.layer.cancel(bench.now, id, None, &mut bench.out);
    bench.pass(T1 * 64);
    assert_eq!(bench.told(), ["ClientTimeout"]);
    bench.assert_empty();
}

#[test]
fn a_request_that_went_by_a_connection_which_ended_is_sent_once_more() {
    let lost = |bench: &mut Bench, number| {
        let hop = Hop { connection: Some(crate::port::ConnectionId(number)), ..bench.hop };
        bench.layer.closed(hop, &mut bench.out, &mut bench.events);
        bench.check();
    };
    let mut bench = Bench::new(Transport::Tcp);
    bench.hop.connection = None;
    let (_, via) = bench.send(Method::Invite);
    bench.send(Method::Options);
    let sent = |bench: &mut Bench| {
        let bytes = |output| match output {
            Output::Send { hop, bytes } => (hop, bytes),
            other => panic!("{other:?}"),
        };
        std::mem::take(&mut bench.out).into_iter().map(bytes).collect::<Vec<_>>()
    };
    let first = sent(&mut bench);
    lost(&mut bench, 1);
    assert_eq!(sent(&mut bench), first, "the same bytes: the peer knows a repetition by its branch");
    assert_eq!(bench.told(), [""; 0]);
    bench.answer(&via, "INVITE", 100);
    lost(&mut bench, 2);
    assert_eq!(bench.told(), ["ClientTransportError"; 2], "once, and not what had a response");

    let mut bench = Bench::new(Transport::Tcp);
    bench.hop.connection = None;
    bench.send(Method::Invite);
    bench.out.clear();
    bench.layer.closed(bench.hop, &mut bench.out, &mut bench.events);
    assert_eq!(bench.out.len(), 0, "nobody can be reached there");
    assert_eq!(bench.told(), ["ClientTransportError"]);
}

#[test]
fn a_lost_connection_ends_requests_and_moves_answers() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.send(Method::Invite);
    let (id, request_) = bench.incoming(&invite().replace("/UDP", "/TCP"));
    bench.out.clear();
    let other = Hop { connection: Some(crate::port::ConnectionId(2)), ..bench.hop };
    bench.layer.closed(other, &mut bench.out, &mut bench.events);
    assert_eq!(bench.told(), [""; 0]);
    bench.layer.closed(bench.hop, &mut bench.out, &mut bench.events);
    bench.check();
    assert_eq!(bench.told(), ["ClientTransportError"]);
    bench.respond(id, &request_, 486);
    let Some(Output::Send { hop, .. }) = bench.out.first() else { panic!("nothing sent") };
    assert_eq!((hop.remote.to_string().as_str(), hop.connection), ("192.0.2.1:5070", None));
}

#[test]
fn responses_for_others_are_dropped() {
    let mut bench = Bench::new(Transport::Udp);
    let (_, mut via) = bench.send(Method::Options);
    let mut foreign = via.clone();
    foreign.host = "192.0.2.10".to_owned();
    assert!(bench.answer(&foreign, "OPTIONS", 200).is_none());
    assert!(bench.answer(&via, "INVITE", 486).is_none());
    via.params.set("branch", Some("z9hG4bKguess"));
    assert!(bench.answer(&via, "OPTIONS", 200).is_none());
    assert_eq!(bench.layer.len(), 1);
}

#[test]
fn the_source_is_noted_in_the_topmost_via() {
    let mut bench = Bench::new(Transport::Udp);
    let (_, request_) = bench.incoming(&invite());
    let via = request_.headers.top_via().unwrap();
    assert_eq!((via.rport(), via.received()), (Some(Some(40_000)), Some(bench.hop.remote.ip())));
}

#[test]
fn a_seed_replays_every_name() {
    let names = |seed| {
        let mut ids = Ids::new([seed; 32]);
        [ids.tag(), ids.branch(), ids.call_id()]
    };
    assert_eq!(names(1), names(1));
    assert_ne!(names(1), names(2));
}
