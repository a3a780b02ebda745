//! Paths of objects below a storage root, made of escaped segments.

use std::fmt;

use millstream_types::text::hex;
use sha2::{Digest, Sha256};

/// Path of an object or folder below a storage root. Segments from outside are escaped, so that
/// no name leaves its folder or collides with another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(String);

/// Longest escaped segment in bytes; file systems allow 255 and temporary names add to it.
const MAX_SEGMENT: usize = 160;

impl Key {
    /// A path of these segments, each escaped.
    pub(crate) fn new(segments: &[&str]) -> Self {
        let escaped: Vec<String> = segments.iter().map(|segment| escape(segment)).collect();
        Self(escaped.join("/"))
    }

    /// The storage root itself.
    pub(crate) const fn root() -> Self {
        Self(String::new())
    }

    /// A path that a door has read from the store.
    pub(crate) const fn from_store(path: String) -> Self {
        Self(path)
    }

    /// This path and a relative one that an object names, if its segments are escaped as ours
    /// are. Nothing else leads out of a folder.
    pub(crate) fn descendant(&self, path: &str) -> Option<Self> {
        let is_ours = path.split('/').all(is_escaped);
        is_ours.then(|| {
            if self.0.is_empty() {
                Self(path.to_owned())
            } else {
                Self(format!("{}/{path}", self.0))
            }
        })
    }

    /// This path and one more segment, escaped.
    pub(crate) fn child(&self, segment: &str) -> Self {
        let segment = escape(segment);
        if self.0.is_empty() {
            Self(segment)
        } else {
            Self(format!("{}/{segment}", self.0))
        }
    }

    /// The path, `/` between its segments.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Percent-escapes everything but letters, digits, `-`, `_` and `.`, and a leading `.`. A name
/// that becomes too long is cut and ends in its hash.
pub(crate) fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for (index, byte) in segment.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if plain && !(index == 0 && byte == b'.') {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    if escaped.is_empty() {
        escaped.push('%');
    }
    if escaped.len() > MAX_SEGMENT {
        let hash = hex(&Sha256::digest(segment.as_bytes()));
        escaped.truncate(MAX_SEGMENT - hash.len() - 2);
        // `%-` occurs in no escaped name, so a cut name never equals an uncut one.
        escaped.push_str("%-");
        escaped.push_str(&hash);
    }
    escaped
}

/// Whether a segment may come from [`escape`]: it leads nowhere else.
fn is_escaped(segment: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'%');
    let length = 1..=MAX_SEGMENT;
    length.contains(&segment.len()) && !segment.starts_with('.') && segment.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_would_leave_the_folder_are_escaped() {
        assert_eq!(Key::new(&["..", "a/b", ""]).as_str(), "%2E./a%2Fb/%");
        assert_eq!(escape("."), "%2E");
        assert_eq!(escape("order-processor_1.json"), "order-processor_1.json");
        assert_eq!(escape("größe"), "gr%C3%B6%C3%9Fe");
    }

    #[test]
    fn a_path_that_an_object_names_stays_below_its_folder() {
        let folder = Key::new(&["job"]);
        for path in ["data/1/2/manifest.json", "data/1/2/a%20b/%2E.-x"] {
            let data = folder.descendant(path).unwrap();
            assert_eq!(data.as_str(), format!("job/{path}"));
            assert_eq!(Key::root().descendant(path).unwrap().as_str(), path);
        }
        for path in ["", "..", "../other", "a//b", "/etc/passwd", "a/./b", "a b"] {
            assert_eq!(folder.descendant(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_one_ordinary_path_component(name in any::<String>()) {
            let escaped = escape(&name);
            prop_assert!(escaped.len() <= MAX_SEGMENT);
            prop_assert!(is_escaped(&escaped));
            let components: Vec<Component<'_>> = Path::new(&escaped).components().collect();
            prop_assert_eq!(components, vec![Component::Normal(escaped.as_ref())]);
        }

        #[test]
        fn two_names_never_share_an_escaped_name(one in ".{0,300}", other in ".{0,300}") {
            prop_assert_eq!(one == other, escape(&one) == escape(&other));
        }
    }
}
