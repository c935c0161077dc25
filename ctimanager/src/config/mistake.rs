//! Mistakes and their places.

use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// At most so many mistakes are kept; one more says how many were left out.
const MAX_MISTAKES: usize = 1_000;
/// Suggestions compare with every known name: the first so many mistakes get one.
const MAX_SUGGESTIONS: usize = 100;

/// A place in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The file as it was named.
    pub file: Arc<str>,
    /// From 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 when it is about the file as a whole.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One mistake. `Display` is `FILE:LINE:COLUMN: PATH: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The path of the value, `devices[3].lines[0]`; empty when it is about the file.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// One mistake a line.
#[must_use]
pub fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Collects mistakes (the file is bad) and warnings (it is good, but something else has to be done first).
#[derive(Debug, Default)]
pub(super) struct Report {
    mistakes: Vec<Mistake>,
    left_out: usize,
    suggestions: usize,
    pub(super) warnings: Vec<Mistake>,
    /// Files that hold a secret in plain text, each with the first place that led there.
    pub(super) secrets: BTreeMap<PathBuf, (Place, String)>,
}

impl Report {
    pub(super) fn mistake(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) {
        if self.mistakes.len() >= MAX_MISTAKES {
            self.left_out += 1;
            return;
        }
        self.mistakes.push(Mistake { place, path: path.into(), message: message.into() });
    }

    /// A secret in plain text stands in this file.
    pub(super) fn holds_secret(&mut self, file: &Path, place: Place, path: &str) {
        if !self.secrets.contains_key(file) {
            self.secrets.insert(file.to_owned(), (place, path.to_owned()));
        }
    }

    /// ` (did you mean `X`?)` when one of the names is close to what was written, else nothing.
    pub(super) fn did_you_mean<'a>(
        &mut self,
        written: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> String {
        self.suggestions += 1;
        if self.suggestions > MAX_SUGGESTIONS || written.len() > 100 {
            return String::new();
        }
        nearest(written, names).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default()
    }

    /// How many mistakes there are so far.
    pub(super) fn count(&self) -> usize {
        self.mistakes.len() + self.left_out
    }

    /// All mistakes in the order of the files.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort();
        if let (Some(last), more @ 1..) = (self.mistakes.last(), self.left_out) {
            let message = format!("and {more} more mistakes");
            self.mistakes.push(Mistake { place: last.place.clone(), path: String::new(), message });
        }
        self.mistakes
    }
}

/// A word of a command line as a shell reads it back: what is printed to be typed may hold spaces and quotes.
pub(crate) fn shell_word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let within = (written.chars().count() / 3).max(1);
    let folded = written.to_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(&folded, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= within)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::shell_word;
    use std::process::Command;

    #[test]
    fn a_shell_reads_back_what_is_printed_for_it() {
        for word in ["pki", "/a b/pki", "it's \"quoted\" $HOME `x` \\", "ü;#", "", "./config/hq.yaml"] {
            let printed = shell_word(word);
            let output =
                Command::new("sh").args(["-c", &format!("printf %s {printed}")]).output().expect("a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{printed}");
        }
        assert_eq!(shell_word("./config/hq.yaml"), "./config/hq.yaml", "as people write it");
    }
}
