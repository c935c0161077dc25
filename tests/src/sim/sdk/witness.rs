//! A session that is never cut: it reads what the node tells, without the SDK, and keeps the record that the SDK's
//! observers are compared with.

use crate::sim::scene::PASSWORD;
use client::Event;
use protocol::event::Received;
use protocol::rpc::Incoming;
use serde_json::json;
use std::collections::BTreeMap;

/// Users that are watched, with their devices. Ports with static media have room for one application alone.
const WATCHED: &[(&str, &[(&str, &str)])] = &[
    ("ivr", &[("RP_MAIN", "dynamic")]),
    ("desk", &[("RP_QUEUE", "none"), ("PHONE_3", ""), ("PHONE_4", "")]),
];

#[derive(Default)]
pub(super) struct Witness {
    /// By device: each event about a leg there.
    record: BTreeMap<String, Vec<Event>>,
    sessions: BTreeMap<u64, usize>,
}

impl Witness {
    /// The connections of a new life of the node, and what is said first on each.
    pub(super) fn begin(&mut self, first: u64) -> Vec<(u64, Vec<u8>)> {
        self.sessions = (0..WATCHED.len()).map(|index| (first + index as u64, index)).collect();
        let open = |user: &str| {
            json!({"jsonrpc": "2.0", "id": 0, "method": "provider.open",
                   "params": {"user": user, "password": PASSWORD, "application": "witness", "heartbeat_ms": 3_600_000}})
        };
        self.sessions
            .iter()
            .map(|(id, index)| (*id, open(WATCHED[*index].0).to_string().into_bytes()))
            .collect()
    }

    /// Reads a line; says what to answer.
    pub(super) fn hear(&mut self, connection: u64, line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        match Incoming::parse(line).map_err(|e| e.to_string())? {
            Incoming::Reply { outcome: Err(error), .. } => Err(format!("the witness was refused: {error}")),
            Incoming::Reply { id, .. } if id.as_ref().and_then(|id| id.as_number()) == Some(0) => {
                let index = self.sessions.get(&connection).copied().unwrap_or_default();
                Ok(WATCHED[index].1.iter().map(|(device, media)| open_device(device, media)).collect())
            }
            Incoming::Reply { .. } | Incoming::Unknown(_) => Ok(Vec::new()),
            Incoming::Event(params) => {
                if let Received::Event { event, .. } = Received::parse(&params).map_err(|e| e.to_string())?
                    && let Some(device) = event.leg().map(|leg| leg.device.to_string())
                {
                    self.record.entry(device).or_default().push(*event);
                }
                Ok(Vec::new())
            }
        }
    }

    /// Whether it watches this device.
    pub(super) fn watches(&self, device: &str) -> bool {
        WATCHED.iter().any(|(_, devices)| devices.iter().any(|(name, _)| *name == device))
    }

    /// Finds what an observer was told without a break, at or after this place of the record; says where it ends.
    pub(super) fn find(&self, device: &str, told: &[Event], from: usize) -> Option<usize> {
        let record = self.record.get(device).map(Vec::as_slice).unwrap_or_default();
        let places = from..=record.len().checked_sub(told.len())?;
        places.into_iter().find(|at| record[*at..*at + told.len()] == *told).map(|at| at + told.len())
    }
}

fn open_device(device: &str, media: &str) -> Vec<u8> {
    let params = match media {
        "dynamic" => json!({"device": device, "media": {"mode": "dynamic", "codecs": ["PCMU", "PCMA"]}}),
        "none" => json!({"device": device, "media": {"mode": "none"}}),
        _ => json!({"device": device}),
    };
    json!({"jsonrpc": "2.0", "id": 1, "method": "device.open", "params": params}).to_string().into_bytes()
}
