//! What a fuzzer begins with, and what it has come to.
//!
//! `fuzz_samples FOLDER` writes the samples of the fuzz targets, one folder for each; `targets.tsv` with the name of each, its
//! longest input and how often it is to be run; and `words.dict`, a dictionary of libFuzzer's.
//!
//! `fuzz_samples --replay TARGET FOLDER…` runs all inputs in these folders.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--replay", target, ref folders @ ..] => replay(target, folders),
        [folder] => write(Path::new(folder)),
        _ => {
            eprintln!("usage: fuzz_samples FOLDER\n       fuzz_samples --replay TARGET FOLDER…");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn write(folder: &Path) -> io::Result<()> {
    let mut facts = String::new();
    for target in tests::fuzz::TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (n, sample) in (target.samples)().iter().enumerate() {
            std::fs::write(folder.join(format!("sample-{n:03}")), sample)?;
        }
        // Writing to a String can't fail.
        let _ = writeln!(facts, "{}\t{}\t{}", target.name, target.max_len, target.executions_wanted());
    }
    std::fs::write(folder.join("targets.tsv"), facts)?;
    let mut words = String::new();
    for word in tests::fuzz::words() {
        let bytes = word.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\x{byte:02x}");
            text
        });
        let _ = writeln!(words, "\"{bytes}\"");
    }
    std::fs::write(folder.join("words.dict"), words)
}

fn replay(target: &str, folders: &[&str]) -> io::Result<()> {
    for folder in folders {
        for file in std::fs::read_dir(folder)? {
            tests::fuzz::run(target, &std::fs::read(file?.path())?);
        }
    }
    Ok(())
}
