//! Hashes of texts, for names and for telling whether something has changed.

use millstream_types::text::hex;
use sha2::{Digest as _, Sha256};

/// The first `bytes` bytes of the SHA-256 of a text, at most 32, in hexadecimal digits.
pub fn of(text: &str, bytes: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hex(digest.get(..bytes).unwrap_or(digest.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_two_digits_for_each_byte() {
        assert_eq!(of("", 4), "e3b0c442");
        assert_eq!(of("", 99).len(), 64);
    }
}
