//! The door to randomness.

use std::hash::{BuildHasher, RandomState};

/// A name that nobody else makes: 128 bits from the operating system's generator, which seeds
/// every [`RandomState`].
pub(crate) fn nonce() -> String {
    #[cfg(feature = "simulation")]
    if let Some(nonce) = crate::storage::simulated::nonce() {
        return nonce;
    }
    let word = || RandomState::new().hash_one("nonce");
    format!("{:016x}{:016x}", word(), word())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nonces_differ() {
        let nonces: BTreeSet<String> = (0..10_000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 10_000);
    }
}
