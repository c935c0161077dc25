//! Writes the samples of the fuzz targets into a folder, one folder for each target: what a fuzzer begins with.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: fuzz_samples FOLDER");
        return ExitCode::from(2);
    };
    for target in tests::fuzz::TARGETS {
        let folder = folder.join(target.name);
        let written = std::fs::create_dir_all(&folder).and_then(|()| {
            (target.samples)()
                .iter()
                .enumerate()
                .try_for_each(|(n, sample)| std::fs::write(folder.join(format!("sample-{n:03}")), sample))
        });
        if let Err(error) = written {
            eprintln!("{}: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
