//! The configuration as each room wants it.

use super::{Config, Device, Listener, MediaEncryption, Node, Trunk};
use device_model::CallControl;
use device_model::plan::{
    DevicePlan, Identity, NumberPlan, Parameters, ParkPlan, PatternPlan, Plan, SpacePlan, TrunkPlan,
};
use security::tls::{self, Serial};
use security::{DeviceFacts, Policy};
use sip::message::text::shown_name;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

impl Config {
    /// The revocation lists (PEM) of a trunks' authority, whichever of its trunks names them.
    #[must_use]
    pub fn lists_of(&self, ca: &str) -> Option<String> {
        let its = self.trunks.iter().filter(|trunk| trunk.ca.as_deref() == Some(ca));
        let lists: Vec<&str> = its.filter_map(|trunk| trunk.crl.as_deref()).collect();
        (!lists.is_empty()).then(|| lists.join("\n"))
    }

    /// The certificates that the trunks' own authorities have taken back, by authority.
    pub(crate) fn revoked_of_trunks(&self) -> BTreeMap<Arc<str>, BTreeSet<Serial>> {
        let mut all: BTreeMap<Arc<str>, BTreeSet<Serial>> = BTreeMap::new();
        for trunk in &self.trunks {
            if let (Some(ca), Some(lists)) = (&trunk.ca, &trunk.crl) {
                // That they can be read was seen when the file was.
                let serials = tls::revoked(lists).unwrap_or_default().into_keys();
                all.entry(Arc::clone(ca)).or_default().extend(serials);
            }
        }
        all
    }

    /// What the device model needs.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            numbers: self.numbers.iter().map(number).collect(),
            devices: self.devices.iter().map(device).collect(),
            trunks: self.trunks.iter().map(|trunk| self.trunk_plan(trunk)).collect(),
            patterns: self
                .route_patterns
                .iter()
                .map(|route| PatternPlan {
                    pattern: route.pattern.clone(),
                    trunk: route.trunk.clone(),
                    discard_pre_dot: route.discard_pre_dot,
                    partition: route.partition.clone(),
                })
                .collect(),
            park_numbers: self.park_numbers.iter().map(park_number).collect(),
            spaces: self.calling_search_spaces.iter().map(space).collect(),
            parameters: Parameters {
                new_call_accept: self.parameters.cti_new_call_accept_timer,
                media_exchange: self.parameters.media_exchange_timer,
                forward_no_answer: self.parameters.forward_no_answer_timer,
                max_devices_per_provider: self.parameters.max_devices_per_provider,
                max_devices_per_node: self.parameters.max_devices_per_node,
                max_legs: self.parameters.max_legs,
                max_calls_per_second_per_line: self.parameters.max_calls_per_second_per_line,
                max_calls_per_second_per_device: self.parameters.max_calls_per_second_per_device,
                ..Parameters::default()
            },
        }
    }

    /// A device model without calls, to ask what the plan allows.
    #[must_use]
    pub fn model(&self) -> CallControl {
        let node = self.nodes.first().map_or_else(|| "node".into(), |node| node.name.clone());
        CallControl::new(Identity { node, incarnation: 0 }, Arc::new(self.plan()))
    }

    fn trunk_plan(&self, trunk: &Trunk) -> TrunkPlan {
        let parameters = &self.parameters;
        TrunkPlan {
            name: trunk.name.clone(),
            offer: trunk.offer,
            calling_search_space: trunk.calling_search_space.clone(),
            block_offnet_to_offnet: trunk.block_offnet_to_offnet.unwrap_or(parameters.block_offnet_to_offnet),
            max_calls: trunk.max_calls.unwrap_or(parameters.max_calls_per_trunk),
            max_calls_per_second: trunk
                .max_calls_per_second
                .unwrap_or(parameters.max_calls_per_second_per_trunk),
        }
    }

    /// Who may what.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::new(
            self.cluster.mode,
            self.users.iter().map(|configured| configured.user.clone()),
            self.devices.iter().map(|device| {
                (device.name.clone(), DeviceFacts { allow_cti_control: device.allow_cti_control })
            }),
        )
        .restricting(
            self.numbers.iter().filter(|number| !number.allow_cti_control).map(|number| number.dn.clone()),
        )
    }

    /// The digest accounts of phones and trunks, by digest user. An account's id is the device's or trunk's name.
    #[must_use]
    pub fn accounts(&self) -> HashMap<Arc<str>, sip::port::Account> {
        let phones = self.devices.iter().filter_map(|device| {
            let numbers = device.lines.iter().map(|dn| dn.as_str().into()).collect();
            let expiry = device.registration_expiry_maximum;
            Some((device.digest.as_ref()?, Arc::from(device.name.as_str()), numbers, expiry))
        });
        let trunks = self.trunks.iter().filter_map(|trunk| {
            Some((trunk.digest.as_ref()?, Arc::from(trunk.name.as_str()), Arc::default(), None))
        });
        phones
            .chain(trunks)
            .map(|(digest, id, numbers, max_expires)| {
                let password = digest.password.clone().into_zeroizing();
                (digest.user.clone(), sip::port::Account { id, numbers, password, max_expires })
            })
            .collect()
    }

    /// The phones and trunks whose media are encrypted.
    #[must_use]
    pub fn encrypting(&self) -> HashMap<Arc<str>, sip::port::MediaEncryption> {
        let devices = self.devices.iter().map(|device| (device.name.as_str(), device.media_encryption));
        let trunks = self.trunks.iter().map(|trunk| (trunk.name.as_str(), trunk.media_encryption));
        let named = devices.chain(trunks).filter_map(|(name, encryption)| {
            let encryption = match encryption {
                MediaEncryption::None => return None,
                MediaEncryption::Optional => sip::port::MediaEncryption::Optional,
                MediaEncryption::Required => sip::port::MediaEncryption::Required,
            };
            Some((name.into(), encryption))
        });
        named.collect()
    }

    /// Whether there are several nodes that see each other.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.nodes.len() > 1 && self.nodes.iter().any(|node| node.cluster.is_some())
    }

    /// The node of a name; without a name the only one.
    ///
    /// # Errors
    /// A sentence, when there is none of that name, or several and no name.
    pub fn node(&self, name: Option<&str>) -> Result<&Node, String> {
        let known = || self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        match (name, self.nodes.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(format!("the configuration has several nodes, name one with --node: {}", known()))
            }
            (Some(name), nodes) => nodes
                .iter()
                .find(|node| node.name.as_str() == name)
                .ok_or_else(|| format!("the configuration has no node `{name}`, only {}", known())),
        }
    }
}

impl Node {
    /// What it runs, in the words of the configuration.
    #[must_use]
    pub fn services(&self) -> Vec<&'static str> {
        let all = [("callmanager", self.callmanager), ("ctimanager", self.ctimanager)];
        all.into_iter().filter(|(_, runs)| *runs).map(|(service, _)| service).collect()
    }

    /// Whether this listens, and so needs an address.
    #[must_use]
    pub fn listens(&self, listener: Listener) -> bool {
        match listener {
            Listener::SipUdp => self.callmanager && self.sip.udp.is_some(),
            Listener::SipTcp => self.callmanager && self.sip.tcp.is_some(),
            Listener::SipTls => self.callmanager && self.sip.tls.is_some(),
            Listener::Cti => self.ctimanager && (self.cti.tls.is_some() || self.cti.plain.is_some()),
            Listener::Web => self.web.is_some(),
        }
    }
}

impl Trunk {
    /// The peer's address; `None` when the host is a name that has to be looked up.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        address(&self.host).map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// An address that need not be looked up.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") { Some([127, 0, 0, 1].into()) } else { host.parse().ok() }
}

fn number(number: &super::DirectoryNumber) -> NumberPlan {
    NumberPlan {
        dn: number.dn.clone(),
        display: number.display.clone().unwrap_or_else(|| {
            // A description may be longer than a name.
            shown_name(&number.description).unwrap_or_default().into()
        }),
        max_calls: number.max_calls,
        busy_trigger: number.busy_trigger,
        ring_duration: number.ring_duration,
        forward: number.forward.clone(),
        auto_accept: number.auto_accept,
        allow_cti_control: number.allow_cti_control,
        partition: number.partition.clone(),
        calling_search_space: number.calling_search_space.clone(),
        max_calls_per_second: number.max_calls_per_second,
    }
}

fn space(space: &super::CallingSearchSpace) -> SpacePlan {
    SpacePlan { name: space.name.clone(), partitions: space.partitions.clone() }
}

fn park_number(park: &super::ParkNumber) -> ParkPlan {
    ParkPlan { dn: park.dn.clone(), partition: park.partition.clone() }
}

fn device(device: &Device) -> DevicePlan {
    DevicePlan {
        name: device.name.clone(),
        kind: device.kind,
        description: device.description.clone(),
        pool: device.pool.clone(),
        lines: device.lines.clone(),
        allow_cti_control: device.allow_cti_control,
        offer: device.offer,
        calling_search_space: device.calling_search_space.clone(),
        max_calls: device.max_calls,
        max_calls_per_second: device.max_calls_per_second,
    }
}
