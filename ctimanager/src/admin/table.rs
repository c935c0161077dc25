//! JSON answers as tables for people.

use serde_json::Value;

/// A heading, and where its value is: a JSON pointer, in which `*` stands for all elements of an array.
pub(super) type Column = (&'static str, &'static str);

/// The objects of an array, a line each, in columns that are as wide as they have to be.
pub(super) fn table(rows: &Value, columns: &[Column]) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|(_, pointer)| cell(row, pointer)).collect()).collect();
    let headings: Vec<String> = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let all = std::iter::once(&headings).chain(&cells);
            all.map(|row| row[at].chars().count()).max().unwrap_or(0)
        })
        .collect();
    let lines: Vec<String> = std::iter::once(&headings).chain(&cells).map(|row| line(row, &widths)).collect();
    lines.join("\n")
}

/// An object, a line for each of its fields.
pub(super) fn object(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return text(value) };
    let width = fields.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key:width$}  {}", text(value)).trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> =
        row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
    cells.join("  ").trim_end().to_owned()
}

fn cell(row: &Value, pointer: &str) -> String {
    let Some((array, rest)) = pointer.split_once("/*") else {
        return row.pointer(pointer).map(text).unwrap_or_default();
    };
    let elements = row.pointer(array).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let cells: Vec<String> = elements.iter().filter_map(|element| element.pointer(rest)).map(text).collect();
    cells.join(" ")
}

/// A value without JSON's quotes. Control characters, which could repaint the administrator's terminal, are escaped.
fn text(value: &Value) -> String {
    let raw = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        Value::Array(elements) => elements.iter().map(text).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    if raw.chars().any(char::is_control) { raw.escape_debug().to_string() } else { raw }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            json!([{"name": "ä", "lines": [{"dn": "1"}, {"dn": "2"}]}, {"name": "longer", "on": true}]);
        let shown = table(&rows, &[("NAME", "/name"), ("LINES", "/lines/*/dn"), ("ON", "/on")]);
        assert_eq!(shown, "NAME    LINES  ON\nä       1 2\nlonger         true");
        assert_eq!(table(&json!([]), &[("NAME", "/name")]), "NAME");
    }

    #[test]
    fn names_cannot_repaint_the_terminal() {
        let shown = object(&json!({"user": "\u{1b}[2Jroot", "calls": 3}));
        assert_eq!(shown, "calls  3\nuser   \\u{1b}[2Jroot");
    }
}
