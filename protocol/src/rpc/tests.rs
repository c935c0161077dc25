use super::*;
use proptest::prelude::*;

fn refused(text: &str) -> (Option<String>, Symbol) {
    let bad = parse_request(text.as_bytes()).expect_err(text);
    (bad.id.map(|id| id.as_json().to_owned()), bad.error.symbol)
}

#[test]
fn a_request_is_read_and_its_id_comes_back_letter_by_letter() {
    for id in ["1", "\"a\\u00e9\"", "1.50", "-3", "1e3"] {
        let text =
            format!(r#" {{"jsonrpc":"2.0","id":{id},"method":"call.drop","params":{{"leg":"l1"}},"x":1}}"#);
        let request = parse_request(text.as_bytes()).expect("a request");
        assert_eq!(request.method, "call.drop");
        assert_eq!(request.params.expect("params").get(), r#"{"leg":"l1"}"#);
        let reply = result_frame(&request.id.expect("an id"), &raw(&1));
        assert_eq!(reply.to_vec(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#).into_bytes());
    }
    let bare = parse_request(br#"{"jsonrpc":"2.0","method":"x","params":null}"#).expect("a notification");
    assert!(bare.id.is_none() && bare.params.is_none());
}

#[test]
fn what_is_no_request_is_refused_by_its_kind() {
    for text in ["{", "", "nonsense", "{\"a\":}", "[1,", "{}x"] {
        assert_eq!(refused(text), (None, Symbol::ParseError), "{text}");
    }
    for text in
        ["[]", "[{}]", "1", "\"a\"", "null", "true", "{}", r#"{"id":null,"jsonrpc":"2.0","method":"a"}"#]
    {
        assert_eq!(refused(text), (None, Symbol::InvalidRequest), "{text}");
    }
    for text in [
        r#"{"id":7}"#,
        r#"{"jsonrpc":"1.0","id":7,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":7}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":3}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"a","params":"bar"}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"a","params":4}"#,
    ] {
        assert_eq!(refused(text), (Some("7".into()), Symbol::InvalidRequest), "{text}");
    }
    let unreadable = [r#""\ud800""#, r#""a\udc00b""#, "11e999", "-1e400"];
    for id in ["{}", "[1]", "true", "null"].into_iter().chain(unreadable) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"a"}}"#);
        assert_eq!(refused(&text), (None, Symbol::InvalidRequest), "{text}");
    }
    assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#).1, Symbol::InvalidRequest);
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"a"}}"#, "x".repeat(MAX_ID_BYTES));
    assert_eq!(refused(&long), (None, Symbol::InvalidRequest));
    let bad = parse_request(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}").expect_err("no UTF-8");
    assert_eq!((bad.id, bad.error.symbol), (None, Symbol::ParseError));
}

#[test]
fn deep_nesting_costs_no_stack() {
    let deep = |open: &str, close: &str| open.repeat(200_000) + &close.repeat(200_000);
    assert_eq!(refused(&deep("[", "]")).1, Symbol::InvalidRequest);
    assert_eq!(refused(&deep("{\"a\":", "}")).1, Symbol::ParseError, "nothing after the last colon");
    let params = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"a":{}}}}}"#, deep("[", "]"));
    let request = parse_request(params.as_bytes()).expect("a request");
    let error = object(request.params.as_deref()).expect_err("too deep");
    assert_eq!(error.symbol, Symbol::InvalidParams);
    let unknown = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","x":{}}}"#, deep("[", "]"));
    parse_request(unknown.as_bytes()).expect("unknown members are skipped, however deep");
}

#[test]
fn a_client_reads_what_a_server_writes() {
    let id = Id::number(4);
    let reply = Incoming::parse(&result_frame(&id, &raw(&[1, 2])).to_vec()).expect("a reply");
    assert!(
        matches!(reply, Incoming::Reply { id: Some(i), outcome: Ok(r) } if i == id && r.get() == "[1,2]")
    );
    let error = CtiError::rate_limited(9);
    let reply = Incoming::parse(&error_frame(None, &error).to_vec()).expect("a reply");
    assert!(matches!(reply, Incoming::Reply { id: None, outcome: Err(e) } if e == error));
    let null = Incoming::parse(br#"{"jsonrpc":"2.0","id":1,"result":null}"#).expect("a reply");
    assert!(matches!(null, Incoming::Reply { outcome: Ok(_), .. }));
    let later = Incoming::parse(br#"{"jsonrpc":"2.0","method":"hint","params":{}}"#).expect("a notification");
    assert!(matches!(later, Incoming::Unknown(name) if name == "hint"));
    assert!(Incoming::parse(b"{}").is_err());
    assert!(Incoming::parse(b"[]").is_err());
}

#[test]
fn passwords_and_keys_are_not_shown() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"provider.open","params":{"password":"hunter2"}}"#;
    let request = parse_request(text.as_bytes()).expect("a request");
    let frame = request_frame(&Id::number(1), "provider.open", request.params.as_deref().expect("params"));
    let event = Incoming::parse(br#"{"jsonrpc":"2.0","method":"event","params":{"key":"hunter2"}}"#)
        .expect("an event");
    let shown = format!("{request:?} {frame:?} {event:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_request(&bytes);
        let _ = Incoming::parse(&bytes);
    }

    #[test]
    fn no_json_panics(text in r#"[\[\]{}",:0-9a-z \\]{0,60}"#) {
        let _ = parse_request(text.as_bytes());
        let object = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"call.make","params":{{{text}}}}}"#);
        if let Ok(request) = parse_request(object.as_bytes()) {
            let _ = crate::Method::parse(&request.method, request.params.as_deref());
        }
    }
}
