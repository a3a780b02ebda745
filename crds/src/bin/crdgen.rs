//! Writes the custom resource definitions into a directory: `crdgen DIRECTORY`.

use std::path::PathBuf;
use std::process::ExitCode;

use millstream_crds::definitions;

fn write(directory: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    for (name, definition) in definitions::all() {
        std::fs::write(directory.join(name), definitions::yaml(&definition)?)?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a command reports to its terminal")]
fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: crdgen DIRECTORY");
        return ExitCode::from(2);
    };
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: cannot write to {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}
