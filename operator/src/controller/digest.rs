//! Hashes of texts, for names and for telling whether something has changed.

use sha2::{Digest as _, Sha256};

/// Digits of a byte.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The first `bytes` bytes of the SHA-256 of a text, at most 32, in hexadecimal digits.
pub fn of(text: &str, bytes: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let nibbles = digest
        .iter()
        .take(bytes)
        .flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .filter_map(|nibble| DIGITS.get(usize::from(nibble)))
        .map(|digit| char::from(*digit))
        .collect()
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
