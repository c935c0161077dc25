//! The tables of devices and numbers of the plan in force. A new plan exchanges them; nothing else adds or removes an entry.
//!
//! Each look-up has two forms. `get` is for a name that comes from outside, or that a plan may have taken away since; `known`
//! for one that an entry of the same plan has, which can't be absent ([`crate::table`]).

use crate::devices::{Device, Number};
use crate::ids::{DeviceName, Dn};
use crate::table::{Contradiction, Contradictions};
use std::collections::{BTreeMap, HashMap, btree_map};
use std::mem::replace;
use std::ops::Bound;

/// Devices by name, in order.
#[derive(Debug)]
pub(crate) struct Devices {
    devices: BTreeMap<DeviceName, Device>,
    contradictions: Contradictions,
}

impl Devices {
    pub(crate) fn new(devices: BTreeMap<DeviceName, Device>) -> Self {
        Self { devices, contradictions: Contradictions::default() }
    }

    /// Takes the devices of another plan; returns those before.
    pub(crate) fn exchange(&mut self, devices: BTreeMap<DeviceName, Device>) -> BTreeMap<DeviceName, Device> {
        replace(&mut self.devices, devices)
    }

    #[inline]
    pub(crate) fn get(&self, name: &DeviceName) -> Option<&Device> {
        self.devices.get(name)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, name: &DeviceName) -> Option<&mut Device> {
        self.devices.get_mut(name)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn known(&self, name: &DeviceName) -> Option<&Device> {
        self.contradictions.known(self.devices.get(name), "a device is not there")
    }

    #[inline]
    #[track_caller]
    pub(crate) fn known_mut(&mut self, name: &DeviceName) -> Option<&mut Device> {
        self.contradictions.known(self.devices.get_mut(name), "a device is not there")
    }

    pub(crate) fn contains(&self, name: &DeviceName) -> bool {
        self.devices.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &DeviceName> {
        self.devices.keys()
    }

    /// The first device from there on, by name.
    pub(crate) fn first_name(&self, from: &Bound<DeviceName>) -> Option<&DeviceName> {
        let range = (from.as_ref(), Bound::Unbounded);
        self.devices.range::<DeviceName, _>(range).next().map(|(name, _)| name)
    }

    pub(crate) fn iter(&self) -> btree_map::Iter<'_, DeviceName, Device> {
        self.devices.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> btree_map::IterMut<'_, DeviceName, Device> {
        self.devices.iter_mut()
    }

    pub(crate) fn take_contradiction(&self) -> Option<Contradiction> {
        self.contradictions.take()
    }
}

/// Directory numbers, those that only a device names among them.
#[derive(Debug)]
pub(crate) struct Numbers {
    numbers: HashMap<Dn, Number>,
    contradictions: Contradictions,
}

impl Numbers {
    pub(crate) fn new(numbers: HashMap<Dn, Number>) -> Self {
        Self { numbers, contradictions: Contradictions::default() }
    }

    /// Takes the numbers of another plan; returns those before.
    pub(crate) fn exchange(&mut self, numbers: HashMap<Dn, Number>) -> HashMap<Dn, Number> {
        replace(&mut self.numbers, numbers)
    }

    #[inline]
    pub(crate) fn get(&self, dn: &Dn) -> Option<&Number> {
        self.numbers.get(dn)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, dn: &Dn) -> Option<&mut Number> {
        self.numbers.get_mut(dn)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn known(&self, dn: &Dn) -> Option<&Number> {
        self.contradictions.known(self.numbers.get(dn), "a number is not there")
    }

    #[inline]
    #[track_caller]
    pub(crate) fn known_mut(&mut self, dn: &Dn) -> Option<&mut Number> {
        self.contradictions.known(self.numbers.get_mut(dn), "a number is not there")
    }

    /// All of them, for a device that is described as it is now.
    pub(crate) fn all(&self) -> &HashMap<Dn, Number> {
        &self.numbers
    }

    pub(crate) fn take_contradiction(&self) -> Option<Contradiction> {
        self.contradictions.take()
    }
}
