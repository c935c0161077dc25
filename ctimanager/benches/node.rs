//! Steps of the pure rooms: how long each takes and how often it allocates. `cargo bench -p ctimanager`.
//!
//! Nothing here has a socket or a clock of its own: time is virtual, and what is measured is only the step itself.

#![allow(clippy::disallowed_methods)] // a measurement has a clock
#![allow(missing_docs)] // criterion's macros make public items

mod rig;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use device_model::media::{
    AudioLine, Codec, Crypto, Description, Direction, Format, MediaTermination, Profile,
};
use device_model::plan::{DeviceKind, DevicePlan, Identity, NumberPlan, Plan};
use device_model::port::Origin;
use device_model::{
    CallControl, Cause, EndId, Input, LegId, Output, OwnerEpoch, Party, Request, RequestToken, SessionId,
    Signal,
};
use protocol::Encoded;
use protocol::session::{ConnectionId, Session, SessionConfig};
use rig::{Call, Rig, invite};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and bytes of one step, on average over many.
fn tell_allocations(what: &str, times: u64, mut step: impl FnMut()) {
    // Tables grow now and then; the steps before let them have their size.
    (0..times).for_each(|_| step());
    let region = Region::new(ALLOCATOR);
    (0..times).for_each(|_| step());
    let change = region.change();
    let each = |total: usize| total as f64 / times as f64;
    eprintln!(
        "{what}: {:.1} allocations, {:.1} reallocations, {:.0} bytes",
        each(change.allocations),
        each(change.reallocations),
        each(change.bytes_allocated)
    );
}

/// Chooses a part of a call.
type Part = fn(&Call) -> Duration;

fn whole_call(criterion: &mut Criterion) {
    let mut rig = Rig::new();
    criterion.bench_function("node: one call, INVITE to the 200 of the BYE", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| rig.call().total()).sum());
    });
    let parts: [(&str, Part); 4] = [
        ("node: INVITE to the event", |call| call.invite),
        ("node: call.answer to the 200", |call| call.answer),
        ("node: ACK", |call| call.ack),
        ("node: BYE", |call| call.bye),
    ];
    for (name, part) in parts {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| part(&rig.call())).sum());
        });
    }
    tell_allocations("node: one call, with the texts of caller and application", 2_000, || {
        black_box(rig.call());
    });
    tell_allocations("the texts of caller and application alone", 2_000, || {
        black_box(rig.texts());
    });
}

fn sip_messages(criterion: &mut Criterion) {
    let text = invite("bench", "5000");
    criterion.bench_function("sip: read an INVITE", |bencher| {
        bencher.iter(|| sip::message::read(black_box(text.as_bytes()), sip::Transport::Udp).is_ok());
    });
    tell_allocations("sip: read an INVITE", 1_000, || {
        black_box(sip::message::read(text.as_bytes(), sip::Transport::Udp).is_ok());
    });
    let mut rig = Rig::new();
    rig.input_sip(&text);
    criterion.bench_function("sip: a repeated INVITE finds its transaction", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| rig.input_sip(&text)).sum());
    });
}

/// A model with a route point, a session that has it open, and a trunk.
struct Model {
    control: CallControl,
    now: Instant,
    out: Vec<Output>,
}

const SESSION: SessionId = SessionId(1);

impl Model {
    fn new() -> Self {
        let plan = Plan {
            numbers: vec![NumberPlan::plain(&"5000".into())],
            devices: vec![DevicePlan::plain("RP".into(), DeviceKind::RoutePoint, vec!["5000".into()])],
            trunks: vec!["PSTN".into()],
            ..Plan::default()
        };
        let identity = Identity { node: "cm1".into(), incarnation: 1 };
        let control = CallControl::new(identity, Arc::new(plan));
        let mut model = Self { control, now: Instant::now(), out: Vec::new() };
        let address = "127.0.0.1:30000".parse().expect("an address");
        let media =
            MediaTermination::Static { address, codecs: vec![Codec::from_rtp_name("PCMU")], srtp: vec![] };
        model.request(Request::OpenDevice { device: "RP".into(), media: Some(media) });
        model
    }

    fn input(&mut self, input: Input) -> usize {
        self.out.clear();
        self.control.handle(self.now, input, &mut self.out);
        self.out.len()
    }

    fn request(&mut self, request: Request) -> usize {
        self.input(Input::Request {
            session: SESSION,
            token: RequestToken(1),
            owner: OwnerEpoch::FIRST,
            request,
        })
    }

    fn offer(&mut self, end: EndId) -> usize {
        let origin = Origin::Trunk("PSTN".into());
        let calling = Party { number: "0301234".into(), ..Party::default() };
        let offer = Some(description());
        self.input(Input::IncomingCall {
            end,
            origin,
            dialled: "5000".into(),
            calling,
            diverted: None,
            offer,
            hops: 0,
        })
    }

    /// The leg at the route point is the one that the last event was about.
    fn told_leg(&self) -> LegId {
        let legs = self.out.iter().rev().filter_map(|output| match output {
            Output::Event(_, device_model::port::Event::Leg(view)) => Some(view.leg),
            _ => None,
        });
        legs.into_iter().next().expect("an offered call has an event")
    }

    fn call(&mut self) -> usize {
        let caller = self.control.new_end_id();
        let mut said = self.offer(caller);
        let told = self.told_leg();
        said += self.request(Request::Answer { leg: told });
        said + self.input(Input::Signal(caller, Signal::Released { cause: Cause::NORMAL_CLEARING }))
    }
}

fn description() -> Description {
    let line = AudioLine {
        place: 0,
        profile: Profile::Plain,
        address: "127.0.0.1:40000".parse().expect("an address"),
        formats: std::iter::once(Format { payload_type: 0, codec: Codec::from_rtp_name("PCMU") }).collect(),
        dtmf_payload_type: Some(101),
        direction: Direction::SendReceive,
        packet_ms: 20,
        crypto: Crypto::none(),
    };
    Description {
        audio: [line].into_iter().collect(),
        other_media: false,
        other_clear: false,
        over_tls: false,
        text: b"v=0".as_slice().into(),
    }
}

fn model(criterion: &mut Criterion) {
    let mut model = Model::new();
    criterion.bench_function("device-model: offer, answer, release", |bencher| {
        bencher.iter(|| black_box(model.call()));
    });
    tell_allocations("device-model: offer, answer, release", 2_000, || {
        black_box(model.call());
    });
}

/// The event of a call, as the model says it.
fn event() -> device_model::port::Event {
    let mut model = Model::new();
    let caller = model.control.new_end_id();
    model.offer(caller);
    let event = model.out.drain(..).find_map(|output| match output {
        Output::Event(_, event @ device_model::port::Event::Leg(_)) => Some(event),
        _ => None,
    });
    event.expect("an offered call has an event")
}

fn session(id: u64, now: Instant) -> Session {
    logging(id, LOG_EVENTS, now)
}

/// A session that keeps so many events.
fn logging(id: u64, log_events: usize, now: Instant) -> Session {
    let config = SessionConfig {
        user: "ivr".into(),
        application: "bench".into(),
        instance: None,
        heartbeat: Duration::from_secs(30),
        grace: Duration::ZERO,
        subscription: protocol::event::Subscription::all(),
        log_events,
        log_bytes: 16 << 20,
        queue_events: 4_096,
        idem_keys: 1_024,
        pending_requests: 256,
    };
    Session::new(SessionId(id), config, ConnectionId(id), protocol::Frame::whole(b"{}".to_vec()), now)
}

/// `session_log_events`, unless told otherwise.
const LOG_EVENTS: usize = 10_000;

fn fan_out(criterion: &mut Criterion) {
    let event = event();
    let (node, wall) = ("cm1".into(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let encode = || -> Encoded { protocol::Event::from(&event).encode(&node, wall) };
    criterion.bench_function("protocol: encode an event", |bencher| bencher.iter(|| black_box(encode())));
    tell_allocations("protocol: encode an event", 1_000, || {
        black_box(encode());
    });
    let now = Instant::now();
    let encoded = encode();
    let mut group = criterion.benchmark_group("protocol: number, log and queue it for sessions");
    for count in [1_u64, 100, 1_000] {
        let mut sessions: Vec<Session> = (0..count).map(|id| session(id, now)).collect();
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                for session in &mut sessions {
                    session.event(&encoded);
                    while session.poll_frame(now).is_some() {}
                }
            });
        });
    }
    group.finish();
    let mut one = session(1, now);
    tell_allocations("protocol: number, log and queue it for a session", 1_000, || {
        one.event(&encoded);
        while one.poll_frame(now).is_some() {}
    });
}

/// What the log adds to an event of a session: with a full log, where each event takes the place of the oldest, and
/// without one.
fn log(criterion: &mut Criterion) {
    let encoded = protocol::Event::from(&event())
        .encode(&"cm1".into(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let now = Instant::now();
    let mut group = criterion.benchmark_group("protocol: an event of a session");
    for (name, log_events) in [("without a log", 0), ("with a full log", LOG_EVENTS)] {
        let mut session = logging(1, log_events, now);
        let mut tell = || {
            session.event(black_box(&encoded));
            while session.poll_frame(now).is_some() {}
        };
        (0..LOG_EVENTS).for_each(|_| tell());
        group.bench_function(name, |bencher| bencher.iter(&mut tell));
    }
    group.finish();
}

/// A resume: all of a full log, numbered, queued and written into a connection's buffer.
fn replay(criterion: &mut Criterion) {
    let encoded = protocol::Event::from(&event())
        .encode(&"cm1".into(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let now = Instant::now();
    let mut session = session(1, now);
    for _ in 0..LOG_EVENTS {
        session.event(&encoded);
        while session.poll_frame(now).is_some() {}
    }
    let mut connection = 1;
    let mut written = Vec::new();
    let mut group = criterion.benchmark_group("protocol: a resume");
    group.throughput(Throughput::Elements(LOG_EVENTS as u64));
    group.bench_function(BenchmarkId::from_parameter(LOG_EVENTS), |bencher| {
        bencher.iter(|| {
            connection += 1;
            session.attach(now, ConnectionId(connection), 0, protocol::Frame::whole(b"{}".to_vec()));
            while let Some(frame) = session.poll_frame(now) {
                // As the shell does: what is full goes to the socket.
                if written.len() > 64 * 1024 {
                    written.clear();
                }
                frame.encode_line(&mut written);
            }
            black_box(&written);
        });
    });
    group.finish();
}

criterion_group! {
    name = steps;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = whole_call, sip_messages, model, fan_out, log, replay
}
criterion_main!(steps);
