//! The SDK between an application as any author writes it and a server that means it no good.

use super::food::steps;
use client::provider::{Connecting, Connector, Jitter, MakeCall, Reconnect, Stream};
use client::{
    Codec, Error, MediaTermination, Provider, ProviderConfig, Secret, TerminalConnection, Transport,
};
use protocol::frame::Decoder;
use protocol::rpc;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// What may be on its way between the two.
const PIPE: usize = 16 * 1024;
/// How long a request may wait for its answer, and how long the SDK tries to come back.
const REQUEST: Duration = Duration::from_secs(30);
const GIVE_UP: Duration = Duration::from_secs(300);
/// Calls that the application answers in a run.
const CALLS: usize = 8;

/// A script of the server. Whatever it says, each request ends within its time, and the application in the end.
///
/// Steps: `A` the result of the oldest request, `R` its error, `N` of the newest; `E` an event's params; `L` any line; `X`
/// the connection ends; `W` seconds pass.
pub(super) fn provider(data: &[u8]) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let (lines, coming) = mpsc::channel(4);
        let application = tokio::spawn(application(Transport::Through(Arc::new(Door(lines)))));
        let mut server = Server { coming, line: None, decoder: Decoder::new(), asked: VecDeque::new() };
        for (letter, rest) in steps(data).take(64) {
            server.step(letter, rest).await;
        }
        drop(server);
        let end = timeout(2 * GIVE_UP + 64 * REQUEST, application).await;
        end.expect("an application that waits for ever").expect("it does not panic");
    });
}

async fn pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

struct Door(mpsc::Sender<DuplexStream>);

impl Connector for Door {
    fn connect(&self, _: &str) -> Connecting {
        let lines = self.0.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            lines.send(theirs).await.map_err(|_| ErrorKind::ConnectionRefused)?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

struct Server {
    coming: mpsc::Receiver<DuplexStream>,
    line: Option<DuplexStream>,
    decoder: Decoder,
    /// The ids of requests without an answer so far.
    asked: VecDeque<String>,
}

impl Server {
    async fn step(&mut self, letter: u8, rest: &[u8]) {
        self.listen().await;
        match letter {
            b'A' => {
                let id = self.asked.pop_front();
                self.answer(id, "result", rest).await;
            }
            b'N' => {
                let id = self.asked.pop_back();
                self.answer(id, "result", rest).await;
            }
            b'R' => {
                let id = self.asked.pop_front();
                self.answer(id, "error", rest).await;
            }
            b'E' => self.say(&[br#"{"jsonrpc":"2.0","method":"event","params":"#, rest, b"}\n"]).await,
            b'X' => self.line = None,
            b'W' => {
                let seconds = u64::from(rest.first().copied().unwrap_or(1));
                pass(Duration::from_secs(seconds)).await;
            }
            _ => self.say(&[rest, b"\n"]).await,
        }
    }

    async fn answer(&mut self, id: Option<String>, what: &str, with: &[u8]) {
        let id = id.unwrap_or_else(|| "1".into());
        let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"{what}":"#);
        self.say(&[head.as_bytes(), with, b"}\n"]).await;
    }

    async fn say(&mut self, parts: &[&[u8]]) {
        let Some(line) = &mut self.line else { return };
        // A client that does not read is as good as gone.
        let written = timeout(Duration::from_secs(1), line.write_all(&parts.concat())).await;
        if !matches!(written, Ok(Ok(()))) {
            self.line = None;
        }
    }

    /// Takes what was said, once there is nothing else to do.
    async fn listen(&mut self) {
        // Time stands still while there is something to do.
        pass(Duration::from_millis(1)).await;
        while let Ok(line) = self.coming.try_recv() {
            (self.line, self.decoder) = (Some(line), Decoder::new());
            self.asked.clear();
        }
        let mut bytes = [0; PIPE];
        let Some(line) = &mut self.line else { return };
        let Ok(Ok(length @ 1..)) = timeout(Duration::ZERO, line.read(&mut bytes)).await else { return };
        self.decoder.push(&bytes[..length]).expect("the SDK keeps to the limit");
        while let Some(line) = self.decoder.next_line() {
            let request = rpc::parse_request(&line).expect("the SDK writes requests");
            self.asked.extend(request.id.map(|id| id.as_json().to_owned()));
        }
    }
}

/// Opens, looks around, makes a call, answers those that come, and leaves.
async fn application(transport: Transport) {
    let password = Secret::from("secret".to_owned());
    let config = ProviderConfig::new("cm1:2749", transport, "ivr", password, "fuzz");
    let reconnect = Reconnect { give_up_after: GIVE_UP, jitter: Jitter::Seed(1), ..Reconnect::default() };
    let config = ProviderConfig { request_timeout: REQUEST, reconnect: Some(reconnect), ..config };
    let Ok(provider) = Provider::connect(config).await else { return };
    let mut heard = provider.events();
    let observer = tokio::spawn(async move { while heard.next().await.is_some() {} });
    let terminal = provider.terminal("RP_MAIN");
    let mut calls = terminal.calls();
    let answering = tokio::spawn(async move {
        for _ in 0..CALLS {
            let Some(leg) = calls.next().await else { return };
            answer(&leg).await;
        }
    });
    let media = MediaTermination::Dynamic { codecs: vec![Codec::Pcmu], srtp: Vec::new() };
    in_time(terminal.open(Some(media))).await;
    in_time(provider.snapshot()).await;
    in_time(provider.devices(None, None, None)).await;
    in_time(provider.monitor_park(true)).await;
    in_time(terminal.address("5000").set_forward(Some("1001"))).await;
    if let Some(leg) = in_time(terminal.make_call("1001", MakeCall::default())).await {
        answer(&leg).await;
    }
    in_time(terminal.close()).await;
    in_time(provider.close()).await;
    drop((provider, terminal));
    let gone = timeout(2 * GIVE_UP + 8 * REQUEST, async {
        answering.await.expect("it does not panic");
        observer.await.expect("it does not panic");
    });
    gone.await.expect("nobody is told of the end");
}

async fn answer(leg: &TerminalConnection) {
    in_time(leg.answer()).await;
    let _ = (leg.status(), leg.call().connections(), leg.terminal().addresses());
    in_time(leg.hold()).await;
    in_time(leg.send_digits("1", None)).await;
    in_time(leg.drop_leg()).await;
}

/// What it comes to, and that it does within its time. One that is made of several has theirs.
async fn in_time<T>(request: impl Future<Output = Result<T, Error>>) -> Option<T> {
    const PARTS: u32 = 70;
    let begun = Instant::now();
    let done = timeout(PARTS * (REQUEST + Duration::from_secs(1)), request).await;
    let done = done.unwrap_or_else(|_| panic!("no answer after {:?}", begun.elapsed()));
    done.ok()
}
