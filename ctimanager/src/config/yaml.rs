//! YAML text → a tree in which every value knows its place. Bounded: size, depth, number of values, and what aliases may
//! multiply ("billion laughs").

use super::Place;
use super::mistake::Report;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The largest file, in bytes.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// The deepest nesting; the configuration itself needs five.
const MAX_DEPTH: usize = 32;
/// The most values in a file, those that aliases repeat included.
const MAX_VALUES: usize = 1_000_000;
/// The most bytes of text that aliases may repeat.
const MAX_ALIASED_BYTES: usize = 16 << 20;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value. What a plain scalar means (number, truth, nothing) is decided by whoever expects something.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar { text: String, plain: bool },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value. Keys are unique in their map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

/// Reads one document. `None` when there is none, or when it is broken: then the report says where.
pub(super) fn parse(file: &Arc<str>, text: &str, report: &mut Report) -> Option<Node> {
    let mut builder = Builder::new(file.clone(), text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.take(&event, span, report),
            Err(error) => {
                Err(Broken { mark: *error.marker(), message: format!("not YAML: {}", error.info()) })
            }
        };
        if let Err(broken) = step {
            report.mistake(builder.place(broken.mark), "", broken.message);
            return None;
        }
    }
    builder.root
}

/// Lines end as YAML's do: with a line feed, a carriage return, or both.
fn lengths_of_lines(text: &str) -> Vec<u32> {
    let mut lengths = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        lengths.extend(line.split('\r').map(|part| u32::try_from(part.chars().count()).unwrap_or(u32::MAX)));
    }
    lengths
}

struct Broken {
    mark: Marker,
    message: String,
}

/// A list or map that is still open.
enum Open {
    List { items: Vec<Node>, place: Place, anchor: usize },
    Map { entries: Vec<Entry>, keys: HashSet<String>, key: Key, place: Place, anchor: usize },
}

/// What a map waits for.
enum Key {
    Wanted,
    /// The value of this key.
    Read(String, Place),
    /// The value of a key that is there already: it is read and thrown away. Where, and how to say it.
    Twice(Place, String, String),
}

struct Builder {
    file: Arc<str>,
    /// How many characters each line has.
    lines: Vec<u32>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, (Node, Cost)>,
    values: usize,
    aliased_bytes: usize,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    values: usize,
    bytes: usize,
}

impl Builder {
    fn new(file: Arc<str>, text: &str) -> Self {
        Self {
            file,
            lines: lengths_of_lines(text),
            open: Vec::new(),
            root: None,
            documents: 0,
            anchors: HashMap::new(),
            values: 0,
            aliased_bytes: 0,
        }
    }

    /// Where a mark is. The parser counts some characters of a directive as often as they have bytes; nobody looks for a
    /// mistake behind the end of its line.
    fn place(&self, mark: Marker) -> Place {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let longest = mark.line().checked_sub(1).and_then(|line| self.lines.get(line));
        let column = number(mark.col()).min(longest.copied().unwrap_or(u32::MAX - 1)) + 1;
        Place { file: self.file.clone(), line: number(mark.line()), column }
    }

    fn take(&mut self, event: &Event<'_>, span: Span, report: &mut Report) -> Result<(), Broken> {
        let mark = span.start;
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                let message = "a file holds one document: remove what follows `---`";
                if self.documents > 1 { Err(broken(mark, message)) } else { Ok(()) }
            }
            Event::Alias(anchor) => self.alias(*anchor, mark, report),
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.as_ref(), mark, report);
                let plain = matches!(style, ScalarStyle::Plain);
                let value = Value::Scalar { text: text.clone().into_owned(), plain };
                self.finish(Node { value, place: self.place(mark) }, *anchor, mark, report)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_ref(), mark, report);
                let place = self.place(mark);
                self.begin(Open::List { items: Vec::new(), place, anchor: *anchor }, mark)
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_ref(), mark, report);
                let (place, anchor) = (self.place(mark), *anchor);
                let (entries, keys) = (Vec::new(), HashSet::new());
                self.begin(Open::Map { entries, keys, key: Key::Wanted, place, anchor }, mark)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(mark, report),
        }
    }

    /// Tags would give values a type that the configuration doesn't have.
    fn tag(&mut self, tag: Option<&Cow<'_, Tag>>, mark: Marker, report: &mut Report) {
        if let Some(tag) = tag {
            report.mistake(self.place(mark), "", format!("tags as {tag} mean nothing here: remove it"));
        }
    }

    fn begin(&mut self, open: Open, mark: Marker) -> Result<(), Broken> {
        if self.open.len() >= MAX_DEPTH {
            return Err(broken(mark, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if matches!(self.open.last(), Some(Open::Map { key: Key::Wanted, .. })) {
            return Err(broken(
                mark,
                "a key is a text, not a list or map (is a text with `[`, `{` or `*` unquoted?)",
            ));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, mark: Marker, report: &mut Report) -> Result<(), Broken> {
        let (node, anchor) = match self.open.pop() {
            Some(Open::List { items, place, anchor }) => (Node { value: Value::List(items), place }, anchor),
            Some(Open::Map { entries, place, anchor, .. }) => {
                (Node { value: Value::Map(entries), place }, anchor)
            }
            None => return Err(broken(mark, "not YAML: an end without a beginning")),
        };
        self.finish(node, anchor, mark, report)
    }

    fn alias(&mut self, anchor: usize, mark: Marker, report: &mut Report) -> Result<(), Broken> {
        let Some((node, cost)) = self.anchors.get(&anchor).cloned() else {
            return Err(broken(mark, "an alias of a value that isn't complete yet"));
        };
        self.repeated(cost, mark)?;
        self.finish(node, 0, mark, report)
    }

    fn repeated(&mut self, cost: Cost, mark: Marker) -> Result<(), Broken> {
        self.values += cost.values;
        self.aliased_bytes += cost.bytes;
        if self.values > MAX_VALUES || self.aliased_bytes > MAX_ALIASED_BYTES {
            return Err(broken(mark, "anchors and aliases repeat more than a configuration can hold"));
        }
        Ok(())
    }

    /// Reports the key that was just read, if its map has it already.
    fn report_twice(&self, report: &mut Report) {
        let Some(Open::Map { key: Key::Twice(place, _, message), .. }) = self.open.last() else { return };
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::List { items, .. } => path += &format!("[{}]", items.len()),
                Open::Map { key: Key::Read(key, _) | Key::Twice(_, key, _), .. } if path.is_empty() => {
                    path += key
                }
                Open::Map { key: Key::Read(key, _) | Key::Twice(_, key, _), .. } => {
                    path += &format!(".{key}")
                }
                Open::Map { key: Key::Wanted, .. } => {}
            }
        }
        report.mistake(place.clone(), path, message.as_str());
    }

    /// A value is complete: it goes where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, mark: Marker, report: &mut Report) -> Result<(), Broken> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(broken(mark, format!("more than {MAX_VALUES} values")));
        }
        if anchor != 0 {
            let cost = cost(&node);
            // The anchor's own copy is one more repetition: anchors within anchors would make a copy for each level.
            self.repeated(cost, mark)?;
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, keys, key, .. }) => match std::mem::replace(key, Key::Wanted) {
                Key::Wanted => {
                    *key = new_key(node, entries, keys, mark)?;
                    self.report_twice(report);
                }
                Key::Read(key, key_place) => entries.push(Entry { key, key_place, value: node }),
                Key::Twice(..) => {}
            },
        }
        Ok(())
    }
}

fn new_key(node: Node, entries: &[Entry], keys: &mut HashSet<String>, mark: Marker) -> Result<Key, Broken> {
    let Value::Scalar { text, .. } = node.value else {
        return Err(broken(mark, "a key is a text, not a list or map"));
    };
    if keys.insert(text.clone()) {
        return Ok(Key::Read(text, node.place));
    }
    let first = entries.iter().find(|entry| entry.key == text);
    let first = first.map(|entry| format!(", first in line {}", entry.key_place.line)).unwrap_or_default();
    let message = format!("the key `{text}` stands here twice{first}");
    Ok(Key::Twice(node.place, text, message))
}

/// What a repetition of the value costs.
fn cost(node: &Node) -> Cost {
    let mut sum = Cost::default();
    let mut left = vec![node];
    while let Some(node) = left.pop() {
        sum.values += 1;
        match &node.value {
            Value::Scalar { text, .. } => sum.bytes += text.len(),
            Value::List(items) => left.extend(items),
            Value::Map(entries) => {
                sum.bytes += entries.iter().map(|entry| entry.key.len()).sum::<usize>();
                left.extend(entries.iter().map(|entry| &entry.value));
            }
        }
    }
    sum
}

fn broken(mark: Marker, message: impl Into<String>) -> Broken {
    Broken { mark, message: message.into() }
}
