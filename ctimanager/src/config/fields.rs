//! The typed walk over a YAML tree: each step takes what it expects or reports what is wrong and goes on.

use super::Place;
use super::mistake::{Mistake, Report};
use super::units;
use super::yaml::{Entry, Node, Value};
use sip::message::text::misleads;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
}

/// A map whose keys are known.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    entries: &'a [Entry],
    path: String,
    place: Place,
}

impl<'a> At<'a> {
    pub(super) fn place(&self) -> Place {
        self.node.place.clone()
    }

    pub(super) fn wrong(&self, report: &mut Report, message: impl Into<String>) {
        report.mistake(self.place(), self.path.as_str(), message);
    }

    /// The file is good, but this is to be told.
    pub(super) fn warn(&self, report: &mut Report, message: impl Into<String>) {
        let (place, path) = (self.place(), self.path.clone());
        report.warnings.push(Mistake { place, path, message: message.into() });
    }

    pub(super) fn is_nothing(&self) -> bool {
        is_null(self.node)
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// A text. What YAML takes for a number or a truth has to be quoted: `2001` and `0049` are numbers to it.
    pub(super) fn text(&self, report: &mut Report) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain: false } => Some(text),
            Value::Scalar { text, plain: true } => match kind_of_plain(text) {
                Plain::Text => Some(text),
                Plain::Null => {
                    self.wrong(report, "a text is needed here, but there is nothing");
                    None
                }
                Plain::Boolean | Plain::Number => {
                    self.wrong(report, format!("a text is needed here: write \"{text}\", in quotes"));
                    None
                }
            },
            Value::List(_) | Value::Map(_) => self.expected("a text", report),
        }
    }

    /// A text that must not be shown: what is wrong is said without it.
    pub(super) fn secret_text(&self, report: &mut Report) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain } if !plain || kind_of_plain(text) == Plain::Text => Some(text),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => {
                self.wrong(report, "a text in quotes is needed here");
                None
            }
        }
    }

    /// A text of 1 to `most` characters without control characters.
    pub(super) fn name(&self, most: usize, report: &mut Report) -> Option<&'a str> {
        let text = self.text(report)?;
        let length = text.chars().count();
        if length == 0 || length > most {
            self.wrong(report, format!("must have 1 to {most} characters"));
            return None;
        }
        if text.chars().any(misleads) || text.trim() != text {
            self.wrong(
                report,
                "must not begin or end with a space or hold control characters, or those that turn or hide text",
            );
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&self, report: &mut Report) -> Option<bool> {
        match &self.node.value {
            Value::Scalar { text, plain: true } if kind_of_plain(text) == Plain::Boolean => {
                Some(text.eq_ignore_ascii_case("true"))
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => {
                self.expected("`true` or `false`", report)
            }
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
        let number = match &self.node.value {
            Value::Scalar { text, plain: true } if kind_of_plain(text) == Plain::Number => text.parse().ok(),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            Some(number) => {
                let message = format!("{number} is out of range: {} to {}", range.start(), range.end());
                self.wrong(report, message);
                None
            }
            None => {
                self.expected(&format!("a whole number from {} to {}", range.start(), range.end()), report)
            }
        }
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>, report: &mut Report) -> Option<Duration> {
        let (least, most) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
        let written = self.scalar();
        match written.and_then(units::duration) {
            Some(duration) if range.contains(&duration) => Some(duration),
            Some(_) => {
                let message = format!("{} is out of range: {least} to {most}", written.unwrap_or_default());
                self.wrong(report, message);
                None
            }
            None => self.expected("a duration as `4s`, `250ms` or `5m`", report),
        }
    }

    pub(super) fn size(&self, range: RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
        let written = self.scalar();
        match written.and_then(units::size) {
            Some(bytes) if range.contains(&bytes) => Some(bytes),
            Some(_) => {
                let (least, most) = (units::show_size(*range.start()), units::show_size(*range.end()));
                let message = format!("{} is out of range: {least} to {most}", written.unwrap_or_default());
                self.wrong(report, message);
                None
            }
            None => self.expected("a size as `64KiB`, `16MiB` or `1GiB`", report),
        }
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)], report: &mut Report) -> Option<T> {
        let written = self.scalar();
        if let Some((_, value)) = choices.iter().find(|(word, _)| Some(*word) == written) {
            return Some(*value);
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let hint = written.map(|written| report.did_you_mean(written, choices.iter().map(|(word, _)| *word)));
        self.wrong_kind(&words.join(" or "), &hint.unwrap_or_default(), report);
        None
    }

    /// The items of a list; none when it is no list.
    pub(super) fn items(&self, report: &mut Report) -> Vec<At<'a>> {
        if !matches!(self.node.value, Value::List(_)) {
            let _: Option<()> = self.expected("a list", report);
        }
        self.listed()
    }

    /// A map with these keys; each other key is a mistake.
    pub(super) fn fields(&self, keys: &[&str], report: &mut Report) -> Option<Fields<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.no_map(report);
            return None;
        };
        let fields = Fields { entries, path: self.path.clone(), place: self.place() };
        for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
            let hint = report.did_you_mean(&entry.key, keys.iter().copied());
            let path = fields.path_of(&entry.key);
            report.mistake(entry.key_place.clone(), path, format!("unknown key `{}`{hint}", entry.key));
        }
        Some(fields)
    }

    /// The value of a key of a map, whatever it is, for those who check the whole later.
    pub(super) fn entry(&self, key: &str) -> Option<At<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(At { node: &entry.value, path })
    }

    /// The items of a list; none when it is no list, without a word.
    pub(super) fn listed(&self) -> Vec<At<'a>> {
        let Value::List(items) = &self.node.value else { return Vec::new() };
        let item = |(index, node)| At { node, path: format!("{}[{index}]", self.path) };
        items.iter().enumerate().map(item).collect()
    }

    /// The text of a scalar, quoted or not.
    pub(super) fn scalar(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    fn expected<T>(&self, what: &str, report: &mut Report) -> Option<T> {
        self.wrong_kind(what, "", report);
        None
    }

    /// What stands there instead is not repeated: it may be a password.
    fn no_map(&self, report: &mut Report) {
        let found = match &self.node.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Scalar { text, plain: true } if kind_of_plain(text) == Plain::Null => "nothing",
            Value::Scalar { .. } => "a single value",
        };
        self.wrong(report, format!("a map of keys and values is needed here, not {found}"));
    }

    fn wrong_kind(&self, what: &str, hint: &str, report: &mut Report) {
        let found = match &self.node.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Scalar { text, plain: true } if kind_of_plain(text) == Plain::Null => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("`{}`", text.chars().take(40).collect::<String>()),
        };
        self.wrong(report, format!("{what} is needed here, not {found}{hint}"));
    }
}

impl<'a> Fields<'a> {
    /// The value of a key; `None` when it is left out or nothing (`~`).
    pub(super) fn get(&self, key: &str) -> Option<At<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let at = At { node: &entry.value, path: self.path_of(key) };
        (!is_null(at.node)).then_some(at)
    }

    /// The value of a key that must be there.
    pub(super) fn require(&self, key: &str, report: &mut Report) -> Option<At<'a>> {
        let found = self.get(key);
        if found.is_none() {
            // At the top there is no path but the key's own.
            let path = if self.path.is_empty() { key } else { self.path.as_str() };
            report.mistake(self.place.clone(), path, format!("the key `{key}` is missing"));
        }
        found
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Text,
    Null,
    Boolean,
    Number,
}

/// What an unquoted scalar is in YAML 1.2's core schema (§10.3.2).
fn kind_of_plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Plain::Boolean,
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let based = |prefix: &str, radix| {
        text.strip_prefix(prefix).is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(radix)))
    };
    let float = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.parse::<f64>().is_ok();
    let special = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    if float || special || based("0x", 16) || based("0o", 8) { Plain::Number } else { Plain::Text }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if kind_of_plain(text) == Plain::Null)
}
