use super::*;
use crate::io::control::{Answer, Request};
use crate::io::unix::Address;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tokio::net::{TcpListener, UnixStream};

/// A path of its own for each test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ctimanager-io-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("deep").join("ctimanager.sock")
    }

    fn address(&self) -> Address {
        Address::of(&self.socket()).expect("its folder is there")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn with_control(folder: &Folder) -> Wishes {
    let mut wishes = Wishes::default();
    wishes.listen.control = Some(folder.socket());
    wishes
}

async fn ask(stream: &mut UnixStream, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut line = Vec::new();
    soon(async {
        while !line.ends_with(b"\n") {
            line.push(stream.read_u8().await.expect("an answer"));
        }
    })
    .await;
    serde_json::from_slice(&line).expect("JSON")
}

#[tokio::test]
async fn administrators_ask_line_by_line() {
    let folder = Folder::new("ask");
    let _house = house(with_control(&folder)).await;
    let mode = std::fs::metadata(folder.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(folder.address().path()).await.expect("a connection");
    let request =
        serde_json::to_string(&Request::Explain { device: "RP".into(), user: "u".into() }).expect("JSON");
    assert_eq!(request, r#"{"command":"explain","device":"RP","user":"u"}"#);
    let explained = ask(&mut stream, &format!("{request}\n")).await;
    assert_eq!(explained, Answer::Ok(json!({"device": "RP", "user": "u"})));
    assert_eq!(ask(&mut stream, "{\"command\": \"status\"}\n").await, Answer::Ok(json!("Status")));
    assert_eq!(ask(&mut stream, "{\"command\": \"drain\"}\n").await, Answer::Error("not here".into()));
    assert!(matches!(ask(&mut stream, "{\"command\": \"dance\"}\n").await, Answer::Error(_)));
    assert!(matches!(ask(&mut stream, "garbage\n").await, Answer::Error(_)));
    let reload = ask(&mut stream, "{\"command\": \"reload\"}\n").await;
    assert!(matches!(reload, Answer::Error(what) if what.contains("no configuration file")));
    // A line over the limit is answered, and the connection ends.
    let endless = "x".repeat(64 * 1024);
    assert!(matches!(ask(&mut stream, &endless).await, Answer::Error(_)));
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_dead_nodes_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = Folder::new("stale");
    std::fs::create_dir_all(folder.socket().parent().expect("a folder")).expect("made");
    drop(
        std::os::unix::net::UnixListener::bind(folder.address().path()).expect("a socket that nobody serves"),
    );
    let house = house(with_control(&folder)).await;
    let wanted = Listen { control: Some(folder.socket()), ..Listen::default() };
    let second = bind(&wanted).await.expect_err("another node answers there");
    assert!(second.to_string().contains("another node answers there"), "{second}");
    assert_eq!(house.running.stop().await, StopCause::Stopped);
    assert!(!folder.socket().exists(), "the file goes with the node");
    std::fs::write(folder.socket(), "precious").expect("written");
    let third = bind(&wanted).await.expect_err("not a socket");
    assert!(third.to_string().contains("no socket"), "{third}");
    assert_eq!(std::fs::read_to_string(folder.socket()).expect("still there"), "precious");
}

#[tokio::test]
async fn all_ports_that_cannot_be_had_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("bound");
    let listen = Listen {
        sip_tcp: vec![address],
        cti_tls: vec![address],
        web: vec!["192.0.2.1:0".parse().expect("an address")],
        ..Listen::default()
    };
    let error = bind(&listen).await.expect_err("taken");
    let text = error.to_string();
    assert_eq!(error.failures.len(), 3, "{text}");
    assert!(text.starts_with(&format!("cannot listen for SIP over TCP on {address}: ")), "{text}");
    assert!(text.contains(&format!("\ncannot listen for CTI over TLS on {address}: ")), "{text}");
}

#[tokio::test]
async fn a_stop_lets_everybody_hear_it() {
    let house = house(Wishes::default()).await;
    let mut plain = house.plain().await;
    let mut tls = house.tls(house.running.addresses.cti_tls.first().copied(), None).await;
    echoes(&mut plain, "x\n").await;
    echoes(&mut tls, "x\n").await;
    let (cause, plain, tls) = tokio::join!(soon(house.running.stop()), rest(&mut plain), rest(&mut tls));
    assert_eq!(cause, StopCause::Stopped);
    assert_eq!((plain.as_str(), tls.as_str()), ("stopping\n", "stopping\n"));
}

#[tokio::test]
async fn a_core_may_stop_when_a_time_has_come() {
    let house = house(Wishes { stop: StopWish::Later, ..Wishes::default() }).await;
    assert_eq!(soon(house.running.stop()).await, StopCause::Stopped);
}

#[tokio::test]
async fn a_core_that_does_not_stop_is_ended() {
    let house = house(Wishes { stop: StopWish::Never, ..Wishes::default() }).await;
    assert_eq!(soon(house.running.stop()).await, StopCause::Overdue);
}
