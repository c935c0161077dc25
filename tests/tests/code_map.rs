//! `docs/code-map.md` is made of what each file says of itself: `UPDATE_CODE_MAP=1 cargo nextest run -p tests code_map`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The rooms in the order in which a reader meets them, and what the page says of each.
const ROOMS: &[&str] = &[
    "device-model/src",
    "sip/src",
    "protocol/src",
    "security/src",
    "media/src",
    "cluster/src",
    "ctimanager/src",
    "client/src",
];

/// Characters that a line of the map may have.
const MAX_SENTENCE: usize = 200;

#[test]
fn the_code_map_says_what_the_files_say() {
    let mut map = String::from(
        "# Code map\n\nWhere is what: the first sentence of each file, in its own words. \
         Tests stand beside what they test and are left out.\n",
    );
    for room in ROOMS {
        let _ = write!(map, "\n## {room}\n\n| file | what |\n|---|---|\n");
        for file in files(&root().join(room)) {
            let name = file.strip_prefix(root().join(room)).expect("it lies there").display().to_string();
            let sentence = first_sentence(&file);
            assert!(!sentence.is_empty(), "{room}/{name} does not say what it is");
            assert!(sentence.len() <= MAX_SENTENCE, "{room}/{name} begins with a long sentence: {sentence}");
            let _ = writeln!(map, "| `{name}` | {} |", sentence.replace('|', "\\|"));
        }
    }
    let page = root().join("docs/code-map.md");
    if std::env::var_os("UPDATE_CODE_MAP").is_some() {
        std::fs::write(&page, &map).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(written == map, "docs/code-map.md is of yesterday: UPDATE_CODE_MAP=1 makes it anew");
}

/// What a file says at its top, up to the first full stop: without its marks of Markdown headings and links.
fn first_sentence(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("it was listed");
    let said = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph = said.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let paragraph = paragraph.trim_start_matches("# ").replace("[`", "`").replace("`]", "`");
    match paragraph.find(". ") {
        Some(end) => paragraph[..end].to_owned(),
        None => paragraph.trim_end_matches(['.', ':']).to_owned(),
    }
}

/// The Rust files below a folder in the order of their names, but for tests.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a room has a folder") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "tests" | "snapshots") {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}
