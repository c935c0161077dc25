//! Those of targets that read what is not SIP, NDJSON or YAML alone.

use super::{CRYPTO, OPEN, SDP, golden, play, request, script};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

const EVENTS: &str =
    include_str!("../../../../protocol/src/event/snapshots/protocol__event__tests__events_v1.snap");
const ANSWERS: &str =
    include_str!("../../../../protocol/src/wire/snapshots/protocol__wire__tests__answers_v1.snap");
const ERRORS: &str =
    include_str!("../../../../protocol/src/wire/snapshots/protocol__wire__tests__errors_v1.snap");

/// The part of this name of each line.
fn parts(text: &str, name: &str) -> Vec<Vec<u8>> {
    let part = |line: Vec<u8>| {
        let mut line: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        line[name].take().to_string().into_bytes()
    };
    golden(text).into_iter().map(part).filter(|part| part != b"null").collect()
}

pub(in crate::fuzz) fn provider() -> Vec<Vec<u8>> {
    let (answers, errors, events) =
        (parts(ANSWERS, "result"), parts(ERRORS, "error"), parts(EVENTS, "params"));
    let opens = |answer: &&Vec<u8>| String::from_utf8_lossy(answer).contains("\"session\":");
    let open = answers.iter().find(opens).expect("there is one");
    let mut scripts: Vec<Vec<u8>> = Vec::new();
    for answer in &answers {
        scripts.push(script(&[
            (b'A', open),
            (b'A', answer),
            (b'A', answer),
            (b'A', b"{}"),
            (b'X', b""),
            (b'A', open),
            (b'A', answer),
            (b'N', answer),
        ]));
    }
    for error in &errors {
        scripts.push(script(&[(b'A', open), (b'R', error), (b'R', error), (b'W', b"\x20"), (b'R', error)]));
    }
    for few in events.chunks(3) {
        let mut steps: Vec<(u8, &[u8])> = vec![(b'A', open), (b'A', &answers[8])];
        steps.extend(few.iter().map(|event| (b'E', &event[..])));
        steps.extend([(b'A', &b"{}"[..]), (b'X', b""), (b'W', b"\x02"), (b'A', open), (b'L', b"[]")]);
        scripts.push(script(&steps));
    }
    scripts
}

pub(in crate::fuzz) fn parties() -> Vec<Vec<u8>> {
    const LINES: &[&str] = &[
        "P-Asserted-Identity: \"Ann \\\"A\\\"\" <sip:2001@h>, <tel:+1-555-0100>\r\n",
        "From: \"Fraud\u{202e}noitneverP\" <sip:%2b4930@h;user=phone>;tag=1\r\nPrivacy: id;critical\r\n",
        "Remote-Party-ID: <sip:2002@h>;party=calling;privacy=full;screen=yes\r\nP-Preferred-Identity: <sip:9@h>\r\n",
        "Diversion: \"B\" <sip:5000@h>;reason=user-busy;counter=4;privacy=off, <sip:5001@h>;privacy=full\r\n",
        "History-Info: <sip:5000@h?Reason=SIP%3Bcause%3D486>;index=1, <sip:5001@h;cause=486>;index=1.1;mp=1\r\n",
        "History-Info: <sip:5000@h?Privacy=history>;index=1\r\nHistory-Info: <sip:1@h>;index=1.1;rc=1\r\nPrivacy: history\r\n",
        "From: Anonymous <sip:anonymous@anonymous.invalid>;tag=1\r\nDiversion: <tel:+4930;phone-context=x>\r\n",
        "Contact: <sip:1001@h>;q=0.5, <sip:1002@h>;q=0.9, <sip:%31@h>, tel:7\r\nReason: Q.850;cause=17\r\n",
    ];
    let mut all = Vec::new();
    for lines in LINES {
        for (kind, body) in [("application/sdp", SDP), ("application/sdp", CRYPTO)] {
            all.push(format!("{lines}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
        all.push(format!("{lines}Content-Length: 0\r\n\r\n"));
    }
    let mixed = format!(
        "--b\r\nContent-Type: application/isup\r\n\r\n\u{1}\r\n--b\r\nContent-Type: application/sdp\r\n\
         Content-Disposition: session\r\n\r\n{SDP}\r\n--b--\r\n"
    );
    all.push(format!(
        "Content-Type: multipart/mixed;boundary=\"b\"\r\nContent-Length: {}\r\n\r\n{mixed}",
        mixed.len()
    ));
    // A description without anything in it.
    all.push(
        "Content-Type: multipart/mixed;boundary=b\r\nContent-Length: 45\r\n\r\n\
         --b\r\nContent-Type: application/sdp\r\n\r\n--b--\r\n"
            .into(),
    );
    all.into_iter().map(String::into_bytes).collect()
}

pub(in crate::fuzz) fn stream() -> Vec<Vec<u8>> {
    let packet = |kind: u8, pause: u8, timestamp: u32, payload: &[u8]| {
        let head = [&[0x80, 0, 0, 1][..], &timestamp.to_be_bytes(), &[1, 2, 3, 4], payload].concat();
        [&[pause, u8::try_from(head.len()).expect("short"), kind], &head[..]].concat()
    };
    let audio = |n: u32| packet(2, 20, n * 160, &[0xd5; 160]);
    let key = |event: u8, end: u8, duration: u8, at: u32| packet(0, 20, at, &[event, end | 10, 0, duration]);
    vec![
        (0..8).flat_map(audio).collect(),
        [0, 2, 1, 1, 9, 3].into_iter().flat_map(audio).collect(),
        [audio(1), packet(1, 0, 0, &[]), packet(3, 250, 1 << 31, &[0; 40]), packet(2, 250, 0, &[1])].concat(),
        [key(5, 0, 80, 1), key(5, 0x80, 160, 1), key(5, 0x80, 160, 1), key(11, 0, 80, 800)].concat(),
        [key(5, 0, 80, 1), packet(2, 255, 160, &[0xff; 20]), key(15, 0x80, 1, 9), key(16, 0, 1, 10)].concat(),
    ]
}

pub(in crate::fuzz) fn wav() -> Vec<Vec<u8>> {
    let of = |channels: u16, rate: u32, bits: u16, bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("short");
        let align = channels * bits / 8;
        [
            &b"RIFF"[..],
            &(36 + length).to_le_bytes(),
            b"WAVEfmt ",
            &16u32.to_le_bytes(),
            &1u16.to_le_bytes(),
            &channels.to_le_bytes(),
            &rate.to_le_bytes(),
            &(rate * u32::from(align)).to_le_bytes(),
            &align.to_le_bytes(),
            &bits.to_le_bytes(),
            b"data",
            &length.to_le_bytes(),
            bytes,
        ]
        .concat()
    };
    let tone: Vec<u8> = (0..64u8).map(|n| n.wrapping_mul(37)).collect();
    vec![
        of(1, 8_000, 16, &tone),
        of(2, 48_000, 16, &tone),
        of(1, 44_100, 16, &tone),
        of(1, 8_000, 8, &tone),
        of(1, 8_000, 16, &[]),
    ]
}

pub(in crate::fuzz) fn certificates() -> Vec<Vec<u8>> {
    const NODE: &str = include_str!("../pem/node.pem");
    const AUTHORITY: &str = include_str!("../pem/ca.pem");
    const LIST: &str = include_str!("../pem/list.pem");
    let der = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate").to_vec();
    let list = CertificateRevocationListDer::from_pem_slice(LIST.as_bytes()).expect("a list").to_vec();
    // Ed25519 (RFC 8410), of a key that nobody has.
    let key = [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &[7; 32]].concat();
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    vec![
        with(b'S', &der(NODE)),
        with(b'S', &der(AUTHORITY)),
        with(b'C', &der(NODE)),
        with(b'R', &list),
        with(b'K', &key),
        with(b'P', [NODE, AUTHORITY, LIST].concat().as_bytes()),
        with(b'P', LIST.as_bytes()),
    ]
}

pub(in crate::fuzz) fn registrations() -> Vec<Vec<u8>> {
    const LINE: &str = r#"{"id":1,"bound":{"account":"PHONE_1","number":"1001","contact":"sip:1001@10.0.0.11:5060;ob","q":1000,"path":["<sip:10.0.0.5;lr>"],"call_id":"c","cseq":7,"instance":"<urn:uuid:1>;","transport":"udp","remote":"10.0.0.11:5060","expires":1800000600000}}"#;
    let gone = r#"{"id":1,"bound":null}"#;
    let other = LINE
        .replace("\"id\":1", "\"id\":2")
        .replace("PHONE_1", "PHONE_3")
        .replace("1001", "1003")
        .replace("udp", "tcp");
    let far = LINE.replace("1800000600000", "18446744073709551615").replace("10.0.0.11:5060\"", "[::1]:1\"");
    let raw = ctimanager::io::write_journal([LINE, gone]);
    [
        LINE.to_owned(),
        [LINE, &other, gone].join("\n"),
        [&far, LINE].map(String::from).join("\n"),
        LINE.replace("PHONE_1", "REMOVED"),
        format!("!{raw}"),
        format!("!{}", &raw[..raw.len() - 9]),
    ]
    .map(String::into_bytes)
    .into()
}

pub(in crate::fuzz) fn sessions() -> Vec<Vec<u8>> {
    const HEAD: &str = r#"{"user":"ivr","application":"fuzz","instance":null,"peer":"10.0.0.50:40000","tls":true,"heartbeat_ms":5000,"grace_ms":30000,"subscription":null,"held_until":null}"#;
    const DEVICE: &str = r#"{"media":{"mode":"dynamic","codecs":["PCMU"]},"device":{"name":"RP_MAIN","type":"route_point","description":"","pool":"Default","state":"in_service","node":"cm1","registered":true,"restricted":false,"opened":true,"lines":[]}}"#;
    const LEG: &str = r#"{"leg":{"leg":"l5","call":"c7","device":"RP_MAIN","dn":"5000","state":"connected","reason":"normal","calling":{"number":"2001","presentation":"allowed"},"called":{"number":"5000","presentation":"allowed"},"remote_in_use":false,"security":"none"},"input":true,"output":false}"#;
    let resume = OPEN
        .replace("USER", "ivr")
        .replace("\"resume_grace_ms\"", "\"resume\":{\"session\":\"s5\",\"last_seq\":1},\"resume_grace_ms\"");
    let with = |id: &[u8], rest: &[u8]| [id, rest].concat();
    let event = |seq: u8, number: usize| with(&[5, seq], &golden(EVENTS)[number]);
    let of = |head: &str| {
        let open = request("device.open", r#"{"device":"RP_QUEUE","media":{"mode":"none"}}"#);
        script(&[
            (b'S', &with(b"\x05", head.as_bytes())),
            (b'F', b"\x05\x01"),
            (b'E', &event(1, 4)),
            (b'E', &event(2, 6)),
            (b'A', b"\x05\x01\x02k1{\"result\":{}}"),
            (b'D', &with(b"\x05", DEVICE.as_bytes())),
            (b'L', &with(b"\x05", LEG.as_bytes())),
            (b'G', b"\x09\x01\x00\x03ivr"),
            (b'T', b"\x05\x00\x00"),
            (b'|', b""),
            (b'a', resume.as_bytes()),
            (b'a', &open),
            (b'W', b"\x05"),
        ])
    };
    let held = "\"held_until\":1800000005000";
    vec![
        of(HEAD),
        of(&HEAD.replace("\"held_until\":null", held)),
        of(&HEAD.replace("\"held_until\":null", "\"held_until\":18446744073709551615")),
        of(&HEAD.replace("\"ivr\"", "\"nobody\"")),
        of(&HEAD.replace("\"subscription\":null", "\"subscription\":[\"call.offering\"]")),
        play("G:ended | T:call", |name| match name {
            "ended" => b"\x05\x01\x00\x03ivr".to_vec(),
            _ => super::invite("5000", "2001", "c1"),
        }),
    ]
}
