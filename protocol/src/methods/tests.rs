use super::*;
use crate::param::MAX_GLOBS;
use proptest::prelude::*;

fn parse(method: &str, text: &str) -> Result<Method, CtiError> {
    let raw = RawValue::from_string(text.to_owned()).expect("JSON");
    Method::parse(method, Some(&raw))
}

fn wrong_field(method: &str, text: &str) -> String {
    let error = parse(method, text).expect_err(text);
    assert_eq!(error.symbol, Symbol::InvalidParams, "{text}: {error}");
    error.data.field.map(|f| f.into_owned()).unwrap_or_default()
}

/// A good request of every method, with every param.
const GOOD: &[(&str, &str)] = &[
    (
        "provider.open",
        r#"{"user":"a","password":"p","application":"x","instance":"1","heartbeat_ms":5000,"subscribe":["call.*"],
            "resume_grace_ms":1000,"resume":{"session":"s1","last_seq":4}}"#,
    ),
    ("provider.heartbeat", r#"{"last_seq":7}"#),
    ("provider.close", "{}"),
    ("provider.devices", r#"{"type":"phone","name":"SEP*","cursor":"c","limit":10,"scope":"all"}"#),
    ("provider.monitor_park", r#"{"on":true}"#),
    ("provider.snapshot", "{}"),
    ("rpc.discover", "{}"),
    (
        "device.open",
        r#"{"device":"P1","media":{"mode":"static","ip":"10.0.0.1","port":5004,"codecs":["PCMU","PCMA"]}}"#,
    ),
    ("device.close", r#"{"device":"P1"}"#),
    ("line.set_forward", r#"{"device":"P1","dn":"5101","destination":null}"#),
    ("line.set_auto_accept", r#"{"device":"P1","dn":"5101","on":false}"#),
    ("line.set_message_waiting", r#"{"dn":"5101","on":true}"#),
    (
        "call.make",
        r#"{"device":"P1","dn":"5101","destination":"2001","calling_number":"9","user_data":{"k":"v"}}"#,
    ),
    ("call.accept", r#"{"leg":"l1"}"#),
    ("call.answer", r#"{"leg":"l1"}"#),
    ("call.reject", r#"{"leg":"l1","cause":17}"#),
    (
        "call.redirect",
        r#"{"leg":"l1","destination":"2001","calling_number":"9","original_called":"5","keep_on_failure":false}"#,
    ),
    ("call.drop", r#"{"leg":"l1"}"#),
    ("call.hold", r#"{"leg":"l1"}"#),
    ("call.retrieve", r#"{"leg":"l1"}"#),
    ("call.consult", r#"{"leg":"l1","destination":"2001","for":"transfer"}"#),
    ("call.transfer", r#"{"leg":"l1","with":"l2"}"#),
    ("call.conference", r#"{"leg":"l1","with":["l2","l3"]}"#),
    ("call.park", r#"{"leg":"l1","park_number":"8801"}"#),
    ("call.unpark", r#"{"device":"P1","dn":"5101","park_number":"8801"}"#),
    ("call.pickup", r#"{"device":"P1","dn":"5101","ringing_dn":"2001"}"#),
    ("call.dtmf", r##"{"leg":"l1","digits":"12A#*","duration_ms":100}"##),
    ("call.set_user_data", r#"{"leg":"l1","user_data":{"k":"v"}}"#),
    ("call.set_media", r#"{"leg":"l1","ip":"::1","port":5004}"#),
];

#[test]
fn every_method_reads_what_a_client_writes() {
    let names: Vec<&str> = GOOD.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, Method::NAMES);
    for (name, text) in GOOD {
        let method = parse(name, text).unwrap_or_else(|e| panic!("{name}: {e} {:?}", e.data));
        assert_eq!(method.name(), *name);
        let written: Value = serde_json::from_str(written(&method).get()).expect("JSON");
        assert_eq!(written, serde_json::from_str::<Value>(text).expect("JSON"), "{name}");
    }
}

fn written(method: &Method) -> Box<RawValue> {
    macro_rules! each { ($($variant:ident)*) => { match method { $(Method::$variant(p) => params(p, None),)* } } }
    each! {
        ProviderOpen ProviderHeartbeat ProviderClose ProviderDevices ProviderMonitorPark ProviderSnapshot RpcDiscover
        DeviceOpen DeviceClose LineSetForward LineSetAutoAccept LineSetMessageWaiting CallMake CallAccept CallAnswer
        CallReject CallRedirect CallDrop CallHold CallRetrieve CallConsult CallTransfer CallConference CallPark
        CallUnpark CallPickup CallDtmf CallSetUserData CallSetMedia
    }
}

#[test]
fn each_param_of_each_method_refuses_a_wrong_type_by_its_name() {
    for (name, text) in GOOD {
        let good: Map<String, Value> = serde_json::from_str(text).expect("JSON");
        for field in good.keys() {
            let mut bad = good.clone();
            bad.insert(field.clone(), json!({"": [1]}));
            let path = wrong_field(name, &Value::Object(bad).to_string());
            let below = path.strip_prefix(field.as_str()).unwrap_or_else(|| panic!("{name}: {path}"));
            assert!(below.is_empty() || below.starts_with(['.', '[']), "{name}: {path}");
        }
    }
}

#[test]
fn wrong_params_are_named_by_their_path() {
    let media = |m: &str| wrong_field("device.open", &format!(r#"{{"device":"P1","media":{m}}}"#));
    assert_eq!(media(r#"{"mode":"static","ip":"10.0.0.1","port":5005,"codecs":["PCMU"]}"#), "media.port");
    assert_eq!(media(r#"{"mode":"static","ip":"10.0.0.1","port":65536,"codecs":["PCMU"]}"#), "media.port");
    assert_eq!(media(r#"{"mode":"static","ip":"10.0.0.1","codecs":["PCMU"]}"#), "media.port");
    assert_eq!(media(r#"{"mode":"static","ip":"host.example","port":5004,"codecs":["PCMU"]}"#), "media.ip");
    assert_eq!(media(r#"{"mode":"static","ip":"0.0.0.0","port":5004,"codecs":["PCMU"]}"#), "media.ip");
    assert_eq!(media(r#"{"mode":"dynamic","codecs":["PCMU","MP3"]}"#), "media.codecs[1]");
    assert_eq!(media(r#"{"mode":"dynamic","codecs":[]}"#), "media.codecs");
    assert_eq!(media(r#"{"mode":"dynamic"}"#), "media.codecs");
    assert_eq!(media(r#"{"mode":"loud"}"#), "media.mode");
    assert_eq!(media("{}"), "media.mode");
    assert_eq!(media("3"), "media");
    assert_eq!(wrong_field("device.open", "{}"), "device");
    assert_eq!(wrong_field("device.open", r#"{"device":null}"#), "device");
    assert_eq!(wrong_field("device.open", "[]"), "params");
    assert_eq!(wrong_field("line.set_forward", r#"{"device":"P1","dn":"5101"}"#), "destination");
    assert_eq!(
        wrong_field("call.make", r#"{"device":"P1","destination":"2001","user_data":{"k":1}}"#),
        "user_data.k"
    );
    assert_eq!(wrong_field("call.make", r#"{"device":"P1","destination":"2001>;x"}"#), "destination");
    assert_eq!(wrong_field("call.make", r#"{"device":"P1","destination":""}"#), "destination");
    assert_eq!(wrong_field("call.reject", r#"{"leg":"l1","cause":128}"#), "cause");
    assert_eq!(wrong_field("call.reject", r#"{"leg":"l1","cause":"bored"}"#), "cause");
    assert_eq!(wrong_field("call.transfer", r#"{"leg":"l1"}"#), "with");
    assert_eq!(wrong_field("call.transfer", r#"{"leg":"l1","with":"l2","destination":"1"}"#), "destination");
    assert_eq!(wrong_field("provider.devices", r#"{"limit":1001}"#), "limit");
    assert_eq!(wrong_field("call.dtmf", r#"{"leg":"l1","digits":"12x"}"#), "digits");
    let error = parse("device.open", r#"{"device":"P1","media":{"mode":"dynamic"}}"#).expect_err("no codecs");
    assert_eq!(error.message, "`media.codecs` is missing");
}

/// A method's params as a text, of a size.
type OfSize = fn(usize) -> String;

/// Each bounded param: its method, its params of a size, the largest size, the field that is named beyond it.
const BOUNDS: [(&str, OfSize, usize, &str); 14] = [
    ("provider.open", |n| opening(&format!(r#""instance":"{}""#, "i".repeat(n))), 128, "instance"),
    ("provider.open", |n| opening(&format!(r#""password":"{}""#, "p".repeat(n))), 1024, "password"),
    ("provider.open", |n| opening(&format!(r#""subscribe":["{}"]"#, "*".repeat(n))), 128, "subscribe[0]"),
    ("provider.open", |n| opening(&format!(r#""subscribe":{:?}"#, vec!["*"; n])), MAX_GLOBS, "subscribe"),
    ("provider.devices", |n| format!(r#"{{"limit":{n}}}"#), 1000, "limit"),
    ("provider.devices", |n| format!(r#"{{"cursor":"{}"}}"#, "c".repeat(n)), 256, "cursor"),
    ("device.close", |n| format!(r#"{{"device":"{}"}}"#, "d".repeat(n)), 128, "device"),
    ("call.redirect", |n| format!(r#"{{"leg":"l1","destination":"{}"}}"#, "1".repeat(n)), 64, "destination"),
    ("call.dtmf", |n| format!(r#"{{"leg":"l1","digits":"{}"}}"#, "1".repeat(n)), 128, "digits"),
    ("call.dtmf", |n| format!(r#"{{"leg":"l1","digits":"1","duration_ms":{n}}}"#), 10_000, "duration_ms"),
    ("call.conference", |n| format!(r#"{{"leg":"l1","with":{:?}}}"#, vec!["l2"; n]), 256, "with"),
    ("call.set_user_data", |n| data((0..n).map(|k| (k.to_string(), 1))), 64, "user_data"),
    ("call.set_user_data", |n| data([("k".repeat(n), 1)].into_iter()), 128, "user_data"),
    ("call.set_user_data", |n| data([("k".to_owned(), n - 1)].into_iter()), 4096, "user_data"),
];

fn opening(more: &str) -> String {
    format!(r#"{{"user":"u","application":"a",{more}}}"#)
}

/// User data of these keys, each with a text of so many bytes.
fn data(entries: impl Iterator<Item = (String, usize)>) -> String {
    let entries: Vec<String> =
        entries.map(|(key, size)| format!(r#""{key}":"{}""#, "x".repeat(size))).collect();
    format!(r#"{{"leg":"l1","user_data":{{{}}}}}"#, entries.join(","))
}

#[test]
fn each_param_is_taken_at_its_limit_and_refused_beyond() {
    for (method, params, most, field) in BOUNDS {
        assert!(parse(method, &params(most)).is_ok(), "{method} with {field} of {most}");
        assert_eq!(wrong_field(method, &params(most + 1)), field, "{method} beyond {most}");
    }
}

#[test]
fn an_id_that_nobody_issued_names_no_leg() {
    for leg in ["l01", "c1", "", "leg-1"] {
        let error = parse("call.answer", &json!({ "leg": leg }).to_string()).expect_err(leg);
        assert_eq!(error.symbol, Symbol::NoSuchLeg, "{leg}");
    }
    let error = parse("call.conference", r#"{"leg":"l1","with":["x"]}"#).expect_err("no leg");
    assert_eq!(error.symbol, Symbol::NoSuchLeg);
    let Ok(Method::ProviderOpen(open)) =
        parse("provider.open", r#"{"user":"a","application":"x","resume":{"session":"old","last_seq":0}}"#)
    else {
        panic!("an unknown session is no wrong param")
    };
    assert_eq!(open.resume.map(|r| r.session), Some(None));
}

#[test]
fn unknown_methods_and_unknown_members() {
    assert_eq!(parse("call.juggle", "{}").expect_err("unknown").symbol, Symbol::MethodNotFound);
    assert_eq!(Method::parse("provider.close", None), Ok(Method::ProviderClose(ProviderClose {})));
    assert!(parse("call.drop", r#"{"leg":"l1","idem":"k","future":{"a":[]}}"#).is_ok());
}

#[test]
fn causes_go_by_number_or_name() {
    for cause in ["17", "\"user_busy\""] {
        let method = parse("call.reject", &format!(r#"{{"leg":"l1","cause":{cause}}}"#)).expect("reads");
        let expected = device_model::Request::Reject { leg: LegId(1), cause: Cause::USER_BUSY };
        assert_eq!(method.to_model(), Some(expected));
    }
    let method = parse("call.reject", r#"{"leg":"l1"}"#).expect("reads");
    let expected = device_model::Request::Reject { leg: LegId(1), cause: Cause::CALL_REJECTED };
    assert_eq!(method.to_model(), Some(expected));
}

#[test]
fn codecs_and_suites_are_sets() {
    let open = |codecs: &str| {
        parse("device.open", &format!(r#"{{"device":"P1","media":{{"mode":"dynamic","codecs":{codecs}}}}}"#))
    };
    assert_eq!(open(r#"["PCMA","PCMU","pcma"]"#), open(r#"["PCMU","PCMA"]"#));
}

#[test]
fn a_password_is_written_for_its_server_and_shown_to_nobody() {
    let method = parse("provider.open", GOOD[0].1.replace("\"p\"", "\"hunter2\"").as_str()).expect("reads");
    assert!(!format!("{method:?}").contains("hunter2"));
    assert!(written(&method).get().contains(r#""password":"hunter2""#));
}

#[test]
fn a_client_adds_its_idem() {
    assert_eq!(params(&ProviderClose {}, Some("k\"1")).get(), r#"{"idem":"k\"1"}"#);
    assert_eq!(params(&CallDrop { leg: LegId(1) }, Some("k")).get(), r#"{"leg":"l1","idem":"k"}"#);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
        prop_oneof![
            Just("static"),
            Just("dynamic"),
            Just("none"),
            Just("PCMU"),
            Just("l1"),
            Just("10.0.0.1")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let name = prop_oneof![
            Just("mode"),
            Just("ip"),
            Just("port"),
            Just("codecs"),
            Just("srtp"),
            Just("session")
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(name.prop_map(String::from), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever stands in one param: it is read and reads back the same, or the error names it.
    #[test]
    fn one_param_of_anything(which in 0..GOOD.len(), nth in any::<prop::sample::Index>(), value in any_value()) {
        let (name, text) = GOOD[which];
        let mut fields: Map<String, Value> = serde_json::from_str(text).expect("JSON");
        prop_assume!(!fields.is_empty());
        let field = fields.keys().nth(nth.index(fields.len())).cloned().expect("in range");
        fields.insert(field.clone(), value);
        match Method::from_fields(name, fields) {
            Ok(method) => {
                let again = Method::parse(name, Some(&written(&method)));
                prop_assert_eq!(again, Ok(method));
            }
            Err(error) if error.symbol == Symbol::NoSuchLeg => prop_assert!(field == "leg" || field == "with"),
            Err(error) => {
                prop_assert_eq!(error.symbol, Symbol::InvalidParams);
                let path = error.data.field.unwrap_or_default();
                // Without its one way to say where to, a transfer misses the other one.
                let transfer = name == "call.transfer" && path == "with";
                prop_assert!(path.starts_with(&field) || transfer, "{} {}", field, path);
            }
        }
    }
}
