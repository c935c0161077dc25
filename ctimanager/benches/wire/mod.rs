//! What benches say to a node and read of it: a trunk at 127.0.0.1:5070 that calls, and bytes that came out.

use ctimanager::node::Output;
use sip::{Hop, Transport};
use std::net::SocketAddr;
use std::time::Instant;

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The way of the trunk's datagrams.
pub fn hop() -> Hop {
    Hop { transport: Transport::Udp, local: address(5060), remote: address(5070), connection: None }
}

/// The INVITE of a call.
pub fn invite(number: u32, call: u32) -> String {
    head("INVITE", number, call)
        + &format!(
            "To: <sip:{number}@127.0.0.1>\r\nContact: <sip:pstn@127.0.0.1:5070>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        )
}

/// The ACK of the 200 among what came out.
pub fn ack(number: u32, call: u32, answers: &[String]) -> String {
    let ok = answers.iter().find(|text| text.starts_with("SIP/2.0 200")).expect("the call is answered");
    let to = between(ok, "\r\nTo: ", "\r\n").expect("a response has a To");
    head("ACK", number, call) + &format!("To: {to}\r\nContent-Length: 0\r\n\r\n")
}

fn head(method: &str, number: u32, call: u32) -> String {
    format!(
        "{method} sip:{number}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{method}{call}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:030@127.0.0.1>;tag={call}\r\nCall-ID: {call}@bench\r\nCSeq: 1 {method}\r\n"
    )
}

/// The leg of which an event tells.
pub fn leg(said: &[String]) -> Option<String> {
    said.iter().find_map(|text| between(text, r#""leg":{"leg":""#, "\""))
}

/// SIP messages and frames, as texts.
pub fn said(out: &[Output]) -> Vec<String> {
    let texts = out.iter().filter_map(|output| match output {
        Output::Sip { bytes, .. } => Some(bytes.clone()),
        Output::Cti(_, frame) => Some(frame.to_vec()),
        _ => None,
    });
    texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

pub fn between(text: &str, before: &str, after: &str) -> Option<String> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found.to_owned())
}

pub fn clock() -> Instant {
    #[allow(clippy::disallowed_methods)] // a bench measures real time
    Instant::now()
}
