//! Steps through the machine: how many a second, and how many allocations each makes.
//!
//! `cargo bench -p device-model`; one call = INVITE, accept, answer, end: four steps with about fifteen outputs.

#![allow(missing_docs)] // criterion's macro makes a public function without any

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use device_model::media::{
    AudioLine, Codec, Crypto, Description, Direction, Format, MediaTermination, Profile,
};
use device_model::plan::{DeviceKind, DevicePlan, Identity, NumberPlan, Plan};
use device_model::port::Origin;
use device_model::{
    CallControl, Cause, EndId, Input, LegId, LegState, Output, OwnerEpoch, Party, Request, RequestToken,
    SessionId, Signal,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SESSION: SessionId = SessionId(1);
/// Of one call, below.
const STEPS: u64 = 4;

fn plan(phones: usize) -> Plan {
    let number = |dn: String| NumberPlan { display: "Somebody".into(), ..NumberPlan::plain(&dn.into()) };
    let device = |name: String, kind, dn: String| DevicePlan::plain(name.into(), kind, vec![dn.into()]);
    let mut plan = Plan { trunks: vec!["PSTN".into()], ..Plan::default() };
    plan.numbers.push(NumberPlan { max_calls: Some(10_000), ..number("5000".into()) });
    plan.devices.push(device("RP".into(), DeviceKind::RoutePoint, "5000".into()));
    for i in 0..phones {
        plan.numbers.push(number(format!("2{i:05}")));
        plan.devices.push(device(format!("SEP{i:05}"), DeviceKind::Phone, format!("2{i:05}")));
    }
    plan
}

fn offer() -> Description {
    let line = AudioLine {
        place: 0,
        profile: Profile::Plain,
        address: "192.0.2.1:4000".parse().expect("an address"),
        formats: [
            Format { payload_type: 0, codec: Codec::Pcmu },
            Format { payload_type: 8, codec: Codec::Pcma },
        ]
        .into_iter()
        .collect(),
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
        text: Arc::from(vec![b'x'; 400]),
    }
}

struct Bench {
    control: CallControl,
    now: Instant,
    out: Vec<Output>,
    offer: Description,
}

impl Bench {
    fn new(phones: usize, held_calls: usize) -> Self {
        let identity = Identity { node: "cm1".into(), incarnation: 1 };
        #[allow(clippy::disallowed_methods)] // some instant to begin with; nothing waits for it
        let now = Instant::now();
        let control = CallControl::new(identity, Arc::new(plan(phones)));
        let mut bench = Self { control, now, out: Vec::with_capacity(64), offer: offer() };
        let media = MediaTermination::Static {
            address: "192.0.2.9:7000".parse().expect("an address"),
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            srtp: vec![],
        };
        bench.request(Request::OpenDevice { device: "RP".into(), media: Some(media) });
        for _ in 0..held_calls {
            bench.begin();
        }
        let caller = bench.begin();
        let leg = bench.control.leg_of_end(caller).and_then(|leg| bench.control.leg(leg));
        let state = leg.map(|leg| leg.state);
        assert_eq!(state, Some(LegState::Connected), "the bench measures calls that are answered");
        bench.end(caller);
        assert_eq!(bench.control.counts().legs, 2 * held_calls);
        bench
    }

    fn input(&mut self, input: Input) {
        self.out.clear();
        self.control.handle(self.now, input, &mut self.out);
        black_box(&self.out);
    }

    fn request(&mut self, request: Request) {
        self.input(Input::Request {
            session: SESSION,
            token: RequestToken(1),
            owner: OwnerEpoch::FIRST,
            request,
        });
    }

    /// An INVITE for the route point, accepted and answered.
    fn begin(&mut self) -> EndId {
        let end = self.control.new_end_id();
        let calling = Party { number: "0301234567".into(), ..Party::default() };
        let (dialled, offer) = ("5000".into(), Some(self.offer.clone()));
        self.input(Input::IncomingCall {
            end,
            origin: Origin::Trunk("PSTN".into()),
            dialled,
            calling,
            diverted: None,
            offer,
            hops: 0,
        });
        // The counter's next two ids are the call's and that of the route point's leg.
        let offered = LegId(end.0 + 2);
        self.request(Request::Accept { leg: offered });
        self.request(Request::Answer { leg: offered });
        end
    }

    fn end(&mut self, caller: EndId) {
        self.input(Input::Signal(caller, Signal::Released { cause: Cause::NORMAL_CLEARING }));
    }

    fn call(&mut self) {
        let caller = self.begin();
        self.end(caller);
    }
}

fn steps(criterion: &mut Criterion) {
    for (name, phones, held) in [("empty node", 0, 0), ("10,000 phones, 5,000 calls", 10_000, 5_000)] {
        let mut bench = Bench::new(phones, held);
        bench.call();
        let region = Region::new(ALLOCATOR);
        for _ in 0..1000 {
            bench.call();
        }
        let allocations = region.change().allocations as u64;
        println_allocations(name, allocations as f64 / (1000 * STEPS) as f64);
        let mut group = criterion.benchmark_group("call to a route point");
        group.throughput(Throughput::Elements(STEPS));
        group.bench_function(name, |b| b.iter_batched(|| (), |()| bench.call(), BatchSize::SmallInput));
        group.finish();
    }
}

#[allow(clippy::print_stdout)] // a bench's result is its output
fn println_allocations(name: &str, each: f64) {
    println!("{name}: {each:.1} allocations a step");
}

criterion_group!(benches, steps);
criterion_main!(benches);
