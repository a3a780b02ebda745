//! Login on a fresh connection: `SaslHandshake`, then `SaslAuthenticate` until the mechanism is done.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use millstream_spec::connector::kafka::{Sasl, SaslMechanism};
use tokio_rustls::rustls;

use super::connection::Connection;
use super::error::{ClientError, code, describe_code};
use super::scram::{ClientFirst, ScramHash};
use crate::kafka::access::{mechanism_name, read_password};

/// Random bytes in a SCRAM nonce.
const NONCE_BYTES: usize = 24;

/// Logs in.
///
/// # Errors
/// The broker refuses, or the connection breaks.
pub(super) async fn login(connection: &mut Connection, sasl: &Sasl) -> Result<(), ClientError> {
    let password = read_password(sasl).map_err(|failure| refused(connection, failure.message))?;
    handshake(connection, sasl.mechanism).await?;
    let hash = match sasl.mechanism {
        SaslMechanism::Plain => {
            let message = format!("\0{}\0{password}", sasl.username);
            authenticate(connection, message).await?;
            return Ok(());
        }
        SaslMechanism::ScramSha256 => ScramHash::Sha256,
        SaslMechanism::ScramSha512 => ScramHash::Sha512,
    };
    let nonce = nonce().map_err(|reason| refused(connection, reason))?;
    let first = ClientFirst::new(hash, &sasl.username, &password, &nonce);
    let challenge = authenticate(connection, first.message()).await?;
    let last = first
        .challenged(&challenge)
        .map_err(|error| refused(connection, error.to_string()))?;
    let verdict = authenticate(connection, last.message().to_owned()).await?;
    last.verified(&verdict)
        .map_err(|error| refused(connection, error.to_string()))
}

async fn handshake(
    connection: &mut Connection,
    mechanism: SaslMechanism,
) -> Result<(), ClientError> {
    let name = mechanism_name(mechanism);
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(name));
    let response = connection.call(&request, 1..=1).await?;
    if response.error_code == code::NONE {
        return Ok(());
    }
    let offered: Vec<&str> = response.mechanisms.iter().map(|name| &**name).collect();
    let reason = format!(
        "it does not offer {name} but {} ({})",
        if offered.is_empty() {
            "nothing".to_owned()
        } else {
            offered.join(", ")
        },
        describe_code(response.error_code),
    );
    Err(refused(connection, reason))
}

async fn authenticate(connection: &mut Connection, message: String) -> Result<String, ClientError> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
    let response = connection.call(&request, 0..=2).await?;
    if response.error_code != code::NONE {
        let reason = response.error_message.map_or_else(
            || describe_code(response.error_code),
            |message| message.to_string(),
        );
        return Err(refused(connection, reason));
    }
    String::from_utf8(response.auth_bytes.to_vec())
        .map_err(|_| refused(connection, "its SASL message is not text".to_owned()))
}

fn nonce() -> Result<String, String> {
    let mut bytes = [0_u8; NONCE_BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| "the operating system gives no random bytes".to_owned())?;
    Ok(BASE64.encode(bytes))
}

fn refused(connection: &Connection, reason: String) -> ClientError {
    ClientError::Authentication {
        broker: connection.broker().to_owned(),
        reason,
    }
}
