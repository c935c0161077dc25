//! From files to a checked configuration.

use super::fields::At;
use super::mistake::{Mistake, Place, Report};
use super::names::Names;
use super::yaml::{self, Entry, Node, Value};
use super::{Config, check, sections};
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most files of a folder.
const MAX_FILES: usize = 1_000;

/// A good configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What only needs a command first, and what looks odd.
    pub warnings: Vec<Mistake>,
}

/// Reads a file, or the `*.yaml` of a folder as one.
///
/// # Errors
/// All mistakes, in the order of the files.
pub fn load(path: &Path) -> Result<Loaded, Vec<Mistake>> {
    let mut report = Report::default();
    let mut texts = Vec::new();
    match files(path) {
        Err(message) => report.mistake(whole(path), "", message),
        Ok(paths) => {
            for path in paths {
                match text(&path) {
                    Ok(text) => texts.push((path.display().to_string(), text)),
                    Err(why) => report.mistake(why.place(&path), "", why.message),
                }
            }
        }
    }
    let texts = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    read(&path.display().to_string(), texts, report)
}

/// Where the node of a configuration keeps its state, as far as a bad one tells: whoever spoils the file of a running node
/// must still be able to ask that node. In what is no YAML the folder is taken that nodes have by default.
#[must_use]
pub fn state_dir(path: &Path, node: Option<&str>) -> Option<PathBuf> {
    let mut report = Report::default();
    let mut root = None;
    for path in files(path).ok()? {
        let text = text(&path).ok().map(|text| text.replace(BYTE_ORDER_MARK, ""));
        let tree = text.and_then(|text| yaml::parse(&path.display().to_string().into(), &text, &mut report));
        root = match tree {
            Some(tree) => merge(root, tree, &mut report),
            None => root,
        };
    }
    if let Some(nodes) = root.as_ref().and_then(|root| At { node: root, path: String::new() }.entry("nodes"))
    {
        return sections::state_dir(&nodes, node);
    }
    let folder = if path.is_dir() { path } else { path.parent()? };
    Some(folder.join(sections::cluster::STATE_DIR))
}

/// Reads a text as if it stood in the file of this name; relative paths start at that file's folder.
///
/// # Errors
/// All mistakes, in order.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Vec<Mistake>> {
    read(name, [(name, text)].into_iter(), Report::default())
}

/// `named` is what commands have to be told to read the same.
fn read<'a>(
    named: &str,
    texts: impl Iterator<Item = (&'a str, &'a str)>,
    mut report: Report,
) -> Result<Loaded, Vec<Mistake>> {
    let mut root: Option<Node> = None;
    let mut first: Option<Arc<str>> = None;
    let mut whole = report.count() == 0;
    let mut written = Sha256::new();
    for (name, text) in texts {
        written.update((text.len() as u64).to_be_bytes());
        written.update(text);
        let file: Arc<str> = name.into();
        first.get_or_insert_with(|| file.clone());
        let before = report.count();
        if let Some(at) = text.find(BYTE_ORDER_MARK) {
            let Unreadable { line, column, .. } = Unreadable::at(&text[..at], String::new());
            let message = "a byte order mark (U+FEFF), which nobody sees, stands here: save the file as UTF-8 without it";
            report.mistake(Place { file: file.clone(), line, column }, "", message);
            whole = false;
            continue;
        }
        match yaml::parse(&file, text, &mut report) {
            Some(node) => root = merge(root, node, &mut report),
            // Only comments, or nothing at all: that is no mistake in one of several files.
            None => whole &= report.count() == before,
        }
    }
    // What stands in a file that can't be read would seem to be missing everywhere else.
    let Some(root) = root.filter(|_| whole) else {
        if report.count() == 0 {
            let place = Place { file: first.unwrap_or_default(), line: 0, column: 0 };
            report.mistake(place, "", "the configuration is empty");
        }
        return Err(report.into_mistakes());
    };
    let mut names = Names::default();
    let config = sections::read(&root, &mut names, &mut report);
    if let Some(mut config) = config {
        config.revision = revision(written);
        check::check(&mut config, named, &root, &names, &mut report);
        if report.count() == 0 {
            return Ok(Loaded { config, warnings: report.warnings });
        }
    }
    Err(report.into_mistakes())
}

/// The first hexadecimal digits of the hash of all that was written, file by file.
fn revision(written: Sha256) -> Arc<str> {
    written.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Puts the keys of another file beside those of the earlier ones.
fn merge(root: Option<Node>, node: Node, report: &mut Report) -> Option<Node> {
    let Some(mut root) = root else { return Some(node) };
    match (&mut root.value, node.value) {
        (Value::Map(entries), Value::Map(more)) => {
            for entry in more {
                add(entries, entry, report);
            }
        }
        (_, Value::Map(_)) => {}
        (_, Value::Scalar { .. } | Value::List(_)) => {
            report.mistake(node.place, "", "a map of keys and values is needed here");
        }
    }
    Some(root)
}

fn add(entries: &mut Vec<Entry>, entry: Entry, report: &mut Report) {
    if let Some(first) = entries.iter().find(|first| first.key == entry.key) {
        let first = format!("{}:{}", first.key_place.file, first.key_place.line);
        let message = format!("the key `{}` is in two files, first in {first}", entry.key);
        report.mistake(entry.key_place, entry.key, message);
    } else {
        entries.push(entry);
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |e: std::io::Error| format!("can't be read: {e}");
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|e| e == "yaml") && path.is_file() && !hidden {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err("there is no *.yaml in this folder".into());
    }
    if files.len() > MAX_FILES {
        return Err(format!("more than {MAX_FILES} files"));
    }
    files.sort();
    Ok(files)
}

/// What some editors write before the first line (BOM).
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a file holds no text, and where; line and column 0 = as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) message: String,
}

impl Unreadable {
    fn whole(message: String) -> Self {
        Self { line: 0, column: 0, message }
    }

    /// Behind this text.
    fn at(before: &str, message: String) -> Self {
        let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        let last = before.rsplit('\n').next().unwrap_or_default();
        Self { line: number(before.matches('\n').count()), column: number(last.chars().count()), message }
    }

    fn place(&self, path: &Path) -> Place {
        Place { line: self.line, column: self.column, ..whole(path) }
    }
}

/// Reads at most as much as a file may hold: `path` could be a device that never ends.
fn text(path: &Path) -> Result<String, Unreadable> {
    let unreadable = |e: std::io::Error| Unreadable::whole(format!("can't be read: {e}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > yaml::MAX_BYTES {
        return Err(Unreadable::whole(format!("larger than {} MiB", yaml::MAX_BYTES >> 20)));
    }
    decode(bytes)
}

/// Configurations are UTF-8.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, Unreadable> {
    if let Some(encoding) = foreign_encoding(&bytes) {
        return Err(Unreadable::at("", format!("the file is encoded as {encoding}: save it as UTF-8")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let (before, rest) = e.as_bytes().split_at(e.utf8_error().valid_up_to());
        let byte = rest.first().copied().unwrap_or_default();
        let before = String::from_utf8_lossy(before);
        Unreadable::at(&before, format!("not UTF-8 (a byte 0x{byte:02X}): save the file as UTF-8"))
    })
}

/// By its byte order mark or, without one, by the zeros beside the first character of a text in Latin script.
fn foreign_encoding(bytes: &[u8]) -> Option<&'static str> {
    let zeros: Vec<bool> = bytes.iter().take(4).map(|byte| *byte == 0).collect();
    match (bytes, zeros.as_slice()) {
        ([0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..], _) => Some("UTF-32"),
        (_, [true, true, true, false] | [false, true, true, true]) => Some("UTF-32"),
        ([0xFF, 0xFE, ..] | [0xFE, 0xFF, ..], _) => Some("UTF-16"),
        (_, [true, false, true, false] | [false, true, false, true]) => Some("UTF-16"),
        _ => None,
    }
}

fn whole(path: &Path) -> Place {
    Place { file: path.display().to_string().into(), line: 0, column: 0 }
}
