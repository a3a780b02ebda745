//! How every object is wrapped: one line of JSON, `{"version":1,"sha256":"…","body":…}`.
//!
//! The hash is over the bytes of the body as they stand. Reading accepts exactly what writing
//! makes, byte for byte, so that no flipped bit goes unseen, and checks version, length and hash
//! before it parses anything.

use bytes::Bytes;
use millstream_types::text::hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Version of the envelope and of everything in it. Raised when an older build could not read
/// what a newer one writes.
pub(crate) const VERSION: u32 = 1;
/// Largest object that is read as a whole, in bytes.
pub(crate) const MAX_OBJECT_BYTES: usize = 256 * 1024 * 1024;

const BEFORE_VERSION: &str = "{\"version\":";
const BEFORE_HASH: &str = ",\"sha256\":\"";
const BEFORE_BODY: &str = "\",\"body\":";
const AFTER_BODY: &str = "}\n";
const HASH_DIGITS: usize = 64;

/// An object and the hash of its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The whole object.
    pub(crate) bytes: Bytes,
    /// SHA-256 of the body, lower-case hexadecimal.
    pub(crate) sha256: String,
}

/// Wraps a body.
pub(crate) fn seal(body: &impl Serialize) -> Result<Sealed> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Error::Rule(format!("a body cannot be written as JSON: {error}")))?;
    let sha256 = hex(&Sha256::digest(&body));
    let mut bytes = Vec::with_capacity(body.len() + 128);
    bytes.extend_from_slice(BEFORE_VERSION.as_bytes());
    bytes.extend_from_slice(VERSION.to_string().as_bytes());
    bytes.extend_from_slice(BEFORE_HASH.as_bytes());
    bytes.extend_from_slice(sha256.as_bytes());
    bytes.extend_from_slice(BEFORE_BODY.as_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(AFTER_BODY.as_bytes());
    Ok(Sealed {
        bytes: bytes.into(),
        sha256,
    })
}

/// Checks an object and reads its body; also returns the body's hash.
///
/// # Errors
/// [`Error::Corrupt`] naming `object`.
pub(crate) fn open<T: DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<(T, String)> {
    let (body, sha256) = check(bytes).map_err(|reason| Error::corrupt(object, reason))?;
    let body = serde_json::from_slice(body).map_err(|error| {
        Error::corrupt(
            object,
            format!("its checksum is right, but its content is not understood: {error}"),
        )
    })?;
    Ok((body, sha256))
}

fn check(bytes: &[u8]) -> std::result::Result<(&[u8], String), String> {
    let not_ours = || "it does not begin like an object of Millstream".to_owned();
    let rest = bytes
        .strip_prefix(BEFORE_VERSION.as_bytes())
        .ok_or_else(not_ours)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (version, rest) = rest.split_at(digits);
    if version != VERSION.to_string().as_bytes() {
        return Err(format!(
            "its format has version {}, this build reads version {VERSION}",
            String::from_utf8_lossy(version)
        ));
    }
    let rest = rest
        .strip_prefix(BEFORE_HASH.as_bytes())
        .ok_or_else(not_ours)?;
    let (expected, rest) = rest.split_at_checked(HASH_DIGITS).ok_or_else(cut)?;
    let rest = rest
        .strip_prefix(BEFORE_BODY.as_bytes())
        .ok_or_else(not_ours)?;
    let body = rest.strip_suffix(AFTER_BODY.as_bytes()).ok_or_else(cut)?;
    let found = hex(&Sha256::digest(body));
    if found.as_bytes() != expected {
        return Err(format!(
            "its checksum is {found}, but {} was written",
            String::from_utf8_lossy(expected)
        ));
    }
    Ok((body, found))
}

fn cut() -> String {
    "it is cut off".to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sample() -> BTreeMap<String, Vec<u64>> {
        BTreeMap::from([("positions".to_owned(), vec![1, 2, 3])])
    }

    #[test]
    fn what_is_sealed_is_read_back_and_is_json() {
        let sealed = seal(&sample()).unwrap();
        let (body, sha256) = open::<BTreeMap<String, Vec<u64>>>("x", &sealed.bytes).unwrap();
        assert_eq!((body, sha256), (sample(), sealed.sha256.clone()));
        let json: serde_json::Value = serde_json::from_slice(&sealed.bytes).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["body"]["positions"][1], 2);
    }

    #[test]
    fn an_object_cut_at_any_length_is_corrupt() {
        let sealed = seal(&sample()).unwrap();
        for length in 0..sealed.bytes.len() {
            let error = open::<serde_json::Value>("s3://b/x", &sealed.bytes[..length]).unwrap_err();
            assert!(matches!(&error, Error::Corrupt { object, .. } if object == "s3://b/x"));
        }
    }

    #[test]
    fn every_changed_bit_makes_an_object_corrupt() {
        let sealed = seal(&sample()).unwrap();
        for index in 0..sealed.bytes.len() {
            for bit in 0..8 {
                let mut bytes = sealed.bytes.to_vec();
                bytes[index] ^= 1 << bit;
                let result = open::<serde_json::Value>("x", &bytes);
                assert!(
                    matches!(result, Err(Error::Corrupt { .. })),
                    "byte {index}, bit {bit}"
                );
            }
        }
    }

    #[test]
    fn bytes_behind_the_end_make_an_object_corrupt() {
        let sealed = seal(&sample()).unwrap();
        let mut bytes = sealed.bytes.to_vec();
        bytes.push(b'\n');
        assert!(open::<serde_json::Value>("x", &bytes).is_err());
    }

    #[test]
    fn another_version_is_named() {
        let sealed = seal(&sample()).unwrap();
        let text = String::from_utf8(sealed.bytes.to_vec()).unwrap();
        let newer = text.replacen("\"version\":1", "\"version\":12", 1);
        let error = open::<serde_json::Value>("x", newer.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("version 12"), "{error}");
    }
}
