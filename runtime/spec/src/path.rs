//! Paths into a job file, such as `spec.dataflow.sources[0].kafka.properties["linger.ms"]`.

use crate::wording::shown;

/// The path of a key below `path`.
pub(crate) fn key(path: &str, key: &str) -> String {
    if !is_plain(key) {
        format!("{path}[\"{}\"]", shown(key))
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The path of a list's item below `path`.
pub(crate) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// What is left of a path that begins with this key.
pub(crate) fn after_key<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    let rest = if is_plain(key) {
        path.strip_prefix('.').unwrap_or(path).strip_prefix(key)?
    } else {
        path.strip_prefix("[\"")?
            .strip_prefix(shown(key).as_str())?
            .strip_prefix("\"]")?
    };
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// The index that a path begins with, and what is left of it.
pub(crate) fn after_index(path: &str) -> Option<(usize, &str)> {
    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

/// Whether `path` is `parent` or something below it.
pub(crate) fn is_within(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn is_plain(key: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !key.is_empty() && key.len() <= crate::wording::SHOWN_CHARS && key.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart_as_it_was_put_together() {
        let parts = key(&item(&key(&key("", "spec"), "sources"), 12), "linger.ms");
        assert_eq!(parts, "spec.sources[12][\"linger.ms\"]");
        let rest = after_key(&parts, "spec").unwrap();
        assert_eq!(after_key(rest, "sourc"), None);
        let rest = after_key(rest, "sources").unwrap();
        let (index, rest) = after_index(rest).unwrap();
        assert_eq!(index, 12);
        assert_eq!(after_key(rest, "linger.ms"), Some(""));
    }

    #[test]
    fn a_longer_name_is_not_within_a_shorter_one() {
        assert!(is_within("spec.sources[1].name", "spec.sources[1]"));
        assert!(is_within("spec.sources[1]", "spec.sources[1]"));
        assert!(!is_within("spec.sourcesAndMore", "spec.sources"));
    }
}
