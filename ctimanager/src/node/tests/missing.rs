//! Some of what CallManager tells never comes. The next message shows that, all that is open is asked for, and applications
//! hear a story that holds together: an end is never left out, and what they know at last is what is.

use super::world::{CONFIG, World, header};
use crate::node::CtiConnection;
use crate::node::port::Input;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 0..48;

/// What an application knows by its events.
#[derive(Default)]
struct Story {
    /// Legs with their states and streams.
    legs: BTreeMap<String, (String, BTreeSet<String>)>,
    gone: BTreeSet<String>,
    /// How often an end was told of which only that was known.
    unexplained: usize,
    devices: BTreeMap<String, String>,
    answers: BTreeMap<u64, Value>,
}

impl Story {
    fn hear(&mut self, frames: impl IntoIterator<Item = Value>) {
        for frame in frames {
            let event = &frame["params"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, leg) = (text(&event["type"]), text(&event["leg"]["leg"]));
            assert!(!self.gone.contains(&leg), "{leg} speaks after its end: {event}");
            match kind.as_str() {
                "" => drop(self.answers.insert(frame["id"].as_u64().expect("an answer"), frame.clone())),
                "media.started" => {
                    assert!(self.leg(&leg).1.insert(text(&event["direction"])), "started twice: {event}");
                }
                "media.stopped" => {
                    assert!(self.leg(&leg).1.remove(&text(&event["direction"])), "never started: {event}");
                }
                "call.disconnected" => {
                    let (_, streams) = self.legs.remove(&leg).unwrap_or_default();
                    assert!(streams.is_empty(), "{leg} ends with {streams:?}");
                    self.unexplained += usize::from(event["leg"]["cause"]["name"] == "temporary_failure");
                    self.gone.insert(leg);
                }
                "media.open_channel" => {}
                _ if kind.starts_with("call.") => self.leg(&leg).0 = text(&event["leg"]["state"]),
                _ if kind.starts_with("device.") => {
                    self.devices.insert(text(&event["device"]["name"]), text(&event["device"]["state"]));
                }
                _ => {}
            }
        }
    }

    fn leg(&mut self, leg: &str) -> &mut (String, BTreeSet<String>) {
        self.legs.entry(leg.to_owned()).or_default()
    }
}

struct Scene {
    world: World,
    app: CtiConnection,
    story: Story,
}

impl Scene {
    fn listen(&mut self) {
        let frames = self.world.frames.remove(&self.app).unwrap_or_default();
        self.story.hear(frames);
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.world.send(self.app, method, params);
        self.listen();
        self.story.answers.remove(&id).unwrap_or_else(|| panic!("{method} got no answer"))
    }

    fn open(&mut self, device: &str, port: u16) {
        let media = json!({"mode": "static", "ip": "127.0.0.1", "port": port, "codecs": ["PCMA", "PCMU"]});
        let answer = self.ask("device.open", json!({"device": device, "media": media}));
        assert!(answer["result"].is_object(), "{answer}");
    }

    /// The trunk calls; what the application hears of that is answered. The To of the 200, if there was one.
    fn call(&mut self, tag: &str, number: &str) -> Option<String> {
        self.world.invite(tag, number);
        self.listen();
        let offered = self.story.legs.iter().find(|(_, (state, _))| state == "offering");
        let leg = offered.map(|(leg, _)| leg.clone())?;
        self.ask("call.answer", json!({"leg": leg}));
        let ok = self.world.sip.drain(..).find(|message| message.starts_with("SIP/2.0 200"))?;
        let to = header(&ok, "To").to_owned();
        self.world.in_dialog(tag, "ACK", 1, &to);
        self.listen();
        Some(to)
    }

    fn hang_up(&mut self, tag: &str, to: &str) {
        self.world.in_dialog(tag, "BYE", 2, to);
        self.listen();
    }

    /// What a snapshot shows is what the application knows.
    fn knows_what_is(&mut self) {
        let snapshot = self.ask("provider.snapshot", json!({}));
        let devices = snapshot["result"]["devices"].as_array().expect("devices").clone();
        let mut is = BTreeMap::new();
        for entry in &devices {
            let name = entry["device"]["name"].as_str().expect("a name");
            if let Some(state) = self.story.devices.get(name) {
                assert_eq!(entry["device"]["state"], **state, "{name}");
            }
            for leg in entry["legs"].as_array().expect("legs") {
                is.insert(
                    leg["leg"].as_str().expect("an id").to_owned(),
                    leg["state"].as_str().expect("a state").to_owned(),
                );
            }
        }
        let known: BTreeMap<_, _> =
            self.story.legs.iter().map(|(leg, (state, _))| (leg.clone(), state.clone())).collect();
        assert_eq!(known, is);
    }
}

#[test]
fn what_was_lost_on_the_way_is_asked_for_and_no_end_is_left_out() {
    let config = CONFIG.replacen("id: ivr,", "id: ivr, session_resume_grace: 10s,", 1);
    let (mut lost, mut unexplained, mut ended) = (0, 0, 0);
    for seed in SEEDS {
        let mut world = World::with(&config);
        world.input(Input::Restored(Box::default(), None));
        let app = world.application(1, "ivr");
        let mut scene = Scene { world, app, story: Story::default() };
        scene.world.node.lose_told(Some(seed));
        scene.open("RP_MAIN", 30_000);
        scene.open("PORT_001", 30_002);
        let mut up = Vec::new();
        for (index, number) in ["5000", "5101", "5000", "5000", "5101", "5000", "5000"].iter().enumerate() {
            let tag = format!("t{index}");
            up.extend(scene.call(&tag, number).map(|to| (tag, to)));
            if index % 3 == 2 && !up.is_empty() {
                let (tag, to) = up.remove(0);
                scene.hang_up(&tag, &to);
            }
            scene.world.pass(Duration::from_secs(1));
            scene.listen();
        }
        lost += scene.world.reported().iter().filter(|name| **name == "MessagesLost").count();
        // From now on all comes, and the next message shows what did not.
        scene.world.node.lose_told(None);
        scene.open("PORT_002", 30_004);
        scene.knows_what_is();
        for (tag, to) in std::mem::take(&mut up) {
            scene.hang_up(&tag, &to);
        }
        for _ in 0..40 {
            scene.world.pass(Duration::from_secs(10));
            scene.listen();
            scene.knows_what_is();
        }
        assert!(scene.story.legs.is_empty(), "{:?}", scene.story.legs);
        (unexplained, ended) = (unexplained + scene.story.unexplained, ended + scene.story.gone.len());
    }
    assert!(lost > 100 && unexplained > 5 && ended > 100, "{lost} gaps, {unexplained} of {ended} ends");
}
