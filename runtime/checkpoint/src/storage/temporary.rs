//! Names of files that are written before they get their own, in stores that can rename.

use crate::nonce::nonce;

const TEMPORARY: &str = ".tmp";

/// A name that nobody else makes, beside the one that it is to become.
pub(super) fn name(name: &str) -> String {
    format!(".{name}.{}{TEMPORARY}", nonce())
}

/// Whether a path is that of such a file.
pub(super) fn is_temporary(path: &str) -> bool {
    final_name(path).is_some()
}

/// What the temporary file of this path would have become.
pub(super) fn final_name(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = name.strip_prefix('.')?.strip_suffix(TEMPORARY)?;
    let (name, _nonce) = name.rsplit_once('.')?;
    Some(if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_says_what_it_is_to_become() {
        let temporary = format!("a/b/{}", name("1.json"));
        assert_eq!(final_name(&temporary).as_deref(), Some("a/b/1.json"));
        assert_eq!(final_name(&name("x")).as_deref(), Some("x"));
        for other in ["a/1.json", ".hidden", ".tmp", "a/.x.tmp", "x.y.tmp"] {
            assert!(!is_temporary(other), "{other}");
        }
    }
}
