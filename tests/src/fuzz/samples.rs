//! Inputs that get far, most of them from the tests' own files.

pub(super) mod more;

use super::food;

/// What a change may put in.
pub(super) const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff",
    b"\xf5\x10",
    b"\"",
    b"\\",
    b"<",
    b">",
    b";",
    b",",
    b":",
    b"=",
    b"%",
    b"@",
    b" ",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"-1",
    b"0",
    b"65536",
    b"4294967296",
    b"99999999999999999999",
    b"1e999",
    b"\xc3",
    b"&a",
    b"*a",
    b"- ",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999\r\n",
    b"CSeq: 2147483648 INVITE\r\n",
    b";tag=",
    b"Contact: *\r\n",
    b"Expires: 0\r\n",
    b"Record-Route: <sip:10.0.0.99;lr>\r\n",
    b"Replaces: a;from-tag=b;to-tag=c\r\n",
    b"Require: 100rel\r\n",
    b"Session-Expires: 90\r\n",
    b"a=sendonly\r\n",
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n",
    b"m=audio 0 RTP/AVP 0\r\n",
    b"c=IN IP6 ::\r\n",
    b"\"id\":1,",
    b"\"idem\":\"k\",",
    b"@TO@",
    b"@LEG@",
    b"@SESSION@",
    b"\xffW\x20",
    b"\xffW\xff",
    b"\xffX0",
    b"\xffR00",
    b"\xffR03",
    b"\xffR0\x0c",
    b"\xffL0",
    b"\xffE",
    b"\xffA",
    b"\xffC",
    b"..",
    b"\\u0000",
    b"\xf0\x9f\x98\x80",
];

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.99\r\ns=-\r\nc=IN IP4 10.0.0.99\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n\
                   a=rtpmap:101 telephone-event/8000\r\n";
const CRYPTO: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0 96\r\nc=IN IP4 192.0.2.1\r\n\
                      a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=ptime:30\r\n\
                      a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32\r\n\
                      a=sendonly\r\nm=video 5000 RTP/AVP 97\r\nc=IN IP6 ::1\r\na=rtpmap:97 H264/90000\r\n";

fn head(method: &str, to: &str, from: &str, call: &str) -> String {
    format!(
        "{method} sip:{to}@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.99:5070;branch=z9hG4bK@N@{call};rport\r\n\
         Max-Forwards: 70\r\nFrom: \"F\" <sip:{from}@10.0.0.99>;tag={call}\r\nTo: <sip:{to}@10.0.0.1>\r\n\
         Call-ID: {call}\r\nContact: <sip:{from}@10.0.0.99:5070>\r\n"
    )
}

fn with_body(head: &str, cseq: &str, body: &str) -> Vec<u8> {
    format!(
        "{head}CSeq: {cseq}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn plain(head: &str, cseq: &str) -> Vec<u8> {
    format!("{head}CSeq: {cseq}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn invite(to: &str, from: &str, call: &str) -> Vec<u8> {
    with_body(&head("INVITE", to, from, call), "1 INVITE", SDP)
}

fn in_dialog(method: &str, to: &str, from: &str, call: &str, sequence: u32) -> Vec<u8> {
    let head = head(method, to, from, call).replace(&format!("To: <sip:{to}@10.0.0.1>"), "To: @TO@");
    plain(&head, &format!("{sequence} {method}"))
}

fn register(user: &str, call: &str) -> Vec<u8> {
    plain(&(head("REGISTER", user, user, call) + "Expires: 600\r\n"), "1 REGISTER")
}

/// A script of these steps.
fn script(steps: &[(u8, &[u8])]) -> Vec<u8> {
    let steps: Vec<Vec<u8>> = steps.iter().map(|(letter, rest)| [&[*letter], *rest].concat()).collect();
    let script = steps.join(&0xff);
    assert_eq!(food::steps(&script).count(), steps.len(), "no sample holds the byte that parts its steps");
    script
}

/// The messages of RFC 4475.
fn torture() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/torture");
    let files = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    // The order of a folder is anybody's guess.
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "dat"));
    paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect()
}

/// The JSON lines of checked-in frames.
fn golden(text: &str) -> Vec<Vec<u8>> {
    text.lines().filter(|line| line.starts_with('{')).map(|line| line.as_bytes().to_vec()).collect()
}

const OPEN: &str = r#"{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{"user":"USER","password":"secret","application":"fuzz","resume_grace_ms":30000}}"#;

fn request(method: &str, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":"@N@{method}","method":"{method}","params":{params}}}"#).into_bytes()
}

/// Methods with params that are read.
const REQUESTS: &[(&str, &str)] = &[
    ("provider.heartbeat", r#"{"last_seq":1}"#),
    ("provider.close", "{}"),
    ("provider.devices", r#"{"type":"phone","name":"P*","limit":2,"scope":"controlled"}"#),
    ("provider.monitor_park", r#"{"on":true}"#),
    ("provider.snapshot", "{}"),
    (
        "device.open",
        r#"{"device":"PORT_1","media":{"mode":"dynamic","codecs":["PCMU","opus"],"srtp":["AES_CM_128_HMAC_SHA1_80"]}}"#,
    ),
    (
        "device.open",
        r#"{"device":"PORT_2","media":{"mode":"static","ip":"10.0.0.50","port":4000,"codecs":["PCMU"]},"idem":"k1"}"#,
    ),
    ("device.open", r#"{"device":"RP_QUEUE","media":{"mode":"none"}}"#),
    ("device.open", r#"{"device":"PHONE_3"}"#),
    ("device.close", r#"{"device":"RP_MAIN"}"#),
    ("line.set_forward", r#"{"device":"PHONE_3","dn":"1003","destination":"5000"}"#),
    ("line.set_forward", r#"{"device":"PHONE_3","dn":"1003","destination":null}"#),
    ("line.set_auto_accept", r#"{"device":"RP_MAIN","dn":"5000","on":true}"#),
    ("line.set_message_waiting", r#"{"dn":"1001","on":true}"#),
    ("call.make", r#"{"device":"PORT_1","dn":"5101","destination":"9001","user_data":{"k":"v"}}"#),
    ("call.accept", r#"{"leg":"@LEG@"}"#),
    ("call.answer", r#"{"leg":"@LEG@"}"#),
    ("call.reject", r#"{"leg":"@LEG@","cause":"user_busy"}"#),
    (
        "call.redirect",
        r#"{"leg":"@LEG@","destination":"1001","keep_on_failure":false,"original_called":"5000"}"#,
    ),
    ("call.drop", r#"{"leg":"@LEG@"}"#),
    ("call.hold", r#"{"leg":"@LEG@"}"#),
    ("call.retrieve", r#"{"leg":"@LEG@"}"#),
    ("call.consult", r#"{"leg":"@LEG@","destination":"1002","for":"transfer"}"#),
    ("call.transfer", r#"{"leg":"@LEG@","destination":"1002"}"#),
    ("call.conference", r#"{"leg":"@LEG@","with":["l1","l2"]}"#),
    ("call.park", r#"{"leg":"@LEG@"}"#),
    ("call.unpark", r#"{"device":"PORT_1","park_number":"8801"}"#),
    ("call.pickup", r#"{"device":"PHONE_3","ringing_dn":"1001"}"#),
    ("call.dtmf", r##"{"leg":"@LEG@","digits":"12#*","duration_ms":100}"##),
    ("call.set_user_data", r#"{"leg":"@LEG@","user_data":{"a":"b","c":"d"}}"#),
    ("call.set_media", r#"{"leg":"@LEG@","ip":"10.0.0.50","port":4002}"#),
    ("rpc.discover", "{}"),
];

pub(super) fn ndjson() -> Vec<Vec<u8>> {
    let lines = |cuts: &[u8], rest: &[u8]| [cuts, rest].concat();
    vec![
        lines(&[3, 0, 7, 1], b"{}\r\n\n[\r\n\r\ntail"),
        lines(&[255, 255, 255, 255], b"{\"a\":1}\r\n\n[2]\n\r\ntail"),
        lines(&[4, 1, 0, 9], b"{\"n\":123}\r\n{\"n\":123}\r{\"n\":1234}\n"),
        lines(&[0, 0, 0, 8], b"{\"n\":12}\r"),
        lines(&[200, 9, 31, 4], b"{}  \r\n{}   x"),
    ]
}

/// A frame with an empty mask, of a body that may have stretches.
fn frame(first: u8, length: u64, body: &[u8]) -> Vec<u8> {
    let length = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => vec![0x80 | short],
        (_, Ok(middle)) => [&[0xfe], &middle.to_be_bytes()[..]].concat(),
        _ => [&[0xff], &length.to_be_bytes()[..]].concat(),
    };
    [&[first], &length[..], &[0; 4], body].concat()
}

pub(super) fn websocket() -> Vec<Vec<u8>> {
    const HEAD: &str = "GET /cti/v1 HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    const REST: &str =
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Protocol: cti.v1.jsonrpc\r\n";
    const MIB: u64 = 1 << 20;
    let short = |first, body: &[u8]| frame(first, body.len() as u64, body);
    let frames = |cuts: [u8; 4], frames: &[Vec<u8>]| [&cuts[..], b"w", &frames.concat()].concat();
    let (text, part, next, last) = (0x81, 0x01, 0x00, 0x80);
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec();
    vec![
        frames(
            [255; 4],
            &[short(text, b"{\"id\":1}"), short(0x89, b"p"), masked, short(0x88, b"\x03\xe8bye")],
        ),
        frames(
            [0; 4],
            &[
                short(part, b"\xc3"),
                short(0x89, b"1"),
                short(next, b""),
                short(last, b"\xa4"),
                short(0x8a, b""),
            ],
        ),
        frames([2, 0, 9, 40], &[short(part, b"{"), short(0x82, b"x")]),
        frames([2, 0, 9, 40], &[short(0x02, b"{"), short(0x8a, b"o"), short(last, b"}")]),
        frames([1; 4], &[short(text, b"\xff"), short(text, b"after")]),
        frames([1; 4], &[short(text, b""), short(0x88, b"")]),
        frames([9; 4], &[short(0x88, b"\x03"), short(text, b"after")]),
        frames([255; 4], &[frame(text, MIB, b"\xf5\x10"), short(text, b"after")]),
        frames([255; 4], &[frame(text, MIB + 1, b"\xf5\x10x"), short(text, b"after")]),
        frames([200, 9, 31, 255], &[frame(part, MIB - 1, b"\xf5\x0f\xf5\x00"), short(text, b"")]),
        frames(
            [255; 4],
            &[frame(part, MIB, b"\xf5\x10"), short(0x89, b"p"), short(next, b""), short(last, b"x")],
        ),
        frames([255; 4], &[frame(part, MIB, b"\xf5\x10"), short(last, b""), short(text, b"after")]),
        frames(
            [255; 4],
            &[short(text, b"first"), frame(text, MIB, b"\xf5\x10"), frame(text, MIB, b"\xf5\x10")],
        ),
        frames([3; 4], &[short(0xc1, b"x")]),
        frames([3; 4], &[b"\x81\x02{}".to_vec()]),
        frames([3; 4], &[frame(0x89, 126, &[b'p'; 126])]),
        frames([3; 4], &[b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()]),
        [b"\xff\xff\xff\xfff", &short(text, b"{}")[..]].concat(),
        [b"\x09\x20\x07\x00", HEAD.as_bytes(), REST.as_bytes(), b"\r\n", &short(text, b"{}")].concat(),
        [
            b"\xff\x00\x03\x10GET /livez HTTP/1.1\r\nHost: h\r\n\r\n",
            HEAD.as_bytes(),
            REST.as_bytes(),
            b"\r\n",
        ]
        .concat(),
        [b"\xff\x00\x03\x10", HEAD.as_bytes(), b"Content-Length: 3\r\n", REST.as_bytes(), b"\r\nabc"]
            .concat(),
        [
            b"\xff\x00\x03\x10",
            HEAD.as_bytes(),
            b"Transfer-Encoding: chunked\r\n",
            REST.as_bytes(),
            b"\r\n0\r\n\r\n",
        ]
        .concat(),
        [b"\xff\xff\xff\xff", HEAD.as_bytes(), b"\r\n"].concat(),
        b"\xff\xff\xff\xffPOST /cti/v1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".to_vec(),
        b"\xff\xff\xff\xffGET / HTTP/1.1\r\nX: \xf5\x02\r\n\r\n".to_vec(),
    ]
}

pub(super) fn sip_stream() -> Vec<Vec<u8>> {
    let options = b"OPTIONS sip:a SIP/2.0\r\nContent-Length : 4\r\n\r\nbody";
    let mut streams = vec![
        [&[5, 1, 3, 2][..], options, b"\r\n\r\n\r\n", options, b"\r\n", options].concat(),
        [&[255; 4][..], b"OPTIONS sip:a SIP/2.0\r\nX: \xf5\x10\r\n\r\n", options].concat(),
        [&[255; 4][..], b"OPTIONS sip:a SIP/2.0\r\nl: 65000\r\n\r\n\xf5\x10"].concat(),
        [&[0; 4][..], b"OPTIONS sip:a SIP/2.0\r\nl: 4\r\nContent-Length: 5\r\n\r\n"].concat(),
    ];
    streams.extend(torture().into_iter().map(|message| [&[17, 2, 90, 5][..], &message].concat()));
    streams
}

pub(super) fn session() -> Vec<Vec<u8>> {
    let open = OPEN.replace("USER", "ivr");
    let mut scripts: Vec<Vec<u8>> = REQUESTS
        .iter()
        .map(|(method, params)| {
            let request = request(method, params);
            script(&[
                (b'L', open.as_bytes()),
                (b'L', &request),
                (b'E', b""),
                (b'L', &request),
                (b'W', b"\x1e"),
            ])
        })
        .collect();
    scripts.push(script(&[
        (b'L', b"[1]"),
        (b'L', b"{"),
        (b'L', br#"{"jsonrpc":"2.0","id":1,"method":"provider.snapshot"}"#),
        (b'W', b"\x0b"),
    ]));
    scripts.push(script(&[
        (b'L', open.replace("ivr", "nobody").as_bytes()),
        (b'L', open.as_bytes()),
        (b'L', open.as_bytes()),
    ]));
    scripts
}

pub(super) fn methods() -> Vec<Vec<u8>> {
    let of = |name: &str, params: &str| {
        let at = protocol::Method::NAMES.iter().position(|method| *method == name).expect("a method");
        [&[u8::try_from(at).expect("few methods")], params.as_bytes()].concat()
    };
    let open = r#"{"user":"u","password":"hunter2","application":"a","instance":"i","heartbeat_ms":5000,"subscribe":["call.*"],"resume_grace_ms":1,"resume":{"session":"s1","last_seq":7}}"#;
    let mut all: Vec<Vec<u8>> =
        REQUESTS.iter().map(|(name, params)| of(name, &params.replace("@LEG@", "l1f"))).collect();
    all.push(of("provider.open", open));
    all.extend((0..u8::try_from(protocol::Method::NAMES.len()).expect("few methods")).map(|method| {
        (0..40).map(|n: u8| n.wrapping_mul(37)).fold(vec![method], |mut bytes, byte| {
            bytes.push(byte);
            bytes
        })
    }));
    all
}

pub(super) fn client() -> Vec<Vec<u8>> {
    [
        include_str!("../../../protocol/src/event/snapshots/protocol__event__tests__events_v1.snap"),
        include_str!(
            "../../../protocol/src/event/snapshots/protocol__event__tests__connection_events_v1.snap"
        ),
        include_str!("../../../protocol/src/wire/snapshots/protocol__wire__tests__answers_v1.snap"),
        include_str!("../../../protocol/src/wire/snapshots/protocol__wire__tests__errors_v1.snap"),
    ]
    .into_iter()
    .flat_map(golden)
    .collect()
}

pub(super) fn sip_message() -> Vec<Vec<u8>> {
    let mut messages = torture();
    messages.extend([
        invite("5000", "2001", "c1"),
        register("1001", "r1"),
        in_dialog("BYE", "5000", "2001", "c1", 2),
    ]);
    messages
}

pub(super) fn sip_values() -> Vec<Vec<u8>> {
    [
        "sip:alice%20x:pw@[2001:db8::1]:5061;transport=tcp;lr?subject=a&b=c",
        "\"A \\\" <b>\" <sip:a@h;x=y>;tag=1;expires=60;q=0.5",
        "sip:a@h;tag=1",
        "*",
        "SIP / 2.0 / UDP  [::1]:5060 ; branch=z9hG4bKx;received=192.0.2.1;rport",
        "SIP/2.0/TLS h.example;rport=7",
        "1 INVITE",
        ";a=b;c;d=\"e;f\"",
        "tel:+1-201-555-0123;phone-context=example.com",
        "Digest username=\"p1\", realm=\"lab\", nonce=\"0a\", uri=\"sip:h\", response=\"00112233445566778899aabbccddeeff\", algorithm=MD5, cnonce=\"c\", nc=00000001, qop=auth, opaque=\"o\"",
        "Digest realm=\"a\\\"b\", nonce=\"n\", qop=\"auth,auth-int\", algorithm=SHA-256, stale=TRUE, opaque=\"x\"",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// A script of steps as `LETTER:NAME` of a text, `LETTER#HEX` of bytes, or the letter alone.
fn play(steps: &str, text: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let step = |step: &str| {
        let rest = step.get(2..).unwrap_or_default();
        let rest = match step.as_bytes().get(1) {
            Some(b'#') => u32::from_str_radix(rest, 16)
                .expect("hex")
                .to_be_bytes()
                .into_iter()
                .skip_while(|b| *b == 0)
                .collect(),
            _ if rest.is_empty() => Vec::new(),
            _ => text(rest),
        };
        (step.as_bytes()[0], rest)
    };
    let steps: Vec<(u8, Vec<u8>)> = steps.split(' ').map(step).collect();
    script(&steps.iter().map(|(letter, rest)| (*letter, &rest[..])).collect::<Vec<_>>())
}

/// What the trunk sends to 1001.
fn of_the_trunk(name: &str) -> Vec<u8> {
    let again = |method: &str, call: &str| {
        head(method, "1001", "2001", call).replace("To: <sip:1001@10.0.0.1>", "To: @TO@")
    };
    let reliable = "Supported: 100rel, timer\r\nRequire: 100rel\r\nSession-Expires: 90\r\n";
    match name {
        "call" => invite("1001", "2001", "c1"),
        "ack" => in_dialog("ACK", "1001", "2001", "c1", 1),
        "bye" => in_dialog("BYE", "1001", "2001", "c1", 2),
        "update" => with_body(&again("UPDATE", "c1"), "3 UPDATE", CRYPTO),
        "again" => with_body(&again("INVITE", "c1"), "4 INVITE", SDP),
        "info" => with_body(&again("INFO", "c1"), "5 INFO", "Signal=5\r\nDuration=160\r\n"),
        "cancel" => plain(&again("CANCEL", "c1"), "1 CANCEL"),
        "reliable" => with_body(&(head("INVITE", "1001", "2001", "c2") + reliable), "1 INVITE", SDP),
        "prack" => plain(&(again("PRACK", "c2") + "RAck: 1 1 INVITE\r\n"), "2 PRACK"),
        "register" => register("1001", "r1"),
        "subscribe" => plain(
            &(head("SUBSCRIBE", "1001", "1001", "w1") + "Event: message-summary;id=7\r\nExpires: 600\r\n"),
            "1 SUBSCRIBE",
        ),
        "renew" => plain(&(again("SUBSCRIBE", "w1") + "Event: message-summary;id=7\r\n"), "9 SUBSCRIBE"),
        _ => SDP.into(),
    }
}

pub(super) fn sip_stack() -> Vec<Vec<u8>> {
    let scripts = [
        "T:call G A T:ack T:update T:info T:bye",
        "T:call A:sdp W#10 T:ack T:again T:ack E R#3003",
        "T:call G:sdp T:cancel T:ack",
        "T:reliable G:sdp T:prack A W#fe R#300b",
        "P:register L C P:register",
        "P:register L P:subscribe L R#3103 P:renew R#3203 W#ff",
        "P:register L P:subscribe L C P:renew S:renew R#310b",
        "S:call S:register S:bye",
        "T:call F T:ack W#40",
    ];
    let torture = torture();
    let torture =
        torture.iter().map(|message| script(&[(b'T', &without_parting(message)), (b'G', b""), (b'A', b"")]));
    scripts.iter().map(|steps| play(steps, of_the_trunk)).chain(torture).collect()
}

fn without_parting(message: &[u8]) -> Vec<u8> {
    message.iter().copied().filter(|byte| *byte != 0xff).collect()
}

pub(super) fn sdp() -> Vec<Vec<u8>> {
    let both = |offer: &str, answer: &str| format!("{offer}\n---\n{answer}").into_bytes();
    let held = SDP.replace("10.0.0.99\r\nt=", "0.0.0.0\r\nt=");
    vec![
        both(SDP, SDP),
        both(CRYPTO, SDP),
        both(SDP, CRYPTO),
        both(&held, SDP),
        both(&CRYPTO.replace("RTP/SAVP", "UDP/TLS/RTP/SAVPF").replace("audio 4000", "audio 0"), CRYPTO),
        both(
            "v=0\no=x 99999999999999999999 1 IN IP4 h.example\ns=J\u{fc}rg\nc=IN IP6 2001:db8::1\nt=0 0\nm=image 9 udptl t38\nm=audio 49170/2 RTP/AVP 9 18\n",
            SDP,
        ),
    ]
}

pub(super) fn rtp() -> Vec<Vec<u8>> {
    let mut packet =
        vec![0b1011_0001, 0x80 | 8, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4];
    packet.extend([0x55, 0x66, 0, 2]);
    vec![vec![0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 0xd5, 0xd5], packet]
}

pub(super) fn config() -> Vec<Vec<u8>> {
    let bomb = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let aliases = vec![format!("*a{}", n - 1); 9].join(", ");
        text + &format!("a{n}: &a{n} [{aliases}]\n")
    });
    let nested = (0..40).map(|n| format!("&n{n} [")).collect::<String>();
    let ranges = "devices:\n  - {name: \"P_[0-99999999]\", type: cti_port, pool: Default, lines: [\"[00000-99999]\"]}\npark_numbers: [\"0-9\", \"00000000-99999999\"]\n";
    [
        include_str!("../../../config/minimal.yaml"),
        include_str!("../../../config/hq.yaml"),
        include_str!("../../../ctimanager/src/config/tests/mistakes.yaml"),
        &bomb,
        &nested,
        ranges,
        "a: b\n---\nc: d\n",
        "? [x]\n: y\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// What everybody around the node says.
fn of_everybody(name: &str) -> Vec<u8> {
    let open = |user: &str| OPEN.replace("USER", user);
    let going_on = "\"resume\":{\"session\":\"@SESSION@\",\"last_seq\":0},\"resume_grace_ms\"";
    match name {
        "ivr" | "ports" | "desk" => open(name).into_bytes(),
        "resume" => open("ivr").replace("\"resume_grace_ms\"", going_on).into_bytes(),
        "main" => {
            request("device.open", r#"{"device":"RP_MAIN","media":{"mode":"dynamic","codecs":["PCMU"]}}"#)
        }
        "port" => request(
            "device.open",
            r#"{"device":"PORT_1","media":{"mode":"static","ip":"10.0.0.50","port":4000,"codecs":["PCMU","PCMA"]}}"#,
        ),
        "phone" => request("device.open", r#"{"device":"PHONE_3"}"#),
        "call" => invite("5000", "0301234", "c1"),
        "ack" => in_dialog("ACK", "5000", "0301234", "c1", 1),
        "bye" => in_dialog("BYE", "5000", "0301234", "c1", 2),
        "through" => invite("9001", "1", "c3"),
        "to-phone" => invite("1003", "0301234", "c2"),
        "to-port" => invite("5101", "0301234", "c4"),
        "register" => register("1003", "r3"),
        "answered" => [b"0\x03", SDP.as_bytes()].concat(),
        "explain" => b"\x06RP_MAIN".to_vec(),
        method => {
            let (_, params) = REQUESTS.iter().find(|(name, _)| *name == method).expect("there is a sample");
            request(method, params)
        }
    }
}

pub(super) fn node() -> Vec<Vec<u8>> {
    let calls = [
        "a:ivr a:main T:call a:call.answer a:call.set_media T:ack a:call.hold R:answered a:call.retrieve R:answered T:bye",
        "a:ivr a:main T:call a:call.redirect W#40 a:call.drop",
        "b:ports b:port b:call.make R:answered W#2 b:call.hold b:call.drop",
        "3:register L#2 c:desk c:phone T:to-phone c:provider.snapshot c:call.answer R:answered c:call.hold",
        "a:ivr a:main T:call X a:resume a:call.answer V W#28",
        "T:call Q#2 Q:explain !#fe T:through ! N",
    ];
    let calls = calls.iter().map(|steps| play(steps, of_everybody));
    let requests = REQUESTS.iter().map(|(method, params)| {
        let before = play("b:ports b:port T:to-port", of_everybody);
        [&before[..], b"\xffb", &request(method, params), b"\xffW\x05"].concat()
    });
    calls.chain(requests).collect()
}
