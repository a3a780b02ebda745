//! Comparison with committed files. `UPDATE_EXPECT=1` writes them anew.

use std::path::PathBuf;

/// Compares with `tests/expected/<name>`.
pub(crate) fn expect(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/expected")
        .join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} is not current: UPDATE_EXPECT=1 writes it",
        path.display()
    );
}
