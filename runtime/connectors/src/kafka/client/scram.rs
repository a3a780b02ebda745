//! SCRAM: login by a salted challenge and response, the client's side.
//!
//! Pure: the caller moves the messages and brings the nonce.
//!
//! Source: RFC 5802 (SCRAM), RFC 7677 (SCRAM-SHA-256). Kafka has no channel binding (`n,,`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Fewest iterations that a server may ask for. Source: KIP-84.
const ITERATIONS_MIN: u32 = 4_096;
/// Most iterations that we compute: a hostile server could keep us busy for hours.
const ITERATIONS_MAX: u32 = 1_000_000;

/// Which hash the exchange uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScramHash {
    Sha256,
    Sha512,
}

/// Why the exchange ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScramError {
    #[error("the server's SCRAM message cannot be read: {0}")]
    Malformed(&'static str),
    #[error(
        "the server asks for {0} SCRAM iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are allowed"
    )]
    Iterations(u32),
    #[error("the server says: {0}")]
    Refused(String),
    #[error("the server does not know the password: it is not the server it claims to be")]
    WrongServer,
}

/// The exchange after the first message was made.
pub(super) struct ClientFirst {
    hash: ScramHash,
    password: String,
    nonce: String,
    bare: String,
}

/// The exchange after the second message was made.
#[derive(Debug)]
pub(super) struct ClientFinal {
    message: String,
    server_signature: Vec<u8>,
}

impl ClientFirst {
    /// Begins an exchange. `nonce` is random, printable ASCII without a comma.
    pub(super) fn new(hash: ScramHash, username: &str, password: &str, nonce: &str) -> Self {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            password: password.to_owned(),
            nonce: nonce.to_owned(),
            bare: format!("n={username},r={nonce}"),
        }
    }

    /// What to send first.
    pub(super) fn message(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// Reads the server's challenge.
    ///
    /// # Errors
    /// It cannot be read, is not for our nonce, or asks for too little or too much work.
    pub(super) fn challenged(&self, server_first: &str) -> Result<ClientFinal, ScramError> {
        if let Some(reason) = server_first.strip_prefix("e=") {
            return Err(ScramError::Refused(reason.to_owned()));
        }
        let mut parts = server_first.split(',');
        let mut part = |name: &str, missing| {
            parts
                .next()
                .and_then(|part| part.strip_prefix(name))
                .ok_or(ScramError::Malformed(missing))
        };
        let nonce = part("r=", "no nonce")?;
        let salt = part("s=", "no salt")?;
        let iterations = part("i=", "no iteration count")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed("the nonce is not ours"));
        }
        let salt = BASE64
            .decode(salt)
            .map_err(|_| ScramError::Malformed("the salt is not base64"))?;
        let iterations: u32 = iterations
            .parse()
            .map_err(|_| ScramError::Malformed("the iteration count is not a number"))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.bare);
        let (proof, server_signature) = match self.hash {
            ScramHash::Sha256 => sha256(&self.password, &salt, iterations, &signed),
            ScramHash::Sha512 => sha512(&self.password, &salt, iterations, &signed),
        };
        Ok(ClientFinal {
            message: format!("{without_proof},p={}", BASE64.encode(proof)),
            server_signature,
        })
    }
}

impl ClientFinal {
    /// What to send second.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Reads the server's verdict and checks that it knows the password, too.
    ///
    /// # Errors
    /// It refuses, or its signature is wrong.
    pub(super) fn verified(&self, server_final: &str) -> Result<(), ScramError> {
        if let Some(reason) = server_final.strip_prefix("e=") {
            return Err(ScramError::Refused(reason.to_owned()));
        }
        let signature = server_final
            .strip_prefix("v=")
            .and_then(|rest| rest.split(',').next())
            .ok_or(ScramError::Malformed("no signature"))?;
        let signature = BASE64
            .decode(signature)
            .map_err(|_| ScramError::Malformed("the signature is not base64"))?;
        if signature == self.server_signature {
            Ok(())
        } else {
            Err(ScramError::WrongServer)
        }
    }
}

/// The client's proof and the server's signature for one hash. Source: RFC 5802 section 3.
macro_rules! keys {
    ($name:ident, $hash:ty, $bytes:literal) => {
        fn $name(password: &str, salt: &[u8], iterations: u32, signed: &str) -> (Vec<u8>, Vec<u8>) {
            fn keyed(key: &[u8], message: &[u8]) -> Vec<u8> {
                // A key of any length is accepted; only an empty MAC type could refuse one.
                let Ok(mut mac) = Hmac::<$hash>::new_from_slice(key) else {
                    return Vec::new();
                };
                mac.update(message);
                mac.finalize().into_bytes().to_vec()
            }
            let mut salted = [0_u8; $bytes];
            pbkdf2::pbkdf2_hmac::<$hash>(password.as_bytes(), salt, iterations, &mut salted);
            let client_key = keyed(&salted, b"Client Key");
            let stored_key = <$hash>::digest(&client_key);
            let client_signature = keyed(&stored_key, signed.as_bytes());
            let proof = client_key
                .iter()
                .zip(&client_signature)
                .map(|(key, signature)| key ^ signature)
                .collect();
            let server_key = keyed(&salted, b"Server Key");
            (proof, keyed(&server_key, signed.as_bytes()))
        }
    };
}

keys!(sha256, Sha256, 32);
keys!(sha512, Sha512, 64);

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn exchange() -> ClientFirst {
        ClientFirst::new(ScramHash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    }

    /// Source: the example of RFC 7677 section 3.
    #[test]
    fn the_example_of_the_rfc_is_reproduced() {
        let first = exchange();
        assert_eq!(first.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = first.challenged(SERVER_FIRST).unwrap();
        assert_eq!(
            last.message(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        last.verified("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .unwrap();
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_refused() {
        let last = exchange().challenged(SERVER_FIRST).unwrap();
        let error = last
            .verified("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .unwrap_err();
        assert_eq!(error, ScramError::WrongServer);
    }

    #[test]
    fn bad_challenges_are_refused() {
        for challenge in [
            "",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=somebody-elses,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=***,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=many",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4000000000",
            "e=unknown-user",
        ] {
            assert!(exchange().challenged(challenge).is_err(), "{challenge}");
        }
    }

    #[test]
    fn commas_and_equals_signs_in_a_name_are_escaped() {
        let first = ClientFirst::new(ScramHash::Sha512, "a,b=c", "x", "n");
        assert_eq!(first.message(), "n,,n=a=2Cb=3Dc,r=n");
    }
}
