//! What the scripts in `tools/` install.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The top directory of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the project")
}

/// Where everything that is fetched or built once lies.
pub fn cache() -> PathBuf {
    std::env::var_os("MILLSTREAM_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME or MILLSTREAM_CACHE is set");
            Path::new(&home).join(".cache/millstream")
        },
        PathBuf::from,
    )
}

/// A program of ours that Cargo built beside this test.
pub fn built(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("<profile>/deps/<test>");
    profile.join(program)
}

/// Runs `tools/<script>`, which does nothing where its work is done already. Returns what it prints:
/// where things lie.
#[track_caller]
pub fn install(script: &str, arguments: &[&str]) -> String {
    let path = root().join("tools").join(script);
    let output = Command::new(&path)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", path.display()));
    assert!(
        output.status.success(),
        "{} {arguments:?} failed:\n{}",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("scripts print UTF-8")
}
