//! Rules of the house that a machine can check: which room may know which, what the pure rooms may not touch,
//! how big things may get, licences, and links in the documents.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which room may depend on which; whoever wants another arrow changes this list and says why in docs/decisions.
const ARROWS: &[(&str, &[&str])] = &[
    ("cluster", &["device-model"]),
    ("device-model", &[]),
    ("media", &[]),
    ("sip", &[]),
    ("security", &["device-model"]),
    ("protocol", &["device-model"]),
    ("client", &["device-model", "media", "protocol", "security"]),
    ("ctimanager", &["client", "cluster", "device-model", "protocol", "security", "sip"]),
    ("tests", &["client", "cluster", "ctimanager", "device-model", "media", "protocol", "security", "sip"]),
];

/// The same among the folders of `ctimanager/src`: whom each may name.
const INNER_ARROWS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("node", &["config"]),
    ("io", &["config", "node"]),
    ("demo", &["config", "io", "node"]),
    // It makes the certificates of the node that it measures as an administrator does.
    ("bench", &["admin"]),
    ("admin", &["bench", "config", "demo", "io"]),
];

/// What CallManager may name of the node: neither applications nor their sessions, nor what is decided of them.
const CALL_MANAGER_KNOWS: &[&str] =
    &["alarms", "call_manager", "messages", "millis", "port", "seldom", "settings"];

/// What CTIManager may name of the node: of CallManager nothing. It reaches it by the step that it is handed.
const CTI_MANAGER_KNOWS: &[&str] = &[
    "Settings",
    "Step",
    "alarms",
    "cti_manager",
    "delay",
    "messages",
    "millis",
    "port",
    "seldom",
    "shares_of",
];

/// Folders whose code is told the time, draws no random numbers, and neither waits nor locks.
const PURE: &[&str] = &[
    "cluster/src",
    "device-model/src",
    "media/src",
    "sip/src",
    "protocol/src",
    "security/src",
    "ctimanager/src/node",
];

/// Folders in which the order of a hash map, which differs from one life of the process to the next, decides nothing that
/// is said.
const ORDERED: &[&str] =
    &["cluster/src", "device-model/src", "media/src", "sip/src", "protocol/src", "security/src"];

/// Functions of the pure rooms that take a `bool` beside something else, and why a reader understands the call all the same.
/// Others take an enum with the field's words, or are two functions.
const FLAGS: &[(&str, &str)] = &[
    ("or_hidden", "a presentation, or hidden where an entry says so: the argument has that name"),
    ("application_behind", "the shell's input, field for field"),
    ("password_checked", "the shell's input, field for field"),
    ("credentials_checked", "what the input said, handed on"),
    ("of", "`Proof::of`: whether a password was among what was given"),
    ("answer_listing", "whether more follows, as the page says it"),
    ("carry_on_one", "whether its reader is behind, as the input says it"),
    ("departed", "the model's news, field for field"),
    ("listing", "those who list, or also those who have it open"),
    ("let_go_of_some", "some, or all of them at the limit of a stop"),
];

/// How the entries of a map are gone through.
const WALKS: &[&str] = &[
    ".iter()",
    ".iter_mut()",
    ".keys()",
    ".values()",
    ".values_mut()",
    ".drain()",
    ".into_iter()",
    ".into_keys()",
    ".into_values()",
    ".extract_if(",
];

/// What the pure rooms may not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "Instant::now",
    "SystemTime::now",
    "rand::rng(",
    "thread_rng",
    "OsRng",
    "SysRng",
    "Mutex<",
    "RwLock<",
    "std::thread",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
];

const MAX_FILE_LINES: usize = 1_000;
const MAX_FUNCTION_LINES: usize = 70;
/// Characters of a line of a document; tables, code and links are as wide as they must be.
const MAX_DOCUMENT_COLUMNS: usize = 130;

#[test]
fn rooms_know_only_whom_they_may() {
    let metadata = cargo_metadata(&["--no-deps"]);
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(room, may)| (*room, may.iter().copied().collect())).collect();
    let mut wrong = String::new();
    for package in array(&metadata["packages"]) {
        let room = text(&package["name"]);
        let Some(may) = allowed.get(room) else {
            let _ = writeln!(wrong, "{room}: a room that the list of arrows doesn't know");
            continue;
        };
        for dependency in array(&package["dependencies"]).iter().filter(|d| d["path"].is_string()) {
            let other = text(&dependency["name"]);
            if other != room && !may.contains(other) {
                let _ = writeln!(wrong, "{room} -> {other}");
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the house doesn't have:\n{wrong}");
}

#[test]
fn every_file_of_tests_is_in_the_suite() {
    let suite = read(&root().join("tests/suite.rs"));
    let folder = root().join("tests/tests");
    for file in sources().filter(|path| path.parent() == Some(folder.as_path())) {
        let name = file.file_stem().expect("a file has a name").to_string_lossy();
        assert!(suite.contains(&format!("\nmod {name};")), "tests/suite.rs leaves {name} out");
    }
}

#[test]
fn folders_of_the_server_know_only_whom_they_may() {
    let server = root().join("ctimanager/src");
    let mut found = String::new();
    for (folder, may) in INNER_ARROWS {
        let others: Vec<_> = INNER_ARROWS
            .iter()
            .map(|(other, _)| *other)
            .filter(|other| other != folder && !may.contains(other))
            .map(|other| format!("crate::{other}"))
            .collect();
        let files: Vec<_> = sources().filter(|path| path.starts_with(server.join(folder))).collect();
        assert!(!files.is_empty(), "{folder} is no folder of the server");
        found += &grep(&files, |line| others.iter().any(|other| names(line, other)), Scope::Product);
    }
    assert!(found.is_empty(), "arrows that the server doesn't have:\n{found}");
}

#[test]
fn call_manager_knows_nothing_of_applications() {
    let folder = root().join("ctimanager/src/node/call_manager");
    let files: Vec<_> = sources().filter(|path| path.starts_with(&folder)).collect();
    assert!(!files.is_empty(), "CallManager has no folder");
    let foreign = |line: &str| {
        of_node(line).iter().any(|name| !CALL_MANAGER_KNOWS.contains(name))
            || ["super::super::", "protocol::", "security::Policy", "security::decide"]
                .iter()
                .any(|name| line.contains(name))
    };
    let found = grep(&files, foreign, Scope::Product);
    assert!(found.is_empty(), "CallManager names what it must not know:\n{found}");
    let door = read(&folder.join("mod.rs"));
    assert!(!door.contains("super::"), "the door of CallManager names the node by its whole path");
}

#[test]
fn cti_manager_knows_nothing_of_sip_and_of_what_is_inside_call_manager() {
    let folder = root().join("ctimanager/src/node/cti_manager");
    let files: Vec<_> = sources().filter(|path| path.starts_with(&folder)).collect();
    assert!(!files.is_empty(), "CTIManager has no folder");
    let foreign = |line: &str| {
        let of_sip = line
            .match_indices("sip::")
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let names = of_node(line);
        of_sip
            || names.iter().any(|name| !CTI_MANAGER_KNOWS.contains(name))
            || ["super::super::", "call_manager::"].iter().any(|name| line.contains(name))
    };
    let found = grep(&files, foreign, Scope::Product);
    assert!(found.is_empty(), "CTIManager names what it must not know:\n{found}");
    assert!(foreign("use sip::Hop;") && foreign("use crate::node::{Step, call_manager};"));
    assert!(!foreign("use crate::node::{Step, alarms};") && !foreign("use crate::node::port::Output;"));
}

/// What a line names of the node by its whole path: also several between braces.
fn of_node(line: &str) -> Vec<&str> {
    const PATH: &str = "crate::node::";
    let mut names = Vec::new();
    for (at, _) in line.match_indices(PATH) {
        let rest = &line[at + PATH.len()..];
        let listed = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or(list));
        for name in listed.unwrap_or(rest).split(',').take(if listed.is_some() { usize::MAX } else { 1 }) {
            let name = name.trim();
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            names.push(&name[..end]);
        }
    }
    names
}

/// Whether the line has this path as a whole, not as the beginning of a longer name.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let next = line[at + path.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn pure_rooms_are_pure() {
    let found = grep(
        &sources()
            .filter(|path| PURE.iter().any(|room| path.starts_with(root().join(room))))
            .collect::<Vec<_>>(),
        |line| IMPURE.iter().any(|name| line.contains(name)),
        Scope::Product,
    );
    assert!(found.is_empty(), "clock, randomness, waiting, locks or sockets in a pure room:\n{found}");
}

/// Whoever goes through a hash map all the same writes `any order` and why that is so into the line or the one above.
#[test]
fn the_order_of_a_hash_map_decides_nothing() {
    let test_modules = test_modules();
    let mut found = String::new();
    for path in sources().filter(|path| ORDERED.iter().any(|room| path.starts_with(root().join(room)))) {
        if is_test_file(&path) || test_modules.iter().any(|module| path.starts_with(module)) {
            continue;
        }
        let code = read(&path);
        for (number, line) in walks_of_hash_maps(&code) {
            let _ = writeln!(found, "{}:{number}: {line}", shown(&path));
        }
    }
    assert!(found.is_empty(), "take a BTreeMap, sort, or say why any order will do:\n{found}");
}

#[test]
fn walks_of_hash_maps_are_found() {
    let code = "struct A {\n    map: HashMap<u8, u8>,\n    list: Vec<u8>,\n}\nfn a(&self, other: &HashSet<u8>) {\n    \
                let mut seen = HashMap::new();\n    self.map.keys().min();\n    self.list.iter();\n    \
                for x in other {\n    for (x, y) in &self.map {\n    map.iter();\n    seen\n        .into_values();\n    \
                plan.map.iter();\n    // any order: a sum\n    seen.values().sum();\n    other.len();\n}";
    let found: Vec<usize> = walks_of_hash_maps(code).into_iter().map(|(number, _)| number).collect();
    assert_eq!(found, [7, 9, 10, 12]);
}

/// Number and text of each line that goes through a hash map which the file declares, unless it says that any order will do.
fn walks_of_hash_maps(code: &str) -> Vec<(usize, &str)> {
    let names: BTreeSet<(Place, &str)> = code.lines().flat_map(hash_maps_of).collect();
    let lines = lines_with_gate(code);
    let mut found = Vec::new();
    for (index, (line, gated)) in lines.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |before| lines[before].0);
        let said = [before, line].iter().any(|line| line.to_lowercase().contains("any order"));
        if *gated || said || line.trim_start().starts_with("//") {
            continue;
        }
        let next = lines.get(index + 1).map_or("", |(next, _)| next.trim());
        if names.iter().any(|(place, name)| walks(line, next, *place, name)) {
            found.push((index + 1, line.trim()));
        }
    }
    found
}

/// Where a hash map is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// `self.` is written before it.
    Field,
    /// A variable or parameter.
    Own,
}

/// The fields, parameters and variables that a line declares to be hash maps or sets.
fn hash_maps_of(line: &str) -> Vec<(Place, &str)> {
    let places = ["HashMap", "HashSet"].into_iter().flat_map(|kind| line.match_indices(kind));
    let name = |(at, _): (usize, &str)| {
        let before = line[..at].trim_end_matches("std::collections::").trim_end_matches(['&', ' ']);
        let before = before.strip_suffix("&mut").unwrap_or(before).trim_end();
        let before = before.strip_suffix([':', '='])?.trim_end();
        let begin = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let alone = before[..begin].trim().is_empty() || before[..begin].trim_start().starts_with("pub");
        let place = if alone && !line[..at].contains('&') { Place::Field } else { Place::Own };
        Some((place, &before[begin..])).filter(|(_, name)| !name.is_empty())
    };
    places.filter_map(name).collect()
}

/// Whether a line, with what follows it, goes through what has this name.
fn walks(line: &str, next: &str, place: Place, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, rest) = (&line[..at], &line[at + name.len()..]);
        let own = match place {
            Place::Field => before.strip_suffix("self.").filter(|before| !before.ends_with('.')),
            Place::Own => Some(before),
        };
        let Some(own) = own else { return false };
        let whole = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        if own.ends_with(whole) || rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return false;
        }
        let own = own.trim_end_matches("&mut ").trim_end_matches('&');
        let looped = own.trim_start().starts_with("for ") && own.ends_with(" in ") && rest == " {";
        let chained = if rest.is_empty() { next } else { rest };
        looped || WALKS.iter().any(|walk| chained.starts_with(walk))
    })
}

#[test]
fn every_channel_has_a_limit() {
    let names =
        [concat!("unbounded", "_channel"), concat!("mpsc::", "unbounded"), concat!("Unbounded", "Sender")];
    let found = grep(&rust_files(), |line| names.iter().any(|name| line.contains(name)), Scope::Everything);
    assert!(found.is_empty(), "channels without a limit:\n{found}");
}

#[test]
fn tests_wait_for_events_and_not_for_the_clock() {
    let nap = concat!("sle", "ep(");
    let found = grep(&rust_files(), |line| line.contains(nap), Scope::Tests);
    assert!(found.is_empty(), "a test that waits for the clock:\n{found}");
}

#[test]
fn nothing_is_left_for_later() {
    let stubs = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
    let notes = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X"), concat!("HA", "CK")];
    // A note stands alone as a word; `9.XXX` is a route pattern.
    let is_note =
        |word: &str| notes.contains(&word.trim_end_matches([':', ',', '.', ')']).trim_start_matches('('));
    let mut found = String::new();
    for path in rust_files() {
        for (index, line) in read(&path).lines().enumerate() {
            if stubs.iter().any(|stub| line.contains(stub)) || line.split_whitespace().any(is_note) {
                let _ = writeln!(found, "{}:{}: {}", shown(&path), index + 1, line.trim());
            }
        }
    }
    assert!(found.is_empty(), "stubs, skipped tests, notes to self:\n{found}");
}

#[test]
fn no_path_of_one_machine_is_in_the_tree() {
    let places =
        [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/tmp/", "wt"), concat!("/wo", "rk/")];
    let files: Vec<PathBuf> = walk(root())
        .into_iter()
        .filter(|path| {
            !path.ends_with("Cargo.lock") && std::fs::metadata(path).is_ok_and(|m| m.len() < 1 << 20)
        })
        .collect();
    let found = grep(&files, |line| places.iter().any(|place| line.contains(place)), Scope::Everything);
    assert!(found.is_empty(), "paths that exist on one machine only:\n{found}");
}

#[test]
fn files_can_be_held_in_the_head() {
    let mut long = String::new();
    for path in rust_files() {
        let lines = read(&path).lines().count();
        if lines > MAX_FILE_LINES {
            let _ = writeln!(long, "{}: {lines} lines", shown(&path));
        }
    }
    assert!(long.is_empty(), "divide these by what they say (at most {MAX_FILE_LINES} lines):\n{long}");
}

#[test]
fn functions_fit_a_screen() {
    let mut long = String::new();
    for path in rust_files() {
        for (line, name, length) in functions(&read(&path)) {
            if length > MAX_FUNCTION_LINES {
                let _ = writeln!(long, "{}:{line}: {name} has {length} lines", shown(&path));
            }
        }
    }
    assert!(long.is_empty(), "at most {MAX_FUNCTION_LINES} lines a function:\n{long}");
}

#[test]
fn functions_are_told_by_words_and_not_by_flags() {
    let (mut wrong, mut seen) = (String::new(), BTreeSet::new());
    let test_modules = test_modules();
    for path in sources().filter(|path| PURE.iter().any(|room| path.starts_with(root().join(room)))) {
        if is_test_file(&path) || test_modules.iter().any(|module| path.starts_with(module)) {
            continue;
        }
        for (line, name) in functions_with_flags(&read(&path)) {
            if FLAGS.iter().any(|(known, _)| *known == name) {
                seen.insert(name.to_owned());
            } else {
                let _ = writeln!(wrong, "{}:{line}: {name}", shown(&path));
            }
        }
    }
    assert!(wrong.is_empty(), "take an enum, or make it two functions:\n{wrong}");
    for (name, _) in FLAGS {
        assert!(seen.contains(*name), "{name} takes no flag any more");
    }
}

#[test]
fn functions_with_flags_are_found() {
    let code = "fn a(x: bool) {}\nfn b(x: u8, y: bool) {}\nfn c(&self, f: impl Fn(bool) -> u8) {}\npub(in crate::x) fn g(x: u8, y: bool) {}\npub fn d(\n    \
                &mut self,\n    on: bool,\n) {\n}\n#[cfg(test)]\nmod tests {\n    fn e(x: u8, y: bool) {}\n}\n";
    let names: Vec<&str> = functions_with_flags(code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["b", "g", "d"]);
}

/// Line and name of each function that takes a `bool` and something else; what it takes alone, its name says.
fn functions_with_flags(code: &str) -> Vec<(usize, &str)> {
    let lines = lines_with_gate(code);
    let mut found = Vec::new();
    for (index, (line, gated)) in lines.iter().enumerate() {
        let Some(name) = function_name(line).filter(|_| !gated) else { continue };
        let rest = lines[index..].iter().map(|(line, _)| line.trim());
        let signature = rest.take_while(|line| !line.starts_with(')')).take(40).collect::<Vec<_>>().join(" ");
        let signature = signature.split(['{', ';']).next().unwrap_or_default().split(" -> ").next();
        let params: Vec<&str> = signature.unwrap_or_default().split([',', '(', ')']).map(str::trim).collect();
        let named = params.iter().filter(|param| param.contains(": ") || param.ends_with("self")).count();
        let flag = params.iter().any(|param| param.ends_with(": bool"));
        if flag && named > 1 {
            found.push((index + 1, name));
        }
    }
    found
}

#[test]
fn each_limit_has_a_test() {
    let mut tests = String::new();
    rust_files().iter().for_each(|path| tests += &read(path));
    let document = read(&root().join("docs/architecture.md"));
    let (_, limits) = document.split_once("## Where limits are").expect("the section");
    let mut missing = String::new();
    for row in limits.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let named = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        let known = |name: &&str| match name.strip_suffix('…') {
            Some(begin) => tests.contains(&format!("fn {begin}")),
            None => tests.contains(&format!("fn {name}(")),
        };
        if names.is_empty() || !names.iter().all(known) {
            let _ = writeln!(missing, "{row}");
        }
    }
    assert!(missing.is_empty(), "no test is called so:\n{missing}");
}

#[test]
fn documents_are_wrapped() {
    let mut wide = String::new();
    for path in documents() {
        let text = read(&path);
        let mut code = false;
        for (number, line) in text.lines().enumerate() {
            code ^= line.starts_with("```");
            let free = code || line.starts_with('|') || line.contains("](");
            if !free && line.chars().count() > MAX_DOCUMENT_COLUMNS {
                let _ = writeln!(wide, "{}:{}", shown(&path), number + 1);
            }
        }
    }
    assert!(wide.is_empty(), "lines of more than {MAX_DOCUMENT_COLUMNS} characters:\n{wide}");
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut dead = String::new();
    for path in documents() {
        let folder = path.parent().expect("a file has a folder");
        for (number, target) in links(&read(&path)) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = ["http:", "https:", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
            if !outside && !file.is_empty() && !folder.join(file).exists() {
                let _ = writeln!(dead, "{}:{number}: {target}", shown(&path));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{dead}");
}

#[test]
fn dependencies_bring_only_licences_that_we_accept() {
    let (allow, exceptions) = licences_of_deny_toml();
    let host = host_triple();
    let metadata = cargo_metadata(&["--filter-platform", &host]);
    let used = resolved(&metadata);
    let mut wrong = String::new();
    for package in array(&metadata["packages"]).iter().filter(|p| used.contains(text(&p["id"]))) {
        let name = text(&package["name"]);
        let licence = package["license"].as_str().unwrap_or("none given");
        let accepted = |id: &str| {
            allow.contains(id) || exceptions.iter().any(|(package, of_it)| package == name && of_it == id)
        };
        if !expression_accepted(licence, &accepted) {
            let _ = writeln!(wrong, "{name}: {licence}");
        }
    }
    assert!(wrong.is_empty(), "licences that deny.toml doesn't allow:\n{wrong}");
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    let accepted = |id: &str| matches!(id, "MIT" | "ISC" | "Apache-2.0 WITH LLVM-exception");
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("GPL-3.0/MIT", true),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("GPL-3.0 AND MIT OR ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(expression_accepted(expression, &accepted), expected, "{expression}");
    }
}

#[test]
fn code_behind_the_gate_of_tests_is_told_from_the_product() {
    let code = "#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(test)]\nmod more {\n    fn b() {}\n}\nfn c() {}";
    let gated: Vec<bool> = lines_with_gate(code).into_iter().map(|(_, gated)| gated).collect();
    assert_eq!(gated, [true, true, false, true, true, true, true, false]);
}

#[test]
fn the_length_of_functions_is_counted() {
    let code = "impl A {\n    fn short(&self);\n    fn one(&self) {}\n    pub fn long(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n}\n";
    assert_eq!(functions(code), vec![(3, "one", 1), (4, "long", 5)]);
}

/// Which lines of a Rust file count.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Everything,
    /// Not tests: what stands before `#[cfg(test)]`, in files that aren't tests.
    Product,
    /// Only tests.
    Tests,
}

/// `file:line: text` of all lines that match; lines of comment alone don't count.
fn grep(files: &[PathBuf], matches: impl Fn(&str) -> bool, scope: Scope) -> String {
    let test_modules = test_modules();
    let mut found = String::new();
    for path in files {
        let code = read(path);
        let whole_file = is_test_file(path) || test_modules.iter().any(|module| path.starts_with(module));
        for (index, (line, gated)) in lines_with_gate(&code).into_iter().enumerate() {
            let counts = match scope {
                Scope::Everything => true,
                Scope::Product => !whole_file && !gated,
                Scope::Tests => whole_file || gated,
            };
            if counts && !line.trim_start().starts_with("//") && matches(line) {
                let _ = writeln!(found, "{}:{}: {}", shown(path), index + 1, line.trim());
            }
        }
    }
    found
}

/// Each line, and whether it belongs to an item behind `#[cfg(test)]`; relies on rustfmt's indentation.
pub(crate) fn lines_with_gate(code: &str) -> Vec<(&str, bool)> {
    let mut lines = Vec::new();
    // The indentation of the gated item that we are in.
    let mut gate: Option<usize> = None;
    for line in code.lines() {
        let indent = line.len() - line.trim_start().len();
        if gate.is_none() && line.trim_start().starts_with("#[cfg(test)]") {
            gate = Some(indent);
        }
        lines.push((line, gate.is_some()));
        let last = line.ends_with('}') || line.ends_with(';');
        if gate == Some(indent) && last {
            gate = None;
        }
    }
    lines
}

/// Files and folders of modules that are declared behind `#[cfg(test)]`: `x.rs` and `x/` of each `mod x;`.
fn test_modules() -> Vec<PathBuf> {
    let mut modules = Vec::new();
    for path in rust_files() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = path.parent().expect("a file has a folder");
        let folder =
            if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { folder.join(stem) };
        for (line, gated) in lines_with_gate(&read(&path)) {
            let name =
                line.trim().strip_suffix(';').and_then(|l| l.rsplit_once("mod ")).map(|(_, name)| name);
            if let (true, Some(name)) = (gated, name) {
                modules.push(folder.join(format!("{name}.rs")));
                modules.push(folder.join(name));
            }
        }
    }
    modules
}

fn is_test_file(path: &Path) -> bool {
    let relative = path.strip_prefix(root()).unwrap_or(path);
    relative.components().any(|part| part.as_os_str() == "tests")
        || relative.file_stem().is_some_and(|stem| stem == "tests")
}

/// First line, name and number of lines of each function; relies on rustfmt's indentation.
fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        if line.ends_with('}') {
            found.push((start + 1, name, 1));
            continue;
        }
        if line.ends_with(';') {
            continue;
        }
        let end = lines[start + 1..].iter().position(|l| {
            l.len() - l.trim_start().len() == indent
                && (l.trim_start().starts_with('}') || (l.trim_start().starts_with(')') && l.ends_with(';')))
        });
        let Some(end) = end else { continue };
        if lines[start + 1 + end].trim_start().starts_with('}') {
            found.push((start + 1, name, end + 2));
        }
    }
    found
}

pub(crate) fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    while let Some((word, after)) = rest.split_once(' ') {
        match word {
            "fn" => return after.split(['(', '<']).next(),
            "pub" | "pub(crate)" | "pub(super)" | "pub(in" | "async" | "const" | "extern" | "\"C\"" => {
                rest = after
            }
            path if path.starts_with("crate::") && path.ends_with(')') => rest = after,
            _ => return None,
        }
    }
    None
}

/// Line number and target of each inline Markdown link outside code blocks.
fn links(document: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in document.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push((index + 1, rest[..end].trim()));
            rest = &rest[end..];
        }
    }
    found
}

/// Evaluates an SPDX expression; `/` is the old way to write OR. AND binds closer than OR.
fn expression_accepted(expression: &str, accepted: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let (value, used) = any_of(&tokens, accepted);
    value && used == tokens.len()
}

fn any_of(tokens: &[&str], accepted: &dyn Fn(&str) -> bool) -> (bool, usize) {
    let (mut value, mut at) = all_of(tokens, accepted);
    while tokens.get(at) == Some(&"OR") {
        let (next, used) = all_of(&tokens[at + 1..], accepted);
        (value, at) = (value | next, at + 1 + used);
    }
    (value, at)
}

fn all_of(tokens: &[&str], accepted: &dyn Fn(&str) -> bool) -> (bool, usize) {
    let (mut value, mut at) = one_of(tokens, accepted);
    while tokens.get(at) == Some(&"AND") {
        let (next, used) = one_of(&tokens[at + 1..], accepted);
        (value, at) = (value & next, at + 1 + used);
    }
    (value, at)
}

fn one_of(tokens: &[&str], accepted: &dyn Fn(&str) -> bool) -> (bool, usize) {
    match tokens {
        ["(", inner @ ..] => {
            let (value, used) = any_of(inner, accepted);
            (value, used + 2)
        }
        [id, "WITH", exception, ..] => (accepted(&format!("{id} WITH {exception}")), 3),
        [id, ..] => (accepted(id), 1),
        [] => (false, 0),
    }
}

/// The allowed identifiers, and (crate, identifier) of the exceptions.
fn licences_of_deny_toml() -> (BTreeSet<String>, Vec<(String, String)>) {
    let toml = read(&root().join("deny.toml"));
    let licences =
        toml.split("[licenses]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("[licenses]");
    let quoted = |s: &str| s.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let allow =
        licences.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("allow = [");
    let exceptions = licences
        .lines()
        .filter(|line| line.contains("crate = "))
        .filter_map(|line| match quoted(line).as_slice() {
            [package, licence] => Some((package.clone(), licence.clone())),
            _ => None,
        })
        .collect();
    (quoted(allow).into_iter().collect(), exceptions)
}

/// Ids of the packages that this platform's build really uses.
fn resolved(metadata: &Value) -> BTreeSet<&str> {
    array(&metadata["resolve"]["nodes"]).iter().map(|node| text(&node["id"])).collect()
}

fn host_triple() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs where cargo runs");
    let text = String::from_utf8(output.stdout).expect("rustc speaks UTF-8");
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn cargo_metadata(arguments: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(arguments)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string, says cargo's format")
}

fn sources() -> impl Iterator<Item = PathBuf> {
    rust_files().into_iter()
}

fn documents() -> impl Iterator<Item = PathBuf> {
    walk(root()).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "md"))
}

fn rust_files() -> Vec<PathBuf> {
    walk(root()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// All files of the project: not what is built (cargo marks its folder, whatever it is called), not what version control
/// keeps.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let skipped =
                matches!(name.as_str(), ".git" | "target" | "state" | "node_modules" | "__pycache__");
            if path.is_dir() && !skipped && !path.join("CACHEDIR.TAG").exists() {
                folders.push(path);
            } else if path.is_file() && !skipped {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// What isn't UTF-8 has no lines.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
