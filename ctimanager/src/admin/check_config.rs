//! `ctimanager check-config`: every mistake of a configuration, before anything depends on it.

use super::{Format, Outcome};
use crate::config::{self, Mistake};
use serde_json::json;
use std::path::Path;

/// Checks a file or folder. Exit code 0 when it is good, with or without warnings, else 1.
#[must_use]
pub fn check_config(path: &Path, format: Format) -> Outcome {
    let (mistakes, warnings) = match config::load(path) {
        Ok(loaded) => (Vec::new(), loaded.warnings),
        Err(mistakes) => (mistakes, Vec::new()),
    };
    let code = u8::from(!mistakes.is_empty());
    match format {
        Format::Json => {
            let result = json!({"ok": mistakes.is_empty(), "mistakes": mistakes, "warnings": warnings});
            Outcome { code, ..Outcome::good(result) }
        }
        Format::Table => Outcome {
            output: lines(&mistakes, "") + &lines(&warnings, "warning: "),
            notes: format!("{}: {}\n", path.display(), summary(&mistakes)),
            code,
        },
    }
}

/// What is wrong, for commands that need a good configuration.
pub(super) fn bad(mistakes: &[Mistake]) -> Outcome {
    Outcome { output: String::new(), notes: lines(mistakes, ""), code: 1 }
}

fn lines(found: &[Mistake], mark: &str) -> String {
    let line = |m: &Mistake| {
        let path = if m.path.is_empty() { String::new() } else { format!("{}: ", m.path) };
        format!("{}: {path}{mark}{}\n", m.place, m.message)
    };
    found.iter().map(line).collect()
}

fn summary(mistakes: &[Mistake]) -> String {
    match mistakes.len() {
        0 => "good".to_owned(),
        1 => "1 mistake".to_owned(),
        more => format!("{more} mistakes"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, check_config};
    use std::path::Path;

    fn file(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    #[test]
    fn a_good_file_is_good_and_says_what_comes_first() {
        let outcome = check_config(&file("../config/hq.yaml"), Format::Table);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert!(
            outcome.output.contains("hq.yaml:0:0: cluster.security.pki: warning: certificates are missing")
        );
        assert!(outcome.notes.ends_with("hq.yaml: good\n"));
    }

    #[test]
    fn a_bad_file_shows_each_mistake_on_its_line_or_as_json() {
        let path = file("src/config/tests/mistakes.yaml");
        let outcome = check_config(&path, Format::Table);
        assert_eq!(outcome.code, 1);
        let first = outcome.output.lines().next().unwrap_or_default();
        assert!(first.ends_with(
            "mistakes.yaml:3:3: cluster.secruity: unknown key `secruity`: did you mean `security`?"
        ));

        let outcome = check_config(&path, Format::Json);
        assert_eq!(outcome.code, 1);
        let json: serde_json::Value = serde_json::from_str(&outcome.output).expect("JSON");
        assert_eq!(json["ok"], false);
        let first = &json["mistakes"][0];
        assert_eq!((&first["line"], &first["column"]), (&3.into(), &3.into()));
        assert_eq!(first["path"], "cluster.secruity");
        assert!(first["file"].as_str().is_some_and(|file| file.ends_with("mistakes.yaml")));
    }

    #[test]
    fn a_file_that_is_not_there_is_a_mistake() {
        let outcome = check_config(Path::new("not/there.yaml"), Format::Table);
        assert_eq!(outcome.code, 1);
        assert!(outcome.output.starts_with("not/there.yaml:0:0: can't be read"));
    }
}
