//! Tests of reading and writing.

use super::*;
use crate::port::Transport;

const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1;rport\r\n\
    f: \"J\\\"o\" <sip:100@example.com>;tag=a\r\nt: <sip:100@example.com>\r\ni: c1\r\nCSeq: 1 REGISTER\r\n\
    m: <sip:100@192.0.2.1:5070;transport=udp>;q=0.5;expires=60,\r\n <sip:7@h?Subject=x>\r\nl: 0\r\n\r\n";

fn request(text: &str) -> Request {
    match read(text.as_bytes(), Transport::Udp) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

#[test]
fn compact_and_folded_headers_are_read_and_written_long() {
    let request = request(REGISTER);
    assert_eq!(request.method, Method::Register);
    let contacts = request.headers.contacts().unwrap();
    assert_eq!(contacts[0].uri.as_str(), "sip:100@192.0.2.1:5070;transport=udp");
    assert_eq!((contacts[0].q_thousandths(), contacts[0].expires()), (500, Some(60)));
    assert_eq!(contacts[1].uri.headers(), Some("Subject=x"));
    assert_eq!(request.headers.from().unwrap().name.as_deref(), Some("J\"o"));
    assert_eq!(request.headers.from_tag(), Some("a"));
    let again = read(&request.write(), Transport::Tcp).unwrap();
    assert_eq!(again.headers().get("Call-ID"), Some("c1"));
    assert_eq!(again, Message::Request(request));
}

#[test]
fn a_datagram_without_content_length_keeps_its_body() {
    let text = REGISTER.replace("l: 0\r\n", "") + "body";
    assert_eq!(request(&text).body, b"body");
}

#[test]
fn content_length_cuts_a_longer_datagram_and_refuses_a_shorter_one() {
    assert_eq!(request(&(REGISTER.replace("l: 0", "l: 2") + "body")).body, b"bo");
    let short = read((REGISTER.replace("l: 0", "l: 9") + "body").as_bytes(), Transport::Udp);
    let Err(Malformed::Answer(answer)) = short else { panic!("{short:?}") };
    assert_eq!((answer.status, answer.headers.call_id()), (400, "c1"));
}

#[test]
fn a_tag_has_one_value_or_the_message_is_refused() {
    // A dialog is named by it, and we write it again.
    for tag in [";tag", ";tag=", ";tag=a;tag=b", ";tag=a;tag", ";tag=\"a\"", ";TAG;x=1"] {
        for header in ["f: \"J\\\"o\" <sip:100@example.com>;tag=a", "t: <sip:100@example.com>"] {
            let bare = header.trim_end_matches(";tag=a");
            let text = REGISTER.replacen(header, &format!("{bare}{tag}"), 1);
            let Err(Malformed::Answer(answer)) = read(text.as_bytes(), Transport::Udp) else {
                panic!("{text}")
            };
            assert_eq!(answer.status, 400, "{text}");
            let response = text.replacen("REGISTER sip:example.com SIP/2.0", "SIP/2.0 200 OK", 1);
            assert!(
                matches!(read(response.as_bytes(), Transport::Udp), Err(Malformed::Discard(_))),
                "{response}"
            );
        }
    }
    assert_eq!(request(&REGISTER.replacen(";tag=a", "; tag = a@b ;x", 1)).headers.from_tag(), Some("a@b"));
}

#[test]
fn header_lines_are_read_at_their_limits_and_refused_beyond() {
    let own = REGISTER.replace("\r\n ", " ").lines().filter(|line| line.contains(": ")).count();
    let with = |lines: usize, length: usize| {
        let more = format!("X: {}\r\n", "x".repeat(length - 3)).repeat(lines - own);
        read(REGISTER.replace("f: ", &(more + "f: ")).as_bytes(), Transport::Tcp)
    };
    let Ok(message) = with(MAX_HEADER_LINES, 4) else { panic!("as many lines as there may be") };
    assert_eq!(message.headers().get("From"), Some("\"J\\\"o\" <sip:100@example.com>;tag=a"));
    assert!(with(own + 1, MAX_LINE_BYTES).is_ok());
    for refused in [with(MAX_HEADER_LINES + 1, 4), with(own + 1, MAX_LINE_BYTES + 1)] {
        let Err(Malformed::Answer(answer)) = refused else { panic!("{refused:?}") };
        assert_eq!(answer.status, 400);
    }
}

#[test]
fn latin_1_line_ends_without_cr_and_leading_line_ends_lose_nothing() {
    let mut bytes = b"\r\n\r\n".to_vec();
    bytes.extend(REGISTER.replace("\r\n", "\n").replace("J\\\"o", "J\u{fc}rg").chars().map(|one| one as u8));
    let Ok(Message::Request(request)) = read(&bytes, Transport::Udp) else { panic!("refused") };
    assert_eq!(request.headers.from().unwrap().name.as_deref(), Some("Jürg"));
    assert_eq!(request.headers.call_id(), "c1");
}

#[test]
fn line_ends_alone_are_a_keep_alive() {
    assert_eq!(read(b"\r\n\r\n", Transport::Udp), Err(Malformed::KeepAlive));
    assert_eq!(read(b"", Transport::Udp), Err(Malformed::KeepAlive));
}

#[test]
fn a_value_cannot_smuggle_in_a_header() {
    let mut request = request(REGISTER);
    request.headers.push("Subject", "a\r\nRoute: <sip:evil>");
    assert!(!String::from_utf8(request.write()).unwrap().contains("\r\nRoute"));
}

#[test]
fn the_topmost_via_is_changed_alone() {
    let text = REGISTER.replace("rport\r\n", "rport, SIP/2.0/TCP b;branch=z9hG4bK2\r\n");
    let mut request = request(&text);
    let mut via = request.headers.top_via().unwrap();
    via.params.set("rport", Some("9"));
    request.headers.set_top_via(&via);
    let all: Vec<_> = request.headers.elements("Via").map(Result::unwrap).collect();
    assert_eq!(all, ["SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1;rport=9", "SIP/2.0/TCP b;branch=z9hG4bK2"]);
    request.headers.pop_via();
    assert_eq!(request.headers.top_via().unwrap().host, "b");
}

#[test]
fn users_are_unescaped_to_read_and_uris_written_as_they_came() {
    let uri =
        Uri::read("sip:sips%3Auser%40example.com;x?a@[2001:db8::1]:5070;lr;Transport=TCP?h=%20").unwrap();
    assert_eq!(uri.user(), "sips:user@example.com;x?a");
    assert_eq!((uri.host(), uri.port(), uri.param("transport")), ("[2001:db8::1]", Some(5070), Some("TCP")));
    assert_eq!(uri.with_param("ob", None).as_str(), uri.as_str().replace("TCP?", "TCP;ob?"));
    assert_eq!(Uri::sip("a b", "2001:db8::1", None).as_str(), "sip:a%20b@[2001:db8::1]");
    for bad in
        ["sip:", "sip:@h", "sip:a@b@c", "sip:a%2@h", "sip:h:99999", "sip:[1]:1", "no scheme", "sip:a@h h"]
    {
        assert!(Uri::read(bad).is_err(), "{bad}");
    }
}
