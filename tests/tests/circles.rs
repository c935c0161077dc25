//! Files that import each other in a circle can only be read together: those that do are written down here with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The crates whose files are looked at.
const CRATES: &[&str] =
    &["client", "cluster", "ctimanager", "device-model", "media", "protocol", "security", "sip"];

/// Crate, the files of a circle as modules, and why they are one.
const CIRCLES: &[(&str, &[&str], &str)] = &[
    (
        "client",
        &["provider::call", "provider::terminal"],
        "JTAPI's objects know each other: a call its terminals, a terminal its calls",
    ),
    (
        "ctimanager",
        &[
            "node::cti_manager::keeping",
            "node::cti_manager::lists",
            "node::cti_manager::pages",
            "node::cti_manager::portions",
            "node::cti_manager::tasks",
        ],
        "work in portions, and the kinds of work that are carried out so",
    ),
    (
        "ctimanager",
        &[
            "node::alarms",
            "node::cti_manager",
            "node::cti_manager::applications",
            "node::cti_manager::asking",
            "node::cti_manager::credentials",
            "node::cti_manager::open",
            "node::cti_manager::owners",
            "node::cti_manager::pending_connections",
            "node::cti_manager::reload",
            "node::messages",
            "node::port",
        ],
        "the machine of applications, and the node's door, which names what that machine keeps and how it is configured",
    ),
    (
        "ctimanager",
        &["node::call_manager::directory", "node::settings"],
        "the settings hold CallManager's accounts, and CallManager is configured with settings",
    ),
    (
        "device-model",
        &[
            "call",
            "calls",
            "clearing",
            "codec_choice",
            "control",
            "departing",
            "device_limits",
            "device_table",
            "devices",
            "dialling",
            "end",
            "leg",
            "media_exchange",
            "openings",
            "operations",
            "port",
            "prepared_plan",
            "reconcile",
            "signalling",
            "streams",
            "timers",
            "transitions",
        ],
        "`control` defines the machine and its tables, and each file adds its steps to it",
    ),
    (
        "sip",
        &["invite::context", "invite::leg", "invite::session_timer"],
        "a dialog, its session timer, and what both work with",
    ),
    (
        "sip",
        &["stack::belonging", "stack::door"],
        "who sent a request is asked at the door and within dialogs",
    ),
];

/// Modules, and which others each of them imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn only_files_that_belong_together_import_each_other() {
    let mut found = BTreeSet::new();
    for name in CRATES {
        found.extend(circles(&imports(name)).into_iter().map(|circle| (*name, circle)));
    }
    let known: BTreeSet<_> = CIRCLES
        .iter()
        .map(|(name, files, _)| (*name, files.iter().map(|file| (*file).to_owned()).collect::<BTreeSet<_>>()))
        .collect();
    let mut wrong = String::new();
    for (name, circle) in found.difference(&known) {
        let _ = writeln!(wrong, "{name}: a circle that nobody has written down: {circle:?}");
    }
    for (name, circle) in known.difference(&found) {
        let _ = writeln!(wrong, "{name}: a circle that is there no more: {circle:?}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn circles_are_found() {
    let names = |pairs: &[(&str, &str)]| -> Imports {
        let mut imports = Imports::new();
        for (from, to) in pairs {
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            imports.entry((*to).to_owned()).or_default();
        }
        imports
    };
    assert_eq!(circles(&names(&[("a", "b"), ("b", "c"), ("a", "c")])), []);
    let found = circles(&names(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d")]));
    let sets: Vec<Vec<&str>> =
        found.iter().map(|circle| circle.iter().map(String::as_str).collect()).collect();
    assert_eq!(sets, [vec!["a", "b", "c"], vec!["d", "e"]]);
}

#[test]
fn imports_are_read_as_the_compiler_does() {
    let modules: BTreeSet<String> = ["", "a", "a::b", "c"].map(str::to_owned).into();
    let of = |module: &str, code: &str| named(module, code, &modules).into_iter().collect::<Vec<_>>();
    assert_eq!(of("c", "use crate::a::{self, b::X, Y};"), ["a", "a::b"]);
    assert_eq!(of("a::b", "use super::Y;\nuse super::super::c::Z;"), ["a", "c"]);
    assert_eq!(of("a", "fn f() { crate::c::g() }\n// crate::a::b is said only\n"), ["c"]);
    assert_eq!(of("a", "#[cfg(test)]\nmod tests {\n    use crate::c;\n}\n"), [""; 0]);
}

/// Of a crate: each module that is no test, and whom it imports.
fn imports(name: &str) -> Imports {
    let source = root().join(name).join("src");
    let files: BTreeMap<String, PathBuf> = rust_files(&source)
        .into_iter()
        .filter_map(|path| Some((module_of(path.strip_prefix(&source).ok()?)?, path)))
        .collect();
    let modules: BTreeSet<String> = files.keys().cloned().collect();
    let each = files.iter();
    each.map(|(module, path)| {
        let code = std::fs::read_to_string(path).expect("a file of the project can be read");
        (module.clone(), named(module, &code, &modules))
    })
    .collect()
}

/// `stack/door.rs` is `stack::door`, `stack/mod.rs` is `stack`; tests are no module here, nor are programs.
fn module_of(file: &Path) -> Option<String> {
    let file = file.with_extension("");
    let mut parts: Vec<&str> = file.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    if parts.contains(&"tests") || parts[0] == "main" || parts[0] == "bin" {
        return None;
    }
    if matches!(parts.last(), Some(&("mod" | "lib"))) {
        parts.pop();
    }
    Some(parts.join("::"))
}

/// The modules of the same crate that the code of this one names.
fn named(module: &str, code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let code = product(code);
    let mut paths = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = ["crate::", "super::"].iter().filter_map(|begin| rest.find(begin)).min() {
        let (path, after) = tree(&rest[at..]);
        paths.extend(path);
        rest = after;
    }
    let here: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    paths.iter().filter_map(|path| target(path, &here, modules)).filter(|other| other != module).collect()
}

/// Code without comments and without what is behind `#[cfg(test)]` at its end.
fn product(code: &str) -> String {
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths of a tree of imports that begins here (`crate::a::{b, c::d}`), and what comes after it.
fn tree(code: &str) -> (Vec<String>, &str) {
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(code.len());
    let (head, after) = code.split_at(end);
    let Some(mut rest) = after.strip_prefix('{').filter(|_| head.ends_with("::")) else {
        return (vec![head.to_owned()], after);
    };
    let mut paths = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(after) = rest.strip_prefix('}') {
            return (paths, after);
        }
        let (inner, after) = tree(rest);
        // Something else than a name, as `*`, or the file's end: one step on.
        let after = if after.len() == rest.len() { rest.get(1..).unwrap_or("}") } else { after };
        paths.extend(inner.into_iter().map(|inner| format!("{head}{inner}")));
        rest = after;
    }
}

/// The module that a path leads to: its longest beginning that is one.
fn target(path: &str, here: &[&str], modules: &BTreeSet<String>) -> Option<String> {
    let mut base: Vec<&str> = here.to_vec();
    let mut parts = path.split("::").filter(|part| !part.is_empty()).peekable();
    if parts.next_if_eq(&"crate").is_some() {
        base.clear();
    }
    while parts.next_if_eq(&"super").is_some() {
        base.pop()?;
    }
    base.extend(parts.filter(|part| *part != "self"));
    loop {
        let module = base.join("::");
        if modules.contains(&module) {
            return Some(module);
        }
        base.pop()?;
    }
}

/// The sets of modules of which each reaches each other.
fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|module| (module.as_str(), reach(module, imports))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (module, others) in &reached {
        let circle: BTreeSet<String> = others
            .iter()
            .filter(|other| reached[*other].contains(module))
            .map(|&other| other.to_owned())
            .collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn reach<'a>(module: &'a str, imports: &'a Imports) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![module];
    while let Some(next) = waiting.pop() {
        for other in imports.get(next).into_iter().flatten() {
            if reached.insert(other.as_str()) {
                waiting.push(other);
            }
        }
    }
    reached
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the project can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}
