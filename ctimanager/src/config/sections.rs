//! The sections of the file, each read into its type. Names are remembered for `check`.

pub(super) mod addresses;
pub(super) mod cluster;
pub(super) mod devices;
pub(super) mod numbers;
pub(super) mod partitions;
pub(super) mod trunks;
pub(super) mod users;

use super::fields::At;
use super::mistake::Report;
use super::names::Names;
use super::yaml::Node;
use super::{Config, Places, ServiceParameters};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The keys of the file.
pub(super) const KEYS: &[&str] = &[
    "cluster",
    "service_parameters",
    "nodes",
    "call_manager_groups",
    "device_pools",
    "partitions",
    "calling_search_spaces",
    "directory_numbers",
    "devices",
    "trunks",
    "route_patterns",
    "park_numbers",
    "user_groups",
    "users",
];

/// Reads every section; what is wrong is reported and left out.
pub(super) fn read(root: &Node, names: &mut Names, report: &mut Report) -> Option<Config> {
    let fields = At { node: root, path: String::new() }.fields(KEYS, report)?;
    let cluster = fields.require("cluster", report).and_then(|at| cluster::cluster(&at, report));
    let parameters =
        fields.get("service_parameters").map(|at| ServiceParameters::read(&at, report)).unwrap_or_default();
    let nodes = fields.require("nodes", report);
    let nodes = nodes.map(|at| cluster::nodes(&at, names, report)).unwrap_or_default();
    // Groups before users: a user's groups are looked up while he is read.
    let user_groups = items(fields.get("user_groups"), names, report, users::group);
    let config = Config {
        // Without a cluster there is a mistake, and nobody gets this: it only lets the rest be checked as well.
        cluster: cluster.unwrap_or_else(cluster::nameless),
        parameters,
        nodes,
        call_manager_groups: items(fields.get("call_manager_groups"), names, report, cluster::group),
        device_pools: items(fields.get("device_pools"), names, report, cluster::pool),
        partitions: items(fields.get("partitions"), names, report, partitions::partition),
        calling_search_spaces: items(fields.get("calling_search_spaces"), names, report, partitions::space),
        numbers: items(fields.get("directory_numbers"), names, report, numbers::number),
        devices: devices::devices(fields.get("devices"), names, report),
        trunks: items(fields.get("trunks"), names, report, trunks::trunk),
        route_patterns: items(fields.get("route_patterns"), names, report, numbers::pattern),
        park_numbers: numbers::park_numbers(fields.get("park_numbers"), names, report),
        users: users::users(fields.get("users"), &user_groups, names, report),
        user_groups,
        places: Places {
            file: root.place.clone(),
            numbers: fields.get("directory_numbers").map(|at| at.place()),
            devices: fields.get("devices").map(|at| at.place()),
            trunks: fields.get("trunks").map(|at| at.place()),
            users: fields.get("users").map(|at| at.place()),
        },
        // Whoever has the text says it.
        revision: "".into(),
    };
    Some(config)
}

/// The state directory of one of these nodes (without a name of the only one), whatever else is wrong.
pub(super) fn state_dir(nodes: &At<'_>, node: Option<&str>) -> Option<PathBuf> {
    let nodes = nodes.listed();
    let name_of = |at: &At<'_>| at.entry("name").and_then(|at| at.scalar()).map(str::to_owned);
    let mut named = nodes.iter().filter(|at| node.is_none_or(|node| name_of(at).as_deref() == Some(node)));
    let (Some(at), None) = (named.next(), named.next()) else { return None };
    let written = at.fields(cluster::NODE_KEYS, &mut Report::default())?.get("state_dir");
    Some(match written.as_ref().and_then(|at| Some((at, at.scalar()?))) {
        Some((at, text)) => path(at, text),
        None => path(at, cluster::STATE_DIR),
    })
}

/// Reads each item of a list that may be left out.
fn items<'a, T>(
    at: Option<At<'a>>,
    names: &mut Names,
    report: &mut Report,
    mut read: impl FnMut(&At<'a>, &mut Names, &mut Report) -> Option<T>,
) -> Vec<T> {
    let items = at.map(|at| at.items(report)).unwrap_or_default();
    items.iter().filter_map(|item| read(item, names, report)).collect()
}

/// The text of a file. Only of a regular one: a pipe or a device may never end.
fn short_file(path: &Path, most: u64) -> Result<String, String> {
    let shown = path.display();
    let unreadable = |e: std::io::Error| format!("{shown} can't be read: {e}");
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{shown} is no file"));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(most + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > most { Err(format!("{shown} is longer than {most} bytes")) } else { Ok(text) }
}

/// A path as it is meant: relative ones start at the folder of the file that they stand in.
fn path(at: &At<'_>, written: &str) -> PathBuf {
    let folder = Path::new(&*at.node.place.file).parent().unwrap_or(Path::new(""));
    let path: PathBuf = folder.join(written).components().filter(|part| *part != Component::CurDir).collect();
    // An empty path is no folder.
    if path.as_os_str().is_empty() { ".".into() } else { path }
}
