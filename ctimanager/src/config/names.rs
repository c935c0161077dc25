//! Names that the configuration defines, and the references that must find one of them.

use super::Place;
use super::fields::At;
use super::mistake::Report;
use std::collections::{HashMap, HashSet};

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Node,
    CallManagerGroup,
    DevicePool,
    Number,
    Device,
    Partition,
    SearchSpace,
    Trunk,
    Pattern,
    ParkNumber,
    UserGroup,
    User,
    DigestUser,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::CallManagerGroup => "CallManager group",
            Kind::DevicePool => "device pool",
            Kind::Number => "directory number",
            Kind::Device => "device",
            Kind::Partition => "partition",
            Kind::SearchSpace => "calling search space",
            Kind::Trunk => "trunk",
            Kind::Pattern => "route pattern",
            Kind::ParkNumber => "park number",
            Kind::UserGroup => "user group",
            Kind::User => "user",
            Kind::DigestUser => "digest user",
        }
    }
}

/// A name that must be defined somewhere.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) path: String,
}

/// What a device's line says of its number, beside the number itself.
#[derive(Clone, Debug)]
pub(super) struct LineSetting {
    pub(super) dn: String,
    pub(super) partition: Option<String>,
    pub(super) calling_search_space: Option<String>,
    pub(super) place: Place,
    pub(super) path: String,
}

/// What the reader of the sections fills.
#[derive(Debug, Default)]
pub(super) struct Names {
    defined: HashMap<Kind, HashMap<String, Place>>,
    pub(super) references: Vec<Reference>,
    /// Numbers on lines, also of devices in which something else is wrong.
    pub(super) lines: HashSet<String>,
    /// What lines say of their numbers.
    pub(super) line_settings: Vec<LineSetting>,
}

impl Names {
    /// Defines a name; a second definition is a mistake. Whether it was the first.
    pub(super) fn define(&mut self, kind: Kind, name: &str, at: &At<'_>, report: &mut Report) -> bool {
        let of_kind = self.defined.entry(kind).or_default();
        if let Some(first) = of_kind.get(name) {
            let first = format!("{}:{}", first.file, first.line);
            let why = if kind == Kind::Number { ": a number is in one partition only" } else { "" };
            at.wrong(report, format!("the {} `{name}` is there twice, first in {first}{why}", kind.word()));
            return false;
        }
        of_kind.insert(name.to_owned(), at.place());
        true
    }

    /// Remembers that what stands there must be defined.
    pub(super) fn refer(&mut self, kind: Kind, name: &str, at: &At<'_>) {
        self.references.push(Reference {
            kind,
            name: name.to_owned(),
            place: at.place(),
            path: at.path.clone(),
        });
    }

    pub(super) fn is_defined(&self, kind: Kind, name: &str) -> bool {
        self.defined.get(&kind).is_some_and(|names| names.contains_key(name))
    }

    /// All names of a kind, in no order.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.defined.get(&kind).into_iter().flat_map(HashMap::keys).map(String::as_str)
    }
}
